"""What a refusal to answer looks like."""

# ruff: noqa: ANN401  # An answer is whatever the candidates give.

from __future__ import annotations

from typing import Any

from langchain_crossroute.marks import message_of


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
