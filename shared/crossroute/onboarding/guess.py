"""A guess at the embedding of a model without scores, from what its descriptor says.

An arm of a model, at one of its efforts, is guessed from the model at another effort, if that was
measured: efforts change quality and length alike in different models, as far as could be measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossroute.errors import DataError, UnknownModelError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.efforts import Arm, arm_of, model_of
from crossroute.models.pool import ModelPool
from crossroute.onboarding.known_models import KnownModels, Trained, with_embedding

GUESS_ERROR = 1.0
"""Standard error of the quality of a model without scores, in logits."""
PRICE_WIDTH, SIZE_WIDTH = 0.7, 0.7
"""Models whose price or size is e^0.7 (twice) as high are unlike by one unit."""
FAMILY_WEIGHT = 5.0
"""How much more a model of the same family says than another one."""

EFFORT_STEPS = {"none": 0, "minimal": 0, "low": 0, "medium": 1, "high": 2, "xhigh": 3, "max": 4}
"""Steps of effort; one that is not on the list is taken for the usual one."""
USUAL_EFFORT = "medium"
"""At which a model without an effort is taken to answer."""
MORE_QUALITY = 0.66
"""Logits of quality that the efforts from `medium` on have over those below; between those of a
side, no difference could be measured (`scripts/effort_offsets.py`)."""
LONGER = 0.61
"""Growth of the log length of answers, a step (`scripts/effort_offsets.py`)."""
EFFORT_ERROR = 0.5
"""Standard error of the quality at another effort, in logits (`scripts/effort_offsets.py`)."""


def guess(router: Trained, descriptor: ModelDescriptor) -> ModelDescriptor:
    """Guess a model's embedding from what its descriptor says: no score is known.

    A reasoning effort of a model is guessed from the model's nearest measured effort, or from what
    was measured without one. Else `behaves_like` names a known model, with an offset in points of
    quality; else the known models are averaged, those with a like price and size and of the same
    family the most. From any of them, an effort is as far as efforts are in the mean.

    Raises:
        DataError: If the descriptor says nothing to guess by, or nothing of what the model costs.
        UnknownModelError: If the model that it behaves like is not known.
    """
    arm = arm_of(descriptor)
    # An arm is not without itself: where nobody changed what it is, it is known.
    known = KnownModels.of_router(router, without=descriptor.id if arm is None else "")
    sibling = None if arm is None else _sibling(arm, known.models)
    like = descriptor.behaves_like
    if like is not None and like.model not in known.ids:
        if like.model not in ModelPool.shipped():
            raise UnknownModelError(like.model, known.ids)
        # It ships, but this checkpoint was not trained on it: the descriptor's facts have to do.
        like = None
    start = sibling.id if sibling is not None else None if like is None else like.model
    if start is not None:
        weights = np.array([float(model == start) for model in known.ids])
    else:
        weights = np.array([_likeness(descriptor, model) for model in known.models])
        if not weights.any():
            raise DataError(
                f"{descriptor.id}: nothing in its descriptor says which known model it is like; "
                "add behaves_like with a model and a quality_offset, or give scores."
            )
    cost = known.cost_like(descriptor, weights)
    mean = known.mean(weights)
    of = None if start is None else known.models[known.ids.index(start)]
    better, longer = _apart(arm, of)
    if sibling is None and like is not None:
        # Points of quality as a logit, at even odds, where a point is worth least.
        better += 4 * like.quality_offset
    mean = mean._replace(
        level=mean.level + better,
        attention_level=mean.attention_level + better,
        length=np.array([cost.offset + longer]),
        attention_length=mean.attention_length + longer,
    )
    if start is None:
        # What the attention reads of several models means nothing in the mean.
        mean = mean._replace(trust=np.zeros(1))
    return with_embedding(
        descriptor,
        router,
        mean,
        source="guess",
        cost_target=cost.target,
        quality_error=GUESS_ERROR if sibling is None else _error_of(arm, sibling),
    )


def _sibling(arm: Arm, models: Sequence[ModelDescriptor]) -> ModelDescriptor | None:
    """What was measured of the model of an arm at the nearest effort; None if nothing was."""

    def distance(model: ModelDescriptor) -> tuple[bool, int, str]:
        own = arm_of(model)
        effort = USUAL_EFFORT if own is None else own.effort
        # Nobody knows for sure at which effort a model without one answered.
        return own is None, abs(_step(effort) - _step(arm.effort)), model.id

    of_model = (model for model in models if model_of(model) == arm.model)
    return min(of_model, key=distance, default=None)


def _apart(arm: Arm | None, start: ModelDescriptor | None) -> tuple[float, float]:
    """How much better an arm is than what it is guessed from, in logits, and longer, in logs."""
    if arm is None:
        return 0.0, 0.0
    own = None if start is None else arm_of(start)
    there = _step(USUAL_EFFORT if own is None else own.effort)
    here, usual = _step(arm.effort), _step(USUAL_EFFORT)
    return MORE_QUALITY * ((here >= usual) - (there >= usual)), LONGER * (here - there)


def _error_of(arm: Arm | None, sibling: ModelDescriptor) -> float:
    own, learned = arm_of(sibling), sibling.learned
    measured = 0.0 if learned is None else learned.quality_error
    return measured if own == arm else round(math.hypot(measured, EFFORT_ERROR), 4)


def _step(effort: str) -> int:
    return EFFORT_STEPS.get(effort, EFFORT_STEPS[USUAL_EFFORT])


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
