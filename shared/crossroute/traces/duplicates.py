"""Telling examples that say nearly the same as an earlier one."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+|[^\w\s]")
SHINGLE = 3
"""Words that are compared together."""
_ROUNDING = 1e-9

Shingles = frozenset[int]


class NearDuplicates:
    """Examples so far, to tell whether another one is new.

    Two are near duplicates where the Jaccard similarity of the shingles of three words, common ones
    by all, is as high as the threshold in each of their texts. It is exact: with the shingles in
    one order for all, two sets of such a similarity share one of the first
    `n - ceil(threshold * n) + 1` (Chaudhuri et al. 2006), so only examples that do are compared.

    Args:
        threshold: 0..1; 1 are texts with the same shingles.
        alike: Texts such as those to come: the shingles that are rare in them stand first, so that
            few examples are compared.
    """

    def __init__(self, threshold: float, alike: Iterable[str] = ()) -> None:
        self._threshold = threshold
        self._counts = Counter(shingle for text in alike for shingle in _shingles(text))
        self._seen: list[tuple[Shingles, ...]] = []
        # By the place of a text in an example, and one of its first shingles.
        self._places: dict[tuple[int, int], list[int]] = {}

    def add(self, *texts: str) -> bool:
        """Whether an example is new; it is among those seen then.

        Args:
            *texts: What each example has, in the same order: the question, and the answer.
        """
        sets = tuple(_shingles(text) for text in texts)
        heads = [self._head(place, one) for place, one in enumerate(sets)]
        # Near duplicates share one in each place: of the place with the fewest, such as the answers
        # to one question.
        lists = [[self._places[key] for key in head if key in self._places] for head in heads]
        fewest = min(lists, key=lambda one: sum(map(len, one)))
        if any(self._alike(sets, self._seen[one]) for one in set().union(*fewest)):
            return False
        for key in (key for head in heads for key in head):
            self._places.setdefault(key, []).append(len(self._seen))
        self._seen.append(sets)
        return True

    def _head(self, place: int, shingles: Shingles) -> list[tuple[int, int]]:
        count = len(shingles) - math.ceil(self._threshold * len(shingles) - _ROUNDING) + 1
        rare_first = sorted(shingles, key=lambda one: (self._counts[one], one))
        return [(place, one) for one in rare_first[:count]]

    def _alike(self, one: Sequence[Shingles], other: Sequence[Shingles]) -> bool:
        pairs = zip(one, other, strict=True)
        return all(len(a & b) >= self._threshold * len(a | b) - _ROUNDING for a, b in pairs)


def _shingles(text: str) -> Shingles:
    # Whatever the case and the space between them.
    words = _WORD.findall(text.casefold())
    # A text of fewer words is one shingle, as is an empty one.
    starts = range(max(len(words) - SHINGLE + 1, 1))
    return frozenset(hash((*words[start : start + SHINGLE],)) for start in starts)
