"""An embedding for a model that nobody trained on, from a few scored answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.descriptor import Learned, ModelDescriptor
from crossroute.errors import DataError
from crossroute.pool import ModelPool
from crossroute.predictor import BIASES
from crossroute.query import QueryLike
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
    likelihood; the new embedding is the mean of theirs, weighted by it. Its two biases then make
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
    known = np.array([m.learned.embedding for m in router.pool.values() if m.learned])
    logits = _bare(router, known).predict(queries).quality
    logits = np.log(logits / (1 - logits))
    fit = np.array([_likelihood(logits[:, j], score) for j in range(len(known))])
    weights = np.exp(fit - fit.max())
    vector = weights @ known[:, BIASES:] / weights.sum()

    # Two of it, because a router has at least two models.
    alone = np.tile(np.concatenate([np.zeros(BIASES), vector]), (2, 1))
    found = _bare(router, alone).predict(queries)
    quality, factor = found.quality[:, 0], found.cost_usd[:, 0]
    biases = (
        _offset(np.log(quality / (1 - quality)), score),
        float(np.log(max(cost_usd.sum() / factor.sum(), 1e-12))),
    )
    learned = Learned(
        checkpoint=router.checkpoint.id,
        cost_target="usd",
        examples=len(queries),
        embedding=(*biases, *vector.tolist()),
    )
    return descriptor.model_copy(update={"learned": learned})


def _bare(router: CrossRouter, embeddings: FloatArray) -> CrossRouter:
    """A router over models of these embeddings without biases: factors instead of USD."""
    models = [
        ModelDescriptor(
            id=f"{number:06}",
            learned=Learned(
                checkpoint=router.checkpoint.id,
                cost_target="usd",
                examples=0,
                embedding=(*([0.0] * BIASES), *embedding[BIASES:].tolist()),
            ),
        )
        for number, embedding in enumerate(embeddings)
    ]
    return router.over(ModelPool(models))


def _offset(logits: FloatArray, score: FloatArray) -> float:
    """What is added to logits [n] so that the mean quality is that of the scores [n]."""
    total = score.sum() + PRIOR_STRENGTH / 2
    offset = 0.0
    for _ in range(NEWTON_STEPS):
        quality = 1 / (1 + np.exp(-(logits + offset)))
        # Half a right and half a wrong answer are added: all right is not surely right.
        gap = total - quality.sum() - PRIOR_STRENGTH / (1 + np.exp(-offset))
        slope = (quality * (1 - quality)).sum() + PRIOR_STRENGTH / 4
        offset += float(np.clip(gap / slope, -2, 2))
    return offset


def _likelihood(logits: FloatArray, score: FloatArray) -> float:
    """Log likelihood of scores [n] by logits [n] that are shifted to the scores' mean."""
    shifted = logits + _offset(logits, score)
    return float((score * shifted - np.logaddexp(0, shifted)).sum())
