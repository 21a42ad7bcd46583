from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from fakes_core import SETS, SHARED_DATA, make_rows
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from crossroute import (
    ConstraintError,
    CrossRouter,
    DataError,
    InfeasibleError,
    NoCandidateError,
    QueryError,
    UnknownModelError,
)
from crossroute.budget.held_out import HeldOutHalves
from crossroute.training.data import RoutingData

PROMPTS = [str(row["prompt"]) for row in make_rows(200, seed=7)]
LENIENT = {"budget_usd": 1e6}


def ends(router: CrossRouter) -> tuple[float, float]:
    """What the prompts cost at least, and at the best quality."""
    found = router.predict(PROMPTS)
    best = found.quality.argmax(axis=1)
    return (
        float(found.cost_usd.min(axis=1).sum()),
        float(found.cost_usd[np.arange(len(PROMPTS)), best].sum()),
    )


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.95])
def test_it_is_within_a_hundredth_of_the_linear_program_on_its_predictions(
    toy_router: CrossRouter, share: float
) -> None:
    least, most = ends(toy_router)
    budget = least + share * (most - least)
    found = toy_router.predict(PROMPTS)
    n, m = found.quality.shape
    each = csr_matrix((np.ones(n * m), (np.repeat(np.arange(n), m), np.arange(n * m))))
    program = linprog(
        -found.quality.ravel(),
        A_ub=csr_matrix(found.cost_usd.ravel() / budget),
        b_ub=[1.0],
        A_eq=each,
        b_eq=np.ones(n),
    )
    allocation = toy_router.allocate(PROMPTS, budget_usd=budget)
    assert allocation.feasible
    assert allocation.expected.cost_usd <= budget * (1 + 1e-9)
    assert allocation.expected.quality * n >= -program.fun * 0.99


def test_decisions_are_in_order_and_add_up(toy_router: CrossRouter) -> None:
    least, most = ends(toy_router)
    allocation = toy_router.allocate(PROMPTS, budget_usd=(least + most) / 2)
    decisions = list(allocation.decisions)
    assert len(allocation) == len(decisions) == len(PROMPTS)
    assert allocation.models == [one.model for one in decisions]
    assert sum(one.cost_usd for one in decisions) == pytest.approx(allocation.expected.cost_usd)
    mean = sum(one.quality for one in decisions) / len(decisions)
    assert mean == pytest.approx(allocation.expected.quality)
    assert sum(allocation.expected.share.values()) == pytest.approx(1)
    assert allocation[-1] == decisions[-1]
    assert allocation[2:5] == decisions[2:5]
    with pytest.raises(IndexError):
        allocation[len(PROMPTS)]


def test_later_queries_are_decided_alike_by_its_prices(toy_router: CrossRouter) -> None:
    least, most = ends(toy_router)
    allocation = toy_router.allocate(
        PROMPTS, budget_usd=(least + most) / 2, max_share={"sage": 0.2}
    )
    alike = toy_router.with_reward("linear").with_surcharges(allocation.surcharge_usd)
    later = alike.route_batch(PROMPTS, allocation.willingness_to_pay)
    same = [a.model == b.model for a, b in zip(later, allocation.decisions, strict=True)]
    assert np.mean(same) > 0.95
    agreed = same.index(True)
    assert later[agreed] == allocation[agreed]


def test_a_floor_costs_no_more_than_it_must(toy_router: CrossRouter) -> None:
    least, most = ends(toy_router)
    rich = toy_router.allocate(PROMPTS, budget_usd=(least + most) / 2)
    back = toy_router.allocate(PROMPTS, min_quality=rich.expected.quality * 0.999)
    assert back.expected.quality >= rich.expected.quality * 0.999
    assert back.expected.cost_usd <= rich.expected.cost_usd * 1.001


def test_limits_on_models_are_kept_and_have_a_price(toy_router: CrossRouter) -> None:
    free = toy_router.allocate(PROMPTS, **LENIENT)
    favourite = next(iter(free.expected.share))
    held = toy_router.allocate(PROMPTS, **LENIENT, max_share={favourite: 0.1})
    assert held.expected.share.get(favourite, 0) <= 0.1
    assert held.surcharge_usd[favourite] > 0
    assert f"a place at {favourite} is worth $" in str(held)
    few = toy_router.allocate(PROMPTS, **LENIENT, max_concurrent={favourite: 7})
    assert few.models.count(favourite) <= 7
    none = toy_router.allocate(
        PROMPTS, **LENIENT, max_share={favourite: 0.5}, max_concurrent={favourite: 0}
    )
    assert favourite not in none.models


def test_what_cannot_be_had_says_so_and_what_can(toy_router: CrossRouter) -> None:
    poor = toy_router.allocate(PROMPTS, budget_usd=1e-9)
    assert not poor.feasible
    for use in (lambda: poor.decisions, lambda: poor.models, lambda: poor[0], lambda: [*poor]):
        with pytest.raises(InfeasibleError, match=r"does not pay for 200 queries.*Raise budget"):
            use()
    assert "does not pay" in str(poor)
    assert poor.nearest is not None
    assert poor.nearest.feasible
    least, _ = ends(toy_router)
    assert poor.nearest.expected.cost_usd == pytest.approx(least)
    assert len(poor.nearest.decisions) == len(PROMPTS)
    assert poor.nearest.asked.budget_usd == pytest.approx(least)
    proud = toy_router.allocate(PROMPTS, min_quality=1.0)
    assert not proud.feasible
    with pytest.raises(InfeasibleError, match="Lower min_quality"):
        proud.decisions  # noqa: B018  # It is the property that raises.


def test_an_allocation_can_be_compared_and_travels(toy_router: CrossRouter) -> None:
    allocation = toy_router.allocate(PROMPTS[:9], **LENIENT)
    assert allocation != toy_router.allocate(PROMPTS[:9], **LENIENT)
    assert len({allocation, allocation}) == 1
    assert [*pickle.loads(pickle.dumps(allocation))] == [*allocation]


def test_limits_are_said_as_they_were_given(toy_router: CrossRouter) -> None:
    poor = toy_router.allocate(PROMPTS, budget_usd=5e-324, max_concurrent={"sage": np.int64(3)})
    assert "A budget of $4.9e-324 does not pay" in poor.infeasible
    assert "predicted to cost within the limits on models" in poor.infeasible
    few = toy_router.allocate(PROMPTS, **LENIENT, max_share={"sage": 0.005, "poet": 0.07})
    assert "sage at most 0.5%, poet at most 7%" in str(few)


def test_constraints_hold_for_all_or_for_each(toy_router: CrossRouter) -> None:
    allocation = toy_router.allocate(PROMPTS[:4], **LENIENT, constraints={"excluded": ["sage"]})
    assert "sage" not in allocation.models
    assert "sage" in allocation[0].removed
    each: list[Any] = [{"model": "poet"}, None, {"model": "clerk"}, None]
    allocation = toy_router.allocate(PROMPTS[:4], **LENIENT, constraints=each)
    assert (allocation.models[0], allocation.models[2]) == ("poet", "clerk")
    with pytest.raises(ConstraintError, match="2 constraints for 4 queries"):
        toy_router.allocate(PROMPTS[:4], **LENIENT, constraints=[None, None])
    with pytest.raises(NoCandidateError, match="Query 1"):
        toy_router.allocate(PROMPTS[:2], **LENIENT, constraints=[None, {"allowed": []}])


def test_a_query_that_few_may_serve_is_among_them(router: CrossRouter) -> None:
    image = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is on this picture?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        }
    ]
    able = {m for m, one in router.pool.items() if "image_input" in one.capabilities}
    assert 0 < len(able) < len(router.pool)
    allocation = router.allocate([*PROMPTS[:20], image], **LENIENT)
    assert allocation.models[-1] in able


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({}, ConstraintError, "Give one of budget_usd"),
        ({"budget_usd": 1, "min_quality": 0.5}, ConstraintError, "Give one of budget_usd"),
        ({"budget_usd": -1}, ConstraintError, "budget_usd is -1; give a number of USD"),
        ({"budget_usd": math.nan}, ConstraintError, "budget_usd is nan"),
        ({"budget_usd": "40"}, ConstraintError, "budget_usd is '40'"),
        ({"budget_usd": True}, ConstraintError, "budget_usd is True"),
        ({"min_quality": 1.5}, ConstraintError, "min_quality is 1.5; give a mean quality in 0..1"),
        ({**LENIENT, "max_share": {"sage": -0.1}}, ConstraintError, "max_share of sage is -0.1"),
        ({**LENIENT, "max_share": {"sage": 1.1}}, ConstraintError, "give a share in 0..1"),
        ({**LENIENT, "max_share": 0.5}, ConstraintError, "give a mapping of model ids"),
        ({**LENIENT, "max_share": {"sag": 0.1}}, UnknownModelError, "did you mean 'sage'"),
        ({**LENIENT, "max_concurrent": {"sage": 1.5}}, ConstraintError, "a whole number"),
        ({**LENIENT, "max_concurrent": {"sage": -1}}, ConstraintError, "max_concurrent of sage"),
        (
            {**LENIENT, "max_share": {"sage": 0.1, "poet": 0.1, "clerk": 0.1}},
            ConstraintError,
            "leave no model for some of the 200 queries",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    toy_router: CrossRouter, wrong: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        toy_router.allocate(PROMPTS, **wrong)


def test_there_must_be_queries(toy_router: CrossRouter) -> None:
    with pytest.raises(QueryError, match="one query at least"):
        toy_router.allocate([], **LENIENT)
    with pytest.raises(QueryError, match="a list of queries"):
        toy_router.allocate("a prompt", **LENIENT)


def held_out(count: int = 400) -> RoutingData:
    from crossroute.training.data import Row

    return RoutingData.from_rows([Row.model_validate(row) for row in make_rows(count, seed=11)])


def test_asked_and_realised_stand_side_by_side(toy_router: CrossRouter) -> None:
    allocation = toy_router.allocate(PROMPTS, min_quality=0.8, held_out=held_out())
    checked = allocation.checked
    assert checked is not None
    assert checked.asked_quality == 0.8
    assert checked.rows > 100
    assert checked.quality.low < checked.quality.mean < checked.quality.high
    assert checked.quality.mean == pytest.approx(checked.predicted_quality, abs=0.1)
    assert checked.cost_usd.mean == pytest.approx(checked.predicted_cost_usd, rel=0.25)
    assert f"realised on {checked.rows} held-out rows, decided alike" in str(allocation)
    assert "realised: not checked" in str(toy_router.allocate(PROMPTS, min_quality=0.8))


def test_a_floor_that_predictions_cannot_carry_is_said_to_fail(toy_router: CrossRouter) -> None:
    data = held_out()
    # Answers are right or wrong by chance here, whatever the router has learned.
    chance = np.random.default_rng(0).random(data.score.shape)
    worse = RoutingData(**{**vars(data), "score": (chance < 0.55).astype(float)})
    trusting = toy_router.allocate(PROMPTS, min_quality=0.85)
    assert trusting.feasible
    corrected = toy_router.allocate(PROMPTS, min_quality=0.85, held_out=worse)
    if corrected.feasible:
        assert corrected.checked is not None
        assert corrected.checked.floor_holds is False
        assert "the predictions cannot carry it" in str(corrected)
    else:
        assert corrected.nearest is not None
        assert corrected.nearest.expected.quality < 0.85


def test_a_correction_brings_predictions_to_what_was_realised(toy_router: CrossRouter) -> None:
    data = held_out()
    dear = RoutingData(**{**vars(data), "cost_usd": data.cost_usd * 2})
    plain = toy_router.allocate(PROMPTS, min_quality=0.8)
    corrected = toy_router.allocate(PROMPTS, min_quality=0.8, held_out=dear)
    assert corrected.expected.cost_usd > plain.expected.cost_usd * 1.5
    assert corrected.checked is not None
    assert corrected.checked.cost_usd.mean == pytest.approx(
        corrected.checked.predicted_cost_usd, rel=0.25
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"constraints": {"excluded": ["sage"]}},
        {"constraints": [{"excluded": ["sage"]}, {"allowed": ["poet", "clerk"]}] * 100},
        {"max_share": {"sage": 0.0}},
    ],
)
def test_held_out_rows_are_decided_between_the_same_models(
    toy_router: CrossRouter, settings: dict[str, Any]
) -> None:
    data = held_out()
    # Who may ask it is always answered right, for nothing, all others hardly ever.
    is_sage = np.array(data.models) == "sage"
    score = np.tile(np.where(is_sage, 1.0, 0.3), (len(data), 1))
    cost = np.where(is_sage, 0.0, data.cost_usd)
    rows = RoutingData(**{**vars(data), "score": score, "cost_usd": cost})
    allocation = toy_router.allocate(PROMPTS, **LENIENT, held_out=rows, **settings)
    assert allocation.checked is not None
    assert allocation.checked.quality.mean == pytest.approx(0.3)


def test_too_few_or_foreign_scores_are_refused(toy_router: CrossRouter) -> None:
    with pytest.raises(DataError, match="40 at least"):
        toy_router.allocate(PROMPTS, min_quality=0.8, held_out=held_out(20))
    data = held_out()
    foreign = RoutingData(**{**vars(data), "models": ("a", "b", "sage")})
    with pytest.raises(DataError, match="answers of 1 models of the pool"):
        toy_router.allocate(PROMPTS, min_quality=0.8, held_out=foreign)


def test_the_name_of_a_file_is_no_scores(toy_router: CrossRouter) -> None:
    found: Any = "scored.jsonl"
    said = r"held_out is 'scored\.jsonl'; give RoutingData\.load"
    with pytest.raises(DataError, match=said):
        toy_router.allocate(PROMPTS, min_quality=0.8, held_out=found)
    with pytest.raises(DataError, match=said):
        toy_router.at_quality(PROMPTS, 0.8, held_out=found)


@pytest.mark.parametrize("name", SETS)
def test_the_realised_cost_is_near_the_budget(name: str) -> None:
    file = SHARED_DATA / f"{name}.jsonl.gz"
    if not file.exists():
        pytest.skip("the data sets of ../shared/data are not here")
    data = RoutingData.load([file]).of_split("valid").complete()
    router = CrossRouter.shipped()
    served = [model for model in data.models if router.pool[model].retired is None]
    router, column = router.subset(served), {model: j for j, model in enumerate(data.models)}
    poor, rich = (
        router.allocate(data.prompts, **goal).expected.cost_usd
        for goal in ({"min_quality": 0.0}, LENIENT)
    )
    for share in (0.1, 0.5, 0.9):
        budget = poor ** (1 - share) * rich**share
        allocation = router.allocate(data.prompts, budget_usd=budget)
        chosen = [column[model] for model in allocation.models]
        paid = data.cost_usd[np.arange(len(chosen)), chosen].sum()
        assert paid == pytest.approx(budget, rel=0.1)


@pytest.mark.parametrize(("predicted", "score"), [(0.97, 0.5), (0.9, 0.0), (0.1, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("rows", [40, 2_000])
def test_predictions_that_are_far_off_are_corrected_too(
    predicted: float, score: float, rows: int
) -> None:
    chance = np.random.default_rng(0)
    quality = np.clip(chance.normal(predicted, 0.02, (rows, 3)), 0.01, 0.99)
    cost = np.full((rows, 3), 0.001)
    checks = np.arange(rows) % 2 == 0
    halves = HeldOutHalves(
        ("a", "b", "c"), quality, cost, np.full((rows, 3), score), cost * [1, 2, 4], checks
    )
    corrected, dearer = halves.corrected(
        ("a", "b", "c", "new"), quality[:, [0, 1, 2, 0]], cost[:, [0, 1, 2, 0]]
    )
    assert corrected.mean() == pytest.approx(score, abs=0.03)
    # The order of a model's queries stays.
    order = np.argsort(quality[:, 0])
    assert (np.diff(corrected[order, 0]) >= 0).all()
    many = rows / 2 / (rows / 2 + 10)
    assert dearer[0] / 0.001 == pytest.approx([1, 1 + many, 1 + 3 * many, 2], rel=0.2)
