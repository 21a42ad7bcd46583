"""Log-probabilities of an answer, out of what providers list."""

from __future__ import annotations

import math

import pytest

from crossroute.logprobs import of_answer


def test_they_are_in_order_and_at_most_0() -> None:
    tokens = [
        ("I", -0.5),
        (" am", 1e-9),
        ("x", None),
        ("y", math.nan),
        ("z", -math.inf),
        (None, -2),
    ]
    assert of_answer(tokens) == [-0.5, 0.0, -math.inf, -2.0]
    assert of_answer([]) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I am.", [-3.0, -4.0]),
        ("am.", [-4.0]),
        ("", []),
        ("a longer answer than that", [-1, -2, -3, -4]),
    ],
)
def test_those_of_reasoning_are_left_out(text: str, found: list[float]) -> None:
    tokens = [("Hm", -1.0), (", well", -2.0), ("I", -3.0), (" am.", -4.0)]
    assert of_answer(tokens, text) == found


def test_without_their_texts_nobody_knows_which_are_of_the_answer() -> None:
    assert of_answer([(None, -1.0), (None, -2.0)], "I am.") == []


def test_the_end_is_no_token_of_the_answer() -> None:
    tokens = [("", -0.5), ("I", -1.0), (" am.", -2.0), ("", -3.0)]
    assert of_answer(tokens) == [-0.5, -1.0, -2.0]
    assert of_answer(tokens, " am.") == [-2.0]
    assert of_answer([("", -3.0)]) == []
