"""Asks with a time limit, and what those cost that are left."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes_strategies import (
    LATE,
    QUESTION,
    SOON,
    WHO,
    Drip,
    Gate,
    Gated,
    answered,
    let_go,
    threads,
)

from crossroute import Constraints, CrossRouter, Query, StrategyError
from crossroute.ceiling import Ceiling
from crossroute.cooldown import Cooldown
from crossroute.errors import AskTimeoutError, CostLimitError
from crossroute.guard import Guard
from crossroute.models.pool import ModelPool
from crossroute.models.price import Price
from crossroute.strategies import (
    Ask,
    Ended,
    Flow,
    Reply,
    Show,
    Task,
    Together,
    Usage,
    adrive,
    charge,
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


def patient(
    seconds: float | None, until: Callable[[Reply], bool] | None = None
) -> Callable[[Task], Flow]:
    """Asks one for so long, then the next."""

    def flow(task: Task) -> Flow:
        reply: Reply = yield Ask("sage", seconds=seconds, until=until)
        if reply.failed:
            reply = yield Ask("clerk")
        return reply

    return flow


@WAYS
def test_a_model_that_hangs_is_left_and_another_asked(way: str, task: Task, gate: Gate) -> None:
    transport = Gated({"sage": ["It", gate, "more"], "clerk": ["fine"]})
    assert answered(way, task, patient(SOON), transport) == ["clerk: fine"]
    late = transport.made[0].reply
    assert isinstance(late.error, AskTimeoutError)
    assert str(late.error).startswith("sage gave no answer within 0.1 s")
    assert late.done
    assert late.left
    assert transport.told == [{"model": "sage", "error": str(late.error), "next": "clerk"}]
    assert transport.made[1].decision["attempts"] == [{"model": "sage", "error": str(late.error)}]
    # What comes later is nobody's: the stream is closed instead.
    gate.open()
    let_go(transport)
    assert late.text in ("", "It")
    assert transport.read[-1] == "fine"
    assert "late" not in transport.read


@WAYS
def test_a_stream_that_drips_without_end_is_left(way: str, task: Task) -> None:
    transport = Gated({"sage": [Drip()], "clerk": ["fine"]})
    assert answered(way, task, patient(SOON), transport) == ["clerk: fine"]
    let_go(transport)
    assert transport.made[0].reply.text.startswith("drip")


@WAYS
def test_who_keeps_the_limit_answers(way: str, task: Task) -> None:
    transport = Gated({"sage": ["It", " is"]})
    assert answered(way, task, patient(LATE), transport) == ["sage: It", "sage:  is"]
    assert threads() == []
    assert not transport.made[0].reply.left
    assert transport.closed == ["sage"]


@WAYS
def test_the_limit_ends_where_the_strategy_looks(way: str, task: Task, gate: Gate) -> None:
    """After that the answer takes as long as it takes, without a thread."""
    transport = Gated({"sage": ["It", gate, "."]})
    opened: list[int] = []

    def flow(task: Task) -> Flow:
        reply: Reply = yield Ask("sage", seconds=LATE, until=has_words)
        assert (reply.text, reply.done) == ("It", False)
        opened.append(len(threads()))
        gate.open()
        return reply

    parts = answered(way, task, flow, transport)
    assert parts == ["sage: It", "sage: late", "sage: ."]
    assert opened == [0]


@WAYS
def test_as_the_answer_its_error_is_raised(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        failed: Reply = yield Ask("clerk")
        assert failed.failed
        return (yield Ask("sage", seconds=SOON))

    transport = Gated({"sage": [gate], "clerk": [ConnectionError("gone")]})
    told: list[Ended] = []
    with pytest.raises(AskTimeoutError, match=r"sage gave no answer within 0\.1 s") as caught:
        answered(way, task, flow, transport, told.append)
    (said,) = caught.value.__notes__
    assert said.startswith("CrossRoute tried, in this order: clerk: gone; sage: sage gave no")
    assert told[0].error is caught.value
    assert told[0].asks[1].error is caught.value


@WAYS
def test_a_timeout_passes_whatever_the_transport_says(way: str, task: Task, gate: Gate) -> None:
    transport = Gated({"sage": [gate], "clerk": ["fine"]}, passes=False)
    assert answered(way, task, patient(SOON), transport) == ["clerk: fine"]
    assert transport.told[0]["error"].startswith("AskTimeoutError: sage gave no answer")


@WAYS
def test_what_was_shown_within_the_call_is_not_taken_back(way: str, task: Task, gate: Gate) -> None:
    transport = Gated({"sage": [gate], "clerk": ["fine"]}, shown=True)
    with pytest.raises(AskTimeoutError):
        answered(way, task, patient(SOON), transport)
    assert [failure["next"] for failure in transport.told] == [None]


@WAYS
def test_a_failure_within_the_limit_is_the_models_own(way: str, task: Task) -> None:
    transport = Gated({"sage": ["It", TimeoutError("slow")], "clerk": ["fine"]})
    assert answered(way, task, patient(LATE), transport) == ["clerk: fine"]
    assert transport.told[0]["error"] == "slow"
    assert not transport.made[0].reply.left
    bug = Gated({"sage": ["It", ValueError("a bug")], "clerk": ["fine"]})
    with pytest.raises(ValueError, match="a bug"):
        answered(way, task, patient(LATE), bug)
    assert threads() == []


@WAYS
def test_what_is_no_failure_of_a_model_is_raised_as_it_is(way: str, task: Task) -> None:
    class Stop(BaseException):
        pass

    transport = Gated({"sage": ["It"], "clerk": ["fine"]})
    stop: Any = Stop("now")

    def until(reply: Reply) -> bool:
        raise stop

    with pytest.raises(Stop):
        answered(way, task, patient(LATE, until=until), transport)
    transport.script["sage"] = [stop]
    with pytest.raises(Stop):
        answered(way, task, patient(LATE), transport)
    assert threads() == []


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, 10**400, "5", True])
@WAYS
def test_a_limit_that_makes_no_sense_is_named(way: str, seconds: float, task: Task) -> None:
    transport = Gated({"sage": ["It"]})
    with pytest.raises(StrategyError, match=r"asks 'sage' with seconds=.*finite number above 0"):
        answered(way, task, patient(seconds), transport)
    assert transport.asked == []


@WAYS
def test_a_limit_longer_than_a_clock_can_tell_is_one(way: str, task: Task) -> None:
    assert answered(way, task, patient(1e300), Gated({"sage": ["It"]})) == ["sage: It"]


def test_without_a_limit_no_thread_reads(task: Task) -> None:
    seen: list[list[threading.Thread]] = []

    def until(reply: Reply) -> bool:
        seen.append(threads())
        return False

    answered("sync", task, patient(None, until=until), Gated({"sage": ["It"]}))
    assert seen == [[]]


@WAYS
def test_a_reader_has_the_context_of_the_call(way: str, task: Task) -> None:
    token = WHO.set("somebody")
    try:
        transport = Gated({"sage": ["It"]})
        answered(way, task, patient(LATE), transport)
    finally:
        WHO.reset(token)
    assert transport.seen == ["somebody"]


@WAYS
def test_what_is_held_of_a_late_stream_may_be_shown(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        begun: Reply = yield Ask("sage", seconds=SOON)
        yield Show(begun)
        return (yield Ask("clerk"))

    transport = Gated({"sage": ["It", gate], "clerk": ["fine"]})
    assert answered(way, task, flow, transport) in (["It", "clerk: fine"], ["clerk: fine"])


@WAYS
def test_who_rests_is_told_of_it(way: str, task: Task, toy_router: CrossRouter, gate: Gate) -> None:
    guard = Guard(Cooldown(failures=1), None, toy_router.pool)
    decision, watch = guard.admit(task.decision)
    transport = Gated({"sage": [gate], "clerk": ["fine"]})
    watched = replace(task, decision=decision, watch=watch)
    assert answered(way, watched, patient(SOON), transport) == ["clerk: fine"]
    after = guard.admit(task.decision).watch
    assert list(after.removed) == ["sage"]


# What it costs

DEAR = Price(input_usd_per_1m=2.0, output_usd_per_1m=8.0)


@WAYS
def test_a_late_ask_is_on_the_bill(way: str, task: Task, gate: Gate) -> None:
    """Also where its provider has counted something: not all of it."""
    transport = Gated({"sage": [gate], "clerk": [gate]}, price=DEAR)
    told: list[Ended] = []

    def flow(task: Task) -> Flow:
        replies: Sequence[Reply] = yield Together(
            (Ask("sage", seconds=SOON), Ask("clerk", seconds=SOON))
        )
        assert all(reply.failed for reply in replies)
        replies[0].usage = Usage(1000, 1)
        return replies[0]

    with pytest.raises(AskTimeoutError):
        answered(way, task, flow, transport, told.append)
    counted, uncounted = (ask.charge for ask in told[0].asks)
    assert counted["estimated"]
    assert uncounted["estimated"]
    assert counted["input_tokens"] == 1000
    assert uncounted["input_tokens"] == round(Query.of(QUESTION).input_tokens) > 0
    assert uncounted["cost_usd"] == pytest.approx(uncounted["input_tokens"] * 2e-6)


@WAYS
@pytest.mark.parametrize("is_answer", [False, True])
def test_a_stream_that_is_closed_where_it_was_looked_at_is_estimated(
    way: str, is_answer: bool, task: Task
) -> None:
    """A provider may count the input first, and the output as it comes."""
    transport = Gated({"sage": [Usage(1000, 1), "word " * 100, Drip()], "clerk": ["fine"]}, DEAR)
    told: list[Ended] = []

    def flow(task: Task) -> Flow:
        reply: Reply = yield Ask("sage", until=lambda reply: bool(reply.text))
        return reply if is_answer else (yield Ask("clerk"))

    async def begin() -> None:
        parts = adrive(task, flow(task), transport, told.append)
        await anext(parts)
        await parts.aclose()

    if way == "async":
        asyncio.run(begin())
    else:
        parts = drive(task, flow(task), transport, told.append)
        next(parts)
        parts.close()
    sage = told[0].asks[0].charge
    assert sage["estimated"]
    assert (sage["input_tokens"], sage["output_tokens"] > 50) == (1000, True)
    assert sage["cost_usd"] == pytest.approx(1000 * 2e-6 + sage["output_tokens"] * 8e-6)


def test_what_came_of_a_left_ask_is_charged() -> None:
    query, ask = Query.of(QUESTION), Ask("sage")
    reply = Reply("sage", "word " * 100, left=True, usage=Usage(10, 1), cost_usd=1e-9)
    found = charge(ask, reply, DEAR, query)
    assert found["output_tokens"] > 50
    assert found["cost_usd"] == pytest.approx(10 * 2e-6 + found["output_tokens"] * 8e-6)
    assert found["estimated"]
    # Its client was still built when it was left.
    unasked = charge(ask, Reply("sage", was_asked=False, left=True), DEAR, query)
    assert unasked["cost_usd"] == 0.0


def test_what_a_left_ask_adds_to_the_messages_is_charged() -> None:
    query, question = Query.of(QUESTION), "Is your answer above right? Say True or False."
    then = [{"role": "assistant", "content": "56,631"}, {"role": "user", "content": question}]
    left = Reply("sage", "Tr", left=True)
    bare = charge(Ask("sage"), left, DEAR, query)["input_tokens"]
    asked = charge(Ask("sage", then=then), left, DEAR, query)["input_tokens"]
    assert asked == pytest.approx(bare + Query.of(then).input_tokens, abs=1)


@pytest.fixture
def limited(toy_router: CrossRouter) -> Task:
    """A call with a hard limit, between models at one price."""
    priced = toy_router.over(
        ModelPool(m.model_copy(update={"price": DEAR}) for m in toy_router.pool.values())
    )
    query, limits = Query.of(QUESTION), Constraints(hard_max_cost_usd=0.03)
    decision = priced.route(query, 1e9, constraints=limits)
    return Task(decision, query, [], Ceiling.of(limits, priced.pool, query))


@WAYS
@pytest.mark.parametrize("late", [True, False])
def test_what_was_left_may_cost_its_most(late: bool, way: str, limited: Task, gate: Gate) -> None:
    one, two, three = (candidate.model for candidate in limited.decision.candidates)

    def flow(task: Task) -> Flow:
        settings = {"max_tokens": 1000}
        hangs = Ask(one, settings=settings, seconds=SOON if late else None)
        replies: Sequence[Reply] = yield Together(
            (hangs, Ask(two, settings=settings)),
            None if late else lambda replies: replies[1].done,
        )
        assert replies[0].failed is late
        assert replies[0].left
        return (yield Ask(three))

    transport = Gated({one: ["It", Usage(10, 1), gate], two: ["a"], three: ["so"]}, price=DEAR)
    assert answered(way, limited, flow, transport) == [f"{three}: so"]
    ceiling = limited.ceiling
    assert ceiling is not None
    longest = [ask.max_tokens or 0 for ask in transport.asked]
    assert longest[:2] == [1000, 1000]
    # The one that is done has cost what came; the other one all that it may.
    most = ceiling.most_usd(one, longest[0]) + ceiling.most_usd(three, longest[2])
    assert most <= ceiling.usd
    assert most > 0.9 * ceiling.usd


@WAYS
def test_if_those_that_were_left_may_cost_all_nobody_else_is_asked(
    way: str, limited: Task, gate: Gate
) -> None:
    one, two, _ = (candidate.model for candidate in limited.decision.candidates)

    def flow(task: Task) -> Flow:
        yield Ask(one, seconds=SOON)
        return (yield Ask(two))

    transport = Gated({one: [gate], two: ["so"]}, price=DEAR)
    with pytest.raises(CostLimitError, match="was not asked"):
        answered(way, limited, flow, transport)
    assert two not in {one.ask.model for one in transport.made if one.reply.was_asked}


def test_tokens_with_log_probabilities_are_counted_where_nobody_says_their_number() -> None:
    query = Query.of(QUESTION)
    left = Reply("sage", text="It is", left=True, logprobs=[-0.1] * 40)
    assert charge(Ask("sage"), left, DEAR, query)["output_tokens"] == 40
    counted = Reply("sage", text="It is", done=True, usage=Usage(9, 7), logprobs=[-0.1] * 40)
    assert charge(Ask("sage"), counted, DEAR, query)["output_tokens"] == 7


def test_tools_and_their_calls_are_sent_too() -> None:
    query, left = Query.of(QUESTION), Reply("sage", text="It", left=True)
    tool = {"type": "function", "function": {"name": "clerk", "description": "Knows all. " * 20}}
    call = {"id": "1", "type": "function", "function": {"name": "clerk", "arguments": "x " * 50}}
    bare, tools, calls = (
        charge(ask, left, DEAR, query)["input_tokens"]
        for ask in (
            Ask("sage"),
            Ask("sage", tools=[tool]),
            Ask("sage", then=[{"role": "assistant", "content": None, "tool_calls": [call]}]),
        )
    )
    assert min(tools, calls) > bare + 30
