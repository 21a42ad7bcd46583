"""What a call through `CrossRouteLLM` asks, and how a candidate is asked it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import BaseTool

from crossroute import Query
from crossroute.query import Message
from crossroute.strategies import Ask
from llamaindex_crossroute.messages import from_dicts, to_query
from llamaindex_crossroute.tools import to_tools

ANSWERED_BY = "crossroute_model"
"""The key of a model's id in the `additional_kwargs` of its message, where it may be kept."""

OWN_CHOICE = "crossroute_shadow"
"""The key of the router's own choice there, where a shadow model answered."""

_OF_TOOLS = ("tools", "tool_choice", "tool_required", "functions", "function_call")
"""Keyword arguments of a call that are of its tools."""

_MARKS = (ANSWERED_BY, OWN_CHOICE)


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks.

    Attributes:
        conversation: A prompt, or messages.
        options: Keyword arguments of the call.
        tools: The tools of a `*_with_tools` call; None for the other methods.
    """

    conversation: str | Sequence[ChatMessage]
    options: dict[str, Any]
    tools: Sequence[BaseTool] | None = None

    def query(self, messages: Sequence[Message]) -> Query:
        """The request, as far as it is routed by.

        Args:
            messages: The conversation in OpenAI's dict form.
        """
        conversation = self.conversation
        return to_query(
            conversation if isinstance(conversation, str) else messages,
            self.tools or (),
            self.options,
        )

    def openai_tools(self) -> list[Any]:
        """The caller's tools in OpenAI's dict form; raw ones stay as they are."""
        given = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in self.tools or ()]
        return [*given, *(self.options.get("tools") or ())]

    def becomes_chat(self, ask: Ask) -> bool:
        """Whether an ask makes messages of a prompt."""
        is_more = ask.keep is not None or bool(ask.then) or bool(ask.tools)
        return isinstance(self.conversation, str) and is_more

    def arguments(self, ask: Ask) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments of a candidate's method."""
        conversation, options = self.conversation, {**self.options, **ask.settings}
        if ask.is_own:
            # The form is one of the answer to the caller.
            options.pop("response_format", None)
        if self.becomes_chat(ask):
            conversation = [ChatMessage(conversation)]
            # Of a prompt alone.
            options.pop("formatted", None)
        if not isinstance(conversation, str):
            kept = range(len(conversation)) if ask.keep is None else ask.keep
            # A list of its own, because some candidates append to it.
            conversation = [_unmarked(conversation[position]) for position in kept]
            conversation += from_dicts(ask.then)
        if ask.tools:
            # In the place of the caller's, and several may be called at once.
            options = {name: value for name, value in options.items() if name not in _OF_TOOLS}
            options["allow_parallel_tool_calls"] = True
            return (to_tools(ask.tools),), {**options, "chat_history": conversation}
        if self.tools is None:
            return (conversation,), options
        return (self.tools,), {**options, "chat_history": conversation}

    def settings_in(self, options: dict[str, Any]) -> dict[str, Any] | None:
        """What the candidate itself gets of the keyword arguments; None if it gets none."""
        return options

    def with_settings(
        self, options: dict[str, Any], settings: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The keyword arguments with other settings in them."""
        return options if settings is None else settings


@dataclass(frozen=True, slots=True)
class PromptRequest(Request):
    """What the caller asks a candidate's own `predict` or `structured_predict`.

    Attributes:
        conversation: The messages that the prompt makes, to route by.
        options: Arguments of the prompt.
        given: The positional arguments of the method.
        settings: What `llm_kwargs` holds; None for methods without it.
        schema: The form that is asked for, as text.
    """

    given: tuple[Any, ...] = ()
    settings: Mapping[str, Any] | None = None
    schema: str = ""

    def query(self, messages: Sequence[Message]) -> Query:
        """The request, as far as it is routed by; it goes whole, so nothing of it is shortened."""
        found = to_query(messages, (), self.settings, self.schema)
        return replace(found, least_tokens=None)

    def openai_tools(self) -> list[Any]:
        """The caller's raw tools, as they are."""
        return [*((self.settings or {}).get("tools") or ())]

    def arguments(self, ask: Ask) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments of a candidate's method.

        The prompt goes whole to the candidate, whatever the ask says of messages.
        """
        if self.settings is None:
            return self.given, self.options
        # Some candidates write into it.
        return self.given, {**self.options, "llm_kwargs": {**self.settings, **ask.settings}}

    def settings_in(self, options: dict[str, Any]) -> dict[str, Any] | None:
        """What the candidate gets beside the prompt; only methods with a schema take such."""
        return options.get("llm_kwargs") or {} if self.schema else None

    def with_settings(
        self, options: dict[str, Any], settings: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The keyword arguments with other settings in them."""
        return options if settings is None else {**options, "llm_kwargs": settings}


def _unmarked(message: ChatMessage) -> ChatMessage:
    """The message without our mark, which some providers would get as it is."""
    if not any(mark in message.additional_kwargs for mark in _MARKS):
        return message
    rest = {name: v for name, v in message.additional_kwargs.items() if name not in _MARKS}
    return message.model_copy(update={"additional_kwargs": rest})
