"""With which confidence a choice loses no more quality than it may: Learn then Test, by betting.

Each setting of a router is a hypothesis, "its mean loss is above the limit", that is tested on
calibration rows from which nothing was learned. The test bets against it: a capital of 1 that is
multiplied with `1 + stake * (limit - loss)` row by row cannot be expected to grow while the
hypothesis is true, so by Ville's inequality it reaches `1 / error` with a probability of at most
`error` (Waudby-Smith and Ramdas, arXiv 2010.09686). It holds for any bounded losses and any number
of rows. Rows that ask the same are not independent of each other: they are one step of the bet,
whose loss is the sum of theirs. Settings are tested in an order that was fixed before, up to the
first that fails: then all that passed hold together at the same confidence (Learn then Test, arXiv
2110.01052; the order is learned on other rows, as in Pareto testing, arXiv 2210.07913).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_AT_STAKE = 0.49
"""Share of the capital that the worst loss may take: more could not be lost below any limit."""
STEPS = 60
"""Halvings of the range in which the upper bound is looked for."""


def stake(second_moment: float, rows: int, error: float, worst: float = 1.0) -> float:
    """How much to bet a row: what reaches the goal soonest within that many rows.

    Args:
        second_moment: Mean square of the losses, from rows that are not tested on.
        rows: How many rows will be tested on.
        error: One less the confidence.
        worst: No loss is further from 0, of all rows together that ask the same.
    """
    # A loss that never showed may be there.
    moment = second_moment + worst**2 / (4 * max(rows, 1))
    best = math.sqrt(2 * math.log(1 / error) / (max(rows, 1) * moment))
    return min(best, MOST_AT_STAKE / worst)


def p_value(loss: FloatArray, limit: float, bet: float, rows: FloatArray | float = 1.0) -> float:
    """Of the hypothesis that the mean loss is above the limit.

    Args:
        loss: [q] of questions in an order that does not depend on them, summed over their rows.
        limit: Highest mean loss of a row that is allowed.
        bet: From `stake`.
        rows: [q] how many rows ask each question.
    """
    capital = np.cumsum(np.log1p(bet * (limit * rows - loss)))
    return math.exp(-max(float(capital.max(initial=0.0)), 0.0))


def upper_bound(
    loss: FloatArray,
    bet: float,
    error: float,
    worst: float = 1.0,
    rows: FloatArray | float = 1.0,
) -> float:
    """The lowest limit that the mean loss is shown to keep, with a confidence of 1 - error.

    Args:
        loss: See `p_value`.
        bet: Likewise.
        error: One less the confidence.
        worst: No loss of a row is further from 0.
        rows: See `p_value`.
    """
    low, high = -worst, worst
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(loss, middle, bet, rows) <= error else (middle, high)
    return high


def first_failure(p_values: Iterable[float], error: float) -> int:
    """How many tests of a fixed sequence pass before the first one fails."""
    passed = 0
    for value in p_values:
        if value > error:
            break
        passed += 1
    return passed


def expected_bound(mean: float, second_moment: float, rows: float, error: float) -> float:
    """About where `upper_bound` of that many rows will be, if losses are as on other rows."""
    return mean + math.sqrt(2 * math.log(1 / error) * second_moment / max(rows, 1))


def rows_needed(mean: float, second_moment: float, limit: float, error: float) -> float:
    """About how many rows show that a mean loss below the limit is below it; infinite if not."""
    if mean >= limit:
        return math.inf
    return 2 * math.log(1 / error) * second_moment / (limit - mean) ** 2
