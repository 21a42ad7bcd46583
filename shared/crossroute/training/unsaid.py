"""What comparisons do not say, and the shipped router does: kinds of prompts, and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from crossroute.errors import DataError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.network.features import Features
from crossroute.network.predictor import Predictor
from crossroute.onboarding.guess import guess
from crossroute.query import Query
from crossroute.router import CrossRouter
from crossroute.training.preferences import Preferences

FAMILIAR = 0.5
"""From which share of a prompt on that looks familiar its likeliest topic is its task."""
CHUNK = 1_024
"""Prompts that are read at a time."""


def with_unsaid(preferences: Preferences, known: Mapping[str, ModelDescriptor]) -> Preferences:
    """The same, with tasks of the prompts that name none, and with costs that no row says.

    A prompt that looks like those the shipped router was trained on has as its task the topic that
    it is most likely about. A model that has no cost in any row, compared or scored, is taken to
    cost what the shipped router predicts of it, or of one like it, prompt by prompt.

    Args:
        preferences: Comparisons, and scored rows beside them, which stay as they are.
        known: Descriptors by their ids.

    Raises:
        DataError: If nothing says what the answers of a model cost.
    """
    data, shipped = preferences.data, CrossRouter.shipped()
    rows = np.flatnonzero(preferences.compared)
    said = ~np.isnan(data.priced(known).cost_usd).all(axis=0)
    named = ~np.isnan(data.score[rows]).all(axis=0)
    columns = np.flatnonzero(named & ~said)
    # Before anything is read: a model of which nobody knows what it costs is an error.
    models = _described([data.models[j] for j in columns], known, shipped)
    predictor = Predictor(shipped.checkpoint.network, models) if models else None
    task = data.task.astype(object)
    cost, tokens = data.cost_usd.copy(), data.output_tokens.copy()
    for part in np.array_split(rows, len(rows) // CHUNK + 1):
        queries = [Query.of(data.prompts[i]) for i in part]
        features = Features.of(queries, shipped.encoder)
        shares = shipped.checkpoint.network.topics.read(features)
        topic = [f"shipped topic {number}" for number in shares.topic.argmax(axis=1)]
        unnamed = (task[part] == "") & (shares.unknown < FAMILIAR)
        task[part] = np.where(unnamed, topic, task[part])
        if predictor is None:
            continue
        found = predictor.predict(features, np.array([query.input_tokens for query in queries]))
        cells = np.ix_(part, columns)
        compared = ~np.isnan(data.score[cells])
        for table, values in ((cost, found.cost_usd), (tokens, found.output_tokens)):
            table[cells] = np.where(compared & np.isnan(table[cells]), values, table[cells])
    return replace(
        preferences,
        data=replace(data, task=task.astype(np.str_), cost_usd=cost, output_tokens=tokens),
    )


def _described(
    models: Sequence[str], known: Mapping[str, ModelDescriptor], shipped: CrossRouter
) -> list[ModelDescriptor]:
    """The models, with embeddings of the shipped checkpoint that say what they cost."""
    described, unknown = [], []
    for model in models:
        own, ours = known.get(model), shipped.pool.get(model)
        try:
            if ours is None:
                described.append(guess(shipped, own or ModelDescriptor(id=model)))
            else:
                # At the price that the router will have.
                price = own.price if own and own.price else ours.price
                described.append(ours.model_copy(update={"price": price}))
        except DataError:
            unknown.append(model)
    if unknown:
        raise DataError(
            f"Nothing says what answers of {', '.join(unknown)} cost: give comparisons with "
            "cost_usd_a and cost_usd_b, scored rows of them beside the comparisons, or descriptors "
            "with a price (--models)."
        )
    return described
