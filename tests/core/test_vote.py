"""Several drafts are asked, and what most of their weight says is the answer."""

# ruff: noqa: ANN401  # What is refused may be anything.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes_answers import Part, Said, Script, calibrated, calibrations, sure, task_of
from hypothesis import given
from hypothesis import strategies as st

from crossroute import ConstraintError, CostLimitError
from crossroute.strategies import Reply, Task, Together
from crossroute.strategies.answers import choice
from crossroute.strategies.signals import StatedConfidence
from crossroute.strategies.vote import BRIEF, MOST_WEIGHT, Vote

# Log-odds of .41, .85, 1.39, 2.94.
MODELS = {"a": (0.6, 1e-4), "b": (0.7, 2e-4), "c": (0.8, 3e-4), "big": (0.95, 1e-2)}
TASK = task_of(MODELS, 0.001, logprobs=["a", "b", "c"])
THREE = Vote(("a", "b", "c"), options=2)
SLOW = TimeoutError("slow")


def played(vote: Vote, task: Task = TASK, /, **says: Part | list[Part]) -> tuple[Reply, Script]:
    script = Script({"big": "big's", **says})
    return script.play(vote.answer(task)), script


def test_the_answer_is_the_first_of_those_that_most_weight_says() -> None:
    answer, script = played(THREE, a="So it is 391.", b="It is 392", c="391.0, I think")
    assert answer.text == "So it is 391."
    assert script.models == ["a", "b", "c"]
    assert all(ask.role == "draft" for ask in script.asked)
    assert all(ask.then == () and ask.until is None and not ask.fresh for ask in script.asked)
    assert script.asked[0].reason == "draft, for a vote"


def test_votes_weigh_as_much_as_their_quality() -> None:
    # .41 + .85 are less than 1.39, but two are more than one.
    says = {"a": "392", "b": "392", "c": "391"}
    assert played(THREE, **says)[0].text == "391"
    assert played(replace(THREE, weights="equal"), **says)[0].text == "392"


def test_the_more_answers_there_are_the_more_it_says_that_two_agree() -> None:
    says = {"a": "392", "b": "392", "c": "391"}
    # Each weighs log 2 more of three options.
    assert played(replace(THREE, options=3), **says)[0].text == "392"
    assert played(Vote(("a", "b", "c")), **says)[0].text == "392"
    task = task_of({"a": (0.6, 1e-4), "b": (0.6, 2e-4), "c": (0.95, 3e-4)})
    assert played(replace(THREE, options=3), task, **says)[0].text == "391"
    assert played(replace(THREE, options=9), task, **says)[0].text == "392"


def test_who_is_more_often_wrong_than_right_still_has_a_vote() -> None:
    task = task_of({"a": (0.2, 1e-4), "b": (0.3, 2e-4), "c": (0.5, 3e-4)})
    assert played(THREE, task, a="392", b="392", c="391")[0].text == "392"


def test_nobody_outvotes_all_others_by_being_sure() -> None:
    task = task_of({"a": (0.9, 1e-4), "b": (0.9, 2e-4), "c": (1.0, 3e-4)})
    assert 2 * math.log(9) > MOST_WEIGHT
    assert played(THREE, task, a="392", b="392", c="391")[0].text == "392"


def test_calibrated_votes_weigh_as_much_as_their_signal() -> None:
    given = calibrations(calibrated("a"), calibrated("b"), calibrated("c"))
    vote = replace(THREE, weights=given)
    answer, script = played(vote, a=sure("391", 0.97), b=sure("392", 0.7), c=sure("392", 0.6))
    assert answer.text == "391"
    assert script.asked[0].settings == {"logprobs": True}
    answer, _ = played(vote, a=sure("391", 0.6), b=sure("392", 0.7), c=sure("392", 0.6))
    assert answer.text == "392"
    # Without log-probabilities, or without a calibration, the predicted quality counts.
    assert played(vote, a="392", b="392", c="391")[0].text == "391"
    only = replace(THREE, weights=calibrations(calibrated("a")))
    assert played(only, a=sure("391", 0.97), b="392", c="392")[0].text == "391"
    assert played(only, a=sure("391", 0.5), b="392", c="392")[0].text == "392"


def test_it_stops_as_soon_as_it_is_decided() -> None:
    _, script = played(replace(THREE, weights="equal"), a="391", b="391", c="7")
    assert [ask.model for ask in script.left] == ["c"]
    _, script = played(replace(THREE, weights="equal", early_stop=False), a="391", b="391", c="7")
    assert script.left == []
    # What is left outweighs what is there.
    assert played(THREE, a="391", b="391", c="7")[1].left == []


def test_one_after_the_other_no_more_are_asked_than_it_takes() -> None:
    vote = replace(THREE, weights="equal", in_turn=True)
    answer, script = played(vote, a="391", b="391", c="7")
    assert (answer.text, script.models) == ("391", ["a", "b"])
    _, script = played(replace(vote, early_stop=False), a="391", b="391", c="7")
    assert script.models == ["a", "b", "c"]
    assert played(vote, a="391", b="7", c="391")[1].models == ["a", "b", "c"]


def test_samples_are_fresh_ones_of_the_cheapest() -> None:
    vote = Vote(samples=5, temperature=0.7, seconds=3)
    answer, script = played(vote, a=["391", "7", "391", "391", "8"])
    assert answer.text == "391"
    assert script.models == ["a"] * 5
    assert [ask.model for ask in script.left] == ["a"]
    assert all(ask.fresh and ask.seconds == 3 for ask in script.asked)
    assert script.asked[0].settings == {"temperature": 0.7}
    assert set(played(replace(vote, cheap="b"), b="391")[1].models) == {"b"}


def test_a_tie_goes_to_the_likelier_one() -> None:
    vote = Vote(("a", "c"), weights="equal")
    assert played(vote, a="392", c="391")[0].text == "391"
    assert played(Vote(("c", "a"), weights="equal"), a="392", c="391")[0].text == "391"
    # Nor does it matter in the last digits of a float.
    task = task_of({"a": (0.6, 1e-4), "b": (0.6 + 1e-13, 1e-4), "c": (0.6, 1e-4)})
    assert played(Vote(("a", "b")), task, a="7", b="8")[0].text == "8"


def test_where_nothing_can_be_compared_the_likeliest_answers() -> None:
    vote = replace(THREE, extract=choice)
    assert played(vote, a="so", b="or", c="so")[0].text == "so"
    answer, script = played(vote, a="so", b="or so", c="")
    assert answer.text == "or so"
    assert script.models == ["a", "b", "c"]
    answer, script = played(replace(vote, escalate_below=0.5), a="so", b="or so", c="")
    assert answer.text == "big's"
    assert script.asked[-1].reason == "escalated: no draft could be compared"


def test_who_fails_or_refuses_has_no_vote() -> None:
    refusal = Said("391", refused=True)
    answer, _ = played(replace(THREE, weights="equal"), a="392", b=SLOW, c=refusal)
    assert answer.text == "392"


WORDED = replace(THREE, word="UNSURE", weights="equal")


def test_who_says_the_word_is_left_and_has_no_vote() -> None:
    answer, script = played(WORDED, a="UNSURE about this", b="391", c="UNSURE.")
    assert answer.text == "391"
    assert [ask.model for ask in script.left] == ["a", "c"]
    assert "single word UNSURE" in script.asked[0].then[0]["content"]
    low = replace(WORDED, escalate_below=0.5)
    answer, script = played(low, a="UNSURE", b="391", c="UNSURE")
    assert answer.text == "big's"
    assert script.asked[-1].role == "answer"
    assert script.asked[-1].then == ()
    assert script.asked[-1].reason == (
        "escalated: the winner has 0.33 of the votes, which is below 0.5"
    )


def test_a_vote_that_cannot_win_any_more_is_escalated_at_once() -> None:
    vote = replace(WORDED, escalate_below=0.6)
    answer, script = played(vote, a="UNSURE.", b="UNSURE.", c="391")
    assert answer.text == "big's"
    assert script.models == ["a", "b", "c", "big"]
    assert [ask.model for ask in script.left[:3]] == ["a", "b", "c"]
    # Two of three are enough, and the third is not waited for.
    answer, script = played(vote, a="391", b="391", c="7")
    assert answer.text == "391"
    assert [ask.model for ask in script.left] == ["c"]
    # Nor is it over as long as the share is open.
    all_alike = replace(vote, escalate_below=0.9)
    answer, script = played(all_alike, a="391", b="391", c="391")
    assert (answer.text, script.left) == ("391", [])


def test_drafts_are_brief_on_demand() -> None:
    _, script = played(replace(WORDED, brief=True), a="391", b="391")
    (told,) = script.asked[0].then
    assert told["content"].startswith(BRIEF)
    assert "UNSURE" in told["content"]
    (told,) = played(replace(THREE, brief=True), a="1", b="1", c="1")[1].asked[0].then
    assert told == {"role": "user", "content": BRIEF}


def test_if_all_fail_the_others_answer() -> None:
    failing: dict[str, Part] = dict.fromkeys("abc", SLOW)
    answer, script = played(THREE, **failing)
    assert answer.text == "big's"
    assert script.asked[-1].reason == "escalated: no draft is an answer"
    answer, _ = played(THREE, **failing, big=ConnectionError("gone"))
    assert isinstance(answer.error, ConnectionError)
    refusal = Said("I cannot.", refused=True)
    answer, _ = played(THREE, **{**failing, "b": refusal}, big=SLOW)
    assert answer.text == "I cannot."
    # The winner of a doubtful vote is better than none.
    doubtful = replace(THREE, escalate_below=0.9, early_stop=False)
    assert played(doubtful, a="1", b="2", c="3", big=SLOW)[0].text == "3"
    passing = replace(doubtful, pass_refusals=True)
    assert played(passing, a="1", b="2", c="3", big=refusal)[0].text == "3"
    assert played(doubtful, a="1", b="2", c="3", big=refusal)[0].text == "I cannot."


def test_where_nobody_else_is_left_the_winner_stands() -> None:
    task = task_of({"a": (0.6, 1e-4), "b": (0.7, 2e-4)})
    vote = Vote(("a", "b"), escalate_below=0.9)
    assert played(vote, task, a="1", b="2")[0].text == "2"
    answer, script = played(vote, task, a=SLOW, b=SLOW)
    assert answer.error is SLOW
    assert script.models == ["a", "b"]
    refusal = Said("I cannot.", refused=True)
    assert played(vote, task, a=refusal, b=SLOW)[0].text == "I cannot."


def test_who_said_the_word_answers_without_it_if_nobody_else_is_left() -> None:
    task = task_of({"a": (0.6, 1e-4), "b": (0.7, 2e-4)}, 1.0)
    vote = Vote(("a", "b"), word="UNSURE")
    answer, script = played(vote, task, a="UNSURE", b=["UNSURE", "391"])
    assert answer.text == "391"
    assert script.models == ["a", "b", "b"]
    assert script.asked[-1].then == ()
    answer, script = played(vote, task, a=["UNSURE", "7"], b=SLOW)
    assert (answer.text, script.models) == ("7", ["a", "b", "a"])


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_model_of_which_one_sample_fails_answers_without_the_word(in_turn: bool) -> None:
    task = task_of({"a": (0.6, 1e-4)}, 1.0)
    vote = Vote(samples=3, word="UNSURE", in_turn=in_turn)
    for samples in (["UNSURE", SLOW, "UNSURE"], [SLOW, "UNSURE", "UNSURE"]):
        answer, script = played(vote, task, a=[*samples, "391"])
        assert answer.text == "391"
        assert (script.asked[-1].then, script.asked[-1].role) == ((), "answer")
    answer, _ = played(vote, task, a=[SLOW, SLOW, Said("I cannot.", refused=True)])
    assert answer.text == "I cannot."


def test_who_is_no_candidate_does_not_vote() -> None:
    answer, script = played(Vote(("gone", "a", "b"), weights="equal"), a="391", b="391")
    assert (answer.text, script.models) == ("391", ["a", "b"])
    for vote in (Vote(("gone", "c")), Vote(samples=3, cheap="gone")):
        answer, script = played(vote, task_of(MODELS, math.inf))
        assert (answer.text, script.models) == ("big's", ["big"])
        assert script.asked[0].role == "answer"
        assert script.asked[0].reason.startswith("asked at once: fewer than two")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"models is \(\) and samples is 0; give one of the two"),
        ({"models": ("a", "b"), "samples": 3}, "give one of the two"),
        ({"models": ("a",)}, "models makes 1; give 2 or more"),
        ({"samples": 1}, "samples makes 1; give 2 or more"),
        ({"models": "ab"}, "models is 'ab'"),
        ({"models": ("a", "a")}, "models names a model twice"),
        ({"samples": 2.5}, r"samples is 2\.5"),
        ({"models": ("a", "b"), "cheap": "a"}, "cheap and temperature are of samples"),
        ({"models": ("a", "b"), "temperature": 1}, "cheap and temperature are of samples"),
        ({"samples": 3, "temperature": 0}, "temperature is 0"),
        ({"samples": 3, "extract": None}, "extract is None; give a function"),
        ({"samples": 3, "weights": "best"}, "weights is 'best'; give 'quality', 'equal'"),
        ({"samples": 3, "signal": StatedConfidence()}, "which ask nothing more"),
        ({"samples": 3, "options": 1}, "options is 1; give a whole number from 2"),
        ({"samples": 3, "word": "a b"}, "word is 'a b'"),
        ({"samples": 3, "early_stop": None}, "early_stop is None"),
        ({"samples": 3, "in_turn": 1}, "in_turn is 1"),
        ({"samples": 3, "seconds": -1}, "seconds is -1"),
        ({"samples": 3, "escalate_below": 2}, "escalate_below is 2"),
        ({"samples": 3, "attempts": 0}, "attempts is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Vote(**arguments)


SAYS = st.sampled_from(["1", "2", "3", "hm hm", "", "UNSURE", SLOW, Said("no", refused=True)])


@given(
    st.lists(st.tuples(st.floats(0, 1), SAYS, st.floats(0.02, 0.98)), min_size=2, max_size=6),
    st.sampled_from(["quality", "equal", "calibrated"]),
    st.none() | st.floats(0, 1),
    st.booleans(),
)
def test_to_stop_early_changes_nothing(
    voters: Sequence[tuple[float, Part, float]],
    weights: Any,
    below: float | None,
    in_turn: bool,
) -> None:
    """Who wins, and whether it is escalated, is the same as if all had been waited for."""
    models = {f"m{i}": (quality, 1e-4) for i, (quality, _, _) in enumerate(voters)}
    task = task_of({**models, "big": (0.95, 1e-2)}, 0.001, logprobs=list(models))
    says = {
        f"m{i}": sure(part, p) if isinstance(part, str) else part
        for i, (_, part, p) in enumerate(voters)
    }
    if weights == "calibrated":
        weights = calibrations(*(calibrated(model) for model in models))
    vote = Vote(
        tuple(models), weights=weights, escalate_below=below, in_turn=in_turn, word="UNSURE"
    )
    early, script = played(vote, task, **says)
    late, whole = played(replace(vote, early_stop=False), task, **says)
    assert early.text == late.text
    assert early.error is late.error
    assert (script.asked[-1].role == "answer") is (whole.asked[-1].role == "answer")


def test_one_whose_share_of_a_limit_was_too_small_is_asked_alone() -> None:
    task = task_of({"a": (0.9, 1e-4), "b": (0.5, 1e-5)})
    flow = Vote(("a", "b")).answer(task)
    together = next(flow)
    assert isinstance(together, Together)
    dear = CostLimitError("dear")
    found = [Reply(ask.model, error=dear, done=True, was_asked=False) for ask in together.asks]
    asked = flow.send(found)
    assert (asked.model, asked.role) == ("a", "answer")
    last = flow.send(Reply("a", error=dear, done=True, was_asked=False))
    assert last.model == "b"
