"""What stands around a strategy: a hard limit on a call, its fallback, what it sees of a task."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from sys import float_info

from crossroute.errors import ConstraintError, shortened
from crossroute.strategies.base import Flow, Limit, Strategy, Task, check_strategy
from crossroute.strategies.limit import lowered
from crossroute.strategies.pick_one import PickOne
from crossroute.strategies.shortened import shortened_flow


@dataclass(frozen=True, slots=True)
class _Within:
    """A strategy under a hard limit."""

    usd: float
    strategy: Strategy

    @property
    def takes_tools(self) -> bool:
        """Whether the strategy takes tools and schemas."""
        return takes_tools(self.strategy)

    def answer(self, task: Task) -> Flow:
        """What the strategy does, as far as the limit pays for it."""
        limit = Limit(self.usd, "the limit of the strategy (within)")
        yield limit
        # A strategy that plans what it spends goes by it, too.
        ceiling = lowered(task, task.ceiling, limit)
        return (yield from self.strategy.answer(replace(task, ceiling=ceiling)))


def within(usd: float, strategy: Strategy) -> Strategy:
    """A strategy of which no call costs more than a hard limit, all of its asks together.

    Each ask gets the `max_tokens` that the rest of the limit buys; one that it does not pay for is
    not made, and is a failure to the strategy (`CostLimitError`). A lower hard limit of the call
    stays. Where the strategy gives way to one model, as with tools, the limit holds as well.

    Args:
        usd: The most in USD.
        strategy: The strategy.

    Raises:
        ConstraintError: If the limit is no finite number from 0 up, or the strategy is none.
    """
    is_number = isinstance(usd, (int, float)) and not isinstance(usd, bool)
    # An integer may be larger than any number to reckon with.
    if not is_number or not 0 <= usd <= float_info.max or math.isnan(usd):
        raise ConstraintError(f"usd is {shortened(usd)}; give a finite number from 0 up.")
    if strategy is None:
        raise ConstraintError(
            "strategy is None; give one, such as crossroute.strategies.PickOne()."
        )
    check_strategy(strategy)
    return _Within(usd, strategy)


def takes_tools(strategy: Strategy) -> bool:
    """Whether a strategy says that it takes tools and schemas."""
    return bool(getattr(strategy, "takes_tools", False))


def for_call(
    strategy: Strategy | None,
    alone: Strategy,
    *,
    is_bound: bool,
    is_prompt: bool = False,
    is_agent: bool = False,
) -> Strategy:
    """The strategy that answers a call.

    Args:
        strategy: The given one; None if there is none.
        alone: The one that asks one candidate after the other.
        is_bound: Whether tools or a schema are bound to the models.
        is_prompt: Whether the call goes to one model's own way with a prompt.
        is_agent: Whether an agent, a chain, a retriever or a tool is asked first: it answers alone,
            and models only in its place.
    """
    if strategy is None:
        return alone
    is_alone = is_prompt or is_agent
    if not is_alone and (takes_tools(strategy) or not is_bound):
        return strategy
    if isinstance(strategy, _Within):
        inner = for_call(strategy.strategy, alone, is_bound=is_bound, is_prompt=is_alone)
        return replace(strategy, strategy=inner)
    return alone


def flow_of(strategy: Strategy, task: Task) -> Flow:
    """What a strategy does with a task: it asks models, for as much as they have room for.

    Args:
        strategy: The strategy.
        task: What is to be answered.
    """
    flow = strategy.answer(_of_models(strategy, task))
    return shortened_flow(flow, task) if task.decision.shortened else flow


def _of_models(strategy: Strategy, task: Task) -> Task:
    """The task as a strategy of several asks sees it, where the conversation keeps a model.

    Agents that would serve stand behind that model then; who drafts, judges or votes is a model.
    """
    decision = task.decision
    if task.kind != "model" or isinstance(strategy, PickOne) or not decision.fit:
        return task
    agents = [one.model for one in decision.candidates if one.model in decision.fit]
    if not agents:
        return task
    why = dict.fromkeys(agents, "the strategy asks models")
    return replace(task, decision=decision.without(why))
