"""What the loops tell of each ask, and who is asked after that: without a framework."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from crossroute import (
    ConstraintError,
    Cooldown,
    CrossRouter,
    DailySpend,
    DailySpendError,
    Query,
    RestingError,
    UnknownModelError,
)
from crossroute.failures import may_pass_elsewhere
from crossroute.guard import Guard
from crossroute.models.price import Price
from crossroute.strategies import (
    Ask,
    Charge,
    Flow,
    PickOne,
    Reply,
    Strategy,
    Task,
    adrive,
    charge,
    drive,
)

QUESTION = "What is 4711 * 12 + 99?"
WAYS = pytest.mark.parametrize("way", ["sync", "async"])
# From the best to the worst.
SAGE, CLERK, POET = "sage", "clerk", "poet"


@dataclass
class Models:
    """A transport whose models say their words, or raise what stands among them."""

    router: CrossRouter
    script: dict[str, list[str | Exception]]
    asked: list[str] = field(default_factory=list)
    prices: dict[str, Price | None] | None = None

    def exchange(self, ask: Ask, _: dict[str, Any]) -> Exchange:
        return Exchange(self, ask, Reply(ask.model, was_asked=False))

    def report(self, failure: dict[str, Any]) -> None:
        pass

    async def areport(self, failure: dict[str, Any]) -> None:
        pass


@dataclass
class Exchange:
    models: Models
    ask: Ask
    reply: Reply
    shown: bool = False

    @property
    def charge(self) -> Charge:
        pool = self.models.router.pool
        prices = self.models.prices or {model: one.price for model, one in pool.items()}
        price = prices[self.ask.model]
        return charge(self.ask, self.reply, price, Query.of(QUESTION))

    def open(self) -> Iterator[str]:
        self.models.asked.append(self.ask.model)
        self.reply.was_asked = True
        for part in self.models.script.get(self.ask.model, ["fine", "."]):
            if isinstance(part, Exception):
                raise part
            yield part

    async def aopen(self) -> AsyncIterator[str]:
        for part in self.open():
            await asyncio.sleep(0)
            yield part

    def read(self, part: str) -> None:
        self.reply.text += part
        self.reply.has_words = True

    def failure(self, error: Exception) -> str | None:
        return str(error) if may_pass_elsewhere(error) else None

    def with_metadata(self, part: str) -> str:
        return f"{self.ask.model}: {part}"

    def rest(self) -> Iterator[str]:
        return iter(())


@dataclass
class House:
    """A router that asks models, with what it keeps of its calls."""

    router: CrossRouter
    guard: Guard
    models: Models
    clock: list[float]

    def task(self) -> Task:
        query = Query.of(QUESTION)
        decision, watch = self.guard.admit(self.router.route(query, math.inf))
        return Task(decision, query, [{"role": "user", "content": QUESTION}], watch=watch)

    def ask(
        self, way: str = "sync", strategy: Strategy | None = None, task: Task | None = None
    ) -> list[str]:
        """The answer; `models.asked` are those that were asked for it."""
        self.models.asked.clear()
        task = self.task() if task is None else task
        flow = (strategy or PickOne()).answer(task)

        async def collect() -> list[str]:
            return [part async for part in adrive(task, flow, self.models)]

        return asyncio.run(collect()) if way == "async" else list(drive(task, flow, self.models))

    def out(self) -> dict[str, str]:
        return dict(self.task().decision.removed)


@pytest.fixture
def house(toy_router: CrossRouter) -> House:
    clock = [0.0]
    cooldown = Cooldown(failures=2, rest_seconds=30, clock=lambda: clock[0])
    models = Models(toy_router, {SAGE: [TimeoutError("slow")]})
    return House(toy_router, Guard(cooldown, None, toy_router.pool), models, clock)


@WAYS
def test_who_fails_is_not_asked_for_a_while(house: House, way: str) -> None:
    for _ in range(2):
        assert house.ask(way) == ["clerk: fine", "clerk: ."]
        assert house.models.asked == [SAGE, CLERK]
    assert house.out() == {SAGE: "rests for 30 s more, as it has failed"}
    house.ask(way)
    assert house.models.asked == [CLERK]
    # It fails again, and rests for twice as long.
    house.clock[0] += 30
    house.ask(way)
    assert house.models.asked == [SAGE, CLERK]
    assert house.out() == {SAGE: "rests for 60 s more, as it has failed"}
    house.clock[0] += 60
    del house.models.script[SAGE]
    for _ in range(2):
        assert house.ask(way) == ["sage: fine", "sage: ."]
    assert house.out() == {}


@WAYS
def test_if_all_rest_the_order_is_as_if_none_did(house: House, way: str) -> None:
    house.models.script = {model: [TimeoutError(model)] for model in (SAGE, CLERK, POET)}
    for _ in range(4):
        with pytest.raises(TimeoutError, match=POET):
            house.ask(way)
        assert house.models.asked == [SAGE, CLERK, POET]
    assert house.out() == {}
    # An answer to such a call ends the rest of who gave it.
    del house.models.script[CLERK]
    assert house.ask(way) == ["clerk: fine", "clerk: ."]
    assert set(house.out()) == {SAGE, POET}


def test_only_one_call_at_a_time_tries_it(house: House) -> None:
    for _ in range(2):
        house.ask()
    house.clock[0] += 30
    house.models.script[SAGE] = ["fine", "."]
    first, second = house.task(), house.task()
    trying = drive(first, PickOne().answer(first), house.models)
    assert next(trying) == "sage: fine"
    assert "another call is trying it" in house.out()[SAGE]
    # One that was decided before passes it by, without an attempt.
    assert house.ask(strategy=PickOne(attempts=1), task=second) == ["clerk: fine", "clerk: ."]
    assert house.models.asked == [CLERK]
    assert list(trying) == ["sage: ."]
    assert house.out() == {}


def test_a_strategy_that_asks_it_alone_is_told_why(house: House) -> None:
    @dataclass
    class Only:
        model: str

        def answer(self, task: Task) -> Flow:
            reply: Reply = yield Ask(self.model)
            return reply

    for _ in range(2):
        house.ask()
    house.clock[0] += 30
    house.models.script[SAGE] = ["fine", "."]
    first, second = house.task(), house.task()
    trying = drive(first, PickOne().answer(first), house.models)
    next(trying)
    with pytest.raises(RestingError, match="sage was not asked"):
        house.ask(strategy=Only(SAGE), task=second)
    trying.close()


@WAYS
def test_a_strategy_may_ask_for_who_was_taken_out(house: House, way: str) -> None:
    class Cascade:
        def answer(self, task: Task) -> Flow:
            first, second = yield (Ask(SAGE, role="draft"), Ask(POET, role="draft"))
            assert isinstance(first.error, (RestingError, DailySpendError))
            assert not first.was_asked
            assert second.text == "fine."
            reply: Reply = yield Ask(SAGE)
            return (yield Ask(CLERK)) if reply.failed else reply

    for _ in range(2):
        house.ask()
    assert house.ask(way, Cascade()) == ["clerk: fine", "clerk: ."]
    assert house.models.asked == [POET, CLERK]
    house.guard = Guard(None, DailySpend(by_model={SAGE: 0}), house.router.pool)
    assert house.ask(way, Cascade()) == ["clerk: fine", "clerk: ."]
    assert house.models.asked == [POET, CLERK]


@WAYS
def test_a_call_that_is_left_says_what_came_of_it(house: House, way: str) -> None:
    for _ in range(2):
        house.ask()
    house.clock[0] += 30
    # The request itself is wrong: that says nothing of the model.
    house.models.script[SAGE] = [ValueError("no such tool")]
    with pytest.raises(ValueError, match="no such tool"):
        house.ask(way)
    assert house.out() == {}
    house.models.script[SAGE] = ["fine", "and", "more"]
    task = house.task()
    parts: Any = (adrive if way == "async" else drive)(task, PickOne().answer(task), house.models)

    async def leave() -> None:
        await anext(parts)
        await parts.aclose()

    if way == "async":
        asyncio.run(leave())
    else:
        next(parts)
        parts.close()
    # It has begun to answer.
    house.models.script[SAGE] = [TimeoutError("slow")]
    house.ask(way)
    assert house.out() == {}


@WAYS
def test_a_wrong_request_is_no_answer_of_a_model(house: House, way: str) -> None:
    def wrong_request() -> None:
        house.models.script[SAGE] = [ValueError("no such tool")]
        with pytest.raises(ValueError, match="no such tool"):
            house.ask(way)
        house.models.script[SAGE] = [TimeoutError("slow")]

    # It is no success between two failures.
    house.ask(way)
    wrong_request()
    house.ask(way)
    assert house.out() == {SAGE: "rests for 30 s more, as it has failed"}
    # After the rest it is not the try that ends it.
    house.clock[0] += 30
    wrong_request()
    house.ask(way)
    assert house.out() == {SAGE: "rests for 60 s more, as it has failed"}


@WAYS
def test_a_wrong_request_to_a_model_without_a_price_costs_nothing(house: House, way: str) -> None:
    spend = DailySpend(usd=1)
    pool = house.router.pool
    house.guard = Guard(None, spend, pool)
    house.models.script[SAGE] = [ValueError("no such tool")]
    house.models.prices = {**{model: one.price for model, one in pool.items()}, SAGE: None}
    with pytest.raises(ValueError, match="no such tool"):
        house.ask(way)
    assert spend.spent == {}


@WAYS
def test_a_stream_that_breaks_is_a_failure(house: House, way: str) -> None:
    house.models.script[SAGE] = ["fine", ConnectionResetError("gone")]
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            house.ask(way)
    assert house.out() == {SAGE: "rests for 30 s more, as it has failed"}


def test_asks_at_once_are_watched_too(house: House) -> None:
    class Twice:
        def answer(self, task: Task) -> Flow:
            replies: tuple[Reply, ...] = yield (Ask(SAGE), Ask(CLERK), Ask(SAGE))
            return replies[1]

    assert house.ask(strategy=Twice()) == ["clerk: fine", "clerk: ."]
    assert list(house.out()) == [SAGE]


@WAYS
def test_what_was_spent_takes_models_out(house: House, way: str) -> None:
    spend = DailySpend(by_model={CLERK: 1e-3}, usd=2e-3)
    house.guard = Guard(None, spend, house.router.pool)
    house.models.script = {SAGE: [TimeoutError("slow")]}
    house.ask(way)
    # Who fails before anything came has cost nothing.
    predicted = {one.model: one.cost_usd for one in house.task().decision.candidates}
    assert spend.spent == {CLERK: predicted[CLERK]}
    spend.add(CLERK, 1e-3)
    assert list(house.out()) == [CLERK]
    house.ask(way)
    assert house.models.asked == [SAGE, POET]
    spend.add(POET, 2e-3)
    with pytest.raises(DailySpendError, match="Nothing was asked"):
        house.ask(way)
    assert house.models.asked == []


def test_if_no_model_has_a_budget_each_is_named(house: House) -> None:
    spend = DailySpend(by_model=dict.fromkeys((SAGE, CLERK, POET), 0.0))
    house.guard = Guard(None, spend, house.router.pool)
    with pytest.raises(DailySpendError, match="no candidate may be asked today") as raised:
        house.ask()
    assert all(f"  {model}: $0.00 were spent" in str(raised.value) for model in (SAGE, CLERK, POET))


def test_a_cost_that_is_not_known_is_the_predicted_one(house: House) -> None:
    spend = DailySpend(usd=1)
    guard = Guard(None, spend, house.router.pool)
    decision, watch = guard.admit(house.router.route(QUESTION, math.inf))
    watch.ended(SAGE, answered=True, cost_usd=None)
    assert spend.spent == {SAGE: decision.cost_usd}


def test_settings_of_another_kind_are_refused(toy_router: CrossRouter) -> None:
    wrong: Any = 30
    with pytest.raises(ConstraintError, match=r"cooldown is 30; give crossroute\.Cooldown"):
        Guard(wrong, None, toy_router.pool)
    with pytest.raises(ConstraintError, match=r"daily_spend is 30; give crossroute\.DailySpend"):
        Guard(None, wrong, toy_router.pool)
    with pytest.raises(UnknownModelError, match=r"sgae.*did you mean 'sage'"):
        Guard(None, DailySpend(by_model={"sgae": 1}), toy_router.pool)
