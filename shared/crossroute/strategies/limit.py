"""How the driver keeps a call under its hard limit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, Protocol

from crossroute.ceiling import INPUT_MARGIN, TOOLS_FRAME_TOKENS, Ceiling
from crossroute.errors import CostLimitError, Reason, StrategyError
from crossroute.failures import has_status
from crossroute.query import LONGEST_ANSWER, given_limit
from crossroute.strategies.base import Ask, Limit, Reply, Task
from crossroute.strategies.bill import Charge, charge, made_tokens, more_input


class Exchanged(Protocol):
    """An exchange, as far as it is paid for."""

    @property
    def reply(self) -> Reply:
        """What has come of it."""
        ...

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        ...


class Spent(Protocol):
    """An ask of the call and what came of it."""

    @property
    def ask(self) -> Ask:
        """What was asked."""
        ...

    @property
    def exchange(self) -> Exchanged:
        """What came back."""
        ...


class Heard(NamedTuple):
    """An ask and its reply, for a strategy that reckons beforehand what the driver will leave it.

    Attributes:
        ask: What was asked, or is to be.
        reply: What came of it; one that is not done stands for all that it may cost yet.
        ceiling: The hard limit of the call.
    """

    ask: Ask
    reply: Reply
    ceiling: Ceiling

    @property
    def exchange(self) -> Heard:
        """What came back."""
        return self

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        price = self.ceiling.pool[self.ask.model].price
        return charge(self.ask, self.reply, price, self.ceiling.query)


def lowered(task: Task, ceiling: Ceiling | None, limit: Limit) -> Ceiling | None:
    """The lower one of two limits.

    Raises:
        StrategyError: If the new one is none.
    """
    if math.isnan(limit.usd) or limit.usd < 0:
        raise StrategyError(f"A strategy sets a limit of {limit.usd} USD; give a number from 0 up.")
    if math.isinf(limit.usd) or (ceiling is not None and ceiling.usd <= limit.usd):
        return ceiling
    if ceiling is not None:
        return replace(ceiling, usd=limit.usd, name=limit.name)
    return Ceiling(limit.usd, task.pool, task.query, limit.name, task.limits.shorten)


def limited(
    ceiling: Ceiling, ask: Ask, before: Iterable[Spent], at_once: int = 1
) -> tuple[Ask, CostLimitError | None]:
    """An ask with the longest answer that the rest of the limit buys.

    Args:
        ceiling: The hard limit of the call.
        ask: What a strategy asks.
        before: The asks of the call so far.
        at_once: How many are asked at once that have no share of the rest yet, this one included.

    Returns:
        The ask, and why it cannot be asked, if it cannot.
    """
    spent = min(spent_usd(ceiling, before) + ask.reserve_usd, ceiling.usd)
    # Those that are asked with it get equal parts of what is left.
    spent += (ceiling.usd - spent) * (1 - 1 / at_once)
    found = ceiling.longest_answer(
        ask.model, spent_usd=spent, more_input=_more_input(ask), asked=given_limit(ask.settings)
    )
    if isinstance(found, Reason):
        return ask, CostLimitError(f"{ask.model} was not asked: {found.text}. Mend: {found.mend}.")
    return replace(ask, max_tokens=None if found >= LONGEST_ANSWER else found), None


def spent_usd(ceiling: Ceiling, before: Iterable[Spent]) -> float:
    """What the asks of a call have cost at most, in USD; of those that go on, what they may yet."""
    return sum(_spent_usd(ceiling, one) for one in before)


def most_usd(ceiling: Ceiling, ask: Ask, output_tokens: float) -> float:
    """What an ask with so many output tokens costs at most, in USD."""
    return ceiling.most_usd(ask.model, output_tokens, more_input=_more_input(ask))


def reserve_usd(task: Task, ask: Ask, output_tokens: float) -> float:
    """What of a call's hard limit is to be left for an ask to come: half of it at most, in USD.

    Args:
        task: What is answered.
        ask: The ask, with about what it adds to the messages.
        output_tokens: How long its answer may be.
    """
    ceiling = task.ceiling
    return 0.0 if ceiling is None else min(most_usd(ceiling, ask, output_tokens), ceiling.usd / 2)


def _more_input(ask: Ask) -> float:
    # The margin is one of the tokenizers, which what providers put around tools does not need.
    return more_input(ask) + bool(ask.tools) * TOOLS_FRAME_TOKENS / INPUT_MARGIN


def _spent_usd(ceiling: Ceiling, one: Spent) -> float:
    """What an ask has cost at most; of one that goes on, what it may cost yet."""
    ask, reply = one.ask, one.exchange.reply
    more = _more_input(ask)
    # A refusal that is not read to its end says no more.
    # What was left may go on, at the provider or in its client.
    if reply.left or (not reply.done and not reply.refused):
        return ceiling.most_usd(ask.model, ask.max_tokens or 0, more_input=more)
    if not reply.was_asked:
        return 0.0
    if not (charge := one.exchange.charge)["estimated"] or reply.cost_usd is not None:
        return charge["cost_usd"] or 0.0
    if reply.error is not None and not reply.text and has_status(reply.error):
        return 0.0
    # Nobody has counted, as of a stream that broke: what was sent, and what came.
    came = INPUT_MARGIN * made_tokens(reply)
    if ask.tools and (reply.failed or not all(call.arguments for call in reply.tool_calls)):
        # What a call says that has not come whole, or cannot be read, may be all of the answer.
        came = max(came, ask.max_tokens or 0)
    return ceiling.most_usd(ask.model, came, more_input=more)
