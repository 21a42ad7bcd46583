"""A cheap model writes, and a dearer one goes on where it becomes unsure."""

# ruff: noqa: ANN401  # What is handed on to a function of several.

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from fakes_answers import calibrated, calibrations, task_of
from fakes_streams import Bit, Shown, Streams, shown, spelled, text_of

from crossroute import ConstraintError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.strategies import (
    Ask,
    Calibration,
    Cascade,
    Ended,
    Handoff,
    Reply,
    Task,
    WindowLogprob,
    drive,
)
from crossroute.strategies.boundaries import Boundaries
from crossroute.strategies.going_on import GO_ON
from crossroute.strategies.lookout import Lookout
from crossroute.strategies.overlap import Seam

SURE, LOW = -0.1, -3.0
MODELS = {"small": (0.5, 0.001), "middle": (0.6, 0.005), "large": (0.9, 0.01)}
HANDOFF = Handoff(tau=-1.0, window=2, cheap="small")
BEGUN = "All is well. Let me see. "
BUSY = TimeoutError("busy")
WAYS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@pytest.fixture
def task() -> Task:
    return task_of(MODELS, math.inf, logprobs=["small", "middle"])


def unsure(begun: str = BEGUN, then: str = "It may be 371, I guess. So there") -> list[Bit]:
    """A text of a model that becomes unsure behind its beginning."""
    return [*spelled(begun.rstrip()), *spelled(begun[len(begun.rstrip()) :] + then, LOW)]


def answer(task: Task, streams: Streams, handoff: Handoff = HANDOFF, **how: Any) -> list[Shown]:
    return shown(task, handoff.answer, streams, **how)


# The stream


@WAYS
def test_it_is_handed_over_at_a_boundary(is_async: bool, task: Task) -> None:
    told: list[Ended] = []
    streams = Streams({"small": unsure(), "large": spelled("It is 391. Surely.")})
    parts = answer(task, streams, told=told.append, is_async=is_async)
    assert text_of(parts) == "All is well. Let me see. It is 391. Surely."
    cheap, strong = streams.asked
    assert (cheap.role, cheap.settings) == ("draft", {"logprobs": True})
    assert (strong.model, strong.role) == ("large", "draft")
    assert strong.reason == (
        "handed over after 24 characters: the mean log-probability of 2 tokens is -1.55, below "
        "-1.00; small goes on if all fail"
    )
    begun, go_on = strong.then
    assert begun == {"role": "assistant", "content": "All is well. Let me see."}
    assert go_on == {"role": "user", "content": GO_ON}
    # Nothing more of the cheap model is read once it is known, nor of anybody asked twice.
    assert "".join(streams.read["small"]) == "All is well. Let me see. It"
    assert streams.closed == ["small", "large"]
    assert not streams.replies[0].refused
    assert (told[0].model, told[0].text) == ("large", text_of(parts))
    assert [ask.charge["estimated"] for ask in told[0].asks] == [True, True]
    # The decision on the answer is that of the one who went on, and is on its first words.
    assert next(part for part in parts if part.is_marked).model == "large"
    assert text_of([part for part in parts if part.is_marked]) == "It is 391. Surely."


@WAYS
def test_it_streams_and_need_not_be_handed_over(is_async: bool, task: Task) -> None:
    text = "All is well. Let me see. It is 391. Surely."
    streams = Streams({"small": spelled(text)})
    parts = answer(task, streams, is_async=is_async)
    assert text_of(parts) == text
    assert streams.models == ["small"]
    # What is sure is shown while the rest is written; a part carries the decision.
    assert [part.text for part in parts] == [
        *("All", " is", " well."),
        *(" Let", " me", " see."),
        *(" It", " is", " 391."),
        " Surely.",
    ]
    assert [part.is_marked for part in parts] == [False] * 9 + [True]
    assert streams.asked[0].reason == (
        "writes as long as 2 tokens have a mean log-probability of -1.00 or more"
    )


def test_what_is_shown_is_shown_before_the_rest_is_read(task: Task) -> None:
    read: list[int] = []

    def of_small(ask: Ask) -> Any:
        for bit in spelled("All is well. Let me see. It is 391."):
            read.append(len(seen))
            yield bit

    streams = Streams({"small": of_small})
    seen: list[str] = []
    parts = drive(task, HANDOFF.answer(task), streams)
    seen.extend(part.text for part in parts)
    # The word behind a full stop tells that a sentence has ended there.
    assert read == [0, 0, 0, 0, 3, 3, 3, 6, 6]


def test_one_unlikely_token_is_no_reason(task: Task) -> None:
    bits = spelled("All is well. It is 391. So", lambda place: -1.5 if place == 4 else SURE)
    streams = Streams({"small": bits})
    assert text_of(answer(task, streams)) == "All is well. It is 391. So"
    assert streams.models == ["small"]


def test_what_may_yet_be_cut_is_not_shown(task: Task) -> None:
    """`Two.` is unlikely by itself; only the window behind it tells that it is cut."""
    bits = spelled("One. Two. Three. Four. Five.", lambda n: -2.5 if n == 1 else -0.6)
    handoff = replace(HANDOFF, window=3)
    streams = Streams({"small": bits, "large": spelled("II. III.")})
    assert text_of(answer(task, streams, handoff)) == "One. II. III."
    assert text_of(answer(task, Streams({"small": bits}), replace(handoff, tau=-2.0))) == text_of(
        [Shown("", bit.text, is_marked=False) for bit in bits]
    )


def test_an_answer_shorter_than_the_window_counts_as_a_whole(task: Task) -> None:
    handoff = replace(HANDOFF, window=20)
    bits = [*spelled("Yes. Or"), *spelled(" no", -2.0)]
    streams = Streams({"small": bits, "large": spelled("It is.")})
    assert text_of(answer(task, streams, handoff)) == "Yes. Or no"
    streams = Streams(
        {"small": [*spelled("Yes."), *spelled(" Or no", -9.0)], "large": [Bit("So.")]}
    )
    assert text_of(answer(task, streams, handoff)) == "Yes. So."
    assert "mean log-probability of 3 tokens" in streams.asked[1].reason
    assert "small goes on if all fail" in streams.asked[1].reason


@WAYS
def test_before_the_first_boundary_another_one_answers(is_async: bool, task: Task) -> None:
    streams = Streams({"small": unsure("I"), "large": spelled("It is 391.")})
    parts = answer(task, streams, is_async=is_async)
    assert text_of(parts) == "It is 391."
    assert all(part.is_marked for part in parts)
    strong = streams.asked[1]
    # It streams natively, as any answer.
    assert (strong.role, strong.then, strong.settings) == ("answer", (), {})
    assert strong.reason.startswith("handed over after 0 characters")
    assert streams.closed == ["small", "large"]


def test_a_part_of_several_tokens_is_cut_where_it_begins(task: Task) -> None:
    bits = [Bit("One. Two", (SURE,) * 2), Bit(". Three. Four. Five.", (SURE, LOW, LOW))]
    streams = Streams({"small": bits, "large": spelled("II.")})
    assert text_of(answer(task, streams)) == "One. II."


def test_a_whole_answer_in_one_part_makes_it_a_cascade(task: Task) -> None:
    logprobs = (SURE,) * 6 + (LOW, LOW)
    streams = Streams(
        {"small": [Bit("All is well. It may be 371.", logprobs)], "large": spelled("It is 391.")}
    )
    assert text_of(answer(task, streams)) == "It is 391."
    assert streams.asked[1].role == "answer"
    kept = Streams({"small": [Bit("All is well. It may be 371.", (SURE,) * 8)]})
    assert text_of(answer(task, kept)) == "All is well. It may be 371."


@WAYS
def test_a_whole_answer_shows_nothing_before_it_is_made(is_async: bool, task: Task) -> None:
    """So that others may be asked when one fails behind its first words."""
    whole = replace(task, is_whole=True)
    streams = Streams(
        {
            "small": unsure(),
            "large": [*spelled("It is so"), BUSY],
            "middle": spelled("It is 391."),
        }
    )
    assert text_of(answer(whole, streams, is_async=is_async)) == BEGUN + "It is 391."
    # Nor does anybody go on from a text that broke.
    streams = Streams({"small": [*spelled("All is well. Hm"), BUSY], "large": spelled("It is.")})
    assert text_of(answer(whole, streams, is_async=is_async)) == "It is."
    # Where no log-probabilities come, it is read to its end, too.
    streams = Streams({"small": [Bit("All"), Bit(" is"), BUSY], "large": spelled("It is.")})
    assert text_of(answer(whole, streams, is_async=is_async)) == "It is."
    # One that came in one part stands if all fail.
    part = [Bit("All is well.", (LOW,) * 3)]
    streams = Streams({"small": part, "large": [BUSY], "middle": [BUSY]})
    assert text_of(answer(whole, streams, is_async=is_async)) == "All is well."
    assert streams.models == ["small", "large", "middle"]


# The seam


@pytest.mark.parametrize(
    ("then", "found"),
    [
        ("It is 391.", "All is well. Let me see. It is 391."),
        (" It is 391.", "All is well. Let me see. It is 391."),
        ("Let me see. It is 391.", "All is well. Let me see. It is 391."),
        ("All is well. Let me see. It is 391.", "All is well. Let me see. It is 391."),
        ("All is well. Let me see.\n\nIt is 391.", "All is well. Let me see. \n\nIt is 391."),
        ("All is fine. It is 391.", "All is well. Let me see. All is fine. It is 391."),
        ("All is well. Let me see.", "All is well. Let me see. "),
        ("", "All is well. Let me see. "),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_repeated_is_dropped(size: int, then: str, found: str, task: Task) -> None:
    parts = [Bit(then[at : at + size]) for at in range(0, len(then), size)] or [Bit("")]
    streams = Streams({"small": unsure(), "large": parts})
    assert text_of(answer(task, streams)) == found


@pytest.mark.parametrize("space", [" ", "\n"])
def test_much_white_space_before_what_is_new(space: str) -> None:
    seam, text = Seam("All is well. "), "All is"
    for more in (*[space] * 10_000, "well."):
        text += more
        assert seam.start(text, done=False) is None
    assert seam.start(f"{text} So", done=True) == len(text) + 1


def test_white_space_of_the_cheap_model_stays(task: Task) -> None:
    streams = Streams(
        {"small": unsure("# All\n\n- One\n", "    - It may"), "large": [Bit("- Two")]}
    )
    assert text_of(answer(task, streams)) == "# All\n\n- One\n- Two"
    assert streams.asked[1].then[0]["content"] == "# All\n\n- One"


def test_a_block_of_code_is_not_cut(task: Task) -> None:
    begun = "So:\n```\nx = 1\ny = 2\n"
    streams = Streams({"small": unsure(begun, "z = 3\n```\n"), "large": [Bit("```\nx = 0\n```")]})
    assert text_of(answer(task, streams)) == "So:\n```\nx = 0\n```"


def test_one_that_prefills_goes_on_from_the_text_itself(task: Task) -> None:
    pool = {**task.pool, "large": ModelDescriptor(id="large", capabilities=("prefill",))}
    streams = Streams({"small": unsure(), "large": spelled(" It is 391.")})
    assert text_of(answer(replace(task, pool=pool), streams)) == BEGUN + "It is 391."
    assert streams.asked[1].then == ({"role": "assistant", "content": "All is well. Let me see."},)


def test_together_they_keep_to_the_limit_of_the_call(task: Task) -> None:
    limited = replace(task, query=replace(task.query, output_tokens=100))
    streams = Streams({"small": unsure(), "large": spelled("It is 391.")})
    answer(limited, streams)
    assert "max_tokens" not in streams.asked[0].settings
    assert 85 <= streams.asked[1].settings["max_tokens"] <= 98
    tiny = replace(task, query=replace(task.query, output_tokens=1))
    answer(tiny, streams)
    assert streams.asked[3].settings == {"max_tokens": 1}


def test_who_has_no_room_for_the_text_is_not_asked(task: Task) -> None:
    window = round(task.query.input_tokens) + 3
    large = ModelDescriptor(id="large", context_window_tokens=window)
    streams = Streams({"small": unsure(), "middle": spelled("It is 391.")})
    short = replace(task, pool={**task.pool, "large": large})
    assert text_of(answer(short, streams)) == BEGUN + "It is 391."
    assert streams.models == ["small", "middle"]


# What goes wrong


@WAYS
def test_who_cannot_go_on_is_followed_by_the_next_one(is_async: bool, task: Task) -> None:
    streams = Streams(
        {"small": unsure(), "large": [Bit("All is"), BUSY], "middle": spelled("It is 391.")}
    )
    assert text_of(answer(task, streams, is_async=is_async)) == BEGUN + "It is 391."
    assert streams.models == ["small", "large", "middle"]
    assert streams.told == [{"model": "large", "error": "busy", "next": "middle"}]


@WAYS
@pytest.mark.parametrize("begun", [BEGUN, "I"])
def test_at_last_the_cheap_model_goes_on_itself(is_async: bool, begun: str, task: Task) -> None:
    bits = unsure(begun)
    streams = Streams({"small": bits, "large": [BUSY], "middle": [BUSY]})
    parts = answer(task, streams, is_async=is_async)
    assert text_of(parts) == "".join(bit.text for bit in bits)
    assert parts[-1] == Shown("small", " there", is_marked=True)
    assert streams.models == ["small", "large", "middle"]


def test_a_text_that_has_ended_stands_if_all_fail(task: Task) -> None:
    text = "One. It may be"
    bits = [*spelled("One."), *spelled(" It may be", -9.0)]
    for tokens in (bits, [Bit(text, (-9.0,) * 4)]):
        handoff = replace(HANDOFF, window=20)
        streams = Streams({"small": tokens, "large": [BUSY], "middle": [BUSY]})
        parts = answer(task, streams, handoff)
        assert text_of(parts) == text
        assert parts[-1].model == "small"
        assert streams.models == ["small", "large", "middle"]


@WAYS
def test_if_all_fail_the_error_is_raised(is_async: bool, task: Task) -> None:
    slow = TimeoutError("slow")
    streams = Streams({"small": [*unsure(), BUSY], "large": [slow], "middle": [slow]})
    with pytest.raises(TimeoutError, match="busy"):
        answer(task, streams, is_async=is_async)
    streams = Streams({"small": [BUSY], "large": [BUSY], "middle": [slow]})
    with pytest.raises(TimeoutError, match="slow"):
        answer(task, streams, is_async=is_async)
    assert streams.models == ["small", "large", "middle"]


def test_one_that_fails_after_its_first_words_fails_the_stream(task: Task) -> None:
    streams = Streams({"small": unsure(), "large": [*spelled("It is so"), BUSY]})
    with pytest.raises(TimeoutError, match="busy"):
        answer(task, streams)
    assert streams.models == ["small", "large"]


@WAYS
def test_a_cheap_model_that_fails(is_async: bool, task: Task) -> None:
    streams = Streams({"small": [BUSY], "large": spelled("It is 391.")})
    assert text_of(answer(task, streams, is_async=is_async)) == "It is 391."
    assert streams.asked[1].reason == (
        "handed over after 0 characters: the cheap model failed (TimeoutError)"
    )
    assert streams.told == [{"model": "small", "error": "busy", "next": "large"}]
    # After something of it was shown, it is gone on from there.
    bits = [*spelled("All is well. Let me see. Hm"), BUSY]
    streams = Streams({"small": bits, "large": spelled("It is 391.")})
    assert text_of(answer(task, streams, is_async=is_async)) == BEGUN + "It is 391."
    # Nor is it asked again.
    streams = Streams({"small": bits, "large": [BUSY], "middle": [TimeoutError("slow")]})
    with pytest.raises(TimeoutError, match="slow"):
        answer(task, streams, is_async=is_async)
    assert streams.models == ["small", "large", "middle"]


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_cheap_model_that_says_nothing(text: str, task: Task) -> None:
    streams = Streams({"small": [Bit(text, (SURE,))], "large": spelled("It is 391.")})
    assert text_of(answer(task, streams)) == "It is 391."
    assert streams.asked[1].reason.endswith("the cheap model says nothing")
    streams = Streams({"small": [Bit(text)], "large": [BUSY], "middle": [BUSY]})
    with pytest.raises(TimeoutError):
        answer(task, streams)


def test_refusals(task: Task) -> None:
    no = Bit("I will not.", refused=True)
    streams = Streams({"small": [no], "large": spelled("It is 391.")})
    assert text_of(answer(task, streams)) == "It is 391."
    assert streams.asked[1].reason.endswith("the cheap model refuses")
    # Of those that go on, only if it is wished.
    streams = Streams({"small": unsure(), "large": [no], "middle": spelled("It is 391.")})
    assert text_of(answer(task, streams)) == BEGUN + "I will not."
    passing = replace(HANDOFF, pass_refusals=True)
    assert text_of(answer(task, streams, passing)) == BEGUN + "It is 391."
    # Else the cheap model goes on itself.
    bits = unsure()
    streams = Streams({"small": bits, "large": [no], "middle": [no]})
    assert text_of(answer(task, streams, passing)) == "".join(bit.text for bit in bits)


def test_a_bug_is_raised(task: Task) -> None:
    streams = Streams({"small": unsure(), "large": [KeyError("bug")]})
    with pytest.raises(KeyError, match="bug"):
        answer(task, streams)


def test_attempts(task: Task) -> None:
    bits = unsure()
    streams = Streams({"small": bits, "large": [BUSY], "middle": spelled("It is.")})
    found = text_of(answer(task, streams, replace(HANDOFF, attempts=1)))
    assert found == "".join(bit.text for bit in bits)
    assert streams.models == ["small", "large"]


# Who writes, and when it is handed over


@pytest.mark.parametrize("text", ["It may be. It", "It may be"])
def test_without_log_probabilities_a_text_stands_under_tau(text: str, task: Task) -> None:
    bits = [Bit(bit.text) for bit in spelled(text)]
    streams = Streams({"small": bits})
    parts = answer(task, streams)
    assert text_of(parts) == text
    # It streams from its first word on.
    assert [part.text for part in parts] == [bit.text for bit in bits]


NAME = WindowLogprob(2).name


def by(*given: Calibration, **settings: Any) -> Handoff:
    return Handoff(calibrations(*given), window=2, **settings)


def known(model: str = "small", *, low: float = -2.0, prior: float = 0.0) -> Calibration:
    return calibrated(model, NAME, low=low, prior=prior)


@pytest.mark.parametrize(
    ("models", "settings", "asked"),
    [
        # The prediction of the model itself takes the place of the signal.
        ({"small": (0.5, 0.001), "large": (0.9, 0.01)}, {}, ["small", "large"]),
        ({"small": (0.95, 0.001), "large": (0.9, 0.01)}, {}, ["small"]),
        ({"small": (0.3, 0.001), "large": (0.9, 0.01)}, {"accuracy": 0.7}, ["small", "large"]),
        ({"small": (0.99, 0.001), "large": (0.9, 0.01)}, {"accuracy": 0.7}, ["small"]),
        ({"small": (0.85, 0.001), "large": (0.9, 0.01)}, {"accuracy": 0.7}, ["small", "large"]),
        ({"small": (0.5, 0.001), "large": (0.9, 0.01)}, {"escalate_at_most": 0.2}, ["small"]),
        ({"small": (0.1, 0.001), "large": (0.9, 0.01)}, {"escalate_at_most": 0.2}, ["small"]),
    ],
)
def test_without_log_probabilities_the_prediction_decides(
    models: dict[str, tuple[float, float]], settings: dict[str, Any], asked: list[str]
) -> None:
    task = task_of(models, math.inf, logprobs=["small"])
    bits = [Bit(bit.text) for bit in spelled("It may be 371. So")]
    streams = Streams({"small": bits, "large": spelled("It is 391.")})
    answer(task, streams, by(known(), cheap="small", **settings))
    assert streams.models == asked
    if asked[1:]:
        assert "no log-probabilities came" in streams.asked[1].reason
        assert streams.read["small"] == ["It"]
    # As a cascade does whose signal cannot say.
    cascade = Cascade(calibrations(known()), (WindowLogprob(2),), cheap="small", **settings)
    streams = Streams({"small": bits, "large": spelled("It is 391.")})
    shown(task, cascade.answer, streams)
    assert streams.models == asked


def handed(task: Task, handoff: Handoff, logprob: float) -> bool:
    """Whether a text is handed over whose tokens are that likely."""
    streams = Streams({model: spelled("One. Two. Three.", logprob) for model in task.pool})
    answer(task, streams, handoff)
    return len(streams.models) > 1


@pytest.mark.parametrize("willingness", [0.003, 0.01, 0.02, 0.1, math.inf])
@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_it_is_handed_over_where_a_cascade_escalates(willingness: float, prior: float) -> None:
    models = {"small": (0.5, 0.0005), "large": (0.9, 0.002)}
    task = task_of(models, willingness, logprobs=["small"])
    found = calibrations(known(prior=prior))
    handoff = Handoff(found, window=2, cheap="small")
    cascade = Cascade(found, (WindowLogprob(2),), cheap="small")
    for logprob in (-2.5, -2.0, -1.7, -1.3, -1.0, -0.7, -0.41, -0.2, -0.05):
        streams = Streams({model: spelled("One. Two. Three.", logprob) for model in models})
        shown(task, cascade.answer, streams)
        assert handed(task, handoff, logprob) == (len(streams.models) > 1), logprob


@pytest.mark.parametrize(
    ("settings", "tau"), [({"escalate_at_most": 0.25}, -1.5), ({"accuracy": 0.75}, -1.0)]
)
def test_targets(settings: dict[str, Any], tau: float) -> None:
    """A quarter of the drafts has a p below .255, and the mean of those above .5 is .75."""
    task = task_of({"small": (0.5, 0.001), "large": (0.999, 0.01)}, 0.0001, logprobs=["small"])
    handoff = by(known(), **settings)
    assert handed(task, handoff, tau - 0.05)
    assert not handed(task, handoff, tau + 0.05)


def test_who_is_no_better_is_not_asked_for_a_target() -> None:
    task = task_of({"small": (0.5, 0.001), "large": (0.3, 0.01)}, 0.01, logprobs=["small"])
    handoff = by(known(), escalate_at_most=0.9)
    assert not handed(task, handoff, -1.0)
    assert handed(task, handoff, -1.9)


@pytest.mark.parametrize(("wrong", "first"), [(1, "middle"), (101, "small")])
def test_the_one_whose_drafts_are_worth_most_writes_first(wrong: int, first: str) -> None:
    models = {"small": (0.5, 0.001), "middle": (0.6, 0.002), "large": (0.99, 0.1)}
    task = task_of(models, 1.0, logprobs=list(models))
    often_right = {"signal_percentiles": (0.05,) * wrong + (0.97,) * (101 - wrong)}
    middle = known("middle").model_copy(update=often_right)
    streams = Streams({model: spelled("One.") for model in models})
    answer(task, streams, by(known("small"), middle))
    assert streams.models == [first]


def test_asked_at_once(task: Task) -> None:
    def reason(task: Task, handoff: Handoff) -> tuple[str, str]:
        streams = Streams({model: spelled("It is 391.") for model in MODELS})
        assert text_of(answer(task, streams, handoff)) == "It is 391."
        (ask,) = streams.asked
        assert (ask.role, ask.settings) == ("answer", {})
        return ask.model, ask.reason

    nobody = "asked at once: no candidate's text is worth looking at"
    # One candidate; none that gives log-probabilities; none that is cheaper; none that is here.
    alone = task_of({"small": (0.5, 0.001)}, math.inf, logprobs=["small"])
    assert reason(alone, Handoff(tau=-1)) == ("small", nobody)
    mute = task_of(MODELS, math.inf)
    assert reason(mute, Handoff(tau=-1)) == ("large", nobody)
    unable = "asked at once: small cannot write first"
    assert reason(alone, HANDOFF) == ("small", unable)
    assert reason(mute, HANDOFF) == ("large", unable)
    assert reason(task_of(MODELS, math.inf, logprobs=["large"]), Handoff(tau=-1)) == (
        "large",
        nobody,
    )
    assert (
        reason(task, Handoff(tau=-1, cheap="gone"))[1] == "asked at once: gone cannot write first"
    )
    assert reason(task, by(known("gone"))) == ("large", nobody)
    # However sure it is, another one is worth more; or none ever is.
    sure = task_of({"small": (0.5, 0.001), "large": (0.995, 0.01)}, math.inf, logprobs=["small"])
    always = "asked at once: small would always hand over"
    assert reason(sure, by(known(), cheap="small")) == ("large", always)
    # Nor does the router's own choice, where a target wants another one.
    own = task_of({"small": (0.5, 0.001), "large": (0.995, 1.0)}, 0.01, logprobs=["small"])
    assert own.decision.model == "small"
    assert reason(own, by(known(), accuracy=0.999)) == ("large", always)
    cheap = task_of(MODELS, 0.0, logprobs=["small"])
    never = ("small", "asked at once: small would never hand over")
    assert reason(cheap, by(known(), cheap="small")) == never


def test_who_goes_on(task: Task) -> None:
    def second(handoff: Handoff) -> str:
        said = unsure()
        streams = Streams(dict.fromkeys(MODELS, said) | {"large": spelled("It is.")})
        answer(task, streams, handoff)
        return streams.models[1]

    assert second(HANDOFF) == "large"
    assert second(replace(HANDOFF, strong="middle")) == "middle"
    # One that is no candidate leaves it to the router.
    assert second(replace(HANDOFF, strong="gone")) == "large"
    assert second(by(known(), cheap="small", strong="middle")) == "middle"
    # Without `cheap`, the cheapest that may.
    assert second(replace(HANDOFF, cheap=None)) == "large"
    both = Streams({"middle": unsure(), "small": spelled("It is.")})
    answer(task, both, replace(HANDOFF, cheap=None, strong="small"))
    assert both.models == ["middle", "small"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Nothing says when to hand over: calibrations has none of window_logprob_20 for any"),
        ({"calibrations": calibrations()}, "has none of window_logprob_20"),
        ({"calibrations": calibrations(known())}, "has none of window_logprob_20"),
        (
            {"calibrations": calibrations(known()), "window": 2, "cheap": "x"},
            "window_logprob_2 for 'x'",
        ),
        ({"calibrations": 7, "tau": -1.0}, "calibrations is int"),
        ({"tau": -1.0, "calibrations": calibrations(known())}, "either tau or calibrations"),
        ({"tau": 0}, "tau is 0; give a finite log-probability below 0"),
        ({"tau": 0.5}, r"tau is 0.5"),
        ({"tau": -math.inf}, "tau is -inf"),
        ({"tau": math.nan}, "tau is nan"),
        ({"tau": True}, "tau is True"),
        ({"tau": -(10**400)}, "tau is -1"),
        ({"tau": "-1"}, "tau is '-1'"),
        ({"tau": -1, "window": 0}, "window is 0; give a whole number from 1 up"),
        ({"tau": -1, "window": 2.0}, "window is 2.0"),
        ({"tau": -1, "cheap": ""}, "cheap is ''"),
        ({"tau": -1, "strong": 7}, "strong is 7"),
        ({"tau": -1, "cheap": "a", "strong": "a"}, "cheap and strong are both 'a'"),
        ({"tau": -1, "accuracy": 0.5}, "need calibrations in place of tau"),
        ({"tau": -1, "escalate_at_most": 2}, "escalate_at_most is 2"),
        (
            {
                "calibrations": calibrations(known()),
                "window": 2,
                "accuracy": 0.5,
                "escalate_at_most": 0.5,
            },
            "either escalate_at_most or accuracy",
        ),
        ({"tau": -1, "seconds": 0}, "seconds is 0"),
        ({"tau": -1, "attempts": 0}, "attempts is 0"),
        ({"tau": -1, "pass_refusals": 1}, "pass_refusals is 1"),
    ],
)
def test_what_makes_no_sense(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Handoff(**given)


# Any stream

TEXTS = ["One. Two", " three. ", "Four\n", "\n\nFive", " 6.5 e.g. Six. ", "```\na. B\n", "```\n"]
PIECES = [*TEXTS, "。七", " eight!", " Nine", "?", " ", "So. So. So. "]


def random_tokens(random: Random) -> list[Bit]:
    def logprob() -> float:
        return random.choice([0.0, -0.1, -0.5, -0.99, -1.0, -1.01, -2.0, -8.0])

    count = random.randrange(1, 30)
    return [Bit(random.choice(PIECES), (logprob(),)) for _ in range(count)]


def in_parts(tokens: list[Bit], random: Random) -> list[Bit]:
    """The tokens, some of them together."""
    parts: list[Bit] = []
    for token in tokens:
        if parts and random.random() < 0.3:
            last = parts.pop()
            token = Bit(last.text + token.text, last.logprobs + token.logprobs)
        parts.append(token)
    return parts


def cut_of(parts: list[Bit], window: int, tau: float) -> tuple[int, int] | None:
    """By brute force: where it is cut, and how many parts tell; None if it is not."""
    tokens = [
        (logprob, len("".join(part.text for part in parts[:place])), place)
        for place, part in enumerate(parts)
        for logprob in part.logprobs
    ]
    rows = [tokens[at : at + window] for at in range(len(tokens) - window + 1)] or [tokens]
    for row in rows:
        if math.fsum(one[0] for one in row) / len(row) < tau - 1e-9:
            start = next(one[1] for one in row if one[0] < tau - 1e-9)
            count = row[-1][2] + 1 if len(row) == window else len(parts)
            found = Boundaries()
            found.read("".join(part.text for part in parts[:count]))
            return max(at for at in found.found if at <= start), count
    return None


@pytest.mark.parametrize("seed", range(400))
def test_any_stream(seed: int) -> None:
    random = Random(seed)
    task = task_of(MODELS, math.inf, logprobs=["small"])
    window = random.choice([1, 2, 3, 5, 20])
    handoff = replace(HANDOFF, window=window)
    tokens = random_tokens(random)
    parts = in_parts(tokens, random)
    text = "".join(part.text for part in parts)
    then = random.choice(["II.", "\nII.", " II. Two three.", "So. So. II.", "", text[-30:]])
    # Not in bits: what comes at once of it is another test's.
    streams = Streams({"small": parts, "large": [Bit(then)] if then else [Bit("", refused=False)]})
    read = text_of(answer(task, streams, handoff))
    cut = cut_of(parts, window, -1.0)
    value = WindowLogprob(window).of(Reply("x", logprobs=[one.logprobs[0] for one in tokens]))
    assert value is not None
    # However its tokens come, the same answers are handed over: those that the signal tells.
    assert (cut is not None) == (value < -1.0 - 1e-9)
    if not text.strip():
        assert streams.models[:2] == ["small", "large"]
        return
    assert streams.models == (["small"] if cut is None else ["small", "large"])
    if cut is None:
        assert read == text
        return
    end, count = cut
    assert streams.read["small"] == [part.text for part in parts[:count]]
    if not end:
        assert read == then
        return
    came = "".join(part.text for part in parts[:count])
    space = came[end : len(came) - len(came[end:].lstrip())]
    kept = came[:end] + (space[: space.rfind("\n") + 1] or space)
    start = Seam(kept).start(then, done=True)
    assert start is not None
    assert read == kept + then[start:]


@pytest.mark.parametrize("seed", range(300))
def test_what_is_sure_stays_so(seed: int) -> None:
    """Nothing is cut that was shown, however the tokens come."""
    random = Random(seed)
    window = random.choice([1, 2, 4, 9])
    tokens = random_tokens(random)
    falls = []
    for parts in (in_parts(tokens, random), tokens):
        lookout, reply = Lookout(window, -1.0), Reply("small")
        for part in parts:
            reply.text += part.text
            reply.logprobs += part.logprobs
            lookout.until(reply)
            if lookout.fall is not None:
                break
            assert lookout.sure >= lookout.shown
            lookout.shown = lookout.sure
        else:
            lookout.end()
        assert lookout.cut >= lookout.shown
        falls.append(None if lookout.fall is None else lookout.fall[:2])
    # The same tokens are too unlikely.
    assert falls[0] == falls[1]


@pytest.mark.parametrize("window", [1_000, 10**30])
def test_a_window_larger_than_any_text(window: int, task: Task) -> None:
    streams = Streams({"small": spelled("All is well. So.")})
    assert text_of(answer(task, streams, replace(HANDOFF, window=window))) == "All is well. So."


def test_odd_log_probabilities() -> None:
    lookout, reply = Lookout(2, -1.0), Reply("small", "One.", logprobs=[math.nan, -math.inf])
    lookout.until(reply)
    assert lookout.fall is None
    reply.logprobs += [math.nan, 0.0]
    lookout.until(reply)
    assert lookout.fall is not None
    assert lookout.fall.mean == -50.0
    # Equal but for the last digits.
    lookout, reply = Lookout(3, -0.1), Reply("small", "One.", logprobs=[-0.1] * 3)
    lookout.until(reply)
    assert lookout.fall is None
    # A chain whose last model begins anew.
    lookout, reply = Lookout(2, -1.0), Reply("small", "One.", logprobs=[-9.0])
    lookout.until(reply)
    reply.logprobs[:] = []
    lookout.until(reply)
    reply.logprobs[:] = [-0.1]
    lookout.until(reply)
    reply.logprobs.append(-0.1)
    lookout.until(reply)
    assert lookout.fall is None
