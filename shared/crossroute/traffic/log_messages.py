"""Messages as logs have them, in OpenAI's dict form.

LangChain writes its message classes in four ways, OpenTelemetry splits a message into parts, and
OpenAI's Responses API has items. What no form is known of is left as it is: a query reads its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crossroute.query import Message

ROLES = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "function": "tool",
    "HumanMessage": "user",
    "HumanMessageChunk": "user",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "SystemMessage": "system",
    "SystemMessageChunk": "system",
    "ToolMessage": "tool",
    "ToolMessageChunk": "tool",
    "FunctionMessage": "tool",
}
"""What logs call a role, and what OpenAI calls it."""

_KNOWN_ROLES = {"user", "assistant", "system", "developer", "tool"}
_ITEMS = {"message", "function_call", "function_call_output", "reasoning"}
"""Types of items of the Responses API that stand beside messages."""


class LogError(ValueError):
    """Messages in a log that are of no known form; its text is one of a few."""


def to_prompt(value: object, system: object = None) -> str | list[Message] | None:
    """A prompt of what a log holds: a text, a message, or messages in whatever form.

    The answer that a conversation ends with is left out: it is what the model said to it.

    Args:
        value: A text, or messages.
        system: Instructions that the log keeps apart: a text, or parts of one.

    Returns:
        A text where a single user message is all there is; None where there is nothing.

    Raises:
        LogError: If it is something else.
    """
    messages = [*_system(system), *to_messages(value)]
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        return None
    if len(messages) == 1 and messages[0]["role"] == "user":
        content = messages[0].get("content")
        if isinstance(content, str):
            return content
    return messages


def to_messages(value: object) -> list[Message]:
    """Messages of what a log holds.

    Raises:
        LogError: If it is nothing of that kind.
    """
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, Mapping):
        if "messages" in value:
            return to_messages(value["messages"])
        found = _message(value)
        return [] if found is None else [found]
    if not isinstance(value, list):
        raise LogError("messages that are no messages")
    if _is_pair(value):
        return [{"role": ROLES.get(value[0], value[0]), "content": value[1]}]
    return [message for item in value for message in to_messages(item)]


def batches(value: object) -> Iterator[object]:
    """The conversations of a log of LangChain's, which keeps those of one batch in one list."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, list) and not _is_pair(one) for one in value)
    ):
        yield from value
    else:
        yield value


def _system(value: object) -> list[Message]:
    if isinstance(value, str) and value[:1] == "[":
        value = as_json(value)
    if isinstance(value, list) and not any(isinstance(p, Mapping) and "role" in p for p in value):
        value = _content(value)
        if isinstance(value, list):
            value = "\n".join(p["text"] for p in value if isinstance(p.get("text"), str))
    if isinstance(value, str):
        return [{"role": "system", "content": value}] if value.strip() else []
    return to_messages(value)


def _is_pair(value: Sequence[object]) -> bool:
    """Whether it is a message as LangChain's `("human", "Hello")`."""
    return (
        len(value) == 2
        and all(isinstance(part, str) for part in value)
        and (value[0] in ROLES or value[0] in _KNOWN_ROLES)
    )


def _message(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """One message; None of what says nothing to a model."""
    kind = item.get("type")
    if item.get("lc") and isinstance(item.get("kwargs"), Mapping):
        name = item.get("id")
        name = name[-1] if isinstance(name, list) and name else None
        return _with_role(ROLES.get(str(name)), item["kwargs"])
    if isinstance(item.get("data"), Mapping) and isinstance(kind, str):
        return _with_role(ROLES.get(kind, kind), item["data"])
    if isinstance(kind, str) and kind in _ITEMS and "role" not in item:
        return _item(item)
    role = item.get("role")
    if role is None and isinstance(kind, str):
        role = kind
    return _with_role(ROLES.get(str(role), role), item)


def _with_role(role: object, item: Mapping[str, Any]) -> dict[str, Any]:
    if role is None or role == "chat":
        role = item.get("role") or ROLES.get(str(item.get("type")), item.get("type"))
    if not isinstance(role, str) or role not in _KNOWN_ROLES:
        raise LogError("a message without a known role")
    if isinstance(item.get("parts"), list):
        return _of_parts(str(role), item["parts"])
    message: dict[str, Any] = {"role": role, "content": _content(item.get("content"))}
    if name := item.get("name"):
        message["name"] = name
    if called := item.get("tool_call_id"):
        message["tool_call_id"] = called
    more = item.get("additional_kwargs")
    calls = item.get("tool_calls") or (
        more.get("tool_calls") if isinstance(more, Mapping) else None
    )
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [_tool_call(call) for call in calls]
    return message


def _of_parts(role: str, parts: Sequence[object]) -> dict[str, Any]:
    """A message of OpenTelemetry's, whose parts are texts, tool calls, their answers and media."""
    message: dict[str, Any] = {"role": role, "content": None}
    texts: list[dict[str, Any]] = []
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        kind = part.get("type")
        if kind == "tool_call":
            message.setdefault("tool_calls", []).append(_tool_call(part))
        elif kind == "tool_call_response":
            message["role"] = "tool"
            message["tool_call_id"] = part.get("id")
            answer = part.get("response", part.get("result"))
            texts.append({"type": "text", "text": as_text(answer)})
        elif kind == "text":
            texts.append({"type": "text", "text": as_text(part.get("content", ""))})
        elif kind in ("blob", "uri", "file"):
            texts.append(_media(part))
    if texts:
        message["content"] = _content(texts)
    return message


def _media(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of OpenTelemetry's that is no text, as OpenAI has it."""
    kind, content = str(part.get("mime_type") or ""), part.get("content")
    address = part.get("uri") or (f"data:{kind};base64,{content}" if content else None)
    if (part.get("modality") or kind.partition("/")[0]) == "image" and address:
        return {"type": "image_url", "image_url": {"url": address}}
    if part.get("modality") == "audio":
        return {"type": "input_audio", "input_audio": {"data": content or address}}
    return {"type": "file", "file": {"file_id": part.get("file_id") or address}}


def _item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """An item of the Responses API that is no message."""
    if item["type"] == "function_call":
        return {"role": "assistant", "content": None, "tool_calls": [_tool_call(item)]}
    if item["type"] == "function_call_output":
        content = _content(item.get("output"))
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    return None


def _tool_call(call: object) -> Any:  # noqa: ANN401  # One that is of no known form stays.
    """A tool call as OpenAI's chat completions have it."""
    if not isinstance(call, Mapping) or "function" in call:
        return call
    arguments = call.get("args", call.get("arguments"))
    return {
        "id": call.get("call_id") or call.get("id"),
        "type": "function",
        "function": {"name": call.get("name"), "arguments": as_text(arguments)},
    }


def _content(content: object) -> object:
    """The content of a message: a text where it is nothing but texts."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return as_text(content)
    parts = [_part(part) for part in content]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if len(texts) == len(parts) and all(isinstance(text, str) for text in texts):
        return "\n".join(map(str, texts))
    return parts


def _part(part: object) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        return {"type": "text", "text": as_text(part)}
    found, kind = dict(part), part.get("type")
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": found.get("text")}
    if kind == "text" and "text" not in found:
        return {"type": "text", "text": found.get("content")}
    if kind == "input_image" and isinstance(found.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": found["image_url"]}}
    return found


def as_text(value: object) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_json(value: object) -> object:
    """What a text that holds JSON stands for; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
