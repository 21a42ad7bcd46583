"""The prices of models at their limits: the dual of an assignment, smoothed by a softmax.

    g(s) = sum_i T log sum_j exp((lambda q_ij - c_ij - s_j) / T) + sum_j s_j most_j,   s >= 0

is convex, and its curvature is that of a softmax: Newton's method takes a few steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossroute.budget.problem import FloatArray, Prices, Problem

SAMPLE = 10_000
"""Queries on which prices are sought first."""
NEWTON_STEPS, FULL_STEPS, HALVINGS = 40, 4, 30
SMOOTHING = (0.1, 0.02, 0.005)
"""T, in deviations of the queries' values from model to model."""
BALANCED = 1e-3
"""Share of the queries by which a load may miss its limit before another step is worth it."""
RIDGE = 1e-9
LONGEST_STEP = 20.0
"""In the same deviations: a load that hardly changes asks for a step without end."""


class Surcharges:
    """What models at their limits count beside their cost, at any willingness to pay.

    Found on a sample of the queries, from what was found last, and once on all of them.

    Attributes:
        sample: The problem of the sample.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        n, m = problem.quality.shape
        self.sample = problem
        if n > SAMPLE:
            rows = np.random.default_rng(0).choice(n, SAMPLE, replace=False)
            self.sample = problem.take(np.sort(rows))
        self._surcharge, self._beyond = np.zeros(m), np.zeros(m)
        self._is_finished = self.sample is problem

    def at(self, willingness_to_pay: float) -> Prices:
        """The prices at a willingness to pay.

        By how much those of all queries are beyond those of the sample is found at the first one.
        """
        prices = self.of_sample(willingness_to_pay)
        if not len(self._problem.limited):
            return prices
        if not self._is_finished:
            full = _newton(
                self._problem, willingness_to_pay, self._surcharge, SMOOTHING[-1], FULL_STEPS
            )
            self._beyond, self._is_finished = full - self._surcharge, True
        return Prices(willingness_to_pay, np.maximum(self._surcharge + self._beyond, 0.0))

    def of_sample(self, willingness_to_pay: float) -> Prices:
        """Those at which the sample's loads keep to their limits."""
        if len(self._problem.limited):
            for smoothing in SMOOTHING:
                self._surcharge = _newton(
                    self.sample, willingness_to_pay, self._surcharge, smoothing, NEWTON_STEPS
                )
        return Prices(willingness_to_pay, self._surcharge)


class _Dual(NamedTuple):
    """The smoothed dual at some surcharges: [k] and [k, k] are of the limited models."""

    value: float
    gradient: FloatArray
    curvature: FloatArray


def _newton(
    problem: Problem,
    willingness_to_pay: float,
    surcharge: FloatArray,
    smoothing: float,
    steps: int,
) -> FloatArray:
    """Surcharges [m], none below 0, that minimise the smoothed dual."""
    limited, n = problem.limited, len(problem)
    deviation = _deviation(problem, willingness_to_pay)
    temperature = smoothing * deviation
    here = _dual(problem, willingness_to_pay, surcharge, temperature)
    for _ in range(steps):
        now = surcharge[limited]
        free = (now > 0) | (here.gradient < 0)
        if not (np.abs(here.gradient[free]) > BALANCED * n).any():
            break
        matrix = here.curvature[np.ix_(free, free)]
        ridge = RIDGE * max(float(np.trace(matrix)), 1e-300)
        step = np.zeros(len(limited))
        step[free] = np.linalg.solve(matrix + ridge * np.eye(len(matrix)), -here.gradient[free])
        step = np.clip(step, -LONGEST_STEP * deviation, LONGEST_STEP * deviation)
        for halving in range(HALVINGS):
            tried = surcharge.copy()
            tried[limited] = np.maximum(now + step * 0.5**halving, 0.0)
            there = _dual(problem, willingness_to_pay, tried, temperature)
            if there.value < here.value:
                break
        else:
            break
        surcharge, here = tried, there
    return surcharge


def _deviation(problem: Problem, willingness_to_pay: float) -> float:
    """By how much the values of a query differ from model to model, in USD."""
    rows = np.arange(0, len(problem), max(len(problem) // 1_000, 1))
    value = willingness_to_pay * problem.quality[rows] - problem.cost_usd[rows]
    return max(float(np.mean(value.std(axis=1))), 1e-12)


def _dual(
    problem: Problem, willingness_to_pay: float, surcharge: FloatArray, temperature: float
) -> _Dual:
    limited = problem.limited
    most = problem.most[limited]
    value = float(surcharge[limited] @ most)
    load, square = np.zeros(len(limited)), np.zeros((len(limited), len(limited)))
    for _, part in problem.values(willingness_to_pay, surcharge):
        top = part.max(axis=1, keepdims=True)
        weight = np.exp((part - top) / temperature)
        total = weight.sum(axis=1, keepdims=True)
        value += float((top + temperature * np.log(total)).sum())
        share = (weight / total)[:, limited]
        load += share.sum(axis=0)
        square += share.T @ share
    return _Dual(value, most - load, (np.diag(load) - square) / temperature)
