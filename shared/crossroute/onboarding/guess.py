"""A guess at the embedding of a model without scores, from what its descriptor says."""

from __future__ import annotations

import math

import numpy as np

from crossroute.errors import DataError, UnknownModelError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool
from crossroute.onboarding.known_models import KnownModels, Trained, with_embedding

GUESS_ERROR = 1.0
"""Standard error of the quality of a model without scores, in logits."""
PRICE_WIDTH, SIZE_WIDTH = 0.7, 0.7
"""Models whose price or size is e^0.7 (twice) as high are unlike by one unit."""
FAMILY_WEIGHT = 5.0
"""How much more a model of the same family says than another one."""


def guess(router: Trained, descriptor: ModelDescriptor) -> ModelDescriptor:
    """Guess a model's embedding from what its descriptor says: no score is known.

    `behaves_like` names a known model, with an offset in points of quality; else the known models
    are averaged, those with a like price and size and of the same family the most.

    Raises:
        DataError: If the descriptor says nothing to guess by, or nothing of what the model costs.
        UnknownModelError: If the model that it behaves like is not known.
    """
    known = KnownModels.of_router(router, without=descriptor.id)
    like = descriptor.behaves_like
    if like is not None and like.model not in known.ids:
        if like.model not in ModelPool.shipped():
            raise UnknownModelError(like.model, known.ids)
        # It ships, but this checkpoint was not trained on it: the descriptor's facts have to do.
        like = None
    if like is not None:
        weights = np.array([float(model == like.model) for model in known.ids])
    else:
        weights = np.array([_likeness(descriptor, model) for model in known.models])
        if not weights.any():
            raise DataError(
                f"{descriptor.id}: nothing in its descriptor says which known model it is like; "
                "add behaves_like with a model and a quality_offset, or give scores."
            )
    cost = known.cost_like(descriptor, weights)
    mean = known.mean(weights)
    mean = mean._replace(length=np.array([cost.offset]))
    if like is not None:
        # Points of quality as a logit, at even odds, where a point is worth least.
        offset = 4 * like.quality_offset
        mean = mean._replace(
            level=mean.level + offset, attention_level=mean.attention_level + offset
        )
    else:
        # What the attention reads of several models means nothing in the mean.
        mean = mean._replace(trust=np.zeros(1))
    return with_embedding(
        descriptor,
        router,
        mean,
        source="guess",
        cost_target=cost.target,
        quality_error=GUESS_ERROR,
    )


def _likeness(new: ModelDescriptor, known: ModelDescriptor) -> float:
    """How much a known model says of a new one: its price, size and family."""
    if new.price is None or known.price is None:
        return 0.0
    dear, cheap = new.price.output_usd_per_1m, known.price.output_usd_per_1m
    distance = math.log((dear + 0.01) / (cheap + 0.01)) / PRICE_WIDTH
    if new.parameters_in_billions and known.parameters_in_billions:
        size = math.log(new.parameters_in_billions) - math.log(known.parameters_in_billions)
        distance = math.hypot(distance, size / SIZE_WIDTH)
    is_family = new.family is not None and new.family == known.family
    return math.exp(-(distance**2) / 2) * (FAMILY_WEIGHT if is_family else 1.0)
