"""Train a checkpoint from routing data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from crossroute.network.predictor import LARGEST_LOG_FACTOR, FloatArray, Network, standardise
from crossroute.query import FORM_FEATURES
from crossroute.training.network import CrossAttention

FEWEST_STEPS = 300
"""A small data set gets more epochs, so that it gets as many steps; early stopping ends them."""


NEWTON_STEPS = 20


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
        prior_rank: p, numbers of a model embedding that the prior reads.
        prior_share: Share of the prior in what tells the models apart.
        topic_penalty: Ridge penalty of a model's gain at a topic, in logits.
        topic_freedom: C of the logistic regression that tells topics apart.
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
    prior_rank: int = 16
    prior_share: float = 0.4
    topic_penalty: float = 15.0
    topic_freedom: float = 0.03


@dataclass(frozen=True)
class Fitted:
    """What was learned.

    Attributes:
        network: The arrays that all models share.
        embeddings: [m, 2 + p + h * r] one embedding a model: biases, prior, heads.
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


@dataclass(frozen=True)
class Examples:
    """What a network is fitted to.

    Attributes:
        features: [n, D] from `crossroute.network.predictor.query_features`.
        score: [n, m], NaN where unknown.
        amount: [n, m] what each answer cost, in the model's own unit, NaN where unknown.
        task: [n] number of each row's task, -1 where unknown.
        topic: [n] number of each row's topic.
        weight: [n] of each row in the loss.
        valid: [n] rows held out for early stopping.
    """

    features: FloatArray
    score: NDArray[np.float64]
    amount: NDArray[np.float64]
    task: NDArray[np.intp]
    topic: NDArray[np.intp]
    weight: NDArray[np.float64]
    valid: NDArray[np.bool_]


def fit_network(
    examples: Examples,
    *,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Fit a network to the rows that are not `valid`, stopping early by those that are.

    Args:
        examples: What to fit it to.
        settings: How to build and train.
        seed: Of everything random.
        on_epoch: Called after every epoch.

    Returns:
        The network and the models' embeddings.
    """
    training = ~examples.valid
    score, amount = examples.score, examples.amount
    mean, scale = _standard(examples.features[training])
    mean_amount = np.maximum(np.nanmean(amount[training], axis=0), 1e-12)
    batch = _Batch(
        x=torch.as_tensor(standardise(examples.features, mean, scale), dtype=torch.float32),
        score=torch.as_tensor(score, dtype=torch.float32),
        factor=torch.as_tensor(amount / mean_amount, dtype=torch.float32),
        task=torch.as_tensor(examples.task),
        weight=torch.as_tensor(examples.weight, dtype=torch.float32),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CrossAttention(
            examples.features.shape[1],
            score.shape[1],
            max(int(examples.task.max()) + 1, 1),
            heads=settings.heads,
            slots=settings.slots,
            slot_size=settings.slot_size,
            rank=settings.rank,
            dropout=settings.dropout,
        )
        average = np.nanmean(score[training], axis=0).clip(0.01, 0.99)
        network.quality_offset.data = torch.as_tensor(
            np.log(average / (1 - average)), dtype=torch.float32
        )
        _train(network, batch, examples.valid, settings, seed, on_epoch)

    found = _predictions(network, batch)
    # Each model's predicted total is brought to the realised total of its rows.
    seen = ~np.isnan(amount)
    correction = np.nansum(amount / mean_amount, axis=0) / (found.factor * seen).sum(axis=0)
    cost_offset = np.log(mean_amount * np.maximum(correction, 1e-6))
    prior = _fit_prior(
        batch.x[training].numpy(),
        found.ease[training],
        score[training],
        examples.topic[training],
        settings,
    )
    # The prior's share of what tells models apart is folded into the arrays.
    share = settings.prior_share
    arrays = network.export(mean, scale, **prior.topics)
    exported = replace(
        arrays,
        quality_weight=(1 - share) * arrays.quality_weight,
        quality_bias=(1 - share) * arrays.quality_bias,
        topic_vectors=share * arrays.topic_vectors,
    )
    offset = (1 - share) * network.quality_offset.detach().numpy() + share * prior.offset
    return Fitted(
        network=exported,
        embeddings=np.concatenate(
            [
                np.stack([offset, cost_offset], axis=1),
                prior.vectors,
                *network.embeddings.detach().numpy(),
            ],
            axis=1,
        ),
    )


def _train(
    network: CrossAttention,
    batch: _Batch,
    valid: NDArray[np.bool_],
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train in place; the network is left as it was after its best epoch."""
    order = np.random.default_rng(seed)
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


@dataclass(frozen=True)
class _Prior:
    """Quality by the topic of the query, in logits, beside how easy it is.

    Attributes:
        topics: The arrays `topic_...` of a `Network`.
        vectors: [m, p], which `topic_vectors` [T, p] turns into each model's gain at each topic.
        offset: [m].
    """

    topics: dict[str, FloatArray]
    vectors: FloatArray
    offset: FloatArray


def _fit_prior(
    x: FloatArray,
    ease: FloatArray,
    score: NDArray[np.float64],
    topic: NDArray[np.intp],
    settings: Settings,
) -> _Prior:
    """Tell topics apart, and find how good each model is at each, shrunk to its mean.

    Two logistic regressions: of the topic over the features, and of the score over the topic, for
    each model by itself. How easy a query is for all models is taken from the network, so that the
    prior shrinks differences between models and not between queries.

    Args:
        x: [n, D] standardised features.
        ease: [n] a logit.
        score: [n, m], NaN where unknown.
        topic: [n] a number for each row's topic.
        settings: Of the shrinkage.
    """
    known = ~np.isnan(score)
    names, topic = np.unique(topic, return_inverse=True)
    member = np.eye(len(names))[topic]
    offset = np.zeros(score.shape[1])
    gain = np.zeros((len(names), score.shape[1]))
    for _ in range(NEWTON_STEPS):
        # Offset and gains in turn, one step each.
        for step in ("offset", "gain"):
            quality = 1 / (1 + np.exp(-(offset + ease[:, None] + member @ gain)))
            error = np.where(known, score - quality, 0.0)
            weight = np.where(known, quality * (1 - quality), 0.0)
            if step == "offset":
                offset += np.clip(error.sum(axis=0) / (weight.sum(axis=0) + 1e-6), -1, 1)
            else:
                penalty = settings.topic_penalty
                gain += (member.T @ error - penalty * gain) / (member.T @ weight + penalty)
    left, values, right = np.linalg.svd(gain, full_matrices=False)
    # Always as many numbers, so that the size of an embedding depends on the settings alone.
    kept = min(settings.prior_rank, len(values))
    root = np.sqrt(values[:kept])
    spare = ((0, 0), (0, settings.prior_rank - kept))
    weight, bias = _classifier(x, topic, settings.topic_freedom)
    return _Prior(
        topics={
            "topic_weight": weight.astype(np.float32),
            "topic_bias": bias.astype(np.float32),
            "topic_vectors": np.pad(left[:, :kept] * root, spare).astype(np.float32),
        },
        vectors=np.pad(right[:kept].T * root, spare).astype(np.float32),
        offset=offset.astype(np.float32),
    )


def _classifier(
    x: FloatArray, topic: NDArray[np.intp], freedom: float
) -> tuple[FloatArray, FloatArray]:
    """Weight [D, T] and bias [T] of a logistic regression."""
    if topic.max() == 0:  # One topic: nothing to tell apart.
        return np.zeros((x.shape[1], 1), np.float32), np.zeros(1, np.float32)
    fitted = LogisticRegression(C=freedom, max_iter=1000, tol=1e-3).fit(x, topic)
    if fitted.coef_.shape[0] == 1:  # Of two topics it has the logit of the second over the first.
        return np.hstack([0 * fitted.coef_.T, fitted.coef_.T]), np.array(
            [0.0, fitted.intercept_[0]]
        )
    return fitted.coef_.T, fitted.intercept_


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
    logit, log_factor, task_logit, _ = network(batch.x)
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


class _Predictions(NamedTuple):
    """Cost over the models' mean cost [n, m], and how easy the queries are [n], a logit."""

    factor: FloatArray
    ease: FloatArray


def _predictions(network: CrossAttention, batch: _Batch) -> _Predictions:
    """As the array forward pass has them."""
    factors, ease = [], []
    with torch.no_grad():
        for start in range(0, len(batch.x), 2048):
            output = network(batch.x[start : start + 2048])
            log_factor = output.log_factor.mean(dim=0)
            factors.append(log_factor.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR).exp())
            ease.append(output.ease.mean(dim=0))
    return _Predictions(torch.cat(factors).numpy(), torch.cat(ease).numpy())


def _standard(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and scale of each feature; the encoder's numbers have one scale in common.

    A scale of its own would blow up those of an encoder's directions that hardly vary.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    vector = slice(0, features.shape[1] - len(FORM_FEATURES))
    deviation[vector] = np.sqrt((deviation[vector] ** 2).mean())
    return mean, np.maximum(deviation, 1e-3)
