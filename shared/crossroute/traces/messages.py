"""Messages as TRL reads them, in whatever form they were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crossroute.context.units import calls_of
from crossroute.query import Message, part_needs
from crossroute.strategies import ToolCall
from crossroute.traffic.log_messages import ROLES
from crossroute.traffic.records import masked_values

# Chat templates know no other.
_ROLES = {
    **ROLES,
    **dict.fromkeys(("system", "developer"), "system"),
    **{role: role for role in ("user", "assistant", "tool")},
    "chatbot": "assistant",
}


_LARGEST = 2**63
MOST_DEPTH = 50
"""Of the arguments of a tool call, which may be whatever a model has written."""


def role_of(message: Message) -> str | None:
    """The role of a message as chat templates know it; None where they know none such."""
    return _ROLES.get(str(message.get("role")))


class LeftOutError(Exception):
    """Why messages cannot be learned from; it is counted, and does not leave the package."""


def learnable(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages with `role`, `content` and, where there are some, `tool_calls` and the like.

    The arguments of tool calls are objects, as chat templates take them. A result of a tool that
    does not say its call is of the first one before it that has none yet.

    Raises:
        LeftOutError: If there is something in them that was not recorded, or that no chat template
            knows.
    """
    found: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        role = role_of(message)
        if role is None:
            raise LeftOutError("with a message of an unknown role")
        new: dict[str, Any] = {"role": role, "content": _text(message.get("content"))}
        if calls := [_call(call) for call in calls_of(message)]:
            new["tool_calls"] = calls
            waiting = [call["id"] for call in calls]
        if role == "tool":
            given = message.get("tool_call_id")
            id_ = str(given) if given else next(iter(waiting), "")
            waiting = [one for one in waiting if one != id_]
            new["tool_call_id"] = id_
        if name := message.get("name"):
            new["name"] = str(name)
        found.append(new)
    return found


def tools_of(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools in OpenAI's dict form; those that a provider runs itself are none."""
    found = []
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, Mapping) and isinstance(tool.get("input_schema"), Mapping):
            # As Anthropic has them.
            function = {name: tool.get(name) for name in ("name", "description")}
            function["parameters"] = tool["input_schema"]
        if isinstance(function, Mapping) and function.get("name"):
            found.append({"type": "function", "function": dict(function)})
    return found


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    if next(part_needs(parts), None) is not None:
        raise LeftOutError("with attachments, which are not recorded")
    # What else there may be is reasoning, and tool calls once more.
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  # Whatever JSON may hold.
    """A value without numbers that other readers of JSON do not know."""
    if depth > MOST_DEPTH:
        raise LeftOutError("with a tool call of too deep arguments")
    if isinstance(value, dict):
        return {name: _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value]
    is_odd = isinstance(value, (int, float)) and not abs(value) < _LARGEST
    return str(value) if is_odd else value


def _call(call: object) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise LeftOutError("with a tool call of an unknown form")
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else call
    given = inner.get("arguments", inner.get("args"))
    name, arguments, id_ = ToolCall.of(inner.get("name"), given, call.get("id"))
    if not name:
        raise LeftOutError("with a tool call of an unknown form")
    # Of a text, the names say only now which of its values are secrets.
    function = {"name": name, "arguments": masked_values(_plain(arguments))}
    return {"type": "function", "id": id_, "function": function}
