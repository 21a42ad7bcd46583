"""From routing data to a router: features, cost targets, network, descriptors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from crossroute.errors import DataError
from crossroute.models.descriptor import Learned, ModelDescriptor, rounded
from crossroute.models.pool import ModelPool
from crossroute.network.checkpoint import Checkpoint
from crossroute.network.encoders import QueryEncoder, StaticEncoder, sign
from crossroute.network.features import Features, FloatArray
from crossroute.network.predictor import Predictor
from crossroute.query import Query
from crossroute.router import CrossRouter
from crossroute.training.data import CHARS_A_TOKEN, RoutingData, answered
from crossroute.training.fit import Epoch, Examples, FittedAttention, Settings, fit_attention
from crossroute.training.preferences import Preferences
from crossroute.training.topics import CHUNK, Belief, Classifier, Rows, assemble, fit_classifier
from crossroute.training.trust import HeldOut, most_cautious
from crossroute.training.unsaid import with_unsaid

FEWEST_ROWS = 50
VALID_SHARE = 10
MOST_TOPICS, ROWS_A_TOPIC = 16, 50
"""Of a data set that names no tasks."""
MOST_TASKS = 150
"""Of a data set; rows of others, and of tasks of one row, are divided like those that name none."""

TOPIC_ROWS = (math.inf, 300.0, 100.0, 40.0, 15.0)
"""By which departures by topic may be shrunk, from the most cautious one on."""
TRUST = (0.0, 0.2, 0.4, 0.6, 0.8)
"""In the attention, from the most cautious one on."""


def train(
    data: RoutingData | None = None,
    *,
    preferences: Preferences | None = None,
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
        preferences: Comparisons of answers, alone or beside the scored ones; the same are left out.
        known: Descriptors of models whose facts (price, provider, limits) are known. A model with
            a price table and token counts gets its output tokens predicted, any other its USD.
        encoder: The shipped one if None.
        settings: How to build and train the network.
        seed: Of everything random.
        on_epoch: Called after every epoch.

    Raises:
        DataError: If there are fewer than two models or too few rows, or nothing says what any
            answer costs, or those of a model that is in the comparisons alone.
    """
    settings, encoder, known = settings or Settings(), encoder or StaticEncoder(), known or {}
    learned = _learned(data, preferences)
    data = learned.data
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
    position_bias = 0.0
    if learned.pairs:
        learned = with_unsaid(learned, known)
        position_bias = learned.position_bias()
        learned = learned.pointed(position_bias)
        data = learned.data

    rows = _rows(data, known, encoder, valid, seed)
    examples = Examples(
        features=rows.features.of_instance,
        score=data.score,
        amount=rows.amount,
        task=_tasks(data),
        weight=_row_weights(data),
        valid=valid,
        pairs=learned.pairs,
        position_bias=position_bias,
    )
    fitted = fit_attention(examples, settings=settings, seed=seed, on_epoch=on_epoch)
    apart = _apart(data, encoder)
    classifier = _classifier(rows, apart, ~valid, seed)
    belief = _belief(learned, known, rows, valid, classifier, fitted)
    # What was chosen on the held-out rows is learned from all.
    classifier = _classifier(rows, apart, np.ones(len(data), np.bool_), seed)
    network, embeddings = assemble(rows, classifier, fitted, belief)
    names = [name for name, _ in data.by_dataset()]
    checkpoint = Checkpoint(
        network,
        sign(encoder),
        {
            "rows": {name: len(part) for name, part in data.by_dataset()},
            "seed": seed,
            "settings": asdict(settings),
            "belief": {
                name: {"topic_rows": k if math.isfinite(k) else None, "trust": trust}
                for name, k, trust in zip(names, *np.stack(belief).tolist(), strict=True)
            },
            **_judged(learned, fitted),
        },
    )
    pool = _described(data, known, rows, embeddings, checkpoint.id)
    return CrossRouter(checkpoint, pool, encoder=encoder)


def _learned(data: RoutingData | None, preferences: Preferences | None) -> Preferences:
    """What may be learned from of scores, comparisons or both."""
    if preferences is None:
        if data is None:
            raise DataError("There is nothing to train on; give scored answers, or preferences.")
        preferences = Preferences(data)
    elif data is not None:
        preferences = preferences.beside(data)
    return preferences.select(preferences.data.learnable())


def _judged(learned: Preferences, fitted: FittedAttention) -> dict[str, object]:
    """What a checkpoint says of the comparisons that it was trained on."""
    if fitted.judge is None:
        return {}
    pairs = learned.pairs
    told = {"pairs": len(pairs.row), "ties": pairs.ties, **fitted.judge._asdict()}
    return {"preferences": told}


def _described(
    data: RoutingData,
    known: Mapping[str, ModelDescriptor],
    rows: Rows,
    embeddings: NDArray[np.float64],
    checkpoint: str,
) -> ModelPool:
    """The models with their embeddings [m, size]."""
    return ModelPool(
        (known.get(model) or ModelDescriptor(id=model)).model_copy(
            update={
                # Measured as it is: at an effort only where its id says so.
                "efforts": (),
                "learned": Learned(
                    checkpoint=checkpoint,
                    cost_target="output_tokens" if rows.in_tokens[j] else "usd",
                    examples=int((~np.isnan(data.score[:, j])).sum()),
                    embedding=rounded(embeddings[j].tolist()),
                ),
            }
        )
        for j, model in enumerate(data.models)
    )


def _rows(
    data: RoutingData,
    known: Mapping[str, ModelDescriptor],
    encoder: QueryEncoder,
    valid: NDArray[np.bool_],
    seed: int,
) -> Rows:
    """What the rows hold, as the network learns it."""
    queries = [Query.of(prompt) for prompt in data.prompts]
    features = Features.of(queries, encoder)
    targets = [
        _cost_target(data, j, known.get(model), ~valid) for j, model in enumerate(data.models)
    ]
    dataset = np.unique(data.dataset, return_inverse=True)[1]
    topic = _topics(data, features.text, seed)
    dataset_of = np.zeros(topic.max() + 1, np.intp)
    dataset_of[topic] = dataset
    return Rows(
        features=features,
        score=data.score,
        amount=np.stack([target.amount for target in targets], axis=1),
        input_tokens=data.input_tokens,
        estimated=np.array([query.input_tokens for query in queries]),
        topic=topic,
        dataset_of=dataset_of,
        in_tokens=np.array([target.unit == "output_tokens" for target in targets]),
        output_chars=data.output_chars,
    )


class _Apart(NamedTuple):
    """Rows whose prompt holds a system prompt, read as an application sends them: as messages.

    Attributes:
        rows: [k] their places.
        features: Of that reading.
    """

    rows: NDArray[np.intp]
    features: Features


def _apart(data: RoutingData, encoder: QueryEncoder) -> _Apart:
    prompts = data.conversations()
    rows = np.array([i for i, prompt in enumerate(prompts) if prompt is not None], np.intp)
    queries = [Query.of(prompt) for prompt in prompts if prompt is not None]
    return _Apart(rows, Features.of(queries, encoder))


def _classifier(rows: Rows, apart: _Apart, among: NDArray[np.bool_], seed: int) -> Classifier:
    """What tells topics apart, fitted to both readings of some of the rows [n]."""
    second = among[apart.rows]
    features = [rows.features.take(among), apart.features.take(second)]
    topic = np.concatenate([rows.topic[among], rows.topic[apart.rows[second]]])
    return fit_classifier(
        Features.concatenated(features if second.any() else features[:1]),
        topic,
        len(rows.dataset_of),
        seed,
    )


def _belief(
    learned: Preferences,
    known: Mapping[str, ModelDescriptor],
    rows: Rows,
    valid: NDArray[np.bool_],
    classifier: Classifier,
    fitted: FittedAttention,
) -> Belief:
    """How far departures by topic, and the attention, are believed in each data set.

    Args:
        learned: The rows.
        known: Descriptors of models by their ids.
        rows: What the network learns of the rows.
        valid: [n] the rows to choose by; the others are fitted to.
        classifier: What tells topics apart, fitted to the others.
        fitted: The attention, fitted to the others.
    """
    data = learned.data
    cost_usd = data.priced(known).cost_usd
    if learned.pairs:
        # Answers that were compared cost what the model's scored ones do, if nothing says more.
        gap = learned.compared[:, None] & np.isnan(cost_usd) & ~np.isnan(data.score)
        count = (~np.isnan(cost_usd)).sum(axis=0)
        cost_usd = np.where(gap, np.nansum(cost_usd, axis=0) / np.maximum(count, 1), cost_usd)
    dataset = rows.dataset_of[rows.topic]
    past, here = rows.take(~valid), rows.take(valid)
    held_out = [
        HeldOut.of(
            *(table[valid & (dataset == number)] for table in (data.score, cost_usd)),
            *(table[~valid & (dataset == number)] for table in (data.score, cost_usd)),
        )
        for number in range(int(dataset.max()) + 1)
    ]

    def choose(candidates: Sequence[Belief]) -> list[int]:
        """The place of the candidate to take, for each data set."""
        tried = []
        for belief in candidates:
            network, embeddings = assemble(past, classifier, fitted, belief)
            pool = _described(data, known, rows, embeddings, checkpoint="held out")
            predictor = Predictor(network, list(pool.values()))
            parts = [
                predictor.predict(here.features.take(part), here.estimated[part])
                for part in np.array_split(np.arange(len(here.topic)), len(here.topic) // CHUNK + 1)
            ]
            tried.append(
                (
                    np.concatenate([part.quality for part in parts]),
                    np.concatenate([part.cost_usd for part in parts]),
                )
            )
        of_row = dataset[valid]
        return [
            most_cautious(part, [(q[of_row == number], c[of_row == number]) for q, c in tried])
            for number, part in enumerate(held_out)
        ]

    none = np.zeros(len(held_out))
    shrink = np.array(TOPIC_ROWS)[
        choose([Belief(np.full(len(held_out), k), none) for k in TOPIC_ROWS])
    ]
    trust = np.array(TRUST)[choose([Belief(shrink, none + share) for share in TRUST])]
    return Belief(shrink, trust)


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
    sets = np.unique(data.dataset, return_inverse=True)[1]
    names, named = np.unique(data.task, return_inverse=True)
    # Of pairs: joined names could be alike.
    tasks = np.unique(sets * len(names) + named, return_inverse=True)[1]
    tasks[data.task == ""] = -1
    for name in np.unique(data.dataset):
        here = data.dataset == name
        found, counts = np.unique(tasks[here & (tasks >= 0)], return_counts=True)
        # A field that is another one in every row names no tasks.
        found, counts = found[counts > 1], counts[counts > 1]
        kept = found[np.argsort(-counts, kind="stable")[:MOST_TASKS]]
        tasks[here & ~np.isin(tasks, kept)] = -1
    return np.asarray(tasks, np.intp)


def _topics(data: RoutingData, vectors: FloatArray, seed: int) -> NDArray[np.intp]:
    """The rows' tasks; rows that name none are divided into clusters of like queries."""
    topics = _tasks(data)
    for name in np.unique(data.dataset):
        rows = np.flatnonzero((data.dataset == name) & (topics < 0))
        if len(rows):
            different = len({vector.tobytes() for vector in vectors[rows]})
            count = max(min(MOST_TOPICS, len(rows) // ROWS_A_TOPIC, different), 1)
            clusters = KMeans(count, random_state=seed)
            topics[rows] = topics.max() + 1 + clusters.fit_predict(vectors[rows])
    return np.unique(topics, return_inverse=True)[1]


def _row_weights(data: RoutingData) -> NDArray[np.float64]:
    """A large data set counts more than a small one, but by the root of its size only."""
    names, index, counts = np.unique(data.dataset, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts / len(data))
    row = np.asarray(weights[index], np.float64)
    return row / row.mean() if len(names) > 1 else np.ones(len(data))
