"""Where a text may be cut."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from crossroute.strategies.boundaries import Boundaries


def pieces(text: str) -> list[str]:
    """The text between the boundaries; what follows the last of them is left out."""
    found = Boundaries()
    found.read(text)
    starts = found.found
    return [text[a:b].strip() for a, b in pairwise(starts)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("All is well", []),
        # What follows tells whether it is the end of a sentence.
        ("All is well.", []),
        ("All is well. ", []),
        ("All is well. So", ["All is well."]),
        ("All is well. so", []),
        ("Is it? Yes! Well... Perhaps… So", ["Is it?", "Yes!", "Well...", "Perhaps…"]),
        ('He said "no." (Twice.) **Loud.** So', ['He said "no."', "(Twice.)", "**Loud.**"]),
        ("One\nTwo", ["One"]),
        ("One  \r\n\r\nTwo", ["One"]),
        ("\n\n  \nOne", []),
        ("- One\n- Two. Then\n", ["- One", "- Two.", "Then"]),
        ("| a | b |\n|---|---|\n| 1", ["| a | b |", "|---|---|"]),
        # No sentence ends here.
        ("It is 3.14 or 1. 5 or .5 yet", ["It is 3.14 or 1."]),
        ("See e.g. Smith, i.e. J. R. Smith, Dr. Who, z.B. Ulm, vs. Fig. 3, etc. pp. 5, No. 7", []),
        ("See https://a.b/c?d=E.F!G and a.py", []),
        ("1. First\n2. Second", ["1. First"]),
        ("a. First", []),
        (". So", []),
        ("Call `f. G` then. So", ["Call `f. G` then."]),
        ("It is 391. So", ["It is 391."]),
        ("Vitamin C. So", []),
        # Scripts without spaces, and other marks.
        ("今日は晴れ。明日は", ["今日は晴れ。"]),
        ("今日は晴れ。", []),
        ("「晴れ。」と", ["「晴れ。」"]),
        ("「晴れ。", []),
        ("\u672c\u5f53\uff01\uff1f はい", ["\u672c\u5f53\uff01\uff1f"]),
        ("यह सही है। अब", ["यह सही है।"]),
        ("هل هذا صحيح؟ نعم", ["هل هذا صحيح؟"]),
        ("Да. Нет", ["Да."]),
        ("🙂. So 🙂", ["🙂."]),
    ],
)
def test_sentences_and_lines(text: str, found: list[str]) -> None:
    assert pieces(text) == found


def test_an_object_in_json_stays_whole() -> None:
    assert pieces('\n {\n  "a": "B. C",\n  "d": 1\n}\n') == []
    assert pieces("So:\n{\n}\n") == ["So:", "{", "}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So:\n```python\nx = 1. \nY\n```\nThen", ["So:", "```python\nx = 1. \nY\n```"]),
        ("```\nA. B\n", []),
        ("```\nA\n```", []),
        ("```\nA\n``\nB\n````  \n", ["```\nA\n``\nB\n````"]),
        ("~~~\nA\n```\n~~~\nB\n", ["~~~\nA\n```\n~~~", "B"]),
        ("````\n```\nA. B\n```\n````\n", ["````\n```\nA. B\n```\n````"]),
        ("- ```\n  A\n  ```\n- B", ["- ```\n  A\n  ```"]),
        ("1. ```sh\n   A\n   ```\n", ["1. ```sh\n   A\n   ```"]),
        ("> ```\n> A. B\n> ```\n", ["> ```\n> A. B\n> ```"]),
        ("```A. B``` is code. So\n", ["```A. B``` is code.", "So"]),
        ("```\nA\n```python\nB\n", []),
    ],
)
def test_blocks_of_code_stay_whole(text: str, found: list[str]) -> None:
    assert pieces(text) == found


ALPHABET = [
    *("a", "B", " ", "\n", ".", "!", '"', ")", "`", "```", "\n```\n", "~~~", "1", "。", "」", "Dr"),
    *("- ", "\t", "\r\n", "e.g. ", "So. So "),
]


@pytest.mark.parametrize("seed", range(300))
def test_none_goes_away_and_how_the_text_comes_makes_no_difference(seed: int) -> None:
    random = Random(seed)
    text = "".join(random.choices(ALPHABET, k=random.randrange(60)))
    whole = Boundaries()
    whole.read(text)
    assert whole.found == sorted(set(whole.found))
    bitwise, before = Boundaries(), [0]
    for end in range(len(text) + 1):
        if end < len(text) and random.random() < 0.3:
            continue
        bitwise.read(text[:end])
        assert bitwise.found[: len(before)] == before
        before = [*bitwise.found]
        # What was read in bits is what is read at once.
        at_once = Boundaries()
        at_once.read(text[:end])
        assert at_once.found == before
    assert before == whole.found
    for at in before[1:]:
        assert not text[at - 1].isspace()
        assert text[at].isspace() or text[at - 1] in "。」)\"`'"
        assert whole.last(at) == at
        assert whole.last(at - 1) < at


def test_a_huge_text() -> None:
    text = "x" * 50_000 + ". So it is. " * 20_000 + "\n" + "`" * 50_000
    found = Boundaries()
    for end in range(0, len(text), 100):
        found.read(text[:end])
    assert found.found[:3] == [0, 50_001, 50_011]
    assert len(found.found) == 40_001


@pytest.mark.parametrize("unit", ["!", "\u3002", ". ", "\u3002 ", "- ", "1. ", " ", "*)", "`"])
def test_a_model_that_repeats_itself_is_read_bit_by_bit(unit: str) -> None:
    """What is decided is not read again, nor a row of marks once more for each of them."""
    text, found = "", Boundaries()
    for _ in range(10_000):
        text += unit
        found.read(text)
    at_once = Boundaries()
    at_once.read(text)
    assert found.found == at_once.found


@pytest.mark.parametrize("mark", [".", "\u3002"])
def test_a_long_row_of_marks_ends_no_sentence(mark: str) -> None:
    for count, ends in ((40, [0, 42]), (41, [0])):
        found = Boundaries()
        found.read(f"So{mark * count} It is")
        assert found.found == ends
