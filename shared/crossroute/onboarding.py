"""An embedding for a model that nobody trained on, from a few scored answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.descriptor import Learned, ModelDescriptor
from crossroute.errors import DataError
from crossroute.predictor import BIASES, Predictor, query_features
from crossroute.query import Query, QueryLike
from crossroute.router import CrossRouter

FloatArray = NDArray[np.float64]

NEWTON_STEPS = 30
PRIOR_STRENGTH = 1.0
"""Of the pull of a new model's mean quality toward even odds, in answers."""


def onboard(
    router: CrossRouter,
    descriptor: ModelDescriptor,
    queries: Sequence[QueryLike],
    score: FloatArray,
    cost_usd: FloatArray,
) -> ModelDescriptor:
    """Learn a model's embedding as a mixture of the known models that it behaves like.

    Each known model, shifted to the new one's mean quality, explains the scores with some
    likelihood; the new embedding is the mean of theirs, weighted by it. Its biases then make
    the predicted means of quality and cost those of the answers.

    Args:
        router: Knows the other models.
        descriptor: The new model; whatever it has learned is replaced.
        queries: The n queries that it answered.
        score: [n] score of each answer, 0..1.
        cost_usd: [n] cost of each answer in USD.

    Returns:
        The descriptor with a learned embedding for the router's checkpoint.

    Raises:
        DataError: If there are no answers, or as many scores as queries are not given.
    """
    if not len(queries) == len(score) == len(cost_usd) > 0:
        raise DataError(
            f"{descriptor.id}: {len(queries)} queries, {len(score)} scores and {len(cost_usd)} "
            "costs; give as many of each, at least one."
        )
    features = query_features([Query.of(query) for query in queries], router.encoder)
    known = list(router.pool.values())
    logits = Predictor(router.checkpoint.network, known).parts(features).logit
    fit = np.array([_likelihood(logits[:, j], score) for j in range(len(known))])
    weights = np.exp(fit - fit.max())
    embeddings = np.array([model.learned.embedding for model in known if model.learned])
    vector = weights @ embeddings[:, BIASES:] / weights.sum()

    def learned(biases: Sequence[float]) -> ModelDescriptor:
        update = Learned(
            checkpoint=router.checkpoint.id,
            cost_target="usd",
            examples=len(queries),
            embedding=(*biases, *vector.tolist()),
        )
        return descriptor.model_copy(update={"learned": update})

    own = Predictor(router.checkpoint.network, [learned([0.0] * BIASES)]).parts(features)
    factor = max(float(cost_usd.sum()) / float(np.exp(own.log_factor).sum()), 1e-12)
    return learned(
        [
            _offset(own.logit[:, 0], score),
            float(np.log(factor)),
        ]
    )


def _expected_mean(score: FloatArray) -> float:
    """Mean of scores [n] and of `PRIOR_STRENGTH` answers at even odds: all right is not sure."""
    return float((score.sum() + PRIOR_STRENGTH / 2) / (len(score) + PRIOR_STRENGTH))


def _offset(logits: FloatArray, score: FloatArray) -> float:
    """What is added to logits [n] so that their mean quality is that of the scores [n]."""
    target = _expected_mean(score) * len(score)
    offset = 0.0
    for _ in range(NEWTON_STEPS):
        quality = 1 / (1 + np.exp(-(logits + offset)))
        slope = float((quality * (1 - quality)).sum())
        offset += float(np.clip((target - quality.sum()) / max(slope, 1e-9), -1, 1))
    return offset


def _likelihood(logits: FloatArray, score: FloatArray) -> float:
    """Log likelihood of scores [n] by logits [n] that are shifted to the scores' mean."""
    shifted = logits + _offset(logits, score)
    return float((score * shifted - np.logaddexp(0, shifted)).sum())
