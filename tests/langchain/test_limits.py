"""Candidates that rest after failures, and ceilings on what is spent a day."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    LARGE,
    MINI,
    QUESTION,
    SMALL,
    TEXT,
    WAYS,
    Make,
    agent_of,
    answer_of,
    asked,
    changed,
    decision_of,
    output_of,
    run_agent,
    scripted,
    tool_callers,
)
from langchain_core.exceptions import ModelRateLimitError
from openai_server import OpenAIServer, Reply

from crossroute import (
    ConstraintError,
    Cooldown,
    CrossRouter,
    DailySpend,
    DailySpendError,
    UnknownModelError,
)
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing() -> dict[str, Any]:
    return changed({SMALL: {"error": ModelRateLimitError("busy")}})


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_who_fails_rests_and_is_tried_again(kind: Any, way: str) -> None:
    clock, models = Clock(), failing()
    cooldown = Cooldown(failures=2, rest_seconds=30, clock=clock)
    chat = kind(models=models, willingness_to_pay=0, cooldown=cooldown)
    for _ in range(2):
        answer = await output_of(way, chat, QUESTION)
        assert [one["model"] for one in decision_of(answer)["attempts"]] == [SMALL]
    answer = await output_of(way, chat, QUESTION)
    found = decision_of(answer)
    assert found["model"] == MINI
    assert "attempts" not in found
    assert found["removed"][SMALL] == "rests for 30 s more, as it has failed"
    assert len(models[SMALL].asked) == 2
    clock.now += 30
    models[SMALL].error = None
    for _ in range(2):
        answer = await output_of(way, chat, QUESTION)
        assert decision_of(answer)["model"] == SMALL
        assert SMALL not in decision_of(answer)["removed"]


@pytest.mark.parametrize("way", ["generate", "agenerate", "v3", "av3"])
async def test_it_rests_in_the_other_ways_too(way: str) -> None:
    models = failing()
    chat = ChatCrossRoute(models=models, willingness_to_pay=0, cooldown=Cooldown(failures=1))
    for _ in range(2):
        answer = await answer_of(way, chat, QUESTION)
        assert answer.text == f"I am {MINI}."
    assert len(models[SMALL].asked) == 1


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_by_default_three_failures_make_it_rest(kind: Any, way: str) -> None:
    models = failing()
    chat = kind(models=models, willingness_to_pay=0)
    for _ in range(5):
        await output_of(way, chat, QUESTION)
    assert len(models[SMALL].asked) == 3
    # Another router has not seen it, and one may do without.
    again = kind(models=models, willingness_to_pay=0, cooldown=None)
    for _ in range(5):
        await output_of(way, again, QUESTION)
    assert len(models[SMALL].asked) == 8


def test_what_is_bound_to_a_router_shares_its_rests() -> None:
    models = failing()
    chat = ChatCrossRoute(models=models, willingness_to_pay=0, cooldown=Cooldown(failures=2))
    for bound in (chat, chat.bind(stop=["x"]), chat.with_config(tags=["a"])):
        bound.invoke(QUESTION)
    assert len(models[SMALL].asked) == 2


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_middleware_lets_models_rest(way: str) -> None:
    models = tool_callers()
    models[SMALL].errors = [ModelRateLimitError("busy")] * 9
    agent = agent_of(models, willingness_to_pay=0, cooldown=Cooldown(failures=1))
    for _ in range(3):
        state = await run_agent(way, agent)
        assert state["messages"][-1].text == f"I am {MINI}."
    assert "rests for" in state["crossroute"]["removed"][SMALL]
    assert len(models[SMALL].errors) == 8


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_server_says_when_to_ask_again(server: OpenAIServer, make: Make, way: str) -> None:
    server.answers[MINI] = Reply("too many", status=429, retry_after="120")
    clock = Clock()
    chat = make(cooldown=Cooldown(most_rest_seconds=300, clock=clock))
    for _ in range(2):
        answer = await output_of(way, chat, QUESTION)
        assert answer.text == TEXT
    assert asked(server) == [MINI, LARGE, LARGE]
    assert decision_of(answer)["removed"][MINI] == "rests for 120 s more, as it has failed"
    clock.now += 120
    server.answers[MINI] = Reply(TEXT)
    await output_of(way, chat, QUESTION)
    assert asked(server)[3:] == [MINI]


async def test_one_call_at_a_time_tries_it(server: OpenAIServer, make: Make) -> None:
    clock = Clock()
    server.answers[MINI] = Reply("down", status=500)
    chat = make(cooldown=Cooldown(failures=1, clock=clock))
    await chat.ainvoke(QUESTION)
    clock.now += 30
    server.requests.clear()
    await asyncio.gather(*(chat.ainvoke(QUESTION) for _ in range(8)))
    # The first one's failure comes before or after the others have been routed: it is one.
    assert asked(server).count(MINI) == 1
    assert asked(server).count(LARGE) == 8


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_model_without_budget_is_no_candidate(
    kind: Any, way: str, router: CrossRouter
) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "total_tokens": 1_000_000}
    spend = DailySpend(by_model={SMALL: 0.1})
    models = scripted(usage=usage)
    chat = kind(models=models, willingness_to_pay=0, daily_spend=spend)
    assert decision_of(await output_of(way, chat, QUESTION))["model"] == SMALL
    # What it really cost, not what was predicted.
    price = router.pool[SMALL].price
    assert price is not None
    assert spend.spent == {SMALL: pytest.approx(price.cost_usd(1_000_000, 0))}
    found = decision_of(await output_of(way, chat, QUESTION))
    assert found["model"] == MINI
    assert found["removed"][SMALL].endswith("were spent today, of its $0.10 a day")


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_when_all_is_spent_nothing_is_asked(kind: Any, way: str, tmp_path: Path) -> None:
    spend = DailySpend(usd=1, file=tmp_path / "spend.sqlite")
    models = scripted()
    chat = kind(models=models, willingness_to_pay=0, daily_spend=spend)
    await output_of(way, chat, QUESTION)
    # As of another process, with the same file.
    DailySpend(file=tmp_path / "spend.sqlite").add(LARGE, 1)
    with pytest.raises(DailySpendError, match="Nothing was asked"):
        await output_of(way, chat, QUESTION)
    assert [len(model.asked) for model in models.values()].count(0) == 2


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_is_left_is_counted(kind: Any, way: str) -> None:
    spend = DailySpend(usd=1)
    chat = kind(models=scripted(), willingness_to_pay=0, daily_spend=spend)
    if way == "stream":
        chunks = chat.stream(QUESTION)
        next(chunks)
        chunks.close()
    else:
        parts = chat.astream(QUESTION)
        await anext(parts)
        await parts.aclose()
    assert list(spend.spent) == [SMALL]
    assert 0 < spend.spent[SMALL] < 1e-4


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_middleware_keeps_a_ceiling(way: str) -> None:
    spend = DailySpend(usd=1)
    models = tool_callers()
    agent = agent_of(models, willingness_to_pay=0, daily_spend=spend)
    await run_agent(way, agent)
    assert list(spend.spent) == [SMALL]
    spend.add(SMALL, 1)
    with pytest.raises(DailySpendError):
        await run_agent(way, agent)


def test_routers_may_share_a_ceiling() -> None:
    spend = DailySpend(usd=1)
    first = ChatCrossRoute(models=scripted(), daily_spend=spend)
    second = CrossRouteRunnable(models=scripted(), daily_spend=spend)
    first.invoke(QUESTION)
    before = sum(spend.spent.values())
    second.invoke(QUESTION)
    assert sum(spend.spent.values()) > before
    spend.add(LARGE, 1)
    for router in (first, second, copy.deepcopy(first)):
        with pytest.raises(DailySpendError):
            router.invoke(QUESTION)


async def test_a_forced_model_is_asked_though_it_rests() -> None:
    models = failing()
    chat = ChatCrossRoute(models=models, willingness_to_pay=0, cooldown=Cooldown(failures=1))
    chat.invoke(QUESTION)
    models[SMALL].error = None
    config: Any = {"configurable": {"crossroute_model": SMALL}}
    assert chat.invoke(QUESTION, config).text == f"I am {SMALL}."
    # It has answered, which ends its rest.
    assert chat.invoke(QUESTION).text == f"I am {SMALL}."


@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware])
def test_settings_that_make_no_sense(kind: Any) -> None:
    models = scripted()
    with pytest.raises(ConstraintError, match="cooldown is 30"):
        kind(models=models, cooldown=30)
    with pytest.raises(ConstraintError, match=r"daily_spend is 1\.5"):
        kind(models=models, daily_spend=1.5)
    with pytest.raises(UnknownModelError, match="nobody"):
        kind(models=models, daily_spend=DailySpend(by_model={"nobody": 1}))
