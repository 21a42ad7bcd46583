from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroute import (
    BudgetPacer,
    ConstraintError,
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    Stay,
    Topsis,
)
from crossroute.traffic.records import RecordedDecision

NAN = math.nan
SUM = "What is 4711 * 12 + 99?"


def ranked(topsis: Topsis, rows: list[tuple[float, float, float]]) -> tuple[list[int], list[float]]:
    quality, cost, latency = (np.array(column) for column in zip(*rows, strict=True))
    order, closeness = topsis.ranked(quality, cost, latency.tolist())
    return order, closeness.tolist()


def test_it_is_the_formula() -> None:
    # By hand: norms 1 and sqrt(20), weights 1 and 1 (their scale does not matter).
    order, closeness = ranked(Topsis(3, 3, 0), [(0.8, 4.0, NAN), (0.6, 2.0, NAN)])
    norm = math.sqrt(20)
    gain, saving = 0.2, 2 / norm
    assert closeness == pytest.approx([gain / (gain + saving), saving / (gain + saving)])
    assert order == [1, 0]


def test_who_is_beaten_in_every_respect_comes_after_the_front() -> None:
    rows = [(0.5, 3.0, 2.0), (0.9, 2.0, 1.0), (0.4, 4.0, 3.0), (0.3, 0.1, 1.0)]
    order, _ = ranked(Topsis(), rows)
    assert set(order[:2]) == {1, 3}
    assert order[2:] == [0, 2]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Alone, alike, and all of nothing: the ideal; of equals the first.
        ([(0.5, 1.0, NAN)], [0]),
        ([(0.5, 1.0, 1.0), (0.5, 1.0, 1.0)], [0, 1]),
        ([(0.0, 0.0, NAN), (0.0, 0.0, NAN)], [0, 1]),
        # Free ones: the better.
        ([(0.5, 0.0, NAN), (0.6, 0.0, NAN)], [1, 0]),
        # An unknown latency is that of the slowest.
        ([(0.5, 1.0, NAN), (0.5, 1.0, 2.0), (0.5, 1.0, 1.0)], [2, 0, 1]),
        ([(0.5, 1.0, math.inf), (0.5, 1.0, 2.0), (0.5, 1.0, 1.0)], [2, 0, 1]),
        # A discount larger than the cost, and numbers whose squares are none.
        ([(0.5, -1.0, NAN), (0.5, 1.0, NAN)], [0, 1]),
        ([(0.5, 1e-200, NAN), (0.5, 2e-200, NAN)], [0, 1]),
    ],
)
def test_degenerate_candidates_have_an_order(
    rows: list[tuple[float, float, float]], expected: list[int]
) -> None:
    order, closeness = ranked(Topsis(), rows)
    assert order == expected
    assert all(0 <= one <= 1 for one in closeness)


numbers = st.floats(0, 1e9) | st.just(0.0)


@given(st.lists(st.tuples(st.floats(0, 1), numbers, numbers | st.just(NAN)), min_size=1))
def test_every_candidate_has_a_place_and_a_closeness(
    rows: list[tuple[float, float, float]],
) -> None:
    order, closeness = ranked(Topsis(), rows)
    assert sorted(order) == list(range(len(rows)))
    assert all(0 <= one <= 1 for one in closeness)
    # Nobody beats the chosen one in every respect.
    quality, cost, _ = rows[order[0]]
    slowest = max((w for _, _, w in rows if not math.isnan(w)), default=0.0)
    known = [(q, c, slowest if math.isnan(w) else w) for q, c, w in rows]
    latency = known[order[0]][2]
    assert not any(q > quality and c < cost and w < latency for q, c, w in known)


def by_hand(
    weights: tuple[float, ...], rows: list[tuple[float, ...]]
) -> tuple[list[int], dict[int, float]]:
    """The formula as it stands in the docs, one front after the other; a known latency in each."""
    used = [j for j, weight in enumerate(weights) if weight]
    good = [(row[0], -row[1], -row[2]) for row in rows]
    order: list[int] = []
    closeness: dict[int, float] = {}
    left = set(range(len(rows)))

    def beats(one: int, other: int) -> bool:
        return good[one] != good[other] and all(good[one][j] >= good[other][j] for j in used)

    good = [tuple(row[j] if j in used else 0.0 for j in range(3)) for row in good]
    while left:
        front = [one for one in left if not any(beats(other, one) for other in left)]
        norms = [math.hypot(*(rows[one][j] for one in front)) or 1.0 for j in range(3)]
        v = {
            one: [w * g / n for w, g, n in zip(weights, good[one], norms, strict=True)]
            for one in front
        }
        for one in front:
            to_ideal, to_worst = (
                math.dist(v[one], [pick(v[other][j] for other in front) for j in range(3)])
                for pick in (max, min)
            )
            far = to_ideal + to_worst
            closeness[one] = round(to_worst / far, 6) if far else 1.0
        order += sorted(front, key=lambda one: (-closeness[one], rows[one][1], -rows[one][0]))
        left -= set(front)
    return order, closeness


few = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(
    st.lists(st.tuples(few, few, few.map(lambda one: one + 1)), min_size=1, max_size=8),
    st.tuples(few, few, few).filter(any),
)
def test_it_is_the_formula_in_every_small_world(
    rows: list[tuple[float, float, float]], weights: tuple[float, float, float]
) -> None:
    order, closeness = ranked(Topsis(*weights), rows)
    expected, each = by_hand(weights, rows)
    assert closeness == pytest.approx([each[i] for i in range(len(rows))], abs=1e-5)
    assert order == expected


@pytest.mark.parametrize("weights", [{"quality": -1}, {"cost": NAN}, {"latency": math.inf}])
def test_weights_are_numbers_from_0_up(weights: dict[str, float]) -> None:
    with pytest.raises(ConstraintError, match="The TOPSIS weight"):
        Topsis(**weights)
    with pytest.raises(ConstraintError, match="All TOPSIS weights are 0"):
        Topsis(0, 0, 0)


def test_a_router_ranks_by_it_at_any_willingness_to_pay(toy_router: CrossRouter) -> None:
    router = toy_router.with_ranking("topsis")
    assert router.ranking == Topsis()
    low, high = router.route(SUM, 0.0), router.route(SUM, math.inf)
    assert low.candidates == high.candidates
    assert (low.model, low.topsis) == (low.candidates[0].model, Topsis())
    by_quality = router.with_ranking(Topsis(1, 0, 0)).route(SUM)
    by_cost = router.with_ranking(Topsis(0, 1, 0)).route(SUM)
    assert by_quality.quality == max(one.quality for one in low.candidates)
    assert by_cost.cost_usd == min(one.cost_usd for one in low.candidates)
    said = low.explain()
    assert "TOPSIS with weights quality 0.5, cost 0.3, latency 0.2" in said
    assert "the willingness to pay is not used" in said
    assert "Below a willingness" not in said
    by_front = toy_router.with_ranking(Topsis(1, 1, 0)).route(SUM)
    goes_up = [one.reward for one in by_front.candidates] != sorted(
        [one.reward for one in by_front.candidates], reverse=True
    )
    assert ("C compares candidates of one front" in by_front.explain()) == goes_up
    plain = low.to_dict()
    assert plain["topsis"] == {"quality": 0.5, "cost": 0.3, "latency": 0.2}
    assert RecordedDecision.model_validate(plain).model == low.model


def test_who_may_not_serve_is_no_ideal(toy_router: CrossRouter) -> None:
    router = toy_router.with_ranking("topsis")
    rest = [model for model in router.pool if model != router.route(SUM).model][:2]
    limited = router.route(SUM, constraints={"allowed": rest})
    assert limited.candidates == router.subset(rest).route(SUM).candidates


def test_latency_counts_where_it_is_known(toy_router: CrossRouter) -> None:
    def pool(slow: str) -> ModelPool:
        return ModelPool(
            one.model_copy(update={"expected_latency_seconds": 60.0 if one.id == slow else 1.0})
            for one in toy_router.pool.values()
        )

    for model in toy_router.pool:
        router = toy_router.over(pool(model)).with_ranking(Topsis(0, 0.1, 1))
        assert router.route(SUM).model != model


def test_reward_and_ranking_cannot_contradict_each_other(toy_router: CrossRouter) -> None:
    linear = toy_router.with_ranking("linear")
    assert (linear.reward, linear.ranking) == ("linear", "linear")
    assert linear.with_reward("exponential").ranking == "exponential"
    with pytest.raises(ConstraintError, match="give one of them"):
        CrossRouter(toy_router.checkpoint, toy_router.pool, reward="linear", ranking="topsis")
    for bad in ("fast", 0.5, None):
        with pytest.raises(ConstraintError, match=r"'topsis' or crossroute\.Topsis"):
            toy_router.with_ranking(bad)  # type: ignore[arg-type]


def test_what_needs_a_reward_says_so(toy_router: CrossRouter) -> None:
    router = toy_router.with_ranking("topsis")
    for call in (
        lambda: router.reward,
        lambda: router.at_cost([SUM], 0.01),
        lambda: router.at_quality([SUM], 0.5),
        lambda: router.at_share([SUM], {next(iter(router.pool)): 0.5}),
    ):
        with pytest.raises(ConstraintError, match="ranks by TOPSIS"):
            call()
    # The best quality for a budget is chosen whatever orders candidates.
    plain = toy_router.allocate([SUM], budget_usd=1).decisions[0]
    assert router.allocate([SUM], budget_usd=1).decisions[0] == plain


def test_agents_are_ranked_by_it_among_themselves(router: CrossRouter) -> None:
    def agent(id_: str, **facts: float) -> ModelDescriptor:
        said = {"kind": "agent", "description": "Books flights, trains and hotels."}
        return ModelDescriptor.model_validate({"id": id_, "expected_quality": 0.9, **said, **facts})

    pool = [
        *list(router.pool.values())[:3],
        agent("slow", cost_usd_a_call=0.01, expected_latency_seconds=30),
        agent("fast", cost_usd_a_call=0.02, expected_latency_seconds=3),
    ]
    offices = router.over(ModelPool(pool))
    query = "Book me a train to Lyon"
    quick, cheap = Topsis(0.5, 0.1, 0.4), Topsis(0.5, 0.5, 0)
    assert offices.with_ranking(quick).route(query).model == "fast"
    assert offices.with_ranking(cheap).route(query).model == "slow"
    assert offices.with_ranking(quick).route("Tell me a joke").model in router.pool
    # Agents are no ideal for the models that stand in, or the other way round.
    beside, decision = router.subset([one.id for one in pool[:3]]), offices.route(query)
    assert decision.tiers == [0, 0, 1, 1, 1]
    decision = offices.with_ranking("topsis").route(query)
    assert decision.candidates[2:] == beside.with_ranking("topsis").route(query).candidates


def test_surcharges_count_a_finite_margin_does_not_and_a_budget_takes_its_place(
    toy_router: CrossRouter,
) -> None:
    router = toy_router.with_ranking(Topsis(0.5, 0.5, 0))
    own = router.route(SUM)
    assert router.with_surcharges({own.model: 100.0}).route(SUM).model != own.model
    last = own.candidates[-1].model
    assert router.route(SUM, stay=Stay(last, 1e9)).model == own.model
    assert router.route(SUM, stay=Stay(last, math.inf)).kept
    paced = BudgetPacer(1.0, 10).paced(own)
    assert (paced.topsis, paced.reward) == (None, "linear")
