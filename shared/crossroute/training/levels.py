"""How good and how dear each model is where rows have the answers of some of the models only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.models.descriptor import rounded
from crossroute.models.pool import ModelPool
from crossroute.network.predictor import BIASES, Network, Predictor
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]

CHUNK = 2_048
"""Rows that are predicted at a time."""
LARGEST_OFFSET, BISECTIONS = 20.0, 40
"""Where the offset of a logit is looked for, and in how many steps: to 1e-11."""

LEVEL_ROWS = 5.0
"""To how many rows the mean of all models weighs up, against a model's own."""
STEPS = 100
"""Of the alternating fit; it has settled long before."""


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
            model = rest.sum(axis=0) / (answers + LEVEL_ROWS)
            # Rows and models are known up to a constant.
            model -= model @ answers / max(answers.sum(), 1)
        return cls(np.where(known, score - model, 0.0).sum(axis=1) / count, model)


def corrected(
    pool: ModelPool,
    network: Network,
    data: RoutingData,
    features: NDArray[np.float32],
    amount: FloatArray,
) -> ModelPool:
    """The models with offsets of quality and cost that are right where rows are incomplete.

    A network that is fitted to the answers takes the hard rows of a strong model for a weakness of
    the model: its level is set to what it would be, had it been run on every row of its data sets.
    And where totals come right, a model of several data sets costs what it does in the dearest one:
    each set gets its say, as a factor. For a model that was run on all rows of one data set, among
    models of which the same holds, nothing changes.

    Args:
        pool: The models, in the order of `data.models`.
        network: What their embeddings are of.
        data: The rows.
        features: [n, D] of the rows.
        amount: [n, m] what each answer cost, in the model's own unit; NaN where unknown.
    """
    predictor = Predictor(network, list(pool.values()))
    starts = range(0, len(data), CHUNK)
    parts = [predictor.parts(features[start : start + CHUNK]) for start in starts]
    logit = np.concatenate([part.logit for part in parts])
    factor = np.exp(np.concatenate([part.log_factor for part in parts]))
    levels = Levels.of(data.score)
    models = []
    for j, model in enumerate(pool.values()):
        learned = model.learned
        assert learned is not None  # noqa: S101  # For mypy: training has just learned it.
        own = ~np.isnan(data.score[:, j])
        sets = [data.dataset == name for name in np.unique(data.dataset[own])]
        quality = _level_change(
            np.clip(levels.row + levels.model[j], 0, 1), logit[:, j], own, np.any(sets, axis=0)
        )
        cost = _cost_change(amount[:, j], factor[:, j], sets)
        offsets = np.add(learned.embedding[:BIASES], (quality, cost))
        embedding = rounded([*offsets, *learned.embedding[BIASES:]])
        learned = learned.model_copy(update={"embedding": embedding})
        models.append(model.model_copy(update={"learned": learned}))
    return ModelPool(models)


def _level_change(
    score: FloatArray, logit: FloatArray, own: NDArray[np.bool_], rows: NDArray[np.bool_]
) -> float:
    """What is to be added to a model's logits.

    Args:
        score: [n] what it would score on each row.
        logit: [n] of its quality.
        own: [n] the rows that it was run on.
        rows: [n] all rows of its data sets.
    """
    # A difference: how well the network fits the model's own rows is another matter.
    every, seen = (_offset(float(score[of].mean()), logit[of]) for of in (rows, own))
    return every - seen


def _cost_change(
    amount: FloatArray, factor: FloatArray, sets: Sequence[NDArray[np.bool_]]
) -> float:
    """What is to be added to the log of a model's cost: no data set outweighs the others.

    Args:
        amount: [n] what its answers cost, NaN where unknown.
        factor: [n] predicted, of its mean cost.
        sets: The rows [n] of each data set.
    """
    known = ~np.isnan(amount)
    totals, weights = [], []
    for rows in (known, *(of_set & known for of_set in sets)):
        if (total := amount[rows].sum()) > 0:
            totals.append(math.log(total / factor[rows].sum()))
            weights.append(math.sqrt(rows.sum()))
    return float(np.average(totals[1:], weights=weights[1:])) - totals[0] if totals else 0.0


def _offset(mean: float, logit: FloatArray) -> float:
    """The offset that gives logits [n] this mean quality, by bisection."""
    least, most = -LARGEST_OFFSET, LARGEST_OFFSET
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        if (1 / (1 + np.exp(-(middle + logit)))).mean() < mean:
            least = middle
        else:
            most = middle
    return (least + most) / 2
