"""The network of `crossroute.network.attention`, in torch, for training."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossroute.network.attention import Attention
from crossroute.network.features import FloatArray


class Output(NamedTuple):
    """What the network says of n queries, for each of its h heads.

    Attributes:
        quality_logit: [h, n, m].
        log_factor: [h, n, m] log of cost over the model's mean cost.
        task_logit: [h, n, tasks].
    """

    quality_logit: Tensor
    log_factor: Tensor
    task_logit: Tensor


class CrossAttention(nn.Module):
    """An ensemble of single-head cross-attention networks, trained side by side.

    The equations are in `crossroute.network.attention`; a test holds both forward passes equal.

    Args:
        inputs: D, the number of query features.
        models: m, the number of models.
        tasks: Kinds of prompts to tell apart, an exercise for training only.
        heads: h, the members of the ensemble.
        slots: K, the slots a query is split into.
        slot_size: d, the length of a slot.
        rank: r, the numbers of a model embedding that each head reads.
        dropout: Share of inputs and of slot numbers dropped in training.
    """

    def __init__(
        self,
        inputs: int,
        models: int,
        tasks: int,
        *,
        heads: int,
        slots: int,
        slot_size: int,
        rank: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.slot_size = slot_size
        self.dropout = dropout
        self.slot_weight = _uniform(heads, inputs, slots * slot_size)
        self.slot_bias = nn.Parameter(torch.zeros(heads, slots * slot_size))
        self.ease = _uniform(heads, slot_size, 1)
        self.attend_weight = _uniform(heads, rank, slot_size)
        self.attend_bias = nn.Parameter(torch.zeros(heads, slot_size))
        self.quality_weight = _uniform(heads, rank, slot_size)
        self.quality_bias = nn.Parameter(torch.zeros(heads, slot_size))
        self.cost_weight = _uniform(heads, rank, slot_size)
        self.cost_bias = nn.Parameter(torch.zeros(heads, slot_size))
        self.embeddings = nn.Parameter(0.3 * torch.randn(heads, models, rank))
        self.quality_offset = nn.Parameter(torch.zeros(models))
        self.task_weight = _uniform(heads, slots * slot_size, tasks)

    def forward(self, x: Tensor) -> Output:
        """Predict for each head.

        Args:
            x: [n, D] standardised query features.
        """
        heads = self.slot_weight.shape[0]
        x = functional.dropout(x.expand(heads, *x.shape), self.dropout, self.training)
        z = torch.baddbmm(self.slot_bias[:, None], x, self.slot_weight)
        slots = functional.silu(z).reshape(*z.shape[:2], -1, self.slot_size)  # [h, n, K, d]
        slots = functional.dropout(slots, self.dropout, self.training)

        def read(weight: Tensor, bias: Tensor) -> Tensor:
            reader = self.embeddings @ weight + bias[:, None]  # [h, m, d]
            return torch.einsum("hnkd,hmd->hnkm", slots, reader)

        scores = read(self.attend_weight, self.attend_bias) / math.sqrt(self.slot_size)
        attention = torch.softmax(scores, dim=2)
        ease = torch.einsum("hnkd,hde->hne", slots, self.ease) / slots.shape[2]
        own = (attention * read(self.quality_weight, self.quality_bias)).sum(dim=2)
        cost = (attention * read(self.cost_weight, self.cost_bias)).sum(dim=2)
        return Output(
            quality_logit=self.quality_offset + ease + own,
            log_factor=cost,
            task_logit=torch.bmm(slots.flatten(2), self.task_weight),
        )

    def export(
        self, input_mean: FloatArray, input_scale: FloatArray, average: FloatArray
    ) -> Attention:
        """The network as arrays; the models' part of it is `embeddings` and `quality_offset`.

        Args:
            input_mean: [D].
            input_scale: [D].
            average: [1 + h * r], bias and embedding of the average model.
        """

        def array(tensor: Tensor) -> FloatArray:
            return np.asarray(tensor.detach().numpy()).copy()

        return Attention(
            input_mean=input_mean,
            input_scale=input_scale,
            average=average,
            slot_weight=array(self.slot_weight),
            slot_bias=array(self.slot_bias),
            ease=array(self.ease[..., 0]),
            attend_weight=array(self.attend_weight),
            attend_bias=array(self.attend_bias),
            quality_weight=array(self.quality_weight),
            quality_bias=array(self.quality_bias),
            cost_weight=array(self.cost_weight),
            cost_bias=array(self.cost_bias),
        )


def _uniform(heads: int, inputs: int, outputs: int) -> nn.Parameter:
    bound = 1 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound))
