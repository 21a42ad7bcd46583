"""Where the continuation of a text begins to say something new."""

from __future__ import annotations

import re
from random import Random

import pytest

from crossroute.strategies.overlap import LEAST_CHARACTERS, MOST_WORDS, Seam


def joined(before: str, text: str) -> str:
    """The text and what is new of its continuation, which comes at once."""
    start = Seam(before).start(text, done=True)
    assert start is not None
    return before + text[start:]


@pytest.mark.parametrize(
    ("before", "text", "found"),
    [
        # Nothing is repeated.
        ("All is well. ", "So it is.", "All is well. So it is."),
        # The end is.
        ("I think that all is well. ", "all is well. So", "I think that all is well. So"),
        ("One. All is\n\nwell. ", "All is well. So", "One. All is\n\nwell. So"),
        ("One.\nAll is well.\n", "All is well.\nSo", "One.\nAll is well.\nSo"),
        # All of it is, however short.
        ("Yes. ", "Yes. It is.", "Yes. It is."),
        ("今日は晴れ。", "今日は晴れ。明日は雨。", "今日は晴れ。明日は雨。"),
        (
            "昨日は雨。今日はとても晴れ。",
            "今日はとても晴れ。明日は",
            "昨日は雨。今日はとても晴れ。明日は",
        ),
        # Parts of words are no overlap, nor are few words.
        ("I think so. Hello world", "world is", "I think so. Hello worldworld is"),
        ("I go there and back ", "and backwards", "I go there and back and backwards"),
        ("Is it so? No. ", "No. Never.", "Is it so? No. No. Never."),
        ("| a |\n| 1 | 0 |\n", "| 1 | 0 |\n", "| a |\n| 1 | 0 |\n| 1 | 0 |\n"),
        ("All is well. ", "all is well.", "All is well. all is well."),
        # The longest one counts.
        ("ha ha ha ha ha ha ha ha ", "ha ha ha ha ha ho", "ha ha ha ha ha ha ha ha ho"),
        # White space comes once: as many line ends as the one or the other wants.
        ("All is well. ", " So", "All is well. So"),
        ("All is well. ", "\n\nSo", "All is well. \n\nSo"),
        ("# All\n\n", "So", "# All\n\nSo"),
        ("# All\n\n", " So", "# All\n\nSo"),
        ("# All\n\n", "\n\nSo", "# All\n\nSo"),
        ("# All\n\n", "\nSo", "# All\n\nSo"),
        ("# All\n", "\n\nSo", "# All\n\nSo"),
        ("# All\n", "\r\n\r\nSo", "# All\n\nSo"),
        ("- a\n", "  - b", "- a\n  - b"),
        ("- a\n", "\n  - b", "- a\n  - b"),
        ("今日は晴れ。", "明日は", "今日は晴れ。明日は"),
        ("今日は晴れ。", " 明日は", "今日は晴れ。 明日は"),
        ("今日は晴れ。", "\n\n明日は", "今日は晴れ。\n\n明日は"),
        ("Yes. ", "Yes.\n\nIt is.", "Yes. \n\nIt is."),
        ("Yes.\n", "Yes. It is.", "Yes.\nIt is."),
        # There is nothing new.
        ("Yes. ", "", "Yes. "),
        ("Yes. ", " \n", "Yes. \n"),
        ("Yes. ", "Yes.", "Yes. "),
    ],
)
def test_what_is_new(before: str, text: str, found: str) -> None:
    assert joined(before, text) == found


def test_it_is_open_until_it_is_decided() -> None:
    seam = Seam("I think that all is well. ")
    for text in ("", " ", " a", " al", " all", " all is well", " all is well.", " all is well. "):
        assert seam.start(text, done=False) is None
    assert seam.start(" all is well. So", done=False) == len(" all is well. ")
    other = Seam("I think that all is well. ")
    assert other.start("all i", done=False) is None
    assert other.start("all in", done=False) == 0
    begun = Seam("Let me think. ")
    assert begun.start("Let me s", done=False) == 0


WORDS = ["a", "b", "ab", "well", "wellness", "so", ".", "今", "日", "?", "it's", "3.14", "🙂"]
SPACES = [" ", " ", " ", "", "\n", "\n\n", "  "]


def written(random: Random, count: int) -> str:
    return "".join(random.choice(WORDS) + random.choice(SPACES) for _ in range(count))


def by_brute_force(before: str, text: str) -> int:
    """Where the longest repetition ends: each end of the text is tried, word by word."""
    word = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|\S")
    words, said = word.findall(before), [*word.finditer(text)]
    for count in range(min(len(words), len(said)), 0, -1):
        same = [one[0] for one in said[:count]] == words[-count:]
        long = sum(len(one) for one in words[-count:]) >= LEAST_CHARACTERS
        if same and (long or count == len(words)):
            return said[count - 1].end()
    return 0


@pytest.mark.parametrize("seed", range(500))
def test_however_it_comes(seed: int) -> None:
    random = Random(seed)
    before = written(random, random.randrange(1, 12))
    if not before.strip():
        return
    tail = before[random.randrange(len(before)) :] if random.random() < 0.7 else ""
    text = tail + written(random, random.randrange(6))
    whole = Seam(before).start(text, done=True)
    assert whole is not None
    end = by_brute_force(before, text)
    # Beside the words that are repeated, white space alone is dropped.
    assert end <= whole
    assert not text[end:whole].strip()
    seam, at = Seam(before), 0
    while at < len(text):
        at = min(at + random.randrange(1, 4), len(text))
        found = seam.start(text[:at], done=False)
        if found is not None:
            assert found == whole
            return
    assert seam.start(text, done=True) == whole


@pytest.mark.parametrize("seed", range(200))
def test_line_ends_are_neither_lost_nor_doubled(seed: int) -> None:
    random = Random(seed)
    spaces = ["", " ", "\n", "\n\n", " \n", "\n\n\n", "    "]
    space, own = random.choice(spaces), random.choice(spaces)
    found = joined(f"A{space}", f"{own}B")
    between = found[1:-1]
    assert between.count("\n") == max(space.count("\n"), own.count("\n"))
    assert bool(between) == bool(space or own)


def test_huge_texts() -> None:
    before = "ha " * 100_000
    assert joined(before, before + "ho") == before + "ho"
    # All of it, or words near its end.
    other = "".join(f"w{n} " for n in range(2_000))
    words = other.split()
    assert joined(other, other + "new") == other + "new"
    assert joined(other, " ".join(words[-MOST_WORDS:]) + " new") == other + "new"
    more = " ".join(words[-MOST_WORDS - 1 :]) + " new"
    assert joined(other, more) == other + more
