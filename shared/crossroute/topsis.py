"""TOPSIS: candidates ordered by how near they are to the best of all in each respect.

Of the candidates that none other beats in every respect (the Pareto front), with x_ij the quality,
cost or latency j of candidate i and w_j its weight (Hwang and Yoon 1981, as in MoMA, arXiv
2509.07571):

    v_ij = w_j x_ij / sqrt(sum_i x_ij^2)
    C_i  = D-_i / (D+_i + D-_i)

D+ is the Euclidean distance of v_i to the ideal (the best of each column), D- that to the
anti-ideal (the worst of each); the highest C is chosen. No willingness to pay is in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import ConstraintError, shortened
from crossroute.ranking import amount

FloatArray = NDArray[np.float64]

DECIMALS = 9
"""Closeness is rounded to so many: its last digits depend on the processor."""


@dataclass(frozen=True, slots=True)
class Topsis:
    """Rank candidates by TOPSIS, with weights whose scale does not matter.

    Attributes:
        quality: Weight of the predicted quality.
        cost: Weight of the predicted cost.
        latency: Weight of the expected latency of the descriptors. A candidate whose latency is not
            known counts as the slowest whose is; where none is known, latency decides nothing.

    Raises:
        ConstraintError: If a weight is no finite number from 0 up, or all are 0.
    """

    quality: float = 0.5
    cost: float = 0.3
    latency: float = 0.2

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            weight = amount(getattr(self, name))
            if weight is None or math.isinf(weight):
                raise ConstraintError(
                    f"The TOPSIS weight {name} is {shortened(getattr(self, name))}; give a finite "
                    "number from 0 up."
                )
            object.__setattr__(self, name, weight)
        if not any(self.weights):
            raise ConstraintError("All TOPSIS weights are 0; give one of them more.")

    @property
    def weights(self) -> tuple[float, float, float]:
        """Those of quality, cost and latency."""
        return self.quality, self.cost, self.latency

    def ranked(
        self, quality: FloatArray, cost_usd: FloatArray, latency_seconds: Sequence[float]
    ) -> tuple[list[int], FloatArray]:
        """The order of some candidates: the front, then the front of the others, and so on.

        Args:
            quality: [m] predicted quality.
            cost_usd: [m] predicted cost in USD.
            latency_seconds: [m] expected latency; NaN or infinite where it is not known.

        Returns:
            Places of the candidates, the first chosen, of equals the cheaper, then the better; and
            [m] closeness of each in its front, 0..1.
        """
        # All are to be high, and a respect of weight 0 beats nobody.
        columns = np.column_stack([quality, -cost_usd, -_known(latency_seconds)])
        weights = np.array(self.weights) / max(self.weights)
        kept = weights > 0
        columns, weights = columns[:, kept], weights[kept]
        closeness = np.zeros(len(columns))
        order: list[int] = []
        for front in _fronts(columns):
            closeness[front] = _closeness(columns[front], weights)
            place = np.lexsort((-quality[front], cost_usd[front], -closeness[front]))
            order += front[place].tolist()
        return order, closeness

    def __str__(self) -> str:
        return "TOPSIS with weights " + ", ".join(
            f"{field.name} {getattr(self, field.name):g}" for field in fields(self)
        )


def _known(seconds: Sequence[float]) -> FloatArray:
    """Latencies, with that of the slowest for those that are not known: unknown is not fast."""
    found = np.asarray(seconds, np.float64)
    is_known = np.isfinite(found)
    return np.where(is_known, found, found[is_known].max(initial=0.0))


def _fronts(columns: FloatArray) -> Iterator[NDArray[np.intp]]:
    """Places of the candidates that no other one beats, then of those that only these beat, ...

    One beats another if it is as good in every respect and better in one.
    """
    as_good = np.ones((len(columns), len(columns)), np.bool_)
    for column in columns.T:
        as_good &= column[:, None] >= column
    beats = as_good & ~as_good.T
    beaten_by = beats.sum(axis=0)
    while (front := np.flatnonzero(beaten_by == 0)).size:
        yield front
        beaten_by -= beats[front].sum(axis=0)
        beaten_by[front] = -1


def _closeness(columns: FloatArray, weights: FloatArray) -> FloatArray:
    """[m] C of candidates, the closeness to the ideal."""
    # By the largest first: the square of a tiny number is 0.
    scaled = columns / np.maximum(np.abs(columns).max(axis=0), np.finfo(float).tiny)
    norm = np.linalg.norm(scaled, axis=0)
    weighted = weights * scaled / np.where(norm > 0, norm, 1.0)
    to_ideal = np.linalg.norm(weighted - weighted.max(axis=0), axis=1)
    to_worst = np.linalg.norm(weighted - weighted.min(axis=0), axis=1)
    far = to_ideal + to_worst
    # Candidates that are all alike are all ideal.
    found = np.where(far > 0, to_worst / np.where(far > 0, far, 1.0), 1.0)
    return np.asarray(found.round(DECIMALS))
