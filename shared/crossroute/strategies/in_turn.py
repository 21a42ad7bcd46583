"""Failover within another strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crossroute.decision import Decision
from crossroute.query import Message
from crossroute.strategies.base import Flow, Task
from crossroute.strategies.each_ask import each_ask
from crossroute.strategies.pick_one import PickOne


def in_turn(
    task: Task,
    decision: Decision,
    reason: str,
    *,
    attempts: int,
    pass_refusals: bool,
    then: Sequence[Message] = (),
) -> Flow:
    """Ask some candidates as `PickOne` does, and say why.

    Args:
        task: What is to be answered.
        decision: With the candidates that are asked, in their order.
        reason: Why they are asked.
        attempts: How many of them are asked at most.
        pass_refusals: Whether a refusal passes to the next one.
        then: Messages after the caller's own.
    """
    flow = PickOne(attempts, pass_refusals).answer(replace(task, decision=decision))
    return each_ask(flow, lambda ask: replace(ask, reason=ask.reason or reason, then=then))
