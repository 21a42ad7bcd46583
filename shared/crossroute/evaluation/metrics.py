"""Metrics of routers: points of mean cost and mean quality, their hull, and AIQ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


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


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
