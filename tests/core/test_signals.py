"""What tells a draft that is right from one that is wrong."""

# ruff: noqa: ANN401  # What a flow returns may be anything.

from __future__ import annotations

import math
from typing import Any

import pytest
from fakes_answers import Part, Said, Script, task_of
from hypothesis import given
from hypothesis import strategies as st

from crossroute import ConstraintError
from crossroute.strategies import Ask, Reply
from crossroute.strategies.answers import final_number
from crossroute.strategies.signals import (
    CONFIDENCE_QUESTION,
    Agreement,
    MeanLogprob,
    MinLogprob,
    PTrue,
    Signal,
    StatedConfidence,
    WindowLogprob,
    check_signals,
    stated_share,
)

TASK = task_of({"small": (0.6, 1e-4), "other": (0.7, 2e-4), "big": (0.9, 1e-2)}, logprobs=["small"])
DRAFT = Reply("small", "It is 391.", True, done=True, logprobs=[-0.1, -0.5, -3.0])
ALL: list[Signal] = [
    *(MeanLogprob(), MinLogprob(), WindowLogprob()),
    *(StatedConfidence(), PTrue(), Agreement(["big"])),
]


def read(signal: Signal, says: Part | list[Part] = "", draft: Reply = DRAFT, **more: Part) -> Any:
    script = Script({"small": says, **more})
    return script.play(signal.read(TASK, draft)), script.asked


@pytest.mark.parametrize("signal", ALL, ids=lambda one: one.name)
def test_each_is_a_signal_of_its_own_name(signal: Signal) -> None:
    assert check_signals([signal]) == (signal,)
    assert signal.name
    assert signal.cost_usd(TASK, "small") >= 0


def test_log_probabilities_are_asked_for_where_they_are_given() -> None:
    ask = Ask("small", settings={"temperature": 0}, role="draft")
    for signal in (MeanLogprob(), MinLogprob(), WindowLogprob()):
        prepared = signal.prepared(TASK, ask)
        assert prepared is not None
        assert prepared.settings == {"temperature": 0, "logprobs": True}
        assert prepared.role == "draft"
        assert signal.prepared(TASK, Ask("big")) is None
        assert signal.cost_usd(TASK, "small") == 0
    assert PTrue().prepared(TASK, ask) is ask
    assert PTrue().prepared(TASK, Ask("big")) is None
    assert StatedConfidence().prepared(TASK, Ask("big")) == Ask("big")


def test_log_probabilities_of_the_draft() -> None:
    assert read(MeanLogprob()) == (pytest.approx(-1.2), [])
    assert read(MinLogprob()) == (-3.0, [])
    odd = Reply("small", "a b", True, done=True, logprobs=[-math.inf, math.nan, -0.0])
    assert read(MeanLogprob(), draft=odd) == (-50.0, [])
    assert read(MinLogprob(), draft=odd) == (-100.0, [])
    assert read(WindowLogprob(1), draft=odd) == (-100.0, [])
    for none in ([], [math.nan]):
        silent = Reply("small", "a b", True, done=True, logprobs=none)
        assert read(MeanLogprob(), draft=silent) == (None, [])
        assert read(MinLogprob(), draft=silent) == (None, [])
        assert read(WindowLogprob(), draft=silent) == (None, [])


def test_the_least_likely_tokens_in_a_row() -> None:
    def lowest(window: int, *logprobs: float) -> float | None:
        return WindowLogprob(window).of(Reply("small", logprobs=[*logprobs]))

    assert lowest(2, -0.1, -0.5, -3.0) == pytest.approx(-1.75)
    assert lowest(2, -2.0, -0.5, -1.0, 0.0) == pytest.approx(-1.25)
    assert lowest(1, -0.1, -0.5, -3.0) == -3.0
    # A shorter draft is a row as a whole.
    assert lowest(3, -0.1, -0.5, -3.0) == lowest(20, -0.1, -0.5, -3.0) == pytest.approx(-1.2)
    # What it means depends on how many they are.
    assert WindowLogprob(2).name != WindowLogprob(3).name
    with pytest.raises(ConstraintError, match="window is 0; give a whole number from 1 up"):
        WindowLogprob(0)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.8", 0.8),
        ("I am about 85% sure.", 0.85),
        ("90 %", 0.9),
        ("75", 0.75),
        ("8/10", 0.8),
        ("1", 1.0),
        ("1%", 0.01),
        ("0", 0.0),
        (".5", 0.5),
        ("**0.25**", 0.25),
        ("-0.5", None),
        ("120 %", None),
        ("5000", None),
        ("3/0", None),
        ("very", None),
        ("", None),
        ("." * 10_000, None),
        ("0,8", 0.8),
        ("92,5 %", 0.925),
        ("8 out of 10", 0.8),
    ],
)
def test_a_stated_share_is_read_however_it_is_written(text: str, share: float | None) -> None:
    assert stated_share(text) == (None if share is None else pytest.approx(share))


@given(st.text())
def test_any_reply_states_a_share_or_none(text: str) -> None:
    share = stated_share(text)
    assert share is None or 0 <= share <= 1


def test_a_model_is_asked_how_sure_it_is_of_its_draft() -> None:
    value, (asked,) = read(StatedConfidence(seconds=3), "0.7")
    assert value == 0.7
    assert asked.model == "small"
    assert asked.role == "judge"
    assert asked.keep is None
    assert asked.seconds == 3
    assert asked.settings == {"max_tokens": 16}
    assert list(asked.then) == [
        {"role": "assistant", "content": "It is 391."},
        {"role": "user", "content": CONFIDENCE_QUESTION},
    ]
    assert asked.reason == "stated_confidence of the draft"


@pytest.mark.parametrize("says", ["no idea", TimeoutError("slow"), Said("0.7", refused=True)])
def test_where_the_question_fails_it_cannot_say(says: Part) -> None:
    assert read(StatedConfidence(), says)[0] is None


@pytest.mark.parametrize(
    ("says", "p"),
    [
        (Said("True", [math.log(0.9)] * 4), 0.9),
        (Said("False", [math.log(0.9)] * 5), 0.1),
        (Said(" true.", [math.log(0.25)] * 6), 0.25),
        (Said("True", [0.1] * 4), 1.0),
        (Said("True", [-math.inf] * 4), 0.0),
        (Said("True"), None),
        (Said("True", [math.nan] * 4), None),
        (Said("Truly", [-0.1] * 5), None),
        (Said("It is True", [-0.1] * 10), None),
        (TimeoutError("slow"), None),
    ],
)
def test_p_true_is_that_of_the_first_token(says: Part, p: float | None) -> None:
    value, (asked,) = read(PTrue(), says)
    assert value == (None if p is None else pytest.approx(p))
    assert asked.settings == {"logprobs": True, "max_tokens": 4}
    assert asked.role == "judge"


def test_p_true_is_not_asked_of_a_model_without_log_probabilities() -> None:
    big = Reply("big", "It is 391.", True, done=True)
    assert read(PTrue(), draft=big) == (None, [])


def test_agreement_is_the_share_of_others_that_say_the_same() -> None:
    signal = Agreement(("big", "gone", "small", "other"), seconds=4)
    value, asked = read(signal, other="391.0", big="It is 392.")
    assert value == 0.5
    assert [ask.model for ask in asked] == ["big", "other"]
    assert all(ask.role == "draft" and not ask.fresh and ask.seconds == 4 for ask in asked)
    assert all(ask.settings == {} for ask in asked)
    assert signal.cost_usd(TASK, "small") == pytest.approx(1.02e-2)
    assert signal.prepared(TASK, Ask("small")) == Ask("small")
    assert Agreement(["gone", "small"]).prepared(TASK, Ask("small")) is None
    assert read(Agreement(["gone"])) == (None, [])


def test_who_fails_is_left_out_and_who_says_nothing_does_not_agree() -> None:
    signal = Agreement(("big", "other"))
    assert read(signal, other="391", big=TimeoutError("slow"))[0] == 1
    assert read(signal, other="391", big="")[0] == 0.5
    assert read(signal, other=TimeoutError("slow"), big=TimeoutError("slow"))[0] is None


def test_samples_are_fresh_ones_of_the_draft_s_own_model() -> None:
    signal = Agreement(samples=3, temperature=0.8, extract=final_number)
    value, asked = read(signal, ["391", "7", "x 391 y"])
    assert value == pytest.approx(2 / 3)
    assert [ask.model for ask in asked] == ["small"] * 3
    assert all(ask.fresh and ask.settings == {"temperature": 0.8} for ask in asked)
    assert signal.cost_usd(TASK, "small") == pytest.approx(3e-4)
    assert read(Agreement(samples=1), "x")[1][0].settings == {}


def test_of_a_draft_that_says_nothing_to_compare_nobody_is_asked() -> None:
    silent = Reply("small", "Hm.", True, done=True)
    assert read(Agreement(["big"], extract=final_number), draft=silent) == (None, [])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Agreement(), r"others is \(\) and samples is 0; give one of the two"),
        (lambda: Agreement(["a"], samples=2), r"others is \['a'\] and samples is 2"),
        (lambda: Agreement("big"), "others is 'big'; give a tuple of ids"),
        (lambda: Agreement(["a", 3]), "others holds 3; give ids"),
        (lambda: Agreement(["a", "a"]), "others names a model twice"),
        (lambda: Agreement(samples=-1), "samples is -1; give a whole number from 0"),
        (lambda: Agreement(samples=True), "samples is True"),
        (lambda: Agreement(["a"], temperature=0), "temperature is 0; give a finite number above 0"),
        (lambda: Agreement(["a"], seconds=math.nan), "seconds is nan"),
        (lambda: Agreement(["a"], extract="x"), "extract is 'x'; give a function"),
        (lambda: StatedConfidence(question=" "), "question is ' '; give a question"),
        (lambda: StatedConfidence(max_tokens=0), "max_tokens is 0; give a whole number from 1"),
        (lambda: PTrue(seconds=-1), "seconds is -1"),
        (lambda: check_signals("mean"), "signals is 'mean'; give a tuple"),
        (lambda: check_signals([MeanLogprob]), "signals holds <class"),
        (lambda: check_signals(["mean"]), "signals holds 'mean'; give objects"),
        (lambda: Agreement(["a"], temperature=0.5), "temperature is of samples"),
        (lambda: check_signals([MeanLogprob("")]), "signals has one whose name is ''"),
        (lambda: check_signals([MeanLogprob(["x"])]), "signals has one whose name is"),  # type: ignore[arg-type]
        (
            lambda: check_signals([MeanLogprob(), MinLogprob("mean_logprob")]),
            "signals has 'mean_logprob' more than once; give each a name",
        ),
    ],
)
def test_bad_arguments_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        make()
