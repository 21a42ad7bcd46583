"""What of a conversation stays together: a tool call and all of its results."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from crossroute.query import Message

Unit = tuple[int, ...]
"""Positions of messages that are kept or dropped together, in order."""


def units_of(messages: Sequence[Message]) -> tuple[list[Unit], list[int]]:
    """A conversation's messages, each in one unit, and the results whose call is not among them.

    A result belongs to the last message before it that made a call of its id; some models give the
    same ids again and again, others none: then the name of what is called is the id. Where there is
    none before it, to the first one after it. A result that does not say its id belongs to the last
    message before it that made a call.
    """
    calls: dict[str | None, list[int]] = {}
    for position, message in enumerate(messages):
        for id_ in _ids(message):
            calls.setdefault(id_, []).append(position)
        if calls_of(message):
            calls.setdefault(None, []).append(position)
    units: dict[int, list[int]] = {}
    orphans: list[int] = []
    for position, message in enumerate(messages):
        home: int | None = position
        if is_result(message):
            home = _home(calls.get(_text(message.get("tool_call_id")), ()), position)
        if home is None:
            orphans.append(position)
        else:
            units.setdefault(home, []).append(position)
    return sorted(tuple(sorted(unit)) for unit in units.values()), orphans


def is_result(message: Message) -> bool:
    """Whether a message is what a tool returned."""
    return message.get("role") in ("tool", "function")


def calls_of(message: Message) -> Sequence[object]:
    """The tool calls that a message makes, in whatever form they are."""
    calls = message.get("tool_calls") or message.get("function_call") or ()
    return calls if isinstance(calls, (list, tuple)) else [calls]


def _home(calls: Sequence[int], position: int) -> int | None:
    before = bisect_left(calls, position)
    return calls[max(before - 1, 0)] if calls else None


def _ids(message: Message) -> Iterator[str]:
    for call in calls_of(message):
        name = _of(_of(call, "function") or call, "name")
        if found := _text(_of(call, "id")) or _text(name):
            yield found


def _of(value: object, name: str) -> object:
    """What a part of a call is; some clients have objects of their own for it."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
