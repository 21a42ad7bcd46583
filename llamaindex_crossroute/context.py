"""fit_messages and FitContextMemoryBlock: what of a conversation fits a budget of tokens."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import Field
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.utils import get_tokenizer

from crossroute import ContextError
from crossroute.context import MESSAGE_TOKENS, ContextSettings, ContextWeights, fit_context
from crossroute.context.tokens import message_tokens
from crossroute.network.text_attention import TextAttention
from crossroute.query import Message
from llamaindex_crossroute.messages import to_dicts

SESSION = "session_id"
"""Where LlamaIndex's `Memory` says of which conversation a message is."""


def count_tokens(text: str) -> int:
    """How many tokens a text has, by LlamaIndex's global tokenizer."""
    return len(get_tokenizer()(text))


def fit_messages(
    messages: Sequence[ChatMessage], **settings: Unpack[ContextSettings]
) -> list[ChatMessage]:
    """Keep what the next call needs most of a conversation, under a budget of tokens.

    What is kept, and in which order, says `crossroute.context.fit_context`. A message may say the
    stage at which it was written in `additional_kwargs["stage"]`.

    Args:
        messages: The whole conversation; its last user turn is the question.
        settings: Those of `fit_context`; `count` is LlamaIndex's global tokenizer if not given.

    Returns:
        The messages that are kept, the same objects.

    Raises:
        ContextError: If what always stays is more than the budget.
        QueryError: If these are no messages.
        ConstraintError: If a setting makes no sense.
    """
    given: ContextSettings = {"count": count_tokens, **settings}
    return [messages[place] for place in fit_context(messages_as_dicts(messages), **given).kept]


class FitContextMemoryBlock(BaseMemoryBlock[list[ChatMessage]]):
    """Keeps the messages that LlamaIndex's `Memory` flushes, and gives back those that are needed.

        block = FitContextMemoryBlock(budget_tokens=1_000)
        memory = Memory.from_defaults(token_limit=8_000, memory_blocks=[block])

    They are put before the short-term memory, in their order; tool calls and their results come
    together or not at all. Nothing is summed up, and no LLM is asked. What it keeps is lost with
    the process, unless `stored` is saved.

    Attributes:
        budget_tokens: What it gives back at most, with four tokens a message for its frame.
        role: What whoever gets the messages does, in words.
        stage: As in `crossroute.context.fit_context`.
        count: How many tokens a text has; LlamaIndex's global tokenizer if None.
        weights: Of the parts of a score.
        attention: Compares texts; the shipped encoder's if None.
        stored: The messages of each conversation, by its session id.

    Raises:
        ValidationError: If an attribute is of another type.
        ConstraintError: When asked, if an attribute makes no sense.
        ContextError: When asked, if the flushed system prompts are more than the budget.
    """

    name: str = Field(default="EarlierMessages")
    budget_tokens: int = Field(ge=1, strict=True)
    role: str | None = None
    stage: str | dict[str, float] | None = None
    count: Callable[[str], float] | None = Field(default=None, exclude=True)
    weights: ContextWeights = Field(default=ContextWeights(), exclude=True)
    attention: TextAttention | None = Field(default=None, exclude=True)
    stored: dict[str, list[ChatMessage]] = Field(default_factory=dict)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        for message in messages:
            others = dict(message.additional_kwargs)
            session = str(others.pop(SESSION, ""))
            # Models would be sent the mark as an argument of theirs.
            kept = message.model_copy(update={"additional_kwargs": others})
            self.stored.setdefault(session, []).append(kept)

    async def _aget(
        self,
        messages: list[ChatMessage] | None = None,
        session_id: str | None = None,
        **block_kwargs: Any,  # noqa: ARG002  # Of other blocks.
    ) -> list[ChatMessage]:
        stored = list(self.stored.get(session_id or "", ()))
        turns = [one for one in messages or () if one.role == MessageRole.USER]
        question = turns[-1] if turns else ChatMessage("", role=MessageRole.USER)
        return await asyncio.to_thread(self._fitted, stored, question, self.budget_tokens)

    async def atruncate(
        self, content: list[ChatMessage], tokens_to_truncate: int
    ) -> list[ChatMessage] | None:
        """Give up what was scored least, so that at least so many tokens are saved."""
        # `Memory` counts a message without its frame.
        tokens = sum(
            message_tokens(one, self._count) - MESSAGE_TOKENS for one in messages_as_dicts(content)
        )
        room = tokens - tokens_to_truncate
        if room < 1:
            return None
        blank = ChatMessage("", role=MessageRole.USER)
        try:
            return await asyncio.to_thread(self._fitted, content, blank, room) or None
        except ContextError:
            # So that the memory gives up the whole block.
            return None

    @property
    def _count(self) -> Callable[[str], float]:
        return count_tokens if self.count is None else self.count

    def _fitted(
        self, messages: list[ChatMessage], question: ChatMessage, budget: int
    ) -> list[ChatMessage]:
        # The question is not given back: its own tokens come on top.
        more = message_tokens(messages_as_dicts([question])[0], self._count)
        try:
            return fit_messages(
                [*messages, question],
                budget_tokens=budget + more,
                role=self.role,
                stage=self.stage,
                count=self._count,
                weights=self.weights,
                attention=self.attention,
            )[:-1]
        except ContextError as error:
            raise ContextError(error.tokens - more, budget) from None


def messages_as_dicts(messages: Sequence[ChatMessage]) -> list[Message]:
    """Messages in OpenAI's dict form, with what says which result belongs to which call."""
    found: list[Message] = []
    for message, read in zip(messages, to_dicts(messages), strict=True):
        others = message.additional_kwargs
        names = ("stage", "name", "tool_call_id")
        more: dict[str, Any] = {name: others[name] for name in names if name in others}
        found.append({**read, **more})
    return found
