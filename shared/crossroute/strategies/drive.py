"""The two loops that ask what a strategy says, one sync and one async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from crossroute.errors import CrossRouteError, StrategyError, shortened
from crossroute.failures import REFUSED, Failure, decision_after, note
from crossroute.strategies.base import Ask, Flow, Reply, Show, Task
from crossroute.strategies.bill import Charge
from crossroute.strategies.within import within

Part = TypeVar("Part")

_END: Any = object()


class Exchange(Protocol[Part]):
    """One ask of a framework's model, and what comes back: the framework's half.

    Attributes:
        reply: What the strategy sees of it.
    """

    reply: Reply

    def open(self) -> Iterator[Part]:
        """Ask; the parts of the answer as they come, one part where it is not streamed."""
        ...

    def aopen(self) -> AsyncIterator[Part]:
        """`open` without blocking the event loop."""
        ...

    def read(self, part: Part) -> None:
        """Note in the reply what a part says."""
        ...

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        ...

    @property
    def shown(self) -> bool:
        """Whether something of the answer was shown within the call, which is not taken back."""
        ...

    def failure(self, error: Exception) -> str | None:
        """A failure in a line of text, where another model may not share it; else None."""
        ...

    def with_metadata(self, part: Part) -> Part:
        """A part as the caller gets it: with the decision and the bill on it."""
        ...

    def rest(self) -> Iterator[Part]:
        """What the caller gets after the last part."""
        ...


class Transport(Protocol[Part]):
    """How a framework asks its models."""

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange[Part]:
        """An exchange that is not opened yet.

        Args:
            ask: What to ask.
            decision: The decision as plain values, with the model of the ask as its model.
        """
        ...

    def report(self, failure: dict[str, Any]) -> None:
        """Tell whoever listens that a candidate failed: `model`, `error`, and the `next` one."""
        ...

    async def areport(self, failure: dict[str, Any]) -> None:
        """`report` without blocking the event loop."""
        ...


def drive(task: Task, flow: Flow, transport: Transport[Part]) -> Generator[Part, None, None]:
    """Ask what a strategy says, and yield the parts of the answer.

    Args:
        task: What the strategy is to answer.
        flow: The strategy's generator.
        transport: Asks the models.

    Raises:
        StrategyError: If the strategy asks what cannot be asked.
        Exception: A failure that another model would share, or one of the reply that the strategy
            gives as its answer; what was tried before stands in its notes.
    """
    asked: list[_Asked[Part]] = []
    try:
        yield from _run(_course(task, flow, transport, asked, is_async=False), transport)
    finally:
        flow.close()
        try:
            for one in asked:
                # A stream that is abandoned ends now, not when it is collected.
                if hasattr(one.parts, "close"):
                    one.parts.close()
        finally:
            _note_ends(task, asked)


async def adrive(task: Task, flow: Flow, transport: Transport[Part]) -> AsyncGenerator[Part, None]:
    """`drive` without blocking the event loop."""
    asked: list[_Asked[Part]] = []
    try:
        async for part in _arun(_course(task, flow, transport, asked, is_async=True), transport):
            yield part
    finally:
        flow.close()
        try:
            for one in asked:
                if hasattr(one.parts, "aclose"):
                    await one.parts.aclose()
        finally:
            _note_ends(task, asked)


def _note_ends(task: Task, asked: Sequence[_Asked[Any]]) -> None:
    """Tell who watches a call what became of its asks, which have all ended."""
    for one in asked:
        reply = one.reply
        if task.watch is not None and reply.was_asked:
            came = reply.done or reply.has_words or reply.refused
            task.watch.ended(
                one.ask.model,
                answered=came and one.failure is None,
                cost_usd=one.exchange.charge["cost_usd"],
            )


@dataclass(slots=True, eq=False)
class _Asked(Generic[Part]):
    """An ask under way: its parts to come, and those that nobody was shown yet."""

    ask: Ask
    exchange: Exchange[Part]
    parts: Any
    held: list[Part]
    failure: str | None = None

    @property
    def reply(self) -> Reply:
        return self.exchange.reply


# What the loops do for a course; each is sent back what came of it, or thrown what it raised.


@dataclass(frozen=True, slots=True)
class _Pull:
    """Give the next part, `_END` after the last."""

    asked: _Asked[Any]


@dataclass(frozen=True, slots=True)
class _Close:
    asked: _Asked[Any]


@dataclass(frozen=True, slots=True)
class _Emit:
    part: Any


@dataclass(frozen=True, slots=True)
class _Tell:
    failure: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _AtOnce:
    courses: Sequence[_Course]


_Course = Generator[_Pull | _Close | _Emit | _Tell | _AtOnce, Any, None]


def _course(
    task: Task, flow: Flow, transport: Transport[Any], asked: list[_Asked[Any]], *, is_async: bool
) -> _Course:
    """What a strategy says, as single steps of input and output."""
    failures: list[Failure] = []
    candidates = [candidate.model for candidate in task.decision.candidates]

    def begin(ask: object, at_once: int = 1) -> _Asked[Any]:
        refused: CrossRouteError | None
        if not isinstance(ask, Ask):
            raise StrategyError(
                f"A strategy yielded or returned {shortened(ask)}; it yields Ask, Show or a tuple "
                "of Ask, and returns one of the replies that it was sent."
            )
        decided, refused = task.decision, None
        if task.watch is not None and ask.model in task.watch.removed:
            # No error of the strategy's: it cannot know who rests.
            decided, refused = task.watch.decision, task.watch.removed[ask.model]
        elif ask.model not in candidates:
            why = task.decision.removed.get(ask.model, "it is not in the pool")
            raise StrategyError(
                f"A strategy asks {shortened(ask.model)}, which is no candidate of this call: "
                f"{why}. The candidates are {', '.join(candidates)}."
            )
        decision = decision_after(decided, ask.model, failures)
        if refused is None and task.ceiling is not None:
            ask, refused = within(task.ceiling, ask, asked, at_once)
            decision["max_tokens"] = ask.max_tokens
        exchange = transport.exchange(ask, decision)
        one = _Asked(ask, exchange, exchange.aopen() if is_async else exchange.open(), [])
        if refused is None and task.watch is not None:
            refused = task.watch.begin(ask.model)
        if refused is not None:
            one.reply.error, one.reply.done, one.failure = refused, True, str(refused)
            one.reply.was_asked = False
        asked.append(one)
        return one

    def given_up(ones: Sequence[_Asked[Any]], step: object) -> Iterator[_Tell]:
        """What to tell of those that failed or refused, now that it is known what comes next."""
        then = step.model if isinstance(step, Ask) else None
        for one in ones:
            text = one.failure or (REFUSED if one.reply.refused and then else None)
            if text is not None:
                failures.append({"model": one.ask.model, "error": text})
                yield _Tell({**failures[-1], "next": then})

    sent: Any = None
    latest: list[_Asked[Any]] = []
    while True:
        try:
            step = flow.send(sent)
        except StopIteration as end:
            step = end.value
        yield from given_up(latest, step)
        latest = []
        if isinstance(step, Reply):
            break
        if isinstance(step, Show):
            one = _of(step.reply, asked)
            yield from (_Emit(part) for part in one.held)
            one.held, one.reply.done = [], True
            yield _Close(one)
            sent = one.reply
        elif isinstance(step, tuple) and step:
            latest = [begin(ask, len(step) - place) for place, ask in enumerate(step)]
            yield _AtOnce([_listen(one, task, failures) for one in latest])
            sent = tuple(one.reply for one in latest)
        else:
            latest = [begin(step)]
            yield from _listen(latest[0], task, failures)
            sent = latest[0].reply

    answer = _of(step, asked)
    if answer.reply.error is not None:
        note(answer.reply.error, failures)
        raise answer.reply.error
    for one in asked:
        if one is not answer:
            yield _Close(one)
    exchange = answer.exchange
    for part in answer.held:
        yield _Emit(exchange.with_metadata(part))
    while not answer.reply.done:
        try:
            part = yield _Pull(answer)
        except Exception as error:
            _note_failure(answer, task, error)
            raise
        if part is _END:
            answer.reply.done = True
        else:
            exchange.read(part)
            yield _Emit(exchange.with_metadata(part))
    yield from (_Emit(part) for part in exchange.rest())


def _of(reply: Reply, asked: Sequence[_Asked[Any]]) -> _Asked[Any]:
    """What a reply is of."""
    for one in asked:
        if one.reply is reply:
            return one
    raise StrategyError(
        f"A strategy gives a reply of {shortened(reply.model)} that it was not sent; it shows and "
        "returns those that it was."
    )


def _note_failure(one: _Asked[Any], task: Task, error: Exception) -> None:
    """Note whether another model may not share a failure; if so, tell who watches the call."""
    one.failure = one.exchange.failure(error)
    if task.watch is not None and one.failure is not None and one.reply.was_asked:
        task.watch.failed(one.ask.model, error)


def _listen(one: _Asked[Any], task: Task, failures: list[Failure]) -> _Course:
    """Read a reply up to where its strategy looks at it."""
    reply, until = one.reply, one.ask.until
    while not reply.done:
        try:
            part = yield _Pull(one)
        except Exception as error:
            _note_failure(one, task, error)
            if one.failure is not None and one.exchange.shown:
                failures.append({"model": one.ask.model, "error": one.failure})
                yield _Tell({**failures[-1], "next": None})
            if one.failure is None or one.exchange.shown:
                note(error, failures)
                raise
            reply.error, reply.done = error, True
            return
        if part is _END:
            reply.done = True
            return
        one.held.append(part)
        one.exchange.read(part)
        if until is not None and until(reply):
            return


def _run(course: _Course, transport: Transport[Part]) -> Generator[Part, None, None]:
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            step = course.send(outcome) if error is None else course.throw(error)
        except StopIteration:
            return
        outcome = error = None
        if isinstance(step, _Emit):
            yield step.part
            continue
        try:
            if isinstance(step, _Pull):
                outcome = next(step.asked.parts, _END)
            elif isinstance(step, _Close):
                if hasattr(step.asked.parts, "close"):
                    step.asked.parts.close()
            elif isinstance(step, _Tell):
                transport.report(step.failure)
            else:
                _run_at_once(step.courses, transport)
        except Exception as raised:
            error = raised


def _run_at_once(courses: Sequence[_Course], transport: Transport[Any]) -> None:
    """Each in a thread, with the context variables of this one."""

    def work(course: _Course) -> None:
        for _ in _run(course, transport):
            pass

    with ThreadPoolExecutor(len(courses), "crossroute") as pool:
        runs = [pool.submit(copy_context().run, work, course) for course in courses]
    for run in runs:
        run.result()


async def _arun(course: _Course, transport: Transport[Part]) -> AsyncGenerator[Part, None]:
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            step = course.send(outcome) if error is None else course.throw(error)
        except StopIteration:
            return
        outcome = error = None
        if isinstance(step, _Emit):
            yield step.part
            continue
        try:
            if isinstance(step, _Pull):
                outcome = await anext(step.asked.parts, _END)
            elif isinstance(step, _Close):
                if hasattr(step.asked.parts, "aclose"):
                    await step.asked.parts.aclose()
            elif isinstance(step, _Tell):
                await transport.areport(step.failure)
            else:
                await _arun_at_once(step.courses, transport)
        except Exception as raised:
            error = raised


async def _arun_at_once(courses: Sequence[_Course], transport: Transport[Any]) -> None:
    """Each in a task; the first error ends the others."""

    async def work(course: _Course) -> None:
        async for _ in _arun(course, transport):
            pass

    failed: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for course in courses:
                group.create_task(work(course))
    except ExceptionGroup as raised:
        failed = raised.exceptions[0]
    # As it is, like the error of a single ask, and not within the group as its context.
    if failed is not None:
        raise failed
