"""Strategies and what drives them, on a scripted transport: no framework, no input or output."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes_core import eventually

from crossroute import CrossRouter, Query, StrategyError
from crossroute.failures import may_pass_elsewhere
from crossroute.strategies import (
    Ask,
    Charge,
    Ended,
    Flow,
    PickOne,
    Reply,
    Show,
    Strategy,
    Task,
    adrive,
    charge,
    drive,
)

QUESTION = "What is 4711 * 12 + 99?"
WAYS = ["sync", "async"]
Part = str | Exception


@dataclass
class Scripted:
    """A transport whose models say what a script says, word by word; an exception is raised."""

    script: dict[str, list[Part]]
    asked: list[Ask] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    pulled: list[tuple[str, str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    shown: bool = False

    def exchange(self, ask: Ask, told: dict[str, Any]) -> Exchange:
        self.asked.append(ask)
        return Exchange(self, ask, told, Reply(ask.model))

    def report(self, failure: dict[str, Any]) -> None:
        self.told.append(failure)

    async def areport(self, failure: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.told.append(failure)


@dataclass
class Exchange:
    transport: Scripted
    ask: Ask
    decision: dict[str, Any]
    reply: Reply

    def open(self) -> Iterator[str]:
        try:
            for part in self.transport.script[self.ask.model]:
                self.transport.threads.add(threading.get_ident())
                if isinstance(part, Exception):
                    raise part
                self.transport.pulled.append((self.ask.model, part))
                yield part
        finally:
            self.transport.closed.append(self.ask.model)

    async def aopen(self) -> AsyncIterator[str]:
        try:
            for part in self.transport.script[self.ask.model]:
                await asyncio.sleep(0)
                if isinstance(part, Exception):
                    raise part
                self.transport.pulled.append((self.ask.model, part))
                yield part
        finally:
            self.transport.closed.append(self.ask.model)

    def read(self, part: str) -> None:
        self.reply.text += part
        self.reply.refused = self.reply.refused or part == "<refusal>"
        self.reply.has_words = self.reply.has_words or part.isalpha()

    @property
    def shown(self) -> bool:
        return self.transport.shown

    def failure(self, error: Exception) -> str | None:
        return str(error) if may_pass_elsewhere(error) else None

    def cut(self, part: str, start: int, end: int | None) -> str | None:
        return part[start:end] or None

    def with_metadata(self, part: str) -> str:
        return f"{self.decision['model'][0]}:{part}"

    @property
    def charge(self) -> Charge:
        return charge(self.ask, self.reply, None, Query.of(QUESTION))

    def rest(self) -> Iterator[str]:
        yield f"[{len(self.decision.get('attempts', []))} before]"


@pytest.fixture
def task(toy_router: CrossRouter) -> Task:
    query = Query.of(QUESTION)
    # From the best to the worst: sage, clerk, poet.
    decision = toy_router.route(query, math.inf)
    assert [c.model for c in decision.candidates] == ["sage", "clerk", "poet"]
    return Task(decision, query, [{"role": "user", "content": QUESTION}])


def answered(way: str, task: Task, strategy: Strategy, transport: Scripted) -> list[str]:
    async def collect() -> list[str]:
        return [part async for part in adrive(task, strategy.answer(task), transport)]

    if way == "async":
        return asyncio.run(collect())
    return list(drive(task, strategy.answer(task), transport))


@pytest.mark.parametrize("way", WAYS)
def test_the_preferred_candidate_answers(way: str, task: Task) -> None:
    transport = Scripted({"sage": ["", "It ", "is", " 391"]})
    assert answered(way, task, PickOne(), transport) == [
        "s:",
        "s:It ",
        "s:is",
        "s: 391",
        "[0 before]",
    ]
    assert [ask.model for ask in transport.asked] == transport.closed == ["sage"]
    assert transport.told == []


@pytest.mark.parametrize("way", WAYS)
def test_the_next_answers_up_to_the_first_word(way: str, task: Task) -> None:
    script = {
        "sage": ["", TimeoutError("slow")],
        "clerk": [ConnectionError("gone")],
        "poet": ["it"],
    }
    transport = Scripted(script)
    assert answered(way, task, PickOne(), transport) == ["p:it", "[2 before]"]
    assert transport.told == [
        {"model": "sage", "error": "slow", "next": "clerk"},
        {"model": "clerk", "error": "gone", "next": "poet"},
    ]


@pytest.mark.parametrize("way", WAYS)
def test_after_the_first_word_its_failure_is_raised(way: str, task: Task) -> None:
    transport = Scripted({"sage": ["it", TimeoutError("slow")], "clerk": ["other"]})
    with pytest.raises(TimeoutError, match="slow"):
        answered(way, task, PickOne(), transport)
    assert [ask.model for ask in transport.asked] == ["sage"]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_shown_within_a_call_is_not_taken_back(way: str, task: Task) -> None:
    transport = Scripted({"sage": [TimeoutError("slow")], "clerk": ["other"]}, shown=True)
    with pytest.raises(TimeoutError, match="slow"):
        answered(way, task, PickOne(), transport)
    assert [ask.model for ask in transport.asked] == ["sage"]
    assert transport.told == [{"model": "sage", "error": "slow", "next": None}]


@pytest.mark.parametrize("way", WAYS)
def test_a_bug_is_no_failure(way: str, task: Task) -> None:
    transport = Scripted({"sage": [TimeoutError("slow")], "clerk": [ValueError("a bug")]})
    with pytest.raises(ValueError, match="a bug") as caught:
        answered(way, task, PickOne(), transport)
    assert caught.value.__notes__ == ["CrossRoute tried, in this order: sage: slow."]
    assert [ask.model for ask in transport.asked] == ["sage", "clerk"]


@pytest.mark.parametrize("way", WAYS)
def test_if_all_fail_the_last_error_says_what_was_tried(way: str, task: Task) -> None:
    transport = Scripted({"sage": [TimeoutError("slow")], "clerk": [TimeoutError("slow")]})
    with pytest.raises(TimeoutError) as caught:
        answered(way, task, PickOne(attempts=2), transport)
    assert caught.value.__notes__ == ["CrossRoute tried, in this order: sage: slow; clerk: slow."]
    assert [failure["next"] for failure in transport.told] == ["clerk", None]


REFUSING = {"sage": ["<refusal>"], "clerk": ["<refusal>", "."], "poet": ["it"]}


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_is_an_answer_unless_it_passes(way: str, task: Task) -> None:
    assert answered(way, task, PickOne(), Scripted(REFUSING)) == ["s:<refusal>", "[0 before]"]
    passing = PickOne(pass_refusals=True)
    transport = Scripted(REFUSING)
    assert answered(way, task, passing, transport) == ["p:it", "[2 before]"]
    assert transport.told[0] == {"model": "sage", "error": "refused", "next": "clerk"}
    two = PickOne(attempts=2, pass_refusals=True)
    assert answered(way, task, two, Scripted(REFUSING)) == ["s:<refusal>", "[0 before]"]


@pytest.mark.parametrize("way", WAYS)
def test_a_reader_that_leaves_ends_the_stream(way: str, task: Task) -> None:
    transport = Scripted({"sage": ["one", "two", "three"]})

    async def leave() -> None:
        stream = adrive(task, PickOne().answer(task), transport)
        assert await anext(stream) == "s:one"
        await stream.aclose()

    if way == "async":
        asyncio.run(leave())
    else:
        stream = drive(task, PickOne().answer(task), transport)
        assert next(stream) == "s:one"
        stream.close()
    assert transport.closed == ["sage"]
    assert transport.pulled == [("sage", "one")]


@dataclass(frozen=True)
class Own:
    """A strategy from a function."""

    flow: Callable[[Task], Flow]

    def answer(self, task: Task) -> Flow:
        return self.flow(task)


@pytest.mark.parametrize("way", WAYS)
def test_a_draft_is_dropped_and_closed(way: str, task: Task) -> None:
    def cascade(task: Task) -> Flow:
        draft = yield Ask("poet", role="draft", until=lambda reply: "hm" in reply.text)
        assert draft.text == "hm"
        assert not draft.done
        return (yield Ask("sage"))

    transport = Scripted({"poet": ["hm", "well"], "sage": ["it", "is"]})
    assert answered(way, task, Own(cascade), transport) == ["s:it", "s:is", "[0 before]"]
    assert transport.closed == ["poet", "sage"] or set(transport.closed) == {"poet", "sage"}
    assert ("poet", "well") not in transport.pulled


@pytest.mark.parametrize("way", WAYS)
def test_several_are_asked_at_once(way: str, task: Task) -> None:
    def vote(task: Task) -> Flow:
        replies = yield tuple(Ask(model, role="draft") for model in ("sage", "clerk", "poet"))
        texts = [reply.text for reply in replies]
        assert [reply.failed for reply in replies] == [False, False, True]
        return max(replies[:2], key=lambda reply: texts.count(reply.text))

    transport = Scripted({"sage": ["no"], "clerk": ["391"], "poet": [TimeoutError("slow")]})
    parts = answered(way, task, Own(vote), transport)
    assert parts == ["s:no", "[0 before]"]
    assert transport.told == [{"model": "poet", "error": "slow", "next": None}]
    if way == "sync":
        assert threading.get_ident() not in transport.threads


@pytest.mark.parametrize("way", WAYS)
def test_a_bug_in_one_of_several_is_raised_as_it_is(way: str, task: Task) -> None:
    def vote(task: Task) -> Flow:
        replies = yield tuple(Ask(model, role="draft") for model in ("sage", "clerk"))
        return replies[0]

    transport = Scripted({"sage": ["it"], "clerk": [ValueError("a bug")]})
    with pytest.raises(ValueError, match="a bug"):
        answered(way, task, Own(vote), transport)
    # A thread that reads it closes it by itself; one that was not begun has nothing to close.
    eventually(lambda: transport.closed.count("sage") == (("sage", "it") in transport.pulled))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_held_is_shown_before_another_goes_on(way: str, task: Task) -> None:
    def handoff(task: Task) -> Flow:
        begun = yield Ask("poet", until=lambda reply: reply.text.endswith("."))
        shown = yield Show(begun)
        assert shown is begun
        assert begun.done
        return (yield Ask("sage", then=[{"role": "assistant", "content": begun.text}]))

    transport = Scripted({"poet": ["It", ".", "wrong"], "sage": ["is", " 391"]})
    parts = answered(way, task, Own(handoff), transport)
    assert parts == ["It", ".", "s:is", "s: 391", "[0 before]"]
    assert transport.asked[1].then == [{"role": "assistant", "content": "It."}]
    assert ("poet", "wrong") not in transport.pulled


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_a_strategy_is_raised_and_closes_what_it_asked(way: str, task: Task) -> None:
    def broken(task: Task) -> Flow:
        yield Ask("sage", until=lambda reply: True)
        raise KeyError("of the strategy")

    transport = Scripted({"sage": ["it", "is"]})
    with pytest.raises(KeyError, match="of the strategy"):
        answered(way, task, Own(broken), transport)
    assert transport.closed == ["sage"]


def nothing(task: Task) -> Flow:
    yield Ask("sage")
    return None  # type: ignore[return-value]


def words(task: Task) -> Flow:
    return (yield "sage")  # type: ignore[misc]


def none_at_once(task: Task) -> Flow:
    return (yield ())


def stranger(task: Task) -> Flow:
    return (yield Ask("gpt-9"))


def forged(task: Task) -> Flow:
    yield Ask("sage")
    return Reply("sage", text="made up")


def foreign(task: Task) -> Flow:
    return (yield Show(Reply("sage")))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (nothing, "returned None; it yields Ask"),
        (words, "yielded or returned 'sage'"),
        (none_at_once, r"yielded or returned \(\)"),
        (stranger, "asks 'gpt-9', which is no candidate.*sage, clerk, poet"),
        (forged, "that it was not sent"),
        (foreign, "that it was not sent"),
    ],
)
def test_what_no_strategy_may_do_is_named(
    flow: Callable[[Task], Flow], said: str, way: str, task: Task
) -> None:
    transport = Scripted({"sage": ["it"]})
    with pytest.raises(StrategyError, match=said):
        answered(way, task, Own(flow), transport)
    assert len(transport.closed) == len(transport.asked)


def drained(strategy: Strategy, task: Task, replies: Sequence[Reply]) -> list[str]:
    """Whom a strategy asks, by its generator alone."""
    flow, asked = strategy.answer(task), []
    try:
        ask = next(flow)
        for reply in replies:
            asked.append(ask.model)  # type: ignore[union-attr]
            ask = flow.send(reply)
    except StopIteration:
        pass
    return asked


def test_a_strategy_is_tested_without_a_driver(task: Task) -> None:
    replies = [Reply("sage", error=TimeoutError()), Reply("clerk", has_words=True)]
    assert drained(PickOne(), task, replies) == ["sage", "clerk"]


@pytest.mark.parametrize("way", WAYS)
def test_why_a_model_is_asked_stands_in_its_decision(way: str, task: Task) -> None:
    decisions: list[dict[str, Any]] = []

    class Noting(Scripted):
        def exchange(self, ask: Ask, told: dict[str, Any]) -> Exchange:
            decisions.append(told)
            return super().exchange(ask, told)

    def flow(task: Task) -> Flow:
        yield Ask("sage", reason="The best one first.")
        yield Ask("poet", reason="It was not sure.")
        return (yield Ask("clerk"))

    transport = Noting({"sage": ["it"], "poet": ["is"], "clerk": ["so"]})
    answered(way, task, Own(flow), transport)
    assert [decision.get("reason") for decision in decisions] == [
        "The best one first.",
        "It was not sure.",
        None,
    ]


# What is told of a call that has ended


def told(
    way: str, task: Task, strategy: Strategy, transport: Scripted, take: int | None = None
) -> Ended:
    """What is told, once, when the answer is read up to `take` parts, or to its end."""
    found: list[Ended] = []

    async def read() -> None:
        parts = adrive(task, strategy.answer(task), transport, found.append)
        try:
            read = 0
            async for _ in parts:
                read += 1
                if read == take:
                    break
        finally:
            assert not found or take is None
            await parts.aclose()

    if way == "async":
        asyncio.run(read())
    else:
        parts = drive(task, strategy.answer(task), transport, found.append)
        for position, _ in enumerate(parts, 1):
            assert not found
            if position == take:
                break
        parts.close()
    (one,) = found
    assert one.task is task
    assert one.seconds >= 0
    return one


def asks_of(ended: Ended) -> list[tuple[str, str, str | None, bool]]:
    return [
        (
            ask.charge["model"],
            ask.charge["role"],
            None if ask.error is None else str(ask.error),
            ask.refused,
        )
        for ask in ended.asks
    ]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_told(way: str, task: Task) -> None:
    ended = told(way, task, PickOne(), Scripted({"sage": ["It ", "is", " 391"]}))
    assert (ended.model, ended.text, ended.error) == ("sage", "It is 391", None)
    assert asks_of(ended) == [("sage", "answer", None, False)]


@pytest.mark.parametrize("way", WAYS)
def test_who_is_told_does_not_hold_up_the_event_loop(way: str, task: Task) -> None:
    threads: list[int] = []

    def tell(_: Ended) -> None:
        threads.append(threading.get_ident())

    async def read() -> None:
        transport = Scripted({"sage": ["It"]})
        assert [part async for part in adrive(task, PickOne().answer(task), transport, tell)]

    if way == "async":
        asyncio.run(read())
    else:
        list(drive(task, PickOne().answer(task), Scripted({"sage": ["It"]}), tell))
    assert (threads == [threading.get_ident()]) == (way == "sync")


@pytest.mark.parametrize("way", WAYS)
def test_failed_and_refused_asks_are_told(way: str, task: Task) -> None:
    script: dict[str, list[Part]] = {
        "sage": [TimeoutError("slow")],
        "clerk": ["<refusal>"],
        "poet": ["Fine"],
    }
    ended = told(way, task, PickOne(pass_refusals=True), Scripted(script))
    assert (ended.model, ended.text, ended.error) == ("poet", "Fine", None)
    assert asks_of(ended) == [
        ("sage", "answer", "slow", False),
        ("clerk", "answer", None, True),
        ("poet", "answer", None, False),
    ]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_is_left_is_told(way: str, task: Task) -> None:
    ended = told(way, task, PickOne(), Scripted({"sage": ["One", " two", " three"]}), take=2)
    assert (ended.model, ended.text) == ("sage", "One two")
    assert isinstance(ended.error, GeneratorExit)
    assert asks_of(ended) == [("sage", "answer", None, False)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [0, 2])
def test_an_error_is_told(before: int, way: str, task: Task) -> None:
    script: dict[str, list[Part]] = {"sage": [*["word"] * before, ValueError("wrong")]}
    found: list[Ended] = []
    transport = Scripted(script)

    async def aread() -> None:
        async for _ in adrive(task, PickOne().answer(task), transport, found.append):
            pass

    def read() -> None:
        list(drive(task, PickOne().answer(task), transport, found.append))

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(aread()) if way == "async" else read()
    (ended,) = found
    assert ended.model == ("sage" if before else None)
    assert str(ended.error) == "wrong"
    assert asks_of(ended) == [("sage", "answer", "wrong", False)]
    # Nothing is billed of a request that nobody answered.
    assert (ended.asks[0].charge["input_tokens"] > 0) == (before > 0)


@pytest.mark.parametrize("way", WAYS)
def test_drafts_are_told_and_what_is_shown_of_several_is_one_text(way: str, task: Task) -> None:
    class ShowsTwo:
        def answer(self, task: Task) -> Flow:
            yield Ask("clerk", role="draft")
            begun = yield Ask("sage", until=lambda reply: reply.has_words)
            yield Show(begun)
            return (yield Ask("poet"))

    script: dict[str, list[Part]] = {"clerk": ["No"], "sage": ["It", " is"], "poet": [" was"]}
    ended = told(way, task, ShowsTwo(), Scripted(script))
    assert (ended.model, ended.text) == ("poet", "It was")
    assert [ask[:2] for ask in asks_of(ended)] == [
        ("clerk", "draft"),
        ("sage", "answer"),
        ("poet", "answer"),
    ]


def test_a_cost_that_is_stated_says_so_unless_tokens_were_counted() -> None:
    query = Query.of(QUESTION)
    for cost_usd, a_call, found in (
        (None, 0.02, (0.02, True)),
        (0.001, 0.02, (0.001, None)),
        (None, None, (None, None)),
    ):
        reply = Reply("booking", text="Booked.", cost_usd=cost_usd)
        one = charge(Ask("booking"), reply, None, query, cost_usd_a_call=a_call)
        assert (one["cost_usd"], one.get("stated")) == found
