"""How surprising what happened would be, if all were as it was promised: p-values.

They hold for any number of calls, but that of a mean, which is a t-test. Costs lean to the right,
which makes that one say rather too seldom that they have grown.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crossroute.traffic import guarantee

FloatArray = NDArray[np.float64]

STEPS = 60
"""Halvings of the range in which a bound is looked for."""
SMALLEST = 1e-17
"""Share of a sum that is left out of it."""


def other_share(count: int, calls: int, promised: int, rows: int) -> float:
    """Of a share being that of other rows: Fisher's exact test, two-sided.

    Args:
        count: Calls that one model got.
        calls: All calls.
        promised: Rows that it was to get.
        rows: All rows.
    """
    more = _tail(count, calls, promised, rows)
    fewer = _tail(calls - count, calls, rows - promised, rows)
    return min(1.0, 2 * min(more, fewer))


def _tail(count: int, calls: int, promised: int, rows: int) -> float:
    """With which probability so many or more of what both have together would be among the calls.

    It is a hypergeometric one.
    """
    both, others = count + promised, calls + rows - count - promised
    term = math.exp(
        _log_choices(both, count)
        + _log_choices(others, calls - count)
        - _log_choices(both + others, calls)
    )
    total, k = term, count
    while k < min(both, calls):
        term *= (both - k) * (calls - k) / ((k + 1) * (others - calls + k + 1))
        k += 1
        total += term
        # Beyond the mode, what is left is less than a geometric series.
        if term < total * SMALLEST:
            break
    return min(total, 1.0)


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def higher_rate(count: int, calls: int, most: float) -> float:
    """Of a rate being at most that high: the bound of Chernoff.

    Args:
        count: Calls of which it is true.
        calls: All calls.
        most: The rate, above 0 and below 1.
    """
    rate = count / calls
    return math.exp(-calls * _divergence(rate, most)) if rate > most else 1.0


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
    free, t = calls - 1, excess / error
    # Wallace's approximation by the normal distribution, true within 0.02 standard deviations.
    z = (8 * free + 1) / (8 * free + 3) * math.sqrt(free * math.log1p(t * t / free))
    return math.erfc(math.copysign(z, t) / math.sqrt(2)) / 2


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
