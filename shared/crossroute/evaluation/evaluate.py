"""Evaluate a router on scored answers, beside the baselines that need no training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError
from crossroute.evaluation.metrics import Hull, realised, sweep
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]


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
    data = data.of_models(known).complete(name)
    narrowed = router.subset(known)
    found = narrowed.predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    chosen = sweep(found.quality[:, columns], found.cost_usd[:, columns], router.reward)
    perfect = sweep(data.score, data.cost_usd)
    mean_cost, mean_score = data.cost_usd.mean(axis=0), data.score.mean(axis=0)
    best = int(mean_score.argmax())
    results = (
        _result("CrossRoute", *realised(chosen, data.score, data.cost_usd), mean_cost),
        _result("Zero router", mean_cost, mean_score, mean_cost),
        Result(
            f"best single ({data.models[best]})",
            None,
            float(mean_score[best]),
            float(mean_cost[best]),
        ),
        Result("random", None, float(mean_score.mean()), float(mean_cost.mean())),
        _result("oracle", *realised(perfect, data.score, data.cost_usd), mean_cost),
    )
    return Evaluation(name, len(data), data.models, left_out, results)


def _result(name: str, costs: FloatArray, scores: FloatArray, mean_cost: FloatArray) -> Result:
    hull = Hull.of(costs, scores)
    return Result(
        name,
        hull.aiq(float(mean_cost.min()), float(mean_cost.max())),
        float(hull.quality[-1]),
        float(hull.cost_usd[-1]),
    )
