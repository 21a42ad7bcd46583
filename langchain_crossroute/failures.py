"""Which failure of a candidate is passed to the next one."""

# ruff: noqa: ANN401  # An answer is whatever the candidates give.

from __future__ import annotations

from typing import Any

from langchain_core.exceptions import ModelError

from crossroute.attempts import PASSING_STATUSES
from langchain_crossroute.marks import message_of

_PASSING_ERRORS = {
    # A dropped connection, which clients of OpenAI and Anthropic let through in a stream.
    "httpx.TransportError",
    # Refusals.
    "langchain_core.exceptions.ModelRefusalError",
    "langchain_openai.chat_models.base.OpenAIRefusalError",
}
"""By name, because these classes may not be installed."""


class RefusedError(Exception):
    """A candidate refused to answer; the caller never sees it."""


def may_pass_elsewhere(error: BaseException) -> bool:
    """Whether another model may succeed where this one failed."""
    if isinstance(error, (TimeoutError, ConnectionError, RefusedError)):
        return True
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__}
    if not names.isdisjoint(_PASSING_ERRORS):
        return True
    if isinstance(error, ModelError):
        return error.is_retryable
    return isinstance(error, Exception) and _is_of_a_server(error)


def _is_of_a_server(error: Exception) -> bool:
    """Whether a vendor's own error says by its HTTP status that the request was not at fault.

    An error in the middle of OpenAI's streams has no status: `code` or `type` says it there.
    """
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, str) and status.isdecimal():
            status = int(status)
        if isinstance(status, int):
            return status in PASSING_STATUSES
    return getattr(error, "type", None) == "server_error"


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
