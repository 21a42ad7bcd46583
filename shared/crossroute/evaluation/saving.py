"""What a router saves at the quality of the best fixed choice, and what it adds in utility.

The saving is read off the router's hull on the prompts that it is measured on, which is optimistic:
of many points, the best looks better than it is. That the best single model is the best on these
prompts, too, works against it. Believe the interval, not the figure: where models are nearly as
good as each other, CrossRoute's own choices in a random order of the prompts "save" a third in the
mean, but with an interval that begins at 0. To find a willingness to pay on one half of the prompts
and to measure it on the other was tried as well: the quality that it has there is another one, and
its intervals held the truth of known wholes less often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, Interval, resamples

RESAMPLES = 500

FEWEST = 20
"""With fewer prompts, a bootstrap says nothing."""

SURE = 0.02
"""Intervals of choices in a random order of the prompts began above it in 0 to 7 % of draws."""

ROUNDING = 1e-9
"""What is nearer to 0 is 0: a router that chooses as its baseline does saves nothing."""

UTILITY_AT = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
"""Willingness to pay in USD, at which utilities are compared."""


@dataclass(frozen=True)
class Saving:
    """What a router saves at the quality of a fixed choice.

    Attributes:
        baseline: Whose quality: the id of the best single model, or the name of a router.
        share: Saved share of the baseline's cost, with its 95 % interval: 0 where the quality is
            not reached for less.
    """

    baseline: str
    share: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval begins where chance alone seldom has one begin."""
        return self.share.low > SURE


@dataclass(frozen=True)
class UtilityGain:
    """Mean of `score - cost / willingness_to_pay` of a router, less that of another.

    Attributes:
        willingness_to_pay: USD a unit of quality.
        gain: The difference in units of quality, with its 95 % interval.
    """

    willingness_to_pay: float
    gain: Interval


def saving(
    baselines: Mapping[str, IntArray], chosen: IntArray, score: FloatArray, cost_usd: FloatArray
) -> Saving | None:
    """What is saved at the quality of the best of some fixed choices.

    That is one less the cost at which the router's hull reaches the best baseline's mean score,
    over that baseline's mean cost. The interval is of a paired bootstrap over prompts, with the
    best baseline and the hull found anew in each resample.

    Args:
        baselines: The choice for each of n prompts of each baseline, by its name.
        chosen: [w, n] the router's choices, from `sweep`.
        score: [n, m] of the answers.
        cost_usd: [n, m] of the answers.

    Returns:
        None where there are fewer than `FEWEST` prompts, or the baseline costs nothing.
    """
    n = len(score)
    if n < FEWEST:
        return None
    weights = _weights(n)
    rows = np.arange(n)

    def means(choices: IntArray) -> tuple[FloatArray, FloatArray]:
        return weights @ cost_usd[rows, choices].T, weights @ score[rows, choices].T

    fixed_cost, fixed_quality = means(np.array(list(baselines.values())))
    best = fixed_quality.argmax(axis=1)
    if not fixed_cost[0, best[0]] > 0:
        return None
    # Neighbouring values often choose alike: the hull needs each choice once.
    costs, qualities = means(np.unique(chosen, axis=0))
    shares = np.zeros(len(weights))
    for i, j in enumerate(best):
        if (paid := fixed_cost[i, j]) > 0:
            reached = Hull.of(costs[i], qualities[i]).cost_at(float(fixed_quality[i, j]))
            shares[i] = max(1 - reached / paid, 0.0)
    return Saving(list(baselines)[best[0]], _interval(shares))


def quality_gain(
    baseline: IntArray, chosen: IntArray, score: FloatArray, cost_usd: FloatArray
) -> Interval | None:
    """How much better a router is at the cost of a fixed choice, in units of quality.

    That is the height of the router's hull at the baseline's mean cost, less the baseline's mean
    score; as optimistic as `saving`, and with an interval of the same kind.

    Args:
        baseline: [n] the choice for each prompt.
        chosen: [w, n] the router's choices, from `sweep`.
        score: [n, m] of the answers.
        cost_usd: [n, m] of the answers.

    Returns:
        None where there are fewer than `FEWEST` prompts.
    """
    n = len(score)
    if n < FEWEST:
        return None
    weights, rows = _weights(n), np.arange(n)
    paid, reached = (weights @ table[rows, baseline] for table in (cost_usd, score))
    different = np.unique(chosen, axis=0)
    costs, qualities = (weights @ table[rows, different].T for table in (cost_usd, score))
    gains = [
        float(Hull.of(costs[i], qualities[i]).at(paid[[i]])[0]) - reached[i]
        for i in range(len(weights))
    ]
    return _interval(np.array(gains))


def utility_gains(
    chosen: IntArray, other: IntArray, score: FloatArray, cost_usd: FloatArray
) -> tuple[UtilityGain, ...]:
    """How much more utility a router has than another, by paired bootstrap over prompts.

    Args:
        chosen: [u, n] the router's choices at each of `UTILITY_AT`.
        other: [u, n] those of the other.
        score: [n, m] of the answers.
        cost_usd: [n, m] of the answers.
    """
    n = len(score)
    rows = np.arange(n)
    at = np.array(UTILITY_AT)[:, None]
    difference = (score[rows, chosen] - score[rows, other]) - (
        cost_usd[rows, chosen] - cost_usd[rows, other]
    ) / at
    gains = (_weights(n) @ difference.T).T
    return tuple(
        UtilityGain(value, _interval(gain)) for value, gain in zip(UTILITY_AT, gains, strict=True)
    )


def _weights(n: int) -> FloatArray:
    """The weights of n prompts in the data as it is, then in each resample."""
    return np.concatenate([np.ones((1, n)), resamples(n, RESAMPLES)]) / n


def _interval(values: FloatArray) -> Interval:
    """The first value, of the data as it is, with the interval of the others."""
    values = np.where(abs(values) < ROUNDING, 0.0, values)
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
