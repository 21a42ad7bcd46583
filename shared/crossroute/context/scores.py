"""How much each part of a context is worth to the next call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from typing import NamedTuple

from crossroute.errors import ConstraintError, shortened
from crossroute.network.text_attention import TextAttention
from crossroute.query import clip
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
        role: Of its cosine with the description of the role; nothing where there is none.
        stage: Of the priority of its stage; nothing where no stage is given.
        recency: Of how recent it is: 1 for the last item, half of it `half_life` items before.
        half_life: In items.

    Raises:
        ConstraintError: If one is no finite number from 0 up, or `half_life` is 0.
    """

    meaning: float = 1.0
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
    """What is scored: its text, and the stage at which it was written."""

    text: str
    stage: str | None = None


def scores(
    items: Sequence[Item],
    question: str,
    *,
    role: str | None = None,
    stage: Stage | None = None,
    weights: ContextWeights = DEFAULT_WEIGHTS,
    attention: TextAttention | None = None,
) -> list[float]:
    """The score of each item; the last item is the most recent one.

    Args:
        items: In the order in which they were written.
        question: What the next call is about; blank if that is not known.
        role: What whoever gets the context does, in words.
        stage: Where the work is; items of that stage have priority 1, others 0.
        weights: Of the parts of a score.
        attention: Compares texts; the shipped encoder's if None.
    """
    check_text("role", role)
    priorities = stage_priorities(stage)
    if not items:
        return []
    attention = shared_attention() if attention is None else attention
    texts = [clip(item.text) for item in items]
    meaning = _likeness(attention, question, texts)
    relevance = _likeness(attention, role or "", texts)
    return [
        round(
            weights.meaning * meaning[place]
            + weights.role * relevance[place]
            + weights.stage * priorities.get(item.stage or "", 0.0)
            + weights.recency * 0.5 ** ((len(items) - 1 - place) / weights.half_life),
            DECIMALS,
        )
        for place, item in enumerate(items)
    ]


def ranked(found: Sequence[float]) -> list[int]:
    """Places by score, the best first; of equal ones the more recent."""
    return sorted(range(len(found)), key=lambda place: (-found[place], -place))


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


def _likeness(attention: TextAttention, to: str, texts: Sequence[str]) -> Sequence[float]:
    if not to.strip():
        return [0.0] * len(texts)
    found: list[float] = attention.likeness(clip(to), texts).tolist()
    return found
