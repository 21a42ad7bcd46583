"""What bounds a strategy of several asks: room in the context windows, and the call's limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from crossroute.constraints import shortcomings
from crossroute.decision import CandidateScore
from crossroute.query import Message
from crossroute.strategies.base import Ask, Task
from crossroute.strategies.bill import more_input

ROUNDING = 1e-9


def with_room(
    task: Task, candidates: Sequence[CandidateScore], then: Sequence[Message]
) -> list[CandidateScore]:
    """The candidates whose context window takes messages beside the request.

    A request that is too long is wrong for whoever gets it, and raised past a strategy.
    """
    query = task.query
    more = more_input(Ask("", then=then))
    longer = replace(query, input_tokens=query.input_tokens + more)
    return [
        one
        for one in candidates
        if one.model not in task.pool or not shortcomings(task.pool[one.model], longer)
    ]


def exceeds_limits(task: Task, steps: Iterable[Sequence[str]]) -> bool:
    """Whether asks are expected to cost or to take more than the limits of the call.

    It goes by what is predicted of one answer of each model; a question on a draft costs and takes
    at most as much.

    Args:
        task: What is answered.
        steps: Who is asked, one step after the other; those of one step at once.
    """
    limits, asked = task.limits, [*steps]
    costs = {one.model: one.cost_usd for one in task.decision.candidates}
    usd = math.fsum(costs[model] for models in asked for model in models)
    if limits.max_cost_usd is not None and usd > limits.max_cost_usd * (1 + ROUNDING):
        return True
    if limits.max_latency_seconds is None:
        return False
    seconds = math.fsum(max(_latency(task, model) for model in models) for models in asked)
    return seconds > limits.max_latency_seconds * (1 + ROUNDING)


def _latency(task: Task, model: str) -> float:
    """The expected one of an answer, in seconds; without end where nobody knows."""
    known = task.pool[model].expected_latency_seconds if model in task.pool else None
    return math.inf if known is None else known
