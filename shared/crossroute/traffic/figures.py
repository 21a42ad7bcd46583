"""The figures of a setting, on rows from which nothing was learned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.traffic import guarantee
from crossroute.traffic.choice import Setting
from crossroute.traffic.goal import Goal
from crossroute.traffic.settings import Measured, Problem

FloatArray = NDArray[np.float64]

RESAMPLES = 1_000
MOST_DRAWN = 4_000_000
"""Numbers of resamples that are held at once."""


class Figures(NamedTuple):
    """What a setting saves and loses against the baseline; see `Plan`."""

    saving: float
    saving_low: float
    saving_high: float
    loss: float
    loss_high: float


NOTHING = Figures(0.0, 0.0, 0.0, 0.0, 0.0)
"""Of the baseline itself."""


def figures_of(problem: Problem, setting: Setting, goal: Goal, error: float, seed: int) -> Figures:
    """The figures of a setting that passed its test.

    Args:
        problem: The rows.
        setting: What is measured.
        goal: What was wanted.
        error: Of the test that it passed.
        seed: Of the resamples.
    """
    family, place = setting
    one = family.only(place)
    learned = Measured.of(problem, one, problem.learning, goal.kept)
    measured = Measured.of(problem, one, problem.calibration, goal.kept)
    rows = len(problem.calibration)
    bet = guarantee.stake(float(learned.moment[0]), rows, error, problem.worst)
    loss = measured.by_question(measured.loss)[0]
    bound = guarantee.upper_bound(
        loss, bet, error, problem.outcomes.worst, measured.rows_a_question
    )
    cost = measured.by_question(np.stack([measured.cost_usd[0], measured.base_cost]))
    low, high = fresh_saving(cost[0], cost[1], goal.confidence, seed)
    lost = measured.base_score.mean() - measured.mean_score[0]
    # Of the share that is to be kept, the rest may be lost beside the maximum.
    given = (1 - goal.kept) * float(measured.base_score.mean())
    return Figures(float(measured.saving[0]), low, high, float(lost), bound + given)


def fresh_saving(
    cost_usd: FloatArray, base_cost: FloatArray, confidence: float, seed: int
) -> tuple[float, float]:
    """Between which shares the saving on as many fresh prompts will be.

    By the bootstrap: the saving of one resample is as far from that of another as the saving on
    fresh prompts is from that on these.

    Args:
        cost_usd: [n] of a setting, of each question.
        base_cost: [n] of the baseline.
        confidence: With which it is to be between them.
        seed: Of the resamples.
    """
    n = len(cost_usd)
    rng = np.random.default_rng(seed)
    both = np.stack([cost_usd, base_cost], axis=1)
    at_once = max(MOST_DRAWN // n, 1)
    sums = np.concatenate(
        [
            rng.multinomial(n, np.full(n, 1 / n), min(at_once, 2 * RESAMPLES - start)) @ both
            for start in range(0, 2 * RESAMPLES, at_once)
        ]
    )
    drawn = np.where(sums[:, 1] > 0, 1 - sums[:, 0] / np.maximum(sums[:, 1], 1e-300), 0.0)
    base = base_cost.sum()
    saving = 1 - cost_usd.sum() / base if base > 0 else 0.0
    tail = (1 - confidence) / 2
    fresh = saving + drawn[:RESAMPLES] - drawn[RESAMPLES:]
    low, high = np.quantile(fresh, [tail, 1 - tail])
    return float(min(low, saving)), float(min(max(high, saving), 1.0))
