"""Failover within another strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crossroute.decision import Decision
from crossroute.query import Message
from crossroute.strategies.base import Ask, Flow, Reply, Task
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
    reply: Reply | None = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as end:
            answer: Reply = end.value
            return answer
        if isinstance(step, Ask):
            step = replace(step, reason=step.reason or reason, then=then)
        reply = yield step
