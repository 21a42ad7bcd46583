"""Learn what the votes of models weigh, from prompts to which it is known what they answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.strategies.jury import FloatArray, Juror, Jury, quality_log_odds
from crossroute.training.answers import UNKNOWN, Codes

DRAWS = 4
"""How many sets of models are drawn for each prompt: a jury is to judge sets of any size."""
LARGEST_SET = 5
SHRINKAGE = 3e-3
"""Of each model's weights to those of all in the mean; and a thirtieth of it to zero."""


def fit_jury(
    models: Sequence[str], codes: Codes, score: FloatArray, quality: FloatArray, *, seed: int
) -> Jury:
    """Learn a jury by penalised maximum likelihood.

    Args:
        models: Ids of the m models.
        codes: [n, m] which answers are the same.
        score: [n, m] of the answers, which are right from one half up.
        quality: [n, m] predicted.
        seed: Of the sets of models that are drawn.
    """
    from scipy.optimize import minimize

    m = len(models)
    rows, asked = _drawn(codes, seed)
    codes, odds = np.where(asked, codes[rows], -1), quality_log_odds(quality)[rows]
    # [k, m, g]: whose answers are which; of each, whether it is right.
    votes = codes[:, :, None] == np.arange(max(codes.max(), 0) + 1)
    present = votes.any(axis=1)
    right = (votes & (score[rows] >= 0.5)[:, :, None]).any(axis=1)
    target = np.where(right.any(axis=1), right.argmax(axis=1), right.shape[1])
    number = asked.sum(axis=1)
    mean = np.where(asked, odds, 0.0).sum(axis=1) / number
    doubt = np.stack([np.ones(len(rows)), np.log(number), mean], axis=1)
    votes = votes.astype(np.float64)
    weighed = votes * odds[:, :, None]
    is_target = np.zeros((len(rows), right.shape[1] + 1))
    is_target[np.arange(len(rows)), target] = 1

    def loss(numbers: FloatArray) -> tuple[float, FloatArray]:
        weight, slope, rest = numbers[:m], numbers[m : 2 * m], numbers[2 * m :]
        sums = np.einsum("kmg,m->kg", votes, weight) + np.einsum("kmg,m->kg", weighed, slope)
        sums = np.concatenate([np.where(present, sums, -1e9), (doubt @ rest)[:, None]], axis=1)
        sums -= sums.max(axis=1, keepdims=True)
        logs = sums - np.log(np.exp(sums).sum(axis=1, keepdims=True))
        apart = (np.exp(logs) - is_target) / len(rows)
        gradient = np.concatenate(
            [
                np.einsum("kg,kmg->m", apart[:, :-1], votes),
                np.einsum("kg,kmg->m", apart[:, :-1], weighed),
                doubt.T @ apart[:, -1],
            ]
        )
        off = np.concatenate([weight - weight.mean(), slope - slope.mean(), np.zeros(3)])
        penalty = SHRINKAGE * float(off @ off) + SHRINKAGE / 30 * float(numbers @ numbers)
        gradient += 2 * SHRINKAGE * off + 2 * SHRINKAGE / 30 * numbers
        return float(-logs[is_target > 0].mean()) + penalty, gradient

    start = np.concatenate([np.full(2 * m, 0.5), np.zeros(3)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x.round(4).tolist()
    return Jury(
        jurors={
            model: Juror(weight=found[j], slope=found[m + j]) for j, model in enumerate(models)
        },
        doubt=found[-3],
        doubt_by_number=found[-2],
        doubt_by_quality=found[-1],
    )


def _drawn(codes: Codes, seed: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Sets of models whose answers are known: the row of each, and who is in it, [k, m]."""
    n, m = codes.shape
    random = np.random.default_rng(seed)
    rows = np.tile(np.arange(n), DRAWS)
    known = codes[rows] != UNKNOWN
    order = np.where(known, random.random(known.shape), np.inf).argsort(axis=1).argsort(axis=1)
    size = random.integers(1, min(m, LARGEST_SET) + 1, len(rows))
    asked = known & (order < size[:, None])
    some = asked.any(axis=1)
    return rows[some], asked[some]
