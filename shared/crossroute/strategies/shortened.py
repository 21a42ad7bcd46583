"""What a strategy sees of a task, and what it says: models, and as much as they have room for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from crossroute.context.fit import fit_context
from crossroute.errors import ContextError
from crossroute.query import Query
from crossroute.strategies.base import Ask, Flow, Reply, Strategy, Task, Together
from crossroute.strategies.bill import more_input
from crossroute.strategies.pick_one import PickOne


def flow_of(strategy: Strategy, task: Task) -> Flow:
    """What a strategy does with a task, on as much of the conversation as its models have room for.

    Args:
        strategy: The strategy.
        task: What is to be answered; `shortened` of its decision says for whom it is too long.
    """
    flow = strategy.answer(_of_models(strategy, task))
    return _shortened(flow, task) if task.decision.shortened else flow


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


def _shortened(flow: Flow, task: Task) -> Flow:
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
