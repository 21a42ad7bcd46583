"""What candidates stream: whether it shows something, and who is shown it."""

# ruff: noqa: ANN401  # What passes through is whatever the models give.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    BaseCallbackManager,
    Callbacks,
)
from langchain_core.outputs import LLMResult
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from typing_extensions import override

from langchain_crossroute.metadata import (
    has_finish_reason,
    logprobs_of,
    message_of,
    tokens_of,
    usage_of,
)

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


def _shows_block(block: str | dict[str, Any]) -> bool:
    return bool(block if isinstance(block, str) or block.get("type") != "text" else block["text"])


class StreamObserver(BaseCallbackHandler):
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


class UsageObserver(BaseCallbackHandler):
    """Sees the usage of the runs of a candidate whose output does not say it.

    Attributes:
        tokens: Of all of them, as `tokens_of` gives them; None as long as nobody has counted.
        is_free: Whether the last one was answered from LangChain's own cache.
    """

    run_inline = True
    # Else LangChain makes texts of all messages for it.
    ignore_chat_model = True
    ignore_chain = True

    def __init__(self) -> None:
        self.tokens: tuple[int, int, int, int] | None = None
        self.is_free = False

    @override
    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        usage = usage_of(response)
        self.is_free = usage.get("total_cost") == 0
        if (tokens := tokens_of(usage)) is not None:
            a, b, c, d = self.tokens or (0, 0, 0, 0)
            self.tokens = a + tokens[0], b + tokens[1], c + tokens[2], d + tokens[3]


class LogprobObserver(BaseCallbackHandler):
    """Sees the log-probabilities of a candidate's tokens, whatever it makes of its answer.

    Where a candidate asks several models one after the other, those of the last one stay.
    """

    run_inline = True
    # Else LangChain makes texts of all messages for it.
    ignore_chat_model = True
    ignore_chain = True

    def __init__(self, found: list[float]) -> None:
        """See them.

        Args:
            found: The list that they are put into.
        """
        self._found = found
        self._run: UUID | None = None

    @override
    def on_llm_new_token(
        self, token: object, *, chunk: object = None, run_id: UUID, **kwargs: Any
    ) -> None:
        self._begin(run_id)
        self._found += logprobs_of(chunk)

    @override
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id)
        # Of a stream they are all there.
        if not self._found and response.generations and response.generations[0]:
            self._found += logprobs_of(response.generations[0][0])

    def _begin(self, run_id: UUID) -> None:
        if run_id != self._run:
            self._run = run_id
            self._found.clear()


class MutedHandler:
    """A callback handler that is told of a run, but not of its tokens: those of a draft."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    @classmethod
    def of(cls, handler: Any) -> Any:
        """The handler, muted if it would show tokens."""
        return cls(handler) if shows_tokens(handler) else handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    # One that stands on the call and on the model is told once.
    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, MutedHandler) and other._handler is self._handler

    @override
    def __hash__(self) -> int:
        return id(self._handler)

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_stream_event(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


def muted(callbacks: Callbacks) -> Callbacks:
    """Callbacks of which none shows tokens; the same object if none does in any case."""
    if isinstance(callbacks, BaseCallbackManager):
        if not any(map(shows_tokens, callbacks.handlers)):
            return callbacks
        silent = callbacks.copy()
        silent.handlers = list(map(MutedHandler.of, callbacks.handlers))
        silent.inheritable_handlers = list(map(MutedHandler.of, callbacks.inheritable_handlers))
        return silent
    if not callbacks or not any(map(shows_tokens, callbacks)):
        return callbacks
    return list(map(MutedHandler.of, callbacks))


def told_by(model: Any, callbacks: Callbacks) -> Any:
    """A candidate whose run is told to these callbacks and to those bound to it, and to no others.

    A binding adds the callbacks of the run around it by itself, unless it has some of its own.
    """
    if not isinstance(model, RunnableBindingBase):
        return model
    own = {**model.config}
    if own.get("callbacks") is None:
        own["callbacks"] = callbacks
    return model.model_copy(update={"bound": told_by(model.bound, callbacks), "config": own})
