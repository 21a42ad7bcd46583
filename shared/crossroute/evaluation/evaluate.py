"""Evaluate a router on scored answers, beside the baselines that need no training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crossroute.errors import DataError
from crossroute.evaluation.deferral import Deferral, Gap, deferral, gap
from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, realised, sweep
from crossroute.evaluation.references import (
    CROSSROUTE,
    FIXED,
    ORACLE,
    ZERO,
    aiq,
    best_single,
    fixed_order,
    oracle,
    predicted,
    random_choice,
    zero,
)
from crossroute.evaluation.saving import UTILITY_AT, Saving, UtilityGain, saving, utility_gains
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
        deferral: Its deferral curve; None for a single point, and where there is no gap.
    """

    router: str
    aiq: float | None
    quality: float
    cost_usd: float
    deferral: Deferral | None = None


@dataclass(frozen=True)
class Evaluation:
    """All routers on one data set.

    Attributes:
        dataset: Name of the data set.
        prompts: How many prompts were evaluated.
        answers: The fewest and the most models that were compared on a prompt. Where every model
            answered most of the prompts, it is those prompts that are evaluated; where not, each
            router chooses among the models that answered a prompt, and there are no single models
            to compare with.
        models: Ids of the candidates.
        left_out: Those of the data that the router does not know, or that are agents.
        results: CrossRoute first, then the baselines.
        saving: What CrossRoute saves at the quality of the best single model; where there are no
            single models to compare with, of the fixed order at an infinite willingness to pay.
            None where there is neither, or there are too few prompts.
        utility: CrossRoute's mean of `score - cost / willingness_to_pay`, less the fixed order's;
            empty where there is no fixed order.
        gap: The weak and the strong model of the deferral curves, or why there are none.
    """

    dataset: str
    prompts: int
    answers: tuple[int, int]
    models: tuple[str, ...]
    left_out: tuple[str, ...]
    results: tuple[Result, ...]
    saving: Saving | None
    utility: tuple[UtilityGain, ...]
    gap: Gap

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON-ready values."""
        return asdict(self)


def evaluate(
    router: CrossRouter, data: RoutingData, past: RoutingData | None = None
) -> list[Evaluation]:
    """Evaluate a router on each data set in `data`, among the models that the set has.

    Costs that no row says are those of the price tables in the router's pool; answers whose cost
    is not known even so are left out.

    Args:
        router: What is evaluated.
        data: Rows that it has not learned from.
        past: Other rows of the same sets, from which the fixed order learns; without any of a set
            there is no fixed order for it.

    Raises:
        DataError: If a data set has fewer than two models that the router knows.
    """
    before = {} if past is None else dict(past.priced(router.pool).by_dataset())
    priced = data.priced(router.pool)
    return [_evaluate(router, name, part, before.get(name)) for name, part in priced.by_dataset()]


def _evaluate(
    router: CrossRouter, name: str, data: RoutingData, past: RoutingData | None
) -> Evaluation:
    known = [model for model in data.models if model in router.predicted]
    if len(known) < 2:
        raise DataError(
            f"{name}: the checkpoint knows {len(known)} of its models "
            f"({', '.join(data.models)}); evaluation needs two. Train a checkpoint on such data."
        )
    left_out = tuple(model for model in data.models if model not in router.predicted)
    data = data.of_models(known).comparable(name)
    score, cost = data.score, data.cost_usd
    here = ~np.isnan(score)
    is_complete = bool(here.all())
    predictions = {CROSSROUTE: predicted(router, data)}
    if past is not None:
        level, mean_cost = (np.broadcast_to(x, score.shape) for x in fixed_order(past, data.models))
        predictions[FIXED] = level, mean_cost
    choices = {
        name: sweep(*found, router.reward, available=here) for name, found in predictions.items()
    }
    fixed = dict(zip(data.models, zero(score), strict=True)) if is_complete else {}
    gains: tuple[UtilityGain, ...] = ()
    if past is not None:
        if not is_complete:
            # What it chooses at an infinite willingness to pay.
            fixed = {FIXED: choices[FIXED][-1]}
        at = [
            sweep(*predictions[name], router.reward, UTILITY_AT, available=here)
            for name in (CROSSROUTE, FIXED)
        ]
        gains = utility_gains(at[0], at[1], score, cost)
    saved = saving(fixed, choices[CROSSROUTE], score, cost) if fixed else None
    if is_complete:
        choices[ZERO] = zero(score)
    choices[ORACLE] = oracle(score, cost)
    between = gap(data.models, score, cost)
    results = [_curve(*item, score, cost, between, data.models) for item in choices.items()]
    points = [best_single(data.models, score, cost)] if is_complete else []
    points.append(random_choice(score, cost))
    results[-1:-1] = [Result(x.router, None, x.quality, x.cost_usd) for x in points]
    answers = here.sum(axis=1)
    return Evaluation(
        name,
        len(data),
        (int(answers.min()), int(answers.max())),
        data.models,
        left_out,
        tuple(results),
        saved,
        gains,
        between,
    )


def _curve(
    name: str,
    chosen: IntArray,
    score: FloatArray,
    cost_usd: FloatArray,
    between: Gap,
    models: tuple[str, ...],
) -> Result:
    hull = Hull.of(*realised(chosen, score, cost_usd))
    return Result(
        name,
        aiq(hull, cost_usd),
        float(hull.quality[-1]),
        float(hull.cost_usd[-1]),
        deferral(between, models, chosen, score, cost_usd, mixed=name == ZERO),
    )
