"""How surprising what happened would be, if all were as it was promised: p-values.

They hold for any number of calls, but that of a mean, which is a t-test. Costs lean to the right,
which makes that one say rather too seldom that they have grown.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import MissingExtraError
from crossroute.traffic import guarantee

FloatArray = NDArray[np.float64]

STEPS = 60
"""Halvings of the range in which a bound is looked for."""


def other_share(count: int, calls: int, promised: int, rows: int) -> float:
    """Of a share being that of other rows: Fisher's exact test, two-sided.

    Args:
        count: Calls that one model got.
        calls: All calls.
        promised: Rows that it was to get.
        rows: All rows.
    """
    of_both = _stats().hypergeom(calls + rows, count + promised, calls)
    return min(1.0, 2 * float(min(of_both.sf(count - 1), of_both.cdf(count))))


def higher_rate(count: int, calls: int, most: float) -> float:
    """Of a rate being at most that high: the exact binomial test.

    Args:
        count: Calls of which it is true.
        calls: All calls.
        most: The rate, above 0 and below 1.
    """
    return float(_stats().binom.sf(count - 1, calls, most))


def lowest_mean(mean: float, rows: int, error: float) -> float:
    """The lowest mean that rows of this mean may come from, with a confidence of 1 - error.

    By the bound of Chernoff and Hoeffding, for any scores from 0 to 1.
    """
    low, high = 0.0, mean
    for _ in range(STEPS):
        middle = (low + high) / 2
        if rows * _divergence(mean, middle) > math.log(1 / error):
            low = middle
        else:
            high = middle
    return low


def _divergence(rate: float, other: float) -> float:
    """Of Kullback and Leibler, between two chances."""
    found = 0.0
    for p, q in ((rate, other), (1 - rate, 1 - other)):
        if p > 0:
            found += p * math.log(p / q) if q > 0 else math.inf
    return found


def higher_mean(excess: float, error: float, calls: int) -> float:
    """Of a mean not being above what was expected: a one-sided t-test.

    Args:
        excess: By how much it is above.
        error: Its standard error.
        calls: From how many that is estimated; 2 at least.
    """
    if error <= 0:
        return 0.0 if excess > 0 else 1.0
    return float(_stats().t.sf(excess / error, calls - 1))


def lower_score(score: FloatArray, expected: FloatArray, error: float) -> float:
    """Of the mean score not being below what was expected: a bet, as in a guarantee.

    Args:
        score: [n], 0..1.
        expected: [n], 0..1, from before the scores were known.
        error: At which p-value it is to be most powerful.
    """
    # Of scores from 0 to 1 with such means, no variance is larger.
    chance = np.clip(expected, 0, 1)
    moment = float((chance * (1 - chance)).mean())
    # Nothing is lost by more than a score of 1.
    worst = max(float((1 - expected).max()), 1 / len(score))
    bet = guarantee.stake(moment, len(score), error, worst)
    return guarantee.p_value(score - expected, 0.0, bet)


def _stats() -> ModuleType:
    """Scipy's distributions, which only the watch needs, and which take a second to load."""
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "monitor") from error
    return stats  # type: ignore[no-any-return]
