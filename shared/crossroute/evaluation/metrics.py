"""Metrics of routers: what they choose, at which cost and quality, and how true they predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossroute.ranking import RewardName, first, preference

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

SWEEP: tuple[float, ...] = (0.0, *np.logspace(-7, 4, 221).tolist(), float("inf"))
"""Willingness to pay, from the cheapest model to quality alone, in steps of 12 %."""

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, by paired bootstrap over queries."""

    mean: float
    low: float
    high: float


def resamples(n: int, count: int) -> FloatArray:
    """How often each of n queries is drawn in each of some bootstrap resamples: [count, n]."""
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), count)
    return drawn.astype(np.float64)


def sweep(
    quality: FloatArray,
    cost_usd: FloatArray,
    reward: RewardName = "exponential",
    willingness_to_pay: Sequence[float] = SWEEP,
    *,
    available: NDArray[np.bool_] | None = None,
) -> IntArray:
    """The model chosen for each of n queries at each of w willingnesses to pay: [w, n].

    Args:
        quality: [n, m] predicted.
        cost_usd: [n, m] predicted.
        reward: What orders the candidates.
        willingness_to_pay: The values of lambda.
        available: [n, m] whether a model may be chosen, at least one a query; None is every model.
    """
    if available is not None:
        quality = np.where(available, quality, 0.0)
        cost_usd = np.where(available, cost_usd, np.inf)
    # Models are few: along each of their columns what is compared below goes several times faster.
    quality, cost_usd = np.asfortranarray(quality), np.asfortranarray(cost_usd)
    return np.stack(
        [
            first(preference(reward, quality, cost_usd, value), quality, cost_usd)
            for value in willingness_to_pay
        ]
    )


def realised(
    chosen: IntArray, score: FloatArray, cost_usd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean realised cost [w] and mean score [w] of the choices [w, n].

    Args:
        chosen: From `sweep`.
        score: [n, m] of the answers.
        cost_usd: [n, m] of the answers.
    """
    rows = np.arange(len(score))
    return cost_usd[rows, chosen].mean(axis=1), score[rows, chosen].mean(axis=1)


@dataclass(frozen=True)
class Hull:
    """The non-decreasing convex hull of (mean cost, mean quality) points.

    What lies on it is reachable by mixing two of the points at random.

    Attributes:
        cost_usd: [k] costs in USD, increasing.
        quality: [k] quality, increasing and concave in cost.
    """

    cost_usd: FloatArray
    quality: FloatArray

    @classmethod
    def of(cls, cost_usd: FloatArray, quality: FloatArray) -> Hull:
        """The hull of points given by their costs [p] and qualities [p]."""
        kept: list[tuple[float, float]] = []
        # By cost, and the best of equal costs first, so that the others fall away.
        for cost, value in sorted(zip(cost_usd, quality, strict=True), key=lambda p: (p[0], -p[1])):
            if kept and value <= kept[-1][1]:
                continue
            while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-1], (cost, value)):
                kept.pop()
            kept.append((float(cost), float(value)))
        points = np.array(kept)
        return cls(points[:, 0], points[:, 1])

    def at(self, cost_usd: FloatArray) -> FloatArray:
        """Quality at costs [k]: flat to the left of the first point and right of the last."""
        return np.interp(cost_usd, self.cost_usd, self.quality)

    def cost_at(self, quality: float) -> float:
        """The lowest cost at which the hull reaches a quality; infinite where it never does."""
        # Rounding must not decide whether a router equals the model that it always chooses.
        if self.quality[-1] < quality - 1e-9:
            return float("inf")
        return float(np.interp(quality, self.quality, self.cost_usd))

    def aiq(self, lowest_usd: float, highest_usd: float) -> float:
        """Average improvement in quality (AIQ): mean height of the hull between two costs.

        RouterBench (arXiv 2403.12031) defines it as area under the hull over the cost range. The
        range here is that of the single models' mean costs, the same for every router compared.
        """
        if not highest_usd > lowest_usd:
            return float(self.at(np.array([lowest_usd]))[0])
        inside = (self.cost_usd > lowest_usd) & (self.cost_usd < highest_usd)
        costs = np.concatenate([[lowest_usd], self.cost_usd[inside], [highest_usd]])
        return float(np.trapezoid(self.at(costs), costs) / (highest_usd - lowest_usd))


def brier(quality: FloatArray, score: FloatArray) -> float:
    """Mean squared error of predicted quality, both [n, m]."""
    return float(((quality - score) ** 2).mean())


def calibration(
    quality: FloatArray, score: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The reliability diagram over equally wide bins of predicted quality.

    Args:
        quality: Predicted, any shape.
        score: Realised, of the same shape.

    Returns:
        Share of predictions, mean prediction and mean score of each bin that is not empty: [b].
    """
    bins = np.minimum((quality.ravel() * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    used = count > 0
    predicted = np.bincount(bins, quality.ravel(), CALIBRATION_BINS)[used] / count[used]
    observed = np.bincount(bins, score.ravel(), CALIBRATION_BINS)[used] / count[used]
    return count[used] / count.sum(), predicted, observed


def expected_calibration_error(quality: FloatArray, score: FloatArray) -> float:
    """ECE: mean distance of predicted and realised quality over the bins, weighted by size."""
    share, predicted, observed = calibration(quality, score)
    return float((share * abs(predicted - observed)).sum())


def auroc(value: FloatArray, right: FloatArray) -> float:
    """The probability that a right one has a higher value than a wrong one; ties are half of it.

    Args:
        value: [n], the higher the likelier right.
        right: [n], 0..1; between them, a row is right as far as this and wrong as to the rest.

    Returns:
        0..1, .5 for chance; NaN where all are right or all are wrong.
    """
    _, place = np.unique(value, return_inverse=True)
    rights, wrongs = np.bincount(place, right), np.bincount(place, 1 - right)
    # Of the wrong ones, those below each value, and half of those at it.
    below = np.cumsum(wrongs) - wrongs / 2
    pairs = rights.sum() * wrongs.sum()
    return float((rights * below).sum() / pairs) if pairs > 0 else float("nan")


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
