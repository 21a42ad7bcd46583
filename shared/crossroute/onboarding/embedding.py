"""An embedding for a model that nobody trained on, from a few scored answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError
from crossroute.models.descriptor import Learned, ModelDescriptor
from crossroute.network.embeddings import Embeddings
from crossroute.network.features import Features
from crossroute.network.predictor import (
    LEAST_QUALITY,
    Parts,
    Predictor,
    logistic,
    logit_of,
)
from crossroute.onboarding.known_models import (
    CostTarget,
    KnownModels,
    Trained,
    with_embedding,
)
from crossroute.onboarding.regression import Fit, Group, regress
from crossroute.onboarding.scores import ScoredAnswer, Scores, read_scores
from crossroute.query import Query

FloatArray = NDArray[np.float64]

LEAST_SPREAD = 0.5
"""Of known models' levels, in logits: a small pool may be all alike."""
QUALITY_NOISES = (0.05, 0.1, 0.2, 0.3, 0.45)
"""How far scores lie off what is explained, in points of quality."""
LENGTH_NOISES = (0.1, 0.3, 0.6, 1.0, 1.5)
"""The same of lengths, in logs."""
LENGTH_SPREAD = 2.0
"""Of models' lengths in the mean, in logs."""
TOPIC_SPREADS = (0.0, 0.3, 1.0)
"""How far a new model's topics may differ, as a share of how those of the known models do."""
OWN_QUALITY_SPREADS, OWN_LENGTH_SPREADS = (0.0, 0.5, 1.0, 2.0), (0.0, 0.3, 1.0, 2.0)
"""How far it may depart in its own ways."""
QUALITY_DOUBT, LENGTH_DOUBT = 20.0, 2.0
"""Against any departure, before any score, as logarithms of odds. Of several models that were
onboarded one by one, the best is chosen for each query: what is believed too easily of one of them
does more harm than what is missed. Lengths are less noisy than scores."""
LEAST_AMOUNT, LEAST_SHARE = 1e-9, 0.003
"""In tokens or USD, and of the mean amount: the logarithm of no answer is none, and that of nearly
none would say more than all others."""
MOST_MISSING = 2.0
"""In logs, by which a total is corrected."""
MOSTLY = 0.5
"""Share of its prompts that are like a data set's, from which a model counts as measured there."""


def onboard(router: Trained, descriptor: ModelDescriptor, scores: Scores) -> ModelDescriptor:
    """Learn a model's embedding from a few scored answers, without training.

    The same is learned as in training: a level, departures by topic in quality and in length, and
    beside these the new model's own departures by the form and the direction of a prompt. Each is
    believed as far as the scores are evidence for it (`crossroute.onboarding.regression`): few of
    them leave the level, with which the model stands in a fixed order. How easy a prompt is, is
    known from the other models; what the attention says of a single prompt is not learned. The
    standard error of the mean quality is kept, and holds the model's predictions back.

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
    known = KnownModels.of_router(router, without=descriptor.id)
    queries = [Query.of(answer.prompt) for answer in answers]
    for position, query in enumerate(queries):
        if query.is_blank:
            raise DataError(f"{descriptor.id}: score {position} is of a prompt without text.")
    features = Features.of(queries, router.encoder)
    target, amount = _amounts(descriptor, answers, queries)
    bare = _bare(router, descriptor, features, target, known)
    score = np.array([answer.score for answer in answers])
    quality = _fit_quality(score, known, bare)
    variance = max(quality.variance, _least_variance(score, _level_spread(known)))
    embedding = bare.embedding._replace(
        level=np.array([quality.intercept]),
        quality_by_topic=quality.weights[0][None],
        own_quality=quality.weights[1][None],
    )
    if amount is None:
        target, length = known.cost_like(descriptor, np.ones(len(known.models)))
        embedding = embedding._replace(length=np.array([length]))
    else:
        embedding = _with_lengths(embedding, amount, known, bare)
    mean = float(logistic(logit_of(bare.parts.ease) + quality.fitted).mean())
    return with_embedding(
        descriptor,
        router,
        embedding,
        source="scores",
        cost_target=target,
        examples=len(answers),
        mean_quality=round(mean, 4),
        quality_error=round(math.sqrt(variance), 4),
    )


def error_in_points(learned: Learned) -> float:
    """The standard error of a model's mean quality, in points of 100.

    The distance on the side of even odds, where it is wider: at a quality of 0.95 and an error of
    0.5 logits 3 points, at 0.5 or an unknown quality 12.
    """
    level = 0.5 if learned.mean_quality is None else learned.mean_quality
    # Never quite sure, whatever stands in the file.
    level = min(max(level, 1 - level), 1 - LEAST_QUALITY)
    held_back = np.array(math.log(level / (1 - level)) - learned.quality_error)
    return 100 * (level - float(logistic(held_back)))


class _Bare(NamedTuple):
    """A model of which nothing is known but the data sets that its prompts are like.

    Attributes:
        embedding: Of that model.
        parts: Of its predictions: of two models, the second of which has answers of one length
            wherever it is asked.
        quality_marks: [n, a] what its departures by topic in quality are multiplied with.
        length_marks: [n, b] the same for length.
    """

    embedding: Embeddings
    parts: Parts
    quality_marks: FloatArray
    length_marks: FloatArray


def _bare(
    router: Trained,
    descriptor: ModelDescriptor,
    features: Features,
    target: CostTarget,
    known: KnownModels,
) -> _Bare:
    network = router.checkpoint.network
    shares = network.topics.read(features)
    like = np.asarray(shares.dataset.mean(axis=0) >= MOSTLY, np.float64)
    zero = network.layout.split(np.zeros((1, network.layout.size)))
    shaped = zero._replace(
        knows=like[None], shape=np.ones(1), elsewhere=np.array([known.of.elsewhere.min()])
    )
    models = [
        with_embedding(descriptor, router, embedding, cost_target=target)
        for embedding in (shaped, shaped._replace(shape=np.zeros(1)))
    ]
    predictor = Predictor(network, models)
    return _Bare(shaped, predictor.parts(features), *predictor.marks(shares))


def _fit_quality(score: FloatArray, known: KnownModels, bare: _Bare) -> Fit:
    own, marks = bare.parts.shares.own, bare.quality_marks
    ease = logistic(logit_of(bare.parts.ease))
    return regress(
        score - ease,
        [
            Group(marks, _root(known.of.quality_by_topic), TOPIC_SPREADS, QUALITY_DOUBT),
            Group(own, _equal(own.shape[1]), OWN_QUALITY_SPREADS, QUALITY_DOUBT),
        ],
        intercept=(float(known.of.level.mean()), _level_spread(known)),
        noises=QUALITY_NOISES,
        # Points of a logit, as in training.
        scale=ease * (1 - ease),
    )


def _level_spread(known: KnownModels) -> float:
    return max(float(known.of.level.std()), LEAST_SPREAD)


def _least_variance(score: FloatArray, spread: float) -> float:
    """Of a level in logits whose prior has a spread: what right and wrong answers leave unknown.

    Answers that are all alike seem to have no noise. Right ones with a chance of q say n q (1 - q)
    of its logit (the Fisher information), q by the rule of succession.
    """
    if not np.isin(score, (0.0, 1.0)).all():
        return 0.0
    chance = (float(score.sum()) + 1) / (len(score) + 2)
    return 1 / (1 / spread**2 + len(score) * chance * (1 - chance))


def _with_lengths(
    embedding: Embeddings, amount: FloatArray, known: KnownModels, bare: _Bare
) -> Embeddings:
    """The embedding with what amounts [n], NaN where unknown, say of its answers' lengths."""
    seen = ~np.isnan(amount)
    own = bare.parts.shares.own[seen]
    least = max(LEAST_SHARE * float(amount[seen].mean()), LEAST_AMOUNT)
    log_amount = np.log(np.maximum(amount[seen], least))
    centre = float(np.median(log_amount))
    fits = [
        regress(
            log_amount - usual,
            [
                Group(
                    bare.length_marks[seen],
                    _root(known.of.length_by_topic),
                    TOPIC_SPREADS,
                    LENGTH_DOUBT,
                ),
                Group(own, _equal(own.shape[1]), OWN_LENGTH_SPREADS, LENGTH_DOUBT),
            ],
            intercept=(centre, LENGTH_SPREAD),
            noises=LENGTH_NOISES,
        )
        for usual in bare.parts.log_amount[seen].T
    ]
    # Whether its answers are long where those of others are.
    best = int(fits[1].evidence > fits[0].evidence)
    fit = fits[best]
    # Exponentials of mean logarithms fall short of means: totals are to come right.
    predicted = np.exp(bare.parts.log_amount[seen, best] + fit.fitted)
    missing = math.log(max(float(amount[seen].sum() / predicted.sum()), LEAST_AMOUNT))
    return embedding._replace(
        length=np.array([fit.intercept + min(max(missing, -MOST_MISSING), MOST_MISSING)]),
        shape=np.array([1.0 - best]),
        length_by_topic=fit.weights[0][None],
        own_length=fit.weights[1][None],
    )


def _root(by_topic: FloatArray) -> FloatArray:
    """[d, k], whose product with its transpose is how k known models' numbers [k, d] vary."""
    return np.asarray(by_topic.T / math.sqrt(len(by_topic)))


def _equal(size: int) -> FloatArray:
    """The root of a covariance with which that many numbers of variance 1 sum up to variance 1."""
    return np.asarray(np.eye(size) / math.sqrt(size))


def _amounts(
    descriptor: ModelDescriptor, answers: Sequence[ScoredAnswer], queries: Sequence[Query]
) -> tuple[CostTarget, FloatArray | None]:
    """What its answers cost [n], NaN where unknown, and in what; None if nothing is known.

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
    return target, None if np.isnan(amount).all() else amount
