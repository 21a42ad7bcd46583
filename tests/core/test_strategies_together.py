"""Several asks at once, until enough is known; on models with gates."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes_strategies import (
    LATE,
    QUESTION,
    SOON,
    Drip,
    Exchange,
    Gate,
    Gated,
    answered,
    let_go,
    threads,
)

from crossroute import CrossRouter, Query, StrategyError
from crossroute.cooldown import Cooldown
from crossroute.errors import AskTimeoutError
from crossroute.guard import Guard
from crossroute.strategies import (
    Ask,
    Ended,
    Flow,
    Reply,
    Show,
    Task,
    Together,
    adrive,
    drive,
)
from crossroute.strategies.base import has_words

WAYS = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened at the end: then no thread is left."""
    gate = Gate()
    yield gate
    gate.open()
    let_go()


@pytest.fixture
def task(toy_router: CrossRouter) -> Task:
    query = Query.of(QUESTION)
    # From the best to the worst: sage, clerk, poet.
    decision = toy_router.route(query, math.inf)
    return Task(decision, query, [{"role": "user", "content": QUESTION}])


def first_of(
    enough: Callable[[Sequence[Reply]], bool] | None,
    *models: str,
    until: Callable[[Reply], bool] | None = None,
) -> Callable[[Task], Flow]:
    """Asks them at once, and returns the first that is done."""

    def flow(task: Task) -> Flow:
        asks = tuple(Ask(model, role="draft", until=until) for model in models)
        replies: Sequence[Reply] = yield Together(asks, enough)
        return next(reply for reply in replies if reply.done and not reply.failed)

    return flow


def two_done(replies: Sequence[Reply]) -> bool:
    return sum(reply.done for reply in replies) >= 2


def any_done(replies: Sequence[Reply]) -> bool:
    return any(reply.done for reply in replies)


ALL = ("sage", "clerk", "poet")


@WAYS
def test_two_of_three_are_enough(way: str, task: Task, gate: Gate) -> None:
    transport = Gated({"sage": ["It", gate], "clerk": ["391"], "poet": ["so"]})
    told: list[Ended] = []
    parts = answered(way, task, first_of(two_done, *ALL), transport, told.append)
    assert parts == ["clerk: 391"]
    left, *others = (one.reply for one in transport.made)
    assert (left.done, left.left, left.error) == (False, True, None)
    assert [(reply.done, reply.left) for reply in others] == [(True, False)] * 2
    assert transport.told == []
    # It is on the bill, as what a stream costs that was left.
    assert [(ask.charge["model"], ask.error) for ask in told[0].asks] == [
        (model, None) for model in ALL
    ]
    assert told[0].asks[0].charge["estimated"]
    assert told[0].asks[0].charge["input_tokens"] > 0
    gate.open()
    let_go(transport)
    assert "late" not in transport.read
    assert left.text in ("", "It")


@WAYS
def test_a_tuple_waits_for_all(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield tuple(Ask(model) for model in ALL)
        assert [reply.text for reply in replies] == ["It", "391", "so"]
        return replies[2]

    transport = Gated({"sage": ["It"], "clerk": ["391"], "poet": ["so"]})
    assert answered(way, task, flow, transport) == ["poet: so"]
    assert threads() == []


@WAYS
def test_enough_is_asked_of_each_that_has_ended(way: str, task: Task) -> None:
    """In the thread of the call, as all of what a strategy sees."""
    ended: list[int] = []
    where: set[int] = set()

    def enough(replies: Sequence[Reply]) -> bool:
        assert [reply.model for reply in replies] == list(ALL)
        where.add(threading.get_ident())
        ended.append(sum(reply.done or reply.text == "so" for reply in replies))
        return False

    def until(reply: Reply) -> bool:
        where.add(threading.get_ident())
        return reply.text == "so"

    transport = Gated({"sage": ["It", "is"], "clerk": [TimeoutError("slow")], "poet": ["so", "on"]})
    flow = first_of(enough, *ALL, until=until)
    assert answered(way, task, flow, transport) == ["sage: It", "sage: is"]
    # Whatever has come of those under way, one more has ended each time.
    assert len(ended) == 3
    assert ended[-1] == 3
    assert where == transport.readers == {threading.get_ident()}
    assert "on" not in transport.read


@WAYS
def test_an_error_of_enough_is_raised_and_leaves_all(way: str, task: Task, gate: Gate) -> None:
    def enough(replies: Sequence[Reply]) -> bool:
        raise KeyError("of the strategy")

    transport = Gated({"sage": [gate], "clerk": ["391"]})
    told: list[Ended] = []
    with pytest.raises(KeyError, match="of the strategy"):
        answered(way, task, first_of(enough, "sage", "clerk"), transport, told.append)
    assert transport.made[0].reply.left
    gate.open()
    let_go(transport)
    assert isinstance(told[0].error, KeyError)


@WAYS
def test_a_bug_in_one_leaves_the_others(way: str, task: Task, gate: Gate) -> None:
    transport = Gated({"sage": [gate], "clerk": [ValueError("a bug")]})
    with pytest.raises(ValueError, match="a bug"):
        answered(way, task, first_of(None, "sage", "clerk"), transport)
    assert transport.made[0].reply.left


@WAYS
def test_each_has_its_own_limit(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        hangs, drips, good = yield Together(
            (
                Ask("sage", seconds=SOON),
                Ask("clerk", seconds=2 * SOON),
                Ask("poet", seconds=LATE),
            )
        )
        assert isinstance(hangs.error, AskTimeoutError)
        assert isinstance(drips.error, AskTimeoutError)
        return good

    last = Gate("so")
    transport = Gated({"sage": [gate], "clerk": [Drip()], "poet": [last]})
    # The third one answers after the others' time is over.
    transport.late = lambda: last.open() if transport.failed == 2 else None
    assert answered(way, task, flow, transport) == ["poet: so"]
    assert [failure["model"] for failure in transport.told] == ["sage", "clerk"]


@WAYS
@pytest.mark.parametrize("shows", [True, False])
def test_what_was_left_is_no_answer(way: str, shows: bool, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield Together((Ask("sage"), Ask("clerk")), any_done)
        if shows:
            yield Show(replies[0])
        return replies[0]

    transport = Gated({"sage": ["It", gate], "clerk": ["391"]})
    with pytest.raises(StrategyError, match="reply of 'sage' that was left"):
        answered(way, task, flow, transport)


@WAYS
def test_a_race_then_a_show_then_another(way: str, task: Task, gate: Gate) -> None:
    """The first words of a race are shown, and somebody else goes on."""

    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield Together(
            (Ask("sage", until=has_words), Ask("clerk", until=has_words)),
            lambda replies: any(reply.has_words for reply in replies),
        )
        first = next(reply for reply in replies if not reply.left)
        yield Show(first)
        asks = (Ask("poet", seconds=LATE), Ask("sage"))
        replies = yield Together(asks, any_done)
        return replies[0]

    transport = Gated({"sage": [gate, "no"], "clerk": ["391", "no"], "poet": [" is", " it"]})
    parts = answered(way, task, flow, transport)
    assert parts == ["391", "poet:  is", "poet:  it"]
    assert "no" not in transport.read


@WAYS
def test_a_race_is_won_by_a_stream_that_goes_on(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield Together(
            (Ask("sage", until=has_words), Ask("clerk", until=has_words)),
            lambda replies: any(reply.has_words for reply in replies),
        )
        return next(reply for reply in replies if not reply.left)

    transport = Gated({"sage": [gate], "clerk": ["391", " it", " is"]})
    assert answered(way, task, flow, transport) == ["clerk: 391", "clerk:  it", "clerk:  is"]
    assert transport.closed.count("clerk") == 1


@WAYS
def test_who_could_not_be_asked_has_ended(way: str, task: Task, toy_router: CrossRouter) -> None:
    guard = Guard(Cooldown(failures=1), None, toy_router.pool)
    guard.admit(task.decision).watch.failed("poet", TimeoutError())
    decision, watch = guard.admit(task.decision)
    seen: list[int] = []

    def enough(replies: Sequence[Reply]) -> bool:
        seen.append(sum(reply.done for reply in replies))
        return False

    transport = Gated({"sage": ["It"], "clerk": ["391"]})
    watched = replace(task, decision=decision, watch=watch)
    flow = first_of(enough, "poet", "sage", "clerk")
    assert answered(way, watched, flow, transport) == ["sage: It"]
    assert seen == [1, 2, 3]


@WAYS
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Together(()), r"yielded or returned Together\(asks=\(\)"),
        (Together([]), "yielded or returned Together"),  # type: ignore[arg-type]
        (Together("sage"), "asks of Together is 'sage'"),  # type: ignore[arg-type]
        (Together(("sage",)), "yielded or returned 'sage'"),  # type: ignore[arg-type]
        (Together((Ask("sage"),), 2), "enough of Together is 2"),  # type: ignore[arg-type]
        (Together((Ask("sage"), Ask("gpt-9"))), "asks 'gpt-9', which is no candidate"),
        (Together((Ask("sage"), Ask("clerk", seconds=0))), "'clerk' with seconds=0"),
    ],
)
def test_what_cannot_be_asked_at_once_is_named(
    step: Together, said: str, way: str, task: Task
) -> None:
    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield step
        return replies[0]

    transport = Gated({"sage": ["It"]})
    with pytest.raises(StrategyError, match=said):
        answered(way, task, flow, transport)
    # Nobody is asked for nothing.
    assert transport.asked == []


def test_whoever_is_cancelled_leaves_no_task(task: Task, gate: Gate) -> None:
    transport = Gated({"sage": ["It", gate], "clerk": [gate]})
    told: list[Ended] = []

    async def read() -> None:
        flow = first_of(None, "sage", "clerk")
        async for _ in adrive(task, flow(task), transport, told.append):
            pass

    async def cancel() -> None:
        reading = asyncio.create_task(read())
        while "It" not in transport.read:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cancel())
    assert sorted(transport.closed) == ["clerk", "sage"]
    assert isinstance(told[0].error, asyncio.CancelledError)
    assert all(one.reply.left for one in transport.made)


def test_whoever_is_cancelled_twice_leaves_no_task(task: Task) -> None:
    """The second time while a client closes its stream."""
    closing = asyncio.Event()
    begun: list[str] = []
    ends: list[str] = []

    class Slow(Exchange):
        async def aopen(self) -> AsyncIterator[str]:
            try:
                begun.append(self.ask.model)
                await asyncio.Event().wait()
                yield ""
            finally:
                closing.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ends.append(self.ask.model)

    class Slows(Gated):
        def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
            return Slow(self, ask, decision, Reply(ask.model))

    async def read() -> None:
        flow = first_of(None, "sage", "clerk")
        async for _ in adrive(task, flow(task), Slows({})):
            pass

    async def cancel() -> None:
        reading = asyncio.create_task(read())
        while len(begun) < 2:
            await asyncio.sleep(0)
        reading.cancel()
        await closing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cancel())
    assert sorted(ends) == ["clerk", "sage"]


@WAYS
def test_a_reader_that_leaves_in_the_answer_leaves_nothing(
    way: str, task: Task, gate: Gate
) -> None:
    transport = Gated({"sage": [gate], "clerk": ["391", " it", " is"]})

    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield Together(
            (Ask("sage"), Ask("clerk", until=has_words)),
            lambda replies: replies[1].has_words,
        )
        return replies[1]

    async def leave() -> None:
        parts = adrive(task, flow(task), transport)
        assert await anext(parts) == "clerk: 391"
        await parts.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    if way == "async":
        asyncio.run(leave())
    else:
        parts = drive(task, flow(task), transport)
        assert next(parts) == "clerk: 391"
        # While the other one is executed in its thread.
        parts.close()
        assert len(threads()) <= 1
        assert all(thread.daemon for thread in threads())
    assert "clerk" in transport.closed
    assert transport.read == ["391"]


@WAYS
def test_what_a_left_stream_raises_later_is_nobodys(way: str, task: Task) -> None:
    late = Gate()
    transport = Gated({"sage": [late, ValueError("late")], "clerk": ["391"]})

    class Breaks(Exchange):
        def open(self) -> Iterator[str]:
            for part in super().open():
                if self.ask.model == "sage":
                    raise ValueError("late")
                yield part

    def exchange(ask: Ask, decision: dict[str, Any]) -> Exchange:
        transport.made.append(Breaks(transport, ask, decision, Reply(ask.model)))
        return transport.made[-1]

    transport.exchange = exchange  # type: ignore[method-assign]
    flow = first_of(any_done, "sage", "clerk")
    assert answered(way, task, flow, transport) == ["clerk: 391"]
    late.open()
    let_go()
    assert transport.made[0].reply.error is None
