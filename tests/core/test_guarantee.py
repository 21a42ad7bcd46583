"""Tests by betting keep their error, and find what is there to be found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crossroute.traffic.guarantee import (
    expected_bound,
    first_failure,
    p_value,
    rows_needed,
    stake,
    upper_bound,
)

ROWS, DRAWS = 400, 2_000


def losses(worse: float, better: float, seed: int = 0) -> np.ndarray:
    """[DRAWS, ROWS] of answers: so many are wrong, or right, where the baseline's are not."""
    drawn = np.random.default_rng(seed).random((DRAWS, ROWS))
    return np.where(drawn < worse, 1.0, np.where(drawn < worse + better, -1.0, 0.0))


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
@pytest.mark.parametrize(("worse", "better"), [(0.02, 0.0), (0.07, 0.05), (0.3, 0.28)])
def test_a_loss_at_the_limit_passes_no_more_often_than_it_may(
    worse: float, better: float, error: float
) -> None:
    bet = stake(worse + better, ROWS, error)
    passed = [p_value(row, worse - better, bet) <= error for row in losses(worse, better)]
    # Three standard errors of that many draws above what is allowed.
    assert np.mean(passed) <= error + 3 * math.sqrt(error / DRAWS)


def test_what_loses_nothing_passes() -> None:
    bet = stake(0.04, ROWS, 0.1)
    passed = [p_value(row, 0.05, bet) <= 0.1 for row in losses(0.02, 0.02)]
    assert np.mean(passed) > 0.95


def test_a_bet_never_loses_everything() -> None:
    worst = np.ones(ROWS)
    for spread in (0.0, 1e-9, 1.0):
        assert p_value(worst, 0.01, stake(spread, ROWS, 0.1)) == 1
    # Doubly robust losses are as large as the smallest probability is small.
    assert p_value(np.full(ROWS, 50.0), 0.01, stake(0.0, ROWS, 0.1, worst=50.0)) == 1


@pytest.mark.parametrize("error", [0.05, 0.1])
def test_the_bound_holds_as_often_as_it_says_and_is_near(error: float) -> None:
    bet = stake(0.12, ROWS, error)
    bounds = np.array([upper_bound(row, bet, error) for row in losses(0.07, 0.05)[:500]])
    assert np.mean(bounds < 0.02) <= error + 3 * math.sqrt(error / 500)
    assert bounds.mean() < 0.02 + 3 * math.sqrt(0.12 / ROWS)
    assert bounds.mean() == pytest.approx(expected_bound(0.02, 0.12, ROWS, error), abs=0.01)


def test_the_bound_is_the_lowest_limit_that_passes() -> None:
    row = losses(0.05, 0.05)[0]
    bet = stake(0.1, ROWS, 0.1)
    bound = upper_bound(row, bet, 0.1)
    assert p_value(row, bound + 1e-6, bet) <= 0.1 < p_value(row, bound - 1e-6, bet)


def test_a_fixed_sequence_ends_at_its_first_failure() -> None:
    assert first_failure([0.01, 0.02, 0.2, 0.01], 0.1) == 2
    assert first_failure([0.2, 0.01], 0.1) == 0
    assert first_failure([], 0.1) == 0


def test_rows_needed_are_those_at_which_the_bound_is_expected_at_the_limit() -> None:
    rows = rows_needed(0.004, 0.1, 0.01, 0.05)
    assert expected_bound(0.004, 0.1, rows, 0.05) == pytest.approx(0.01)
    assert rows_needed(0.01, 0.1, 0.01, 0.05) == math.inf
