"""Train a checkpoint from routing data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossroute.predictor import LARGEST_LOG_FACTOR, FloatArray, Network, standardise
from crossroute.query import FORM_FEATURES
from crossroute.training.network import CrossAttention

FEWEST_STEPS = 300
"""A small data set gets more epochs, so that it gets as many steps; early stopping ends them."""


@dataclass(frozen=True)
class Settings:
    """How a network is built and trained; the same for every data set.

    Attributes:
        heads: Members of the ensemble.
        slots: Slots that a query is split into.
        slot_size: Numbers in a slot.
        rank: Numbers of a model embedding that each head reads.
        dropout: Share of inputs and slot numbers dropped in training.
        epochs: Passes over the training rows at most; more for few rows (`FEWEST_STEPS`).
        patience: Epochs without a better validation loss before training stops.
        batch_size: Rows in a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        ranking: Weight of the squared error of quality differences between models, which are
            what a decision rests on.
        cost: Weight of the cost loss.
        task: Weight of telling the prompts' tasks apart, where they are known. Who is good at what
            depends on the task far more than on the single prompt.
    """

    heads: int = 4
    slots: int = 8
    slot_size: int = 32
    rank: int = 8
    dropout: float = 0.3
    epochs: int = 12
    patience: int = 3
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ranking: float = 6.0
    cost: float = 0.1
    task: float = 0.3


@dataclass(frozen=True)
class Fitted:
    """What was learned.

    Attributes:
        network: The arrays that all models share.
        embeddings: [m, 2 + h * r] one embedding a model, its two biases first.
    """

    network: Network
    embeddings: FloatArray


@dataclass(frozen=True)
class Epoch:
    """Progress of training: the epoch just done and its losses."""

    number: int
    epochs: int
    train_loss: float
    valid_loss: float


def fit_network(
    features: FloatArray,
    score: NDArray[np.float64],
    amount: NDArray[np.float64],
    task: NDArray[np.intp],
    weight: NDArray[np.float64],
    valid: NDArray[np.bool_],
    *,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Fit a network to the rows that are not `valid`, stopping early by those that are.

    Args:
        features: [n, D] from `crossroute.predictor.query_features`.
        score: [n, m], NaN where unknown.
        amount: [n, m] what each answer cost, in the model's own unit, NaN where unknown.
        task: [n] number of each row's task, -1 where unknown.
        weight: [n] of each row in the loss.
        valid: [n] rows held out for early stopping.
        settings: How to build and train.
        seed: Of everything random.
        on_epoch: Called after every epoch.

    Returns:
        The network and the models' embeddings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(features, score, amount, task, weight, valid, settings, seed, on_epoch)


def _fit(
    features: FloatArray,
    score: NDArray[np.float64],
    amount: NDArray[np.float64],
    task: NDArray[np.intp],
    weight: NDArray[np.float64],
    valid: NDArray[np.bool_],
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> Fitted:
    order = np.random.default_rng(seed)
    mean, scale = _standard(features[~valid])
    mean_amount = np.maximum(np.nanmean(amount[~valid], axis=0), 1e-12)
    batch = _Batch(
        x=torch.as_tensor(standardise(features, mean, scale)),
        score=torch.as_tensor(score, dtype=torch.float32),
        factor=torch.as_tensor(amount / mean_amount, dtype=torch.float32),
        task=torch.as_tensor(task),
        weight=torch.as_tensor(weight, dtype=torch.float32),
    )
    network = CrossAttention(
        features.shape[1],
        score.shape[1],
        max(int(task.max()) + 1, 1),
        heads=settings.heads,
        slots=settings.slots,
        slot_size=settings.slot_size,
        rank=settings.rank,
        dropout=settings.dropout,
    )
    prior = np.nanmean(score[~valid], axis=0).clip(0.01, 0.99)
    network.quality_offset.data = torch.as_tensor(np.log(prior / (1 - prior)), dtype=torch.float32)

    train_rows, valid_rows = np.flatnonzero(~valid), np.flatnonzero(valid)
    steps = math.ceil(len(train_rows) / settings.batch_size)
    epochs = max(settings.epochs, math.ceil(FEWEST_STEPS / steps))
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=epochs * steps, pct_start=0.15
    )
    best_loss, best_state, since_best = math.inf, network.state_dict(), 0
    for number in range(1, epochs + 1):
        network.train()
        total = 0.0
        for rows in np.array_split(order.permutation(train_rows), steps):
            loss = _loss(network, batch.take(rows), settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        network.eval()
        with torch.no_grad():
            valid_loss = float(_loss(network, batch.take(valid_rows), settings))
        on_epoch(Epoch(number, epochs, total / steps, valid_loss))
        if valid_loss < best_loss:
            best_loss, best_state, since_best = valid_loss, copy.deepcopy(network.state_dict()), 0
        else:
            since_best += 1
            if since_best >= settings.patience:
                break
    network.load_state_dict(best_state)
    cost_offset = np.log(mean_amount * _total_correction(network, batch))
    biases = np.stack([network.quality_offset.detach().numpy(), cost_offset], axis=1)
    return Fitted(
        network=network.export(torch.as_tensor(mean), torch.as_tensor(scale)),
        embeddings=np.concatenate([biases, *network.embeddings.detach().numpy()], axis=1),
    )


@dataclass(frozen=True)
class _Batch:
    x: Tensor
    score: Tensor
    factor: Tensor
    task: Tensor
    weight: Tensor

    def take(self, rows: NDArray[np.intp]) -> _Batch:
        index = torch.as_tensor(rows)
        return _Batch(
            self.x[index],
            self.score[index],
            self.factor[index],
            self.task[index],
            self.weight[index],
        )


def _loss(network: CrossAttention, batch: _Batch, settings: Settings) -> Tensor:
    logit, log_factor, task_logit = network(batch.x)
    heads = logit.shape[0]
    known = ~torch.isnan(batch.score)
    weight = known * batch.weight[:, None]
    score = torch.nan_to_num(batch.score).expand(heads, -1, -1)

    def mean(values: Tensor, weight: Tensor) -> Tensor:
        # There may be no weight: no row of a batch with a known cost, say.
        total: Tensor = (values * weight).sum() / (weight.sum() * heads).clamp(min=1e-9)
        return total

    pointwise = functional.binary_cross_entropy_with_logits(logit, score, reduction="none")

    # Squared error of (quality minus the row's mean quality): all pairs of models at once.
    error = (torch.sigmoid(logit) - score) * known
    shared = error.sum(dim=2, keepdim=True) / known.sum(dim=1)[:, None]
    ranking = (error - shared) ** 2

    # Poisson deviance of cost over mean cost: the prediction is the mean, so totals come right.
    counted = ~torch.isnan(batch.factor)
    factor = torch.nan_to_num(batch.factor)
    log_factor = log_factor.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)
    cost = torch.exp(log_factor) - factor * log_factor

    known_task = (batch.task >= 0) * batch.weight
    target = batch.task.clamp(min=0).expand(heads, -1)
    task = functional.cross_entropy(task_logit.transpose(1, 2), target, reduction="none")
    return (
        mean(pointwise, weight)
        + settings.ranking * mean(ranking, weight)
        + settings.cost * mean(cost, counted * batch.weight[:, None])
        + settings.task * mean(task, known_task)
    )


def _total_correction(network: CrossAttention, batch: _Batch) -> NDArray[np.float64]:
    """What brings each model's predicted total cost to the realised total of these rows: [m]."""
    predicted = torch.zeros(batch.factor.shape[1])
    with torch.no_grad():
        for start in range(0, len(batch.x), 2048):
            rows = slice(start, start + 2048)
            log_factor = network(batch.x[rows]).log_factor
            factor = torch.exp(
                log_factor.mean(dim=0).clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)
            )
            predicted += (factor * ~torch.isnan(batch.factor[rows])).sum(dim=0)
    realised = batch.factor.nansum(dim=0)
    return np.asarray(np.maximum((realised / predicted).double().numpy(), 1e-6))


def _standard(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and scale of each feature; the encoder's numbers have one scale in common.

    A scale of its own would blow up those of an encoder's directions that hardly vary.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    vector = slice(0, features.shape[1] - len(FORM_FEATURES))
    deviation[vector] = np.sqrt((deviation[vector] ** 2).mean())
    return mean, np.maximum(deviation, 1e-3)
