"""What links one text to another beside its meaning: names, numbers and codes."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crossroute.network.encoders import shared_encoder

_WORD = re.compile(r"\w{2,}")
CACHED_WORDS = 65_536


def names(text: str) -> frozenset[str]:
    """Words with a digit or a capital, and those that the shipped encoder has no vector for.

    A capital at the beginning of a sentence counts, too, but for the most common words.
    """
    return frozenset(word.lower() for word in _WORD.findall(text) if _is_name(word))


class Links:
    """How much each of several texts shares of the names that were met so far.

    A name weighs the less the more of the texts have it.

    Args:
        texts: Any number.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._names = [names(text) for text in texts]
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, found in enumerate(self._names):
            for name in found:
                self._places[name].append(place)
        self._met: set[str] = set()
        self._shared: NDArray[np.float64] = np.zeros(len(texts))

    @property
    def strength(self) -> NDArray[np.float64]:
        """Of each text, [n], from 0 to 1."""
        return np.minimum(self._shared, 1.0)

    def meet(self, found: frozenset[str]) -> None:
        """Names that are known from now on."""
        for name in sorted(found - self._met):
            if places := self._places.get(name):
                # As in the product of two vectors of inverse document frequencies.
                rarity = 1 - math.log(len(places)) / math.log(len(self._names) + 1)
                self._shared[places] += rarity**2
        self._met |= found

    def meet_text(self, place: int) -> None:
        """The same for the names of one of the texts."""
        self.meet(self._names[place])


@lru_cache(CACHED_WORDS)
def _is_name(word: str) -> bool:
    if any(map(str.isdigit, word)):
        return True
    encoder = shared_encoder()
    if word[0].isupper():
        return not encoder.is_common(word)
    return len(encoder.token_ids(word)) > 1
