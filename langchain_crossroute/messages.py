"""LangChain input as a CrossRoute query: the only place where messages are converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue

from crossroute import QueryError
from crossroute.query import QueryLike


def to_query(value: object) -> QueryLike:
    """Read what a chat model takes as a query: a string, a prompt value, or messages.

    Args:
        value: Messages may be LangChain's, `(role, content)` pairs, strings, or OpenAI's dicts.

    Raises:
        QueryError: If it is something else.
    """
    if isinstance(value, str):
        return value
    # Strictly the sequences that a chat model takes as well: a dict is none.
    if not isinstance(value, (PromptValue, Sequence)):
        raise QueryError(
            f"Cannot route by {_describe(value)}: only by a string, a prompt value, or a list of "
            "messages. Say what to read of the input, for example "
            "CrossRouteRunnable(..., query=itemgetter('question'))."
        )
    try:
        messages = convert_to_messages(value)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise QueryError(f"The input is not a list of messages: {error}") from error
    # Content parts stay as they are: convert_to_openai_messages refuses those it does not know.
    return [{"role": _role(message), "content": message.content} for message in messages]


def _role(message: BaseMessage) -> str:
    # By class, because the `type` of a chunk is the name of its class.
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    return message.role if isinstance(message, ChatMessage) else message.type


def _describe(value: object) -> str:
    keys = f" with the keys {', '.join(map(repr, value))}" if isinstance(value, Mapping) else ""
    return f"an input of type {type(value).__name__}{keys}"
