"""The routers that any other is measured against."""

from __future__ import annotations

import numpy as np
import pytest

from crossroute import CrossRouter
from crossroute.evaluation.metrics import Hull, realised
from crossroute.evaluation.references import (
    aiq,
    best_single,
    oracle,
    predicted,
    random_choice,
    zero,
)
from crossroute.training.data import RoutingData

SCORE = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
COST = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 6.0], [1.0, 4.0]])


def test_the_zero_router_mixes_single_models() -> None:
    cost, score = realised(zero(SCORE), SCORE, COST)
    assert cost.tolist() == pytest.approx([1.0, 4.0])
    assert score.tolist() == pytest.approx([0.25, 0.75])
    # Halfway between the two in the mean.
    assert aiq(Hull.of(cost, score), COST) == pytest.approx(0.5)


def test_the_oracle_pays_for_what_it_gets() -> None:
    cost, score = realised(oracle(SCORE, COST), SCORE, COST)
    assert cost[0] == pytest.approx(1.0)
    assert (cost[-1], score[-1]) == pytest.approx(((1 + 4 + 1 + 4) / 4, 0.75))


def test_points_have_no_trade_off() -> None:
    assert best_single(["a", "b"], SCORE, COST) == ("best single (b)", 0.75, 4.0)
    assert best_single(["a", "b"], SCORE * 0, COST).router == "best single (a)"
    assert random_choice(SCORE, COST) == ("random", 0.5, 2.5)


def test_predictions_are_in_the_order_of_the_data(
    toy_router: CrossRouter, toy_data: RoutingData
) -> None:
    data = toy_data.of_models(["sage", "clerk"])
    quality, cost = predicted(toy_router, data)
    found = toy_router.subset(["sage", "clerk"]).predict(data.prompts)
    for column, model in enumerate(data.models):
        at = found.models.index(model)
        np.testing.assert_allclose(quality[:, column], found.quality[:, at])
        np.testing.assert_allclose(cost[:, column], found.cost_usd[:, at])
