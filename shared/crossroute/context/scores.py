"""What each part of a context is worth to the next call, and which parts are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.context.names import Links, names
from crossroute.errors import ConstraintError, shortened
from crossroute.network.text_attention import TextAttention
from crossroute.query import clip, encodable
from crossroute.strategies.checks import check_text

Stage = str | Mapping[str, float]
"""The stage that the work is at, or what each stage's items are worth, from 0 to 1."""

DECIMALS = 6
"""Scores that differ less are equal."""


@dataclass(frozen=True, slots=True)
class ContextWeights:
    """What a score is made of: the sum of each part times its weight.

    Attributes:
        meaning: Of the cosine of an item with the question.
        names: Of the names, numbers and codes that it shares with the question, or with what is
            kept already, from 0 to 1: what leads from one fact to the next.
        role: Of its cosine with the description of the role; nothing where there is none.
        stage: Of the priority of its stage; nothing where no stage is given.
        recency: Of how recent it is: 1 for the last item, half of it `half_life` items before.
        half_life: In items.

    Raises:
        ConstraintError: If one is no finite number from 0 up, or `half_life` is 0.
    """

    meaning: float = 1.0
    names: float = 1.0
    role: float = 0.5
    stage: float = 0.3
    recency: float = 0.2
    half_life: float = 4.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not isfinite(value) or value < 0:
                raise ConstraintError(
                    f"{name} is {shortened(value)}; give a finite number from 0 up."
                )
        if not self.half_life:
            raise ConstraintError("half_life is 0; give a number of items above 0.")


DEFAULT_WEIGHTS = ContextWeights()


class Item(NamedTuple):
    """A part of a context that is kept or dropped as a whole.

    Attributes:
        text: What it says.
        tokens: How many it has.
        stage: At which it was written.
    """

    text: str
    tokens: int
    stage: str | None = None


class Choice(NamedTuple):
    """Which items are kept.

    Attributes:
        kept: Their places.
        scores: Of each item: when it was kept, or at the end.
    """

    kept: list[int]
    scores: list[float]


def choose(
    items: Sequence[Item],
    room: int,
    question: str,
    *,
    beside: str = "",
    role: str | None = None,
    stage: Stage | None = None,
    weights: ContextWeights = DEFAULT_WEIGHTS,
    attention: TextAttention | None = None,
) -> Choice:
    """Keep the items of the highest scores, as long as there is room for them.

    One that has no room left is passed over for a smaller one of a lower score. Of equal ones the
    more recent is taken.

    Args:
        items: In the order in which they were written; the last one is the most recent.
        room: In tokens.
        question: What the next call is about; blank if that is not known.
        beside: What else the next call reads anyway; its names count.
        role: What whoever gets the context does, in words.
        stage: Where the work is; items of that stage have priority 1, others 0.
        weights: Of the parts of a score.
        attention: Compares texts; the shipped encoder's if None.
    """
    check_text("role", role)
    if not isinstance(weights, ContextWeights):
        raise ConstraintError(f"weights is {shortened(weights)}; give a ContextWeights.")
    if not isinstance(attention, TextAttention | None):
        raise ConstraintError(
            f"attention is {shortened(attention)}; give a TextAttention, such as "
            "TextAttention(encoder)."
        )
    priorities = stage_priorities(stage)
    if not items:
        return Choice([], [])
    attention = shared_attention() if attention is None else attention
    question, beside, role = _readable(question), _readable(beside), _readable(role or "")
    texts = [_readable(item.text) for item in items]
    ages = np.arange(len(items) - 1, -1, -1)
    base = (
        weights.meaning * _likeness(attention, question, texts)
        + weights.role * _likeness(attention, role, texts)
        + weights.stage * np.array([priorities.get(item.stage or "", 0.0) for item in items])
        + weights.recency * 0.5 ** (ages / weights.half_life)
    )
    links = Links(texts)
    links.meet(names(question) | names(beside))
    tokens = np.array([item.tokens for item in items], float)
    kept: dict[int, float] = {}
    while True:
        scores = np.round(base + weights.names * links.strength, DECIMALS)
        fits = tokens <= room
        fits[list(kept)] = False
        if not fits.any():
            break
        # From behind: the first of the highest is the most recent.
        place = len(items) - 1 - int(np.where(fits, scores, -np.inf)[::-1].argmax())
        kept[place] = float(scores[place])
        room -= items[place].tokens
        links.meet_text(place)
    scores[list(kept)] = list(kept.values())
    return Choice(sorted(kept), scores.tolist())


def stage_priorities(stage: Stage | None) -> Mapping[str, float]:
    """What items of each stage are worth.

    Raises:
        ConstraintError: If it is no stage, or a priority is no number from 0 to 1.
    """
    if not isinstance(stage, Mapping):
        check_text("stage", stage)
        return {} if stage is None else {stage: 1.0}
    for name, priority in stage.items():
        number = isinstance(priority, (int, float)) and not isinstance(priority, bool)
        if not isinstance(name, str) or not number or not 0 <= priority <= 1:
            raise ConstraintError(
                f"stage holds {shortened(name)}: {shortened(priority)}; give each stage's name a "
                "number from 0 to 1."
            )
    return stage


@cache
def shared_attention() -> TextAttention:
    """Of the shipped encoder, which all contexts share: each text is encoded once."""
    return TextAttention()


def _readable(text: str) -> str:
    """What is read of a text: of a long one its beginning and its end."""
    return encodable(clip(text))


def _likeness(attention: TextAttention, to: str, texts: Sequence[str]) -> NDArray[np.float64]:
    return attention.likeness(to, texts) if to.strip() else np.zeros(len(texts))
