"""LlamaIndex's messages and tools as a CrossRoute query: the only place where they are read."""

# ruff: noqa: ANN401  # Tool calls and arguments have the types of their providers.

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.tools import BaseTool

from crossroute import Query, QueryError
from crossroute.query import Capability, output_limit

_ASSISTANT_ROLES = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)


def to_query(
    conversation: str | Sequence[ChatMessage],
    tools: Sequence[BaseTool] = (),
    arguments: Mapping[str, Any] | None = None,
    schema: str = "",
) -> Query:
    """Read what an LLM is asked as a query.

    Args:
        conversation: A prompt, or messages.
        tools: What the model may call.
        arguments: Further arguments of the call: a longest answer, raw tools, a response format.
        schema: The form of a structured answer, which each model is asked for in its own way.

    Raises:
        QueryError: If the conversation is empty, or not of that form.
    """
    arguments = arguments or {}
    needs: set[Capability] = {"tools"} if tools else set()
    text = schema + "".join(_schema(tool) for tool in tools)
    if raw_tools := arguments.get("tools") or arguments.get("functions"):
        needs.add("tools")
        text += "".join(json.dumps(tool, default=str) for tool in raw_tools)
    form = arguments.get("response_format")
    if form and not (isinstance(form, Mapping) and form.get("type") in ("json_object", "text")):
        needs.add("structured_output")
        text += json.dumps(form, default=str)
    return Query.of(
        conversation if isinstance(conversation, str) else _to_dicts(conversation),
        needs=needs,
        tools=text,
        output_tokens=output_limit(arguments),
    )


def conversation_of(
    chat_history: Sequence[ChatMessage] | None, user_msg: str | ChatMessage | None
) -> list[ChatMessage]:
    """The messages that a `*_with_tools` call sends."""
    messages = list(chat_history or ())
    if isinstance(user_msg, str):
        messages.append(ChatMessage(user_msg, role=MessageRole.USER))
    elif user_msg is not None:
        messages.append(user_msg)
    return messages


def is_from_model(message: ChatMessage) -> bool:
    """Whether a model wrote the message."""
    return message.role in _ASSISTANT_ROLES


def _to_dicts(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    if not isinstance(messages, Sequence):
        raise QueryError(f"Messages are a list, this is of type {type(messages).__name__}.")
    for position, message in enumerate(messages):
        if not isinstance(message, ChatMessage):
            raise QueryError(
                f"Message {position} is of type {type(message).__name__}; give a ChatMessage."
            )
    return [_to_dict(message) for message in messages]


def _to_dict(message: ChatMessage) -> dict[str, Any]:
    found: dict[str, Any] = {
        "role": "assistant" if is_from_model(message) else MessageRole(message.role).value,
        "content": list(_parts(message.blocks)),
    }
    # In the form of the other integration, so that both count the same tokens.
    calls: Any = [
        {
            "name": block.tool_name,
            "args": _arguments(block.tool_kwargs),
            "id": block.tool_call_id,
            "type": "tool_call",
        }
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    if calls := calls or message.additional_kwargs.get("tool_calls"):
        found["tool_calls"] = calls
    return found


def _parts(blocks: Iterable[ContentBlock]) -> Iterator[dict[str, str]]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield {"type": "text", "text": block.text}
        elif isinstance(block, CitableBlock):
            yield from _parts(block.content)
        elif isinstance(block, CitationBlock):
            yield from _parts([block.cited_content])
        else:
            yield {"type": block.block_type}


def _arguments(arguments: Any) -> Any:
    """The arguments of a tool call, which some providers leave as a text."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except ValueError:
            pass
    return arguments


def _schema(tool: BaseTool) -> str:
    # Too long a description is for the model that gets it to refuse.
    return json.dumps(tool.metadata.to_openai_tool(skip_length_check=True), default=str)
