"""Train the attention: what each single query says."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crossroute.network.attention import LARGEST_LOG_FACTOR, Attention
from crossroute.network.features import FloatArray, standard, standardise
from crossroute.training.network import CrossAttention
from crossroute.training.preferences import Pairs

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
class FittedAttention:
    """What was learned.

    Attributes:
        attention: The arrays that all models share.
        level: [m] offset of quality's logit.
        length: [m] offset of log cost, in each model's own unit.
        heads: [m, h * r] what the heads read of each model.
        judge: How comparisons were made; None where there were none.
    """

    attention: Attention
    level: NDArray[np.float64]
    length: NDArray[np.float64]
    heads: NDArray[np.float64]
    judge: FittedJudge | None = None


class FittedJudge(NamedTuple):
    """How comparisons were made (`crossroute.training.preferences`).

    Attributes:
        position_bias: b, in logits.
        tie: t, 1 where ties are as frequent as answers that are right or wrong by themselves make
            them.
    """

    position_bias: float
    tie: float


@dataclass(frozen=True)
class Epoch:
    """Progress of training: the epoch just done and its losses."""

    number: int
    epochs: int
    train_loss: float
    valid_loss: float


@dataclass(frozen=True)
class Examples:
    """What the attention is fitted to.

    Attributes:
        features: [n, D], `Features.of_instance`.
        score: [n, m], NaN where unknown.
        amount: [n, m] what each answer cost, in the model's own unit, NaN where unknown.
        task: [n] number of each row's task, -1 where unknown.
        weight: [n] of each row in the loss.
        valid: [n] rows held out for early stopping.
        pairs: Comparisons, which the points of their rows (as scores) were made of.
        position_bias: What a judge's position bias is first taken to be, in logits.
    """

    features: FloatArray
    score: NDArray[np.float64]
    amount: NDArray[np.float64]
    task: NDArray[np.intp]
    weight: NDArray[np.float64]
    valid: NDArray[np.bool_]
    pairs: Pairs = field(default_factory=Pairs.none)
    position_bias: float = 0.0


def fit_attention(
    examples: Examples,
    *,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> FittedAttention:
    """Fit the attention to the rows that are not `valid`, stopping early by those that are.

    Args:
        examples: What to fit it to.
        settings: How to build and train.
        seed: Of everything random.
        on_epoch: Called after every epoch.
    """
    training = ~examples.valid
    score, amount = examples.score, examples.amount
    mean, scale = standard(examples.features[training])
    mean_amount = np.maximum(np.nanmean(amount[training], axis=0), 1e-12)
    batch = _Batch(
        x=torch.as_tensor(standardise(examples.features, mean, scale), dtype=torch.float32),
        score=torch.as_tensor(score, dtype=torch.float32),
        factor=torch.as_tensor(amount / mean_amount, dtype=torch.float32),
        task=torch.as_tensor(examples.task),
        weight=torch.as_tensor(examples.weight, dtype=torch.float32),
        compared=_Compared.of(examples.pairs, len(score)),
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
        judge = _Judge(examples.position_bias, _tie(examples.pairs, average))
        _train(network, judge, batch, examples.valid, settings, seed, on_epoch)

    factor = _factors(network, batch)
    # Each model's predicted total is brought to the realised total of its rows.
    seen = ~np.isnan(amount)
    correction = np.nansum(amount / mean_amount, axis=0) / (factor * seen).sum(axis=0)
    level = network.quality_offset.detach().numpy()
    heads = np.concatenate(list(network.embeddings.detach().numpy()), axis=1)
    average = np.append(level.mean(), heads.mean(axis=0)).astype(np.float32)
    return FittedAttention(
        attention=network.export(mean, scale, average),
        level=np.asarray(level, np.float64),
        length=np.log(mean_amount * np.maximum(correction, 1e-6)),
        heads=np.asarray(heads, np.float64),
        judge=judge.fitted() if examples.pairs else None,
    )


class _Judge(nn.Module):
    """How likely each outcome of a comparison is, by the quality logits of the two models."""

    def __init__(self, position_bias: float, tie: float) -> None:
        super().__init__()
        self.position_bias = nn.Parameter(torch.tensor(position_bias))
        self.log_tie = nn.Parameter(torch.tensor(math.log(tie)))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits [h, p, 3]: the second wins, a tie, the first wins.

        Args:
            first: [h, p] quality logits of the models whose answers stand first.
            second: [h, p] of the others.
        """
        right = functional.logsigmoid(torch.stack([first, second]))
        wrong = functional.logsigmoid(-torch.stack([first, second]))
        tie = torch.logaddexp(right.sum(dim=0), wrong.sum(dim=0))
        half = self.position_bias / 2
        return torch.stack(
            [wrong[0] + right[1] - half, self.log_tie + tie, right[0] + wrong[1] + half], dim=2
        )

    def fitted(self) -> FittedJudge:
        return FittedJudge(self.position_bias.item(), math.exp(self.log_tie.item()))


def _tie(pairs: Pairs, average: FloatArray) -> float:
    """What makes ties as frequent as they are, were each model as good at every prompt.

    Args:
        pairs: Comparisons.
        average: [m] the models' quality.
    """
    first, second = average[pairs.first], average[pairs.second]
    decided = (first * (1 - second) + (1 - first) * second).sum()
    ties = (pairs.won == 0).sum()
    # A tie and a decision more, so that neither is impossible.
    odds = (ties + 1) / (len(pairs.won) - ties + 1)
    return float(odds * (decided + 1) / (len(first) - decided + 1))


def _train(
    network: CrossAttention,
    judge: _Judge,
    batch: _Batch,
    valid: NDArray[np.bool_],
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train in place; network and judge are left as they were after their best epoch."""
    order = np.random.default_rng(seed)
    train_rows, valid_rows = np.flatnonzero(~valid), np.flatnonzero(valid)
    steps = math.ceil(len(train_rows) / settings.batch_size)
    epochs = max(settings.epochs, math.ceil(FEWEST_STEPS / steps))
    both = nn.ModuleList([network, judge])
    groups: list[dict[str, Any]] = [
        {"params": network.parameters(), "weight_decay": settings.weight_decay},
        {"params": judge.parameters(), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=epochs * steps, pct_start=0.15
    )
    best_loss, best_state, since_best = math.inf, both.state_dict(), 0
    for number in range(1, epochs + 1):
        network.train()
        total = 0.0
        for rows in np.array_split(order.permutation(train_rows), steps):
            loss = _loss(network, judge, batch.take(rows), settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        network.eval()
        with torch.no_grad():
            valid_loss = float(_loss(network, judge, batch.take(valid_rows), settings))
        on_epoch(Epoch(number, epochs, total / steps, valid_loss))
        if valid_loss < best_loss:
            best_loss, best_state, since_best = valid_loss, copy.deepcopy(both.state_dict()), 0
        else:
            since_best += 1
            if since_best >= settings.patience:
                break
    both.load_state_dict(best_state)


@dataclass(frozen=True)
class _Compared:
    """The comparisons of a batch of n rows: p of them, in the order of their rows.

    Attributes:
        start: [n + 1] where those of each row begin.
        row: [p].
        first: [p] the number of the model whose answer stood first.
        second: [p] of the other.
        outcome: [p] 0 where the second won, 1 for a tie, 2 where the first won.
    """

    start: NDArray[np.intp]
    row: Tensor
    first: Tensor
    second: Tensor
    outcome: Tensor

    @classmethod
    def of(cls, pairs: Pairs, rows: int) -> _Compared:
        order = np.argsort(pairs.row, kind="stable")
        row = pairs.row[order]
        values = (row, pairs.first[order], pairs.second[order], pairs.won[order] + 1)
        return cls(np.searchsorted(row, np.arange(rows + 1)), *map(torch.as_tensor, values))

    def take(self, rows: NDArray[np.intp]) -> _Compared:
        count = np.diff(self.start)[rows]
        start = np.append(0, np.cumsum(count))
        place = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], count)
        index = torch.as_tensor(place)
        return _Compared(
            start,
            torch.as_tensor(np.repeat(np.arange(len(rows)), count)),
            self.first[index],
            self.second[index],
            self.outcome[index],
        )


@dataclass(frozen=True)
class _Batch:
    x: Tensor
    score: Tensor
    factor: Tensor
    task: Tensor
    weight: Tensor
    compared: _Compared

    def take(self, rows: NDArray[np.intp]) -> _Batch:
        index = torch.as_tensor(rows)
        return _Batch(
            self.x[index],
            self.score[index],
            self.factor[index],
            self.task[index],
            self.weight[index],
            self.compared.take(rows),
        )


def _loss(network: CrossAttention, judge: _Judge, batch: _Batch, settings: Settings) -> Tensor:
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
    compared = batch.compared
    pair_logit = judge(
        logit[:, compared.row, compared.first], logit[:, compared.row, compared.second]
    )
    outcome = compared.outcome.expand(heads, -1)
    pairwise = functional.cross_entropy(pair_logit.transpose(1, 2), outcome, reduction="none")
    # A row counts the same whether its answers were scored or compared, however often.
    count = torch.as_tensor(np.diff(compared.start))
    share = (weight.sum(dim=1) / count.clamp(min=1))[compared.row]
    scored = weight * (count == 0)[:, None]
    fit = (pointwise * scored).sum() + (pairwise * share).sum()

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
    loss: Tensor = (
        fit / (weight.sum() * heads)
        + settings.ranking * mean(ranking, weight)
        + settings.cost * mean(cost, counted * batch.weight[:, None])
        + settings.task * mean(task, known_task)
    )
    return loss


def _factors(network: CrossAttention, batch: _Batch) -> FloatArray:
    """Cost over the models' mean cost, as the array forward pass has it: [n, m]."""
    factors = []
    with torch.no_grad():
        for start in range(0, len(batch.x), 2048):
            log_factor = network(batch.x[start : start + 2048]).log_factor.mean(dim=0)
            factors.append(log_factor.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR).exp())
    return np.asarray(torch.cat(factors).numpy())
