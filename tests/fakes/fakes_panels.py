"""Simulated models whose answers are known, for what is learned from them."""

from __future__ import annotations

import numpy as np

from crossroute.training.answers import NO_ANSWER
from crossroute.training.panels import AnsweredRows

MODELS = ("cheap-a", "cheap-b", "middle", "strong")
COSTS = np.array([0.001, 0.0012, 0.004, 0.03])
LEVELS = np.array([0.9, 0.9, 1.2, 1.7])
"""Log-odds of being right on a question of mean difficulty."""


def simulated(n: int, seed: int = 0, *, alike: bool = False, options: int = 8) -> AnsweredRows:
    """Rows of four models that know the truth as often as is predicted of them.

    Args:
        n: How many rows.
        seed: Of the draws.
        alike: Whether they err on the same questions and in the same way, so that agreement says
            nothing; else each errs by itself.
        options: Answers that a question has.
    """
    random = np.random.default_rng(seed)
    ease = random.normal(0.0, 1.0, (n, 1))
    quality = 1 / (1 + np.exp(-(LEVELS + ease)))
    luck = random.random((n, 1 if alike else len(MODELS)))
    right = luck < quality
    wrong = random.integers(1, options, (n, 1 if alike else len(MODELS)))
    codes = np.where(right, 0, wrong)
    codes[random.random(codes.shape) < 0.01] = NO_ANSWER
    score = (right & (codes == 0)).astype(np.float64)
    cost = np.broadcast_to(COSTS, (n, len(MODELS)))
    paid = cost * random.uniform(0.8, 1.2, (n, len(MODELS)))
    return AnsweredRows(
        MODELS, quality, np.array(cost), score, paid, codes.astype(np.int16), np.arange(n)
    )
