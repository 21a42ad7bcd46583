from __future__ import annotations

import math

import numpy as np
import pytest

from crossroute import WillingnessToPayError
from crossroute.ranking import (
    RewardName,
    check_willingness_to_pay,
    first,
    preference,
    rank,
    reward,
    switching_point,
)

QUALITY = np.array([[0.9, 0.7, 0.4], [0.5, 0.5, 0.5]])
COST = np.array([[0.010, 0.001, 0.0001], [0.003, 0.001, 0.002]])


def chosen(name: RewardName, willingness: float, quality: np.ndarray = QUALITY) -> list[int]:
    order = preference(name, quality, COST, willingness)
    return [int(row[0]) for row in rank(order, quality, COST)]


BOTH: tuple[RewardName, ...] = ("exponential", "linear")


@pytest.mark.parametrize("bad", [math.nan, -0.01, -math.inf, "much", None, True])
def test_a_willingness_to_pay_that_is_none_is_refused(bad: object) -> None:
    with pytest.raises(WillingnessToPayError, match="willingness_to_pay"):
        check_willingness_to_pay(bad)  # type: ignore[arg-type]


def test_the_exponential_reward_is_the_published_one() -> None:
    assert reward("exponential", QUALITY, COST, 0.01) == pytest.approx(
        QUALITY * np.exp(-COST / 0.01)
    )


def test_the_linear_reward_is_quality_less_cost_over_lambda() -> None:
    assert reward("linear", QUALITY, COST, 0.01) == pytest.approx(QUALITY - COST / 0.01)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("willingness", [1e-4, 1e-3, 0.01, 1.0])
def test_preference_orders_as_the_reward_does(name: RewardName, willingness: float) -> None:
    rng = np.random.default_rng(1)
    quality, cost = rng.uniform(0.05, 1, (200, 6)), rng.uniform(0, 0.002, (200, 6))
    by_preference = preference(name, quality, cost, willingness).argmax(axis=1)
    by_reward = reward(name, quality, cost, willingness).argmax(axis=1)
    assert (by_preference == by_reward).mean() > 0.99


@pytest.mark.parametrize("name", BOTH)
def test_the_ends_are_the_cheapest_and_the_best(name: RewardName) -> None:
    assert chosen(name, 0.0) == [2, 1]
    # Among equally good ones the cheapest, even where cost does not count.
    assert chosen(name, math.inf) == [0, 1]


@pytest.mark.parametrize("name", BOTH)
def test_a_willingness_too_small_for_the_reward_still_decides(name: RewardName) -> None:
    assert chosen(name, 1e-12) == [2, 1]


@pytest.mark.parametrize("name", BOTH)
def test_reward_at_the_ends(name: RewardName) -> None:
    assert reward(name, QUALITY, COST, math.inf) == pytest.approx(QUALITY)
    assert not np.isnan(reward(name, QUALITY, np.zeros_like(COST), 0.0)).any()


@pytest.mark.parametrize("name", BOTH)
def test_the_decision_changes_exactly_at_the_switching_point(name: RewardName) -> None:
    quality, cost, now = QUALITY[0], COST[0], 0.005

    def at(value: float) -> int:
        return int(rank(preference(name, quality, cost, value), quality, cost)[0])

    before = at(now)
    found = switching_point(name, quality, cost, before, dearer=True, willingness_to_pay=now)
    assert found is not None
    other, point = found
    assert point > now

    assert at(point * 0.999) == before
    assert at(point * 1.001) == other


def test_of_equals_the_better_wins_even_where_all_are_free() -> None:
    quality, free = np.array([[0.4, 0.9]]), np.zeros((1, 2))
    assert rank(preference("exponential", quality, free, 0.0), quality, free).tolist() == [[1, 0]]


def test_odd_numbers_are_numbers() -> None:
    assert math.copysign(1, check_willingness_to_pay(-0.0)) == 1
    assert check_willingness_to_pay(10**400) == math.inf
    assert check_willingness_to_pay(np.float32(0.5)) == 0.5
    assert np.isfinite(reward("exponential", QUALITY, COST, 1e-320)).all()


def test_no_switching_point_beyond_the_best() -> None:
    assert (
        switching_point("exponential", QUALITY[0], COST[0], 0, dearer=True, willingness_to_pay=1.0)
        is None
    )


def test_the_first_is_the_first_of_the_ranking() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        # With many ties, and candidates that cost infinitely much.
        quality = rng.integers(0, 4, (50, 6)) / 4
        cost = rng.choice([0.0, 0.1, 0.2, np.inf], (50, 6), p=[0.3, 0.3, 0.3, 0.1])
        for name in ("exponential", "linear"):
            for value in (0.0, 0.1, 10.0, math.inf):
                preferences = preference(name, quality, cost, value)
                expected = rank(preferences, quality, cost)[:, 0]
                assert first(preferences, quality, cost).tolist() == expected.tolist()
