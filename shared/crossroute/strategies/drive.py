"""The two loops that ask what a strategy says, one sync and one async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from queue import SimpleQueue
from typing import Any

from crossroute.strategies.base import Flow, Task
from crossroute.strategies.course import (
    Asked,
    Call,
    Close,
    Course,
    Emit,
    Leave,
    Pull,
    Release,
    Tell,
    Wait,
    Want,
    course,
    note_ends,
)
from crossroute.strategies.exchange import Listener, Part, Transport
from crossroute.strategies.readers import (
    END,
    Came,
    TaskReader,
    ThreadReader,
    areceived,
    received,
)


def drive(
    task: Task, flow: Flow, transport: Transport[Part], ended: Listener | None = None
) -> Generator[Part, None, None]:
    """Ask what a strategy says, and yield the parts of the answer.

    What is asked at once or has a time limit is read in threads. None of them is left behind, but
    of a stream that is left before its client has given a part, or has failed.

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
    call: Call[Part] = Call(time.monotonic())
    try:
        yield from _run(course(task, flow, transport, call, is_async=False), transport)
    except BaseException as error:
        call.error = error
        raise
    finally:
        # Each of them, whatever the others raise; the last comes first.
        with ExitStack() as stack:
            if ended is not None:
                stack.callback(lambda: ended(call.ended(task)))
            stack.callback(note_ends, task, call.asked)
            for one in reversed(call.asked):
                # A stream that is abandoned ends now, not when it is collected.
                stack.callback(_close, one)
            stack.callback(flow.close)


async def adrive(
    task: Task, flow: Flow, transport: Transport[Part], ended: Listener | None = None
) -> AsyncGenerator[Part, None]:
    """`drive` without blocking the event loop, and with tasks in the place of threads.

    All of them have ended when it ends, however it does.
    """
    call: Call[Part] = Call(time.monotonic())
    steps = course(task, flow, transport, call, is_async=True)
    try:
        async with aclosing(_arun(steps, transport)) as parts:
            async for part in parts:
                yield part
    except BaseException as error:
        call.error = error
        raise
    finally:
        async with AsyncExitStack() as stack:
            if ended is not None:
                # It may write to a disk, and wait for others that do.
                stack.push_async_callback(lambda: asyncio.to_thread(ended, call.ended(task)))
            stack.callback(note_ends, task, call.asked)
            for one in reversed(call.asked):
                stack.push_async_callback(_aclose, one)
            stack.push_async_callback(_aleave, call.asked)
            stack.callback(flow.close)


def _run(steps: Course, transport: Transport[Part]) -> Generator[Part, None, None]:
    came: SimpleQueue[Came] = SimpleQueue()
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.send(outcome) if error is None else steps.throw(error)
        except StopIteration:
            return
        outcome = error = None
        if isinstance(step, Emit):
            yield step.part
            continue
        try:
            if isinstance(step, Pull):
                outcome = next(step.asked.parts, END)
            elif isinstance(step, Close):
                _close(step.asked)
            elif isinstance(step, Tell):
                transport.report(step.failure)
            elif isinstance(step, Want):
                for one in step.asked:
                    one.reader = one.reader or ThreadReader(one, one.parts, came)
                    one.reader.want()
            elif isinstance(step, Wait):
                outcome = received(came, step.seconds)
            elif isinstance(step, Release):
                step.asked.reader.release()
                step.asked.reader = None
            elif isinstance(step, Leave):
                for one in step.asked:
                    _close(one)
        except Exception as raised:
            error = raised
            if isinstance(step, Pull):
                step.asked.error = raised


async def _arun(steps: Course, transport: Transport[Part]) -> AsyncGenerator[Part, None]:
    came: asyncio.Queue[Came] = asyncio.Queue()
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.send(outcome) if error is None else steps.throw(error)
        except StopIteration:
            return
        outcome = error = None
        if isinstance(step, Emit):
            yield step.part
            continue
        try:
            if isinstance(step, Pull):
                outcome = await anext(step.asked.parts, END)
            elif isinstance(step, Close):
                await _aclose(step.asked)
            elif isinstance(step, Tell):
                await transport.areport(step.failure)
            elif isinstance(step, Want):
                for one in step.asked:
                    one.reader = one.reader or TaskReader(one, one.parts, came)
                    one.reader.want()
            elif isinstance(step, Wait):
                outcome = await areceived(came, step.seconds)
            elif isinstance(step, Release):
                await step.asked.reader.release()
                step.asked.reader = None
            elif isinstance(step, Leave):
                await _aleave(step.asked)
                for one in step.asked:
                    await _aclose(one)
        except Exception as raised:
            error = raised
            if isinstance(step, Pull):
                step.asked.error = raised


def _close(one: Asked[Any]) -> None:
    _note_left(one)
    if one.reader is not None:
        # The reader closes the stream: a generator that a thread executes cannot be closed here.
        one.reader.leave()
    elif hasattr(one.parts, "close"):
        one.parts.close()


async def _aclose(one: Asked[Any]) -> None:
    _note_left(one)
    if hasattr(one.parts, "aclose"):
        await one.parts.aclose()


async def _aleave(ones: Sequence[Asked[Any]]) -> None:
    """End the tasks that read streams, if there are any; then the streams can be closed."""
    read = [one for one in ones if one.reader is not None]
    for one in read:
        _note_left(one)
    try:
        await TaskReader.leave([one.reader for one in read])
    finally:
        for one in read:
            one.reader = None


def _note_left(one: Asked[Any]) -> None:
    """Note that nobody waits for the end of a stream, before it is closed and counted."""
    if one.reader is not None or not one.reply.done:
        one.reply.left = True
