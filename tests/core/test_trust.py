"""How far a query is believed is learned from held-out rows, down to not at all."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from crossroute.training.trust import HeldOut, most_cautious

FloatArray = NDArray[np.float64]
Candidate = tuple[FloatArray, FloatArray]

ROWS = 400


class Planted:
    """Two models of one price, each good at one half of the rows; a third is bad and cheaper."""

    def __init__(self, *, kinds: bool, seed: int = 0, cheaper: float = 0.008) -> None:
        self.chance = np.random.default_rng(seed)
        first = np.arange(ROWS) % 2 == 0
        mean = np.where(first[:, None], [0.85, 0.25, 0.2], [0.25, 0.8, 0.2])
        if not kinds:
            mean = np.broadcast_to([0.6, 0.5, 0.2], (ROWS, 3))
        self.mean = mean
        self.cost = np.broadcast_to([0.01, 0.01, cheaper], (ROWS, 3))
        score, past = (np.float64(self.chance.random((ROWS, 3)) < mean) for _ in range(2))
        self.held_out = HeldOut.of(score, self.cost, past, self.cost)

    @property
    def fixed(self) -> Candidate:
        """The fixed order, as a candidate."""
        level = np.broadcast_to(self.held_out.level, self.mean.shape)
        return level, np.broadcast_to(self.held_out.mean_cost, self.mean.shape)

    def believing(self, share: float, quality: FloatArray | None = None) -> Candidate:
        """A candidate that believes so much of what is said of each row's quality."""
        said = self.mean if quality is None else quality
        return (1 - share) * self.fixed[0] + share * said, self.cost


@pytest.mark.parametrize("seed", range(5))
def test_of_noise_nothing_is_believed(seed: int) -> None:
    planted = Planted(kinds=False, seed=seed)
    noise = planted.chance.random(planted.mean.shape)
    candidates = [planted.believing(share, noise) for share in (0.0, 0.3, 0.6, 0.9)]
    assert most_cautious(planted.held_out, candidates) == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_tells_the_rows_apart_is_believed(seed: int) -> None:
    planted = Planted(kinds=True, seed=seed)
    assert most_cautious(planted.held_out, [planted.fixed, planted.believing(1.0)]) == 1


def test_of_those_as_good_the_most_cautious_is_taken() -> None:
    planted = Planted(kinds=True)
    told = planted.believing(1.0)
    assert most_cautious(planted.held_out, [planted.fixed, told, told, told]) == 1
    assert most_cautious(planted.held_out, [told, told, planted.fixed]) == 0


@pytest.mark.parametrize(("worse", "taken"), [(0, 1), (9, 0)])
def test_what_is_hardly_better_is_as_good(worse: int, taken: int) -> None:
    """Another choice of model is right at 11 rows at which the first is wrong, and the reverse."""
    planted = Planted(kinds=True)
    told, cost = planted.believing(1.0)
    first = told[:, :2].argmax(axis=1)
    score, rows = planted.held_out.score, np.arange(ROWS)
    gain = score[rows, 1 - first] - score[rows, first]
    swapped = np.concatenate([np.flatnonzero(gain > 0)[:11], np.flatnonzero(gain < 0)[:worse]])
    other = told.copy()
    other[swapped, :2] = told[swapped, 1::-1]
    assert most_cautious(planted.held_out, [(told, cost), (other, cost)]) == taken


@pytest.mark.parametrize("seed", range(5))
def test_what_harms_is_never_taken(seed: int) -> None:
    planted = Planted(kinds=True, seed=seed)
    # Who is good at a row, the wrong way round.
    wrong = planted.mean[:, [1, 0, 2]]
    for candidates in (
        [planted.fixed, planted.believing(0.9, wrong)],
        [planted.fixed, planted.believing(0.9, wrong), planted.believing(1.0, wrong)],
    ):
        assert most_cautious(planted.held_out, candidates) == 0
    # Not even before one that helps.
    mixed = [planted.fixed, planted.believing(0.9, wrong), planted.believing(1.0)]
    assert most_cautious(planted.held_out, mixed) == 2


def test_a_gain_at_one_willingness_to_pay_makes_no_harm_at_another_good() -> None:
    """It knows who is good at a row, and thinks the good ones as cheap as the bad one."""
    planted = Planted(kinds=True, cheaper=0.001)
    # Who pays little wants the cheap one: a dear model that is thought free costs its price.
    free = np.broadcast_to([1e-6, 1e-6, 0.001], planted.cost.shape)
    assert most_cautious(planted.held_out, [planted.fixed, (planted.mean, free)]) == 0
    assert most_cautious(planted.held_out, [planted.fixed, (planted.mean, planted.cost)]) == 1


@pytest.mark.parametrize("compared", [0, 1])
def test_where_hardly_a_row_compares_models_nothing_is_believed(compared: int) -> None:
    planted = Planted(kinds=True)
    score = planted.held_out.score.copy()
    score[compared:, 1:] = np.nan
    held_out = planted.held_out._replace(score=score)
    assert most_cautious(held_out, [planted.fixed, planted.believing(1.0)]) == 0


def test_only_models_that_answered_are_compared() -> None:
    planted = Planted(kinds=True)
    score = planted.held_out.score.copy()
    score[::3, 2] = np.nan
    held_out = HeldOut.of(score, np.array(planted.cost), score, np.array(planted.cost))
    assert held_out.compared.sum() == (~np.isnan(score)).sum()
    # A cost of an answer without a score is none.
    assert np.isnan(held_out.cost_usd[::3, 2]).all()
    assert most_cautious(held_out, [planted.fixed, planted.believing(1.0)]) == 1


def test_the_fixed_order_is_of_the_other_rows() -> None:
    past = np.array([[1.0, 0.0, np.nan]] * 50)
    cost = np.array([[0.2, 0.1, np.nan]] * 50)
    held_out = HeldOut.of(1 - past, cost, past, cost)
    assert held_out.level[0] > held_out.level[2] > held_out.level[1]
    # Of a model without a cost the median is taken.
    assert held_out.mean_cost == pytest.approx([0.2, 0.1, 0.15])


def test_a_data_set_of_held_out_rows_only_has_no_fixed_order() -> None:
    planted = Planted(kinds=True)
    nothing = np.zeros((0, 3))
    held_out = HeldOut.of(planted.held_out.score, planted.cost, nothing, nothing)
    assert held_out.level.tolist() == held_out.mean_cost.tolist() == [0, 0, 0]
    same = [planted.fixed, planted.fixed]
    assert most_cautious(held_out, same) == 0
