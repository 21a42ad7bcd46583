"""Streams that are read beside the call itself, so that it need not wait for them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

END: Any = object()
"""Comes after the last part of a stream."""

LONGEST_WAIT = 3600.0
"""In seconds: neither locks nor event loops can wait for as long as a number may say."""


class Came(NamedTuple):
    """What came of a stream.

    Attributes:
        key: Whose stream it is.
        part: Its next part, `END` after the last.
        error: What it raised instead; None if nothing.
        at: When, by `time.monotonic`.
    """

    key: Any
    part: Any
    error: BaseException | None
    at: float


class ThreadReader:
    """Reads a stream in a thread, which has the context variables of the one that makes it.

    It reads one part for each `want`. All methods are called by one and the same thread.

    Args:
        key: Stands on what comes.
        parts: An iterator that nobody else reads before `release`.
        came: Gets what comes.
    """

    def __init__(self, key: object, parts: Any, came: SimpleQueue[Came]) -> None:  # noqa: ANN401
        self._key = key
        self._parts = parts
        self._came = came
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._lock = Lock()
        self._reads = self._is_left = False
        # A client that hangs does not hold up the end of the interpreter.
        self._thread = Thread(
            target=copy_context().run, args=(self._work,), name="crossroute-ask", daemon=True
        )
        self._thread.start()

    def want(self) -> None:
        """Read one part more."""
        self._reads = True
        self._wanted.put(True)

    def release(self) -> None:
        """End the thread, which has nothing to read; the stream stays as it is."""
        self._wanted.put(False)
        self._thread.join()

    def leave(self) -> None:
        """Close the stream: now, or as soon as its client gives the next part.

        Nothing that it gives later is passed on.
        """
        with self._lock:
            if self._is_left:
                return
            self._is_left, is_free = True, not self._reads
        self._wanted.put(False)
        if is_free:
            self._thread.join()

    def _work(self) -> None:
        while self._wanted.get() and not self._is_left:
            part, error = END, None
            try:
                part = next(self._parts, END)
            except BaseException as raised:
                # Of any kind: whoever wants the part raises it.
                error = raised
            with self._lock:
                self._reads = False
                if not self._is_left:
                    self._came.put(Came(self._key, part, error, time.monotonic()))
                    continue
            _note_late(error)
            break
        if self._is_left and hasattr(self._parts, "close"):
            try:
                self._parts.close()
            except Exception as raised:
                _note_late(raised)


class TaskReader:
    """`ThreadReader` in a task of the event loop."""

    def __init__(self, key: object, parts: Any, came: asyncio.Queue[Came]) -> None:  # noqa: ANN401
        self._key = key
        self._parts = parts
        self._came = came
        self._wanted: asyncio.Queue[bool] = asyncio.Queue()
        self._is_left = False
        self._task = asyncio.create_task(self._work(), name="crossroute-ask")

    def want(self) -> None:
        """Read one part more."""
        self._wanted.put_nowait(True)

    async def release(self) -> None:
        """End the task, which has nothing to read; the stream stays as it is."""
        self._wanted.put_nowait(False)
        await self._task

    @staticmethod
    async def leave(readers: Iterable[TaskReader]) -> None:
        """Cancel the tasks, and wait for their ends; nothing that they read is passed on.

        The streams are not executed any more, and can be closed.
        """
        readers = list(readers)
        for one in readers:
            one._is_left = True
            one._task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while left := [one._task for one in readers if not one._task.done()]:
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError as error:
                # Also whoever is cancelled once more leaves no task behind.
                cancelled = error
                for task in left:
                    task.cancel()
        if cancelled is not None:
            raise cancelled

    async def _work(self) -> None:
        while await self._wanted.get():
            part, error = END, None
            try:
                part = await anext(self._parts, END)
            except BaseException as raised:
                # Of any kind: whoever wants the part raises it.
                error = raised
            if self._is_left:
                _note_late(error)
                return
            self._came.put_nowait(Came(self._key, part, error, time.monotonic()))


def received(came: SimpleQueue[Came], seconds: float) -> tuple[list[Came], float]:
    """Wait until something has come, or the seconds are over.

    Args:
        came: What readers put there.
        seconds: How long; infinite where there is no limit.

    Returns:
        All that has come, and up to when, by `time.monotonic`.
    """
    found: list[Came] = []
    with suppress(Empty):
        found.append(came.get(timeout=None if math.isinf(seconds) else min(seconds, LONGEST_WAIT)))
    return _with_the_rest(found, came)


async def areceived(came: asyncio.Queue[Came], seconds: float) -> tuple[list[Came], float]:
    """`received` without blocking the event loop."""
    found: list[Came] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(None if math.isinf(seconds) else min(seconds, LONGEST_WAIT)):
            found.append(await came.get())
    return _with_the_rest(found, came)


def _with_the_rest(
    found: list[Came], came: SimpleQueue[Came] | asyncio.Queue[Came]
) -> tuple[list[Came], float]:
    now = time.monotonic()
    while not came.empty():
        found.append(came.get_nowait())
    for one in found:
        if one.error is not None and not isinstance(one.error, Exception):
            # Such as a KeyboardInterrupt: that is for no strategy.
            raise one.error
    return found, now


def _note_late(error: BaseException | None) -> None:
    # Nobody waits for it any more, and its text may be anything.
    if error is not None and not isinstance(error, asyncio.CancelledError):
        logger.debug("A stream that was left ended with %s.", type(error).__name__)
