"""Tools that a strategy gives to an LLM, and the calls of them that it wants."""

# ruff: noqa: ANN401  # Schemas and arguments are of any kind.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.llms import LLM
from llama_index.core.tools import BaseTool, ToolMetadata, ToolOutput
from pydantic import BaseModel
from typing_extensions import override

from crossroute.errors import StrategyError
from crossroute.strategies import Ask, ToolCall


class _Tool(BaseTool):
    """A tool that is only described: what calls of it do is the strategy's matter."""

    def __init__(self, metadata: ToolMetadata) -> None:
        self._metadata = metadata

    @property
    @override
    def metadata(self) -> ToolMetadata:
        return self._metadata

    @override
    def __call__(self, input: Any) -> ToolOutput:
        raise NotImplementedError(f"{self._metadata.name} is called by a strategy alone.")


def to_tools(tools: Sequence[Mapping[str, Any]]) -> list[BaseTool]:
    """Tools in OpenAI's dict form as LlamaIndex's."""
    return [_to_tool(tool["function"]) for tool in tools]


def _to_tool(function: Mapping[str, Any]) -> BaseTool:
    parameters = function.get("parameters") or {"type": "object", "properties": {}}

    # Every integration takes the schema from such a class.
    class Arguments(BaseModel):
        @classmethod
        @override
        def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
            # Some integrations write into it.
            return deepcopy(dict(parameters))

    description = str(function.get("description") or "")
    return _Tool(ToolMetadata(description, function["name"], Arguments))


def check_calls_tools(model: LLM, ask: Ask) -> None:
    """See that an LLM can be given tools.

    Raises:
        StrategyError: If it cannot.
    """
    # Where the class can, the descriptor says whether the model can, as for tools of the caller.
    if not hasattr(model, "chat_with_tools"):
        raise StrategyError(
            f"A strategy asks {ask.model!r} with tools, which {model.class_name()} cannot call. "
            "Give an LLM with chat_with_tools (a FunctionCallingLLM), or take tools off the "
            "capabilities in its descriptor."
        )


def has_calls(response: ChatResponse) -> bool:
    """Whether there is a tool call in a response, or in a chunk of one."""
    message = response.message
    # Older integrations leave the calls beside the blocks.
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        isinstance(block, ToolCallBlock) for block in message.blocks
    )


def calls_in(model: Any, response: ChatResponse) -> list[ToolCall]:
    """The tool calls in a response, or in the last chunk of one.

    Args:
        model: The LLM that gave it, which knows where else its calls are; None asks no LLM, which
            may raise.
        response: Of it.
    """
    blocks = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if blocks or model is None:
        return [ToolCall.of(b.tool_name, b.tool_kwargs, b.tool_call_id) for b in blocks]
    found = model.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return [ToolCall.of(one.tool_name, one.tool_kwargs, one.tool_id) for one in found]
