"""LangChain input as a CrossRoute query: the only place where messages are converted."""

# ruff: noqa: ANN401  # Content blocks and tools have the types of their providers.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue

from crossroute import QueryError
from crossroute.query import Message


def to_query(value: object) -> str | list[dict[str, Any]]:
    """Read what a chat model takes as a query: a string, a prompt value, or messages.

    Args:
        value: Messages may be LangChain's, `(role, content)` pairs, strings, or OpenAI's dicts.

    Raises:
        QueryError: If it is something else.
    """
    messages = to_messages(value)
    return messages if isinstance(messages, str) else [to_dict(message) for message in messages]


def to_messages(value: object) -> str | list[BaseMessage]:
    """What a chat model takes, as messages; a string stays one.

    Raises:
        QueryError: If it is something else.
    """
    if isinstance(value, str):
        return value
    # Strictly the sequences that a chat model takes as well: a dict is none.
    if not isinstance(value, (PromptValue, Sequence)):
        raise QueryError(
            f"Cannot route by {_describe(value)}: only by a string, a prompt value, or a list of "
            "messages. Say what to read of the input, for example "
            "CrossRouteRunnable(..., query=itemgetter('question'))."
        )
    try:
        return convert_to_messages(value)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise QueryError(f"The input is not a list of messages: {error}") from error


def from_dicts(messages: Iterable[Message]) -> list[BaseMessage]:
    """Messages in OpenAI's dict form as LangChain's."""
    return convert_to_messages([dict(message) for message in messages])


def to_dict(message: BaseMessage) -> dict[str, Any]:
    """A message in OpenAI's dict form; its content blocks and tool calls are as they were."""
    content: Any = message.content
    if not isinstance(content, str):
        content = list(_parts(content))
    found: dict[str, Any] = {"role": _role(message), "content": content}
    # A provider gets calls that could not be read as well, and their results.
    if isinstance(message, AIMessage) and (
        calls := [*message.tool_calls, *message.invalid_tool_calls]
    ):
        found["tool_calls"] = calls
    # The form of before there were tool calls.
    if call := message.additional_kwargs.get("function_call"):
        found["function_call"] = call
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
    return found


def _parts(content: Sequence[Any]) -> Iterator[Any]:
    """Content blocks of any provider, as the parts by which `Query` tells what they need."""
    for block in content:
        if not isinstance(block, Mapping) or not block:
            yield block
            continue
        # Bedrock's blocks have no type but a single key: {"image": {...}}.
        kind = block.get("type") or next(iter(block))
        source = block.get("source")
        source = source if isinstance(source, Mapping) else {}
        medium = str(block.get("mime_type") or source.get("media_type") or "").partition("/")[0]
        if kind == "tool_result" and isinstance(block.get("content"), list):
            yield from _parts(block["content"])
        elif kind == "text-plain" and "text" not in block:
            yield {"type": "file"}
        elif kind in ("file", "media") and medium in ("image", "audio"):
            yield {"type": medium}
        elif kind == "document" and source.get("type") == "text":
            yield {"type": kind, "text": source.get("data")}
        else:
            yield block if "type" in block else {**block, "type": kind}


def _role(message: BaseMessage) -> str:
    # By class, because the `type` of a chunk is the name of its class.
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    return message.role if isinstance(message, ChatMessage) else message.type


def _describe(value: object) -> str:
    keys = f" with the keys {', '.join(map(repr, value))}" if isinstance(value, Mapping) else ""
    return f"an input of type {type(value).__name__}{keys}"


CACHE_CONTROL = "cache_control"


def for_provider(model: object, value: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A request without the parts that only other providers understand.

    Anthropic's cache markers go to Anthropic, and to OpenRouter, which passes them on;
    `prompt_cache_key` goes to OpenAI and Fireworks, and `x-session-affinity` to Fireworks.

    Args:
        model: The chat model that gets the request, or one with arguments bound; for any other
            Runnable nothing is removed.
        value: Its input; returned as it is where there is nothing to remove.
        settings: Its keyword arguments; `tools` among them lose their markers too.
    """
    llm_type = getattr(model, "_llm_type", None)
    if not isinstance(llm_type, str):
        return value, settings
    if not llm_type.startswith(("openai", "azure-openai", "fireworks")):
        settings = _without(settings, "prompt_cache_key")
    headers = settings.get("extra_headers")
    if isinstance(headers, Mapping) and not llm_type.startswith("fireworks"):
        settings = {**settings, "extra_headers": _without(headers, "x-session-affinity")}
    if llm_type.startswith(("anthropic", "openrouter")):
        return value, settings
    settings = _without(settings, CACHE_CONTROL)
    if settings.get("tools"):
        settings = {**settings, "tools": [_unmarked(tool) for tool in settings["tools"]]}
    messages = to_messages(value)
    if not isinstance(messages, str):
        unmarked = [_unmarked_message(message) for message in messages]
        if any(new is not old for new, old in zip(unmarked, messages, strict=True)):
            value = unmarked
    return value, settings


def _unmarked_message(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [_unmarked(block) for block in message.content]
    if all(new is old for new, old in zip(content, message.content, strict=True)):
        return message
    return message.model_copy(update={"content": content})


def _unmarked(part: Any) -> Any:
    """A content block or a tool without its cache marker; the same object if it has none."""
    if isinstance(part, Mapping):
        part = _without(part, CACHE_CONTROL)
        for name in ("extras", "metadata"):
            inner = part.get(name)
            if isinstance(inner, Mapping) and CACHE_CONTROL in inner:
                part = {**part, name: _without(inner, CACHE_CONTROL)}
        return part
    extras = getattr(part, "extras", None)
    if isinstance(extras, Mapping) and CACHE_CONTROL in extras:
        return part.model_copy(update={"extras": _without(extras, CACHE_CONTROL) or None})
    return part


def _without(mapping: Any, key: str) -> Any:
    if key not in mapping:
        return mapping
    return {name: value for name, value in mapping.items() if name != key}
