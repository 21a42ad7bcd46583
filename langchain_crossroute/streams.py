"""The streams of candidates: their chunks, or the events of LangChain's protocol v3."""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import BaseMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from typing_extensions import override

from langchain_crossroute.failures import is_refusal
from langchain_crossroute.marks import has_finish_reason, message_of

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


def shows(chunk: Any) -> bool:
    """Whether there is something of the answer in a chunk, or in an event of version v3.

    Many streams begin with a chunk that has only a role in it, or nothing at all.
    """
    message = message_of(chunk)
    if message is None:
        if isinstance(chunk, dict):
            return chunk.get("event") not in ("message-start", "message-finish")
        return not isinstance(chunk, str) or bool(chunk)
    content = message.content
    return bool(
        (content if isinstance(content, str) else any(map(_shows_block, content)))
        or getattr(message, "tool_call_chunks", None)
        or getattr(message, "tool_calls", None)
        # Such as the reasoning of some providers.
        or any(value for name, value in message.additional_kwargs.items() if name != "refusal")
    )


def answers(output: Any) -> bool:
    """Whether an output or a part of one makes an answer: by its content, or by why it ended.

    What is no message, such as the text of a chain, always does.
    """
    if message_of(output) is None and not (isinstance(output, dict) and "event" in output):
        return True
    return shows(output) or has_finish_reason(output)


def is_answer(held: Sequence[Any]) -> bool:
    """Whether a stream that begins so is an answer; one that ended with nothing in it is none."""
    # A model that cannot stream yields its answer whole, which is no chunk.
    return any(answers(part) or _is_whole(part) for part in held)


def _is_whole(part: Any) -> bool:
    message = message_of(part)
    return message is not None and not isinstance(message, BaseMessageChunk)


def _shows_block(block: str | dict[str, Any]) -> bool:
    return bool(block if isinstance(block, str) or block.get("type") != "text" else block["text"])


def lead(chunks: Iterator[Any], *, pass_refusals: bool) -> list[Any]:
    """The chunks up to the first that shows something; nobody misses them.

    Until then another candidate may answer. Of a refusal that passes to it, all are held back.
    """
    found = []
    for chunk in chunks:
        found.append(chunk)
        if pass_refusals and is_refusal(chunk):
            found += chunks
        elif shows(chunk):
            break
    return found


async def alead(chunks: AsyncIterator[Any], *, pass_refusals: bool) -> list[Any]:
    """`lead` without blocking the event loop."""
    found = []
    async for chunk in chunks:
        found.append(chunk)
        if pass_refusals and is_refusal(chunk):
            found += [chunk async for chunk in chunks]
        elif shows(chunk):
            break
    return found


class Watch(BaseCallbackHandler):
    """Sees whether a model streams, and whether it has shown something of its answer."""

    run_inline = True
    # Else LangChain makes texts of all messages for it.
    ignore_chat_model = True

    def __init__(self) -> None:
        self.streamed = False
        self.shown = False

    @override
    def on_llm_new_token(self, token: object, *, chunk: object = None, **kwargs: Any) -> None:
        self.streamed = True
        self.shown = self.shown or shows(getattr(chunk, "message", token))

    @override
    def on_stream_event(self, event: Mapping[str, Any], **kwargs: Any) -> None:
        self.streamed = True
        self.shown = self.shown or shows(event)


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
