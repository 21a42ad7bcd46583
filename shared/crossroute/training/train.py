"""From routing data to a router: features, cost targets, network, descriptors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from crossroute.errors import DataError
from crossroute.models.descriptor import Learned, ModelDescriptor, rounded
from crossroute.models.pool import ModelPool
from crossroute.network.checkpoint import Checkpoint
from crossroute.network.encoders import QueryEncoder, StaticEncoder, sign
from crossroute.network.predictor import FloatArray, query_features
from crossroute.query import FORM_FEATURES, Query
from crossroute.router import CrossRouter
from crossroute.training.data import CHARS_A_TOKEN, RoutingData, answered
from crossroute.training.fit import Epoch, Examples, Settings, fit_network
from crossroute.training.levels import corrected

FEWEST_ROWS = 50
VALID_SHARE = 10
MOST_TOPICS, ROWS_A_TOPIC = 16, 50
"""Of a data set that names no tasks."""


def train(
    data: RoutingData,
    *,
    known: Mapping[str, ModelDescriptor] | None = None,
    encoder: QueryEncoder | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> CrossRouter:
    """Train a router on the `train` rows, stopping early by the `valid` rows.

    The same data, settings and seed give the same checkpoint on the same machine.

    Args:
        data: Scored answers; rows of the split `test`, and rows that ask the same as one of them,
            are left out.
        known: Descriptors of models whose facts (price, provider, limits) are known. A model with
            a price table and token counts gets its output tokens predicted, any other its USD.
        encoder: The shipped one if None.
        settings: How to build and train the network.
        seed: Of everything random.
        on_epoch: Called after every epoch.

    Raises:
        DataError: If there are fewer than two models or too few rows, or nothing says what any
            answer costs.
    """
    settings, encoder, known = settings or Settings(), encoder or StaticEncoder(), known or {}
    data = data.without_test()
    if len(data) < FEWEST_ROWS:
        raise DataError(
            f"{len(data)} rows of the splits train and valid are too few to train on; "
            f"give {FEWEST_ROWS} at least."
        )
    # Ids that cannot stand side by side in a folder are refused now, not after the training.
    ModelPool(ModelDescriptor(id=model) for model in data.models)
    if len(data.models) < 2:
        raise DataError(
            f"The rows have answers of {', '.join(data.models)} only; routing needs two models."
        )
    valid = _valid_rows(data)
    seen = answered(data.score[~valid], axis=0)
    if not seen.all():
        names = [model for model, found in zip(data.models, seen, strict=True) if not found]
        raise DataError(f"No training row has an answer of {', '.join(names)}.")

    features = query_features([Query.of(prompt) for prompt in data.prompts], encoder)
    targets = [
        _cost_target(data, j, known.get(model), ~valid) for j, model in enumerate(data.models)
    ]
    examples = Examples(
        features=features,
        score=data.score,
        amount=np.stack([target.amount for target in targets], axis=1),
        task=_tasks(data),
        topic=_topics(data, features[:, : -len(FORM_FEATURES)], seed),
        weight=_row_weights(data),
        valid=valid,
    )
    fitted = fit_network(examples, settings=settings, seed=seed, on_epoch=on_epoch)
    checkpoint = Checkpoint(
        fitted.network,
        sign(encoder),
        {
            "rows": {name: len(part) for name, part in data.by_dataset()},
            "seed": seed,
            "settings": asdict(settings),
        },
    )
    pool = ModelPool(
        (known.get(model) or ModelDescriptor(id=model)).model_copy(
            update={
                "learned": Learned(
                    checkpoint=checkpoint.id,
                    cost_target=target.unit,
                    examples=int((~np.isnan(data.score[:, j])).sum()),
                    embedding=rounded(fitted.embeddings[j].tolist()),
                )
            }
        )
        for j, (model, target) in enumerate(zip(data.models, targets, strict=True))
    )
    pool = corrected(pool, fitted.network, data, features, examples.amount)
    return CrossRouter(checkpoint, pool, encoder=encoder)


@dataclass(frozen=True)
class _CostTarget:
    """What the network learns of a model's cost: [n] amounts, NaN where unknown."""

    unit: Literal["output_tokens", "usd"]
    amount: NDArray[np.float64]


def _cost_target(
    data: RoutingData, j: int, known: ModelDescriptor | None, training: NDArray[np.bool_]
) -> _CostTarget:
    """Output tokens where they are known and have a price, else USD.

    Where a row has input tokens and a cost but no output tokens, the price gives them. Characters
    say how long answers are only of a model of which nothing else does: they leave hidden reasoning
    out. What an answer of a model costs of which nothing is known is what one costs in the median.
    """
    cost, tokens, price = data.cost_usd[:, j], data.output_tokens[:, j], known and known.price
    learned = training & ~(np.isnan(cost) & np.isnan(tokens))
    if price:
        if price.output_usd_per_1m > 0:
            rest = cost - price.cost_usd(data.input_tokens[:, j], np.zeros(len(data)))
            tokens = np.where(
                np.isnan(tokens), np.maximum(rest * 1e6 / price.output_usd_per_1m, 0), tokens
            )
        if not learned.any():
            tokens = data.output_chars[:, j] / CHARS_A_TOKEN
            learned = training & ~np.isnan(tokens)
        counted = ~np.isnan(tokens[learned])
        if counted.any() and counted.mean() > 0.5 and tokens[learned][counted].sum() > 0:
            return _CostTarget("output_tokens", tokens)
    if np.isnan(cost[training]).all():
        others = data.cost_usd[training]
        if np.isnan(others).all():
            raise DataError(
                "Nothing says what an answer costs: give rows with cost_usd, or descriptors with a "
                "price (--models) beside output_tokens or output_chars."
            )
        cost = np.where(np.isnan(data.score[:, j]), np.nan, np.nanmedian(others))
    return _CostTarget("usd", cost)


def _valid_rows(data: RoutingData) -> NDArray[np.bool_]:
    valid = data.split == "valid"
    if not valid.any():
        # No validation rows were given: every tenth training row serves.
        valid = np.arange(len(data)) % VALID_SHARE == 0
    if valid.all():
        raise DataError("All rows have the split valid; give rows of the split train.")
    return np.asarray(valid)


def _tasks(data: RoutingData) -> NDArray[np.intp]:
    """A number for each data set's task, -1 where a row has none."""
    names = np.char.add(np.char.add(data.dataset, "/"), data.task)
    _, numbers = np.unique(names, return_inverse=True)
    return np.where(data.task == "", -1, numbers)


def _topics(data: RoutingData, vectors: FloatArray, seed: int) -> NDArray[np.intp]:
    """The rows' tasks; rows that name none are divided into clusters of like queries."""
    topics = _tasks(data)
    for name, _ in data.by_dataset():
        rows = np.flatnonzero((data.dataset == name) & (topics < 0))
        if len(rows):
            clusters = KMeans(
                max(min(MOST_TOPICS, len(rows) // ROWS_A_TOPIC), 1), random_state=seed
            )
            topics[rows] = topics.max() + 1 + clusters.fit_predict(vectors[rows])
    return topics


def _row_weights(data: RoutingData) -> NDArray[np.float64]:
    """A large data set counts more than a small one, but by the root of its size only."""
    names, index, counts = np.unique(data.dataset, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts / len(data))
    row = np.asarray(weights[index], np.float64)
    return row / row.mean() if len(names) > 1 else np.ones(len(data))
