"""Which models to ask a prompt where not all are asked: those whose answers tell most.

What is to be learned is the order of the models. So of each pair it counts how unsure the router
is which one answers this prompt better:

    doubt_ij = 2 / (1 + exp(|logit q_i - logit q_j| / sqrt(1 + e_i^2 + e_j^2)))      in (0, 1]

with the predicted qualities q and the standard errors e of the models' levels, in logits: a pair of
which one is a guess is unsure. Every model gets equally many prompts, at any time within one: a
choice takes the models that were asked least, and fills up from the others; among these it takes
the pair with the most doubt, then, one by one, the model with the most doubt against those taken.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEAST_QUALITY = 0.01
"""Predicted qualities are held this far from 0 and 1, so that their logits are finite."""


def tell_most(
    quality: FloatArray,
    error: FloatArray,
    able: NDArray[np.bool_],
    count: int,
    keys: Sequence[str],
    seed: int,
) -> list[list[int]]:
    """Choose models for each prompt, in the order of the prompts.

    Prompts that are added at the end leave the choices for the others as they are.

    Args:
        quality: [n, m] predicted qualities, 0..1.
        error: [m] standard errors of the models' levels, in logits.
        able: [n, m] whether a model can be asked the prompt.
        count: Models a prompt, 2 at least; fewer where fewer are able.
        keys: [n] what tells the prompts apart; ties are broken by it and the seed.
        seed: Of ties.

    Returns:
        [n] positions of the models, ascending.
    """
    clipped = np.clip(quality, LEAST_QUALITY, 1 - LEAST_QUALITY)
    logits = np.log(clipped) - np.log1p(-clipped)
    spread = np.sqrt(1 + error[:, None] ** 2 + error[None, :] ** 2)
    asked = np.zeros(quality.shape[1], np.int64)
    chosen = []
    for row, key in enumerate(keys):
        doubt = 2 / (1 + np.exp(np.abs(logits[row][:, None] - logits[row][None, :]) / spread))
        # Rounded: no choice hangs on the last digits.
        doubt = np.round(doubt, 6)
        order = [int(j) for j in np.flatnonzero(able[row])]
        random.Random(f"{seed}:{key}").shuffle(order)  # noqa: S311  # Breaks ties.
        taken = _taken(doubt, asked, order, count)
        asked[taken] += 1
        chosen.append(sorted(taken))
    return chosen


def _taken(doubt: FloatArray, asked: NDArray[np.int64], order: list[int], count: int) -> list[int]:
    taken: list[int] = []
    while len(taken) < count and (left := [j for j in order if j not in taken]):
        least = min(asked[j] for j in left)
        pool = [j for j in left if asked[j] == least]
        if taken:
            taken.append(max(pool, key=lambda j: float(doubt[j, taken].sum())))
            continue
        # The first: the one with the most doubtful partner among those that may come next.
        partners = pool if len(pool) > 1 else left
        taken.append(
            max(pool, key=lambda j: max((doubt[j, i] for i in partners if i != j), default=0.0))
        )
    return taken
