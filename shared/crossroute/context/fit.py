"""fit_context: of a conversation, what the next call needs, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypedDict

from crossroute.context.scores import (
    DEFAULT_WEIGHTS,
    ContextWeights,
    Item,
    Stage,
    choose,
)
from crossroute.context.tokens import Count, check_function, count_tokens, message_tokens
from crossroute.context.units import Unit, calls_of, units_of
from crossroute.errors import ConstraintError, ContextError, shortened
from crossroute.models.descriptor import ModelDescriptor
from crossroute.network.text_attention import TextAttention
from crossroute.query import SYSTEM_ROLES, USER_ROLES, Message, check_messages, content_text
from crossroute.strategies.checks import check_count

STEPS = 4
"""So often what is kept may change while a tool loop fills the budget."""


class ScoreSettings(TypedDict, total=False):
    """What parts of a context are scored and counted by; `fit_context` explains each."""

    role: str | None
    stage: Stage | None
    count: Count
    weights: ContextWeights
    attention: TextAttention | None


class ContextSettings(ScoreSettings, total=False):
    """The settings of `fit_context`, which explains each."""

    budget_tokens: int | None
    model: ModelDescriptor | None


@dataclass(frozen=True, slots=True)
class FittedContext:
    """What is left of a conversation, and why.

    Attributes:
        messages: Those that are kept: the caller's own objects, in their order.
        kept: Their positions.
        dropped: Why each other message was dropped, by its position.
        tokens: Of those that are kept.
        tokens_before: Of all.
        budget_tokens: What they may have.
    """

    messages: list[Message]
    kept: tuple[int, ...]
    dropped: Mapping[int, str]
    tokens: int
    tokens_before: int
    budget_tokens: int


def fit_context(
    messages: Sequence[Message],
    *,
    budget_tokens: int | None = None,
    model: ModelDescriptor | None = None,
    role: str | None = None,
    stage: Stage | None = None,
    count: Count = count_tokens,
    weights: ContextWeights = DEFAULT_WEIGHTS,
    attention: TextAttention | None = None,
) -> FittedContext:
    """Keep what the next call needs most of a conversation, under a budget of tokens.

    System prompts, the last user turn and everything after it always stay. A tool call and its
    results are kept or dropped together; a result whose call is not there is dropped, wherever it
    stands. The rest is scored by what it has to do with the last question and with the role, by
    stage and by recency, and kept from the highest score on as long as there is room. What is kept
    stays as it is, in its order. Where all of it fits, all of it is kept. In a tool loop, what is
    kept of the rest changes only each time that the loop has grown by a quarter of the budget, so
    that a provider's prompt cache is of use in between.

    Args:
        messages: In OpenAI's dict form. A message may say the `stage` at which it was written, by
            that name or in its `metadata`.
        budget_tokens: What the messages may have together, with `MESSAGE_TOKENS` each for their
            frame. Descriptions of tools are not among them.
        model: Who gets the messages; they have to fit its context window, beside an answer. The
            smaller of the two budgets holds.
        role: What whoever gets the messages does, in words: "checks the sums of an invoice".
        stage: Where the work is: messages of that stage count more. Or what each stage is worth,
            as a mapping of numbers from 0 to 1.
        count: How many tokens a text has, by the model's own tokenizer; an estimate if not given.
        weights: Of the parts of a score.
        attention: Compares texts, `TextAttention(encoder)` for an encoder of your own; that of the
            encoder that ships if None.

    Raises:
        ContextError: If what always stays is more than the budget.
        QueryError: If the messages have not that form.
        ConstraintError: If another argument makes no sense.
    """
    budget = _budget(budget_tokens, model)
    check_function(count)
    check_messages(messages)
    tokens = [message_tokens(message, count, place) for place, message in enumerate(messages)]
    units, orphans = units_of(messages)
    last = _last_turn(messages)
    fixed = {
        place
        for place, message in enumerate(messages)
        if place >= last or message["role"] in SYSTEM_ROLES
    }.difference(orphans)
    must = [unit for unit in units if not fixed.isdisjoint(unit)]
    kept = {place for unit in must for place in unit}
    room = budget - sum(tokens[place] for place in kept)
    if room < 0:
        raise ContextError(budget - room, budget)
    dropped = dict.fromkeys(
        orphans, "the tool call that it is the result of is not among the messages"
    )
    rest = [unit for unit in units if fixed.isdisjoint(unit)]
    items = [_item(messages, unit, tokens) for unit in rest]
    if sum(item.tokens for item in items) <= room:
        kept.update(place for unit in rest for place in unit)
        items = []
    told, spare = _told(tokens[last + 1 :], max(budget // STEPS, 1))
    choice = choose(
        items,
        max(room - spare, 0),
        _text(messages[last : last + 1]),
        beside=_text(messages[last + 1 : last + 1 + told]),
        role=role,
        stage=stage,
        weights=weights,
        attention=attention,
    )
    for place in choice.kept:
        kept.update(rest[place])
    for place in range(len(items)):
        if kept.isdisjoint(rest[place]):
            why = (
                f"no room for its {items[place].tokens} tokens at a score of "
                f"{choice.scores[place]:.2f}"
            )
            dropped.update(dict.fromkeys(rest[place], why))
    positions = tuple(sorted(kept))
    return FittedContext(
        messages=[messages[position] for position in positions],
        kept=positions,
        dropped=dict(sorted(dropped.items())),
        tokens=sum(tokens[position] for position in positions),
        tokens_before=sum(tokens),
        budget_tokens=budget,
    )


def _budget(budget_tokens: int | None, model: ModelDescriptor | None) -> int:
    if budget_tokens is not None:
        check_count("budget_tokens", budget_tokens)
    if not isinstance(model, ModelDescriptor | None):
        raise ConstraintError(f"model is {shortened(model)}; give a ModelDescriptor.")
    window = None if model is None else model.context_window_tokens
    if model is None or window is None:
        if budget_tokens is None:
            raise ConstraintError(
                "budget_tokens is None; give a number of tokens, or as model a descriptor that has "
                "context_window_tokens."
            )
        return budget_tokens
    room = window - model.room_for_answer
    return room if budget_tokens is None else min(budget_tokens, room)


def _told(tail: Sequence[int], step: int) -> tuple[int, int]:
    """How far what follows the last turn is read, and what of the budget is left to it.

    Args:
        tail: Tokens of its messages.
        step: Tokens by which it may grow before anything changes.

    Returns:
        Its messages up to the last full step, and tokens up to the next one; none without a tail.
    """
    steps = sum(tail) // step
    read = sum(1 for end in accumulate(tail) if end <= steps * step)
    return read, (steps + 1) * step - sum(tail) if tail else 0


def _last_turn(messages: Sequence[Message]) -> int:
    """The position of the last user turn; of the last message where there is none."""
    turns = (place for place, message in enumerate(messages) if message["role"] in USER_ROLES)
    return max(turns, default=max(len(messages) - 1, 0))


def _item(messages: Sequence[Message], unit: Unit, tokens: Sequence[int]) -> Item:
    parts = [messages[position] for position in unit]
    stages = [stage for message in parts if (stage := _stage(message))]
    needed = sum(tokens[position] for position in unit)
    return Item(_text(parts), needed, stages[0] if stages else None)


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(text for message in messages for text in _texts(message))


def _texts(message: Message) -> Iterator[str]:
    """What a message is about: ids say nothing of it."""
    yield content_text(message.get("content"))
    for call in calls_of(message):
        if isinstance(call, Mapping):
            # In OpenAI's form, or in LangChain's.
            said = call.get("function") or call
            if isinstance(said, Mapping):
                yield f"{said.get('name', '')} {said.get('arguments') or said.get('args') or ''}"


def _stage(message: Message) -> str | None:
    metadata = message.get("metadata")
    stage = message.get("stage") or (
        metadata.get("stage") if isinstance(metadata, Mapping) else None
    )
    return stage if isinstance(stage, str) else None
