"""The shipped anchors, and what their checkers take for a right answer."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from crossroute import DataError
from crossroute.onboarding.anchors import Anchor, Check, Choice, Exact, Json, Number, load_anchors
from crossroute.training.data import normalised

ANCHORS = load_anchors()


def by_prompt(anchor: Anchor) -> str:
    return normalised(anchor.prompt)[:40]


def accepts(check: dict[str, Any], text: str) -> bool:
    validated: Any = TypeAdapter(Check).validate_python(check)
    return bool(validated.accepts(text))


def test_the_shipped_anchors_are_many_and_of_many_kinds() -> None:
    assert 50 <= len(ANCHORS) <= 100
    assert len({anchor.topic for anchor in ANCHORS}) >= 15
    assert len({anchor.check.kind for anchor in ANCHORS}) == 6
    assert load_anchors() is ANCHORS
    # A model that always says one letter does not shine.
    letters = Counter(a.check.answer for a in ANCHORS if isinstance(a.check, Choice))
    assert max(letters.values()) <= 0.4 * letters.total()


@pytest.mark.parametrize("anchor", ANCHORS, ids=by_prompt)
def test_every_checker_tells_right_from_wrong(anchor: Anchor) -> None:
    assert anchor.score(anchor.reference) == 1.0
    assert anchor.score(f"Let me think about it.\n\n{anchor.reference}\n") == 1.0 or (
        anchor.topic == "formatting"
    )
    assert anchor.wrong
    for answer in anchor.wrong:
        assert anchor.score(answer) == 0.0
    for answer in ("", "I cannot help with that.", anchor.prompt):
        assert anchor.score(answer) == 0.0


WORDINGS: dict[type, list[str]] = {
    Choice: [
        "The answer is **{}**.",
        r"So it is \boxed{{{}}}.",
        "**Answer:** ({})",
        "{})",
        "{}",
    ],
    Number: [
        "**Answer: {}**",
        r"Thus $$\boxed{{{}}}$$",
        "The answer is {}.",
        "{}",
        "2 + x = {}",
    ],
    Exact: ["**Answer:** `{}`", "The answer is {}.", "Hm.\n{}", "Answer:\n```python\n{}\n```"],
    Json: ["```json\n{}\n```", "Here [1] it is: {} I hope that helps."],
}


@pytest.mark.parametrize("anchor", [a for a in ANCHORS if type(a.check) in WORDINGS], ids=by_prompt)
def test_wording_does_not_matter(anchor: Anchor) -> None:
    said = anchor.reference.removeprefix("Answer: ")
    for wording in WORDINGS[type(anchor.check)]:
        assert anchor.score(wording.format(said)) == 1.0, wording


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "(B)",
        "B.",
        "B. Helicase",
        "**B**",
        "**B. Helicase**",
        "The answer is B",
        "The answer is **B**.",
        "The correct answer is (B) Helicase.",
        "The answer is option B, because A is not an enzyme.",
        r"\boxed{B}",
        r"$\boxed{\text{B}}$",
        "A is a protein and C a sugar.\nAnswer: B",
        "Answer: A? No.\n\n**Answer: B**",
        "**Answer:** B) Helicase",
        "The answer is not A. The answer is B.",
        "Final answer:\n\nB",
        "A helicase unwinds it, so I choose B.",
    ],
)
def test_a_letter_is_found(text: str) -> None:
    assert accepts({"kind": "choice", "answer": "B"}, text)
    assert not accepts({"kind": "choice", "answer": "A"}, text)


@pytest.mark.parametrize("text", ["", "A helicase.", "I think so.", "Both are right.", "be"])
def test_a_word_is_no_letter(text: str) -> None:
    for letter in "ABEI":
        assert not accepts({"kind": "choice", "answer": letter}, text)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (1234567, "Answer: 1,234,567"),
        (1234567, r"The product is $1{,}234{,}567$."),
        (1234567, r"\boxed{1\,234\,567}"),
        (1234567, "Answer: 1\u202f234\u202f567"),
        (12.5, "Answer: $12.50"),
        (12.5, r"Answer: \$12.50 in all"),
        (-7, "Answer: \u22127"),
        (-7, "x = -7"),
        (0.5, r"\boxed{\frac{1}{2}}"),
        (0.5, "Answer: 1/2"),
        (0.5, "Answer: .5"),
        (2500, r"Answer: 2.5 \times 10^{3}"),
        (2500, "Answer: 2.5 \u00d7 10\u00b3"),
        (2500, "Answer: 2.5e3"),
        (36, "Answer: 12 * 3 = 36"),
        (36, "First 12, then 24. There are 36."),
        (36, "**Answer:** 36 rolls (3 boxes of 12)"),
        (40, "Answer: 40 %"),
        (12, "The answer is 12.\n"),
    ],
)
def test_a_number_is_read(answer: float, text: str) -> None:
    assert accepts({"kind": "number", "answer": answer}, text)
    assert not accepts({"kind": "number", "answer": answer + 1}, text)


def test_a_number_has_a_tolerance() -> None:
    check = {"kind": "number", "answer": 3.1416, "tolerance": 0.001}
    assert accepts(check, "Answer: 3.142")
    assert not accepts(check, "Answer: 3.14")
    assert not accepts(check, "Answer: pi")


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"kind": "exact", "answers": ["[1, 2]"]}, "Answer: `[1,2]`", "Answer: [1, 2, 3]"),
        ({"kind": "exact", "answers": ["'ab'"]}, 'Answer: "ab"', "Answer: 'abc'"),
        ({"kind": "exact", "answers": ["east", "to the east"]}, "East.", "North or east"),
        ({"kind": "contains", "all": ["red", "blue"]}, "Blue, then RED.", "Red, bluest"),
        ({"kind": "contains", "any": ["don't care"]}, "I don\u2019t care!", "I care"),
        ({"kind": "contains", "all": ["a"], "any": ["b", "c"]}, "a c", "b c"),
        ({"kind": "regex", "pattern": "^a;b$"}, "```\na;b\n```", "a; b"),
        ({"kind": "json", "equals": {"a": 1, "b": [True]}}, '{"b": [true], "a": 1.0}', '{"a": 1}'),
        ({"kind": "json", "equals": [1]}, "So: [1]", "[true]"),
        ({"kind": "json", "equals": {"a": None}}, '```json\n{"a": null}\n```', "{'a': None}"),
        ({"kind": "json", "equals": [1, 2]}, "x [1, 2]", "[" * 100_000),
    ],
)
def test_the_other_checks(check: dict[str, Any], right: str, wrong: str) -> None:
    assert accepts(check, right)
    assert not accepts(check, wrong)


GOOD = """\
- topic: sums
  prompt: What is 1 + 1?
  check: {kind: number, answer: 2}
  reference: "2"
  wrong: ["3"]
"""


def test_own_anchors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text(GOOD, "utf-8")
    (anchor,) = load_anchors(path)
    assert anchor.score("It is two: 2") == 1.0


def test_a_long_answer_takes_no_more_memory_than_it_is_long() -> None:
    text = "answer: " * 5_000 + "2"
    tracemalloc.start()
    try:
        assert Number(kind="number", answer=2).accepts(text)
        # What follows each of the 5,000 would be 100 MB, and 40 GB of a text of 800 kB.
        assert tracemalloc.get_traced_memory()[1] < 100 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('reference: "2"', 'reference: "4"', "anchor 0: .*does not accept its reference '4'"),
        ('["3"]', '["2.0"]', "accepts the wrong answer '2.0'"),
        ("kind: number", "kind: nmber", "anchor 0: check: .*nmber"),
        ("answer: 2", "answer: two", "anchor 0: check.number.answer"),
        (
            "topic: sums",
            "topc: sums",
            r"anchor 0: topic: missing; add it\. topc: unknown field; did you mean 'topic'",
        ),
        ("{kind: number, answer: 2}", "{kind: regex, pattern: '('}", "not a regular expression"),
        ("{kind: number, answer: 2}", "{kind: regex, pattern: 'a{9999999999}'}", "not a regular"),
        ("{kind: number, answer: 2}", f"{{kind: regex, pattern: '{'(' * 5000}'}}", "not a regular"),
        ("answer: 2", "answer: 2, answer: 3", "stands in line 3 already"),
        (
            "{kind: number, answer: 2}",
            "{kind: number, answer: !!int ''}",
            "line 3, column 33: a value",
        ),
        ("{kind: number, answer: 2}", "{kind: contains}", "name words that the answer contains"),
        ("- topic", "topic", "not valid YAML|a list of mappings"),
        (GOOD, GOOD + GOOD, "anchor 1 asks what another one asks"),
        (GOOD, "", "a list of mappings"),
        (GOOD, "- !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_broken_anchors_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text(GOOD.replace(old, new, 1), "utf-8")
    with pytest.raises(DataError, match=said) as caught:
        load_anchors(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        load_anchors(tmp_path / "none.yaml")
