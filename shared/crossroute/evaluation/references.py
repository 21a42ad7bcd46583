"""The routers that any other is measured against; they need no training.

The oracle knows the answers' scores and costs. The Zero router knows nothing of a query: it mixes
single models. The best single model and a random choice are points, not curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, sweep
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData

CROSSROUTE, ZERO, SINGLE, RANDOM, ORACLE = (
    "CrossRoute",
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


def oracle(score: FloatArray, cost_usd: FloatArray) -> IntArray:
    """The oracle's choices [w, n], by the scores and costs [n, m] of the answers."""
    return sweep(score, cost_usd)


def best_single(models: Sequence[str], score: FloatArray, cost_usd: FloatArray) -> Point:
    """The single model with the best mean of the scores [n, m], the first of equals."""
    quality, cost = score.mean(axis=0), cost_usd.mean(axis=0)
    best = int(quality.argmax())
    return Point(f"{SINGLE} ({models[best]})", float(quality[best]), float(cost[best]))


def random_choice(score: FloatArray, cost_usd: FloatArray) -> Point:
    """A model at random for each query, in expectation."""
    return Point(RANDOM, float(score.mean()), float(cost_usd.mean()))


def aiq(hull: Hull, cost_usd: FloatArray) -> float:
    """AIQ over the range of the single models' mean costs, of costs [n, m]."""
    mean_cost = cost_usd.mean(axis=0)
    return hull.aiq(float(mean_cost.min()), float(mean_cost.max()))


def predicted(router: CrossRouter, data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """What a router predicts for the data: quality and cost in USD [n, m], among its m models."""
    found = router.subset(data.models).predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    return found.quality[:, columns], found.cost_usd[:, columns]
