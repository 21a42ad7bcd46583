"""A hard limit on what a call costs, on a scripted transport: no framework, no input or output."""

# ruff: noqa: ANN401  # Facts of a descriptor have the types of its fields.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from crossroute import (
    Constraints,
    CostLimitError,
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    Price,
    Query,
)
from crossroute.ceiling import (
    FRAME_TOKENS,
    INPUT_MARGIN,
    LEAST_ANSWER_TOKENS,
    TOOLS_FRAME_TOKENS,
    Ceiling,
)
from crossroute.errors import Reason
from crossroute.query import LONGEST_ANSWER
from crossroute.strategies import (
    Ask,
    Charge,
    Flow,
    PickOne,
    Reply,
    Strategy,
    Task,
    Usage,
    adrive,
    charge,
    drive,
)

WAYS = ["sync", "async"]
QUESTION = "Tell me all about the sea, and leave nothing out."
DEAR = Price(input_usd_per_1m=10, output_usd_per_1m=20)


class StatusError(Exception):
    status_code = 503


def described(price: Price | None = DEAR, **facts: Any) -> dict[str, ModelDescriptor]:
    return {"a": ModelDescriptor(id="a", price=price, **facts)}


def longest(usd: float, query: Query | None = None, **facts: Any) -> int | Reason:
    query = query or Query("x", (), 100)
    return Ceiling(usd, described(**facts), query).longest_answer("a")


def text_of(found: int | Reason) -> str:
    assert isinstance(found, Reason)
    return found.text


def test_the_answer_is_what_the_rest_of_the_limit_buys() -> None:
    sent = INPUT_MARGIN * 100 + FRAME_TOKENS
    assert longest((10 * sent + 20 * 500.5) / 1e6) == 500


def test_tools_have_a_larger_frame() -> None:
    query = Query("x", (), 100, needs=frozenset({"tools"}))
    sent = INPUT_MARGIN * 100 + TOOLS_FRAME_TOKENS
    assert longest((10 * sent + 20 * 500.5) / 1e6, query) == 500


def test_reasoning_that_is_dearer_counts() -> None:
    price = Price(input_usd_per_1m=0, output_usd_per_1m=20, reasoning_output_usd_per_1m=40)
    assert longest(40 * 500.5 / 1e6, price=price) == 500


def test_a_cheaper_cache_is_not_counted_on() -> None:
    price = DEAR.model_copy(update={"cached_input_usd_per_1m": 0.1})
    assert longest(0.05, price=price) == longest(0.05)


def test_no_more_is_asked_for_than_the_model_gives() -> None:
    assert longest(1.0, max_output_tokens=4096) == 4096
    sent = round(INPUT_MARGIN * 100 + FRAME_TOKENS)
    assert longest(1.0, context_window_tokens=1000) == 1000 - sent


def test_the_callers_shorter_answer_stays() -> None:
    assert longest(1.0, Query("x", (), 100, output_tokens=7)) == 7
    # For which there is room, where there is none for an answer of the usual length.
    few = (10 * (INPUT_MARGIN * 100 + FRAME_TOKENS) + 20 * 8) / 1e6
    assert longest(few, Query("x", (), 100, output_tokens=7)) == 7
    assert "does not buy" in text_of(longest(few))


def test_a_free_model_has_no_limit() -> None:
    free = Price(input_usd_per_1m=0, output_usd_per_1m=0)
    assert longest(0.0, price=free) == LONGEST_ANSWER


def test_who_cannot_keep_it_is_removed_with_a_reason() -> None:
    input_alone = 10 * (INPUT_MARGIN * 100 + FRAME_TOKENS) / 1e6
    least = 20 * LEAST_ANSWER_TOKENS / 1e6
    assert isinstance(longest(input_alone + least * 1.01), int)
    assert f"an answer of {LEAST_ANSWER_TOKENS}" in text_of(longest(input_alone + least * 0.99))
    assert "no price is known" in text_of(longest(1.0, price=None))
    image = Query("x", (), 100, needs=frozenset({"image_input"}))
    assert "image_input" in text_of(longest(1.0, image))


def test_an_infinite_limit_is_none() -> None:
    assert Ceiling.of(Constraints(hard_max_cost_usd=float("inf")), {}, Query("x", (), 1)) is None


def test_the_router_removes_them(router: CrossRouter) -> None:
    pool = ModelPool(
        model.model_copy(update={"price": None} if model.id == "gpt-4o-2024-08-06" else {})
        for model in router.pool.values()
        if model.price is not None
    )
    routed = router.over(pool)
    decision = routed.route(QUESTION, constraints={"hard_max_cost_usd": 0.0005})
    assert "no price is known" in decision.removed["gpt-4o-2024-08-06"]
    ceiling = Ceiling(0.0005, routed.pool, Query.of(QUESTION))
    for model in routed.pool:
        able = isinstance(ceiling.longest_answer(model), int)
        assert able == (model not in decision.removed)
    with pytest.raises(NoCandidateError, match="raise hard_max_cost_usd"):
        routed.route(QUESTION, constraints={"hard_max_cost_usd": 1e-9})


# The driver


@dataclass
class Scripted:
    """Each model fails as the script says, or answers with what its `max_tokens` allow.

    What it answers costs what its provider counts: the whole of `max_tokens`, and twice the input
    that was estimated.
    """

    task: Task
    script: dict[str, Any]
    asked: list[Ask] = field(default_factory=list)
    made: list[Exchange] = field(default_factory=list)

    def exchange(self, ask: Ask, told: dict[str, Any]) -> Exchange:
        self.made.append(Exchange(self, ask, told))
        return self.made[-1]

    def report(self, failure: dict[str, Any]) -> None: ...

    async def areport(self, failure: dict[str, Any]) -> None: ...

    @property
    def cost_usd(self) -> float:
        return sum(one.charge["cost_usd"] or 0.0 for one in self.made if one.reply.was_asked)


class Exchange:
    def __init__(self, transport: Scripted, ask: Ask, told: dict[str, Any]) -> None:
        self.transport, self.ask, self.told = transport, ask, told
        self.reply = Reply(ask.model, was_asked=False)

    @property
    def charge(self) -> Charge:
        assert self.transport.task.ceiling is not None
        price = self.transport.task.ceiling.pool[self.ask.model].price
        return charge(self.ask, self.reply, price, self.transport.task.query)

    def open(self) -> Iterator[str]:
        self.reply.was_asked = True
        self.transport.asked.append(self.ask)
        for part in self.transport.script.get(self.ask.model, ["fine"]):
            if isinstance(part, Exception):
                raise part
            yield part
        # As the last part of a stream tells it.
        sent = int(INPUT_MARGIN * self.transport.task.query.input_tokens)
        self.reply.usage = Usage(sent, self.ask.max_tokens or 0)

    async def aopen(self) -> AsyncIterator[str]:
        for part in self.open():
            await asyncio.sleep(0)
            yield part

    def read(self, part: str) -> None:
        self.reply.text += part
        self.reply.has_words = True

    @property
    def shown(self) -> bool:
        return False

    def failure(self, error: Exception) -> str | None:
        return str(error)

    def with_metadata(self, part: str) -> str:
        return f"{self.ask.model}:{part}"

    def rest(self) -> Iterator[str]:
        return iter(())


@pytest.fixture
def priced(toy_router: CrossRouter) -> CrossRouter:
    """The three toy models at one price."""
    return toy_router.over(
        ModelPool(m.model_copy(update={"price": DEAR}) for m in toy_router.pool.values())
    )


def task_of(router: CrossRouter, usd: float) -> Task:
    query, limits = Query.of(QUESTION), Constraints(hard_max_cost_usd=usd)
    decision = router.route(query, 1e9, constraints=limits)
    return Task(decision, query, [], Ceiling.of(limits, router.pool, query))


def answered(way: str, strategy: Strategy, transport: Scripted) -> list[str]:
    task = transport.task

    async def collect() -> list[str]:
        return [part async for part in adrive(task, strategy.answer(task), transport)]

    if way == "async":
        return asyncio.run(collect())
    return list(drive(task, strategy.answer(task), transport))


@pytest.mark.parametrize("way", WAYS)
def test_the_one_that_is_asked_gets_all_of_it(way: str, priced: CrossRouter) -> None:
    transport = Scripted(task_of(priced, 0.01), {})
    answered(way, PickOne(), transport)
    (ask,) = transport.asked
    assert transport.task.ceiling is not None
    assert ask.max_tokens == transport.task.ceiling.longest_answer(ask.model)
    assert transport.made[0].told["max_tokens"] == ask.max_tokens
    assert 0.009 < transport.cost_usd <= 0.01


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("failure", "less"),
    [
        # A server that answers with an error has made nothing.
        ([StatusError("busy")], 0.0),
        # Of a connection that is lost, nobody knows what has been made: at least it was sent.
        ([TimeoutError("slow")], 1.0),
    ],
)
def test_the_next_gets_what_is_left(
    failure: list[Exception], less: float, way: str, priced: CrossRouter
) -> None:
    task = task_of(priced, 0.01)
    first = task.decision.model
    transport = Scripted(task, {first: failure})
    answered(way, PickOne(), transport)
    before, after = transport.asked
    assert task.ceiling is not None
    assert before.max_tokens is not None
    assert after.max_tokens is not None
    lost = less * task.ceiling.most_usd(first, 0) / DEAR.output_usd_per_1m * 1e6
    assert after.max_tokens == pytest.approx(before.max_tokens - lost, abs=1)
    assert transport.cost_usd <= 0.01


@dataclass
class Several:
    """Asks all candidates, one after the other or at once, and returns the last."""

    at_once: bool

    def answer(self, task: Task) -> Flow:
        asks = tuple(Ask(candidate.model) for candidate in task.decision.candidates)
        if self.at_once:
            replies: tuple[Reply, ...] = yield asks
            return replies[-1]
        for ask in asks:
            reply: Reply = yield ask
        return reply


@pytest.mark.parametrize("way", WAYS)
def test_asks_at_once_share_it(way: str, priced: CrossRouter) -> None:
    transport = Scripted(task_of(priced, 0.03), {})
    answered(way, Several(at_once=True), transport)
    lengths = {ask.model: ask.max_tokens or 0 for ask in transport.asked}
    assert len(lengths) == 3
    assert max(lengths.values()) - min(lengths.values()) <= 2
    assert 0.027 < transport.cost_usd <= 0.03


@pytest.mark.parametrize("way", WAYS)
def test_who_cannot_be_paid_any_more_is_not_asked(way: str, priced: CrossRouter) -> None:
    transport = Scripted(task_of(priced, 0.01), {})
    # The first has spent all that there was.
    with pytest.raises(CostLimitError, match=r"was not asked: .* does not buy") as raised:
        answered(way, Several(at_once=False), transport)
    assert len(transport.asked) == 1
    assert transport.cost_usd <= 0.01
    assert "hard_max_cost_usd" in str(raised.value)


@dataclass
class Held:
    """Leaves a stream open, asks another model, and returns to the first."""

    def answer(self, task: Task) -> Flow:
        one, two, *_ = (candidate.model for candidate in task.decision.candidates)
        first: Reply = yield Ask(one, settings={"max_tokens": 150}, until=lambda _: True)
        yield Ask(two)
        return first


@pytest.mark.parametrize("way", WAYS)
def test_what_a_stream_may_cost_yet_is_kept(way: str, priced: CrossRouter) -> None:
    task = task_of(priced, 0.01)
    transport = Scripted(task, {task.decision.model: ["a", "b"]})
    assert answered(way, Held(), transport)[-1].endswith(":b")
    # The settings of an ask are a shorter answer still.
    assert transport.asked[0].max_tokens == 150
    assert transport.cost_usd <= 0.01


def test_without_a_limit_nothing_is_limited(priced: CrossRouter) -> None:
    query = Query.of(QUESTION)
    task = Task(priced.route(query), query, [], Ceiling(1.0, priced.pool, query))
    transport = Scripted(task, {})
    unlimited = Task(task.decision, query, [])
    assert list(drive(unlimited, PickOne().answer(unlimited), transport))
    assert transport.asked[0].max_tokens is None
    assert "max_tokens" not in transport.made[0].told
