"""One model or a panel, whichever the reward prefers, driven by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_answers import Said, Script
from fakes_panels import COSTS, MODELS, simulated

from crossroute.constraints import Constraints
from crossroute.decision import CandidateScore, Decision
from crossroute.errors import ConstraintError
from crossroute.evaluation.metrics import sweep
from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import Query
from crossroute.ranking import preference, rank, reward
from crossroute.strategies import Arms, Panels, Task
from crossroute.topsis import Topsis
from crossroute.training.panels import AnsweredRows, choose_panels, outcome, with_arms

RIGHT, WRONG = "The answer is 391.", "The answer is {}."


def deep(update: dict[str, Any] | None = None) -> Panels:
    """A panel of all four models whose quality is said to be .99, at no further cost."""
    flat = {"intercept": 4.6, "slopes": [0, 0, 0, 0]}
    never = {"intercept": -30, "slopes": [0, 0, 0, 0]}
    return Panels.model_validate(
        {
            "panels": [
                {
                    "models": MODELS,
                    "jury": {
                        "jurors": {name: {"weight": 1.5, "slope": 0.0} for name in MODELS},
                        "doubt": 1.0,
                        "doubt_by_number": 0,
                        "doubt_by_quality": 0,
                    },
                    "stops": [{"at": 0.7, "quality": flat, "asked": [never] * 3}],
                    **(update or {}),
                }
            ]
        }
    )


def decided(
    quality: np.ndarray | None = None, cost: np.ndarray = COSTS, willingness: float = 0.05
) -> Decision:
    quality = np.array([0.6, 0.62, 0.7, 0.8]) if quality is None else quality
    liked = preference("exponential", quality, cost, willingness)
    worth = reward("exponential", quality, cost, willingness)
    order = rank(liked[None], quality[None], cost[None])[0]
    candidates = tuple(
        CandidateScore(MODELS[i], float(quality[i]), float(cost[i]), float(worth[i])) for i in order
    )
    best = candidates[0]
    return Decision(
        best.model, best.quality, best.cost_usd, candidates, willingness, "exponential", 20.0
    )


def task(decision: Decision | None = None, **more: Any) -> Task:  # noqa: ANN401
    return Task(decision or decided(), Query.of("What is 17 * 23?"), [], **more)


def test_models_are_asked_in_turn_until_one_answer_is_sure_enough() -> None:
    script = Script({MODELS[0]: RIGHT, MODELS[1]: RIGHT})
    answer = script.play(Arms(deep()).answer(task()))
    assert answer.text == RIGHT
    assert answer.model == MODELS[0]
    assert [ask.model for ask in script.asked] == [*MODELS[:2]]
    assert {ask.role for ask in script.asked} == {"draft"}
    assert "cheap-a, cheap-b, middle, strong" in script.asked[0].reason
    assert "p(right)" in script.asked[1].reason


def test_the_answer_that_leads_is_given_by_whoever_said_it_first() -> None:
    says = {MODELS[0]: WRONG.format(1), MODELS[1]: RIGHT, MODELS[2]: RIGHT}
    script = Script(says)
    answer = script.play(Arms(deep()).answer(task()))
    assert (answer.model, answer.text) == (MODELS[1], RIGHT)
    assert len(script.asked) == 3


def test_who_fails_or_refuses_has_no_vote() -> None:
    says = {
        MODELS[0]: TimeoutError("slow"),
        MODELS[1]: Said(refused=True),
        MODELS[2]: RIGHT,
        MODELS[3]: RIGHT,
    }
    script = Script(says)
    assert script.play(Arms(deep()).answer(task())).model == MODELS[2]
    assert len(script.asked) == 4


def test_words_that_cannot_be_compared_are_an_answer_yet() -> None:
    long = "Well. " * 40
    script = Script(dict.fromkeys(MODELS, long))
    assert script.play(Arms(deep()).answer(task())).model == "strong"


def test_where_all_of_a_panel_fails_another_candidate_answers() -> None:
    panels = deep(
        {
            "models": MODELS[:2],
            "stops": [
                {
                    "at": 0.9,
                    "quality": {"intercept": 4.6, "slopes": [0, 0]},
                    "asked": [{"intercept": -30, "slopes": [0, 0]}],
                }
            ],
        }
    )
    error = ConnectionError("gone")
    script = Script({MODELS[0]: error, MODELS[1]: error, MODELS[2]: RIGHT, MODELS[3]: RIGHT})
    answer = script.play(Arms(panels).answer(task()))
    assert answer.text == RIGHT
    assert script.asked[-1].reason == "escalated: no draft is an answer"
    assert script.asked[-1].role == "answer"


def test_where_everything_fails_the_last_error_is_the_answer() -> None:
    script = Script(dict.fromkeys(MODELS, ConnectionError("gone")))
    assert script.play(Arms(deep()).answer(task())).failed


@pytest.mark.parametrize(
    "decision",
    [
        replace(decided(), kept=True),
        replace(decided(), probability=0.5),
        replace(decided(), shadow=decided().candidates[1]),
        decided().without({MODELS[1]: "it rests"}),
        replace(decided(), topsis=Topsis()),
        replace(decided(), fit={decided().model: 3.0}, margin=1.5),
    ],
    ids=["kept", "explored", "shadow", "a model is missing", "TOPSIS", "an agent"],
)
def test_one_model_is_asked_where_a_panel_has_no_say(decision: Decision) -> None:
    script = Script(dict.fromkeys(MODELS, RIGHT))
    script.play(Arms(deep()).answer(task(decision)))
    assert [(ask.model, ask.role) for ask in script.asked] == [(decision.model, "answer")]


def test_a_panel_that_is_worth_less_is_not_asked() -> None:
    dear = {"intercept": 30, "slopes": [0, 0, 0, 0]}
    worse = {"intercept": 0, "slopes": [0, 0, 0, 0]}
    panels = deep({"stops": [{"at": 0.7, "quality": worse, "asked": [dear] * 3}]})
    script = Script(dict.fromkeys(MODELS, RIGHT))
    script.play(Arms(panels).answer(task()))
    assert [ask.role for ask in script.asked] == ["answer"]
    assert Arms(panels).best(task()) is None


def test_surcharges_count_for_a_panel_as_for_a_single_candidate() -> None:
    decision = decided()
    assert Arms(deep()).best(task(decision)) is not None
    charged = replace(decision, surcharge_usd={MODELS[0]: 10.0})
    # The panel begins with that model; its cost is no other one.
    assert Arms(deep()).best(task(charged)) is None
    cheap = replace(decision, surcharge_usd={MODELS[0]: -0.001})
    arm, plain = Arms(deep()).best(task(cheap)), Arms(deep()).best(task(decision))
    assert arm is not None
    assert plain is not None
    assert arm.cost_usd == plain.cost_usd
    assert arm.counted_usd == pytest.approx(plain.counted_usd - 0.001)


def test_at_no_willingness_to_pay_the_cheapest_answers() -> None:
    assert Arms(deep()).best(task(decided(willingness=0.0))) is None
    assert Arms(deep()).best(task(decided(willingness=math.inf))) is not None


def test_a_panel_keeps_to_the_limits_of_a_call() -> None:
    always = {"intercept": 30, "slopes": [0, 0, 0, 0]}
    sure = {"intercept": 6, "slopes": [0, 0, 0, 0]}
    panels = deep({"stops": [{"at": 0.7, "quality": sure, "asked": [always] * 3}]})
    decision = decided(willingness=10.0)
    arm = Arms(panels).best(task(decision))
    assert arm is not None
    assert arm.cost_usd == pytest.approx(COSTS.sum())
    low = Constraints(max_cost_usd=0.03)
    assert Arms(panels).best(task(decision, limits=low)) is None
    fast = Constraints(max_latency_seconds=5)
    pool = {
        name: ModelDescriptor(id=name, expected_latency_seconds=1.0 + i)
        for i, name in enumerate(MODELS)
    }
    assert Arms(panels).best(task(decision, limits=fast, pool=pool)) is None
    slow = Constraints(max_latency_seconds=10)
    assert Arms(panels).best(task(decision, limits=slow, pool=pool)) is not None
    assert Arms(panels).best(task(decision, limits=slow)) is None


def test_what_is_asked_is_what_was_measured() -> None:
    panels = choose_panels(simulated(1_500)).panels
    assert panels.panels
    fresh = simulated(60, seed=5)
    outcomes = [outcome(fresh, one) for one in panels.panels]
    quality, cost, score, paid = with_arms(fresh, outcomes)
    for willingness in (0.01, 0.05, 1.0):
        chosen = sweep(quality, cost, willingness_to_pay=[willingness])[0]
        for row in range(len(fresh)):
            script, answer = _asked(fresh, row, panels, willingness)
            spent = sum(fresh.paid_usd[row, MODELS.index(ask.model)] for ask in script.asked)
            assert spent == pytest.approx(paid[row, chosen[row]])
            assert fresh.score[row, MODELS.index(answer.model)] == score[row, chosen[row]]


def _asked(rows: AnsweredRows, row: int, panels: Panels, willingness: float) -> tuple[Script, Any]:
    codes = rows.codes[row]
    says = {
        name: "Well. " * 40 if code < 0 else WRONG.format(code)
        for name, code in zip(MODELS, codes, strict=True)
    }
    script = Script(says)
    decision = decided(rows.quality[row], rows.cost_usd[row], willingness)
    return script, script.play(Arms(panels).answer(task(decision)))


def test_arms_are_loaded_from_a_file(tmp_path: Path) -> None:
    deep().save(tmp_path / "strategies.json")
    assert Arms.load(tmp_path / "strategies.json") == Arms(deep())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"panels": "strategies.json"}, r"Arms\.load"),
        ({"extract": "number"}, "extract"),
        ({"seconds": 0}, "seconds"),
        ({"attempts": 0}, "attempts"),
        ({"pass_refusals": 1}, "pass_refusals"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Arms(**{"panels": deep(), **arguments})
