"""A flow around a flow, which asks otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from crossroute.strategies.base import Ask, Flow, Reply, Together


def each_ask(flow: Flow, change: Callable[[Ask], Ask]) -> Flow:
    """What a flow does, with each of its asks changed.

    Args:
        flow: A strategy at work.
        change: Gives the ask that is made in the place of one.
    """
    sent: Any = None
    try:
        while True:
            try:
                step = flow.send(sent)
            except StopIteration as end:
                answer: Reply = end.value
                return answer
            if isinstance(step, Ask):
                step = change(step)
            elif isinstance(step, Together):
                step = replace(step, asks=tuple(map(change, step.asks)))
            elif isinstance(step, tuple):
                step = tuple(map(change, step))
            sent = yield step
    finally:
        flow.close()
