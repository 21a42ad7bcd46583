"""What a call demands of the model that answers it: tools, schemas, room for the answer."""

# ruff: noqa: ANN401  # Tools and schemas have the types of their providers.

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import Runnable

from crossroute.query import Capability
from langchain_crossroute.messages import for_provider


class LateCall:
    """A `bind_tools` or `with_structured_output` that waits for the model that is chosen.

    Every provider converts tools and schemas in its own way, so the candidate itself does it, once.
    """

    def __init__(self, method: str, argument: Any, settings: dict[str, Any]) -> None:
        self._method = method
        self._argument = argument
        self._settings = settings
        self._shown: dict[str, Any] = {}
        if method == "bind_tools":
            self._shown = {**settings, "tools": openai_tools(argument)}
        self._applied: dict[str, tuple[Runnable[Any, Any], Runnable[Any, Any]]] = {}
        self._demands: tuple[frozenset[Capability], str] | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """What a model with tools bound shows in its `kwargs`, where agents look for it."""
        return dict(self._shown)

    @property
    def hides_usage(self) -> bool:
        """Whether what the model gives then is no message with its usage."""
        return self.has_schema and not self._settings.get("include_raw")

    @property
    def has_schema(self) -> bool:
        """Whether a schema is bound, be it by JSON mode, which needs no capability."""
        return self._method != "bind_tools"

    def beside(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of a call without those that were only shown."""
        shown, missing = self._shown, object()
        return {k: v for k, v in settings.items() if shown.get(k, missing) != v}

    def on(self, name: str, model: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """The model of that id with it applied."""
        of, found = self._applied.get(name, (None, model))
        # The model of an id may be another one by now, where a folder is followed.
        if of is not model:
            argument, settings = self._argument, self._settings
            if self._method == "bind_tools":
                _, settings = for_provider(model, "", {**settings, "tools": argument})
                argument = settings.pop("tools")
            else:
                _, settings = for_provider(model, "", settings)
            try:
                found = getattr(model, self._method)(argument, **settings)
            except Exception as error:
                error.add_note(
                    f"In {self._method} of the candidate {name!r} ({type(model).__name__}). If it "
                    "cannot do that, its descriptor should not list the capability."
                )
                raise
            self._applied[name] = model, found
        return found

    @property
    def demands(self) -> tuple[frozenset[Capability], str]:
        """What the model must be able to do, and the schemas it gets, as a text."""
        if self._demands is None:
            needs, text = demands_of(self._settings)
            if self._method == "bind_tools":
                text += schema_text(self._shown["tools"])
                if self._argument:
                    needs.add("tools")
            elif (method := self._settings.get("method")) != "json_mode":
                # Without a method most providers call a function.
                needs |= {"structured_output" if method == "json_schema" else "tools"}
                text += schema_text([self._argument])
            self._demands = frozenset(needs), text
        return self._demands


def demands_of(settings: Mapping[str, Any]) -> tuple[set[Capability], str]:
    """What the keyword arguments of a call need of a model, and the schemas in them."""
    needs: set[Capability] = set()
    text = ""
    if tools := settings.get("tools") or settings.get("functions"):
        needs.add("tools")
        text = schema_text(tools)
    form = settings.get("response_format")
    if form and not (isinstance(form, Mapping) and form.get("type") in ("json_object", "text")):
        needs.add("structured_output")
        text += schema_text([form])
    return needs, text


def schema_text(tools: Sequence[Any]) -> str:
    """Tools or schemas as the JSON that a provider gets, about."""
    return "".join(json.dumps(tool, default=str) for tool in openai_tools(tools))


def openai_tools(tools: Sequence[Any]) -> list[Any]:
    """Tools or schemas in OpenAI's form; a dict, which may be of any provider, stays as it is."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return [tool if isinstance(tool, Mapping) else convert_to_openai_tool(tool) for tool in tools]
