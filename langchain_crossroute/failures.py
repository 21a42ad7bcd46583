"""Refusals, answers that are none, and what a candidate's clients hold as secret."""

# ruff: noqa: ANN401  # An answer is whatever the candidates give.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from langchain_core.exceptions import ContextOverflowError
from langchain_core.runnables import Runnable

from crossroute import NoCandidateError
from crossroute.failures import may_pass, secrets_of
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.metadata import message_of

# What LangChain raises where a candidate's client gave it nothing.
_NOTHING = {
    "No generation chunks were returned",
    "No generations found in stream.",
    "v2 stream finished without producing a message",
}


class RequestTooLongError(NoCandidateError, ContextOverflowError):
    """A request that no candidate may serve, but one would if it were shorter.

    LangChain's own error, because its middleware shortens a request for it and tries again.
    """


def is_refusal(output: Any) -> bool:
    """Whether an answer is a refusal, by what OpenAI and Anthropic mark it with.

    Args:
        output: An answer, a chunk of one, or an event of version v3.
    """
    message = message_of(output)
    if message is not None:
        metadata, more = message.response_metadata, message.additional_kwargs
    elif isinstance(output, dict) and output.get("event") == "message-finish":
        metadata, more = output.get("metadata") or {}, output.get("additional_kwargs") or {}
    else:
        return False
    return bool(
        more.get("refusal")
        or metadata.get("finish_reason") == "content_filter"
        or metadata.get("stop_reason") == "refusal"
    )


def passes(error: BaseException, *, refusals: bool, own: bool = False) -> bool:
    """Whether another candidate may succeed where this one failed."""
    return _is_no_answer(error) or may_pass(error, refusals=refusals, own=own)


def secrets_in(candidate: Runnable[Any, Any]) -> list[str]:
    """What a candidate's clients hold as secret: its own and those of the Runnables within it."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting: list[Any] = [candidate]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            found.update(secrets_of(part))
            if isinstance(part, LazyChatModel):
                found.update(part.secrets)
            waiting += _runnables(getattr(part, "__dict__", {}).values())
    return sorted(found, key=len, reverse=True)


def _runnables(values: Iterable[Any]) -> Iterator[Runnable[Any, Any]]:
    for value in values:
        if isinstance(value, Runnable):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _runnables(value)
        elif isinstance(value, Mapping):
            yield from _runnables(value.values())


def _is_no_answer(error: BaseException) -> bool:
    if not isinstance(error, IndexError):
        return isinstance(error, (ValueError, RuntimeError)) and str(error) in _NOTHING
    # LangChain takes the first generation of an answer without any.
    trace: TracebackType | None = error.__traceback__
    module = None
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__"), trace.tb_next
    return module == "langchain_core.language_models.chat_models"
