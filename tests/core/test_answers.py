"""What answers say, in a form in which they can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossroute import ConstraintError
from crossroute.strategies.answers import (
    READ_CHARACTERS,
    choice,
    final_answer,
    final_number,
    json_value,
    normalised_text,
)

EXTRACTORS: list[Callable[[str], str | None]] = [
    final_number,
    choice,
    json_value(),
    json_value("a", 0),
    normalised_text,
    final_answer,
]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,000", "1000"),
        ("It costs $1,000.00 in total.", "1000"),
        ("17 * 23 is 391.", "391"),
        ("First 12, then 15. The answer is 42 apples, not 41.", "42"),
        ("So it is \\boxed{1{,}234.5}, which is 3 more.", "1234.5"),
        ("**Answer:** 7\n\nI checked it 2 times.", "7"),
        ("3 + 4 = 7", "7"),
        ("The answer is 3 + 4 = 7.", "7"),
        ("\u22123.50 km", "-3.5"),
        ("-0", "0"),
        ("50%", "50"),
        ("1/4", "0.25"),
        ("\\frac{1}{4}", "0.25"),
        ("2 \\times 10^{3}", "2000"),
        ("1e3", "1000"),
        ("#### 42", "42"),
        ("0.1 + 0.2 = 0.30000000000000004", "0.3"),
        ("1 234 567 km", "1234567"),
        ("The answer is 12 500.", "12500"),
        ("3 1000", "1000"),
        ("none", None),
        ("", None),
        ("1e999", None),
    ],
)
def test_a_number_is_read_however_it_is_written(text: str, number: str | None) -> None:
    assert final_number(text) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("C.", "C"),
        ("**C**", "C"),
        ("c", "C"),
        ("(B) Paris", "B"),
        ("\\boxed{D}", "D"),
        ("Not A or B. It must be C", "C"),
        ("Answer: option j", "J"),
        ("A dog is an animal.", None),
        ("I think so.", None),
        ("It is K.", None),
        ("", None),
    ],
)
def test_a_letter_of_an_option_is_no_article(text: str, letter: str | None) -> None:
    assert choice(text) == letter


def test_json_is_compared_by_what_it_holds() -> None:
    assert json_value()('{"b": 1.0, "a": [true, null]}') == '{"a":[true,null],"b":1}'
    fenced = 'See [1].\n```json\n{"a": [true, null], "b": 1}\n```\nDone.'
    assert json_value()(fenced) == '{"a":[true,null],"b":1}'
    assert json_value("a", -1)(fenced) == "null"
    assert json_value("a", 0)(fenced) == "true"
    assert json_value("b")(fenced) == "1"
    for path in [("c",), ("a", 2), ("a", "0"), ("b", "c"), (0,)]:
        assert json_value(*path)(fenced) is None
    assert json_value()("no JSON {here") is None
    assert json_value()("[" * 100_000) is None


@pytest.mark.parametrize("part", [None, 1.5, True, ["a"]])
def test_what_is_no_path_is_refused(part: object) -> None:
    with pytest.raises(ConstraintError, match="no part of a path; give keys as text"):
        json_value("a", part)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Paris.", "paris"),
        ("**New  York**!", "a new york"),
        ("an answer, (really)", "Answer: really"),
        ("1,000 m", "1000 M."),
        ("well-known", "well known"),
        ("\u201cyes\u201d", "Yes"),
    ],
)
def test_texts_are_alike_but_for_their_form(one: str, other: str) -> None:
    assert normalised_text(one) == normalised_text(other) is not None


@pytest.mark.parametrize(
    ("one", "other"), [("-5", "5"), ("3.5", "3 5"), ("x > 3", "x < 3"), ("C++", "C"), ("a", "the")]
)
def test_what_makes_another_answer_is_kept(one: str, other: str) -> None:
    assert normalised_text(one) != normalised_text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Answer: A dog", "Answer: A cat"),
        ("The answer is 12 May 1945", "The answer is 12 June 1944"),
        ("Answer: 3 May 1945", "Answer: 5 May 1945"),
        ("\\boxed{3\\sqrt{2}}", "\\boxed{5\\sqrt{2}}"),
        ("\\boxed{2\\pi}", "\\boxed{2}"),
        ("\\boxed{x^2+1}", "\\boxed{x^2-1}"),
        ("\\boxed{(1, 3)}", "\\boxed{(2, 3)}"),
        ("\\boxed{(1,3)}", "\\boxed{(1,4)}"),
        ("Answer: x = 2, y = 3", "Answer: x = 2, y = 4"),
        ("Answer: 3x + 2", "Answer: 5x + 2"),
        ("Answer: 2 + 3i", "Answer: 4 + 3i"),
        ("Answer: from 3 to 5", "Answer: from 4 to 5"),
        ("Answer: 12:30", "Answer: 11:30"),
    ],
)
def test_the_default_compares_all_of_a_stated_result(one: str, other: str) -> None:
    found = final_answer(one), final_answer(other)
    assert None not in found
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42, not 40.", "42"),
        ("The answer is 42 (6 * 7).", "42"),
        ("The answer is 42, since 6 * 7 = 42.", "42"),
        ("The answer is 6 * 7 = 42.", "42"),
        ("The answer is A because it is red.", "A"),
        ("Answer: $1,000.50", "1000.5"),
        ("Answer: 9 m/s", "9"),
        ("\\boxed{2 \\times 10^{3}}", "2000"),
        ("Answer: 1/2 of it", "0.5"),
    ],
)
def test_what_stands_beside_a_stated_result_is_left_out(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_punctuation_of_other_scripts_is_left_out() -> None:
    assert normalised_text("\u5df4\u9ece\u3002") == "\u5df4\u9ece"
    assert normalised_text("\u00bf\u00abMadrid\u00bb?") == "madrid"


def test_a_text_with_nothing_in_it_says_nothing() -> None:
    assert normalised_text(" . ") is None
    assert normalised_text("word " * READ_CHARACTERS) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"city": "Paris"}', '{"city":"Paris"}'),
        ('```json\n{"city": "Paris"}\n```', '{"city":"Paris"}'),
        ("First (A), then\n\nThe answer is (B).", "B"),
        ("B) Paris", "B"),
        ("Of 12 apples 5 are left, so\n\\boxed{7}", "7"),
        ("It is 7.", "7"),
        ("Let us see.\nIn 1850 it was small.\nThe answer is Paris.", "paris"),
        ("Paris", "paris"),
        ("It was founded in 1850, a long time ago.\nIt is Paris.", "it is paris"),
        ("a long text that says this and that, states no result at all, and goes on", None),
        ("", None),
        (" \n ", None),
    ],
)
def test_the_default_goes_by_what_the_text_looks_like(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


PIECES = [
    "\\boxed{",
    "}",
    "{",
    "[",
    "answer",
    " is ",
    ":",
    "1,",
    "234",
    "-",
    "1/2",
    "e9",
    "**",
    "A",
]
PIECES += ["```json\n", "\n", '"a":', "\\frac{", "x10^", " ", "\u2212", "\ufdfa", "\ud800", "\0"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_whatever_a_text_holds_something_is_said_of_it_or_nothing(text: str) -> None:
    for extract in EXTRACTORS:
        found = extract(text)
        assert found is None or (isinstance(found, str) and found)
        assert extract(text) == found


@settings(max_examples=30)
@given(st.sampled_from(PIECES), st.sampled_from(PIECES))
def test_long_texts_are_read_in_bounded_time(one: str, other: str) -> None:
    # A pattern that went back and forth would never end here.
    for extract in EXTRACTORS:
        extract((one + other) * 20_000)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_number_is_read_as_it_is(number: float) -> None:
    found = final_number(f"The answer is {number!r}.")
    assert found is not None
    assert math.isclose(float(found), number, rel_tol=1e-8, abs_tol=1e-300)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, min_size=1))
def test_equal_json_is_equal_however_it_is_written(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    spaced, tight = json.dumps(value, indent=2), json.dumps(turned, separators=(",", ":"))
    assert final_answer(spaced) == final_answer(tight) == json_value()(f"It is {tight} then")
