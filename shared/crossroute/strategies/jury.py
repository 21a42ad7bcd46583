"""How sure one may be of an answer that several models gave, or did not give.

Each model that answered votes for its answer with a weight that grows with the quality that the
router predicts of it for the query; that none of the answers is right has a weight of its own. The
probability of an answer is the softmax of the sums, a conditional logit model (McFadden, 1974)
whose few numbers are learned from scored answers (`crossroute.training.jury`). Models that err
alike get a smaller weight by that, as a vote of theirs says less than their quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from crossroute.models.fields import ModelId, Strict
from crossroute.strategies.isotonic import log_odds

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Weight = Annotated[FiniteFloat, Field(ge=-100, le=100)]

LEAST_QUALITY = 0.01
"""Predicted qualities are taken to be no nearer to 0 and 1 than this."""
_ABSENT = -1e9


def quality_log_odds(quality: FloatArray) -> FloatArray:
    """Log-odds of predicted qualities, of any shape."""
    return log_odds(quality, LEAST_QUALITY)


class Juror(Strict):
    """What the vote of a model weighs."""

    weight: Weight
    """Where its predicted quality is one half."""
    slope: Weight
    """What is added for each unit of the log-odds of its predicted quality."""


class Jury(Strict):
    """Models whose answers are compared."""

    jurors: Annotated[dict[ModelId, Juror], Field(min_length=1)]
    doubt: Weight
    """What "none of them is right" weighs for one model that was asked."""
    doubt_by_number: Weight
    """What is added for each unit of the logarithm of how many were asked."""
    doubt_by_quality: Weight
    """What is added for each unit of the mean log-odds of the predicted quality of those asked."""

    def of(self, models: Sequence[str]) -> Jury:
        """The same jury with some of its models."""
        return self.model_copy(update={"jurors": {model: self.jurors[model] for model in models}})

    def probabilities(
        self, models: Sequence[str], codes: NDArray[np.integer[Any]], quality: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """The probability of the leading answer after each of k models that are asked in turn.

        Args:
            models: [k] ids of jurors, in the order in which they are asked.
            codes: [n, k] a number for each different answer to a query, a negative one where there
                is none.
            quality: [n, k] predicted quality of the models for the query.

        Returns:
            The probability that the leading answer is right, [n, k], and the place in the order of
            the first model that gave it, [n, k]; 0 and -1 as long as there is no answer.
        """
        codes = _renumbered(codes)
        n, k = codes.shape
        odds = quality_log_odds(quality)
        weight = np.array([self.jurors[model].weight for model in models])
        votes = weight + np.array([self.jurors[model].slope for model in models]) * odds
        asked = np.arange(1, k + 1)
        doubt = (
            self.doubt
            + self.doubt_by_number * np.log(asked)
            + self.doubt_by_quality * np.cumsum(odds, axis=1) / asked
        )
        rows = np.arange(n)
        sums = np.full((n, k), _ABSENT)
        giver = np.full((n, k), -1)
        probability, leader = np.zeros((n, k)), np.full((n, k), -1)
        for t in range(k):
            has = codes[:, t] >= 0
            at = rows[has], codes[has, t]
            is_new = giver[at] < 0
            sums[at] = np.where(is_new, 0.0, sums[at]) + votes[has, t]
            giver[at] = np.where(is_new, t, giver[at])
            best = sums.argmax(axis=1)
            highest = np.maximum(sums[rows, best], doubt[:, t])
            shares = np.exp(sums - highest[:, None])
            total = shares.sum(axis=1) + np.exp(doubt[:, t] - highest)
            probability[:, t] = shares[rows, best] / total
            leader[:, t] = giver[rows, best]
        return probability, leader


def _renumbered(codes: NDArray[np.integer[Any]]) -> IntArray:
    """Codes [n, k] by the place of the first model that gave the same, -1 where there is none."""
    found = np.full(codes.shape, -1, np.intp)
    for t in range(codes.shape[1]):
        same = (codes[:, :t] == codes[:, t : t + 1]) & (codes[:, :t] >= 0)
        first = np.where(same.any(axis=1), same.argmax(axis=1), t) if t else 0
        found[:, t] = np.where(codes[:, t] >= 0, first, -1)
    return found
