"""A flow around a flow: models that have no room for the conversation get a shorter one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from crossroute.context.fit import fit_context
from crossroute.errors import ContextError
from crossroute.query import Query
from crossroute.strategies.base import Ask, Flow, Reply, Task, Together
from crossroute.strategies.bill import more_input


def shortened_flow(flow: Flow, task: Task) -> Flow:
    """What a strategy does, on as much of the conversation as its models have room for.

    Args:
        flow: The strategy at work.
        task: What is to be answered; `shortened` of its decision says for whom it is too long.
    """
    kept: dict[int, tuple[int, ...]] = {}

    def fit(ask: Ask) -> Ask:
        """The ask, unless it says itself what it takes of the conversation."""
        if ask.keep is not None or ask.model not in task.decision.shortened:
            return ask
        # What the strategy adds, such as a draft to judge, needs room, too.
        room = task.decision.shortened[ask.model] - math.ceil(more_input(ask))
        if room not in kept:
            kept[room] = _kept(task, room)
        return replace(ask, keep=kept[room])

    sent: Any = None
    try:
        while True:
            try:
                step = flow.send(sent)
            except StopIteration as end:
                answer: Reply = end.value
                return answer
            if isinstance(step, Ask):
                step = fit(step)
            elif isinstance(step, Together):
                step = replace(step, asks=tuple(map(fit, step.asks)))
            elif isinstance(step, tuple):
                step = tuple(map(fit, step))
            sent = yield step
    finally:
        flow.close()


def _kept(task: Task, tokens: int) -> tuple[int, ...]:
    """Positions of what is kept of the conversation, where the request may have so many tokens."""
    # Tools and schemas are sent as they are.
    beside = task.query.input_tokens - Query.of(task.messages).input_tokens
    budget = max(round(tokens - beside), 1)
    try:
        return fit_context(task.messages, budget_tokens=budget).kept
    except ContextError as error:
        # It is counted otherwise there: what always stays is a little more.
        return fit_context(task.messages, budget_tokens=error.tokens).kept
