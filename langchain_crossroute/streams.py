"""The streams of candidates: their chunks, or the events of LangChain's protocol v3."""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from typing_extensions import override

_TOKEN_EVENTS = ("on_llm_new_token", "on_stream_event")
# Tracers only record tokens.
_SILENT = [
    getattr(base, name)
    for base in (BaseCallbackHandler, AsyncCallbackHandler, BaseTracer, AsyncBaseTracer)
    for name in _TOKEN_EVENTS
]


def shows_tokens(handler: object) -> bool:
    """Whether a callback handler passes tokens on as they are made, to a reader or a graph."""
    # The method is the one by which LangChain itself knows who wants a model to stream.
    return hasattr(handler, "tap_output_iter") or any(
        getattr(type(handler), name, _SILENT[0]) not in _SILENT for name in _TOKEN_EVENTS
    )


class Watch(BaseCallbackHandler):
    """Sees whether a model has shown something of its answer.

    An empty chunk, with which many streams begin, shows nothing yet.
    """

    run_inline = True
    # Else LangChain makes texts of all messages for it.
    ignore_chat_model = True

    def __init__(self) -> None:
        self.shown = False

    @override
    def on_llm_new_token(self, token: object, *, chunk: object = None, **kwargs: Any) -> None:
        if token or getattr(getattr(chunk, "message", None), "tool_call_chunks", None):
            self.shown = True

    @override
    def on_stream_event(self, event: Mapping[str, Any], **kwargs: Any) -> None:
        if event["event"].startswith("content-block"):
            self.shown = True


def open_stream(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    """The chunks of a model's answer."""
    return iter(model.stream(value, config, **kwargs))


def open_events(model: Any, value: Any, config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
    """The events of a chat model's answer."""
    yield from model.stream_events(value, config, version="v3", **kwargs)


def aopen_stream(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    """`open_stream` without blocking the event loop."""
    found: AsyncIterator[Any] = aiter(model.astream(value, config, **kwargs))
    return found


async def aopen_events(
    model: Any, value: Any, config: RunnableConfig, **kwargs: Any
) -> AsyncIterator[Any]:
    """`open_events` without blocking the event loop."""
    async with await model.astream_events(value, config, version="v3", **kwargs) as stream:
        async for event in stream:
            yield event
