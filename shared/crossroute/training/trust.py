"""How far a query is believed, learned for each data set from held-out rows, down to zero.

Two numbers a data set: k, by which departures by topic are shrunk, and the trust in the attention.
Each candidate value is a router on the held-out rows; what it gains over the fixed order of models
is the utility, score - cost / lambda, at willingnesses to pay over the whole range of the data
set's costs, by either reward. A candidate that falls short of the fixed order at any of them, as
far as the rows can tell, and further than the most cautious candidate does, is out; of the others
the most cautious one is taken that is about as good as the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from crossroute.evaluation.metrics import sweep
from crossroute.ranking import RewardName
from crossroute.training.levels import FixedOrder

FloatArray = NDArray[np.float64]

WILLINGNESS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 1e5)
"""Times the median over the models of their mean cost."""
HARM = 2.0
"""Standard errors below the fixed order that are taken for harm."""
WORSE = 1.0
"""Standard errors below the most cautious candidate from which harm is a candidate's own."""
ABOUT = 0.5
"""Standard errors within which two candidates are about as good."""


class HeldOut(NamedTuple):
    """The held-out rows of one data set, and the fixed order that other rows show.

    Attributes:
        score: [n, m], NaN where unknown.
        cost_usd: [n, m], NaN where unknown.
        level: [m] quality of the fixed order.
        mean_cost: [m] its cost.
    """

    score: FloatArray
    cost_usd: FloatArray
    level: FloatArray
    mean_cost: FloatArray

    @classmethod
    def of(
        cls, score: FloatArray, cost_usd: FloatArray, past_score: FloatArray, past_cost: FloatArray
    ) -> HeldOut:
        """Held-out rows, with what the other rows of the data set say of its models."""
        level, mean_cost, _ = FixedOrder.of(past_score, past_cost)
        return cls(score, np.where(np.isnan(score), np.nan, cost_usd), level, mean_cost)

    @property
    def compared(self) -> NDArray[np.bool_]:
        """[n, m], the answers whose score and cost are known."""
        return np.asarray(~np.isnan(self.score + self.cost_usd))


def most_cautious(held_out: HeldOut, candidates: Sequence[tuple[FloatArray, FloatArray]]) -> int:
    """The candidate to take, of some in order from the most cautious one on.

    Args:
        held_out: The rows to choose by.
        candidates: Predicted quality and cost in USD of each, [n, m].

    Returns:
        Its place.
    """
    rows = held_out.compared.sum(axis=1) > 1
    if rows.sum() < 2:
        return 0
    fixed = np.broadcast_to(held_out.level, held_out.score.shape), held_out.mean_cost
    base = _utility(held_out, rows, *fixed)
    gains = [_utility(held_out, rows, *candidate) - base for candidate in candidates]
    # Of the utility itself, which grows with the cost as the willingness to pay falls.
    scale = np.maximum(base.std(axis=1, keepdims=True), 1e-9)
    worth = [(gain / scale).mean(axis=0) for gain in gains]
    harmless = [
        i
        for i, gain in enumerate(gains)
        if ((_certainty(gain) >= -HARM) | (_certainty(gain - gains[0]) >= -WORSE)).all()
    ]
    best = max(harmless, key=lambda i: worth[i].mean())
    behind = (worth[best] - worth[i] for i in harmless)
    return next(i for i, row in zip(harmless, behind, strict=True) if _certainty(row) <= ABOUT)


def _utility(
    held_out: HeldOut, rows: NDArray[np.bool_], quality: FloatArray, cost_usd: FloatArray
) -> FloatArray:
    """What the choices by predictions [n, m] are worth: [w, r] of r rows."""
    score, cost, available = held_out.score[rows], held_out.cost_usd[rows], held_out.compared[rows]
    predicted = quality[rows], np.broadcast_to(cost_usd, held_out.score.shape)[rows]
    willingness = np.array(WILLINGNESS) * max(float(np.median(held_out.mean_cost)), 1e-9)
    rewards: tuple[RewardName, ...] = get_args(RewardName)
    chosen = np.concatenate(
        [sweep(*predicted, reward, willingness.tolist(), available=available) for reward in rewards]
    )
    number = np.arange(len(score))
    return np.asarray(
        score[number, chosen] - cost[number, chosen] / np.tile(willingness, len(rewards))[:, None]
    )


def _certainty(values: FloatArray) -> FloatArray:
    """The mean of the last axis over its standard error; 0 where it is 0."""
    error = values.std(axis=-1) / np.sqrt(values.shape[-1])
    return np.asarray(values.mean(axis=-1) / np.maximum(error, 1e-12))
