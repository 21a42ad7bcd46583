"""Fit the topics of a network: what tells them apart, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from crossroute.network.attention import Attention, Readers
from crossroute.network.embeddings import Embeddings
from crossroute.network.features import Features, FloatArray, standard, standardise
from crossroute.network.predictor import HELD_BACK, Network, logistic
from crossroute.network.topics import Topics, unit
from crossroute.query import FORM_FEATURES
from crossroute.training.data import CHARS_A_TOKEN
from crossroute.training.fit import FittedAttention
from crossroute.training.tables import QualityTable, fit_lengths, fit_quality, usual_asks

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

MARKS = 48
"""Numbers of an embedding for each table by topic: of the departures in quality of 107 models at
192 topics, 0.09 of a logit is lost at most, and 0.003 in the root of the mean square."""
OWN_VECTOR = 16
"""Directions of the encoder's numbers that an onboarded model's embedding may read."""
NEAR = (0.002, 0.03)
"""Shares of the training rows that look less familiar than "not at all" and "fully"."""
CHUNK = 1_024
"""Rows that the attention reads at a time."""
FREEDOM = 0.1
"""C of the logistic regression that tells topics apart."""
FORM_ROWS, FORM_DEVIATIONS, FORM_MARGIN = 5.0, 5.0, 0.5
"""How far the form of a topic reaches: with so many rows like those of other topics, in its own
standard deviations, and in those of all rows."""
INPUT_ROWS = 5.0
"""Shrinks a model's habit of sending more input than others."""
AGENT_INPUT = 3.0
"""Calls with so many times the input of the prompt are an agent's."""
UNRELATED = 1.0
"""Held back in logits: nothing says how a model compares."""


@dataclass(frozen=True)
class Rows:
    """What the topics are learned from: n rows, m models, T topics, S data sets.

    Attributes:
        features: Of each row.
        score: [n, m], NaN where unknown.
        amount: [n, m] output tokens or USD, NaN where unknown.
        input_tokens: [n, m] of all calls of an answer, NaN where unknown.
        estimated: [n] input tokens of the prompt.
        topic: [n].
        dataset_of: [T] the data set of each topic.
        in_tokens: [m] whether a model's amounts are output tokens.
        output_chars: [n, m] characters of an answer, NaN where unknown.
    """

    features: Features
    score: Float64Array
    amount: Float64Array
    input_tokens: Float64Array
    estimated: Float64Array
    topic: IntArray
    dataset_of: IntArray
    in_tokens: BoolArray
    output_chars: Float64Array

    def take(self, rows: BoolArray) -> Rows:
        """Some of the rows."""
        return replace(
            self,
            features=self.features.take(rows),
            score=self.score[rows],
            amount=self.amount[rows],
            input_tokens=self.input_tokens[rows],
            estimated=self.estimated[rows],
            topic=self.topic[rows],
            output_chars=self.output_chars[rows],
        )

    @property
    def lengths(self) -> Float64Array:
        """[n, m] amounts; where no tokens were counted, but characters, so many as these make."""
        by_chars = self.in_tokens & np.isnan(self.amount)
        return np.where(by_chars, self.output_chars / CHARS_A_TOKEN, self.amount)

    @property
    def topic_set(self) -> FloatArray:
        """[T, S], 1 for the data set of each topic."""
        return np.eye(int(self.dataset_of.max()) + 1, dtype=np.float32)[self.dataset_of]


class Belief(NamedTuple):
    """How far what a query says is believed, for each of S data sets.

    Attributes:
        topic_rows: [S] k, by which departures by topic are shrunk; infinite for none.
        trust: [S] in the attention, 0..1.
    """

    topic_rows: Float64Array
    trust: Float64Array


@dataclass(frozen=True)
class Classifier:
    """What tells topics apart: the first arrays of `Topics`, by name."""

    arrays: dict[str, FloatArray]


def fit_classifier(features: Features, topic: IntArray, topics: int, seed: int) -> Classifier:
    """Fit what tells topics apart.

    Args:
        features: Of n readings of rows.
        topic: [n].
        topics: T; topics without a row are never likely.
        seed: Of the directions of the encoder's numbers.
    """
    x = features.of_all
    mean, scale = standard(x)
    z = standardise(x, mean, scale).astype(np.float32)
    weight, bias = _logistic_regression(z, topic, topics)
    vectors = z.shape[1] - len(FORM_FEATURES)
    own = min(OWN_VECTOR, vectors, len(z) - 1)
    # Rows that are all alike vary in no direction: its shares of their variance are not read.
    with np.errstate(invalid="ignore"):
        found = PCA(own, random_state=seed).fit(z[:, :vectors])
    axes = np.zeros((z.shape[1], OWN_VECTOR + len(FORM_FEATURES)), np.float32)
    deviation = np.sqrt(np.maximum(found.explained_variance_, 1e-6))
    axes[:vectors, :own] = (found.components_ / deviation[:, None]).T
    axes[vectors:, OWN_VECTOR:] = np.eye(len(FORM_FEATURES))
    units = unit(features)
    centre = np.zeros((topics, units.shape[1]), np.float32)
    np.add.at(centre, topic, units)
    centre /= np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-9)
    near = np.quantile((units @ centre.T).max(axis=1), NEAR)
    form_mean, form_reach = _form(features.form, topic, topics)
    return Classifier(
        {
            "topic_mean": mean,
            "topic_scale": scale,
            "topic_weight": weight,
            "topic_bias": bias,
            "own_axes": axes,
            "centre": centre,
            "near": near.astype(np.float32),
            "form_mean": form_mean,
            "form_reach": form_reach,
        }
    )


def _form(form: FloatArray, topic: IntArray, topics: int) -> tuple[FloatArray, FloatArray]:
    """Mean of a topic's form, and how far it reaches from there: [T, f] each."""
    count = np.bincount(topic, minlength=topics)[:, None]
    mean, square = np.zeros((topics, form.shape[1])), np.zeros((topics, form.shape[1]))
    np.add.at(mean, topic, form)
    mean /= np.maximum(count, 1)
    np.add.at(square, topic, (form - mean[topic]) ** 2)
    # A topic of a few rows is taken to be as wide as the others are.
    usual = square.sum(axis=0) / len(form)
    deviation = np.sqrt((square + FORM_ROWS * usual) / (count + FORM_ROWS))
    reach = FORM_DEVIATIONS * deviation + FORM_MARGIN * form.std(axis=0)
    return _float32(mean), _float32(np.maximum(reach, 1e-3))


def assemble(
    rows: Rows,
    classifier: Classifier,
    fitted: FittedAttention,
    belief: Belief,
) -> tuple[Network, Float64Array]:
    """The network, and the models' embeddings [m, size].

    Args:
        rows: What the tables by topic are fitted to.
        classifier: What tells topics apart.
        fitted: The attention.
        belief: How far what a query says is believed.
    """
    dataset_of, score = rows.dataset_of, rows.score
    quality = fit_quality(score, rows.topic, dataset_of, belief.topic_rows)
    lengths = fit_lengths(rows.lengths, rows.topic, dataset_of, rows.in_tokens)
    asked, usual_tokens = usual_asks(rows.features.asked, rows.topic, lengths, rows.in_tokens)
    topic_set = rows.topic_set
    knows = _measured(rows)
    topic_input, habit = _inputs(rows)
    quality_marks, of_quality = _low_rank(quality.departure)
    length_marks, of_length = _low_rank(lengths.departure)
    counted = topic_set.T @ _counted(rows) > 0
    related, elsewhere = _elsewhere(quality, knows)
    unknown = _mean_ease(rows, quality), usual_tokens
    topics = Topics(
        **classifier.arrays,
        topic_set=topic_set,
        counted=counted.astype(np.float32),
        related=_float32(related),
        topic_ease=_float32(quality.ease),
        topic_reference=_float32(_reference(rows, fitted.attention)),
        topic_trust=_float32(belief.trust[dataset_of]),
        topic_input=_float32(topic_input),
        topic_length=_float32(lengths.topic),
        topic_asked=_float32(asked),
        quality_marks=quality_marks,
        length_marks=length_marks,
        unknown=_float32(np.array(unknown)),
    )
    network = Network(fitted.attention, topics)
    own = np.zeros((score.shape[1], network.layout.own))
    embeddings = Embeddings(
        level=quality.level,
        elsewhere=elsewhere,
        length=lengths.model,
        input=habit,
        trust=np.ones(score.shape[1]),
        shape=np.ones(score.shape[1]),
        attention_level=fitted.level,
        attention_length=fitted.length,
        knows=knows,
        quality_by_topic=of_quality,
        length_by_topic=of_length,
        own_quality=own,
        own_length=own,
        heads=fitted.heads,
    )
    return network, network.layout.join(embeddings)


def _logistic_regression(
    z: FloatArray, topic: IntArray, topics: int
) -> tuple[FloatArray, FloatArray]:
    """Weight [D, T] and bias [T] of a logistic regression."""
    weight = np.zeros((z.shape[1], topics), np.float32)
    bias = np.full(topics, -100.0, np.float32)
    names = np.unique(topic)
    if len(names) == 1:  # One topic: nothing to tell apart.
        bias[names] = 0.0
        return weight, bias
    fitted = LogisticRegression(C=FREEDOM, max_iter=300, tol=1e-3).fit(z, topic)
    if len(names) == 2:  # Of two it has the logit of the second over the first.
        weight[:, names[1]] = fitted.coef_[0]
        bias[names] = 0.0, fitted.intercept_[0]
        return weight, bias
    weight[:, names] = fitted.coef_.T
    bias[names] = fitted.intercept_
    return weight, bias


def _measured(rows: Rows) -> Float64Array:
    """[m, S], 1 where a data set has scores of a model."""
    has = np.zeros((rows.topic_set.shape[1], rows.score.shape[1]))
    np.add.at(has, rows.dataset_of[rows.topic], ~np.isnan(rows.score))
    return np.asarray(has.T > 0, np.float64)


def _counted(rows: Rows) -> Float64Array:
    """[T], how many answers of a topic have counted tokens."""
    found = np.zeros(len(rows.dataset_of))
    np.add.at(found, rows.topic, (~np.isnan(rows.lengths[:, rows.in_tokens])).sum(axis=1))
    return found


def _mean_ease(rows: Rows, quality: QualityTable) -> float:
    """What a row scores in the mean over topics, each counted by the root of its rows."""
    weight = np.sqrt(np.bincount(rows.topic, minlength=len(rows.dataset_of)))
    return float(weight @ quality.ease / weight.sum())


def _elsewhere(quality: QualityTable, knows: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Which data sets have related models [S], and how far models are held back elsewhere [m].

    In logits, by a share of the deviation of a model's level from data set to data set. Data sets
    that have no model in common with the others say nothing of how their models compare with those
    of the others.
    """
    groups, of_set = connected_components(knows.T @ knows)
    of_model = of_set[knows.argmax(axis=1)]
    main = np.bincount(of_model, minlength=groups).argmax()
    held_back = np.where(of_model == main, HELD_BACK * quality.from_set_to_set, UNRELATED)
    return np.asarray(of_set == main, np.float64), held_back


def _inputs(rows: Rows) -> tuple[Float64Array, Float64Array]:
    """Log of 1 and the input tokens of further calls by topic [T], and each model's habit [m].

    An agent sends what it has found again and again; how much, depends on the topic and on how many
    turns a model takes, and hardly on the length of the prompt.
    """
    known = ~np.isnan(rows.input_tokens)
    more = np.where(known, np.maximum(rows.input_tokens - rows.estimated[:, None], 0.0), 0.0)
    topics = len(rows.dataset_of)
    seen = known.any(axis=1)
    topic = rows.topic[seen]
    count = np.maximum(np.bincount(topic, minlength=topics), 1)
    # The mean of a row's models first: a row of many models is one row.
    of_row = more.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    of_topic = np.bincount(topic, of_row[seen], minlength=topics) / count
    usual = np.bincount(topic, rows.estimated[seen], minlength=topics) / count
    # A prompt is not counted to the last token: a little more is none.
    of_topic = np.where(of_topic > AGENT_INPUT * usual, of_topic, 0.0)
    agent = known & (of_topic > 0)[rows.topic, None]
    answers = agent.sum(axis=0)
    expected = np.where(agent, of_topic[rows.topic, None], 0.0).sum(axis=0)
    ratio = np.where(agent, more, 0.0).sum(axis=0) / np.maximum(expected, 1.0)
    habit = np.log(np.where(answers > 0, np.maximum(ratio, 0.01), 1.0))
    return np.log1p(of_topic), habit * answers / (answers + INPUT_ROWS)


def _reference(rows: Rows, attention: Attention) -> Float64Array:
    """What the attention's average model scores at each topic: [T]."""
    average = attention.average.astype(np.float64)
    readers, features = Readers(attention, average[None, 1:]), rows.features.of_instance
    parts = np.array_split(features, len(features) // CHUNK + 1)
    logit = np.concatenate([readers.read(part).logit[:, 0] for part in parts])
    quality = logistic(average[0] + logit)
    count = np.bincount(rows.topic, minlength=len(rows.dataset_of))
    total = np.bincount(rows.topic, quality, minlength=len(rows.dataset_of))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), quality.mean()))


def _low_rank(table: Float64Array) -> tuple[FloatArray, Float64Array]:
    """Marks [T, r] and the models' numbers [m, r] whose product is nearly a table [T, m]."""
    left, values, right = np.linalg.svd(table, full_matrices=False)
    # Always as many numbers, so that the size of an embedding depends on the data sets alone.
    kept = min(MARKS, len(values))
    root = np.sqrt(values[:kept])
    spare = ((0, 0), (0, MARKS - kept))
    # The signs that a decomposition has are a matter of the processor.
    sign = np.where(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])] < 0, -1.0, 1.0)
    marks = (left * sign)[:, :kept] * root
    return _float32(np.pad(marks, spare)), np.pad((right.T * sign)[:, :kept] * root, spare)


def _float32(values: NDArray[np.generic]) -> FloatArray:
    return np.asarray(values, np.float32)
