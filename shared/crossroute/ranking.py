"""The reward of a candidate: its predicted quality, discounted by its predicted cost.

Both rewards order the candidates of a query by `lambda * utility(quality) - cost`, where lambda is
the willingness to pay in USD a unit of quality, so one rule serves them from lambda = 0 (the
cheapest) to infinity (quality alone):

* exponential, `R = s * exp(-c / lambda)`: utility is `log s` (arXiv 2509.09782, reconstructed);
* linear, `R = s - c / lambda`: utility is `s`.

Under the linear reward lambda is USD a unit of quality. Under the exponential one it is USD a unit
of log quality, which is the same for good answers (`log s` is about `s - 1` near 1) and more for
bad ones: twice the quality is worth `0.69 * lambda` wherever it starts.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import WillingnessToPayError, shortened

RewardName = Literal["exponential", "linear"]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

QUALITY_FLOOR = 1e-4
"""Predicted quality is held at least this high, so that its logarithm is finite."""

LEAST_WILLINGNESS = 1e-200
"""Below it, a cost over a willingness to pay may be too large for a number: it is infinite."""

MOST_WILLINGNESS = 1e100
"""Above it, no cost makes a difference, and a product with it may be too large for a number."""


def amount(value: object) -> float | None:
    """A number from 0 up as a float, infinite where it is too large for one; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        return None
    if not value >= 0:  # NaN, too; math.isnan refuses huge integers.
        return None
    try:
        # Minus zero is zero.
        return abs(float(value))
    except OverflowError:
        return math.inf


def check_willingness_to_pay(value: object) -> float:
    """Return `value` as a float, or say what is wrong with it.

    Args:
        value: Willingness to pay in USD a unit of quality; 0 is the cheapest candidate,
            `math.inf` is quality alone.

    Raises:
        WillingnessToPayError: If it is not a number, NaN, or negative.
    """
    willingness = amount(value)
    if willingness is None:
        raise WillingnessToPayError(
            f"willingness_to_pay is {shortened(value)}; give a number of USD a unit of quality, "
            "from 0 (the cheapest model) up (math.inf: the best model at any cost)."
        )
    return willingness if willingness <= MOST_WILLINGNESS else math.inf


def utility(name: RewardName, quality: FloatArray) -> FloatArray:
    """What a predicted quality is worth, in units of willingness to pay. Any shape."""
    return quality if name == "linear" else np.log(np.maximum(quality, QUALITY_FLOOR))


def preference(
    name: RewardName, quality: FloatArray, cost_usd: FloatArray, willingness_to_pay: float
) -> FloatArray:
    """The order of the candidates: monotone in the reward, and finite for every lambda.

    Args:
        name: `exponential` or `linear`.
        quality: Predicted quality in 0..1, any shape.
        cost_usd: Predicted cost in USD, of the same shape.
        willingness_to_pay: lambda, USD a unit of quality, already checked.

    Returns:
        An array of the same shape; the candidate with the highest value is chosen.
    """
    worth = utility(name, quality)
    return worth if math.isinf(willingness_to_pay) else willingness_to_pay * worth - cost_usd


def reward(
    name: RewardName, quality: FloatArray, cost_usd: FloatArray, willingness_to_pay: float
) -> FloatArray:
    """The reward itself, for people to read; decisions use `preference`.

    At lambda = 0 every cost is infinitely too much: the exponential reward is then 0 and the
    linear one minus infinity, except where the cost is 0.
    """
    cost_usd = np.maximum(cost_usd, 0.0)
    if willingness_to_pay < LEAST_WILLINGNESS:
        pain = np.where(cost_usd > 0, np.inf, 0.0)
    else:
        pain = cost_usd / willingness_to_pay
    if name == "linear":
        return quality - pain
    return np.maximum(quality, QUALITY_FLOOR) * np.exp(-pain)


def rank(
    preferences: FloatArray,
    quality: FloatArray,
    cost_usd: FloatArray,
    tiers: IntArray | None = None,
) -> IntArray:
    """Candidates of each row from the most preferred; of equals the cheaper, then the better.

    Args:
        preferences: [n, m], from `preference`.
        quality: [n, m], predicted quality.
        cost_usd: [n, m], predicted cost in USD.
        tiers: [n, m], candidates of a lower one come first, whatever is preferred; None is one.

    Returns:
        [n, m] indices of candidates.
    """
    keys = (-quality, cost_usd, -preferences)
    return np.lexsort(keys if tiers is None else (*keys, tiers), axis=-1)


def first(preferences: FloatArray, quality: FloatArray, cost_usd: FloatArray) -> IntArray:
    """The first of each row of `rank`, without ordering the others: [n] indices of candidates."""
    tied = preferences == preferences.max(axis=-1, keepdims=True)
    cost = np.where(tied, cost_usd, np.inf)
    tied &= cost == cost.min(axis=-1, keepdims=True)
    return np.asarray(np.where(tied, quality, -np.inf).argmax(axis=-1))


def switching_point(
    name: RewardName,
    quality: FloatArray,
    cost_usd: FloatArray,
    chosen: int,
    *,
    dearer: bool,
    willingness_to_pay: float,
) -> tuple[int, float] | None:
    """The nearest willingness to pay at which another candidate takes over from the chosen one.

    Two candidates have equal rewards at `lambda = (c_j - c_i) / (u_j - u_i)`.

    Args:
        name: `exponential` or `linear`.
        quality: [m], predicted quality.
        cost_usd: [m], predicted cost in USD.
        chosen: Index of the chosen candidate.
        dearer: Whether to look above the present lambda (where dearer ones win) or below.
        willingness_to_pay: The present lambda.

    Returns:
        The other candidate's index and lambda, or None where no other ever takes over.
    """
    worth = utility(name, quality)
    gain, extra = worth - worth[chosen], cost_usd - cost_usd[chosen]
    rivals = (gain > 0) & (extra > 0) if dearer else (gain < 0) & (extra < 0)
    if not rivals.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.where(rivals, extra / gain, np.inf if dearer else -np.inf)
    nearest = int(points.argmin() if dearer else points.argmax())
    point = float(points[nearest])
    if (point < willingness_to_pay) if dearer else (point > willingness_to_pay):
        return None
    return nearest, point
