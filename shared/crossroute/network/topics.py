"""Topics: which of the known kinds of work a query is about, and what is known of each.

A topic is a task of a data set. The query's kind (its system prompt, or its beginning), text and
form tell how probable each is:

    p_t = f_t(x) softmax_t(T_t x + b_t)

f_t(x), from 0 to 1, is how familiar the query looks: in its meaning, near the rows of any topic,
and in its form, like the rows of this one. A question without choices is none of an exam's; what is
like no trained row is about no known topic. The rest counts as "nothing known".

Of each topic is kept how easy it is for the models in the mean, how long answers are, how long they
are asked to be, how many input tokens a call takes beside those of the prompt (an agent sends its
conversation again and again), and how far the attention is believed there; of each model, in its
embedding, by how much it departs from its level in quality and in length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.network.features import Features, FloatArray, standardise

Float64Array = NDArray[np.float64]

UNKNOWN = ("ease", "length")
"""The numbers in `Topics.unknown`, in order."""


@dataclass(frozen=True)
class Topics:
    """The learned arrays: T topics of S data sets, D inputs of which d are an encoder's numbers.

    Attributes:
        topic_mean: [D].
        topic_scale: [D].
        topic_weight: [D, T].
        topic_bias: [T].
        centre: [T, 2 d], unit vectors: the mean of a topic's kind and text.
        near: [2], between which cosines with the nearest centre a query begins to look familiar.
        form_mean: [T, f], what the form of a topic's rows is in the mean.
        form_reach: [T, f], how far it reaches from there.
        own_axes: [D, o], what more of a query an onboarded model's embedding may read.
        topic_set: [T, S], 1 for the data set of each topic.
        counted: [S], 1 where the output tokens of answers were counted, or their characters.
        related: [S], 1 for a data set whose models others of the most have in common.
        topic_ease: [T], what a row scores in the mean over the models.
        topic_reference: [T], the same by the attention's average model.
        topic_trust: [T], how far the attention is believed, 0..1.
        topic_input: [T], log of 1 and the input tokens of an agent's further calls.
        topic_length: [T], log of output tokens (or USD) over what they are in the mean.
        topic_asked: [T], log of the output tokens asked for in the mean.
        quality_marks: [T, a], what embeddings read of a topic for quality.
        length_marks: [T, b], what they read of it for length.
        unknown: [2], where nothing is known: ease, and log of output tokens.
    """

    topic_mean: FloatArray
    topic_scale: FloatArray
    topic_weight: FloatArray
    topic_bias: FloatArray
    centre: FloatArray
    near: FloatArray
    form_mean: FloatArray
    form_reach: FloatArray
    own_axes: FloatArray
    topic_set: FloatArray
    counted: FloatArray
    related: FloatArray
    topic_ease: FloatArray
    topic_reference: FloatArray
    topic_trust: FloatArray
    topic_input: FloatArray
    topic_length: FloatArray
    topic_asked: FloatArray
    quality_marks: FloatArray
    length_marks: FloatArray
    unknown: FloatArray

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each array must have, by those of a few of them.

        Raises:
            ValueError: If one of these has another number of dimensions.
        """
        matrices = ("topic_weight", "centre", "form_mean", "own_axes", "topic_set")
        for name in (*matrices, "quality_marks", "length_marks"):
            if getattr(self, name).ndim != 2:
                raise ValueError(f"{name} has {getattr(self, name).ndim} dimensions, expected 2")
        inputs, topics = self.topic_weight.shape
        of_topics = ("bias", "ease", "reference", "trust", "input", "length", "asked")
        return {
            **{f"topic_{name}": (topics,) for name in of_topics},
            "topic_mean": (inputs,),
            "topic_scale": (inputs,),
            "topic_weight": (inputs, topics),
            "centre": (topics, self.centre.shape[1]),
            "near": (2,),
            "form_mean": (topics, self.form_mean.shape[1]),
            "form_reach": (topics, self.form_mean.shape[1]),
            "own_axes": (inputs, self.own_axes.shape[1]),
            "topic_set": (topics, self.topic_set.shape[1]),
            "counted": (self.topic_set.shape[1],),
            "related": (self.topic_set.shape[1],),
            "quality_marks": (topics, self.quality_marks.shape[1]),
            "length_marks": (topics, self.length_marks.shape[1]),
            "unknown": (len(UNKNOWN),),
        }

    def read(self, features: Features) -> Shares:
        """Which topics queries are about."""
        x = standardise(features.of_all, self.topic_mean, self.topic_scale)
        weight, bias = self._classifier
        logit = x @ weight + bias
        share = np.exp(logit - logit.max(axis=1, keepdims=True))
        share *= self._familiar(features) / share.sum(axis=1, keepdims=True)
        return Shares(share, share @ self.topic_set, 1 - share.sum(axis=1), x @ self.own_axes)

    @cached_property
    def _classifier(self) -> tuple[Float64Array, Float64Array]:
        return self.topic_weight.astype(np.float64), self.topic_bias.astype(np.float64)

    @cached_property
    def _centres(self) -> Float64Array:
        return self.centre.T.astype(np.float64)

    def _familiar(self, features: Features) -> Float64Array:
        """How familiar queries look: [n, T], 0..1."""
        # Not in single precision, whose last digits a prediction would show.
        cosine = (unit(features) @ self._centres).max(axis=1)
        least, most = self.near.astype(np.float64)
        meaning = np.clip((cosine - least) / max(most - least, 1e-6), 0.0, 1.0)
        meaning = np.where(features.blank, 0.0, meaning)
        off = np.abs(features.form[:, None] - self.form_mean) / self.form_reach
        form = np.clip(2.0 - off.max(axis=2).astype(np.float64), 0.0, 1.0)
        return np.asarray(meaning[:, None] * form)


class Shares(NamedTuple):
    """What queries are about.

    Attributes:
        topic: [n, T] share of each topic.
        dataset: [n, S] share of each data set.
        unknown: [n] what is left.
        own: [n, o] what more an onboarded model's embedding may read.
    """

    topic: Float64Array
    dataset: Float64Array
    unknown: Float64Array
    own: Float64Array


def unit(features: Features) -> Float64Array:
    """Kind and text of queries as one unit vector each: [n, 2 d]."""
    vectors = np.concatenate([features.kind, features.text], axis=1, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9))
