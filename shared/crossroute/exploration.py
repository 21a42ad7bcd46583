"""Who is asked, where that is not left to the router alone: in shadow, and to explore.

In shadow one fixed model answers, and the decision says what the router would have done. To explore
is to ask, with a small and known probability, a candidate that is drawn at random: records of such
calls say of other choices, too, what they would have been worth.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random, SystemRandom
from typing import Any
from uuid import uuid4

from crossroute.constraints import Stay
from crossroute.decision import Decision
from crossroute.errors import ConstraintError, UnknownModelError, shortened
from crossroute.query import Message
from crossroute.ranking import amount

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exploration:
    """Whom to ask beside the router's choice.

    Attributes:
        shadow: Id of the model that answers every call in the router's place; None is none. Where
            it may not serve a call, the router's choice answers.
        explore: With this probability, 0..1, a candidate is drawn to be asked, each with the same
            chance: the router's choice and the shadow model are among them.
        random: Where the draws come from; None is the system's, which processes do not share.
    """

    shadow: str | None = None
    explore: float = 0.0
    random: Random | None = None

    @classmethod
    def of(
        cls,
        models: Collection[str],
        *,
        shadow: str | None = None,
        explore: float = 0.0,
        random: Random | None = None,
        strategy: object = None,
    ) -> Exploration:
        """Check what a router was given.

        Args:
            models: Ids of the candidates.
            shadow: See the attributes, as the next two.
            explore: A probability.
            random: Where the draws come from.
            strategy: Of the router.

        Raises:
            UnknownModelError: If the shadow model is no candidate.
            ConstraintError: If `explore` is no probability, or there is a strategy beside it.
        """
        if shadow is not None and shadow not in models:
            raise UnknownModelError(shadow, models)
        chance = amount(explore)
        if chance is None or chance > 1:
            raise ConstraintError(f"explore is {shortened(explore)}; give a number from 0 to 1.")
        if random is not None and not isinstance(random, Random):
            raise ConstraintError(f"random is {shortened(random)}; give a random.Random(seed).")
        if strategy is not None and (shadow is not None or chance):
            raise ConstraintError(
                "shadow and explore have one model answer a call, and a strategy may ask several: "
                "leave out the one or the other."
            )
        return cls(shadow, chance, random)

    @property
    def is_on(self) -> bool:
        """Whether anything but the router's choice may be asked."""
        return self.shadow is not None or self.explore > 0

    def chosen(
        self,
        decision: Decision,
        messages: Sequence[Message],
        *,
        forced: bool = False,
        stay: Stay | None = None,
        last: str | None = None,
        keep: bool = False,
    ) -> Decision:
        """The decision with the model first that is to be asked.

        Nothing is drawn where the call forces its model, where the conversation stays with the
        model that it has, and within a tool loop: the model that began that one goes on.

        Args:
            decision: The router's.
            messages: The conversation in OpenAI's dict form.
            forced: Whether the call names the one model that may answer.
            stay: What the router was asked to stay with.
            last: Id of the model that gave the last answer of the conversation, if that is known.
            keep: Whether the caller keeps the model of a tool loop.
        """
        if not self.is_on or forced:
            return decision
        own, found = decision.candidates[0], decision
        candidates = [one.model for one in decision.candidates]
        # No model is drawn for what an agent serves.
        peers = [one.model for one in decision.peers]
        in_loop = keep or bool(messages and messages[-1].get("role") == "tool")
        if self.shadow in candidates:
            found = decision.preferring(self.shadow)
        elif self.shadow is not None:
            _tell(self.shadow, decision.removed.get(self.shadow, "it is not in the pool"))
        if in_loop and last in candidates:
            found = decision.preferring(last)
        stays = in_loop or (stay is not None and stay.model == decision.model)
        if stays or not self.explore:
            decided_by_router = self.shadow not in candidates and found.model == own.model
            return found if decided_by_router else replace(found, shadow=own)
        draw = self.random or SystemRandom()
        usual, even = found.model, self.explore / len(peers)
        if draw.random() < self.explore:
            found = decision.preferring(draw.choice(peers))
        probability = even if found.model in peers else 0.0
        probability += 1 - self.explore if found.model == usual else 0.0
        return replace(found, shadow=own, probability=probability)

    def stays_with(self, decision: Mapping[str, Any]) -> Any:  # noqa: ANN401  # As it was read.
        """Id of the model that the router stays with in a conversation: in shadow, its own choice.

        Args:
            decision: Of the last answer, as plain values.
        """
        own = decision.get("shadow") if self.shadow is not None else None
        return own.get("model") if isinstance(own, Mapping) else decision.get("model")


ROUTERS_CHOICE = Exploration()
"""Asks what the router chooses."""


def new_call_id() -> str:
    """An id that no other call has."""
    return uuid4().hex


@lru_cache(maxsize=100)
def _tell(shadow: str, reason: str) -> None:
    """Warn, once for each reason, that the shadow model may not serve a call."""
    logger.warning(
        "The shadow model %s may not serve a call, the router's choice answers: %s", shadow, reason
    )
