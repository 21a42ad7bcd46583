"""How easily an English text reads."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from crossroute.errors import MissingExtraError
from crossroute.query import clip

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|\Z)|\n+")


def reading_ease(text: str) -> float:
    """Flesch's reading ease of a text by 100, cut to 0..1; 0 where there are no words.

    `206.835 - 1.015 words / sentences - 84.6 syllables / words` (Flesch 1948), of English; the
    syllables are told by where a word may be hyphenated. Code between fences is not read, and of a
    long text its beginning and end.

    Raises:
        MissingExtraError: If `pyphen` is not installed.
    """
    text = clip(_CODE.sub("\n", text))
    words = _WORD.findall(text)
    if not words:
        return 0.0
    sentences = sum(bool(_WORD.search(one)) for one in _SENTENCE_END.split(text))
    syllables = sum(map(_syllables, words))
    ease = 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)
    return min(max(ease / 100, 0.0), 1.0)


@lru_cache(maxsize=50_000)
def _syllables(word: str) -> int:
    return len(_hyphens().positions(word)) + 1


@lru_cache(maxsize=1)
def _hyphens() -> Any:  # noqa: ANN401  # Of a package that may be absent.
    try:
        import pyphen
    except ImportError:
        raise MissingExtraError("pyphen", "traces") from None
    return pyphen.Pyphen(lang="en_US")
