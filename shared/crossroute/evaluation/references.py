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

CROSSROUTE, FIXED, ZERO, SINGLE, RANDOM, ORACLE = (
    "CrossRoute",
    "fixed order",
    "Zero router",
    "best single",
    "random",
    "oracle",
)
"""The names of routers in results and tables."""


LEVEL_ROWS = 5.0
"""To how many rows the mean of all models weighs up, against a model's own."""
LEVEL_STEPS = 100
"""Of the alternating fit; it has settled long before."""


class Point(NamedTuple):
    """What a router without a trade-off reaches, in the mean over the queries."""

    router: str
    quality: float
    cost_usd: float


def zero(score: FloatArray) -> IntArray:
    """The Zero router's choices [m, n]: each of m single models for all of n queries."""
    n, m = score.shape
    return np.broadcast_to(np.arange(m)[:, None], (m, n))


def levels(score: FloatArray) -> FloatArray:
    """Each model's level [m]: its mean score, corrected for the rows that it was run on.

    Ridge regression of the additive model score = row + level, the simplest case of item response
    theory: rows are not missing at random, for strong models are run on hard tasks. A level is
    shrunk to the mean of all with the weight of `LEVEL_ROWS` rows.

    Args:
        score: [n, m], NaN where a model did not answer.
    """
    known = ~np.isnan(score)
    count = known.sum(axis=1)
    # A row with one answer says nothing of who is better.
    known &= (count > 1)[:, None]
    center, found = np.nanmean(score), np.zeros(score.shape[1])
    answers = known.sum(axis=0)
    for _ in range(LEVEL_STEPS):
        rest = np.where(known, score - found, 0.0)
        row = rest.sum(axis=1) / np.maximum(count, 1)
        rest = np.where(known, score - row[:, None], 0.0)
        found = rest.sum(axis=0) / (answers + LEVEL_ROWS)
        # Rows and levels are known up to a constant.
        found -= found @ answers / max(answers.sum(), 1)
    return np.asarray(np.clip(center + found, 0.0, 1.0))


def fixed_order(past: RoutingData, models: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """What a fixed order goes by: level and mean cost in USD of each model, [m] each.

    A model of which nothing is known is taken to be as good as all in the mean, and to cost what
    they cost in the median.

    Args:
        past: Rows that it learns from, with some of the answers of each model.
        models: Their ids, in the order of the result.
    """
    found, cost = levels(past.score), np.full(len(past.models), np.nan)
    priced = ~np.isnan(past.cost_usd).all(axis=0)
    cost[priced] = np.nanmean(past.cost_usd[:, priced], axis=0)
    cost[~priced] = np.median(cost[priced]) if priced.any() else 0.0
    of = {model: j for j, model in enumerate(past.models)}
    mean, median = float(np.nanmean(past.score)), float(np.median(cost))
    return (
        np.array([found[of[model]] if model in of else mean for model in models]),
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
    if np.isnan(cost_usd).any():
        least, most = np.nanmin(cost_usd, axis=1).mean(), np.nanmax(cost_usd, axis=1).mean()
    else:
        least, most = (mean := cost_usd.mean(axis=0)).min(), mean.max()
    return hull.aiq(float(least), float(most))


def predicted(router: CrossRouter, data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """What a router predicts for the data: quality and cost in USD [n, m], among its m models."""
    found = router.subset(data.models).predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    return found.quality[:, columns], found.cost_usd[:, columns]
