"""Who may serve a call at all, and who should go on serving a conversation."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from crossroute.descriptor import ModelDescriptor
from crossroute.errors import ConstraintError, UnknownModelError
from crossroute.query import Query

CAPABILITY_NAMES = {
    "tools": "tools",
    "structured_output": "structured output",
    "image_input": "images",
    "audio_input": "audio",
    "file_input": "files",
}


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a call demands of its candidates beside what its query shows.

    Attributes:
        model: The one model that may serve it; None leaves the choice to the router.
        allowed: Ids of the models that may serve it; None are all.
        excluded: Ids of the models that may not.
        max_cost_usd: The most that a candidate's predicted cost may be, in USD.

    Raises:
        ConstraintError: If a limit is no number of USD, or the ids are a string.
    """

    model: str | None = None
    allowed: Collection[str] | None = None
    excluded: Collection[str] = ()
    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("allowed", "excluded"):
            ids = getattr(self, name)
            if ids is not None and (isinstance(ids, str) or not isinstance(ids, Collection)):
                raise ConstraintError(f"{name} is {ids!r}; give a list of model ids.")
        limit = self.max_cost_usd
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0
        ):
            raise ConstraintError(f"max_cost_usd is {limit!r}; give a number of USD from 0 up.")

    def check(self, pool: Mapping[str, ModelDescriptor]) -> None:
        """See that every id is in the pool.

        Raises:
            UnknownModelError: If one is not.
        """
        named = [] if self.model is None else [self.model]
        for model in (*named, *(self.allowed or ()), *self.excluded):
            if model not in pool:
                raise UnknownModelError(model, pool)

    def forbids(self, model: str) -> str | None:
        """Why the model may not be chosen, or None if it may."""
        if self.model is not None and model != self.model:
            return f"the call forces {self.model}"
        if self.allowed is not None and model not in self.allowed:
            return "not among the models that the call allows"
        if model in self.excluded:
            return "excluded by the call"
        return None


@dataclass(frozen=True, slots=True)
class Stay:
    """Keep a conversation on its model, unless another one is better by a margin.

    Changing the model loses the prompt cache of its provider. Where the price table has a price
    for cached input, the present model's cost is counted with it for the tokens before the last
    turn.

    Attributes:
        model: Id of the model that answered before; an id outside the pool is ignored.
        margin: What the change must gain, in units of the reward's utility at the call's
            willingness to pay: 0.05 is about five points of quality.

    Raises:
        ConstraintError: If the margin is not a number from 0 up.
    """

    model: str
    margin: float = 0.05

    def __post_init__(self) -> None:
        if not self.margin >= 0 or math.isinf(self.margin):
            raise ConstraintError(f"margin is {self.margin!r}; give a number from 0 up.")


def shortcomings(descriptor: ModelDescriptor, query: Query) -> Iterator[str]:
    """What the model lacks to serve the query: capabilities, or room for its tokens."""
    for need in sorted(query.needs - set(descriptor.capabilities)):
        yield (
            f"cannot take {CAPABILITY_NAMES[need]}"
            if need.endswith("input")
            else (f"has no {CAPABILITY_NAMES[need]}")
        )
    window, longest = descriptor.context_window_tokens, descriptor.max_output_tokens
    asked = query.output_tokens or 0
    if window is not None and query.input_tokens + asked > window:
        yield (
            f"its context window of {window} tokens is less than the "
            f"{query.input_tokens + asked:.0f} of the request"
        )
    if longest is not None and asked > longest:
        yield f"answers with {longest} tokens at most, {asked} are asked for"
