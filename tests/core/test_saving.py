"""What a router saves at the quality of the best fixed choice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossroute import CrossRouter
from crossroute.evaluation.evaluate import evaluate
from crossroute.evaluation.metrics import Hull, sweep
from crossroute.evaluation.references import FIXED, zero
from crossroute.evaluation.saving import FEWEST, UTILITY_AT, saving, utility_gains
from crossroute.training.data import RoutingData

N = 400
EASY = np.arange(N) % 2 == 0
SCORE = np.stack([np.where(EASY, 1.0, 0.0), np.ones(N)], axis=1)
"""Both models are right on every second prompt, the second on the others, too."""
COST = np.tile([0.0, 1.0], (N, 1))
SINGLES = dict(zip(("cheap", "dear"), zero(SCORE), strict=True))


def test_a_perfect_router_saves_what_the_cheap_model_can_answer() -> None:
    found = saving(SINGLES, sweep(SCORE, COST), SCORE, COST)
    assert found is not None
    assert found.baseline == "dear"
    assert found.share.mean == pytest.approx(0.5)
    assert 0.4 < found.share.low < 0.5 < found.share.high < 0.6
    assert found.is_sure


def test_who_chooses_as_the_single_model_saves_nothing() -> None:
    found = saving(SINGLES, zero(SCORE), SCORE, COST)
    assert found is not None
    assert (found.share.mean, found.share.low, found.share.high) == (0, 0, 0)
    assert not found.is_sure


def test_who_never_reaches_the_quality_or_at_a_higher_cost_saves_nothing() -> None:
    worse = saving(SINGLES, zero(SCORE)[:1], SCORE, COST)
    assert worse is not None
    assert worse.share.mean == 0
    # A third model, as good as the second and twice as dear.
    score, cost = np.hstack([SCORE, SCORE[:, 1:]]), np.hstack([COST, 2 * COST[:, 1:]])
    dearer = saving(SINGLES, np.full((1, N), 2), score, cost)
    assert dearer is not None
    assert dearer.share.high == 0


def test_the_cost_on_the_hull_by_hand() -> None:
    # The one point costs 0.2 and scores 0.9; at the best single's 0.8 the hull is at its left end.
    score = np.tile([0.8, 0.9], (N, 1))
    cost = np.tile([1.0, 0.2], (N, 1))
    found = saving({"single": np.zeros(N, int)}, np.ones((1, N), int), score, cost)
    assert found is not None
    assert found.share.mean == pytest.approx(0.8)
    assert Hull.of(np.array([1.0, 3.0]), np.array([0.2, 0.6])).cost_at(0.4) == pytest.approx(2.0)


def test_choices_in_a_random_order_save_nothing_for_sure() -> None:
    shuffled = sweep(SCORE, COST)[:, np.random.default_rng(0).permutation(N)]
    found = saving(SINGLES, shuffled, SCORE, COST)
    assert found is not None
    assert not found.is_sure


@pytest.mark.parametrize("n", [1, FEWEST - 1])
def test_too_few_prompts_say_nothing(n: int) -> None:
    singles = {name: choice[:n] for name, choice in SINGLES.items()}
    assert saving(singles, zero(SCORE[:n]), SCORE[:n], COST[:n]) is None


def test_a_free_model_leaves_nothing_to_save() -> None:
    assert saving(SINGLES, zero(SCORE), SCORE, 0 * COST) is None


def test_the_fewest_prompts_of_which_few_cost_anything() -> None:
    cost = np.zeros((FEWEST, 2))
    cost[0, 1] = 1.0
    part = {name: choice[:FEWEST] for name, choice in SINGLES.items()}
    found = saving(part, zero(SCORE[:FEWEST]), SCORE[:FEWEST], cost)
    assert found is not None
    assert np.isfinite([found.share.mean, found.share.low, found.share.high]).all()


def test_utility_by_hand() -> None:
    at = len(UTILITY_AT)
    perfect = np.tile(np.where(EASY, 0, 1), (at, 1))
    gains = utility_gains(perfect, np.ones((at, N), int), SCORE, COST)
    for gain in gains:
        # Half the prompts cost 1 less and score the same.
        assert gain.gain.mean == pytest.approx(0.5 / gain.willingness_to_pay)
        assert gain.gain.low < gain.gain.mean < gain.gain.high
    same = utility_gains(perfect, perfect, SCORE, COST)
    assert all((x.gain.mean, x.gain.low, x.gain.high) == (0, 0, 0) for x in same)


def test_an_evaluation_says_both(toy_router: CrossRouter, toy_data: RoutingData) -> None:
    test, past = toy_data.of_split("test"), toy_data.of_split("train")
    (with_past,) = evaluate(toy_router, test, past)
    assert with_past.saving is not None
    assert with_past.saving.baseline in test.models
    assert [x.willingness_to_pay for x in with_past.utility] == list(UTILITY_AT)
    (without,) = evaluate(toy_router, test)
    assert without.saving == with_past.saving
    assert without.utility == ()
    written = json.loads(json.dumps(with_past.to_dict()))
    assert set(written["saving"]) == {"baseline", "share"}
    assert set(written["utility"][0]["gain"]) == {"mean", "low", "high"}


def test_incomplete_rows_are_compared_with_the_fixed_order(
    toy_router: CrossRouter, toy_data: RoutingData
) -> None:
    score = toy_data.score.copy()
    # Each row lacks one model, in turn.
    score[np.arange(len(score)), np.arange(len(score)) % len(toy_data.models)] = np.nan
    partial = RoutingData(**{**vars(toy_data), "score": score})
    test, past = partial.of_split("test"), partial.of_split("train")
    (evaluation,) = evaluate(toy_router, test, past)
    assert evaluation.saving is not None
    assert evaluation.saving.baseline == FIXED
    assert len(evaluation.utility) == len(UTILITY_AT)
    (without,) = evaluate(toy_router, test)
    assert (without.saving, without.utility) == (None, ())
