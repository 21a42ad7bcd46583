"""PGR, APGR and CPT, by hand and on routers of which they are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossroute import CrossRouter
from crossroute.evaluation.deferral import SHOWN, Deferral, Gap, deferral, gap
from crossroute.evaluation.evaluate import evaluate
from crossroute.evaluation.metrics import sweep
from crossroute.evaluation.references import ORACLE, ZERO, oracle, zero
from crossroute.training.data import RoutingData

MODELS = ("weak", "strong")
SCORE = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
COST = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 6.0], [1.0, 4.0]])
"""Weak is right in 1 of 4, strong in 3 of 4."""


def test_by_hand() -> None:
    found = gap(MODELS, SCORE, COST)
    assert found == Gap("weak", "strong")
    # Strong is called for nobody, the second, the second and third, and all.
    chosen = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    one = deferral(found, MODELS, chosen, SCORE, COST)
    assert one is not None
    # PGR is 0, .5, .5 and 1 at shares of strong calls of 0, .25, .5 and 1.
    assert one.apgr == pytest.approx(0.25 * 0.25 + 0.25 * 0.5 + 0.5 * 0.75)
    assert one.cpt_50 == pytest.approx(0.25)
    assert one.cpt_80 == pytest.approx(0.5 + 0.5 * 0.6)
    assert len(one.pgr) == len(SHOWN)
    assert one.pgr[0] == pytest.approx(0)
    assert one.pgr[-1] == pytest.approx(1)


def test_three_models_go_by_the_way_in_cost() -> None:
    models = (*MODELS, "middle")
    score = np.column_stack([SCORE, [1.0, 1.0, 0.0, 0.0]])
    cost = np.column_stack([np.full(4, 1.0), np.full(4, 5.0), np.full(4, 2.0)])
    found = gap(models, score, cost)
    assert found == Gap("weak", "strong")
    chosen = np.array([[0] * 4, [2] * 4, [1] * 4])
    one = deferral(found, models, chosen, score, cost)
    assert one is not None
    # Middle recovers half of the gap for a quarter of the way.
    assert one.cpt_50 == pytest.approx(0.25)
    assert one.apgr == pytest.approx(0.25 * 0.25 + 0.75 * 0.75)


def test_a_random_mix_recovers_half_of_the_gap() -> None:
    found = gap(MODELS, SCORE, COST)
    mixed = deferral(found, MODELS, zero(SCORE), SCORE, COST, mixed=True)
    assert mixed is not None
    assert mixed.apgr == pytest.approx(0.5)
    assert mixed.pgr == pytest.approx(SHOWN)
    rng = np.random.default_rng(0)
    score = rng.uniform(size=(20_000, 2)) < [0.3, 0.8]
    order = rng.uniform(size=len(score))
    chosen = np.array([(order < share).astype(np.intp) for share in np.linspace(0, 1, 21)])
    cost = np.tile([1.0, 3.0], (len(score), 1))
    by_chance = deferral(found, MODELS, chosen, score.astype(float), cost)
    assert by_chance is not None
    assert by_chance.apgr == pytest.approx(0.5, abs=0.02)


def test_worse_than_a_random_mix_shows() -> None:
    found = gap(MODELS, SCORE, COST)
    # Strong is called first where it is of no use.
    chosen = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    one = deferral(found, MODELS, chosen, SCORE, COST)
    assert one is not None
    assert one.apgr == pytest.approx(0.25)
    assert one.cpt_50 == pytest.approx(0.75)


def test_the_oracle_goes_beyond_the_strong_model() -> None:
    # Weak is right where strong is not, too.
    score = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    cost = np.tile([1.0, 4.0], (4, 1))
    one = deferral(gap(MODELS, score, cost), MODELS, oracle(score, cost), score, cost)
    assert one is not None
    assert one.pgr[-1] == pytest.approx(1.5)
    # All three that the strong model alone has right change at once.
    assert one.apgr == pytest.approx(0.75 * 1.5 / 2 + 0.25 * 1.5)


def test_a_curve_that_ends_early_is_flat_from_there() -> None:
    one = Deferral.of(np.array([0.0, 0.5]), np.array([0.0, 0.6]))
    assert one.apgr == pytest.approx(0.15 + 0.3)
    assert one.cpt_50 == pytest.approx(0.5 * 5 / 6)
    assert one.cpt_80 is None
    # What begins late begins with the weak model.
    assert Deferral.of(np.array([0.5]), np.array([1.0])).apgr == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("score", "cost", "why"),
    [
        ([[1.0, 0.0]], [[1.0, 2.0]], "the cheapest model, weak, is the best"),
        ([[1.0, 1.0]], [[1.0, 2.0]], "the cheapest model, weak, is the best"),
        ([[1.0, np.nan]], [[1.0, np.nan]], "not every model answered every prompt"),
    ],
)
def test_without_a_gap_there_is_no_curve(
    score: list[list[float]], cost: list[list[float]], why: str
) -> None:
    answers = np.array(score), np.array(cost)
    found = gap(MODELS, *answers)
    assert found.undefined == why
    assert deferral(found, MODELS, np.zeros((1, 1), np.intp), *answers) is None


def test_evaluate_has_them(toy_router: CrossRouter, toy_data: RoutingData) -> None:
    test = toy_data.of_split("test")
    (evaluation,) = evaluate(toy_router, test, toy_data.of_split("train"))
    assert evaluation.gap.strong == "sage"
    found = {one.router: one.deferral for one in evaluation.results}
    curves = {name for name, one in found.items() if one is not None}
    assert curves == {"CrossRoute", "fixed order", ZERO, ORACLE}
    own, best = found["CrossRoute"], found[ORACLE]
    assert own is not None
    assert best is not None
    # It knows who is good at what, which is worth more than a mix.
    assert 0.5 < own.apgr < best.apgr
    assert own.cpt_80 is not None
    plain = json.loads(json.dumps(evaluation.to_dict()))
    assert plain["results"][0]["deferral"]["apgr"] == pytest.approx(own.apgr)
    assert plain["gap"] == {
        "weak": evaluation.gap.weak,
        "strong": "sage",
        "undefined": None,
    }


def test_it_is_that_of_the_sweep(toy_router: CrossRouter, toy_data: RoutingData) -> None:
    """Sorting queries by what the strong model gains is RouteLLM's curve."""
    two = toy_data.of_models(["poet", "sage"]).of_split("test")
    found = gap(two.models, two.score, two.cost_usd)
    gain = np.random.default_rng(1).uniform(size=len(two))
    quality = np.column_stack([np.full(len(two), 0.5), 0.5 + gain / 2])
    chosen = sweep(quality, np.tile([0.001, 0.002], (len(two), 1)), "linear")
    one = deferral(found, two.models, chosen, two.score, two.cost_usd)
    assert one is not None
    order = np.argsort(-gain)
    recovered = (two.score[:, 1] - two.score[:, 0])[order].cumsum()
    area = np.append(0.0, recovered / recovered[-1]).mean()
    # The sweep's steps of 12 % leave out some of the queries.
    assert one.apgr == pytest.approx(area, abs=0.05)
