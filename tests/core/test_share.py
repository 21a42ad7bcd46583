"""The willingness to pay and the surcharges that give shares: arrays only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from crossroute.budget.share import (
    CLOSE,
    FEW_MODELS,
    Table,
    crossings,
    nearest,
    steps,
    surcharges,
    tolerance,
)
from crossroute.ranking import RewardName


def table_of(
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    *,
    available: NDArray[np.bool_] | None = None,
    reward: RewardName = "linear",
) -> Table:
    shape = quality.shape
    every = np.ones(shape, np.bool_) if available is None else available
    models = tuple(f"model-{j}" for j in range(shape[1]))
    return Table(models, quality, cost_usd, every, reward, np.zeros(shape[1]))


def random_table(
    n: int, m: int, seed: int = 0, *, gaps: float = 0.0, reward: RewardName = "exponential"
) -> Table:
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.3, 0.9, m)
    quality = np.clip(level + rng.normal(0, 0.15, (n, m)), 0, 1)
    cost = 10 ** (rng.uniform(-5, -2, m) + rng.normal(0, 0.3, (n, m)))
    available = rng.uniform(size=(n, m)) >= gaps
    available[:, 0] = True
    return table_of(quality, cost, available=available, reward=reward)


def test_steps_by_hand() -> None:
    # Worth 0.5 more for 1 more, and 0.25 more for 1 more: changes at 2 and at 4.
    table = table_of(np.array([[0.25, 0.75], [0.5, 0.75]]), np.array([[1.0, 2.0], [1.0, 2.0]]))
    found = steps(table, np.array([1]))
    assert found.low.tolist() == pytest.approx([0, 2, 4])
    assert found.high[:2].tolist() == pytest.approx([2, 4])
    assert math.isinf(found.high[2])
    assert found.shares[:, 0].tolist() == pytest.approx([0, 0.5, 1])
    assert found.cost_usd.tolist() == pytest.approx([1, 1.5, 2])
    assert found.quality.tolist() == pytest.approx([0.375, 0.625, 0.75])
    assert found.middle(0) == pytest.approx(1)
    assert found.middle(1) == pytest.approx(math.sqrt(8))
    assert found.middle(2) == pytest.approx(8)


def test_points_that_are_one_but_for_rounding_are_one() -> None:
    # No willingness to pay is between them.
    cost = np.column_stack([np.zeros(3), [1.0, np.nextafter(1.0, 2.0), 3.0]])
    found = steps(table_of(np.tile([0.0, 1.0], (3, 1)), cost), np.array([1]))
    assert found.shares[:, 0].tolist() == pytest.approx([0, 2 / 3, 1])
    assert found.low.tolist() == pytest.approx([0, 1, 3])


@pytest.mark.parametrize("reward", ["linear", "exponential"])
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_steps_are_what_is_chosen_between_them(reward: RewardName, gaps: float) -> None:
    table = random_table(60, 7, seed=3, gaps=gaps, reward=reward)
    models = np.arange(7)
    found = steps(table, models)
    rows = np.arange(60)
    for k in range(0, len(found.low), 5):
        chosen = table.chosen(found.middle(k))
        assert found.shares[k] == pytest.approx(table.shares(chosen))
        assert found.cost_usd[k] == pytest.approx(table.cost_usd[rows, chosen].mean())
        assert found.quality[k] == pytest.approx(table.quality[rows, chosen].mean())
        assert table.available[rows, chosen].all()


def test_a_share_that_rises_and_falls_has_two_crossings() -> None:
    # The middle one of three is between two points of each prompt.
    n = 200
    begin, end = np.linspace(1, 2, n), np.linspace(3, 4, n)
    quality = np.tile([0.1, 0.2, 0.3], (n, 1))
    cost = np.column_stack([np.zeros(n), begin * 0.1, begin * 0.1 + end * 0.1])
    table = table_of(quality, cost)
    found = steps(table, np.array([1]))
    points = crossings(found, np.array([0.5]), n)
    # The one with the better quality first.
    assert points == pytest.approx([3.5, 1.5], abs=0.01)
    for point in points:
        assert table.shares(table.chosen(point))[1] == pytest.approx(0.5, abs=CLOSE)


def test_it_stands_in_the_middle_of_where_the_share_is_right() -> None:
    # Half of the prompts change at 1, the others at 9.
    quality = np.tile([0.0, 1.0], (100, 1))
    cost = np.column_stack([np.zeros(100), np.repeat([1.0, 9.0], 50)])
    found = steps(table_of(quality, cost), np.array([1]))
    assert crossings(found, np.array([0.5]), 100) == pytest.approx([3.0])
    assert crossings(found, np.array([0.3]), 100) == []


def test_nearest_keeps_to_the_usual_where_that_is_as_near() -> None:
    quality = np.tile([0.0, 1.0, 0.5], (100, 1))
    cost = np.column_stack([np.zeros(100), np.repeat([1.0, 9.0], 50), np.full(100, 20.0)])
    # The last one is never chosen.
    found = steps(table_of(quality, cost), np.array([2]))
    assert nearest(found, np.array([0.3]), 0.01) == 0.01
    found = steps(table_of(quality, cost), np.array([1]))
    assert nearest(found, np.array([0.45]), 0.01) == pytest.approx(3.0)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7])
def test_a_surcharge_gives_any_model_any_share(share: float, gaps: float) -> None:
    table = random_table(300, 6, gaps=gaps)
    for model in range(6):
        extra = surcharges(table, 0.01, {model: share})
        got = table.shares(table.chosen(0.01, extra))[model]
        assert got == pytest.approx(share, abs=tolerance(300))
        assert not extra[np.arange(6) != model].any()


@pytest.mark.parametrize("count", [2, 3, 5, FEW_MODELS + 2])
def test_surcharges_give_several_models_their_shares(count: int) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        table = random_table(300, 12, seed)
        models = rng.choice(12, count, replace=False)
        asked = dict(
            zip(models.tolist(), (rng.dirichlet(np.ones(count + 1))[:-1]).tolist(), strict=True)
        )
        extra = surcharges(table, 0.003, asked)
        shares = table.shares(table.chosen(0.003, extra))
        for model, share in asked.items():
            # Of a few hundred prompts, at most two are on the wrong side.
            assert shares[model] == pytest.approx(share, abs=2.5 / 300)


def test_shares_of_everything_leave_nothing_to_others() -> None:
    table = random_table(200, 5)
    extra = surcharges(table, 0.01, {0: 0.25, 3: 0.75})
    other = random_table(2_000, 5, seed=0)
    for one in (table, other):
        shares = one.shares(one.chosen(0.01, extra))
        assert shares[[1, 2, 4]].sum() == 0
    assert table.shares(table.chosen(0.01, extra))[0] == pytest.approx(0.25, abs=tolerance(200))
    # All models of a table: what the others leave is the largest one's.
    two = random_table(200, 2)
    extra = surcharges(two, 0.01, {0: 0.25, 1: 0.75})
    assert extra[1] == 0
    assert two.shares(two.chosen(0.01, extra)) == pytest.approx([0.25, 0.75], abs=tolerance(200))
    extra = surcharges(two, 0.01, {1: 1.0})
    assert two.shares(two.chosen(0.01, extra)).tolist() == [0, 1]


def test_prompts_that_are_alike_change_together() -> None:
    quality = np.tile([0.5, 0.9], (10, 1))
    cost = np.column_stack([np.full(10, 0.001), np.repeat([0.002, 0.004], [4, 6])])
    table = table_of(quality, cost)
    assert crossings(steps(table, np.array([1])), np.array([0.3]), 10) == []
    extra = surcharges(table, 0.001, {1: 0.3})
    # Four or none: four is nearer, and other prompts like these are not on an edge.
    assert table.shares(table.chosen(0.001, extra))[1] == pytest.approx(0.4)
    for nudge in (-1e-4, 1e-4):
        moved = table.shares(table.chosen(0.001, extra + np.array([0, nudge])))
        assert moved[1] == pytest.approx(0.4)


def test_a_share_that_a_model_may_not_serve_is_as_near_as_it_gets() -> None:
    table = random_table(100, 3)
    table.available[:, 2] = np.arange(100) < 20
    extra = surcharges(table, 0.01, {2: 0.5})
    assert table.shares(table.chosen(0.01, extra))[2] == pytest.approx(0.2)
    table.available[:, 2] = False
    assert not surcharges(table, 0.01, {2: 0.5}).any()


def test_shares_come_again_on_other_prompts_but_for_the_draw() -> None:
    off = []
    whole = random_table(6_000, 8, seed=1)
    rng = np.random.default_rng(0)
    for draw in range(40):
        rows = rng.permutation(6_000)
        sample, rest = (
            table_of(whole.quality[part], whole.cost_usd[part], reward="exponential")
            for part in (rows[:300], rows[300:])
        )
        extra = surcharges(sample, 0.01, {draw % 8: 0.3})
        off.append(rest.shares(rest.chosen(0.01, extra))[draw % 8] - 0.3)
    # The standard error of a draw of 300 is 2.6 points.
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(0.027, abs=0.01)
    assert abs(np.mean(off)) < 0.015
