"""A cheap model drafts, and what is likely wrong goes to a dearer one."""

# ruff: noqa: ANN401  # What is refused may be anything.

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes_answers import Part, Said, Script, calibrated, calibrations, sure, task_of
from hypothesis import given
from hypothesis import strategies as st

from crossroute import ConstraintError
from crossroute.strategies import Ask, Reply, Strategy, Task
from crossroute.strategies.cascade import Cascade
from crossroute.strategies.signals import Agreement, MeanLogprob, StatedConfidence
from crossroute.strategies.word import Word

# Worth, at a cent a unit of quality: small .0059, middle .006, big .007.
MODELS = {"small": (0.6, 1e-4), "middle": (0.7, 1e-3), "big": (0.9, 2e-3)}
WORTH = 0.7
"""Of a draft: below this probability, another is worth asking for."""


def task(willingness_to_pay: float = 0.01, **more: Any) -> Task:
    return task_of(MODELS, willingness_to_pay, logprobs=["small", "middle"], **more)


def played(
    cascade: Strategy, asked: Task, small: Part | list[Part], **more: Part | list[Part]
) -> tuple[Reply, Script]:
    script = Script({"middle": "middle's", "big": "big's", **more, "small": small})
    return script.play(cascade.answer(asked)), script


CASCADE = Cascade(calibrations())


def test_a_draft_that_is_likely_right_is_the_answer() -> None:
    answer, script = played(CASCADE, task(), sure("391", 0.8))
    assert answer.text == "391"
    (ask,) = script.asked
    assert ask == Ask(
        "small",
        role="draft",
        settings={"logprobs": True},
        reason="draft, judged by mean_logprob",
    )


def test_one_that_is_likely_wrong_is_escalated() -> None:
    answer, script = played(CASCADE, task(), sure("391", 0.41))
    assert answer.text == "big's"
    assert script.models == ["small", "big"]
    ask = script.asked[1]
    assert ask.role == "answer"
    assert ask.then == ()
    assert ask.settings == {}
    assert ask.reason == (
        "escalated: p(right) 0.41 by mean_logprob; big is worth more, at 0.90 for $0.0020; the "
        "draft stands if all fail"
    )


@pytest.mark.parametrize("p", [0.05, 0.6, 0.69, 0.71, 0.95])
def test_one_willingness_to_pay_decides_what_is_worth_it(p: float) -> None:
    _, script = played(CASCADE, task(), sure("391", p))
    assert (script.models == ["small", "big"]) is (p < WORTH)
    # At four times as much, the big one is worth .034 of a draft's .04.
    _, script = played(CASCADE, task(0.04), sure("391", p))
    assert (script.models == ["small", "big"]) is (p < 0.85)


def test_surcharges_count_where_another_is_worth_asking() -> None:
    asked = task()
    charged = replace(asked, decision=replace(asked.decision, surcharge_usd={"big": 0.003}))
    _, script = played(CASCADE, charged, sure("391", 0.41))
    assert script.models == ["small", "middle"]


@pytest.mark.parametrize("p", [0.01, 0.3, 0.36, 0.5, 0.7, 0.73, 0.8])
def test_the_exponential_reward_decides_by_its_own_utility(p: float) -> None:
    asked = task(reward_name="exponential")
    _, script = played(CASCADE, asked, sure("391", p))
    # .01 log .9 - .002 is .01 log p.
    least = 0.9 * math.exp(-0.2)
    assert (script.models == ["small", "big"]) is (p < least)


def test_where_money_is_no_matter_the_better_one_answers() -> None:
    for p, models in ((0.89, ["small", "big"]), (0.91, ["small"])):
        assert played(CASCADE, task(math.inf), sure("391", p))[1].models == models


@pytest.mark.parametrize("reward", ["linear", "exponential"])
def test_where_nothing_is_worth_anything_nobody_drafts(reward: Any) -> None:
    answer, script = played(CASCADE, task(0.0, reward_name=reward), sure("391", 0.01))
    assert answer.text == "391"
    assert [ask.role for ask in script.asked] == ["answer"]
    assert script.asked[0].reason == "asked at once: no candidate's draft is worth it"
    # But one that is told to.
    told = replace(CASCADE, cheap="small")
    _, script = played(told, task(0.0, reward_name=reward), sure("391", 0.01))
    assert [ask.role for ask in script.asked] == ["draft"]


def test_it_drafts_only_where_that_is_worth_more_than_one_answer() -> None:
    # Drafts that are all alike tell nothing: the big one is asked at once.
    flat = calibrated().model_copy(update={"signal_percentiles": (0.6,) * 101})
    _, script = played(Cascade(calibrations(flat)), task(), sure("391", 0.9))
    assert [(ask.model, ask.role) for ask in script.asked] == [("big", "answer")]
    # Nor does the dearest draft.
    _, script = played(Cascade(calibrations(calibrated("big"))), task(), sure("391", 0.9))
    assert [(ask.model, ask.role) for ask in script.asked] == [("big", "answer")]
    # Of drafts that cost as much as an answer, nothing is saved.
    dear = task_of({"small": (0.6, 1.9e-3), "big": (0.9, 2e-3)}, 0.01, logprobs=["small"])
    assert played(CASCADE, dear, sure("391", 0.9))[1].models == ["big"]


def test_the_draft_of_the_highest_expected_reward_is_taken() -> None:
    both = Cascade(calibrations(calibrated(), calibrated("middle")))
    assert played(both, task(), sure("391", 0.9))[1].models == ["small"]
    # With predictions that count, a query that is hard for the small one is not.
    hard = task_of(
        {"small": (0.02, 1e-4), "middle": (0.9, 1e-3), "big": (0.95, 4e-3)},
        0.01,
        logprobs=["small", "middle"],
    )
    given = calibrations(calibrated(prior=1.0), calibrated("middle", prior=1.0))
    _, script = played(Cascade(given), hard, "", middle=sure("391", 0.9))
    assert script.models == ["middle"]


def test_a_preferred_candidate_is_looked_at_where_that_may_change_something() -> None:
    asked = task_of({"small": (0.8, 1e-4), "big": (0.9, 2e-3)}, 0.01, logprobs=["small"])
    assert asked.decision.model == "small"
    assert played(CASCADE, asked, sure("391", 0.2))[1].models == ["small", "big"]


def test_the_router_s_own_prediction_counts_beside_the_signal() -> None:
    given = Cascade(calibrations(calibrated(prior=1.0)), cheap="small")
    for quality, models in ((0.9, ["small"]), (0.2, ["small", "big"])):
        asked = task_of({"small": (quality, 1e-4), "big": (0.95, 2e-3)}, 0.01, logprobs=["small"])
        assert played(given, asked, sure("391", 0.6))[1].models == models


def test_signals_are_taken_in_their_order() -> None:
    signals = MeanLogprob(), StatedConfidence()
    stated = calibrated(signal="stated_confidence", low=0.0, high=1.0)
    given = Cascade(calibrations(calibrated(), stated), signals)
    # Log-probabilities were asked for, and the provider gave none.
    answer, script = played(given, task(), ["391", "0.9"])
    assert answer.text == "391"
    assert [ask.role for ask in script.asked] == ["draft", "judge"]
    assert script.asked[0].settings == {"logprobs": True}
    assert script.asked[0].reason == "draft, judged by mean_logprob, stated_confidence"
    _, script = played(given, task(), ["391", "0.2"])
    assert script.models == ["small", "small", "big"]
    assert "by stated_confidence" in script.asked[2].reason
    # A model whose descriptor has none is not asked for them.
    without = task_of(MODELS, 0.01)
    _, script = played(given, without, ["391", "0.9"])
    assert script.asked[0].settings == {}
    assert script.asked[0].reason == "draft, judged by stated_confidence"
    # Nor is a signal read that is not calibrated.
    only = Cascade(calibrations(stated), signals)
    assert played(only, task(), ["391", "0.9"])[1].asked[0].settings == {}


def test_further_drafts_are_paid_for() -> None:
    # To compare with the big one costs more than to ask it at once.
    agreement = calibrated(signal="agreement", low=0.0, high=1.0)
    dear = Cascade(calibrations(agreement), (Agreement(["big"]),))
    assert played(dear, task(), "391")[1].models == ["big"]
    told = replace(dear, cheap="small")
    _, script = played(told, task(), "391", big="391")
    assert script.models == ["small", "big"]
    assert [ask.role for ask in script.asked] == ["draft", "draft"]
    _, script = played(told, task(), "391", big="392")
    assert script.models == ["small", "big", "big"]


def test_where_no_signal_can_say_the_prediction_decides() -> None:
    _, script = played(CASCADE, task(), "391")
    assert script.models == ["small", "big"]
    assert "predicted quality 0.60, as no signal could say" in script.asked[1].reason
    easy = task_of({"small": (0.85, 1e-4), "big": (0.9, 2e-3)}, 0.01, logprobs=["small"])
    assert played(CASCADE, easy, "391")[1].models == ["small"]


FAULTS: list[tuple[Part, str]] = [
    (TimeoutError("slow"), "the draft failed (TimeoutError)"),
    (Said("39", error=ConnectionError("gone")), "the draft failed (ConnectionError)"),
    (Said("I cannot help.", refused=True), "the draft is a refusal"),
    (" \n", "the draft is empty"),
    ("", "the draft is empty"),
]


@pytest.mark.parametrize(("says", "why"), FAULTS)
def test_a_draft_that_is_none_is_escalated(says: Part, why: str) -> None:
    answer, script = played(CASCADE, task(), says)
    assert answer.text == "big's"
    assert script.asked[1].reason.startswith(f"escalated: {why}")


def test_a_draft_is_bounded_in_time() -> None:
    _, script = played(replace(CASCADE, seconds=3), task(), sure("391", 0.1))
    assert [ask.seconds for ask in script.asked] == [3, None]


SLOW = TimeoutError("slow")


def test_the_next_candidates_answer_and_at_last_the_draft() -> None:
    likely_wrong = sure("391", 0.2)
    answer, script = played(CASCADE, task(), likely_wrong, big=SLOW)
    assert answer.text == "middle's"
    assert script.models == ["small", "big", "middle"]
    answer, script = played(CASCADE, task(), likely_wrong, big=SLOW, middle=SLOW)
    assert answer.text == "391"
    one = replace(CASCADE, attempts=1)
    answer, script = played(one, task(), likely_wrong, big=SLOW)
    assert (answer.text, script.models) == ("391", ["small", "big"])
    # A refusal is better than an error, an error than words that are none.
    refusal = Said("I cannot.", refused=True)
    assert played(one, task(), refusal, big=SLOW)[0].text == "I cannot."
    for none in (TimeoutError("first"), "", Said("39", error=ConnectionError("gone"))):
        answer, script = played(one, task(), none, big=SLOW)
        assert answer.error is SLOW
        assert "stands" not in script.asked[1].reason


def test_refusals_pass_where_they_are_to() -> None:
    no = Said("I cannot.", refused=True)
    likely_wrong = sure("391", 0.2)
    assert played(CASCADE, task(), likely_wrong, big=no)[0].text == "I cannot."
    passing = replace(CASCADE, pass_refusals=True)
    assert played(passing, task(), likely_wrong, big=no)[0].text == "middle's"
    assert played(passing, task(), likely_wrong, big=no, middle=no)[0].text == "391"


WORDED = Cascade(cheap="small", word="UNSURE")


def test_a_draft_that_says_the_word_is_left_at_once() -> None:
    answer, script = played(WORDED, task(), "**Unsure**. Since I do not know")
    assert answer.text == "big's"
    draft, escalated = script.asked
    assert script.left[0] is draft
    assert "single word UNSURE" in draft.then[0]["content"]
    assert draft.then[0]["role"] == "user"
    assert draft.reason == "draft, judged by its own word"
    assert escalated.then == ()
    assert escalated.reason == "escalated: the draft says UNSURE"
    # Nor is it the answer, whoever fails.
    assert played(WORDED, task(), "UNSURE", big=SLOW, middle=SLOW)[0].error is SLOW


def test_one_that_does_not_is_read_to_its_end() -> None:
    answer, script = played(WORDED, task(), "I am UNSURE, but it is 391.")
    assert answer.text == "I am UNSURE, but it is 391."
    assert script.models == ["small"]
    assert script.left == []
    both = replace(WORDED, calibrations=calibrations())
    assert played(both, task(), sure("391", 0.2))[1].models == ["small", "big"]
    assert played(both, task(), "UNSURE.")[1].left
    # A longer word may follow: then it is none.
    answer, script = played(both, task(), "UNSURE")
    assert (answer.text, script.models) == ("big's", ["small", "big"])
    assert script.asked[0] not in script.left


@given(st.text(), st.sampled_from(["UNSURE", "\u00dcNSICHER", "stra\u00dfe"]))
def test_a_word_is_said_only_at_the_beginning(text: str, word: str) -> None:
    agreed = Word(word)
    assert agreed.said(Reply("small", f" **{word.lower()}**{text}"))
    assert not agreed.said(Reply("small", word[:-1]))
    assert not agreed.said(Reply("small", f"x{text}"))


def test_a_word_is_no_part_of_another_and_may_be_quoted() -> None:
    assert not Word("NONE").said(Reply("small", "Nonetheless, it is 391.", done=True))
    assert not Word("NONE").said(Reply("small", "None"))
    assert Word("NONE").said(Reply("small", "None", done=True))
    for text in ("\u201cUnsure\u201d", "\u00abUNSURE\u00bb", "> UNSURE.", "- unsure\n"):
        assert Word("UNSURE").said(Reply("small", text))
    # Where no space is between words, what follows may be another.
    assert Word("\u4e0d\u786e\u5b9a").said(Reply("small", "\u4e0d\u786e\u5b9a\u7684"))


def test_a_target_escalates_a_share_instead() -> None:
    # Half a per cent of the drafts has a p below each half of one.
    share = Cascade(calibrations(), escalate_at_most=0.2)
    for p, models in ((0.15, ["small", "big"]), (0.25, ["small"])):
        _, script = played(share, task(), sure("391", p))
        assert script.models == models
    _, script = played(share, task(), sure("391", 0.15))
    assert script.asked[1].reason.startswith(
        "escalated: p(right) 0.15 by mean_logprob is below 0.2"
    )
    # The last digits of a p that many drafts have are another CPU's.
    assert played(share, task(), sure("391", 0.206 - 1e-13))[1].models == ["small"]
    # Whatever it is worth.
    assert played(share, task(0.0), sure("391", 0.15))[1].models == ["small", "middle"]
    assert played(share, task(math.inf), sure("391", 0.25))[1].models == ["small"]
    # An unread draft is none of the most doubtful.
    assert played(share, task(), "391")[1].models == ["small"]


def test_a_target_keeps_an_accuracy_instead() -> None:
    # Drafts from .5 up are right as often as .75 in the mean.
    accurate = Cascade(calibrations(), accuracy=0.745)
    for p, models in ((0.45, ["small", "big"]), (0.55, ["small"])):
        assert played(accurate, task(), sure("391", p))[1].models == models
    assert played(accurate, task(), "391")[1].models == ["small", "big"]
    # Nobody is asked who is no better than the draft.
    assert played(Cascade(calibrations(), accuracy=0.98), task(), sure("391", 0.95))[1].models == [
        "small"
    ]


def test_a_target_out_of_reach_says_so() -> None:
    never = Cascade(calibrations(), accuracy=1.0)
    answer, script = played(never, task(), sure("391", 0.85))
    assert answer.text == "big's"
    assert "no threshold keeps an accuracy of 1, 0.99 at best" in script.asked[1].reason
    # The best that can be: a draft that is likelier right than anybody else stays.
    assert played(never, task(), sure("391", 0.95))[0].text == "391"


def test_who_is_no_candidate_is_not_asked() -> None:
    absent = Cascade(calibrations(calibrated("gone")), cheap="gone")
    answer, script = played(absent, task(), "")
    assert (answer.text, script.models) == ("big's", ["big"])
    alone = task_of({"small": (0.6, 1e-4)}, logprobs=["small"])
    _, script = played(CASCADE, alone, sure("391", 0.1))
    assert [ask.role for ask in script.asked] == ["answer"]
    # A cheap one that could not be judged after all does not answer everything.
    unseen = replace(CASCADE, cheap="small")
    assert played(unseen, task_of(MODELS, 0.01), "391")[1].models == ["big"]


@pytest.mark.parametrize("reward", ["linear", "exponential"])
def test_it_is_worth_more_than_either_model_and_their_mixture(reward: Any) -> None:
    """On drafts that are right as often as their calibration says."""
    chance = np.random.default_rng(3)
    p = chance.uniform(0.01, 0.99, 800)
    right = {"small": chance.random(800) < p, "big": chance.random(800) < 0.9}
    cost = {"small": 1e-4, "big": 2e-3}
    for willingness in (2e-3, 5e-3, 2e-2, 0.2, math.inf):
        models = {"small": (0.5, cost["small"]), "big": (0.9, cost["big"])}
        asked = task_of(models, willingness, logprobs=["small"], reward_name=reward)
        quality = spent = 0.0
        for i in range(800):
            answer, script = played(CASCADE, asked, sure("a", float(p[i])))
            quality += right[answer.model][i] / 800
            spent += sum(cost[model] for model in script.models) / 800
        low, high = right["small"].mean(), right["big"].mean()
        # Of the two mixed at random, at the same cost.
        mixed = low + (high - low) * (spent - cost["small"]) / (cost["big"] - cost["small"])
        is_mixed = 2 * cost["small"] < spent < 0.8 * cost["big"]
        assert quality >= mixed + (0.03 if is_mixed else -0.02)
        if reward == "linear" and not math.isinf(willingness):
            alone = [right[model].mean() - cost[model] / willingness for model in cost]
            assert quality - spent / willingness >= max(alone) - 0.02


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"Nothing judges a draft: .*\(mean_logprob\) for any model"),
        ({"word": "UNSURE"}, "Nothing judges a draft"),
        ({"cheap": "small"}, "Nothing judges a draft: .* for 'small'"),
        ({"cheap": "big", "calibrations": calibrations()}, "for 'big'"),
        ({"signals": (StatedConfidence(),), "calibrations": calibrations()}, "stated_confidence"),
        ({"calibrations": {}}, "calibrations is dict; give what"),
        ({"signals": "x"}, "signals is 'x'"),
        ({"cheap": " "}, "cheap is ' '; give a text"),
        ({"cheap": "small", "word": "not sure"}, "word is 'not sure'; give a single word"),
        ({"cheap": "small", "word": "no"}, "word is 'no'"),
        ({"cheap": "small", "word": 5}, "word is 5"),
        ({"cheap": "small", "word": "a\u200bbc"}, "word is "),
        ({"escalate_at_most": 1.5}, r"escalate_at_most is 1\.5; give a number from 0 to 1"),
        ({"accuracy": math.nan}, "accuracy is nan"),
        (
            {"calibrations": calibrations(), "accuracy": 0.9, "escalate_at_most": 0.1},
            "either escalate_at_most or accuracy",
        ),
        (
            {"cheap": "small", "word": "UNSURE", "accuracy": 0.9},
            "escalate_at_most and accuracy need calibrations",
        ),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": 10**400}, "seconds is 1000"),
        ({"seconds": math.inf}, "seconds is inf; give a finite number above 0"),
        ({"attempts": 0}, "attempts is 0; give a whole number from 1"),
        ({"attempts": True}, "attempts is True"),
        ({"pass_refusals": 1}, "pass_refusals is 1; give True or False"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Cascade(**arguments)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4),
    st.floats(0, 1e100) | st.just(math.inf),
    st.sampled_from(["linear", "exponential"]),
    st.floats(0.01, 0.99),
    st.floats(0, 1),
)
def test_whatever_is_predicted_somebody_answers(
    models: list[tuple[float, float]], willingness: float, reward: Any, p: float, prior: float
) -> None:
    names = ["small", "middle", "big", "other"][: len(models)]
    asked = task_of(
        dict(zip(names, models, strict=True)),
        willingness,
        logprobs=names,
        reward_name=reward,
    )
    given = calibrations(calibrated(prior=prior), calibrated("middle", prior=prior))
    for cascade in (
        Cascade(given),
        Cascade(given, cheap="small"),
        Cascade(given, escalate_at_most=p),
        Cascade(given, accuracy=p),
    ):
        script = Script(dict.fromkeys(names, sure("391", p)))
        assert script.play(cascade.answer(asked)).text == "391"
        assert len(script.asked) <= 2
