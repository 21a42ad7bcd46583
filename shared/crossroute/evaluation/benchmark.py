"""The benchmark: CrossRoute and every baseline under one protocol.

Each router learns from the `train` rows and is tuned on the `valid` rows; the figures are of the
`test` rows. CrossRoute is one network for all data sets with fixed settings, each baseline is
fitted and tuned for each data set by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from crossroute.errors import DataError
from crossroute.evaluation.baselines import BASELINES, Baseline, Predict, Training
from crossroute.evaluation.metrics import (
    SWEEP,
    FloatArray,
    Hull,
    IntArray,
    Interval,
    brier,
    expected_calibration_error,
    realised,
    resamples,
    sweep,
)
from crossroute.evaluation.references import (
    CROSSROUTE,
    FIXED,
    ORACLE,
    ZERO,
    Point,
    aiq,
    best_single,
    fixed_order,
    oracle,
    predicted,
    random_choice,
    zero,
)
from crossroute.models.descriptor import ModelDescriptor
from crossroute.network.encoders import QueryEncoder, StaticEncoder
from crossroute.network.features import Features
from crossroute.query import Query
from crossroute.ranking import RewardName
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData
from crossroute.training.train import train

RESAMPLES = 1_000
LAMBDA_STEP = 1.1


@dataclass(frozen=True)
class Figures:
    """One router on one data set; means over seeds. None where a figure has no meaning.

    Attributes:
        router: Its name.
        settings: What was chosen on the valid rows.
        aiq: Mean height of the hull over the cost range of the single models.
        aiq_deviation: Standard deviation of the AIQ over seeds.
        routerbench_aiq: RouterBench's variant: from the router's own lowest cost to the highest of
            all routers, divided by that highest.
        quality: Best mean score.
        cost_usd: Mean cost a query at that score.
        perf_gain: Best score relative to the best single model's, less 1.
        cost_save: Largest saving at no less than the best single model's score.
        brier: Mean squared error of predicted quality.
        calibration_error: Expected calibration error of predicted quality.
        cost_error: Median relative error of predicted cost.
        cost_total: Total predicted cost over the realised total, all models.
        crossroute_gain: AIQ of CrossRoute less this router's.
    """

    router: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    aiq: float | None = None
    aiq_deviation: float | None = None
    routerbench_aiq: float | None = None
    quality: float | None = None
    cost_usd: float | None = None
    perf_gain: float | None = None
    cost_save: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    cost_error: float | None = None
    cost_total: float | None = None
    crossroute_gain: Interval | None = None


@dataclass(frozen=True)
class Stability:
    """What a rise of lambda by 10 % moves, on average where the choice is open.

    Attributes:
        reward: The reward.
        mix: Share of queries that go to another model.
        cost: Relative change of the mean realised cost.
    """

    reward: RewardName
    mix: float
    cost: float


@dataclass(frozen=True)
class DatasetReport:
    """The benchmark on one data set.

    Attributes:
        dataset: Its name.
        prompts: Test prompts, those that every model answered.
        models: Ids of the models.
        figures: CrossRoute first, then the others.
        shuffled_aiq: AIQ of CrossRoute's own choices, permuted over the queries.
        stability: Of both rewards with CrossRoute's predictions.
        curves: For plots: each router's hull as costs and scores.
        reliability: For plots: predicted quality and score of CrossRoute, flattened.
        mix: For plots: share of each model at each willingness to pay [w, m].
    """

    dataset: str
    prompts: int
    models: tuple[str, ...]
    figures: tuple[Figures, ...]
    shuffled_aiq: float
    stability: tuple[Stability, ...]
    curves: Mapping[str, Hull]
    reliability: tuple[FloatArray, FloatArray]
    mix: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON-ready values, without what is only for plots."""
        return {
            "dataset": self.dataset,
            "prompts": self.prompts,
            "models": list(self.models),
            "shuffled_aiq": self.shuffled_aiq,
            "stability": [asdict(item) for item in self.stability],
            "figures": [asdict(item) for item in self.figures],
        }


@dataclass(frozen=True)
class Report:
    """The benchmark on all data sets.

    Attributes:
        datasets: One report each.
        pooled: CrossRoute's gain over each router, the mean over data sets.
        seeds: Seeds that were averaged over.
    """

    datasets: tuple[DatasetReport, ...]
    pooled: Mapping[str, Interval]
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON-ready values."""
        return {
            "seeds": self.seeds,
            "pooled_crossroute_gain": {name: asdict(x) for name, x in self.pooled.items()},
            "datasets": [report.to_dict() for report in self.datasets],
        }


def benchmark(
    data: RoutingData,
    *,
    known: Mapping[str, ModelDescriptor] | None = None,
    encoder: QueryEncoder | None = None,
    seeds: int = 3,
    baselines: Sequence[Baseline] = BASELINES,
    on_step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Train, tune and compare all routers.

    Args:
        data: Rows of all three splits, of one or several data sets.
        known: Descriptors of models with known prices; see `crossroute.training.train.train`.
        encoder: The shipped one if None.
        seeds: How often whatever is random is repeated.
        baselines: Whom to compare with.
        on_step: Told what is being done.

    Raises:
        DataError: If a data set lacks a split, has fewer than two models, or has one of them in
            some splits only.
    """
    encoder = encoder or StaticEncoder()
    # Before anything is trained, which takes long.
    datasets = [(name, _splits(name, part)) for name, part in data.by_dataset()]
    routers = []
    for seed in range(seeds):
        on_step(f"{CROSSROUTE}, seed {seed}")
        routers.append(train(data, known=known, encoder=encoder, seed=seed))
    reports, samples = [], []
    for name, splits in datasets:
        arrays = {split: _arrays(rows, encoder) for split, rows in splits.items()}
        contest = _Contest(name, splits["test"], routers)
        contest.enter_fixed_order(splits["train"])
        for baseline in baselines:
            on_step(f"{name}: {baseline.name}")
            contest.enter(baseline, *_tune(baseline, arrays, seeds), arrays["test"])
        report, drawn = contest.report()
        reports.append(report)
        samples.append(drawn)
    pooled = {
        router: _interval(np.mean([drawn[CROSSROUTE] - drawn[router] for drawn in samples], axis=0))
        for router in samples[0]
        if router != CROSSROUTE
    }
    return Report(tuple(reports), pooled, seeds)


def _splits(name: str, data: RoutingData) -> dict[str, RoutingData]:
    """The rows of each split that have all models of the data set."""
    if len(data.models) < 2:
        raise DataError(f"{name}: has answers of one model only; a benchmark needs two.")
    splits = {split: data.of_split(split) for split in ("train", "valid", "test")}
    for split, rows in splits.items():
        if missing := [model for model in data.models if model not in rows.models]:
            raise DataError(
                f"{name}: no row of the split {split!r} has an answer of {', '.join(missing)}; "
                "name the others with --model."
            )
    return {split: rows.complete(name) for split, rows in splits.items()}


@dataclass(frozen=True)
class _Arrays:
    features: FloatArray
    vector_size: int
    score: FloatArray
    cost_usd: FloatArray


def _arrays(data: RoutingData, encoder: QueryEncoder) -> _Arrays:
    features = Features.of([Query.of(prompt) for prompt in data.prompts], encoder).of_instance
    return _Arrays(features.astype(np.float64), encoder.dimension, data.score, data.cost_usd)


def _tune(
    baseline: Baseline, arrays: Mapping[str, _Arrays], seeds: int
) -> tuple[Mapping[str, Any], list[Predict]]:
    """The best settings on valid, and the baseline fitted with them once a seed."""
    train_rows, valid = arrays["train"], arrays["valid"]
    mean = train_rows.features.mean(axis=0)
    scale = np.maximum(train_rows.features.std(axis=0), 1e-6)
    # As in CrossRoute's training, the encoder's numbers have one scale in common.
    scale[: train_rows.vector_size] = np.sqrt((scale[: train_rows.vector_size] ** 2).mean())

    def fit(settings: Mapping[str, Any], seed: int) -> Predict:
        settings = dict(settings)
        used = slice(None) if settings.pop("form") else slice(train_rows.vector_size)

        def standard(features: FloatArray) -> FloatArray:
            return np.asarray(((features - mean) / scale)[:, used])

        predict = baseline.fit(
            Training(standard(train_rows.features), train_rows.score, train_rows.cost_usd, seed),
            **settings,
        )
        return lambda features: predict(standard(features))

    def valid_aiq(predict: Predict) -> float:
        chosen = sweep(*predict(valid.features), baseline.reward)
        return aiq(Hull.of(*realised(chosen, valid.score, valid.cost_usd)), valid.cost_usd)

    fitted = [(fit(settings, 0), settings) for settings in baseline.grid]
    best, settings = max(fitted, key=lambda pair: valid_aiq(pair[0]))
    others = range(1, seeds if baseline.random else 1)
    return settings, [best, *(fit(settings, seed) for seed in others)]


@dataclass(frozen=True)
class _Entry:
    """A router in the contest: for each seed predictions (if any) and choices [w, n]."""

    settings: Mapping[str, Any]
    predictions: Sequence[tuple[FloatArray, FloatArray]]
    chosen: Sequence[IntArray]


class _Contest:
    """All routers on the test rows of one data set."""

    def __init__(self, name: str, test: RoutingData, routers: Sequence[CrossRouter]) -> None:
        self.name, self.test = name, test
        self.entries: dict[str, _Entry] = {}
        predictions = [predicted(router, test) for router in routers]
        self._add(CROSSROUTE, {}, predictions, "exponential")

    def enter(
        self,
        baseline: Baseline,
        settings: Mapping[str, Any],
        fitted: Sequence[Predict],
        test: _Arrays,
    ) -> None:
        """Add a tuned baseline."""
        predictions = [predict(test.features) for predict in fitted]
        self._add(baseline.name, settings, predictions, baseline.reward)

    def enter_fixed_order(self, past: RoutingData) -> None:
        """Add the fixed order that rows of the past show."""
        shape = self.test.score.shape
        level, cost = fixed_order(past, self.test.models)
        predictions = [(np.broadcast_to(level, shape), np.broadcast_to(cost, shape))]
        self._add(FIXED, {}, predictions, "exponential")

    def _add(
        self,
        name: str,
        settings: Mapping[str, Any],
        predictions: Sequence[tuple[FloatArray, FloatArray]],
        reward: RewardName,
    ) -> None:
        chosen = [sweep(quality, cost, reward) for quality, cost in predictions]
        self.entries[name] = _Entry(settings, predictions, chosen)

    def report(self) -> tuple[DatasetReport, dict[str, FloatArray]]:
        """All figures, and the bootstrapped AIQ of every router [RESAMPLES]."""
        score, cost = self.test.score, self.test.cost_usd
        chosen = {name: entry.chosen for name, entry in self.entries.items()}
        chosen |= {ZERO: [zero(score)], ORACLE: [oracle(score, cost)]}
        hulls = {
            name: [Hull.of(*realised(c, score, cost)) for c in each]
            for name, each in chosen.items()
        }
        drawn = _resampled_aiq(chosen, score, cost)
        highest = max(float(hull.cost_usd[-1]) for each in hulls.values() for hull in each)
        single = best_single(self.test.models, score, cost)

        figures = []
        for name, each in hulls.items():
            entry = self.entries.get(name)
            figure = self._hull_figures(name, each, highest, single)
            if entry:
                figure = replace(figure, settings=entry.settings, **_truth(entry, score, cost))
            if name != CROSSROUTE:
                figure = replace(figure, crossroute_gain=_interval(drawn[CROSSROUTE] - drawn[name]))
            figures.append(figure)
        figures += [
            Figures(point.router, quality=point.quality, cost_usd=point.cost_usd)
            for point in (single, random_choice(score, cost))
        ]
        ours = self.entries[CROSSROUTE]
        mix = np.stack([(ours.chosen[0] == j).mean(axis=1) for j in range(score.shape[1])], axis=1)
        report = DatasetReport(
            dataset=self.name,
            prompts=len(score),
            models=self.test.models,
            figures=tuple(figures),
            # The expectation over permutations: each model's share at its own means.
            shuffled_aiq=aiq(Hull.of(mix @ cost.mean(axis=0), mix @ score.mean(axis=0)), cost),
            stability=tuple(
                _stability(name, *ours.predictions[0], cost) for name in ("exponential", "linear")
            ),
            curves={name: each[0] for name, each in hulls.items()},
            reliability=(ours.predictions[0][0].ravel(), score.ravel()),
            mix=mix,
        )
        return report, drawn

    def _hull_figures(
        self, name: str, hulls: Sequence[Hull], highest: float, single: Point
    ) -> Figures:
        cost = self.test.cost_usd
        heights = [aiq(hull, cost) for hull in hulls]
        quality = float(np.mean([hull.quality[-1] for hull in hulls]))
        reached = [hull.cost_at(single.quality) for hull in hulls]
        comparable = single.cost_usd > 0 and np.isfinite(reached).all()
        return Figures(
            router=name,
            aiq=float(np.mean(heights)),
            aiq_deviation=float(np.std(heights)),
            routerbench_aiq=float(np.mean([_routerbench_aiq(hull, highest) for hull in hulls])),
            quality=quality,
            cost_usd=float(np.mean([hull.cost_usd[-1] for hull in hulls])),
            perf_gain=quality / single.quality - 1 if single.quality > 0 else None,
            cost_save=1 - float(np.mean(reached)) / single.cost_usd if comparable else None,
        )


def _truth(entry: _Entry, score: FloatArray, cost: FloatArray) -> dict[str, Any]:
    """How true the predictions are, the mean over seeds."""
    paid = cost > 0

    def mean(figure: Callable[[FloatArray, FloatArray], float]) -> float:
        return float(np.mean([figure(*prediction) for prediction in entry.predictions]))

    return {
        "brier": mean(lambda quality, _: brier(quality.clip(0, 1), score)),
        "calibration_error": mean(
            lambda quality, _: expected_calibration_error(quality.clip(0, 1), score)
        ),
    } | (
        {
            "cost_error": mean(lambda _, usd: float(np.median(abs(usd - cost)[paid] / cost[paid]))),
            "cost_total": mean(lambda _, usd: float(usd.sum() / cost.sum())),
        }
        if paid.any()
        else {}
    )


def _routerbench_aiq(hull: Hull, highest_usd: float) -> float:
    lowest = float(hull.cost_usd[0])
    if highest_usd <= 0:
        return float(hull.quality[-1])
    return hull.aiq(lowest, highest_usd) * (highest_usd - lowest) / highest_usd


def _resampled_aiq(
    chosen: Mapping[str, Sequence[IntArray]], score: FloatArray, cost: FloatArray
) -> dict[str, FloatArray]:
    """AIQ of every router on the same resamples of the queries, the mean over its seeds."""
    n = len(score)
    rows = np.arange(n)
    counts = resamples(n, RESAMPLES) / n
    mean_cost = counts @ cost
    low, high = mean_cost.min(axis=1), mean_cost.max(axis=1)

    def drawn(choices: IntArray) -> list[float]:
        # Neighbouring lambdas often choose alike: the hull needs each choice once.
        different = np.unique(choices, axis=0)
        costs = counts @ cost[rows, different].T
        scores = counts @ score[rows, different].T
        return [
            Hull.of(c, s).aiq(float(a), float(b))
            for c, s, a, b in zip(costs, scores, low, high, strict=True)
        ]

    return {name: np.mean([drawn(c) for c in each], axis=0) for name, each in chosen.items()}


def _interval(differences: FloatArray) -> Interval:
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))


def _stability(
    reward: RewardName, quality: FloatArray, predicted: FloatArray, cost: FloatArray
) -> Stability:
    base = [value for value in SWEEP if 0 < value < float("inf")]
    rows = np.arange(len(cost))
    before = sweep(quality, predicted, reward, base)
    after = sweep(quality, predicted, reward, [LAMBDA_STEP * value for value in base])
    spent = cost[rows, before].mean(axis=1)
    # Where nearly all queries go to one end, no reward could move anything.
    span = spent.max() - spent.min()
    between = (spent > spent.min() + 0.02 * span) & (spent < spent.max() - 0.02 * span)
    if not between.any():
        return Stability(reward, 0.0, 0.0)
    moved = (before != after).mean(axis=1)[between]
    change = abs(cost[rows, after].mean(axis=1)[between] / spent[between] - 1)
    return Stability(reward, float(moved.mean()), float(change.mean()))
