from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes_core import make_rows

from crossroute import DataError
from crossroute.evaluation.baselines import BASELINES, Training
from crossroute.evaluation.benchmark import (
    Figures,
    Report,
    _resampled_aiq,
    _routerbench_aiq,
    _stability,
    benchmark,
)
from crossroute.evaluation.evaluate import Evaluation
from crossroute.evaluation.leave_one_out import leave_one_out
from crossroute.evaluation.metrics import Hull
from crossroute.evaluation.plots import plot
from crossroute.evaluation.references import CROSSROUTE, ORACLE, ZERO
from crossroute.evaluation.report import COLUMNS, markdown, tables
from crossroute.training.data import RoutingData, Row

# The toy data sets are too small for some baselines to settle, and for a kernel map to be short.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:n_components was set to n_samples:UserWarning"),
]


def rows_of(name: str, seed: int, renamed: str = "") -> list[Row]:
    rows = []
    for row in make_rows(300, seed):
        outputs = row["outputs"]
        assert isinstance(outputs, dict)
        named = {model + renamed: output for model, output in outputs.items()}
        rows.append(Row.model_validate(row | {"dataset": name, "outputs": named}))
    return rows


@pytest.fixture(scope="module")
def data() -> RoutingData:
    return RoutingData.from_rows([*rows_of("one", 1), *rows_of("two", 2, "-2")])


@pytest.fixture(scope="module")
def report(data: RoutingData) -> Report:
    return benchmark(data, seeds=2)


@pytest.fixture(scope="module")
def unseen(data: RoutingData) -> list[Evaluation]:
    return leave_one_out(data)


def named(report: Report, dataset: int = 0) -> dict[str, Figures]:
    return {figures.router: figures for figures in report.datasets[dataset].figures}


def test_every_router_is_measured(report: Report) -> None:
    found = named(report)
    expected = {CROSSROUTE, ZERO, ORACLE, "random", *(baseline.name for baseline in BASELINES)}
    assert expected <= set(found)
    for name in (CROSSROUTE, *(baseline.name for baseline in BASELINES)):
        figures = found[name]
        for value in (figures.aiq, figures.brier, figures.calibration_error, figures.cost_total):
            assert value is not None
            assert np.isfinite(value)
        aiq, best = figures.aiq, found[ORACLE].aiq
        assert aiq is not None
        assert best is not None
        assert aiq <= best + 1e-9


def test_who_knows_the_kinds_beats_who_does_not(report: Report) -> None:
    for dataset in (0, 1):
        found = named(report, dataset)
        gain = found[ZERO].crossroute_gain
        assert gain is not None
        assert gain.low > 0
        aiq = found[CROSSROUTE].aiq
        assert aiq is not None
        assert report.datasets[dataset].shuffled_aiq < aiq - 0.02
    assert report.pooled[ZERO].low > 0


def test_the_interval_is_of_the_same_queries() -> None:
    rng = np.random.default_rng(0)
    score, cost = rng.integers(0, 2, (200, 3)).astype(float), rng.uniform(0.1, 1, (200, 3))
    chosen = rng.integers(0, 3, (5, 200))
    drawn = _resampled_aiq({"a": [chosen], "b": [chosen.copy()]}, score, cost)
    assert (drawn["a"] == drawn["b"]).all()
    assert drawn["a"].std() > 0


def test_figures_by_hand() -> None:
    hull = Hull(np.array([1.0, 3.0]), np.array([0.4, 0.8]))
    assert hull.cost_at(0.6) == pytest.approx(2.0)
    assert hull.cost_at(0.3) == 1.0
    assert hull.cost_at(0.9) == float("inf")
    # Area 0.6 * 2 + 0.8 * 1 from 1 to 4, divided by 4.
    assert _routerbench_aiq(hull, 4.0) == pytest.approx(0.5)


def test_stability_counts_what_moves() -> None:
    quality = np.array([[0.5, 0.9]] * 50)
    cost = np.linspace(0.001, 0.1, 50)[:, None] * np.array([[0.0, 1.0]])
    for reward in ("exponential", "linear"):
        found = _stability(reward, quality, cost, cost)
        # A rise by a tenth takes in a tenth of the queries that are in already, 5 % on average.
        assert 0 < found.mix < 0.1
        assert found.cost > 0


def test_a_baseline_learns_from_what_it_is_given() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6))
    score = np.stack([features[:, 0] > 0, features[:, 0] <= 0], axis=1).astype(float)
    cost = np.full((300, 2), 0.01)
    for baseline in BASELINES:
        settings = {k: v for k, v in baseline.grid[0].items() if k != "form"}
        quality, usd = baseline.fit(Training(features, score, cost, 0), **settings)(features)
        assert quality.shape == usd.shape == (300, 2)
        assert (quality.argmax(axis=1) == score.argmax(axis=1)).mean() > 0.6, baseline.name
        assert usd == pytest.approx(cost, rel=0.01)


def test_the_report_can_be_read(report: Report, unseen: list[Evaluation], tmp_path: Path) -> None:
    page = markdown(report, unseen, plot(report, tmp_path), "crossroute benchmark x")
    assert page.count("## ") == 4
    for column in COLUMNS:
        assert column in page
    for name in ("curves", "reliability", "mix"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert f"({name}.png)" in page
    assert len(list(tables(report))) == 3
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert len(content["datasets"][0]["figures"]) == len(BASELINES) + 6


def test_a_set_left_out_of_training_is_still_routed(
    data: RoutingData, unseen: list[Evaluation]
) -> None:
    for evaluation in unseen:
        ours, zero, *_ = evaluation.results
        assert ours.aiq is not None
        assert zero.aiq is not None
        assert ours.aiq > zero.aiq
    alone = data.select(data.dataset == "one")
    with pytest.raises(DataError, match="'one' only"):
        leave_one_out(alone)


def test_a_benchmark_needs_two_models_and_three_splits(data: RoutingData) -> None:
    with pytest.raises(DataError, match="'valid'"):
        benchmark(data.select(data.split != "valid"), seeds=1, baselines=())
    one = data.of_models(["poet", "sage", "poet-2"])
    with pytest.raises(DataError, match="two: has answers of one model only"):
        benchmark(one, seeds=1, baselines=())


def test_all_models_may_cost_nothing(data: RoutingData) -> None:
    one = data.select(data.dataset == "one")
    free = replace(one, cost_usd=np.zeros_like(one.cost_usd))
    figures = named(benchmark(free, seeds=1, baselines=BASELINES[:1]))
    assert figures[CROSSROUTE].aiq is not None


def test_all_answers_may_be_wrong(data: RoutingData) -> None:
    one = data.select(data.dataset == "one")
    wrong = replace(one, score=np.zeros_like(one.score))
    figures = named(benchmark(wrong, seeds=1, baselines=BASELINES[:1]))
    assert figures[CROSSROUTE].quality == 0
    assert figures[CROSSROUTE].perf_gain is None


def test_a_model_of_one_split_only_is_named(data: RoutingData) -> None:
    one = data.select(data.dataset == "one")
    score = one.score.copy()
    score[one.split == "test", one.models.index("sage")] = np.nan
    with pytest.raises(DataError, match="one: no row of the split 'test' has an answer of sage"):
        benchmark(replace(one, score=score), seeds=1, baselines=())


@pytest.mark.parametrize("alike", [False, True])
def test_few_rows_make_few_clusters(alike: bool) -> None:
    features = np.random.default_rng(0).normal(size=(20, 6))
    if alike:
        features[1:] = features[0]
    data = Training(features, np.full((20, 2), 0.5), np.full((20, 2), 0.01), 0)
    (cluster,) = (baseline for baseline in BASELINES if "k-means" in baseline.name)
    quality, usd = cluster.fit(data, clusters=64)(features)
    assert quality == pytest.approx(data.score)
    assert usd == pytest.approx(data.cost_usd)
