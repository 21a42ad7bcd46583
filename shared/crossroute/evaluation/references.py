"""The routers that any other is measured against; they need no training.

The oracle knows the answers' scores and costs. The Zero router and the fixed order know nothing of
a query: the one mixes single models, the other takes, of the models that can answer, the one that
is worth most by its level and its mean cost. The best single model and a random choice are points,
not curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, sweep
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData
from crossroute.training.levels import FixedOrder

CROSSROUTE, FIXED, ZERO, SINGLE, RANDOM, ORACLE = (
    "CrossRoute",
    "fixed order",
    "Zero router",
    "best single",
    "random",
    "oracle",
)
"""The names of routers in results and tables."""


class Point(NamedTuple):
    """What a router without a trade-off reaches, in the mean over the queries."""

    router: str
    quality: float
    cost_usd: float


def zero(score: FloatArray) -> IntArray:
    """The Zero router's choices [m, n]: each of m single models for all of n queries."""
    n, m = score.shape
    return np.broadcast_to(np.arange(m)[:, None], (m, n))


def fixed_order(past: RoutingData, models: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """What a fixed order goes by: level and mean cost in USD of each model, [m] each.

    A model of which nothing is known is taken to be as good as all in the mean, and to cost what
    they cost in the median.

    Args:
        past: Rows that it learns from, with some of the answers of each model.
        models: Their ids, in the order of the result.
    """
    level, cost, usual = FixedOrder.of(past.score, past.cost_usd)
    of = {model: j for j, model in enumerate(past.models)}
    median = float(np.median(cost))
    return (
        np.array([level[of[model]] if model in of else usual for model in models]),
        np.array([cost[of[model]] if model in of else median for model in models]),
    )


def oracle(score: FloatArray, cost_usd: FloatArray) -> IntArray:
    """The oracle's choices [w, n], by the scores and costs [n, m] of the answers; NaN is none."""
    return sweep(score, cost_usd, available=~np.isnan(score))


def best_single(models: Sequence[str], score: FloatArray, cost_usd: FloatArray) -> Point:
    """The single model with the best mean of the scores [n, m], the first of equals."""
    quality, cost = score.mean(axis=0), cost_usd.mean(axis=0)
    best = int(quality.argmax())
    return Point(f"{SINGLE} ({models[best]})", float(quality[best]), float(cost[best]))


def random_choice(score: FloatArray, cost_usd: FloatArray) -> Point:
    """A model at random for each query, among those that answered it, in expectation."""
    means = (float(np.nanmean(numbers, axis=1).mean()) for numbers in (score, cost_usd))
    return Point(RANDOM, *means)


def aiq(hull: Hull, cost_usd: FloatArray) -> float:
    """AIQ over the range of the single models' mean costs, of costs [n, m].

    Where not every model answered every query, from always the cheapest to always the dearest
    answer that a query has.
    """
    return hull.aiq(*cost_range(cost_usd))


def cost_range(cost_usd: FloatArray, weight: FloatArray | None = None) -> tuple[float, float]:
    """The costs in USD between which AIQ is taken, of costs [n, m].

    Args:
        cost_usd: NaN where a model did not answer.
        weight: [n] of the rows, which add up to 1; None weighs all alike.
    """
    weight = np.full(len(cost_usd), 1 / len(cost_usd)) if weight is None else weight
    if np.isnan(cost_usd).any():
        least, most = (weight @ of(cost_usd, axis=1) for of in (np.nanmin, np.nanmax))
    else:
        mean = weight @ cost_usd
        least, most = mean.min(), mean.max()
    return float(least), float(most)


def predicted(router: CrossRouter, data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """What a router predicts for the data: quality and cost in USD [n, m], among its m models."""
    found = router.subset(data.models).predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    return found.quality[:, columns], found.cost_usd[:, columns]
