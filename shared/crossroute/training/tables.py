"""What is learned by topic: how good each model is at it, how long its answers are, what is asked.

Both tables are additive fits with departures that are shrunk by their own evidence:

    score[row, m]   = row + v_t (level_m + set_dm + cell_tm)
    log amount_tm   = length_m + length_t + cell_tm

d is the data set, t the topic of the row. v_t = E_t (1 - E_t), of how easy a topic is, makes points
of logits: where nearly all answers are right, or wrong, models differ less. It is the simplest item
response theory, to first order. A departure of n rows counts n / (n + k): k stands for the rows to
which "no departure" weighs up. For quality it is chosen on held-out rows
(`crossroute.training.trust`), infinite included.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.training.levels import LEVEL_ROWS, Levels

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

STEPS = 20
"""Of the alternating fits; they have settled by then."""
LEAST_EASE = 0.02
"""No topic is easier than that, or harder: a logit stays worth something."""
SET_DEVIATION, FEW_MODELS = 0.5, 10
"""The deviation of a model's level from data set to data set, in logits, where no model is in
several, and to how many departures of models that are it weighs up."""
LEAST_SHARE = 0.5
"""Of the spread of levels that is the models' own at least."""
LENGTH_ROWS = 15.0
"""k of lengths."""
PART_ROWS = 2.0
"""What a topic's own mean length is shrunk by."""
LEAST_AMOUNT = 1e-9
"""No answer is shorter or costs less: its logarithm is finite."""

ASKED_ROWS = 3.0
"""To how many prompts that ask for a length the length of a topic's answers weighs up."""
USUAL_TOKENS = 300.0
"""The length of an answer where nothing is known of it."""


class QualityTable(NamedTuple):
    """Quality by topic.

    Attributes:
        level: [m] how much better a model is than all in the mean, in logits.
        ease: [T] what a topic's rows score in the mean over all models.
        departure: [T, m] of a model from its level at a topic, in logits; 0 in data sets that it is
            not in.
        from_set_to_set: The standard deviation of a model's level from data set to data set.
    """

    level: FloatArray
    ease: FloatArray
    departure: FloatArray
    from_set_to_set: float


def fit_quality(
    score: FloatArray, topic: IntArray, dataset_of: IntArray, topic_rows: FloatArray
) -> QualityTable:
    """Fit quality by topic.

    Args:
        score: [n, m], NaN where unknown.
        topic: [n] the topic of each row.
        dataset_of: [T] the data set of each topic.
        topic_rows: [S] k of each data set's topics, which may be infinite.
    """
    topics, m = len(dataset_of), score.shape[1]
    known = ~np.isnan(score)
    count = np.maximum(known.sum(axis=1), 1)
    # A row with one answer says nothing of who is better.
    compared = known & (count > 1)[:, None]
    at_topic = _sums(compared, topic, topics)
    at_set = _sums(at_topic, dataset_of, len(topic_rows))
    rows = np.maximum(np.bincount(topic, minlength=topics), 1)
    row = Levels.of(score).row
    level, of_set, of_cell = np.zeros(m), np.zeros((len(topic_rows), m)), np.zeros((topics, m))
    k = topic_rows[dataset_of][:, None]
    for _ in range(STEPS):
        ease = np.bincount(topic, row, minlength=topics) / rows
        v = _spread(ease)[:, None]
        # What a topic's rows say of each model, in points.
        gap = _sums(np.where(compared, score - row[:, None], 0.0), topic, topics)
        usual = float((v * at_topic).sum() / max(at_topic.sum(), 1.0))
        left = gap - v * at_topic * (of_set[dataset_of] + of_cell)
        level = left.sum(axis=0) / ((v * at_topic).sum(axis=0) + LEVEL_ROWS * usual + 1e-9)
        level -= level @ at_topic.sum(axis=0) / max(at_topic.sum(), 1.0)
        left = _sums(gap - v * at_topic * (level + of_cell), dataset_of, len(topic_rows))
        weight = _sums(v * at_topic, dataset_of, len(topic_rows))
        of_set = left / (weight + LEVEL_ROWS * weight / np.maximum(at_set, 1.0) + 1e-9)
        left = gap - v * at_topic * (level + of_set[dataset_of])
        of_cell = left / (v * (at_topic + k))
        better = v * (level + of_set[dataset_of] + of_cell)
        row = np.where(known, score - better[topic], 0.0).sum(axis=1) / count
    measured = _sums(_sums(known, topic, topics), dataset_of, len(topic_rows)) > 0
    deviation, general = _general(level, of_set, measured)
    # What is no part of the level stays in the data sets that it was measured in.
    better = level - general + of_set[dataset_of] + of_cell
    return QualityTable(
        general,
        np.bincount(topic, row, minlength=topics) / rows,
        np.where(measured[dataset_of], better, 0.0),
        deviation,
    )


def _general(
    level: FloatArray, of_set: FloatArray, measured: BoolArray
) -> tuple[float, FloatArray]:
    """What of levels that were measured in a few data sets holds elsewhere (empirical Bayes).

    Args:
        level: [m].
        of_set: [S, m] a model's departure from it in a data set.
        measured: [S, m] whether a model is in a data set.

    Returns:
        The standard deviation of a level from data set to data set, as the models say that are in
        several; and the levels [m], shrunk by it.
    """
    sets = np.maximum(measured.sum(axis=0), 1)
    mean = np.where(measured, of_set, 0.0).sum(axis=0) / sets
    whole = level + mean
    several = measured & (sets > 1)
    square = (np.where(several, of_set - mean, 0.0) ** 2).sum()
    # Each model's own mean is taken from its departures.
    count = several.sum() - (sets > 1).sum()
    deviation = math.sqrt((square + FEW_MODELS * SET_DEVIATION**2) / (count + FEW_MODELS))
    if len(measured) == 1:
        # There is no elsewhere.
        return deviation, whole
    noise = deviation**2 / sets
    own = max(float(whole.var() - noise.mean()), (LEAST_SHARE * float(whole.std())) ** 2)
    return deviation, np.asarray(whole * own / np.maximum(own + noise, 1e-12))


def _spread(ease: FloatArray) -> FloatArray:
    """v: points of quality a logit, by how easy a topic is."""
    ease = np.clip(ease, LEAST_EASE, 1 - LEAST_EASE)
    return np.asarray(ease * (1 - ease))


def _sums(values: NDArray[np.generic], number: IntArray, size: int) -> FloatArray:
    """Sums [size, m] of the rows [n, m] of each number [n]."""
    total = np.zeros((size, values.shape[1]))
    np.add.at(total, number, values)
    return total


class LengthTable(NamedTuple):
    """The log of output tokens, or of USD, by topic.

    Attributes:
        model: [m] of a model in the mean over topics.
        topic: [T] of a topic, over what is usual.
        departure: [T, m] of a model at a topic from the sum of the two.
    """

    model: FloatArray
    topic: FloatArray
    departure: FloatArray


def fit_lengths(
    amount: FloatArray, topic: IntArray, dataset_of: IntArray, in_tokens: BoolArray
) -> LengthTable:
    """Fit lengths by topic: of mean amounts, so that totals come right.

    Args:
        amount: [n, m] output tokens or USD, NaN where unknown.
        topic: [n].
        dataset_of: [T] the data set of each topic.
        in_tokens: [m] whether a model's amounts are output tokens.
    """
    topics = len(dataset_of)
    known = ~np.isnan(amount)
    member = np.eye(topics)[topic]
    count = member.T @ known
    total = member.T @ np.where(known, amount, 0.0)
    cell = np.log(np.maximum(total / np.maximum(count, 1), LEAST_AMOUNT))
    weight = count / (count + PART_ROWS)
    # Where the models of one topic are in no other, what is theirs and what is the topic's is a
    # matter of where one begins: tokens are compared over all data sets, USD only within one.
    counted = amount[:, in_tokens]
    usual = math.log(max(float(np.nanmean(counted)), 1.0)) if known[:, in_tokens].any() else 0.0
    model = np.full(amount.shape[1], usual)
    for j in np.flatnonzero(~in_tokens & known.any(axis=0)):
        own = np.isin(dataset_of[topic], dataset_of[topic[known[:, j]]])
        model[j] = math.log(max(float(np.nanmean(amount[own][:, ~in_tokens])), LEAST_AMOUNT))
    of_topic = np.zeros(topics)
    for _ in range(STEPS):
        rest = np.where(count > 0, cell - model, 0.0)
        of_topic = (weight * rest).sum(axis=1) / np.maximum(weight.sum(axis=1), LEAST_AMOUNT)
        rest = np.where(count > 0, cell - of_topic[:, None], 0.0)
        found = (weight * rest).sum(axis=0) / np.maximum(weight.sum(axis=0), LEAST_AMOUNT)
        model = np.where(count.sum(axis=0) > 0, found, model)
    rest = np.where(count > 0, cell - model - of_topic[:, None], 0.0)
    return LengthTable(model, of_topic, rest * count / (count + LENGTH_ROWS))


def usual_asks(
    asked: FloatArray,
    topic: IntArray,
    lengths: LengthTable,
    in_tokens: BoolArray,
) -> tuple[FloatArray, float]:
    """How long answers usually are asked to be.

    Args:
        asked: [n] log of the tokens that a prompt asks for, NaN where it does not say.
        topic: [n].
        lengths: By topic.
        in_tokens: [m] whether a model's lengths are output tokens.

    Returns:
        Log of the tokens that a topic's prompts ask for [T], of those that its answers have where
        few of them ask; and of those that an answer has in the mean.
    """
    size, said = len(lengths.topic), ~np.isnan(asked)
    level = float(lengths.model[in_tokens].mean()) if in_tokens.any() else math.log(USUAL_TOKENS)
    total = np.bincount(topic[said], asked[said], minlength=size)
    count = np.bincount(topic[said], minlength=size)
    typical = np.maximum(level + lengths.topic, 0.0)
    return (total + ASKED_ROWS * typical) / (count + ASKED_ROWS), level
