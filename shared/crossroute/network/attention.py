"""Single-head cross-attention between models and a query, as plain arrays.

A query becomes K slot vectors; every model's embedding attends over them (one head), so each model
has its own summary of the query, and reads its quality and its cost off that summary:

    t_k  = silu(W_k x + b_k)                          slots of the query, d numbers each
    a_mk = softmax_k((A e_m + a) . t_k / sqrt(d))     attention of model m over the slots
    c_m  = sum_k a_mk t_k                             the query as model m sees it
    z           = w . mean_k t_k                      how easy the query is, for all models
    logit s_m   = bias_m + z + (V e_m + v) . c_m
    log cost_m  = cost_bias_m + (U e_m + u) . c_m

x is the encoder's vector of the text beside its form, standardised and cut off; e_m is a part of
the learned embedding of the model. The network is an ensemble of a few such single-head members,
here called heads: each reads its own part of the embedding, and their logits are averaged.
Reconstructed from arXiv 2509.09782.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.network.features import FloatArray, clip, standardise

LARGEST_LOG_FACTOR = 4.0
"""A cost is predicted at most e^4 (55) times off the model's mean: no runaway extrapolation."""


@dataclass(frozen=True)
class Attention:
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
        average: [1 + h * r], bias and embedding of the model that the trained ones are in the mean.
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
    average: FloatArray

    @property
    def embedding_size(self) -> int:
        """The numbers of a model's embedding that the heads read."""
        heads, rank = self.attend_weight.shape[:2]
        return int(heads * rank)

    @property
    def slot_size(self) -> int:
        """d, the length of a slot."""
        return int(self.ease.shape[1])

    @cached_property
    def slots(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What makes the slots of all heads, and how easy the query is of them.

        Returns:
            Weight [D, h * K * d], bias [h * K * d], and ease [h * K * d].
        """
        heads, inputs, size = self.slot_weight.shape
        weight = self.slot_weight.transpose(1, 0, 2).reshape(inputs, -1).astype(np.float64)
        slots = size // self.slot_size
        ease = np.repeat(self.ease.astype(np.float64), slots, axis=0).ravel() / (heads * slots)
        return weight, self.slot_bias.ravel().astype(np.float64), ease

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each array must have, by those of `slot_weight` and `attend_weight`.

        Raises:
            ValueError: If these two have another number of dimensions.
        """
        dimensions = self.slot_weight.ndim, self.attend_weight.ndim
        if dimensions != (3, 3):
            raise ValueError(f"slot and attend arrays have {dimensions} dimensions")
        h, inputs, slots = self.slot_weight.shape
        r, d = self.attend_weight.shape[1:]
        expected: dict[str, tuple[int, ...]] = {
            "input_mean": (inputs,),
            "input_scale": (inputs,),
            "slot_weight": (h, inputs, slots),
            "slot_bias": (h, slots),
            "ease": (h, d),
            "average": (1 + h * r,),
        }
        for name in ("attend", "quality", "cost"):
            expected |= {f"{name}_weight": (h, r, d), f"{name}_bias": (h, d)}
        return expected


class Seen(NamedTuple):
    """What models see in queries.

    Attributes:
        logit: [n, m] of quality, but for the models' biases.
        log_factor: [n, m] log of cost, but for the models' biases.
    """

    logit: NDArray[np.float64]
    log_factor: NDArray[np.float64]


class Readers:
    """Models folded into the attention: what depends on them alone is computed once.

    Args:
        attention: The learned arrays.
        embeddings: [m, h * r].
    """

    def __init__(self, attention: Attention, embeddings: NDArray[np.float64]) -> None:
        self._attention = attention
        heads, rank = attention.attend_weight.shape[:2]
        parts = embeddings.reshape(len(embeddings), heads, rank).transpose(1, 0, 2)

        def fold(name: str) -> NDArray[np.float64]:
            weight = getattr(attention, f"{name}_weight")
            return np.asarray(parts @ weight + getattr(attention, f"{name}_bias")[:, None])

        attend = fold("attend") / np.sqrt(attention.slot_size)
        # [h, d, 3m]: what every slot of a head is multiplied with; the heads are averaged.
        readers = np.concatenate([attend, fold("quality") / heads, fold("cost") / heads], axis=1)
        self._readers = np.ascontiguousarray(readers.transpose(0, 2, 1))

    # An exponential that overflows is infinite, and what it divides is 0, as it should be.
    @np.errstate(over="ignore")
    def read(self, features: FloatArray) -> Seen:
        """What the models see in queries.

        Args:
            features: [n, D], `Features.of_instance`.
        """
        attention = self._attention
        weight, bias, ease = attention.slots
        x = standardise(features, attention.input_mean, attention.input_scale)
        z = x @ weight + bias
        slots = z / (1 + np.exp(-z))
        heads, d, readers = self._readers.shape
        read = slots.reshape(len(z), heads, -1, d) @ self._readers  # [n, h, K, 3m]
        read = read.reshape(*read.shape[:3], 3, readers // 3)
        scores, values = read[..., 0, :], read[..., 1:, :]
        share = np.exp(scores - scores.max(axis=2, keepdims=True))
        share /= share.sum(axis=2, keepdims=True)
        own, log_factor = np.einsum("nhkm,nhkcm->cnm", share, values)
        return Seen((slots @ ease)[:, None] + own, clip(log_factor, LARGEST_LOG_FACTOR))
