"""Models whose tokens have log-probabilities, for strategies that look into streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crossroute import Query
from crossroute.failures import may_pass_elsewhere
from crossroute.strategies import (
    Ask,
    Charge,
    Ended,
    Flow,
    Reply,
    Task,
    adrive,
    charge,
    drive,
)

QUESTION = "What is 17 * 23?"


class Bit(NamedTuple):
    """A part of a stream: some text, and the log-probabilities of its tokens."""

    text: str
    logprobs: tuple[float, ...] = ()
    refused: bool = False


Said = Sequence[Bit | Exception]
Script = dict[str, Said | Callable[[Ask], Said]]


class Shown(NamedTuple):
    """What a reader gets, and whether the decision is on it."""

    model: str
    text: str
    is_marked: bool


@dataclass
class Streams:
    """A transport of such models.

    Attributes:
        script: What each says.
        asked: All asks.
        replies: Theirs.
        read: The parts of each that were read.
        closed: Models whose streams have ended or were closed.
        told: Failures.
    """

    script: Script
    asked: list[Ask] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    read: dict[str, list[str]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """Who was asked."""
        return [ask.model for ask in self.asked]

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        self.asked.append(ask)
        self.replies.append(Reply(ask.model))
        self.decisions.append(decision)
        return Exchange(self, ask, self.replies[-1])

    def report(self, failure: dict[str, Any]) -> None:
        self.told.append(failure)

    async def areport(self, failure: dict[str, Any]) -> None:
        self.told.append(failure)


@dataclass
class Exchange:
    """One ask of such a model."""

    streams: Streams
    ask: Ask
    reply: Reply

    def open(self) -> Iterator[Bit]:
        says = self.streams.script[self.ask.model]
        read = self.streams.read.setdefault(self.ask.model, [])
        try:
            for part in says(self.ask) if callable(says) else says:
                if isinstance(part, Exception):
                    raise part
                read.append(part.text)
                yield part
        finally:
            self.streams.closed.append(self.ask.model)

    async def aopen(self) -> AsyncIterator[Bit]:
        parts = self.open()
        try:
            for part in parts:
                await asyncio.sleep(0)
                yield part
        finally:
            parts.close()  # type: ignore[attr-defined]

    def read(self, part: Bit) -> None:
        self.reply.text += part.text
        self.reply.has_words = bool(self.reply.text.strip())
        self.reply.refused = self.reply.refused or part.refused
        if self.ask.settings.get("logprobs"):
            self.reply.logprobs += part.logprobs

    @property
    def shown(self) -> bool:
        return False

    def failure(self, error: Exception) -> str | None:
        return str(error) if may_pass_elsewhere(error) else None

    def cut(self, part: Bit, start: int, end: int | None) -> Bit | None:
        text = part.text[start:end]
        return part._replace(text=text) if text else None

    def with_metadata(self, part: Bit) -> Shown:
        return Shown(self.ask.model, part.text, is_marked=True)

    @property
    def charge(self) -> Charge:
        return charge(self.ask, self.reply, None, Query.of(QUESTION))

    def rest(self) -> Iterator[Bit]:
        return iter(())


def shown(
    task: Task,
    flow: Callable[[Task], Flow],
    streams: Streams,
    told: Callable[[Ended], None] | None = None,
    *,
    is_async: bool = False,
) -> list[Shown]:
    """All that a reader gets, in its parts."""

    async def collect() -> list[Any]:
        return [part async for part in adrive(task, flow(task), streams, told)]

    parts = asyncio.run(collect()) if is_async else [*drive(task, flow(task), streams, told)]
    return [
        one if isinstance(one, Shown) else Shown("", one.text, is_marked=False) for one in parts
    ]


def text_of(parts: Sequence[Shown]) -> str:
    """What the reader has read."""
    return "".join(part.text for part in parts)


def spelled(text: str, logprob: float | Callable[[int], float] = -0.1) -> list[Bit]:
    """A text of which each word with the space before it is a token and a part."""
    words = re.findall(r"\s*\S+|\s+\Z", text)
    of = logprob if callable(logprob) else lambda _: logprob
    return [Bit(word, (of(place),)) for place, word in enumerate(words)]
