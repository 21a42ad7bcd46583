"""Tools that a strategy gives to a model, and the calls of them that it wants."""

# ruff: noqa: ANN401  # Models have the types of their providers.

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables.base import RunnableBindingBase

from crossroute.errors import StrategyError
from crossroute.strategies import Ask, ToolCall

OF_TOOLS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")
"""Keyword arguments of a call that are of its tools."""


def with_tools(model: Any, ask: Ask) -> Any:
    """A candidate with the tools of an ask bound, in the way of its provider.

    Args:
        model: A chat model, or one with arguments or a config bound; these stay, but for tools.
        ask: It has tools.

    Raises:
        StrategyError: If it cannot bind any.
    """
    if isinstance(model, RunnableBindingBase):
        # What is bound outside would be sent in the place of what is bound within.
        kwargs = {name: value for name, value in model.kwargs.items() if name not in OF_TOOLS}
        return model.model_copy(update={"bound": with_tools(model.bound, ask), "kwargs": kwargs})
    try:
        return model.bind_tools([dict(tool) for tool in ask.tools])
    except (AttributeError, NotImplementedError) as error:
        raise StrategyError(
            f"A strategy asks {ask.model!r} with tools, which a {type(model).__name__} cannot "
            "bind. Give it as a chat model that can call tools, without a parser behind it, or "
            "take tools off the capabilities in its descriptor."
        ) from error


def call_in_event(output: Any) -> AIMessage | None:
    """The tool call that an event of version v3 ends, as a message; None if it ends none."""
    block = output.get("content") if isinstance(output, dict) else None
    if not isinstance(block, dict) or output.get("event") != "content-block-finish":
        return None
    call = {name: block.get(name) for name in ("name", "args", "id")}
    if block.get("type") == "tool_call":
        return AIMessage("", tool_calls=[call])
    if block.get("type") == "invalid_tool_call":
        return AIMessage("", invalid_tool_calls=[{**call, "error": None}])
    return None


def calls_in(said: Sequence[AIMessage]) -> list[ToolCall]:
    """The tool calls in a whole answer, or in the chunks of a stream together."""
    found: list[ToolCall] = []
    chunks = [one for one in said if isinstance(one, AIMessageChunk) and one.tool_call_chunks]
    if chunks:
        # Of those that come in pieces, the pieces are put together here.
        bare = [AIMessageChunk(content="", tool_call_chunks=one.tool_call_chunks) for one in chunks]
        whole: AIMessageChunk = reduce(add, bare)
        found += [ToolCall.of(c["name"], c["args"], c["id"]) for c in whole.tool_call_chunks]
    for one in said:
        if not isinstance(one, AIMessageChunk):
            found += [ToolCall.of(c["name"], c["args"], c["id"]) for c in one.tool_calls]
            found += [ToolCall.of(c["name"], c["args"], c["id"]) for c in one.invalid_tool_calls]
    return found
