"""What CrossRoute tells LlamaIndex's instrumentation.

They are dispatched by `llamaindex_crossroute`, so a handler of the root dispatcher gets them.
"""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from typing_extensions import override

dispatcher = get_dispatcher("llamaindex_crossroute")


class CrossRouteDecisionEvent(BaseEvent):
    """A model was chosen, by `CrossRouteLLM` or `CrossRouteSelector`.

    Attributes:
        decision: `Decision.to_dict()`: model, predicted quality and cost, candidates, and more.
    """

    decision: dict[str, Any]

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteDecisionEvent"


class CrossRouteAnswerEvent(BaseEvent):
    """A call of `CrossRouteLLM` was answered; for a stream, when it ends.

    Its `span_id` is that of the call's decision event.

    Attributes:
        model: Id of the model that answered.
        quality: Its predicted quality, 0..1.
        cost_usd: Its predicted cost in USD.
        attempts: The models that failed before, each with its `error`.
        realised: Its `input_tokens`, `output_tokens`, `cached_tokens` and `cost_usd` by the price
            table; None if the answer says no usage, or the model has no price.
        unfinished: Whether it was a stream that ended without saying why.
    """

    model: str
    quality: float
    cost_usd: float
    attempts: list[dict[str, str]]
    realised: dict[str, float] | None
    unfinished: bool = False

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteAnswerEvent"
