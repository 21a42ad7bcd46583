"""An embedding for a model that nobody trained on, from a few scored answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError
from crossroute.models.descriptor import Learned, ModelDescriptor
from crossroute.network.predictor import LEAST_QUALITY, Predictor, query_features
from crossroute.onboarding.known_models import (
    CostOffset,
    CostTarget,
    KnownModels,
    Trained,
    weighted_mean,
    with_embedding,
)
from crossroute.onboarding.scores import ScoredAnswer, Scores, read_scores
from crossroute.query import Query

FloatArray = NDArray[np.float64]

NEWTON_STEPS = 30
LEAST_SPREAD = 0.5
"""Of known models' mean quality, as a deviation in logits: a small pool may be all alike."""
OWN_SHARE = 0.1
"""How far a new model's topics may differ from those of the known models: a share of the variance
between these, chosen on zeroeval's valid rows."""
LEAST_EVIDENCE = -50.0
"""Logarithm of the least weight of a known model, so that any set of them has a mean."""


def onboard(router: Trained, descriptor: ModelDescriptor, scores: Scores) -> ModelDescriptor:
    """Learn a model's embedding from a few scored answers, without training.

    Each known model, shifted to the new one's mean quality, explains the scores with some
    likelihood; the new embedding is the mean of theirs, weighted by it. Around that, the new
    model's own mean and its topics are fitted by logistic regression with a Gaussian prior: few
    scores leave it near the models that are like it. The standard error of its mean quality is
    kept, and holds its predictions back (`crossroute.network.predictor`).

    Args:
        router: Knows the other models.
        descriptor: The new model; whatever it has learned is replaced.
        scores: Its scored answers, as `ScoredAnswer` or mappings with the same fields.

    Returns:
        The descriptor with a learned embedding for the router's checkpoint.

    Raises:
        DataError: If there are no scores, one is broken, a prompt has no text, or neither they nor
            the price say what an answer costs.
        QueryError: If a prompt has not the form of one.
    """
    answers = read_scores(descriptor.id, scores)
    known = KnownModels.of(router, without=descriptor.id)
    queries = [Query.of(answer.prompt) for answer in answers]
    for position, query in enumerate(queries):
        if query.is_blank:
            raise DataError(f"{descriptor.id}: score {position} is of a prompt without text.")
    features = query_features(queries, router.encoder)
    score = np.array([answer.score for answer in answers])
    network = router.checkpoint.network

    spread = max(float(known.offset.std()), LEAST_SPREAD)
    prior = _Gaussian(np.array([known.offset.mean()]), np.array([spread**2]))
    logits = Predictor(network, known.models).parts(features).logit
    fits = [_fit(np.ones((len(score), 1)), logits[:, j], score, prior) for j in range(len(known))]
    evidence = np.array([fit.log_posterior for fit in fits])
    weights = np.exp(np.maximum(evidence - evidence.max(), LEAST_EVIDENCE))
    vector = weighted_mean(known.vectors, weights)

    bare = Predictor(network, [with_embedding(descriptor, router, (0.0, 0.0, *vector.tolist()))])
    parts = bare.parts(features)
    # The prior's numbers come first in the vector; those that no known model uses stay as they are.
    variance = OWN_SHARE * known.vectors[:, : network.prior_size].var(axis=0)
    used = np.flatnonzero(variance > 1e-9)
    own = _Gaussian(
        np.concatenate([prior.mean, np.zeros(len(used))]),
        np.concatenate([prior.variance, variance[used]]),
    )
    design = np.column_stack([np.ones(len(score)), bare.topics(features)[:, used]])
    fit = _fit(design, parts.logit[:, 0], score, own)
    level = float(_logistic(parts.logit[:, 0] + design @ fit.mean).mean())
    vector[used] += fit.mean[1:]
    cost = _cost(descriptor, answers, queries, np.exp(parts.log_factor[:, 0]))
    if cost is None:
        cost = known.cost_like(descriptor, weights)
    return with_embedding(
        descriptor,
        router,
        (float(fit.mean[0]), cost.offset, *vector.tolist()),
        source="scores",
        cost_target=cost.target,
        examples=len(answers),
        mean_quality=round(level, 4),
        quality_error=round(math.sqrt(fit.variance[0]), 4),
    )


def error_in_points(learned: Learned) -> float:
    """The standard error of a model's mean quality, in points of 100.

    The distance on the side of even odds, where it is wider: at a quality of 0.95 and an error of
    0.5 logits 3 points, at 0.5 or an unknown quality 12.
    """
    level = 0.5 if learned.mean_quality is None else learned.mean_quality
    # Never quite sure, whatever stands in the file.
    level = min(max(level, 1 - level), 1 - LEAST_QUALITY)
    return 100 * (level - float(_logistic(math.log(level / (1 - level)) - learned.quality_error)))


class _Gaussian(NamedTuple):
    """Independent Gaussians: [d] means and variances."""

    mean: FloatArray
    variance: FloatArray


class _Posterior(NamedTuple):
    mean: FloatArray
    variance: FloatArray
    log_posterior: float


def _fit(design: FloatArray, logits: FloatArray, score: FloatArray, prior: _Gaussian) -> _Posterior:
    """Logistic regression of scores on a design beside given logits, with a Gaussian prior.

    Args:
        design: [n, d].
        logits: [n] which are added to.
        score: [n] in 0..1.
        prior: Of the d weights.

    Returns:
        The most probable weights, their variances by Laplace's approximation, and the logarithm of
        likelihood times prior, up to a constant.
    """
    weights = prior.mean.copy()
    for _ in range(NEWTON_STEPS):
        quality = _logistic(logits + design @ weights)
        gradient = design.T @ (score - quality) - (weights - prior.mean) / prior.variance
        curvature = quality * (1 - quality)
        hessian = (design * curvature[:, None]).T @ design + np.diag(1 / prior.variance)
        step = np.linalg.solve(hessian, gradient)
        weights += step / max(1.0, float(np.abs(step).max()))
    shifted = logits + design @ weights
    likelihood = float((score * shifted - np.logaddexp(0, shifted)).sum())
    penalty = float((((weights - prior.mean) ** 2) / prior.variance).sum()) / 2
    return _Posterior(weights, np.diag(np.linalg.inv(hessian)), likelihood - penalty)


def _cost(
    descriptor: ModelDescriptor,
    answers: Sequence[ScoredAnswer],
    queries: Sequence[Query],
    factor: FloatArray,
) -> CostOffset | None:
    """What its answers cost beside what they are predicted to by a factor [n]; None if unknown.

    In output tokens, which a new price does not change, where there is a price; else in USD.
    """
    price = descriptor.price
    amount = np.array([np.nan if a.cost_usd is None else a.cost_usd for a in answers])
    target: CostTarget = "usd"
    if price is not None:
        target = "output_tokens"
        tokens = np.array([np.nan if a.output_tokens is None else a.output_tokens for a in answers])
        if price.output_usd_per_1m > 0:
            sent = np.array([query.input_tokens for query in queries])
            rest = np.maximum(amount - price.cost_usd(sent, np.zeros(len(sent))), 0)
            amount = np.where(np.isnan(tokens), rest * 1e6 / price.output_usd_per_1m, tokens)
        else:
            amount = tokens
    known = ~np.isnan(amount)
    if not known.any():
        return None
    offset = math.log(max(float(amount[known].sum() / factor[known].sum()), 1e-12))
    return CostOffset(target, offset)


def _logistic(logit: FloatArray | float) -> FloatArray:
    # Without an exponential, which a large number makes too large.
    return np.asarray((1 + np.tanh(np.asarray(logit) / 2)) / 2)
