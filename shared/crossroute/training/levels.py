"""How good and how dear each model is where rows have the answers of some of the models only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEVEL_ROWS = 5.0
"""To how many rows the mean of all models weighs up, against a model's own."""
STEPS = 100
"""Of the alternating fit at most."""
SETTLED = 1e-6


class Levels(NamedTuple):
    """An additive fit of scores: score = row + model.

    Rows are not missing at random, for strong models are run on hard tasks: a model's plain mean
    says as much of its rows as of the model.

    Attributes:
        row: [n] what a row scores in the mean over all models, had all answered it.
        model: [m] how much better a model is than all in the mean.
    """

    row: FloatArray
    model: FloatArray

    @classmethod
    def of(cls, score: FloatArray) -> Levels:
        """Fit scores [n, m], NaN where a model did not answer.

        Ridge regression by alternating least squares, the simplest case of item response theory.
        A model is shrunk to the mean of all with the weight of `LEVEL_ROWS` rows.
        """
        known = ~np.isnan(score)
        count = np.maximum(known.sum(axis=1), 1)
        # A row with one answer says nothing of who is better.
        compared = known & (count > 1)[:, None]
        answers = compared.sum(axis=0)
        model = np.zeros(score.shape[1])
        for _ in range(STEPS):
            row = np.where(known, score - model, 0.0).sum(axis=1) / count
            rest = np.where(compared, score - row[:, None], 0.0)
            last, model = model, rest.sum(axis=0) / (answers + LEVEL_ROWS)
            # Rows and models are known up to a constant.
            model -= model @ answers / max(answers.sum(), 1)
            if np.abs(model - last).max() < SETTLED:
                break
        return cls(np.where(known, score - model, 0.0).sum(axis=1) / count, model)


class FixedOrder(NamedTuple):
    """What a fixed order of m models goes by.

    Attributes:
        level: [m] what each model scores on the rows, had it answered all, 0..1.
        cost_usd: [m] mean cost; where a model has none, the median of the others'.
        usual: What the models score in the mean.
    """

    level: FloatArray
    cost_usd: FloatArray
    usual: float

    @classmethod
    def of(cls, score: FloatArray, cost_usd: FloatArray) -> FixedOrder:
        """The fixed order that scores and costs [n, m] show, NaN where unknown."""
        if not len(score):
            nothing = np.zeros(score.shape[1])
            return cls(nothing, nothing, 0.0)
        fitted = Levels.of(score)
        usual = float(fitted.row.mean())
        cost = np.full(score.shape[1], np.nan)
        priced = ~np.isnan(cost_usd).all(axis=0)
        cost[priced] = np.nanmean(cost_usd[:, priced], axis=0)
        cost[~priced] = np.median(cost[priced]) if priced.any() else 0.0
        return cls(np.clip(usual + fitted.model, 0, 1), cost, usual)
