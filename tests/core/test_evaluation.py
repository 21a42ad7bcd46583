from __future__ import annotations

import json

import numpy as np
import pytest
from fakes_core import SETS, SHARED_DATA

from crossroute import CrossRouter, DataError
from crossroute.evaluation.evaluate import Evaluation, evaluate
from crossroute.evaluation.metrics import (
    Hull,
    brier,
    calibration,
    expected_calibration_error,
    realised,
    sweep,
)
from crossroute.training.data import RoutingData


def hull(*points: tuple[float, float]) -> Hull:
    costs, qualities = np.array(points).T
    return Hull.of(costs, qualities)


def test_the_hull_is_concave_and_never_falls() -> None:
    found = hull((1, 0.2), (2, 0.1), (3, 0.3), (2, 0.5), (5, 0.6), (6, 0.55))
    assert found.cost_usd.tolist() == [1, 2, 5]
    assert found.quality.tolist() == [0.2, 0.5, 0.6]


def test_aiq_by_hand() -> None:
    # A straight line from (1, 0.4) to (3, 0.8), then flat to 5: (0.6 * 2 + 0.8 * 2) / 4.
    assert hull((1, 0.4), (3, 0.8)).aiq(1, 5) == pytest.approx(0.7)
    # The hull extended flat to the left.
    assert hull((1, 0.4), (3, 0.8)).aiq(0, 1) == pytest.approx(0.4)
    assert hull((2, 0.5)).aiq(1, 3) == pytest.approx(0.5)
    assert hull((2, 0.5)).aiq(2, 2) == pytest.approx(0.5)


def test_aiq_is_that_of_a_fine_numeric_integral() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = Hull.of(rng.uniform(0, 1, 30), rng.uniform(0, 1, 30))
        low, high = np.sort(rng.uniform(0, 1, 2))
        grid = np.linspace(low, high, 200_001)
        assert found.aiq(low, high) == pytest.approx(float(found.at(grid).mean()), abs=1e-4)


def test_equal_costs_keep_the_best() -> None:
    assert hull((1, 0.1), (1, 0.5), (1, 0.3)).quality.tolist() == [0.5]


def test_a_perfect_prediction_is_the_oracle() -> None:
    score = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    cost = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    costs, scores = realised(sweep(score, cost), score, cost)
    assert scores.max() == 1.0
    assert costs[scores.argmax()] == pytest.approx(4 / 3)
    assert (costs[0], scores[0]) == (1.0, pytest.approx(2 / 3))


def test_calibration_by_hand() -> None:
    quality = np.array([[0.05, 0.95], [0.05, 1.0], [0.45, 0.95]])
    score = np.array([[0.0, 1.0], [0.5, 1.0], [0.0, 0.0]])
    share, predicted, observed = calibration(quality, score)
    assert share == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert predicted == pytest.approx([0.05, 0.45, 2.9 / 3])
    assert observed == pytest.approx([0.25, 0.0, 2 / 3])
    assert expected_calibration_error(quality, score) == pytest.approx(
        2 / 6 * 0.2 + 1 / 6 * 0.45 + 3 / 6 * 0.3
    )
    assert brier(quality, score) == pytest.approx(((quality - score) ** 2).mean())


def by_name(evaluation: Evaluation) -> dict[str, float]:
    return {r.router.split(" (")[0]: r.aiq for r in evaluation.results if r.aiq is not None}


def test_evaluate_beside_its_baselines(toy_router: CrossRouter, toy_data: RoutingData) -> None:
    (evaluation,) = evaluate(toy_router, toy_data.of_split("test"))
    assert evaluation.dataset == "toy"
    assert evaluation.prompts == int((toy_data.split == "test").sum())
    assert [r.router.split(" (")[0] for r in evaluation.results] == [
        "CrossRoute",
        "Zero router",
        "best single",
        "random",
        "oracle",
    ]
    aiq = by_name(evaluation)
    assert aiq["Zero router"] < aiq["CrossRoute"] <= aiq["oracle"]
    single = evaluation.results[2]
    test = toy_data.of_split("test")
    assert single.quality == pytest.approx(test.score.mean(axis=0).max())
    assert json.loads(json.dumps(evaluation.to_dict()))["prompts"] == evaluation.prompts


def test_models_that_the_checkpoint_lacks_are_left_out(
    toy_router: CrossRouter, toy_data: RoutingData
) -> None:
    (evaluation,) = evaluate(toy_router.subset(["poet", "sage"]), toy_data)
    assert evaluation.models == ("poet", "sage")
    assert evaluation.left_out == ("clerk",)
    with pytest.raises(DataError, match="toy: the checkpoint knows 0 of its models"):
        evaluate(CrossRouter.default(), toy_data)


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_checkpoint_beats_the_zero_router(name: str) -> None:
    file = SHARED_DATA / f"{name}.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"routing data is absent: {file.name}")
    (evaluation,) = evaluate(CrossRouter.shipped(), RoutingData.load([file]).of_split("test"))
    aiq = by_name(evaluation)
    assert aiq["Zero router"] < aiq["CrossRoute"] < aiq["oracle"]
