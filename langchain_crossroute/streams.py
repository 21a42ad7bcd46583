"""The streams of candidates: their chunks, or the events of LangChain's protocol v3."""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.runnables import RunnableConfig


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
