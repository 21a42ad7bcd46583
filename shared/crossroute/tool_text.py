"""Tools among the candidates: which of a tool's arguments gets the text that was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossroute.errors import PoolError

# What a schema says of a value beside its type; without any it may be anything.
_NARROWED = {"type", "anyOf", "oneOf", "$ref", "allOf", "enum", "const"}


def text_argument(tool: str, schema: Mapping[str, Any]) -> str:
    """The one argument of a tool that gets the text.

    Args:
        tool: Its name.
        schema: The JSON schema of its arguments.

    Raises:
        PoolError: If it needs others.
    """
    properties: Mapping[str, Any] = schema.get("properties") or {}
    # True stands for a schema that anything fits.
    known = {name: one if isinstance(one, Mapping) else {} for name, one in properties.items()}
    needed = schema.get("required") or [*known]
    if len(needed) == 1 and _takes_text(known.get(needed[0], {})):
        return str(needed[0])
    of = ", ".join(f"{name}: {_type(one)}" for name, one in known.items()) or "none"
    raise PoolError(
        f"the tool {tool!r} takes the arguments {of}, but gets one text. Give a tool whose only "
        "needed argument is a string, or an agent that has this tool, as kind: agent."
    )


def _takes_text(schema: Mapping[str, Any]) -> bool:
    """Whether any text is valid: not where there is a choice of some."""
    if schema.keys() & {"enum", "const"}:
        return False
    kinds = schema.get("type")
    either = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return (
        kinds == "string"
        or (isinstance(kinds, list) and "string" in kinds)
        or any(map(_takes_text, either))
        or not schema.keys() & _NARROWED
    )


def _type(schema: Mapping[str, Any]) -> str:
    choice = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    return f"one of {choice}" if choice else str(schema.get("type", "any"))
