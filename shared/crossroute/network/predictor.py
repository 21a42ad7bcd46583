"""Quality and cost of every candidate, from the topics of a query and from the attention.

    level_m(x)         = level_m + sum_t p_t K_tm
    logit quality_m(x) = logit E(x) + (1 - w) level_m(x) + w (a_m(x) - a(x))
    log length_m(x)    = (1 - w) (length_m + sum_t p_t L_tm) + w log cost_m(x) + h (asked - length)

p are the shares of the topics (`crossroute.network.topics`), in the sums hardly those of data sets
where the model was not measured; a_m(x) and log cost_m(x) are what the attention says of model m
(`crossroute.network.attention`), a(x) what it says of the average model. E(x) is how easy the query
is for all models: it decides nothing between them. w, the trust in the attention, is learned for
each data set from held-out rows, down to zero; h says how far an ask for a longer or shorter answer
is heeded. With w = 0 and K = 0 the prediction is a fixed order of the models by their levels. The
level of a model that is barely known, there or at all, is held back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import shortened
from crossroute.models.descriptor import Learned, ModelDescriptor
from crossroute.models.price import PriceList
from crossroute.network.attention import Attention, Readers
from crossroute.network.embeddings import Layout
from crossroute.network.features import Features, FloatArray, clip
from crossroute.network.topics import Float64Array, Shares, Topics

LEAST_QUALITY = 0.001
"""Predicted quality stays this far from 0 and 1: nothing is sure."""

LEAST_EASE = 0.01
"""No query is easier than that, or harder."""

LARGEST_LEVEL = 15.0
"""In logits."""

LARGEST_WEIGHT, LEAST_SCALE = 1e4, 1e-6
"""Of a network that is loaded. Training makes weights below 100 and scales above 0.001; with
numbers of any size, a prediction could overflow."""

MOST_SLOTS = 1_000
"""Of all heads: the memory that a batch of queries takes grows with it. Training makes 32."""

DECIMALS = 6
"""Quality and log cost are rounded to so many. The order of a sum depends on the processor and on
where a model stands in the pool, and so do its last digits: they must not decide."""

ELSEWHERE, LENGTHS_ELSEWHERE = 0.02, 0.002
"""What a data set weighs in which a model was not measured, beside one in which it was: prompts
alike may be of either. For lengths it is less: answers to the same question are ten tokens in one
data set and hundreds in another, and a model that looks a little cheaper is chosen for it."""

LEAST_WEIGHT = 1e-4
"""So that nothing is divided by nothing."""

HELD_BACK = 1 / 3
"""By so many standard errors the quality of a model that is barely known is held back."""

HEED, LEAST_ASK, PLAIN_ASK = 0.85, 1.0, 2.5
"""How far an answer is as long as is asked. In a known topic not at all where the ask differs from
what is usual there by less than the one, so far where by more than the other, in logs."""

LARGEST_LOG_INPUT, LARGEST_LOG_ASK, LARGEST_LOG_AMOUNT = 16.0, 8.0, 30.0
"""Bounds against runaway extrapolation: of an agent's further input, of an ask over what is usual,
of output tokens or USD."""


@dataclass(frozen=True)
class Network:
    """The learned arrays that all models share.

    Attributes:
        attention: The network of each query.
        topics: What is known of kinds of queries.
    """

    attention: Attention
    topics: Topics

    @property
    def layout(self) -> Layout:
        """Where what stands in an embedding."""
        topics = self.topics
        return Layout(
            datasets=topics.topic_set.shape[1],
            quality=topics.quality_marks.shape[1],
            length=topics.length_marks.shape[1],
            own=topics.own_axes.shape[1],
            heads=self.attention.embedding_size,
        )

    @property
    def embedding_size(self) -> int:
        """Length of a model's learned embedding."""
        return self.layout.size

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays by name."""
        return {
            # As a file stores them: whatever writes them need not look at their strides.
            field.name: np.ascontiguousarray(getattr(part, field.name))
            for part in (self.attention, self.topics)
            for field in fields(part)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Network:
        """Build a network from arrays by name; they must be the ones above and fit together.

        Whatever it accepts predicts numbers, not NaN or infinity, of any query for any model.

        Raises:
            ValueError: If one is missing, superfluous, empty, of another shape, or holds numbers
                that no training makes.
        """
        names = [field.name for part in (Attention, Topics) for field in fields(part)]
        if missing := set(names) - arrays.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if superfluous := arrays.keys() - set(names):
            raise ValueError(f"{shortened(min(superfluous))} is no array of it")
        of = {name: np.ascontiguousarray(arrays[name], np.float32) for name in names}
        network = cls(
            Attention(**{field.name: of[field.name] for field in fields(Attention)}),
            Topics(**{field.name: of[field.name] for field in fields(Topics)}),
        )
        if empty := [name for name in names if not of[name].size]:
            raise ValueError(f"{empty[0]} is empty, its shape {of[empty[0]].shape}")
        attention = network.attention
        expected = attention.shapes() | network.topics.shapes()
        heads, _, slots = attention.slot_weight.shape
        for name, array in of.items():
            if array.shape != expected[name] or slots % attention.slot_size:
                raise ValueError(f"{name} has shape {array.shape}, expected {expected[name]}")
            # NaN is not below it, either.
            if not (np.abs(array) <= LARGEST_WEIGHT).all():
                raise ValueError(f"{name} holds numbers not finite or beyond {LARGEST_WEIGHT:g}")
        if heads * slots > MOST_SLOTS * attention.slot_size:
            count = slots // attention.slot_size
            raise ValueError(f"{heads} heads of {count} slots are more than {MOST_SLOTS} slots")
        for name in ("input_scale", "topic_scale", "form_reach"):
            if of[name].min() < LEAST_SCALE:
                raise ValueError(f"{name} holds numbers below {LEAST_SCALE:g}")
        for name in ("counted", "related", "topic_trust"):
            if of[name].min() < 0 or of[name].max() > 1:
                raise ValueError(f"{name} holds numbers outside 0..1")
        topic_set = of["topic_set"]
        if not (np.isin(topic_set, (0, 1)).all() and (topic_set.sum(axis=1) == 1).all()):
            raise ValueError("topic_set holds no single 1 for the data set of each topic")
        return network


class Parts(NamedTuple):
    """What a prediction is made of.

    Attributes:
        shares: What the queries are about.
        ease: [n] how easy a query is for all models: it decides nothing between them.
        level: [n, m] how much better than that each model is, in logits.
        log_amount: [n, m] log of output tokens, or of USD.
    """

    shares: Shares
    ease: Float64Array
    level: Float64Array
    log_amount: Float64Array


class Predictions(NamedTuple):
    """What is predicted of n queries and m models.

    Attributes:
        quality: [n, m] in 0..1.
        cost_usd: [n, m].
        output_tokens: [n, m]; NaN where the model was learned from costs without token counts.
    """

    quality: Float64Array
    cost_usd: Float64Array
    output_tokens: Float64Array


class Predictor:
    """A network with a set of models folded into it.

    What depends on the models alone is computed once.

    Args:
        network: The learned arrays.
        models: m descriptors, each with a learned embedding of `network.embedding_size`.
    """

    def __init__(self, network: Network, models: Sequence[ModelDescriptor]) -> None:
        learned = [_learned(model) for model in models]
        self._network = network
        self._in_tokens = np.array([x.cost_target == "output_tokens" for x in learned])
        embeddings = np.array([x.embedding for x in learned], np.float64)
        self._of = of = network.layout.split(embeddings)
        self._knows = np.clip(of.knows, 0.0, 1.0)
        self._trust = np.clip(of.trust, 0.0, 1.0)
        self._elsewhere = self._knows + ELSEWHERE * (1 - self._knows)
        # How long answers are in another data set says something where tokens were counted there.
        counted = np.where(self._in_tokens[:, None], network.topics.counted, 0.0)
        self._elsewhere_counted = self._knows + LENGTHS_ELSEWHERE * (1 - self._knows) * counted
        self._quality_by_topic = network.topics.quality_marks @ of.quality_by_topic.T  # [T, m]
        self._length_by_topic = network.topics.length_marks @ of.length_by_topic.T
        # The average model of the attention goes last.
        average = network.attention.average.astype(np.float64)
        self._average_level = average[0]
        self._readers = Readers(
            network.attention, np.concatenate([of.heads, average[None, 1:]], axis=0)
        )
        # Rounded like all that decides; see `DECIMALS`.
        self._habit = np.exp(clip(of.input, LARGEST_LOG_INPUT)).round(DECIMALS)
        self._error = np.array([x.quality_error for x in learned])
        self._prices = PriceList([model.price for model in models])
        # A minimum with NaN is NaN: of a model that was learned from costs, no tokens are known.
        most = np.array([model.max_output_tokens or np.inf for model in models])
        self._most_tokens = np.where(self._in_tokens, most, np.nan)

    def predict(self, features: Features, input_tokens: Float64Array) -> Predictions:
        """Predict every model's answer to every query.

        Args:
            features: Of n queries.
            input_tokens: [n] estimated input tokens.
        """
        parts = self.parts(features)
        level = parts.level - self._held_back(parts.shares)
        quality = logistic(logit_of(parts.ease)[:, None] + clip(level, LARGEST_LEVEL))
        quality = np.clip(quality, LEAST_QUALITY, 1 - LEAST_QUALITY).round(DECIMALS)
        amount = np.exp(clip(parts.log_amount, LARGEST_LOG_AMOUNT).round(DECIMALS))
        tokens = np.minimum(amount, self._most_tokens)
        more_input = self._more_input(parts.shares)
        cost_of_tokens = self._prices.cost_usd(input_tokens, tokens, more_input)
        return Predictions(quality, np.where(self._in_tokens, cost_of_tokens, amount), tokens)

    def parts(self, features: Features) -> Parts:
        """What a prediction is made of."""
        topics, of = self._network.topics, self._of
        shares = topics.read(features)
        ease = shares.topic @ topics.topic_ease + shares.unknown * topics.unknown[0]
        level = of.level + self._departures(shares)
        log_amount = self._lengths(shares)
        trusted = shares.topic @ topics.topic_trust
        if trusted.any():
            seen = self._readers.read(features.of_instance)
            average = self._average_level + seen.logit[:, -1]
            # In the mean over its rows, a topic stays as easy as they were.
            usual = shares.topic @ (topics.topic_trust * topics.topic_reference)
            ease += trusted * logistic(average) - usual
            weight = trusted[:, None] * self._trust
            better = of.attention_level + seen.logit[:, :-1] - average[:, None]
            level += weight * (better - level)
            log_amount += weight * (of.attention_length + seen.log_factor[:, :-1] - log_amount)
        return Parts(shares, ease, level, log_amount + self._ask(features, shares)[:, None])

    def marks(self, shares: Shares) -> tuple[Float64Array, Float64Array]:
        """What the first model's numbers by topic are multiplied with.

        Returns:
            For quality [n, a], for length [n, b].
        """
        topics = self._network.topics
        return (
            shares.topic @ topics.quality_marks / self._quality_weight(shares)[:, :1],
            shares.topic @ topics.length_marks / self._length_weight(shares)[:, :1],
        )

    def _departures(self, shares: Shares) -> Float64Array:
        """How much better than their levels models are at queries: [n, m]."""
        by_topic = shares.topic @ self._quality_by_topic / self._quality_weight(shares)
        return np.asarray(by_topic + shares.own @ self._of.own_quality.T)

    def _lengths(self, shares: Shares) -> Float64Array:
        """Log of output tokens, or of USD, by topic: [n, m]."""
        topics, of = self._network.topics, self._of
        of_sets = (shares.topic * topics.topic_length) @ topics.topic_set
        usual = of_sets @ self._elsewhere_counted.T * of.shape
        by_topic = shares.topic @ self._length_by_topic
        own = shares.own @ of.own_length.T
        return np.asarray(of.length + (usual + by_topic) / self._length_weight(shares) + own)

    def _quality_weight(self, shares: Shares) -> Float64Array:
        return np.asarray(shares.dataset @ self._elsewhere.T + shares.unknown[:, None])

    def _length_weight(self, shares: Shares) -> Float64Array:
        # No data set in which tokens were counted may be near: then the mean is what is known.
        weight = shares.dataset @ self._elsewhere_counted.T + shares.unknown[:, None]
        return np.asarray(weight + LEAST_WEIGHT)

    def _ask(self, features: Features, shares: Shares) -> Float64Array:
        """How much longer an answer is for what is asked: [n], in logs.

        Where the topic is known, an ask as it is usual there says nothing new: what it brings about
        is in the topic's lengths. The further it is from that, the more an answer is as long as is
        asked.
        """
        topics = self._network.topics
        length = float(topics.unknown[1])
        said = ~np.isnan(features.asked)
        asked = np.where(said, features.asked, 0.0)
        known = 1 - shares.unknown
        usual = shares.topic @ topics.topic_asked / np.maximum(known, LEAST_WEIGHT)
        far = (np.abs(asked - usual) - LEAST_ASK) / (PLAIN_ASK - LEAST_ASK)
        heed = HEED * (shares.unknown + known * np.clip(far, 0.0, 1.0))
        typical = length + shares.topic @ (
            topics.topic_length * (topics.topic_set @ topics.counted)
        )
        return np.where(said, heed * clip(asked - typical, LARGEST_LOG_ASK), 0.0)

    def _held_back(self, shares: Shares) -> Float64Array:
        """By how many logits models are held back that are barely known, here or at all: [n, m]."""
        # In a data set that stands by itself, nobody of elsewhere was compared with anybody.
        related = self._network.topics.related
        elsewhere = shares.unknown[:, None] + (shares.dataset * related) @ (1 - self._knows).T
        return np.asarray(elsewhere * self._of.elsewhere + HELD_BACK * self._error)

    def _more_input(self, shares: Shares) -> Float64Array:
        """Input tokens of an agent's further calls: [n, m].

        A topic of which the query hardly is counts less than its share: an agent's calls take a
        thousand times the input of the prompt.
        """
        topics = self._network.topics
        of_topic = np.expm1(clip(topics.topic_input.astype(np.float64), LARGEST_LOG_INPUT))
        square = shares.topic**2
        more = square @ of_topic / (square.sum(axis=1) + shares.unknown**2)
        return np.asarray(more.round()[:, None] * self._habit)


def logit_of(ease: Float64Array) -> Float64Array:
    """The logit of how easy queries are."""
    ease = np.clip(ease, LEAST_EASE, 1 - LEAST_EASE)
    return np.log(ease / (1 - ease))


def logistic(logit: Float64Array) -> Float64Array:
    """The logistic function."""
    # Without an exponential, which a large number makes too large.
    return np.asarray((1 + np.tanh(logit / 2)) / 2)


def _learned(model: ModelDescriptor) -> Learned:
    if model.learned is None:
        raise ValueError(f"{model.id} has no learned embedding")
    return model.learned
