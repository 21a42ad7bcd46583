"""Linear regression whose weights are believed as far as the data is evidence for them.

Weights come in groups, each with a Gaussian prior of a shape that is given and a spread that is
not: the spreads, the noise among them, are averaged over by their evidence (Bayesian model
averaging; MacKay, Neural Computation 4, 1992). A group that explains nothing ends near zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Group(NamedTuple):
    """Weights that are believed together.

    Attributes:
        design: [n, d] what they are multiplied with.
        root: [d, r], whose product with its transpose is the prior's covariance at spread 1.
        spreads: The spreads to average over.
        doubt: Logarithm of the odds, before any data, against each spread that is not zero.
    """

    design: FloatArray
    root: FloatArray
    spreads: Sequence[float]
    doubt: float = 0.0


class Fit(NamedTuple):
    """The posterior, in the mean over the spreads.

    Attributes:
        intercept: Its mean.
        weights: [d] means for each group.
        fitted: [n] what is predicted of the rows, before it is scaled.
        variance: Of the mean over the rows of what is predicted.
        evidence: Logarithm of the mean evidence, up to a constant of the rows.
    """

    intercept: float
    weights: list[FloatArray]
    fitted: FloatArray
    variance: float
    evidence: float


def regress(
    target: FloatArray,
    groups: Sequence[Group],
    *,
    intercept: tuple[float, float],
    noises: Sequence[float],
    scale: FloatArray | None = None,
) -> Fit:
    """Fit `target = scale * (intercept + sum of design @ weights) + noise`.

    Args:
        target: [n].
        groups: What it may depend on.
        intercept: Mean and standard deviation of its prior.
        noises: Standard deviations of the noise to average over.
        scale: [n], 1 if None.
    """
    mean, deviation = intercept
    of_row = np.ones(len(target)) if scale is None else scale
    rest = target - of_row * mean
    rooted = [group.design @ group.root for group in groups]
    sizes = [1, *(part.shape[1] for part in rooted)]
    design = np.concatenate([np.full((len(rest), 1), deviation), *rooted], axis=1)
    linear, design = design, design * of_row[:, None]
    gram, projected, square = design.T @ design, design.T @ rest, float(rest @ rest)
    average = linear.mean(axis=0)
    found: list[tuple[float, FloatArray, float]] = []
    for noise, *spreads in product(noises, *(group.spreads for group in groups)):
        spread = np.repeat([1.0, *spreads], sizes)
        inner = np.eye(len(spread)) + gram * np.outer(spread, spread) / noise**2
        scaled = average * spread
        solved = np.linalg.solve(inner, np.stack([projected * spread, scaled], axis=1))
        weights = solved[:, 0] * spread / noise**2
        misfit = (square - float(projected @ weights)) / noise**2
        evidence = -0.5 * (misfit + float(np.linalg.slogdet(inner)[1]))
        evidence -= len(rest) * np.log(noise)
        evidence -= sum(g.doubt for g, one in zip(groups, spreads, strict=True) if one > 0)
        found.append((evidence, weights, float(scaled @ solved[:, 1])))
    logs = np.array([evidence for evidence, _, _ in found])
    share = np.exp(logs - logs.max())
    total = share.sum()
    share /= total
    weights = np.sum([s * w for s, (_, w, _) in zip(share, found, strict=True)], axis=0)
    # The variance at given spreads, and that of the mean from spread to spread.
    off = [float(average @ (w - weights)) for _, w, _ in found]
    variance = sum(float(s) * (v + d**2) for s, (_, _, v), d in zip(share, found, off, strict=True))
    first, *others = np.split(weights, np.cumsum(sizes)[:-1])
    return Fit(
        fitted=mean + linear @ weights,
        intercept=mean + deviation * float(first[0]),
        weights=[g.root @ w for g, w in zip(groups, others, strict=True)],
        variance=variance,
        evidence=float(logs.max() + np.log(total)),
    )
