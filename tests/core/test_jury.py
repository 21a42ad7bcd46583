"""How sure answers of several models make."""

from __future__ import annotations

import numpy as np
import pytest
from fakes_panels import MODELS, simulated

from crossroute.strategies.jury import Juror, Jury
from crossroute.training.jury import fit_jury

PLAIN = Jury(
    jurors={name: Juror(weight=1.0, slope=0.5) for name in "abc"},
    doubt=0.5,
    doubt_by_number=0.0,
    doubt_by_quality=0.0,
)
HALF = np.full((1, 3), 0.5)


def codes(*answers: int) -> np.ndarray:
    return np.array([answers])


def test_who_agrees_is_surer_and_who_does_not_is_less_sure() -> None:
    agreed, _ = PLAIN.probabilities("abc", codes(0, 0, 0), HALF)
    apart, leader = PLAIN.probabilities("abc", codes(0, 1, 2), HALF)
    assert agreed[0, 0] < agreed[0, 1] < agreed[0, 2]
    assert apart[0, 2] < apart[0, 1] < apart[0, 0]
    assert leader.tolist() == [[0, 0, 0]]


def test_the_probabilities_are_the_softmax_of_the_votes() -> None:
    quality = np.array([[0.8, 0.6, 0.5]])
    found, leader = PLAIN.probabilities("abc", codes(0, 1, 1), quality)
    first, second = 1 + 0.5 * np.log(4), 1 + 0.5 * np.log(1.5) + 1
    total = np.exp(first) + np.exp(second) + np.exp(0.5)
    assert found[0, 2] == pytest.approx(np.exp(second) / total)
    assert leader.tolist() == [[0, 0, 1]]


def test_no_answer_has_no_vote_but_counts_as_asked() -> None:
    jury = PLAIN.model_copy(update={"doubt_by_number": 1.0})
    found, leader = jury.probabilities("abc", codes(-1, 0, -1), HALF)
    assert (found[0, 0], leader[0, 0]) == (0.0, -1)
    assert found[0, 2] < found[0, 1]
    assert leader[0, 1:].tolist() == [1, 1]


def test_a_jury_learns_what_answers_are_worth() -> None:
    rows, fresh = simulated(3_000), simulated(4_000, seed=1)
    jury = fit_jury(rows.models, rows.codes, rows.score, rows.quality, seed=0)
    found, leader = jury.probabilities(MODELS, fresh.codes, fresh.quality)
    right = np.take_along_axis(fresh.score, leader.clip(0), axis=1) * (leader >= 0)
    for asked in range(len(MODELS)):
        for low, high in ((0.0, 0.6), (0.6, 0.9), (0.9, 1.0)):
            some = (found[:, asked] >= low) & (found[:, asked] < high)
            if some.sum() > 200:
                error = abs(found[some, asked].mean() - right[some, asked].mean())
                assert error < 0.05, (asked, low)
    # All of them together know more than the best of them.
    assert right[:, -1].mean() > fresh.score.mean(axis=0).max() + 0.02


def test_models_that_err_alike_do_not_make_each_other_surer() -> None:
    rows = simulated(3_000, alike=True)
    jury = fit_jury(rows.models, rows.codes, rows.score, rows.quality, seed=0)
    found, leader = jury.probabilities(MODELS, rows.codes, rows.quality)
    right = np.take_along_axis(rows.score, leader.clip(0), axis=1) * (leader >= 0)
    assert found[:, -1].mean() == pytest.approx(right[:, -1].mean(), abs=0.06)
    # Three that agree are as sure as the best of them alone, and no surer.
    agreed = (rows.codes[:, :3] == rows.codes[:, :1]).all(axis=1) & (rows.codes[:, 0] >= 0)
    assert found[agreed, 2].mean() == pytest.approx(right[agreed, 2].mean(), abs=0.06)


def test_where_nobody_answered_there_is_a_jury_yet() -> None:
    rows = simulated(40)
    nothing = np.full_like(rows.codes, -1)
    jury = fit_jury(MODELS, nothing, np.zeros(rows.score.shape), rows.quality, seed=0)
    assert set(jury.jurors) == set(MODELS)


def test_predictions_at_the_ends_are_numbers() -> None:
    found, _ = PLAIN.probabilities("abc", codes(0, 0, 1), np.array([[0.0, 1.0, 1.0]]))
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
