"""Evaluate a router on scored answers, beside the baselines that need no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossroute.data import RoutingData
from crossroute.errors import DataError
from crossroute.evaluation.metrics import Hull
from crossroute.reward import RewardName, choose, preference
from crossroute.router import CrossRouter

FloatArray = NDArray[np.float64]

SWEEP: tuple[float, ...] = (0.0, *np.logspace(-7, 4, 221).tolist(), float("inf"))
"""Willingness to pay, from the cheapest model to quality alone, in steps of 12 %."""


@dataclass(frozen=True)
class Result:
    """One router on one data set.

    Attributes:
        router: Its name.
        aiq: Average quality over the cost range of the single models; None for a single point.
        quality: Best mean quality it reaches.
        cost_usd: Mean cost in USD a query at that quality.
    """

    router: str
    aiq: float | None
    quality: float
    cost_usd: float


@dataclass(frozen=True)
class Evaluation:
    """All routers on one data set.

    Attributes:
        dataset: Name of the data set.
        prompts: How many prompts were evaluated: those that every model answered.
        models: Ids of the candidates.
        left_out: Models of the data that the router does not know.
        results: CrossRoute first, then the baselines.
    """

    dataset: str
    prompts: int
    models: tuple[str, ...]
    left_out: tuple[str, ...]
    results: tuple[Result, ...]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON-ready values."""
        return asdict(self)


def evaluate(router: CrossRouter, data: RoutingData) -> list[Evaluation]:
    """Evaluate a router on each data set in `data`, among the models that the set has.

    Raises:
        DataError: If a data set has fewer than two models that the router knows.
    """
    return [_evaluate(router, name, part) for name, part in data.by_dataset()]


def _evaluate(router: CrossRouter, name: str, data: RoutingData) -> Evaluation:
    known = [model for model in data.models if model in router.pool]
    if len(known) < 2:
        raise DataError(
            f"{name}: the checkpoint knows {len(known)} of its models "
            f"({', '.join(data.models)}); evaluation needs two. Train a checkpoint on such data."
        )
    left_out = tuple(model for model in data.models if model not in router.pool)
    data = data.of_models(known).complete()
    narrowed = router.subset(known)
    found = narrowed.predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    swept = sweep(found.quality[:, columns], found.cost_usd[:, columns], data.score, data.cost_usd)
    mean_cost, mean_score = data.cost_usd.mean(axis=0), data.score.mean(axis=0)
    best = int(mean_score.argmax())
    results = (
        _result("CrossRoute", *swept, mean_cost),
        _result("Zero router", mean_cost, mean_score, mean_cost),
        Result(
            f"best single ({data.models[best]})",
            None,
            float(mean_score[best]),
            float(mean_cost[best]),
        ),
        Result("random", None, float(mean_score.mean()), float(mean_cost.mean())),
        _result("oracle", *sweep(data.score, data.cost_usd, data.score, data.cost_usd), mean_cost),
    )
    return Evaluation(name, len(data), data.models, left_out, results)


def sweep(
    quality: FloatArray,
    cost_usd: FloatArray,
    true_score: FloatArray,
    true_cost_usd: FloatArray,
    reward: RewardName = "exponential",
    willingness_to_pay: Sequence[float] = SWEEP,
) -> tuple[FloatArray, FloatArray]:
    """Mean realised cost and score of the choices at each willingness to pay.

    Args:
        quality: [n, m] predicted.
        cost_usd: [n, m] predicted.
        true_score: [n, m] of the answers.
        true_cost_usd: [n, m] of the answers.
        reward: What orders the candidates.
        willingness_to_pay: The w values of lambda.

    Returns:
        Mean cost [w] and mean score [w].
    """
    rows = np.arange(len(quality))
    costs, scores = [], []
    for value in willingness_to_pay:
        chosen = choose(preference(reward, quality, cost_usd, value), cost_usd)
        costs.append(true_cost_usd[rows, chosen].mean())
        scores.append(true_score[rows, chosen].mean())
    return np.array(costs), np.array(scores)


def _result(name: str, costs: FloatArray, scores: FloatArray, mean_cost: FloatArray) -> Result:
    hull = Hull.of(costs, scores)
    return Result(
        name,
        hull.aiq(float(mean_cost.min()), float(mean_cost.max())),
        float(hull.quality[-1]),
        float(hull.cost_usd[-1]),
    )
