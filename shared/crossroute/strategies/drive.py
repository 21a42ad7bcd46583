"""The two loops that ask what a strategy says, one sync and one async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

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


class EndedAsk(NamedTuple):
    """An ask of a call that has ended.

    Attributes:
        charge: What it cost.
        error: What ended it, None if it went well or was left.
        refused: Whether it was a refusal that another ask was to mend.
    """

    charge: Charge
    error: BaseException | None
    refused: bool


class Ended(NamedTuple):
    """A call that has ended, however it did.

    Attributes:
        task: What was to be answered.
        asks: Every ask, in their order, those too whose model could not be built.
        model: Id of the model that answered, or had begun to; None if none had.
        text: What was handed on of the answer.
        error: What was raised; a `GeneratorExit` or a `CancelledError` where the caller has left.
        seconds: From the decision to the end of the answer.
    """

    task: Task
    asks: Sequence[EndedAsk]
    model: str | None
    text: str
    error: BaseException | None
    seconds: float


Listener = Callable[[Ended], None]
"""Is told of a call when it has ended, in a worker thread where the call is async; it does not
raise."""


def drive(
    task: Task, flow: Flow, transport: Transport[Part], ended: Listener | None = None
) -> Generator[Part, None, None]:
    """Ask what a strategy says, and yield the parts of the answer.

    Args:
        task: What the strategy is to answer.
        flow: The strategy's generator.
        transport: Asks the models.
        ended: Is told of the call when it has ended.

    Raises:
        StrategyError: If the strategy asks what cannot be asked.
        Exception: A failure that another model would share, or one of the reply that the strategy
            gives as its answer; what was tried before stands in its notes.
    """
    call: _Call[Part] = _Call(time.monotonic())
    try:
        yield from _run(_course(task, flow, transport, call, is_async=False), transport)
    except BaseException as error:
        call.error = error
        raise
    finally:
        flow.close()
        try:
            for one in call.asked:
                # A stream that is abandoned ends now, not when it is collected.
                if hasattr(one.parts, "close"):
                    one.parts.close()
        finally:
            _note_ends(task, call.asked)
            if ended is not None:
                ended(call.ended(task))


async def adrive(
    task: Task, flow: Flow, transport: Transport[Part], ended: Listener | None = None
) -> AsyncGenerator[Part, None]:
    """`drive` without blocking the event loop."""
    call: _Call[Part] = _Call(time.monotonic())
    try:
        async for part in _arun(_course(task, flow, transport, call, is_async=True), transport):
            yield part
    except BaseException as error:
        call.error = error
        raise
    finally:
        flow.close()
        try:
            for one in call.asked:
                if hasattr(one.parts, "aclose"):
                    await one.parts.aclose()
        finally:
            _note_ends(task, call.asked)
            if ended is not None:
                # It may write to a disk, and wait for others that do.
                await asyncio.to_thread(ended, call.ended(task))


def _note_ends(task: Task, asked: Sequence[_Asked[Any]]) -> None:
    """Tell who watches a call what became of its asks, which have all ended."""
    for one in asked:
        reply = one.reply
        if task.watch is not None and reply.was_asked:
            # A request that is wrong itself is done, too, but was not answered.
            ended_well = reply.done and (one.error or reply.error) is None
            came = ended_well or reply.has_words or reply.refused
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
    error: Exception | None = None

    @property
    def reply(self) -> Reply:
        return self.exchange.reply


@dataclass(slots=True, eq=False)
class _Call(Generic[Part]):
    """A call under way: its asks, and those of which something was handed on."""

    began: float
    asked: list[_Asked[Part]] = field(default_factory=list)
    shown: list[_Asked[Part]] = field(default_factory=list)
    error: BaseException | None = None

    def ended(self, task: Task) -> Ended:
        return Ended(
            task,
            [
                EndedAsk(
                    one.exchange.charge,
                    one.error or one.reply.error,
                    one.reply.refused and one not in self.shown,
                )
                for one in self.asked
            ],
            self.shown[-1].ask.model if self.shown else None,
            "".join(one.reply.text for one in self.shown),
            self.error,
            time.monotonic() - self.began,
        )


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
    task: Task, flow: Flow, transport: Transport[Any], call: _Call[Any], *, is_async: bool
) -> _Course:
    """What a strategy says, as single steps of input and output."""
    asked = call.asked
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
            if one not in call.shown:
                call.shown.append(one)
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
    if answer not in call.shown:
        call.shown.append(answer)
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
            reply.error, reply.done = error, True
            if one.failure is not None and one.exchange.shown:
                failures.append({"model": one.ask.model, "error": one.failure})
                yield _Tell({**failures[-1], "next": None})
            if one.failure is None or one.exchange.shown:
                note(error, failures)
                raise
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
            if isinstance(step, _Pull):
                step.asked.error = raised


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
            if isinstance(step, _Pull):
                step.asked.error = raised


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
