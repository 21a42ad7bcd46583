"""SharedMemory: what several agents found out, and what each of them should read of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated, Any, Self, Unpack

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from crossroute.context.fit import ScoreSettings
from crossroute.context.scores import DEFAULT_WEIGHTS, ContextWeights, Item, Stage, choose
from crossroute.context.tokens import Count, check_function, count_tokens, text_tokens
from crossroute.errors import ConstraintError, problems
from crossroute.network.text_attention import TextAttention
from crossroute.strategies.checks import check_count

Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class MemoryItem(BaseModel):
    """What an agent wrote into a shared memory.

    Attributes:
        author: Who wrote it.
        content: A text, or anything that JSON has.
        stage: At which stage of the work; None if that was not said.
        written: When.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    author: Label
    content: JsonValue
    stage: Label | None = None
    written: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        # An integer may have more digits than Python writes: a ValueError, too.
        _ = self.text
        return self

    @property
    def text(self) -> str:
        """The line that other agents read, with who wrote it, and when in the work."""
        content = self.content
        said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return f"{self.author}{f' ({self.stage})' if self.stage else ''}: {said}"


def memory_item(content: JsonValue, *, author: str, stage: str | None = None) -> MemoryItem:
    """What an agent writes, checked.

    Raises:
        ConstraintError: If the author or the stage is no name, or JSON has no such content.
    """
    given: dict[str, Any] = {"author": author, "content": content, "stage": stage}
    try:
        return MemoryItem(**given)
    except ValidationError as error:
        raise ConstraintError(f"A memory item: {problems(error, MemoryItem)}.") from error


class MemorySettings(ScoreSettings, total=False):
    """What is read of a shared memory; `fit_items` explains each."""

    budget_tokens: int | None
    question: str


def fit_items(
    items: Sequence[MemoryItem],
    *,
    budget_tokens: int | None = None,
    question: str = "",
    role: str | None = None,
    stage: Stage | None = None,
    count: Count = count_tokens,
    weights: ContextWeights = DEFAULT_WEIGHTS,
    attention: TextAttention | None = None,
) -> list[MemoryItem]:
    """The items that an agent needs most, under a budget of tokens, in their order.

    Args:
        items: In the order in which they were written.
        budget_tokens: What their texts may have together, one on a line each; None for all items.
        question: What the agent is to do next.
        role: What the agent does, in words.
        stage: Where the work is: items of that stage count more. Or what each stage is worth, as
            a mapping of numbers from 0 to 1.
        count: How many tokens a text has; an estimate if not given.
        weights: Of the parts of a score.
        attention: Compares texts; the shipped encoder's if None.

    Raises:
        ConstraintError: If an argument makes no sense.
    """
    if budget_tokens is not None:
        check_count("budget_tokens", budget_tokens)
    check_function(count)
    # With the line break after it.
    read = [Item(one.text, text_tokens(f"{one.text}\n", count), one.stage) for one in items]
    room = sum(item.tokens for item in read) if budget_tokens is None else budget_tokens
    choice = choose(
        read, room, question, role=role, stage=stage, weights=weights, attention=attention
    )
    return [items[place] for place in choice.kept]


class SharedMemory:
    """What several agents found out: each writes to it, and reads what it needs under a budget.

    For agents of one process, in as many threads as they like. `StoreMemory` of
    `langchain_crossroute` keeps the same in a store of LangGraph.

    Example:
        >>> memory = SharedMemory()
        >>> _ = memory.add("The invoice is of 4 March.", author="reader", stage="read")
        >>> _ = memory.add({"sum": 4310, "currency": "EUR"}, author="accountant", stage="check")
        >>> for item in memory.items(budget_tokens=20, question="What is the sum in EUR?"):
        ...     print(item.text)
        accountant (check): {"sum": 4310, "currency": "EUR"}
    """

    def __init__(self) -> None:
        self._items: list[MemoryItem] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, content: JsonValue, *, author: str, stage: str | None = None) -> MemoryItem:
        """Write something down.

        Args:
            content: A text, or anything that JSON has.
            author: Who writes it.
            stage: At which stage of the work.

        Raises:
            ConstraintError: If the author or the stage is no name, or JSON has no such content.
        """
        # Within the lock, so that the order is that of the times.
        with self._lock:
            item = memory_item(content, author=author, stage=stage)
            self._items.append(item)
        return item

    def items(self, **settings: Unpack[MemorySettings]) -> list[MemoryItem]:
        """The items that an agent needs most, in their order; all of them without a budget.

        Args:
            settings: Those of `fit_items`: `budget_tokens`, `question`, `role`, `stage` ...

        Raises:
            ConstraintError: If a setting makes no sense.
        """
        with self._lock:
            written = list(self._items)
        return fit_items(written, **settings)
