"""A plan on made-up traffic: what it decides, what it says, and what it refuses."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from fakes_core import make_rows

from crossroute import ConstraintError, CrossRouter, DataError, ModelDescriptor, ModelPool
from crossroute.evaluation.metrics import sweep
from crossroute.traffic import Goal, Plan, plan
from crossroute.traffic import contenders as made_of
from crossroute.traffic.contenders import (
    CAUTION,
    ONBOARDED,
    SHIPPED,
    TRAINED,
    Parts,
    contenders,
)
from crossroute.traffic.outcomes import Outcomes
from crossroute.traffic.planning import outcomes_of
from crossroute.traffic.report_content import content
from crossroute.traffic.settings import Measured, Problem
from crossroute.traffic.standings import routers, single_models
from crossroute.traffic.wording import verdict, warnings
from crossroute.training.data import RoutingData, Row

ROWS = make_rows(600, seed=1)


@pytest.fixture
def _without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not what is tested: it takes long."""
    monkeypatch.setattr(made_of, "FEWEST_TO_TRAIN", 10**6)


@pytest.fixture(scope="module")
def found() -> Plan:
    return plan(ROWS, baseline="sage", max_loss=0.05, confidence=0.9, seed=0)


def test_it_routes_where_cheap_models_do_as_well_on_their_kinds_of_prompts(found: Plan) -> None:
    assert found.verdict == "route"
    assert found.model is None
    assert found.router is not None
    assert found.willingness_to_pay is not None
    # Both cheap models cost a twentieth of the sage.
    assert found.saving > 0.7
    assert found.saving_low <= found.saving <= found.saving_high
    assert found.loss <= found.loss_high <= 0.05
    assert found.prompts == 600
    assert 250 < found.calibration < 350
    assert sum(found.shares().values()) == pytest.approx(1)


def test_a_baseline_whose_answers_compare_nothing_needs_more_data() -> None:
    # Such are the calls in which it was not drawn, beside those of others that were.
    rows = [
        {**row, "outputs": {"clerk": {**row["outputs"]["clerk"], "probability": 1}}} for row in ROWS
    ]
    rows += [{**row, "outputs": {"sage": row["outputs"]["sage"]}} for row in ROWS[:100]]
    found = plan(rows, baseline="sage", seed=0)
    assert (found.verdict, found.prompts) == ("more data", 0)


def test_its_router_keeps_what_it_promises_on_fresh_prompts(found: Plan) -> None:
    fresh = RoutingData.from_rows(Row.model_validate(row) for row in make_rows(600, seed=2))
    assert found.router is not None
    decisions = found.router.route_batch(fresh.prompts, found.willingness_to_pay or 0.0)
    chosen = np.array([fresh.models.index(decision.model) for decision in decisions])
    rows, sage = np.arange(len(fresh)), fresh.models.index("sage")
    loss = (fresh.score[:, sage] - fresh.score[rows, chosen]).mean()
    saving = 1 - fresh.cost_usd[rows, chosen].sum() / fresh.cost_usd[:, sage].sum()
    assert loss <= 0.05
    assert found.saving_low <= saving <= found.saving_high


def test_the_router_chooses_on_the_calibration_rows_as_was_measured(found: Plan) -> None:
    assert found.evidence is not None
    assert found.setting is not None
    assert found.router is not None
    family, place = found.setting
    rows = found.evidence.problem.calibration
    data = found.evidence.data
    decisions = found.router.route_batch(
        [data.prompts[i] for i in rows], found.willingness_to_pay or 0.0
    )
    same = [
        data.models[j] == d.model
        for j, d in zip(family.chosen[place][rows], decisions, strict=True)
    ]
    assert np.mean(same) == 1


def test_the_same_seed_gives_the_same_plan(found: Plan) -> None:
    again = plan(
        [Row.model_validate(row) for row in ROWS], "sage", max_loss=0.05, confidence=0.9, seed=0
    )
    assert again.figures == found.figures
    assert again.willingness_to_pay == found.willingness_to_pay


def test_what_it_says_of_itself(found: Plan) -> None:
    said = verdict(found)
    assert said.startswith("Route at a willingness to pay of $")
    assert "of the cost of sage" in said
    assert "90 % confidence" in said
    assert "from which nothing was learned" in said
    assert warnings(found) == []
    assert found.evidence is not None
    models = single_models(found.evidence)
    assert {one.model for one in models} == {"sage", "poet", "clerk"}
    assert models[0].model == "sage"
    assert models[0].loss == 0
    names = [one.name for one in routers(found.evidence)]
    assert names == ["fixed order", ONBOARDED, ONBOARDED, TRAINED, TRAINED]
    best = max(one.saving.mean for one in routers(found.evidence) if one.saving)
    assert best > 0.7


@pytest.mark.usefixtures("_without_training")
def test_without_a_baseline_it_is_the_best_single_model() -> None:
    rows = make_rows(120, seed=3)
    found = plan(rows, max_loss=0.2, confidence=0.8)
    assert found.baseline == "sage"


@pytest.mark.usefixtures("_without_training")
def test_a_plan_is_of_models_and_leaves_answers_of_agents_out() -> None:
    agent = {"id": "poet", "kind": "agent", "description": "Writes poems."}
    router = CrossRouter.shipped()
    router = router.over(ModelPool([*router.pool.values(), ModelDescriptor.model_validate(agent)]))
    found = plan(make_rows(120, seed=3), max_loss=0.2, confidence=0.8, router=router)
    assert found.evidence is not None
    assert set(found.evidence.data.models) == {"sage", "clerk"}
    assert "Answers of agents were left out: poet" in " ".join(warnings(found))
    with pytest.raises(DataError, match="'poet' is an agent"):
        plan(make_rows(50), "poet", router=router)
    with pytest.raises(DataError, match="All answers are of agents"):
        plan([{**row, "outputs": {"poet": row["outputs"]["poet"]}} for row in ROWS], router=router)


def test_where_the_scores_are_noise_nothing_is_routed() -> None:
    chance = random.Random(0)
    rows = make_rows(300, seed=4)
    for row in rows:
        for model, output in row["outputs"].items():  # type: ignore[attr-defined]
            output["score"] = float(chance.random() < (0.9 if model == "sage" else 0.5))
    found = plan(rows, baseline="sage", max_loss=0.02, confidence=0.95)
    assert found.verdict != "route"
    assert found.model == "sage"
    assert (found.saving, found.loss, found.loss_high) == (0, 0, 0)
    assert verdict(found).startswith("Stay with sage")


def test_a_log_with_one_answer_a_prompt_says_what_to_collect() -> None:
    rows = make_rows(200)
    for row in rows:
        row["outputs"] = {"sage": row["outputs"]["sage"]}  # type: ignore[index]
    found = plan(rows, baseline="sage")
    assert found.verdict == "more data"
    assert found.model == "sage"
    assert found.router is None
    assert found.rows_needed
    assert "collect" in verdict(found)
    assert "one answer a prompt" in verdict(found)


def test_too_few_prompts_say_how_many_more() -> None:
    found = plan(make_rows(30), baseline="sage")
    assert found.verdict == "more data"
    assert found.rows_needed == 30
    assert "30 prompts" in verdict(found)


def explored(rows: list[dict[str, Any]], share: float, seed: int = 0) -> list[dict[str, Any]]:
    """A log in which the sage answers, but for a share of the prompts that are drawn."""
    chance, log = random.Random(seed), []
    for row in rows:
        outputs = row["outputs"]
        drawn = chance.choice(sorted(outputs)) if chance.random() < share else "sage"
        probability = share / 3 + (1 - share) * (drawn == "sage")
        kept = {drawn: {**outputs[drawn], "probability": probability}}
        log.append({**row, "outputs": kept})
    return log


def test_a_log_that_explored_is_estimated_doubly_robustly() -> None:
    full = RoutingData.from_rows(Row.model_validate(row) for row in make_rows(4_000, seed=5))
    log = RoutingData.from_rows(
        Row.model_validate(row) for row in explored(make_rows(4_000, seed=5), 0.6)
    )
    wrong = np.full(log.score.shape, 0.3)
    estimated = Outcomes.estimated(log, wrong, np.full(log.score.shape, 1e-3))
    for j in range(3):
        error = estimated.score[:, j].std() / math.sqrt(len(log))
        assert estimated.score[:, j].mean() == pytest.approx(full.score[:, j].mean(), abs=4 * error)
        assert estimated.cost_usd[:, j].mean() == pytest.approx(full.cost_usd[:, j].mean(), rel=0.2)
    assert estimated.worst == pytest.approx(1 / 0.2)
    # An answer that was asked for certain is taken as it is.
    sure = RoutingData.from_rows(
        Row.model_validate(
            {**row, "outputs": {m: {**o, "probability": 1} for m, o in row["outputs"].items()}}
        )  # type: ignore[attr-defined]
        for row in make_rows(50)
    )
    same = Outcomes.estimated(sure, wrong[:50], wrong[:50])
    assert same.score == pytest.approx(sure.score)


def test_a_plan_on_a_log_that_explored() -> None:
    found = plan(
        explored(make_rows(2_500, seed=6), 0.9), baseline="sage", max_loss=0.2, confidence=0.8
    )
    assert found.evidence is not None
    assert found.prompts == 2_500
    assert found.evidence.problem.worst > 1
    assert found.verdict == "route"
    assert found.saving > 0.5
    models = {one.model: one for one in single_models(found.evidence)}
    assert models["sage"].quality == pytest.approx(0.95, abs=0.05)
    assert models["poet"].quality == pytest.approx(0.57, abs=0.12)


def test_rows_that_ask_the_same_are_in_one_part() -> None:
    rows = [row for row in make_rows(60) for _ in range(3)]
    for number, row in enumerate(rows):
        rows[number] = {**row, "prompt": f"{row['prompt']}{' !' * (number % 3)}"}
    data = RoutingData.from_rows(Row.model_validate(row) for row in rows)
    parts, group = Parts.of(data, 0), data.question_numbers()
    of = [set(group[part].tolist()) for part in (parts.calibration, *parts.folds)]
    assert sum(len(one) for one in of) == len(set.union(*of)) == 60
    assert sorted(np.concatenate([parts.calibration, parts.learning])) == list(range(180))
    assert Parts.of(data, 0).calibration.tolist() == parts.calibration.tolist()
    # Where some rows are left out, the others stay in their parts.
    kept = np.arange(180) % 2 == 0
    fewer = parts.among(kept)
    assert (2 * fewer.calibration).tolist() == [i for i in parts.calibration if i % 2 == 0]
    assert (2 * fewer.learning).tolist() == [i for i in parts.learning if i % 2 == 0]
    assert Parts.of(data, 1).calibration.tolist() != parts.calibration.tolist()


def test_no_prediction_is_of_a_router_that_learned_from_the_row() -> None:
    """A row whose score is turned round changes no prediction of its own."""
    rows = make_rows(150, seed=7)
    data = RoutingData.from_rows(Row.model_validate(row) for row in rows)
    parts = Parts.of(data, 0)
    place = int(parts.folds[0][0])
    turned = [dict(row) for row in rows]
    turned[place]["outputs"] = {
        model: {**output, "score": 1 - output["score"], "cost_usd": 9 * output["cost_usd"]}
        for model, output in rows[place]["outputs"].items()  # type: ignore[attr-defined]
    }
    other = RoutingData.from_rows(Row.model_validate(row) for row in turned)
    base = CrossRouter.shipped()
    before, _ = contenders(data, parts, base, "sage", seed=0)
    after, _ = contenders(other, parts, base, "sage", seed=0)
    rest = np.setdiff1d(parts.learning, parts.folds[0])
    for one, two in zip(before, after, strict=True):
        assert two.quality[place] == pytest.approx(one.quality[place], abs=1e-9)
        assert two.cost_usd[place] == pytest.approx(one.cost_usd[place], rel=1e-9)
        # It is learned from, though.
        assert abs(two.quality[rest] - one.quality[rest]).max() > 1e-6


def test_caution_holds_back_all_models_but_the_baseline() -> None:
    data = RoutingData.from_rows(Row.model_validate(row) for row in make_rows(300, seed=8))
    made, _ = contenders(data, Parts.of(data, 0), CrossRouter.shipped(), "sage", seed=0)
    sage = data.models.index("sage")
    for name in (ONBOARDED, TRAINED):
        family = [one for one in made if one.name == name]
        assert [one.caution for one in family] == list(CAUTION)
        for less, more in itertools.pairwise(family):
            assert more.quality[:, sage] == pytest.approx(less.quality[:, sage])
            others = np.delete(more.quality - less.quality, sage, axis=1)
            assert (others < 0).all()
            assert more.cost_usd == pytest.approx(less.cost_usd)


@pytest.mark.usefixtures("_without_training")
def test_models_that_ship_are_compared_as_they_ship_even_if_they_are_retired() -> None:
    names = {"sage": "gpt-4o-2024-05-13", "poet": "gpt-4o-mini-2024-07-18", "clerk": "new-model"}
    rows = [
        {**row, "outputs": {names[model]: output for model, output in row["outputs"].items()}}  # type: ignore[attr-defined]
        for row in make_rows(200, seed=9)
    ]
    found = plan(rows, baseline="gpt-4o-2024-05-13", max_loss=0.1, confidence=0.8)
    assert found.evidence is not None
    assert SHIPPED in [family.name for family in found.evidence.families]
    assert "gpt-4o-2024-05-13" in found.retired
    assert any("no longer be called" in line for line in warnings(found))
    if found.router is not None:
        # What has answers is a candidate.
        decision = found.router.route("What is 17 * 23?", math.inf)
        assert not decision.removed


def test_choices_by_predictions_are_those_of_the_sweep(found: Plan) -> None:
    assert found.evidence is not None
    problem = found.evidence.problem
    family = found.evidence.families[1]
    assert family.contender is not None
    place = len(family.willingness) // 2
    expected = sweep(
        family.contender.quality,
        family.contender.cost_usd,
        family.reward,
        [float(family.willingness[place])],
    )[0]
    assert family.chosen[place].tolist() == expected.tolist()
    assert (np.diff(family.willingness) < 0).all()
    assert problem.singles.chosen.shape == (3, 600)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"max_loss": -0.1}, "max_loss is -0.1"),
        ({"max_loss": math.nan}, "max_loss is nan"),
        ({"max_loss": 0}, "max_loss is 0"),
        ({"confidence": 1}, "confidence is 1"),
        ({"confidence": 0.2}, "confidence is 0.2"),
        ({"kept": 0}, "the share of the quality to keep is 0"),
        ({"usd_a_prompt": 0}, "The budget is 0"),
        ({"shares": {"sage": 2}}, "the share of 'sage' is 2"),
    ],
)
def test_goals_that_make_no_sense(goal: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Goal(**goal)


def test_bad_rows_are_named() -> None:
    with pytest.raises(DataError, match="Row 2 is broken"):
        plan([ROWS[0], {"prompt": "x"}])
    with pytest.raises(DataError, match="no rows"):
        plan([])
    with pytest.raises(DataError, match="answer of 'saga'; did you mean 'sage'"):
        plan(ROWS[:100], baseline="saga")


def with_gaps(rows: list[dict[str, Any]], models: set[str], share: float) -> list[dict[str, Any]]:
    """Rows of which a share lacks the answers of some models, at random."""
    chance = random.Random(0)
    return [
        {
            **row,
            "outputs": {
                model: output
                for model, output in row["outputs"].items()
                if model not in models or chance.random() >= share
            },
        }
        for row in rows
    ]


def test_answers_that_are_missing_are_not_taken_for_those_of_the_baseline() -> None:
    """`poet` loses 0.1 everywhere; where it was not asked, nobody saw that."""
    chance = random.Random(0)
    rows = make_rows(1_500, seed=10)
    for row in rows:
        for model, output in row["outputs"].items():  # type: ignore[attr-defined]
            output["score"] = float(chance.random() < {"sage": 0.9, "poet": 0.8}.get(model, 0.1))
    data = RoutingData.from_rows(Row.model_validate(row) for row in with_gaps(rows, {"poet"}, 0.6))
    problem_rows = np.arange(len(data))
    parts = Parts.of(data, 0)
    problem = Problem(
        data.models,
        outcomes_of(data, parts, [], is_log=False),
        data.models.index("sage"),
        parts.learning,
        parts.calibration,
    )
    poet = problem.singles.only(data.models.index("poet"))
    measured = Measured.of(problem, poet, problem_rows, 1.0)
    assert measured.mean_loss[0] == pytest.approx(0.1, abs=0.05)
    assert measured.saving[0] == pytest.approx(0.95, abs=0.02)
    assert problem.worst == pytest.approx(2.5, abs=0.2)
    assert (abs(measured.loss) <= problem.worst).all()
    # An answer that is there is counted as it is where its model always answered.
    clerk = data.models.index("clerk")
    assert problem.outcomes.score[:, clerk].tolist() == data.score[:, clerk].tolist()


def test_a_plan_over_answers_that_are_missing() -> None:
    rows = with_gaps(make_rows(700, seed=11), {"poet", "clerk"}, 0.3)
    rows[0]["outputs"]["seldom"] = rows[0]["outputs"]["sage"]
    for row in rows[:200]:
        row["outputs"].get("poet", {}).pop("cost_usd", None)
    found = plan(rows, baseline="sage", max_loss=0.15, confidence=0.8)
    assert found.verdict == "route"
    assert found.saving > 0.5
    assert found.loss <= found.loss_high <= 0.15
    assert found.evidence is not None
    assert "seldom" not in found.evidence.data.models
    said = " ".join(warnings(found))
    assert "were left out: seldom (1)." in said
    assert "Scored answers without a cost were left out: poet (" in said
    assert found.router is not None
    assert "seldom" not in found.router.pool
    shown = content(found, found.evidence, None)["examples"]
    assert shown
    for example in shown:
        assert all(score in (0.0, 1.0) for score, _ in example["answers"].values())


def test_answers_without_costs_are_not_said_to_be_missing() -> None:
    rows = make_rows(100)
    for row in rows:
        for output in row["outputs"].values():  # type: ignore[attr-defined]
            del output["cost_usd"]
    found = plan(rows, baseline="sage")
    assert found.verdict == "more data"
    said = " ".join(warnings(found))
    assert "without a cost were left out: clerk (100), poet (100), sage (100)." in said


def graded(count: int) -> tuple[list[dict[str, Any]], float]:
    """Prompts on which `sage` is best by far, and its mean cost; no router sees anything."""
    chance, rows = random.Random(0), make_rows(count, seed=12)
    right = {"sage": 0.9, "poet": 0.6, "clerk": 0.3}
    for row in rows:
        for model, output in row["outputs"].items():  # type: ignore[attr-defined]
            output["score"] = float(chance.random() < right[model])
    return rows, float(np.mean([row["outputs"]["sage"]["cost_usd"] for row in rows]))  # type: ignore[index]


@pytest.mark.usefixtures("_without_training")
def test_a_budget_that_affords_the_baseline_is_not_said_to_find_nothing_cheaper() -> None:
    rows, dear = graded(200)
    found = plan(rows, "sage", goal=Goal(max_loss=0.6, confidence=0.8, usd_a_prompt=2 * dear))
    assert (found.verdict, found.model) == ("fixed", "sage")
    assert verdict(found).startswith("Use sage for all prompts: the budget affords it.")
    assert "Stay" not in verdict(found)
    assert warnings(found) == list(found.notes)


@pytest.mark.usefixtures("_without_training")
@pytest.mark.parametrize("limit", ["budget", "share"])
def test_a_limit_that_the_baseline_breaks_is_said_to_be_broken(limit: str) -> None:
    rows, dear = graded(200)
    goal = (
        Goal(max_loss=0.05, confidence=0.9, usd_a_prompt=dear / 2)
        if limit == "budget"
        else Goal(max_loss=0.05, confidence=0.9, shares={"sage": 0.3})
    )
    found = plan(rows, "sage", goal=goal)
    assert found.model == "sage"
    said = " ".join(warnings(found))
    expected = "The budget is not kept" if limit == "budget" else "sage gets 100 % of the calls"
    assert expected in said
    assert {"budget": "nothing within the budget", "share": "within the shares"}[limit] in (
        verdict(found)
    )


def test_one_prompt_scored_many_times_is_one_prompt() -> None:
    found = plan([ROWS[0]] * 100, baseline="sage", max_loss=0.5, confidence=0.8)
    assert (found.verdict, found.prompts, found.rows_needed) == ("more data", 1, 59)


def test_where_only_the_baseline_has_many_answers_nothing_is_compared() -> None:
    rows = [
        {
            **row,
            "outputs": {
                "sage": row["outputs"]["sage"],  # type: ignore[index]
                f"model-{number % 40:02}": row["outputs"]["poet"],  # type: ignore[index]
            },
        }
        for number, row in enumerate(make_rows(140))
    ]
    found = plan(rows, baseline="sage", max_loss=0.5, confidence=0.8)
    assert (found.verdict, found.prompts) == ("more data", 0)
    (note,) = warnings(found)
    assert "model-00 (4)" in note
    assert note.endswith("and 30 more.")
