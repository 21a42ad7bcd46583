"""A plan where it is known what models answered: panels that are asked in turn are choices, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_core import make_rows
from fakes_plan import USD, answered_rows

from crossroute import DataError, Query
from crossroute.policy import read_policy
from crossroute.strategies import Arms, Ask, Reply, Task
from crossroute.traffic import Goal, Plan, contenders, plan
from crossroute.traffic.arms import Beside, PlannedArm, strategies_beside
from crossroute.traffic.choice import Setting, choose
from crossroute.traffic.contenders import ONBOARDED, Parts
from crossroute.traffic.policy import write_policy
from crossroute.traffic.report import page
from crossroute.traffic.report_content import content
from crossroute.traffic.standings import routers
from crossroute.traffic.wording import meaning, verdict, warnings
from crossroute.training.answers import Answers

GOAL = Goal(max_loss=0.05, confidence=0.9)
ROWS, ANSWERS = answered_rows(600, seed=1)
CHEAP = {"clerk", "poet"}


@pytest.fixture(scope="module", autouse=True)
def _without_training() -> Iterator[None]:
    """Training takes long, and finds nothing in questions that are all alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "FEWEST_TO_TRAIN", 10**6)
        yield


def planned(rows: Sequence[dict[str, Any]] = ROWS, answers: Answers | None = ANSWERS) -> Plan:
    return plan(rows, "sage", goal=GOAL, answers=answers, seed=0)


@pytest.fixture(scope="module")
def found() -> Plan:
    return planned()


@pytest.fixture(scope="module")
def alone() -> Plan:
    return planned(answers=None)


def followed(arms: Arms, found: Plan, prompt: str, said: dict[str, str]) -> tuple[list[str], str]:
    """Whom a call asks, and what it is answered, as the integrations drive it."""
    assert found.router is not None
    assert found.willingness_to_pay is not None
    decision = found.router.route(prompt, found.willingness_to_pay)
    flow = arms.answer(Task(decision, Query.of(prompt), [{"role": "user", "content": prompt}]))
    asked: list[str] = []
    reply: Any = None
    while True:
        try:
            ask = flow.send(reply)
        except StopIteration as stopped:
            return asked, stopped.value.text
        assert isinstance(ask, Ask)
        asked.append(ask.model)
        text = f"The answer is {said[ask.model]}."
        reply = Reply(ask.model, text, has_words=True, done=True)


# What it decides


def test_panels_are_chosen_where_two_cheap_models_err_independently(found: Plan) -> None:
    assert found.verdict == "route"
    assert found.setting is not None
    assert found.setting.family.name == f"{ONBOARDED}, with strategies"
    assert found.panels.panels
    assert found.router is not None
    assert found.panels.checkpoint == found.router.checkpoint.id
    shares = found.shares()
    assert sum(shares.values()) == pytest.approx(1)
    in_turn = [name for name in shares if ", then " in name]
    assert sum(shares[name] for name in in_turn) > 0.5
    # Four of ten questions are not left to the cheap ones; nothing is lost.
    assert found.saving > 0.4
    assert found.loss_high <= 0.05


def test_without_answers_the_same_rows_offer_less(found: Plan, alone: Plan) -> None:
    assert alone.panels.panels == ()
    assert alone.evidence is not None
    assert alone.evidence.problem.arms == ()
    assert found.saving > alone.saving + 0.3


def test_other_families_choose_as_without_answers(found: Plan, alone: Plan) -> None:
    """No arm is a choice of a router that does not have it, to the digit."""
    assert found.evidence is not None
    assert alone.evidence is not None
    pairs = [*zip(alone.evidence.families, found.evidence.families, strict=False)]
    assert len(pairs) == len(alone.evidence.families)
    for before, now in pairs:
        assert (before.name, before.reward) == (now.name, now.reward)
        np.testing.assert_array_equal(before.willingness, now.willingness)
        np.testing.assert_array_equal(before.chosen, now.chosen)
        assert now.chosen.max() < 3
        assert now.panels.panels == ()
    more = found.evidence.families[len(pairs) :]
    assert [(one.name, one.reward) for one in more] == [
        (f"{ONBOARDED}, with strategies", "exponential"),
        (f"{ONBOARDED}, with strategies", "linear"),
    ]


def test_calls_are_answered_as_it_was_measured(found: Plan) -> None:
    """The strategy that is deployed asks on each calibration row whom the plan counted."""
    assert found.evidence is not None
    assert found.setting is not None
    problem, (family, place) = found.evidence.problem, found.setting
    arms, m = Arms(found.panels), len(problem.models)
    for row in problem.calibration[:150]:
        column = int(family.chosen[place, row])
        said = ANSWERS[ROWS[row]["id"]]
        asked, text = followed(arms, found, ROWS[row]["prompt"], said)
        if column < m:
            assert asked == [problem.models[column]]
        else:
            models = problem.arms[column - m].models
            assert asked == list(models[: len(asked)])
        outputs = ROWS[row]["outputs"]
        assert problem.outcomes.cost_usd[row, column] == pytest.approx(
            sum(outputs[model]["cost_usd"] for model in asked)
        )
        giver = next(model for model in asked if text == f"The answer is {said[model]}.")
        assert problem.outcomes.score[row, column] == outputs[giver]["score"]


def test_fresh_prompts_save_and_lose_what_is_promised(found: Plan) -> None:
    rows, answers = answered_rows(600, seed=2)
    arms, paid, score = Arms(found.panels), 0.0, 0.0
    for row in rows:
        said = answers[row["id"]]
        asked, text = followed(arms, found, row["prompt"], said)
        paid += sum(row["outputs"][model]["cost_usd"] for model in asked)
        giver = next(model for model in asked if text == f"The answer is {said[model]}.")
        score += row["outputs"][giver]["score"]
    base = [row["outputs"]["sage"] for row in rows]
    saving = 1 - paid / sum(one["cost_usd"] for one in base)
    assert found.saving_low <= saving <= found.saving_high
    assert (sum(one["score"] for one in base) - score) / len(rows) <= found.loss_high


def test_no_panel_is_chosen_where_the_cheap_models_say_the_same() -> None:
    rows, answers = answered_rows(500, seed=3, independent=False)
    found = planned(rows, answers)
    assert found.panels.panels == ()
    assert found.verdict != "route"
    assert not any(", then " in name for name in found.shares())


# What is not known


def beside(found: Plan, answers: Answers) -> tuple[list[Beside], list[str]]:
    """What is found beside the router of a plan, with other answers."""
    assert found.evidence is not None
    problem = found.evidence.problem
    made = [one.contender for one in found.evidence.families[1:] if one.contender is not None]
    parts = Parts(problem.calibration, (problem.learning,))
    return strategies_beside(found.evidence.data, parts, made[:1], answers, seed=0)


def test_an_answer_that_is_not_known_counts_as_the_worst_it_can_be(found: Plan) -> None:
    known = {name: said for number, (name, said) in enumerate(ANSWERS.items()) if number % 5}
    (one,), notes = beside(found, known)
    assert found.evidence is not None
    data = found.evidence.data
    unknown = [place for place, row in enumerate(ROWS) if row["id"] not in known]
    assert len(unknown) == 120
    assert not np.isnan(one.outcome.score + one.outcome.paid_usd).any()
    for place, arm in enumerate(one.arms):
        columns = [data.models.index(model) for model in arm.models]
        worst, most = data.score[:, columns].min(axis=1), data.cost_usd[:, columns].sum(axis=1)
        np.testing.assert_array_equal(one.outcome.score[unknown, place], worst[unknown])
        np.testing.assert_allclose(one.outcome.paid_usd[unknown, place], most[unknown])
        # Where it is known, it is that or better.
        assert (one.outcome.score[:, place] >= worst).all()
        assert (one.outcome.paid_usd[:, place] <= most + 1e-12).all()
    (note,) = notes
    assert "To 120 of the 600 prompts it is not known" in note
    assert not any("it is not known" in note for note in found.notes)


def test_too_few_answers_are_said(found: Plan) -> None:
    none, (note,) = beside(found, dict([*ANSWERS.items()][:60]))
    assert not none
    assert note.startswith(f"No strategies beside the router {ONBOARDED}: ")
    assert "are too few" in note


def test_a_log_that_explored_has_no_strategies() -> None:
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(make_rows(150, seed=5)):
        model = ("clerk", "poet", "sage")[number % 3]
        output = {**row["outputs"][model], "probability": 1 / 3}  # type: ignore[index]
        rows.append({**row, "id": f"{number}", "outputs": {model: output}})
    found = planned(rows, {row["id"]: {} for row in rows})
    assert found.panels.panels == ()
    assert any("Strategies were not looked for: 150 of the 150" in note for note in found.notes)


# Shares, and what is said


def test_a_share_is_of_all_calls_that_may_ask_a_model(found: Plan) -> None:
    assert found.evidence is not None
    assert found.setting is not None
    problem = found.evidence.problem
    asking = problem.asking("sage")
    assert [problem.names[column] for column in asking] == [
        "sage",
        *(arm.name for arm in problem.arms if "sage" in arm.models),
    ]

    def shares(setting: Setting) -> tuple[float, float]:
        chosen = setting.family.chosen[setting.place][problem.calibration]
        sage = chosen == problem.models.index("sage")
        return float(sage.mean()), float(np.isin(chosen, asking).mean())

    alone, in_all = shares(found.setting)
    assert alone < 0.2 < in_all
    limited = choose(
        problem, found.evidence.families, replace(GOAL, max_loss=0.3, shares={"sage": 0.2})
    )
    assert limited.setting is not None
    assert shares(limited.setting)[1] <= 0.2


def test_an_arm_has_a_name_to_read() -> None:
    assert PlannedArm(("a", "b/c", "d"), 0.87).name == "a, then b/c, then d (until 0.87)"


def test_what_it_says(found: Plan, alone: Plan) -> None:
    assert verdict(found).startswith("Route among single models and strategies at a willingness")
    assert verdict(alone).startswith(("Route at", "Stay", "Use"))
    assert meaning(alone) == ""
    said = meaning(found)
    assert any(f"\u201c{name}\u201d is a strategy" in said for name in found.shares())
    assert "right with a probability of 0." in said
    assert not any("gets" in warning for warning in warnings(found))
    assert found.evidence is not None
    names = [one.name for one in routers(found.evidence)]
    assert names.count(f"{ONBOARDED}, with strategies") == 2
    gain = [one.gain.mean for one in routers(found.evidence) if one.gain]
    assert max(gain[-2:]) > max(gain[:-2])


def test_the_report_names_them(found: Plan) -> None:
    assert found.evidence is not None
    assert isinstance(found.setting, Setting)
    figures = content(found, found.evidence, None)
    names = figures["models"]
    curve = figures["curve"]
    shown = {names[place]: share for place, share in curve["shares"][curve["recommended"]]}
    assert shown == pytest.approx(found.shares(), abs=1e-4)
    assert curve["saving"][curve["recommended"]] == pytest.approx(found.saving, abs=1e-4)
    asked = {place for one in figures["examples"] for _, place, _ in one["asked"]}
    assert any(place >= 3 for place in asked)
    for example in figures["examples"]:
        assert {str(place) for _, place, _ in example["asked"]} <= set(example["answers"])
    html = page(found)
    assert "The strategies" in html
    assert "is a strategy: " in html


# Its policy


def test_its_policy_is_written_and_read(found: Plan, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write_policy(found, path)
    policy = read_policy(path)
    assert policy.strategies == "mine.strategies.json"
    assert policy.promised.shares == pytest.approx(found.shares(), abs=1e-3)
    arms = policy.load_strategy(path)
    assert arms.panels == found.panels
    first = policy.first_asked()
    assert set(first) <= set(USD)
    assert sum(first.values()) == pytest.approx(1, abs=1e-3)
    for model in USD:
        begins = (share for name, share in found.shares().items() if name.split(",")[0] == model)
        assert first.get(model, 0.0) == pytest.approx(sum(begins), abs=1e-3)


def test_a_plan_without_them_writes_none(alone: Plan, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    write_policy(alone, path)
    assert "strategies" not in path.read_text("utf-8")
    assert not [*tmp_path.glob("*.json")]
    policy = read_policy(path)
    assert policy.first_asked() == policy.promised.shares
    with pytest.raises(DataError, match="strategies: there are none"):
        policy.load_strategy(path)
