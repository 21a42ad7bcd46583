"""Where the continuation of a text, by another model, begins to say something new."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_WORDS = 400
"""So many at the end of the text may be repeated, or all of it."""
LEAST_CHARACTERS = 8
"""Of what is repeated, if it is not all of the text: a word or a number may well come twice."""

# Thai to Khmer, kana, Chinese: scripts that leave no space between words, of one character each.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[^\W{_UNSPACED}]+|\S")


@dataclass(slots=True)
class Seam:
    """The place where a continuation that comes bit by bit is joined to a text.

    A model that is to go on may first repeat the end of the text, or all of it: whole words are
    compared, whatever white space is between them. Nor does white space that the text ends with
    come twice.

    Attributes:
        before: The text, with its white space at the end.
    """

    before: str
    _words: list[str] = field(init=False)
    _places: list[int] = field(init=False)
    """Where in the words the continuation may have begun to repeat them."""
    _count: int = 0
    """Of its words that were compared."""
    _characters: int = 0
    """Of these."""
    _at: int = 0
    """Up to where it was looked through."""
    _end: int = 0
    """The end of the longest repetition."""

    def __post_init__(self) -> None:
        self._words = _WORD.findall(self.before)
        first = max(len(self._words) - MOST_WORDS, 0)
        self._places = [*dict.fromkeys((0, *range(first, len(self._words))))]

    def start(self, text: str, *, done: bool) -> int | None:
        """Where what is new begins; None as long as it is open.

        Args:
            text: All of the continuation so far.
            done: Whether nothing more comes.
        """
        for word in _WORD.finditer(text, self._at):
            if not self._places:
                break
            if word.end() == len(text) and not done:
                # There may be more of it.
                self._places = [p for p in self._places if self._word(p).startswith(word[0])]
                return None if self._places else self._joined(text)
            self._compare(word)
        else:
            # What is left is white space, which is not looked through again.
            self._at = len(text)
        if not done and (self._places or not text[self._end :].strip()):
            return None
        return self._joined(text)

    def _word(self, place: int) -> str:
        """The one that would come next, had the repetition begun at a place."""
        return self._words[place + self._count]

    def _compare(self, word: re.Match[str]) -> None:
        self._places = [p for p in self._places if self._word(p) == word[0]]
        self._count += 1
        self._characters += len(word[0])
        self._at = word.end()
        whole = [p for p in self._places if p + self._count == len(self._words)]
        if whole and (whole[0] == 0 or self._characters >= LEAST_CHARACTERS):
            self._end = self._at
        self._places = [p for p in self._places if p not in whole]

    def _joined(self, text: str) -> int:
        """Where to begin, so that as many line ends lie between as the one or the other wants."""
        rest = text[self._end :]
        own = rest[: len(rest) - len(rest.lstrip())]
        space = self.before[len(self.before.rstrip()) :]
        wanted, lines = space.count("\n"), own.count("\n")
        skipped = 0
        if lines > wanted:
            for _ in range(wanted):
                skipped = own.index("\n", skipped) + 1
            skipped = own.index("\n", skipped) if space else 0
        elif lines:
            # What follows the last one is an indentation.
            skipped = own.rindex("\n") + 1
        elif space and not (wanted and len(own) > 1):
            skipped = len(own)
        return self._end + skipped
