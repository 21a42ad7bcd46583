"""What an answer says, in a form in which answers to one question can be compared.

An extractor is a function from a text to what it says, None where it says nothing that could be
compared. Two answers agree where it gives the same for both; a function of one's own may stand in
the place of any of these. What is found is compared and never run.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping

from crossroute.errors import ConstraintError, shortened
from crossroute.onboarding.anchors import (
    choice_in,
    json_in,
    number_in,
    plain_text,
    stated,
    stated_choice,
)

Extractor = Callable[[str], str | None]

READ_CHARACTERS = 20_000
"""Of the end of a text, where a result stands."""
JSON_CHARACTERS = 200_000
"""Of the end of a text, where JSON stands, which may be long."""
SHORT_WORDS = 12
"""A text without a stated result is one as a whole if it has no more words than these."""
WHOLE = 10**15
"""Below it, a whole number is written as one."""
DIGITS = 10
"""Of other numbers; further ones are differences in rounding."""

_FENCE = re.compile(r"```[\w+-]{0,20}[ \t]*\n(.*)\n?```", re.DOTALL)
_ARTICLES = frozenset({"a", "an", "the"})
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A point within a number is none, and signs of mathematics and names such as C++ are kept.
_PUNCTUATION = re.compile(
    r"(?<!\d)\.|\.(?!\d)|[,;:!?\"'()\[\]{}_\u2026\u3001\u3002\u00a1\u00bf\u00ab\u00bb\u2039\u203a\u060c\u061b"
    r"\u061f\u0964\u300c-\u3011]|(?<=[^\W\d])-(?=[^\W\d])|\*(?!\w)|(?<!\w)\*"
    r"|^[ \t]*[-*][ \t]",
    re.MULTILINE,
)
# Spaces that separate thousands.
_SPACED = re.compile(r"(?<![\w.,])\d{1,3}(?: \d{3})+(?![\w,]|\.\d{3})")
# "A dog", and not "A because", "A is", "A and".
_ARTICLE = re.compile(
    r"\W*A +(?!(?:because|since|as|is|are|was|and|or|for|due|with|by|in|on)\b)[a-z]"
)
# What may follow a result.
_ASIDE = re.compile(r"[,;.]\s| \(|\s(?:since|because|as|not)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d[\d_']*(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?: ?/ ?\d+)?(?:\s?[x*]\s?10\^\(?-?\d+)?"
)
# What makes a number a part of something else: a power, a root, a variable, a complex number.
_FORMULA = re.compile(r"\\|\^|[\u03c0\u221a]|\bsqrt\b|\d[ijknxyz]\b|\bpi\b", re.IGNORECASE)


def final_number(text: str) -> str | None:
    r"""The number that a text states, by "answer is" or `\boxed{}`, or the last one in it.

    Signs, separators of thousands, fractions and powers of ten are read; units, currencies and the
    sign of per cent are left out: `1,000`, `$1000.00` and `1000 km` are the same.
    """
    number = number_in(_SPACED.sub(_closed_up, text[-READ_CHARACTERS:]))
    # Of digits without end, none is left to compare.
    if number is None or not math.isfinite(number):
        return None
    return _number(number)


def choice(text: str) -> str | None:
    """The letter of an option, A to J: the stated one, or the last that stands alone."""
    return choice_in(text[-READ_CHARACTERS:])


def json_value(*path: str | int) -> Extractor:
    """An extractor of a value in the longest JSON object or array of a text.

    It may stand alone, in a code block or among words. The order of keys and the spacing make no
    difference, nor do `1` and `1.0`.

    Args:
        path: Keys of objects and positions in arrays that lead to the value; none is all of it.

    Raises:
        ConstraintError: If a part of the path is neither a key nor a position.
    """
    for part in path:
        if isinstance(part, bool) or not isinstance(part, (str, int)):
            raise ConstraintError(
                f"json_value: {shortened(part)} is no part of a path; give keys as text and "
                "positions as integers."
            )

    def extract(text: str) -> str | None:
        value = json_in(text[-JSON_CHARACTERS:])
        if value is None:
            return None
        for part in path:
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and _is_position(part, value):
                value = value[int(part)]
            else:
                return None
        return _canonical(value)

    return extract


def normalised_text(text: str) -> str | None:
    """A text without case, articles, punctuation, and marks of Markdown and LaTeX.

    None where nothing is left, or for a text so long that no two would be the same.
    """
    if len(text) > READ_CHARACTERS:
        return None
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", plain_text(text)).casefold())
    words = _PUNCTUATION.sub(" ", plain).split()
    kept = [word for word in words if word not in _ARTICLES] or words
    return " ".join(kept) or None


def final_answer(text: str) -> str | None:
    r"""What a text comes to, by what it looks like.

    JSON where it is nothing else, else the result that it states ("The answer is ...",
    `\boxed{...}`), else a letter of an option that it begins with, else the last number of its last
    line, else the text itself if it is short. None for a long text that states nothing: no two of
    these are alike.
    """
    if (whole := _whole_json(text)) is not None:
        return whole
    text = text[-READ_CHARACTERS:]
    part = stated(text)
    letter = stated_choice(text)
    if letter is not None and not (part is not None and _ARTICLE.match(part)):
        return letter
    if part is not None:
        return _stated_number(part) or normalised_text(part)
    part = next((line for line in reversed(text.splitlines()) if re.search(r"\w", line)), "")
    is_short = len(part.split()) <= SHORT_WORDS
    return final_number(part) or (normalised_text(part) if is_short else None)


def _stated_number(part: str) -> str | None:
    """The number that a stated result is; None if it is more: a formula, a pair, a date."""
    head = _ASIDE.split(part, maxsplit=1)[0]
    if ("=" in head and "=" in part[len(head) :]) or head.count("(") > head.count(")"):
        return None
    result = _SPACED.sub(_closed_up, re.split(r"[=\u2248]", head)[-1])
    plain = _NUMBER.sub("0", result)
    if plain.count("0") != 1 or _FORMULA.search(plain):
        return None
    return final_number(result)


def _closed_up(found: re.Match[str]) -> str:
    return found[0].replace(" ", "")


def _number(number: float) -> str:
    if number.is_integer() and abs(number) < WHOLE:
        return str(int(number))
    return f"{number:.{DIGITS}g}"


def _is_position(part: str | int, values: list[object]) -> bool:
    return isinstance(part, int) and -len(values) <= part < len(values)


def _whole_json(text: str) -> str | None:
    """The value of a text that is a JSON object or array and nothing else, but for a code block."""
    bare = text.strip()
    if len(bare) > JSON_CHARACTERS:
        return None
    if (fenced := _FENCE.fullmatch(bare)) is not None:
        bare = fenced[1].strip()
    if not bare.startswith(("{", "[")):
        return None
    try:
        return _canonical(json.loads(bare))
    except (ValueError, RecursionError):
        return None


def _canonical(value: object) -> str | None:
    """A JSON value as text, the same for equal values; None if it is too deep to compare."""
    try:
        return json.dumps(_plain_numbers(value), sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return None


def _plain_numbers(value: object) -> object:
    """A JSON value in which whole numbers are integers."""
    if isinstance(value, Mapping):
        return {key: _plain_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(one) for one in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return int(value)
    return value
