"""What strategies add to routing, on rows to which it is known what each model answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossroute.errors import DataError
from crossroute.evaluation.metrics import FloatArray, Hull, Interval, sweep
from crossroute.evaluation.references import aiq, best_single, predicted
from crossroute.router import CrossRouter
from crossroute.strategies.panel import Panels
from crossroute.training.answers import UNKNOWN, Answers
from crossroute.training.data import LEARNED, RoutingData
from crossroute.training.panels import (
    AnsweredRows,
    Chosen,
    aiq_gain,
    outcome,
    with_arms,
)
from crossroute.training.strategies import choose_strategies

NOT_CHOSEN = Chosen(
    Panels(),
    None,
    "There are no rows to choose strategies on: give some of the split valid, and what models "
    "answered to them.",
)


@dataclass(frozen=True)
class Reached:
    """What a router reaches on rows over all willingnesses to pay.

    Attributes:
        aiq: Mean quality over the cost range of the single models.
        best_quality: The best mean quality.
        cost_at_best_single: The cost at which it reaches the quality of the best single model, as a
            share of that model's; None if it does not reach it.
        points: Mean cost in USD and mean quality of each of its choices, by cost.
    """

    aiq: float
    best_quality: float
    cost_at_best_single: float | None
    points: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON-ready values."""
        return {
            "aiq": self.aiq,
            "best_quality": self.best_quality,
            "cost_at_best_single": self.cost_at_best_single,
            "points": [list(point) for point in self.points],
        }


@dataclass(frozen=True)
class StrategyComparison:
    """Routing alone beside routing among single models and strategies, on the same rows.

    Attributes:
        dataset: Name of the data set.
        prompts: How many rows were compared.
        answered: To how many of these the answers of two models at least are known; of the others,
            single models are chosen in both cases.
        routing: Single models alone.
        strategies: Single models and arms.
        gain: In AIQ, with its 95 % interval by paired bootstrap over questions.
        panels: The models of each panel, in the order in which they are asked.
        why: How they were chosen, in a sentence.
    """

    dataset: str
    prompts: int
    answered: int
    routing: Reached
    strategies: Reached
    gain: Interval
    panels: tuple[tuple[str, ...], ...]
    why: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON-ready values."""
        gain = self.gain
        return {
            "routing": self.routing.to_dict(),
            "strategies": self.strategies.to_dict(),
            "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high},
            "answered": self.answered,
            "panels": [list(models) for models in self.panels],
            "why": self.why,
        }


def compare_strategies(
    router: CrossRouter,
    data: RoutingData,
    answers: Answers,
    split: str,
    *,
    panels: Panels | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[StrategyComparison]:
    """Compare routing alone with routing among single models and strategies, by data set.

    Args:
        router: What is evaluated.
        data: Rows of all splits.
        answers: From `load_answers`.
        split: The rows to measure on, from which nothing is chosen.
        panels: What was chosen before on other rows of some of the data sets. For the others they
            are chosen on the other rows of the splits `train` and `valid`, and for all where one
            of these is measured on.
        seed: Of everything random.
        on_step: Called with what is being done.

    Raises:
        DataError: If the split has no rows, or a data set two models at least that are known.
        MissingExtraError: If what chooses or trains is not installed.
    """
    data = data.priced(router.pool)
    measured = data.of_split(split)
    given = Panels() if panels is None or split in LEARNED else panels
    chosen = {
        name: Chosen(
            Panels(panels=tuple(one for one in given.panels if one.dataset == name)),
            None,
            "When the checkpoint was trained.",
        )
        for name in {one.dataset for one in given.panels if one.dataset is not None}
    }
    if rest := [name for name in measured.names if name not in chosen]:
        others = data.without_test(split)
        chosen |= choose_strategies(router, others, answers, among=rest, seed=seed, on_step=on_step)
    return [
        _compare(router, name, part, answers, chosen.get(name, NOT_CHOSEN))
        for name, part in measured.by_dataset()
    ]


def _compare(
    router: CrossRouter, name: str, data: RoutingData, answers: Answers, chosen: Chosen
) -> StrategyComparison:
    known = [model for model in data.models if model in router.predicted]
    if len(known) < 2:
        raise DataError(f"{name}: the checkpoint knows fewer than two of its models.")
    data = data.of_models(known).comparable(name)
    rows = AnsweredRows.of(data, *predicted(router, data), answers)
    panels = [one for one in chosen.panels.panels if set(one.models) <= set(data.models)]
    at = np.arange(len(rows))
    realised_by = []
    for outcomes in ([], [outcome(rows, panel) for panel in panels]):
        quality, cost, score, paid = with_arms(rows, outcomes)
        taken = sweep(quality, cost, router.reward, available=~np.isnan(score + paid))
        realised_by.append((score[at, taken], paid[at, taken]))
    alone, beside = realised_by
    return StrategyComparison(
        name,
        len(rows),
        int(((rows.codes != UNKNOWN).sum(axis=1) > 1).sum()),
        _reached(data, *alone),
        _reached(data, *beside),
        aiq_gain(alone, beside, rows.paid_usd, rows.question)[0],
        tuple(panel.models for panel in panels),
        chosen.why,
    )


def _reached(data: RoutingData, score: FloatArray, paid_usd: FloatArray) -> Reached:
    """What choices with scores and costs [w, n] reach."""
    cost, quality = paid_usd.mean(axis=1), score.mean(axis=1)
    hull = Hull.of(cost, quality)
    share = None
    if not np.isnan(data.score).any():
        single = best_single(data.models, data.score, data.cost_usd)
        reached = hull.cost_at(single.quality)
        if np.isfinite(reached) and single.cost_usd > 0:
            share = reached / single.cost_usd
    points = np.unique(np.stack([cost, quality], axis=1), axis=0)
    return Reached(
        aiq(hull, data.cost_usd),
        float(hull.quality[-1]),
        share,
        tuple((one, other) for one, other in points.tolist()),
    )
