"""What CrossRoute tells LlamaIndex's instrumentation.

They are dispatched by `llamaindex_crossroute`, so a handler of the root dispatcher gets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMCompletionEndEvent
from llama_index.core.llms.callbacks import dispatcher as llm_dispatcher
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler
from typing_extensions import override

from crossroute.strategies import Ended, Listener

dispatcher = get_dispatcher("llamaindex_crossroute")

_HEARD: ContextVar[list[Any] | None] = ContextVar("crossroute_heard", default=None)


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
        bill: What every ask of the call cost, as `crossroute.strategies.bill` has it.
    """

    model: str
    quality: float
    cost_usd: float
    attempts: list[dict[str, str]]
    realised: dict[str, float] | None
    unfinished: bool = False
    bill: dict[str, Any]

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteAnswerEvent"


def recorders() -> Listener | None:
    """What tells the recorders among the event handlers of a call; None if there are none."""
    found: dict[int, Any] = {}
    heard: Dispatcher | None = dispatcher
    while heard is not None:
        for handler in heard.event_handlers:
            if hasattr(type(handler), "on_crossroute_call"):
                # It may be registered with several dispatchers.
                found[id(handler)] = handler
        heard = heard.parent if heard.propagate else None
    if not found:
        return None

    def ended(call: Ended) -> None:
        for recorder in found.values():
            recorder.on_crossroute_call(call)

    return ended


@contextmanager
def overheard() -> Iterator[list[Any]]:
    """The responses that LLMs end their calls with in the block.

    A candidate's own `structured_predict` gives an object, and its response is nowhere else.
    """
    heard: list[Any] = []
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


class _Listener(BaseEventHandler):
    """Hears the ends of all calls of LLMs; only within `overheard` it keeps them."""

    @override
    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        heard = _HEARD.get()
        if heard is not None and isinstance(event, (LLMChatEndEvent, LLMCompletionEndEvent)):
            heard.append(event.response)


llm_dispatcher.add_event_handler(_Listener())
