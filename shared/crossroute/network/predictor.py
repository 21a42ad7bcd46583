"""The cross-attention forward pass as plain arrays: quality and cost of every candidate.

A query becomes K slot vectors; every model's embedding attends over them (one head), so each model
has its own summary of the query, and reads its quality and its cost off that summary:

    t_k  = silu(W_k x + b_k)                          slots of the query, d numbers each
    a_mk = softmax_k((A e_m + a) . t_k / sqrt(d))     attention of model m over the slots
    c_m  = sum_k a_mk t_k                             the query as model m sees it
    z           = w . mean_k t_k                      how easy the query is, for all models
    p_t         = softmax_t(T_t x + b_t)              which of the known topics the query is about
    logit s_m   = bias_m + z + (V e_m + v) . c_m + f_m . G^T p
    log cost_m  = cost_bias_m + (U e_m + u) . c_m

x is the encoder's vector beside the query's form, standardised and cut off; e_m is the learned
embedding of the model. The network is an
ensemble of a few such single-head members, here called heads: each reads its own part of the
embedding, their logits are averaged. The last term of the quality is a prior beside the attention:
how much better than its mean a model is at the topics that the query may be about, shrunk
(`docs/ablation.md`). Reconstructed from arXiv 2509.09782; the prior is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import shortened
from crossroute.models.descriptor import Learned, ModelDescriptor
from crossroute.models.price import PriceList
from crossroute.network.encoders import QueryEncoder
from crossroute.query import Query

FloatArray = NDArray[np.float32]

BIASES = 2
"""The first numbers of an embedding: offsets of quality's logit and of log cost."""

LEAST_QUALITY = 0.001
"""Predicted quality stays this far from 0 and 1: nothing is sure."""

LARGEST_WEIGHT, LEAST_SCALE = 1e4, 1e-6
"""Of a network that is loaded. Training makes weights below 10 and scales above 0.001; with numbers
of any size, a prediction could overflow."""

MOST_SLOTS = 1_000
"""Of all heads: the memory that a batch of queries takes grows with it. Training makes 32."""

LARGEST_INPUT = 8.0
"""Standardised features are cut off here."""

DECIMALS = 6
"""Quality and log cost are rounded to so many. The order of a sum depends on the processor and on
where a model stands in the pool, and so do its last digits: they must not decide."""

LARGEST_LOG_FACTOR = 4.0
"""A cost is predicted at most e^4 (55) times off the model's mean: no runaway extrapolation."""


@dataclass(frozen=True)
class Network:
    """The learned arrays: h heads, D inputs, K slots of d numbers, r embedding numbers a head.

    Attributes:
        input_mean: [D].
        input_scale: [D].
        slot_weight: [h, D, K * d].
        slot_bias: [h, K * d].
        ease: [h, d].
        attend_weight: [h, r, d].
        attend_bias: [h, d].
        quality_weight: [h, r, d].
        quality_bias: [h, d].
        cost_weight: [h, r, d].
        cost_bias: [h, d].
        topic_weight: [D, T].
        topic_bias: [T].
        topic_vectors: [T, p], G: what the prior's part of an embedding says of the topics.
    """

    input_mean: FloatArray
    input_scale: FloatArray
    slot_weight: FloatArray
    slot_bias: FloatArray
    ease: FloatArray
    attend_weight: FloatArray
    attend_bias: FloatArray
    quality_weight: FloatArray
    quality_bias: FloatArray
    cost_weight: FloatArray
    cost_bias: FloatArray
    topic_weight: FloatArray
    topic_bias: FloatArray
    topic_vectors: FloatArray

    @property
    def embedding_size(self) -> int:
        """Length of a model's learned embedding: biases, prior, and a part for every head."""
        heads, rank = self.attend_weight.shape[:2]
        return BIASES + self.prior_size + int(heads * rank)

    @property
    def prior_size(self) -> int:
        """p, the numbers of an embedding that the prior reads."""
        return int(self.topic_vectors.shape[1])

    @property
    def slot_size(self) -> int:
        """d, the length of a slot."""
        return int(self.ease.shape[1])

    @cached_property
    def readers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What x is multiplied with, and what is added: weight [D, h * K * d + T] and bias.

        The first columns make the slots, the last ones the topics.
        """
        slots = self.slot_weight.transpose(1, 0, 2).reshape(len(self.input_mean), -1)
        weight = np.concatenate([slots, self.topic_weight], axis=1, dtype=np.float64)
        return weight, np.concatenate([self.slot_bias.ravel(), self.topic_bias], dtype=np.float64)

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Network:
        """Build a network from arrays by name; they must be the ones above and fit together.

        Whatever it accepts predicts numbers, not NaN or infinity, of any query for any model.

        Raises:
            ValueError: If one is missing, superfluous, empty, of another shape, or holds numbers
                that no training makes.
        """
        names = {field.name for field in fields(cls)}
        if missing := names - arrays.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if superfluous := arrays.keys() - names:
            raise ValueError(f"{shortened(min(superfluous))} is no array of it")
        network = cls(**{name: np.asarray(arrays[name], np.float32) for name in names})
        dimensions = (
            network.slot_weight.ndim,
            network.attend_weight.ndim,
            network.topic_vectors.ndim,
        )
        if dimensions != (3, 3, 2):
            raise ValueError(f"slot, attend and topic arrays have {dimensions} dimensions")
        if empty := [name for name, array in network.arrays().items() if not array.size]:
            raise ValueError(f"{empty[0]} is empty, its shape {getattr(network, empty[0]).shape}")
        h, inputs, slots = network.slot_weight.shape
        r, d = network.attend_weight.shape[1:]
        topics = len(network.topic_vectors)
        expected = {
            "input_mean": (inputs,),
            "input_scale": (inputs,),
            "slot_weight": (h, inputs, slots),
            "slot_bias": (h, slots),
            "ease": (h, d),
            "topic_weight": (inputs, topics),
            "topic_bias": (topics,),
            "topic_vectors": network.topic_vectors.shape,
        }
        for name in ("attend", "quality", "cost"):
            expected |= {f"{name}_weight": (h, r, d), f"{name}_bias": (h, d)}
        for name, array in network.arrays().items():
            if array.shape != expected[name] or slots % d:
                raise ValueError(f"{name} has shape {array.shape}, expected {expected[name]}")
            # NaN is not below it, either.
            if not (np.abs(array) <= LARGEST_WEIGHT).all():
                raise ValueError(f"{name} holds numbers not finite or beyond {LARGEST_WEIGHT:g}")
        if h * slots > MOST_SLOTS * d:
            raise ValueError(f"{h} heads of {slots // d} slots are more than {MOST_SLOTS} slots")
        if network.input_scale.min() < LEAST_SCALE:
            raise ValueError(f"input_scale holds numbers below {LEAST_SCALE:g}")
        return network


def query_features(queries: Sequence[Query], encoder: QueryEncoder) -> FloatArray:
    """What the network reads of queries: [n, encoder.dimension + len(FORM_FEATURES)]."""
    vectors = encoder.encode([query.text for query in queries])
    form = np.array([query.form for query in queries], np.float32)
    return np.concatenate([vectors, form], axis=1)


def standardise(features: FloatArray, mean: FloatArray, scale: FloatArray) -> NDArray[np.float64]:
    """Features as the network reads them: no stranger than anything it was trained on."""
    return _clip(np.divide(features - mean, scale, dtype=np.float64), LARGEST_INPUT)


class Parts(NamedTuple):
    """What a prediction is made of, before the models' biases are added.

    Attributes:
        logit: [n, m] of quality.
        log_factor: [n, m] log of cost over the model's mean cost.
    """

    logit: NDArray[np.float64]
    log_factor: NDArray[np.float64]


class Predictor:
    """A network with a set of models folded into it.

    What depends on the models alone is computed once; a prediction is then two matrix products and
    a softmax over the slots.

    Args:
        network: The learned arrays.
        models: m descriptors, each with a learned embedding of `network.embedding_size`.
    """

    def __init__(self, network: Network, models: Sequence[ModelDescriptor]) -> None:
        learned = [_learned(model) for model in models]
        self._network = network
        self._models = tuple(models)
        self._in_tokens = np.array([x.cost_target == "output_tokens" for x in learned])
        embeddings = np.array([x.embedding for x in learned], np.float64)
        biases, prior, vectors = np.split(embeddings, [BIASES, BIASES + network.prior_size], axis=1)
        self._quality_offset, self._cost_offset = biases.T
        self._topics = network.topic_vectors @ prior.T  # [T, m]
        heads, rank = network.attend_weight.shape[:2]
        parts = vectors.reshape(len(models), heads, rank).transpose(1, 0, 2)

        def fold(name: str) -> NDArray[np.float64]:
            weight, bias = getattr(network, f"{name}_weight"), getattr(network, f"{name}_bias")
            return np.asarray(parts @ weight + bias[:, None])  # [h, m, d]

        attend = fold("attend") / np.sqrt(network.slot_size)
        # [h, d, 3m]: what every slot of a head is multiplied with; the heads are averaged.
        readers = np.concatenate([attend, fold("quality") / heads, fold("cost") / heads], axis=1)
        self._readers = np.ascontiguousarray(readers.transpose(0, 2, 1))
        # [h * K * d]: of all slots, for the mean of how easy the query is.
        slots = network.slot_bias.size // network.ease.size
        self._ease = np.repeat(network.ease.astype(np.float64), slots, axis=0).ravel()
        self._ease /= heads * slots
        # What is predicted of a barely known model is held back: the mean of a logistic over a
        # Gaussian, by MacKay's approximation (Neural Computation 4, 1992).
        error = np.array([x.quality_error for x in learned])
        self._certainty = 1 / np.sqrt(1 + np.pi / 8 * error**2)
        self._prices = PriceList([model.price for model in models])
        # A minimum with NaN is NaN: of a model that was learned from costs, no tokens are known.
        most = np.array([model.max_output_tokens or np.inf for model in models])
        self._most_tokens = np.where(self._in_tokens, most, np.nan)

    # An exponential that overflows is infinite, and what it divides is 0, as it should be.
    @np.errstate(over="ignore")
    def predict(
        self, features: FloatArray, input_tokens: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Predict every model's answer to every query.

        Args:
            features: [n, D] from `query_features`.
            input_tokens: [n] estimated input tokens.

        Returns:
            Quality [n, m] in 0..1, cost in USD [n, m], and output tokens [n, m] (NaN where the
            model was learned from costs without token counts).
        """
        logit, log_factor = self.parts(features)
        quality = 1 / (1 + np.exp(-self._certainty * (self._quality_offset + logit)))
        quality = np.maximum(np.minimum(quality, 1 - LEAST_QUALITY), LEAST_QUALITY)
        quality = quality.round(DECIMALS)
        amount = np.exp((self._cost_offset + log_factor).round(DECIMALS))
        tokens = np.minimum(amount, self._most_tokens)
        cost_of_tokens = self._prices.cost_usd(input_tokens, tokens)
        return quality, np.where(self._in_tokens, cost_of_tokens, amount), tokens

    @np.errstate(over="ignore")
    def parts(self, features: FloatArray) -> Parts:
        """What a prediction is made of, before the models' biases are added.

        Args:
            features: [n, D] from `query_features`.

        """
        z, shares = self._read(features)
        slots = z / (1 + np.exp(-z))
        heads, d, readers = self._readers.shape
        read = slots.reshape(len(z), heads, -1, d) @ self._readers  # [n, h, K, 3m]
        read = read.reshape(*read.shape[:3], 3, readers // 3)
        scores, values = read[..., 0, :], read[..., 1:, :]
        attention = np.exp(scores - scores.max(axis=2, keepdims=True))
        attention /= attention.sum(axis=2, keepdims=True)
        own, log_factor = np.einsum("nhkm,nhkcm->cnm", attention, values)
        logit = (slots @ self._ease)[:, None] + own + shares @ self._topics
        return Parts(logit, _clip(log_factor, LARGEST_LOG_FACTOR))

    def topics(self, features: FloatArray) -> NDArray[np.float64]:
        """What the prior's part of an embedding is multiplied with: [n, p]."""
        return np.asarray(self._read(features)[1] @ self._network.topic_vectors)

    def _read(self, features: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The slots before their activation [n, h * K * d], and the shares of the topics [n, T]."""
        network = self._network
        weight, bias = network.readers
        z = standardise(features, network.input_mean, network.input_scale) @ weight + bias
        slots, logit = z[:, : network.slot_bias.size], z[:, network.slot_bias.size :]
        share = np.exp(logit - logit.max(axis=1, keepdims=True))
        return slots, share / share.sum(axis=1, keepdims=True)


def _clip(values: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    # np.clip takes three times as long for the few numbers of one query.
    return np.asarray(np.minimum(np.maximum(values, -limit), limit))


def _learned(model: ModelDescriptor) -> Learned:
    if model.learned is None:
        raise ValueError(f"{model.id} has no learned embedding")
    return model.learned
