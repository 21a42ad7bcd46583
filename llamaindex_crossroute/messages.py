"""LlamaIndex's messages and tools as a query, and back: the only place that converts them."""

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
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.tools import BaseTool

from crossroute import Query, QueryError
from crossroute.query import Capability, Message, output_limit

_ASSISTANT_ROLES = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)


def to_query(
    conversation: str | Sequence[Message],
    tools: Sequence[BaseTool] = (),
    arguments: Mapping[str, Any] | None = None,
    schema: str = "",
) -> Query:
    """Read what an LLM is asked as a query.

    Args:
        conversation: A prompt, or messages in OpenAI's dict form.
        tools: What the model may call.
        arguments: Further arguments of the call: a longest answer, raw tools, a response format.
        schema: The form of a structured answer, which each model is asked for in its own way.

    Raises:
        QueryError: If it is not of that form.
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
        conversation,
        needs=needs,
        tools=text,
        output_tokens=output_limit(arguments),
    )


def to_dicts(conversation: str | Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """A prompt, or messages, in OpenAI's dict form.

    Raises:
        QueryError: If it is neither.
    """
    if isinstance(conversation, str):
        return [{"role": "user", "content": conversation}]
    if not isinstance(conversation, Sequence):
        raise QueryError(f"Messages are a list, this is of type {type(conversation).__name__}.")
    found = []
    for position, message in enumerate(conversation):
        if not isinstance(message, ChatMessage):
            raise QueryError(
                f"Message {position} is of type {type(message).__name__}; give a ChatMessage."
            )
        found.append(_to_dict(message))
    return found


def from_dicts(messages: Sequence[Message]) -> list[ChatMessage]:
    """Messages in OpenAI's dict form, which a strategy writes, as LlamaIndex's.

    Raises:
        QueryError: If there is something else in them than text.
    """
    return [_from_dict(message) for message in messages]


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
    if isinstance(id_ := message.additional_kwargs.get("tool_call_id"), str):
        found["tool_call_id"] = id_
    return found


def _from_dict(message: Message) -> ChatMessage:
    blocks: list[ContentBlock] = [*_blocks(message.get("content") or "")]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        blocks.append(
            ToolCallBlock(
                tool_call_id=call["id"],
                tool_name=function["name"],
                tool_kwargs=_arguments(function["arguments"]),
            )
        )
    # Where the integrations look for what a result is of.
    of = {"tool_call_id": message["tool_call_id"]} if "tool_call_id" in message else {}
    return ChatMessage(role=message["role"], blocks=blocks, additional_kwargs=of)


def _parts(blocks: Iterable[ContentBlock]) -> Iterator[dict[str, str]]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield {"type": "text", "text": block.text}
        elif isinstance(block, ThinkingBlock):
            yield {"type": "thinking", "thinking": block.content or ""}
        elif isinstance(block, CitableBlock):
            yield from _parts(block.content)
        elif isinstance(block, CitationBlock):
            yield from _parts([block.cited_content])
        else:
            yield {"type": block.block_type}


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> Iterator[TextBlock]:
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if part.get("type") != "text":
            raise QueryError(
                f"A strategy's own message has a part of type {part.get('type')!r}; write "
                "texts, and name the caller's messages by their positions, in `keep`."
            )
        yield TextBlock(text=part["text"])


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
