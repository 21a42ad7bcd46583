"""Chunks of an answer as events of LangChain's protocol v3, where no model makes them itself."""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_crossroute.metadata import DECISION, as_chunk


def as_events(parts: Iterator[Any]) -> Iterator[Any]:
    """The parts of an answer as events; those that are events already as they are."""
    # LangChain's own, which is behind its `stream_events` for every model without a native one.
    from langchain_core.language_models._compat_bridge import chunks_to_events

    marks = _Marks()

    def chunks() -> Iterator[ChatGenerationChunk]:
        yield marks.taken(first)
        yield from map(marks.taken, parts)

    for first in parts:
        if isinstance(first, AIMessage):
            yield from map(marks.put, chunks_to_events(chunks()))
        else:
            yield first


async def aas_events(parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """`as_events` without blocking the event loop."""
    from langchain_core.language_models._compat_bridge import achunks_to_events

    marks = _Marks()

    async def chunks() -> AsyncIterator[ChatGenerationChunk]:
        yield marks.taken(first)
        async for part in parts:
            yield marks.taken(part)

    async for first in parts:
        if isinstance(first, AIMessage):
            async for event in achunks_to_events(chunks()):
                yield marks.put(event)
        else:
            yield first


class _Marks:
    """The decision on the first chunk and what it cost on the last, as one mark on the end."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def taken(self, part: AIMessage) -> ChatGenerationChunk:
        chunk = as_chunk(part)
        metadata = dict(chunk.response_metadata)
        self._found |= metadata.pop(DECISION, {})
        message = chunk.model_copy(update={"response_metadata": metadata})
        return ChatGenerationChunk(message=message)

    def put(self, event: Any) -> Any:
        if event["event"] != "message-finish":
            return event
        metadata = event.get("metadata") or {}
        return {**event, "metadata": {**metadata, DECISION: self._found}}
