"""What the tests of asks with a time limit, and of asks at once, share: models with gates.

Nothing here hangs on the clock: what is to come late comes when the test lets it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from crossroute import Query
from crossroute.failures import may_pass_elsewhere
from crossroute.models.price import Price
from crossroute.strategies import (
    Ask,
    Charge,
    Ended,
    Flow,
    Reply,
    Task,
    Usage,
    adrive,
    charge,
    drive,
)

QUESTION = "What is 4711 * 12 + 99?"
SOON = 0.1
"""A time limit that is over soon, in seconds."""
LATE = 600.0
"""One that never is."""
PATIENCE = 30.0
"""How long a test waits for what must come, in seconds."""
WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Gate:
    """A part that comes when the test opens it: the client hangs till then."""

    def __init__(self, then: str = "late") -> None:
        self.then = then
        self.event = threading.Event()

    def open(self) -> None:
        self.event.set()


class Drip:
    """Parts without end."""


Part = str | BaseException | Gate | Drip | Usage


@dataclass
class Gated:
    """A transport whose models say what a script says, up to its gates."""

    script: dict[str, list[Part]]
    price: Price | None = None
    asked: list[Ask] = field(default_factory=list)
    made: list[Exchange] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    readers: set[int] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    shown: bool = False
    passes: bool = True
    failed: int = 0
    late: Callable[[], None] = lambda: None

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        self.asked.append(ask)
        self.made.append(Exchange(self, ask, decision, Reply(ask.model)))
        return self.made[-1]

    def report(self, failure: dict[str, Any]) -> None:
        self.told.append(failure)

    async def areport(self, failure: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.told.append(failure)


@dataclass
class Exchange:
    """One ask of a gated model."""

    transport: Gated
    ask: Ask
    decision: dict[str, Any]
    reply: Reply

    def open(self) -> Iterator[str]:
        self.transport.seen.append(WHO.get())
        try:
            for part in self.transport.script[self.ask.model]:
                if isinstance(part, Gate):
                    assert part.event.wait(PATIENCE)
                    yield part.then
                elif isinstance(part, Drip):
                    while True:
                        yield "drip"
                else:
                    yield from self.said(part)
        finally:
            self.transport.closed.append(self.ask.model)

    async def aopen(self) -> AsyncIterator[str]:
        self.transport.seen.append(WHO.get())
        try:
            for part in self.transport.script[self.ask.model]:
                await asyncio.sleep(0)
                if isinstance(part, Gate):
                    while not part.event.is_set():
                        await asyncio.sleep(0.001)
                    yield part.then
                elif isinstance(part, Drip):
                    while True:
                        await asyncio.sleep(0)
                        yield "drip"
                else:
                    for one in self.said(part):
                        yield one
        finally:
            self.transport.closed.append(self.ask.model)

    def said(self, part: str | BaseException | Usage) -> Iterator[str]:
        if isinstance(part, BaseException):
            raise part
        if isinstance(part, Usage):
            self.reply.usage = part
        else:
            yield part

    def read(self, part: str) -> None:
        self.transport.read.append(part)
        self.transport.readers.add(threading.get_ident())
        self.reply.text += part
        self.reply.has_words = True

    @property
    def shown(self) -> bool:
        return self.transport.shown

    def failure(self, error: Exception) -> str | None:
        self.transport.failed += 1
        self.transport.late()
        return str(error) if self.transport.passes and may_pass_elsewhere(error) else None

    def cut(self, part: str, start: int, end: int | None) -> str | None:
        return part[start:end] or None

    def with_metadata(self, part: str) -> str:
        return f"{self.ask.model}: {part}"

    @property
    def charge(self) -> Charge:
        return charge(self.ask, self.reply, self.transport.price, Query.of(QUESTION))

    def rest(self) -> Iterator[str]:
        return iter(())


def threads() -> list[threading.Thread]:
    """Those that read streams."""
    return [thread for thread in threading.enumerate() if thread.name == "crossroute-ask"]


def let_go(transport: Gated | None = None) -> None:
    """Wait for the threads of streams that were left, whose gates are open now."""
    for thread in threads():
        thread.join(PATIENCE)
    assert threads() == []
    # One that was left at once may not even have been opened.
    assert transport is None or len(transport.closed) == len(transport.seen)


def answered(
    way: str,
    task: Task,
    flow: Callable[[Task], Flow],
    transport: Gated,
    told: Callable[[Ended], None] | None = None,
) -> list[str]:
    """The answer, after which no task is left; a fixture sees to the threads."""

    async def collect() -> list[str]:
        try:
            return [part async for part in adrive(task, flow(task), transport, told)]
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    if way == "async":
        return asyncio.run(collect())
    return list(drive(task, flow(task), transport, told))
