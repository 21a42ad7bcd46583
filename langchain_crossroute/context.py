"""fit_messages: what of a conversation the next call needs, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack, cast, overload

from langchain_core.messages import (
    BaseMessage,
    HumanMessage,
    MessageLikeRepresentation,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableLambda

from crossroute import QueryError
from crossroute.context import ContextSettings, fit_context
from crossroute.errors import shortened
from crossroute.query import Message
from langchain_crossroute.messages import to_messages, to_query

Messages = Sequence[MessageLikeRepresentation] | PromptValue | str

STAGE = "stage"
"""Where a message says it, in its `additional_kwargs`."""


@overload
def fit_messages(messages: Messages, **settings: Unpack[ContextSettings]) -> list[BaseMessage]: ...


@overload
def fit_messages(
    messages: None = None, **settings: Unpack[ContextSettings]
) -> Runnable[Messages, list[BaseMessage]]: ...


def fit_messages(
    messages: Messages | None = None, **settings: Unpack[ContextSettings]
) -> list[BaseMessage] | Runnable[Messages, list[BaseMessage]]:
    """Keep what the next call needs most of a conversation; beside LangChain's `trim_messages`.

    Without messages it is a Runnable: `prompt | fit_messages(budget_tokens=2_000) | model`. What is
    kept, and in which order, says `crossroute.context.fit_context`. A message may say the stage at
    which it was written in `additional_kwargs["stage"]`.

    Args:
        messages: What a chat model takes; None for a Runnable.
        settings: Those of `fit_context`. Give `count=model.get_num_tokens` to count as the model
            does.

    Returns:
        The messages that are kept, the same objects where they were messages before.

    Raises:
        ContextError: If what always stays is more than the budget.
        QueryError: If these are no messages.
        ConstraintError: If a setting makes no sense.
    """
    if messages is None:
        # What makes no sense is refused here, not in a call.
        fit_context([], **settings)
        return RunnableLambda(partial(_fitted, **settings), name="fit_messages")
    return _fitted(messages, **settings)


def _fitted(messages: Messages, **settings: Unpack[ContextSettings]) -> list[BaseMessage]:
    if not isinstance(messages, (PromptValue, Sequence)):
        raise QueryError(
            f"fit_messages is given {shortened(messages)}; give a list of messages, a prompt value "
            "or a text."
        )
    taken = to_messages(messages)
    taken = [HumanMessage(taken)] if isinstance(taken, str) else taken
    return [taken[place] for place in fit_context(messages_as_dicts(taken), **settings).kept]


def messages_as_dicts(messages: Sequence[BaseMessage]) -> list[Message]:
    """Messages in OpenAI's dict form, with their names and stages."""
    found: list[Message] = []
    # Of a list it is a list.
    read_all = cast("list[Message]", to_query(messages))
    for message, read in zip(messages, read_all, strict=True):
        stage = message.additional_kwargs.get(STAGE)
        found.append({**read, "name": message.name, STAGE: stage})
    return found
