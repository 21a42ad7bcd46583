"""Strategies that show parts of several streams as one answer, go on with some, and set limits."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest
from fakes_strategies import LATE, QUESTION, SOON, Ended, Gate, Gated, answered, let_go

from crossroute import ConstraintError, CrossRouter, Query, StrategyError
from crossroute.ceiling import Ceiling
from crossroute.models.price import Price
from crossroute.strategies import (
    Ask,
    Drop,
    Flow,
    GoOn,
    Limit,
    PickOne,
    Reply,
    Show,
    Task,
    Together,
    Usage,
    within,
)
from crossroute.strategies.base import has_words
from crossroute.strategies.wrappers import for_call

PRICE = Price(input_usd_per_1m=1.0, output_usd_per_1m=10.0)
WAYS = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    let_go()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def task(toy_router: CrossRouter) -> Task:
    query = Query.of(QUESTION)
    decision = toy_router.route(query, math.inf)
    assert [c.model for c in decision.candidates] == ["sage", "clerk", "poet"]
    messages = [{"role": "user", "content": QUESTION}]
    priced = {m: toy_router.pool[m].model_copy(update={"price": PRICE}) for m in toy_router.pool}
    return Task(decision, query, messages, pool=priced)


def full_stop(reply: Reply) -> bool:
    return reply.text.endswith(".")


@WAYS
def test_a_stream_is_shown_up_to_somewhere_and_gone_on_with(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        reply = yield Ask("sage", until=lambda reply: len(reply.text) >= 7)
        assert reply.text == "One. Two"
        shown = yield Show(reply, end=4, close=False)
        assert shown is reply
        assert not reply.done
        (again,) = yield GoOn((reply,), lambda reply: len(reply.text) >= 12)
        assert again is reply
        assert reply.text == "One. Two. Three"
        yield Show(reply, end=9, close=False)
        return reply

    transport = Gated({"sage": ["One", ". Two", ". Three", "."]})
    # What is left of a part that was cut comes with what follows.
    assert answered(way, task, flow, transport) == [
        "One",
        ".",
        " Two",
        ".",
        "sage:  Three",
        "sage: .",
    ]


@WAYS
@pytest.mark.parametrize(("start", "rest"), [(0, ["It", " is"]), (1, ["t", " is"]), (4, ["s"])])
def test_the_beginning_of_a_reply_is_dropped(
    way: str, start: int, rest: list[str], task: Task
) -> None:
    def flow(task: Task) -> Flow:
        reply = yield Ask("sage", until=lambda reply: len(reply.text) >= 5)
        yield Show(reply, start=start, close=False)
        return reply

    told: list[Ended] = []
    transport = Gated({"sage": ["It", " is", " 391"]})
    assert answered(way, task, flow, transport, told.append) == [*rest, "sage:  391"]
    assert told[0].text == "It is 391"[start:]


@WAYS
def test_two_streams_are_one_answer(way: str, task: Task) -> None:
    """As of a handoff: up to a boundary of the one, and without what the other says again."""

    def flow(task: Task) -> Flow:
        cheap = yield Ask("poet", until=lambda reply: "wrong" in reply.text)
        yield Show(cheap, end=len("All is well."))
        assert cheap.done
        then = [{"role": "assistant", "content": "All is well."}]
        strong = yield Ask("sage", then=then, until=lambda reply: len(reply.text) > 5)
        yield Show(strong, start=len("well."), close=False)
        return strong

    told: list[Ended] = []
    transport = Gated(
        {"poet": ["All is", " well. It is wr", "ong", "!"], "sage": ["well. So", "."]}
    )
    parts = answered(way, task, flow, transport, told.append)
    assert parts == ["All is", " well.", " So", "sage: ."]
    assert transport.closed == ["poet", "sage"]
    assert "!" not in transport.read
    assert (told[0].model, told[0].text) == ("sage", "All is well. So.")


@WAYS
def test_nothing_before_the_start_is_handed_on_at_the_end(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        reply = yield Ask("sage")
        yield Show(reply, end=0, close=False)
        yield Show(reply, start=3, end=5, close=False)
        return reply

    told: list[Ended] = []
    parts = answered(way, task, flow, Gated({"sage": ["It is", " 391"]}), told.append)
    assert parts == ["is", "sage:  391"]
    assert told[0].text == "is 391"


@WAYS
def test_two_of_three_probes_go_on(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        asks = tuple(Ask(m, role="probe", until=has_words) for m in ("sage", "clerk", "poet"))
        probes = yield Together(asks)
        assert [probe.text for probe in probes] == ["a", "b", "c"]
        best = probes[:2]
        found = yield GoOn(best)
        assert found == best
        assert [(one.text, one.done) for one in found] == [("a1", True), ("b2", True)]
        return found[1]

    transport = Gated({"sage": ["a", "1"], "clerk": ["b", "2"], "poet": ["c", gate]})
    assert answered(way, task, flow, transport) == ["clerk: b", "clerk: 2"]
    assert sorted(transport.closed) == ["clerk", "poet", "sage"]


@WAYS
def test_who_goes_on_first_leaves_the_others(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        probes = yield (Ask("sage", until=has_words), Ask("clerk", until=has_words))
        found = yield GoOn(probes, enough=lambda replies: any(one.done for one in replies))
        assert [one.left for one in found] == [True, False]
        return found[1]

    transport = Gated({"sage": ["a", gate], "clerk": ["b", "2"]})
    assert answered(way, task, flow, transport) == ["clerk: b", "clerk: 2"]


@WAYS
def test_a_stream_that_fails_while_it_goes_on(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        reply = yield Ask("poet", until=full_stop)
        yield Show(reply, close=False)
        (reply,) = yield GoOn((reply,))
        assert reply.failed
        return (yield Ask("sage"))

    transport = Gated({"poet": ["So.", TimeoutError("slow")], "sage": [" It is."]})
    assert answered(way, task, flow, transport) == ["So.", "sage:  It is."]
    assert transport.told == [{"model": "poet", "error": "slow", "next": "sage"}]


@WAYS
def test_one_that_is_done_stays_as_it_is(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        replies = yield (Ask("sage"), Ask("clerk", until=has_words))
        found = yield GoOn(replies)
        assert [one.text for one in found] == ["It", "I think"]
        return found[0]

    transport = Gated({"sage": ["It"], "clerk": ["I", " think"]})
    assert answered(way, task, flow, transport) == ["sage: It"]


@WAYS
def test_what_is_dropped_is_closed_at_once(way: str, task: Task, gate: Gate) -> None:
    closed: list[str] = []

    def flow(task: Task) -> Flow:
        asks = tuple(Ask(m, role="probe", until=has_words) for m in ("sage", "clerk", "poet"))
        first, *others = yield asks
        dropped = yield Drop(tuple(others))
        assert dropped == tuple(others)
        assert [(one.left, one.done) for one in others] == [(True, False)] * 2
        assert sorted(transport.closed) == ["clerk", "poet"]
        closed.extend(transport.closed)
        (again,) = yield GoOn((first,))
        return again

    transport = Gated(
        {"sage": ["a", "1"], "clerk": ["b", gate], "poet": [Usage(7, 1), "cc", gate]}, price=PRICE
    )
    told: list[Ended] = []
    assert answered(way, task, flow, transport, told.append) == ["sage: a", "sage: 1"]
    assert closed
    # Counted up to somewhere only.
    assert [ask.charge["estimated"] for ask in told[0].asks] == [True] * 3
    assert told[0].asks[2].charge["input_tokens"] == 7
    assert told[0].text == "a1"


@WAYS
@pytest.mark.parametrize(("first", "then"), [(SOON, None), (LATE, SOON), (SOON, math.inf)])
def test_who_goes_on_may_have_another_time_limit(
    way: str, first: float, then: float | None, task: Task, gate: Gate
) -> None:
    def flow(task: Task) -> Flow:
        probe = yield Ask("sage", role="probe", until=has_words, seconds=first)
        if then == math.inf:
            threading.Timer(3 * SOON, gate.open).start()
        (again,) = yield GoOn((probe,), seconds=then)
        return (yield Ask("clerk")) if again.failed else again

    transport = Gated({"sage": ["a", gate], "clerk": ["b"]})
    parts = answered(way, task, flow, transport)
    gate.open()
    # On a slow machine the first limit may be over before there is a word.
    late = any("within 0.1 s" in failure["error"] for failure in transport.told)
    assert late or then == math.inf
    assert parts == (["clerk: b"] if late else ["sage: a", "sage: late"])


@WAYS
def test_a_refusal_is_read_to_where_it_is_looked_at_again(way: str, task: Task) -> None:
    def flow(task: Task) -> Flow:
        reply = yield Ask("sage", role="probe", until=has_words)
        reply.refused = True
        (again,) = yield GoOn((reply,))
        assert (again.text, again.done) == ("I will not.", True)
        return again

    transport = Gated({"sage": ["I", " will", " not."]})
    assert "".join(answered(way, task, flow, transport)).replace("sage: ", "") == "I will not."


@WAYS
def test_a_time_limit_of_going_on_is_for_once(way: str, task: Task, gate: Gate) -> None:
    def flow(task: Task) -> Flow:
        replies = yield (Ask("sage", role="probe", until=has_words, seconds=SOON),)
        (reply,) = yield GoOn(replies, lambda reply: len(reply.text) >= 2, seconds=LATE)
        if not reply.failed:
            (reply,) = yield GoOn((reply,))
        assert reply.failed
        return (yield Ask("clerk"))

    transport = Gated({"sage": ["a", "b", gate], "clerk": ["c"]})
    assert answered(way, task, flow, transport) == ["clerk: c"]
    assert "within 0.1 s" in transport.told[0]["error"]


def of_nothing(task: Task) -> Flow:
    yield Ask("sage")
    yield GoOn(())
    raise AssertionError


def of_a_stranger(task: Task) -> Flow:
    yield GoOn((Reply("sage"),))
    raise AssertionError


def drops_a_stranger(task: Task) -> Flow:
    yield Drop((Reply("sage"),))
    raise AssertionError


def drops_nothing(task: Task) -> Flow:
    yield Drop(())
    raise AssertionError


def goes_on_with_no_reply(task: Task) -> Flow:
    yield Ask("sage", until=has_words)
    yield GoOn(("sage",))  # type: ignore[arg-type]
    raise AssertionError


def goes_on_twice(task: Task) -> Flow:
    reply = yield Ask("sage", until=has_words)
    yield GoOn((reply, reply))
    raise AssertionError


def gives_what_was_dropped(task: Task) -> Flow:
    reply = yield Ask("sage")
    yield Drop((reply,))
    assert not reply.left  # It had ended by itself.
    return reply


def goes_on_with_what_was_dropped(task: Task) -> Flow:
    reply = yield Ask("sage", until=has_words)
    yield Drop((reply,))
    yield GoOn((reply,))
    raise AssertionError


def no_time(task: Task) -> Flow:
    reply = yield Ask("sage", until=has_words)
    yield GoOn((reply,), seconds=0)
    raise AssertionError


def enough_of_nothing(task: Task) -> Flow:
    reply = yield Ask("sage", until=has_words)
    yield GoOn((reply,), enough=7)  # type: ignore[arg-type]
    raise AssertionError


def below_nothing(task: Task) -> Flow:
    yield Limit(-1.0, "it")
    raise AssertionError


@WAYS
@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (of_nothing, r"replies of GoOn is \(\); give a tuple"),
        (of_a_stranger, "that it was not sent"),
        (drops_nothing, r"replies of Drop is \(\); give a tuple"),
        (drops_a_stranger, "that it was not sent"),
        (goes_on_with_no_reply, "of 'sage' that it was not sent"),
        (goes_on_twice, "replies of GoOn has a reply twice; give each once"),
        (goes_on_with_what_was_dropped, "or was dropped"),
        (gives_what_was_dropped, "or was dropped"),
        (no_time, "seconds of GoOn is 0; give a number above 0"),
        (enough_of_nothing, "enough of GoOn is 7; give a function"),
        (below_nothing, "limit of -1.0 USD; give a number from 0 up"),
    ],
)
def test_what_cannot_be_done_is_said(way: str, flow: object, said: str, task: Task) -> None:
    with pytest.raises(StrategyError, match=said):
        answered(way, task, flow, Gated({"sage": ["It", "is"]}))  # type: ignore[arg-type]


# Limits


class Twice:
    """Drafts, and asks another one."""

    def answer(self, task: Task) -> Flow:
        draft = yield Ask("poet", role="draft")
        reply = yield Ask("sage")
        return draft if reply.failed else reply


def least_usd(task: Task, model: str) -> float:
    """What the limit has to be for a model to be asked at all."""
    return Ceiling(1.0, task.pool, task.query).most_usd(model, 100)


@WAYS
def test_a_limit_bounds_all_asks_together(way: str, task: Task) -> None:
    usd = least_usd(task, "sage") * 3
    transport = Gated({"poet": ["It"], "sage": ["391"]})
    assert answered(way, task, within(usd, Twice()).answer, transport) == ["sage: 391"]
    spends = Gated({"poet": ["It", Usage(10, 10**6)], "sage": ["391"]}, price=PRICE)
    assert answered(way, task, within(usd, Twice()).answer, spends) == ["poet: It"]
    # It was not asked, as nothing was left.
    assert len(spends.seen) == 1
    assert [failure["model"] for failure in spends.told] == ["sage"]
    limits = [ask.max_tokens for ask in transport.asked]
    assert all(limit is not None for limit in limits)


@WAYS
def test_an_ask_that_the_limit_does_not_pay_for_is_a_failure(way: str, task: Task) -> None:
    transport = Gated({"sage": ["391"], "clerk": ["391"], "poet": ["391"]})
    with pytest.raises(Exception, match=r"of the limit of the strategy \(within\) are left") as e:
        answered(way, task, within(0.0, PickOne()).answer, transport)
    assert type(e.value).__name__ == "CostLimitError"
    assert transport.seen == []


@WAYS
def test_the_lower_limit_stays(way: str, task: Task) -> None:
    low, high = least_usd(task, "sage") * 1.5, 1.0
    most = []
    for first, second in [(low, high), (high, low)]:
        transport = Gated({"sage": ["391"]})
        answered(way, task, within(first, within(second, PickOne())).answer, transport)
        most.append(transport.asked[0].max_tokens)
        limited = Task(
            task.decision,
            task.query,
            task.messages,
            Ceiling(first, task.pool, task.query),
            pool=task.pool,
        )
        transport = Gated({"sage": ["391"]})
        answered(way, limited, within(second, PickOne()).answer, transport)
        most.append(transport.asked[0].max_tokens)
    assert len(set(most)) == 1
    assert most[0] is not None


@pytest.mark.parametrize("usd", [-1, math.nan, math.inf, "1", True, None, 10**400])
def test_a_limit_is_a_number(usd: float) -> None:
    with pytest.raises(ConstraintError, match=r"usd is .*; give a finite number from 0 up"):
        within(usd, PickOne())


@pytest.mark.parametrize("wrong", [None, PickOne, "one"])
def test_what_is_limited_is_a_strategy(wrong: object) -> None:
    with pytest.raises(ConstraintError, match="strategy is"):
        within(1.0, wrong)  # type: ignore[arg-type]


class TakesTools(Twice):
    takes_tools = True


@pytest.mark.parametrize("is_prompt", [False, True])
@pytest.mark.parametrize("is_bound", [False, True])
def test_the_limit_stays_where_one_model_answers(is_bound: bool, is_prompt: bool) -> None:
    alone, twice, tools = PickOne(), Twice(), TakesTools()
    how = {"is_bound": is_bound, "is_prompt": is_prompt}
    gives_way = is_bound or is_prompt
    assert for_call(None, alone, **how) is alone
    assert for_call(twice, alone, **how) is (alone if gives_way else twice)
    assert for_call(tools, alone, **how) is (alone if is_prompt else tools)
    assert for_call(within(1, twice), alone, **how) == within(1, alone if gives_way else twice)
    assert for_call(within(1, tools), alone, **how) == within(1, alone if is_prompt else tools)
    assert within(1, tools).takes_tools  # type: ignore[attr-defined]
    assert not within(1, twice).takes_tools  # type: ignore[attr-defined]


@WAYS
def test_an_ask_leaves_what_is_reserved(way: str, task: Task) -> None:
    usd = least_usd(task, "sage") * 10

    def flow(task: Task) -> Flow:
        yield Limit(usd, "it")
        replies = yield (
            Ask("sage", role="draft", reserve_usd=usd / 2),
            Ask("clerk", role="draft", reserve_usd=usd / 2),
        )
        last = yield Ask("poet", reserve_usd=2 * usd)
        assert last.failed
        return replies[0]

    transport = Gated({"sage": ["It"], "clerk": ["I"], "poet": ["391"]}, price=PRICE)
    answered(way, task, flow, transport)
    *given, none = [ask.max_tokens for ask in transport.asked]
    assert none is None
    ceiling = Ceiling(usd, task.pool, task.query)
    most = [ceiling.most_usd("sage", tokens or 0) for tokens in given]
    assert most == pytest.approx([usd / 4] * 2, rel=0.02)
    assert sum(most) <= usd / 2
