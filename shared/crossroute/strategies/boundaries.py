"""Where a text may be cut: after a sentence, a line, a closed block of code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MARKS = ".!?\u2026\u061f\u06d4\u0964\u0965"
"""What ends a sentence, where white space follows."""
_FULL_WIDTH_MARKS = "\u3002\uff01\uff1f"
"""What ends one in scripts that leave no space between sentences."""
_CLOSERS = "\"')]*_\u2019\u201d\u00bb\u203a\u300d\u300f\uff09"
"""What may close behind either."""
# Of more in a row, none ends a sentence: so a text that repeats itself for long is read once.
_MOST = "{1,40}+"
_MARKED = f"(?<![{_MARKS}])([{_MARKS}]{_MOST})"
_FULL_WIDTH_MARKED = f"(?<![{_FULL_WIDTH_MARKS}])[{_FULL_WIDTH_MARKS}]{_MOST}"
_CLOSED = f"(?:[{re.escape(_CLOSERS)}]{_MOST})?+"
_SPACE = rf"[^\S\n]{_MOST}"
# White space, and what follows it, tell whether a sentence begins there.
_END = re.compile(rf"{_MARKED}{_CLOSED}(?={_SPACE}(\S))")
_FULL_WIDTH_END = re.compile(
    rf"{_FULL_WIDTH_MARKED}(?![{_FULL_WIDTH_MARKS}]){_CLOSED}(?=[^{re.escape(_CLOSERS)}])"
)
# At the end of a text, these leave open whether a sentence ends there.
_OPEN = re.compile(rf"{_MARKED}{_CLOSED}(?:{_SPACE})?+\Z|{_FULL_WIDTH_MARKED}{_CLOSED}\Z")
_FENCE = re.compile(r"\s*+(?:[>*+-]\s++|\d{1,3}[.)]\s++){0,20}+(`{3,}|~{3,})(.*)", re.DOTALL)
_OBJECT = re.compile(r"\s{0,40}+\{")

_ABBREVIATION = re.compile(
    "al|approx|bd|bsp|bspw|bzgl|bzw|ca|cf|ch|corp|dept|dr|ed|eds|eq|eqs|etc|fig|figs|ggf|inc|incl"
    "|jr|ltd|mio|mme|mr|mrd|mrs|ms|mt|nr|op|pp|prof|resp|rev|sr|st|str|usw|vgl|vs",
    re.IGNORECASE,
)
"""Of few languages; a small letter after a full stop says of any that no sentence ends there."""
_BEFORE_NUMBERS = re.compile("art|max|min|nos?|sec|tab|vol", re.IGNORECASE)
"""Those that are words as well."""
_WORD = re.compile(r"[^\W_]+\Z")
LONGEST_WORD = 40


@dataclass(slots=True)
class Boundaries:
    """The boundaries of a text that grows: none of them goes away, whatever follows.

    They stand before white space where there is some. None stands in an open block of code, in
    code within a line, in a number or an address, or after an abbreviation; and none in a text
    that begins with a brace, as JSON does: a model that is held to JSON writes all of it anew.

    Attributes:
        found: Positions, increasing; the first is the beginning of the text.
    """

    found: list[int] = field(default_factory=lambda: [0])
    _line: int = 0
    """Where the last line begins."""
    _at: int = 0
    """Up to where it is decided."""
    _fence: str = ""
    """What has opened the block of code; empty outside of one."""

    def read(self, text: str) -> None:
        """Find those in what is new.

        Args:
            text: All of the text so far.
        """
        if _OBJECT.match(text):
            return
        while (end := text.find("\n", self._at)) >= 0:
            self._read_line(text, end)
            self._line = self._at = end + 1
        if not self._fence and not _FENCE.match(text, self._line):
            self._read_sentences(text, len(text))
            is_open = _OPEN.search(text, self._at)
            self._at = is_open.start() if is_open else len(text)

    def last(self, limit: int) -> int:
        """The last one that is not behind a position."""
        return next(one for one in reversed(self.found) if one <= limit)

    def _read_line(self, text: str, end: int) -> None:
        """A whole line."""
        fence = _FENCE.match(text, self._line, end)
        if self._fence:
            # It is closed by as many of the same marks at least, and nothing after them.
            is_closed = fence and fence[1].startswith(self._fence) and not fence[2].strip()
            if not is_closed:
                return
            self._fence = ""
        elif fence and (fence[1][0] == "~" or "`" not in fence[2]):
            self._fence = fence[1]
            return
        else:
            self._read_sentences(text, end)
        stripped = len(text[self._line : end].rstrip())
        if stripped:
            self._add(self._line + stripped)

    def _read_sentences(self, text: str, end: int) -> None:
        """Those within a line, as far as what follows tells."""
        found = [
            *_END.finditer(text, self._at, end),
            *_FULL_WIDTH_END.finditer(text, self._at, end),
        ]
        for mark in sorted(found, key=re.Match.end):
            self._at = mark.end()
            is_end = mark.re is _FULL_WIDTH_END or self._ends(text, mark)
            if is_end and text.count("`", self._line, self._at) % 2 == 0:
                self._add(self._at)

    def _ends(self, text: str, mark: re.Match[str]) -> bool:
        """Whether a mark ends a sentence."""
        if mark[2].islower():
            return False
        if mark[1] != ".":
            return True
        before = text[max(self._line, mark.start() - LONGEST_WORD) : mark.start()]
        word = _WORD.search(before)
        if word is None:
            return bool(before.strip())
        # The number of an item in a list; a letter of a name or of an abbreviation.
        begins_line = not text[self._line : mark.start() - len(word[0])].strip(" \t>*_#-")
        if begins_line and (word[0].isdigit() or len(word[0]) == 1):
            return False
        is_letter = len(word[0]) == 1 and word[0].upper() != word[0].lower()
        if is_letter or _ABBREVIATION.fullmatch(word[0]):
            return False
        return not (mark[2].isdigit() and _BEFORE_NUMBERS.fullmatch(word[0]))

    def _add(self, at: int) -> None:
        if at > self.found[-1]:
            self.found.append(at)
