"""The multipliers of cost at which recent requests would have kept to a pace of spending.

PORT (arXiv 2509.02718) takes them from the first requests of a stream, as the minimum of the dual

    min over g >= 0:   sum_j g_j B_j + sum_i max_j (q_ij - g_j c_ij)

and gives request i to `argmax_j q_ij - g_j c_ij`. Here all models share one budget, and some have
one of their own beside it: `g_j = total + own_j`. At the minimum each budget is spent, or its
multiplier is nothing; what is spent of a budget falls as its multiplier rises, so they are found
of one budget after the other: that of all by bisection, that of a model at the request which is one
too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

ROWS = 250
"""Requests that multipliers are learned from, at most: the latest, so that they follow a drift."""
FREE, UNPAYABLE = 1e-7, 1e9
"""Least and highest multiplier, times the dearest call: quality alone, and the cheapest model."""
SURE = 1e-3
"""Relative width at which the bracket of a multiplier is narrow enough."""
ROUNDS = 6
"""How often the multipliers are gone through, where there is more than one."""


class Multipliers(NamedTuple):
    """What a USD of cost counts, in units of quality.

    Attributes:
        total: Whoever is asked; 0 if quality alone keeps to all budgets.
        own: [m] of each model beside that.
    """

    total: float
    own: FloatArray


class Recent:
    """What was predicted for the latest requests.

    Attributes:
        models: Columns of the models, by their ids.
        seen: How many requests there were in all.
    """

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self.seen = 0
        self._held = 0
        self._quality = np.empty((ROWS, 0))
        self._cost = np.empty((ROWS, 0))
        self._at = np.empty(ROWS)

    def add(self, number: int, at: float, predicted: Mapping[str, tuple[float, float]]) -> None:
        """Add a request, whose number is by one higher than the last one's.

        Args:
            number: From 1 up.
            at: When it came, in seconds.
            predicted: Quality and cost in USD of its candidates, by their ids.
        """
        new = [model for model in predicted if model not in self.models]
        if new:
            self.models.update({model: len(self.models) + k for k, model in enumerate(new)})
            absent = np.full((ROWS, len(new)), -np.inf)
            self._quality = np.hstack([self._quality, absent])
            self._cost = np.hstack([self._cost, np.zeros_like(absent)])
        place = (number - 1) % ROWS
        self._quality[place], self._cost[place] = -np.inf, 0.0
        for model, (quality, cost) in predicted.items():
            column = self.models[model]
            self._quality[place, column], self._cost[place, column] = quality, cost
        self._at[place] = at
        self.seen = number
        self._held = min(self._held + 1, ROWS)

    def __len__(self) -> int:
        return self._held

    @property
    def quality(self) -> FloatArray:
        """[n, m] predicted quality, minus infinity where a model was no candidate."""
        return self._quality[self._places]

    @property
    def cost_usd(self) -> FloatArray:
        """[n, m] predicted cost."""
        return self._cost[self._places]

    def rate(self, now: float) -> float:
        """How many requests come a second, by the latest ones; infinite if none can be told yet."""
        since = now - float(self._at[self._places].min()) if self._held else 0.0
        return (self._held - 1) / since if since > 0 else math.inf

    @property
    def _places(self) -> NDArray[np.intp]:
        return np.arange(self.seen - self._held, self.seen) % ROWS


def multipliers(
    quality: FloatArray, cost_usd: FloatArray, pace_usd: float, own_pace_usd: FloatArray
) -> Multipliers:
    """The lowest multipliers at which requests keep to a pace, as far as they can.

    Args:
        quality: [n, m], minus infinity where a model may not be asked.
        cost_usd: [n, m].
        pace_usd: The most that a request may cost in the mean.
        own_pace_usd: [m] the most that a request may cost in the mean by calls of one model;
            infinite where it has no budget of its own.
    """
    n, m = quality.shape
    dearest = float(cost_usd.max(initial=0.0)) or 1.0
    free, unpayable = FREE / dearest, UNPAYABLE / dearest
    found = Multipliers(free, np.zeros(m))
    limited = np.flatnonzero(np.isfinite(own_pace_usd))

    for _ in range(ROUNDS if len(limited) else 1):
        before = found

        def keeps_all(total: float, own: FloatArray = found.own) -> bool:
            chosen = (quality - cost_usd * (total + own)).argmax(axis=1)
            return bool(cost_usd[np.arange(n), chosen].sum() <= pace_usd * n)

        total = _lowest(keeps_all, free, unpayable)
        own = found.own.copy()
        worth = quality - cost_usd * (total + own)
        for j in limited.tolist():
            worth[:, j] = -np.inf
            alone = quality[:, j] - cost_usd[:, j] * total
            gain, usd = alone - worth.max(axis=1), cost_usd[:, j]
            own[j] = min(_own(gain, usd, own_pace_usd[j] * n, free), unpayable)
            worth[:, j] = alone - usd * own[j]
        found = Multipliers(total, own)
        if np.allclose([found.total, *found.own], [before.total, *before.own], rtol=10 * SURE):
            break
    is_free = found.total == free and not found.own.any()
    return found._replace(total=0.0) if is_free else found


def _lowest(keeps: Callable[[float], bool], free: float, unpayable: float) -> float:
    """The lowest multiplier at which a budget is kept to, or the highest one."""
    if keeps(free):
        return free
    low, high = np.log(free), np.log(unpayable)
    while high - low > SURE:
        middle = (low + high) / 2
        low, high = (low, middle) if keeps(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def _own(gain: FloatArray, cost_usd: FloatArray, most_usd: float, free: float) -> float:
    """The lowest multiplier of one model at which its own calls cost no more than its budget.

    Args:
        gain: [n] by how much it is worth more than the best of the others.
        cost_usd: [n] of its calls.
        most_usd: The most that they may cost.
        free: The least multiplier beside nothing.
    """
    asked = (gain >= 0) & (cost_usd > 0)
    # Up to which multiplier each goes to it: those that gain the most for a USD stay the longest.
    until = gain[asked] / cost_usd[asked]
    order = np.argsort(-until)
    kept = np.cumsum(cost_usd[asked][order]) <= most_usd
    return 0.0 if kept.all() else max(float(until[order[kept.argmin()]]) * (1 + SURE), free)
