"""Weights are believed as far as the data is evidence for them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from crossroute.onboarding.regression import Fit, Group, regress

FloatArray = NDArray[np.float64]

NOISES = (0.05, 0.2, 0.5)
SPREADS = (0.0, 0.5, 2.0)
WEIGHTS = np.array([1.0, -0.7, 0.0])


def fit(target: FloatArray, design: FloatArray, scale: FloatArray | None = None) -> Fit:
    group = Group(design, np.eye(design.shape[1]), SPREADS, doubt=2.0)
    return regress(target, [group], intercept=(0.0, 1.0), noises=NOISES, scale=scale)


def planted(rows: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """A target of the weights above, an intercept of 0.3 and noise, and its design."""
    chance = np.random.default_rng(seed)
    design = chance.normal(size=(rows, 3))
    return 0.3 + design @ WEIGHTS + chance.normal(scale=0.2, size=rows), design


def test_planted_weights_are_found_with_much_data() -> None:
    target, design = planted(1_000)
    found = fit(target, design)
    assert found.intercept == pytest.approx(0.3, abs=0.03)
    assert found.weights[0] == pytest.approx(WEIGHTS, abs=0.03)
    assert found.fitted == pytest.approx(found.intercept + design @ found.weights[0])


@pytest.mark.parametrize("seed", range(5))
def test_weights_that_explain_nothing_are_near_zero(seed: int) -> None:
    chance = np.random.default_rng(seed)
    found = fit(0.3 + chance.normal(scale=0.5, size=40), chance.normal(size=(40, 3)))
    assert np.abs(found.weights[0]).max() < 0.1
    assert found.intercept == pytest.approx(0.3, abs=0.3)


def test_a_few_rows_leave_the_prior() -> None:
    target, design = planted(1)
    assert np.abs(fit(target, design).weights[0]).max() < 0.5
    nothing = fit(np.zeros(1), np.zeros((1, 3)))
    assert nothing.weights[0] == pytest.approx(np.zeros(3))
    assert nothing.intercept == pytest.approx(0.0)


def test_a_group_that_explains_stands_beside_one_that_does_not() -> None:
    target, design = planted(300)
    noise = np.random.default_rng(1).normal(size=(300, 4))
    groups = [Group(part, np.eye(part.shape[1]), SPREADS, 2.0) for part in (design, noise)]
    found = regress(target, groups, intercept=(0.0, 1.0), noises=NOISES)
    assert found.weights[0] == pytest.approx(WEIGHTS, abs=0.1)
    assert np.abs(found.weights[1]).max() < 0.03


def test_what_is_predicted_is_scaled_and_what_is_fitted_is_not() -> None:
    target, design = planted(1_000)
    scale = np.random.default_rng(1).uniform(0.05, 0.25, size=1_000)
    exact = scale * (0.3 + design @ WEIGHTS)
    found = fit(exact, design, scale)
    assert found.intercept == pytest.approx(0.3, abs=0.05)
    assert found.weights[0] == pytest.approx(WEIGHTS, abs=0.05)
    assert found.fitted == pytest.approx(0.3 + design @ WEIGHTS, abs=0.2)
    plain, of_ones = fit(target, design), fit(target, design, np.ones(1_000))
    assert of_ones.weights[0] == pytest.approx(plain.weights[0])
    # A row of scale 0 says nothing.
    odd = np.arange(1_000) % 2.0
    of_half = fit(odd * target, design, odd)
    assert of_half.weights[0] == pytest.approx(WEIGHTS, abs=0.05)


def test_the_prior_has_the_shape_of_its_root() -> None:
    target, design = planted(200)
    # Only the first weight may be other than zero.
    root = np.array([[1.0], [0.0], [0.0]])
    found = regress(target, [Group(design, root, SPREADS)], intercept=(0.0, 1.0), noises=NOISES)
    assert found.weights[0][0] == pytest.approx(1.0, abs=0.15)
    assert found.weights[0][1:] == pytest.approx([0.0, 0.0])


def test_more_rows_make_surer_of_the_mean() -> None:
    variances = [fit(*planted(rows)).variance for rows in (3, 30, 300, 3_000)]
    assert variances == sorted(variances, reverse=True)
    assert variances[-1] < 1e-3


def test_the_variance_is_that_of_the_mixture() -> None:
    # One row and nothing but the intercept: posteriors by noise in closed form.
    target, square = 2.0, np.array([0.1, 1.0]) ** 2
    evidence = np.exp(-0.5 * target**2 / (1 + square)) / np.sqrt(1 + square)
    share, mean = evidence / evidence.sum(), target / (1 + square)
    expected = share @ (square / (1 + square) + mean**2) - (share @ mean) ** 2
    found = regress(np.array([target]), [], intercept=(0.0, 1.0), noises=(0.1, 1.0))
    assert found.intercept == pytest.approx(share @ mean)
    assert found.variance == pytest.approx(expected)


def test_evidence_prefers_what_explains() -> None:
    target, design = planted(100)
    other = np.random.default_rng(5).normal(size=design.shape)
    assert fit(target, design).evidence > fit(target, other).evidence + 10


def test_the_prior_of_the_intercept_has_its_mean() -> None:
    target, design = planted(1_000)
    group = Group(design, np.eye(3), SPREADS)
    far = regress(target + 5.0, [group], intercept=(5.0, 0.5), noises=NOISES)
    assert far.intercept == pytest.approx(5.3, abs=0.03)
    assert far.weights[0] == pytest.approx(WEIGHTS, abs=0.03)
    sure = regress(target, [group], intercept=(5.0, 1e-6), noises=NOISES)
    assert sure.intercept == pytest.approx(5.0, abs=1e-3)
    # Without a row it is the prior's.
    none = regress(
        np.zeros(1),
        [Group(np.zeros((1, 3)), np.eye(3), SPREADS)],
        intercept=(5.0, 0.5),
        noises=NOISES,
        scale=np.zeros(1),
    )
    assert none.intercept == pytest.approx(5.0)


def test_a_doubt_takes_more_evidence() -> None:
    target, design = planted(12)
    found = [
        regress(
            0.4 * target,
            [Group(design, np.eye(3), SPREADS, doubt)],
            intercept=(0.0, 1.0),
            noises=(0.3,),
        ).weights[0]
        for doubt in (0.0, 4.0, 12.0)
    ]
    sizes = [float(np.linalg.norm(weights)) for weights in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2
