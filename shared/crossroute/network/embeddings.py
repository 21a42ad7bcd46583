"""What stands where in a model's learned embedding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

SCALARS = (
    "level",
    "elsewhere",
    "length",
    "input",
    "trust",
    "shape",
    "attention_level",
    "attention_length",
)
"""The first numbers of an embedding:

level: in logits, over the mean of the models.
elsewhere: by how many logits it is held back where it was not measured.
length: log of output tokens, or of USD, in the mean.
input: log of how much more input an agent of it takes than others.
trust: how far the attention is believed of it, 0..1.
shape: how far its answers are longer where those of others are, 0..1.
attention_level, attention_length: what the attention's logit and log cost are added to."""


class Layout(NamedTuple):
    """How many numbers of an embedding are for what, in this order, after `SCALARS`.

    Attributes:
        datasets: 1 for each data set in which the model was measured.
        quality: Its departures by topic in quality.
        length: Its departures by topic in length.
        own: An onboarded model's own; once for quality, once for length.
        heads: What the attention reads.
    """

    datasets: int
    quality: int
    length: int
    own: int
    heads: int

    @property
    def size(self) -> int:
        """Length of an embedding."""
        return len(SCALARS) + sum(self) + self.own

    def split(self, embeddings: Float64Array) -> Embeddings:
        """The parts of embeddings [m, size]."""
        scalars = len(SCALARS)
        sizes = (self.datasets, self.quality, self.length, self.own, self.own)
        ends = np.cumsum([scalars, *sizes])
        first, *parts = np.split(embeddings, ends, axis=1)
        return Embeddings(*first.T, *parts)

    def join(self, parts: Embeddings) -> Float64Array:
        """Embeddings [m, size] of their parts."""
        scalars = np.stack(parts[: len(SCALARS)], axis=1)
        return np.concatenate([scalars, *parts[len(SCALARS) :]], axis=1)


class Embeddings(NamedTuple):
    """The parts of the embeddings of m models; see `SCALARS` and `Layout`.

    The first are [m], the others [m, ...].
    """

    level: Float64Array
    elsewhere: Float64Array
    length: Float64Array
    input: Float64Array
    trust: Float64Array
    shape: Float64Array
    attention_level: Float64Array
    attention_length: Float64Array
    knows: Float64Array
    quality_by_topic: Float64Array
    length_by_topic: Float64Array
    own_quality: Float64Array
    own_length: Float64Array
    heads: Float64Array
