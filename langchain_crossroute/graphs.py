"""LangGraph's readers of messages: they are shown parts of drafts that become the answer.

Tokens of a draft are shown to nobody while they are made. Of one that becomes the answer, or a part
of it, LangGraph would show nothing before the node returns it whole.
"""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig

if TYPE_CHECKING:
    from langchain_crossroute.transport import Transport

_READER = "StreamMessagesHandler"
"""LangGraph's handler for `stream_mode="messages"`; the one of version v3 reads no chunks."""


def shown(parts: Iterator[Any], transport: Transport) -> Iterator[Any]:
    """The parts of an answer, which LangGraph's readers are shown on the way, if there are any."""
    told = _Readers(transport)
    try:
        for part in parts:
            told.show(part)
            yield part
    finally:
        told.end()


async def ashown(parts: AsyncIterator[Any], transport: Transport) -> AsyncGenerator[Any, None]:
    """`shown` without blocking the event loop."""
    told = _Readers(transport)
    try:
        async for part in parts:
            told.show(part)
            yield part
    finally:
        told.end()


class _Readers:
    """Readers of one call, to whom the parts of muted runs are those of one message."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._handlers = readers(transport.config)
        self._run_id = uuid4()
        self._message: AIMessageChunk | None = None

    def show(self, part: Any) -> None:
        """Show a part, if it is a chunk of a muted run: of others they were shown the tokens."""
        if not self._handlers or not isinstance(part, AIMessageChunk):
            return
        if part.id is None or part.id not in self._transport.muted:
            return
        if self._message is None:
            self._begin()
        bare = AIMessageChunk(content="", id=part.id)
        self._message = bare if self._message is None else self._message + bare
        message = part.model_copy(update={"id": self._message.id})
        chunk = ChatGenerationChunk(message=message)
        for handler in self._handlers:
            handler.on_llm_new_token(message.text, chunk=chunk, run_id=self._run_id)

    def end(self) -> None:
        """Have them forget the run, and take the message that a node returns as shown."""
        if self._message is None:
            return
        for handler in self._handlers:
            # Of a run that is tagged so, or of another graph, they show nothing.
            if self._run_id in handler.metadata:
                handler.seen.add(self._message.id)
            handler.on_llm_error(Exception(), run_id=self._run_id)

    def _begin(self) -> None:
        manager: Any = self._transport.config["callbacks"]
        for handler in self._handlers:
            handler.on_chat_model_start(
                {}, [[]], run_id=self._run_id, tags=manager.tags, metadata={**manager.metadata}
            )


def readers(config: RunnableConfig) -> list[Any]:
    """LangGraph's readers among the callback handlers of a call."""
    handlers = getattr(config["callbacks"], "handlers", ())
    return [one for one in handlers if type(one).__name__ == _READER]
