"""Evaluate a router on scored answers, beside the baselines that need no training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crossroute.errors import DataError
from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, realised, sweep
from crossroute.evaluation.references import (
    CROSSROUTE,
    ORACLE,
    ZERO,
    aiq,
    best_single,
    oracle,
    predicted,
    random_choice,
    zero,
)
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData


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
    score, cost = data.score, data.cost_usd
    results = (
        _curve(CROSSROUTE, sweep(*predicted(router, data), router.reward), score, cost),
        _curve(ZERO, zero(score), score, cost),
        *(
            Result(point.router, None, point.quality, point.cost_usd)
            for point in (best_single(data.models, score, cost), random_choice(score, cost))
        ),
        _curve(ORACLE, oracle(score, cost), score, cost),
    )
    return Evaluation(name, len(data), data.models, left_out, results)


def _curve(name: str, chosen: IntArray, score: FloatArray, cost_usd: FloatArray) -> Result:
    hull = Hull.of(*realised(chosen, score, cost_usd))
    return Result(name, aiq(hull, cost_usd), float(hull.quality[-1]), float(hull.cost_usd[-1]))
