"""CostLedger in LlamaIndex: it agrees with the bill, whatever comes of a call."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import (
    ASK_STREAMS,
    ASKS,
    LARGE,
    MINI,
    QUESTION,
    ROOT,
    TEXT,
    TOOL,
    Make,
    Retriever,
    ask,
)
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter, ModelDescriptor, ModelPool, PoolError, Price, UnknownModelError
from crossroute.strategies import Ask, Flow, Show, Task
from llamaindex_crossroute import CostLedger, CrossRouteLLM

PAGE = ROOT / "docs" / "llamaindex" / "ledger.md"


def price(model: str) -> Price:
    found = CrossRouter.default().pool[model].price
    assert found is not None
    return found


def agrees(ledger: CostLedger, *bills: dict[str, Any]) -> None:
    """The ledger says of every model and role what the bills say."""
    asks = [one for bill in bills for one in bill["asks"]]
    for rows, field in ((ledger.spend, "model"), (ledger.roles, "role")):
        assert set(rows) == {one[field] for one in asks}
        for name, row in rows.items():
            mine = [one for one in asks if one[field] == name]
            assert row.calls == len(mine)
            assert row.cost_usd == pytest.approx(sum(one["cost_usd"] for one in mine))
            for tokens in ("input_tokens", "output_tokens", "cached_tokens"):
                assert getattr(row, tokens) == sum(one[tokens] for one in mine)
    assert ledger.total_usd == pytest.approx(sum(bill["cost_usd"] for bill in bills))


@pytest.mark.parametrize("way", ASKS)
async def test_a_call_is_counted_once_as_on_its_bill(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    llm = make()
    ledger = CostLedger(llm, baseline=LARGE)
    await ask(way, llm)
    assert ledger.spend == {}
    with ledger as entered:
        assert entered is ledger
        _, decision = await ask(way, llm)
    await ask(way, llm)
    row = ledger.spend[MINI]
    assert (row.calls, row.failures, row.estimated) == (1, 0, 0)
    assert (row.input_tokens, row.output_tokens, row.cached_tokens) == (1000, 200, 400)
    assert row.predicted_usd == decision["cost_usd"]
    agrees(ledger, decision["bill"])
    baseline = float(price(LARGE).cost_usd(1000, 200, 400))
    assert ledger.saving_usd == pytest.approx(baseline - ledger.total_usd)
    assert f"All by {LARGE}" in ledger.report()
    assert repr(ledger).startswith("CostLedger($")
    found = json.loads(json.dumps(ledger.to_dict(), allow_nan=False))
    assert found["models"][MINI]["calls"] == found["total"]["calls"] == 1


def test_blocks_may_end_in_the_order_in_which_they_began(make: Make) -> None:
    llm = make()
    first, second = CostLedger(llm), CostLedger(llm)
    first.__enter__()
    second.__enter__()
    first.__exit__()
    llm.complete(QUESTION)
    second.__exit__()
    llm.complete(QUESTION)
    assert (first.spend, second.spend[MINI].calls) == ({}, 1)


@pytest.mark.parametrize("way", ASKS)
async def test_a_failed_ask_is_counted_and_costs_nothing(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(status=500)
    llm = make()
    ledger = CostLedger(llm)
    with ledger:
        _, decision = await ask(way, llm)
    spend = ledger.spend
    assert (spend[MINI].calls, spend[MINI].failures, spend[MINI].estimated) == (1, 1, 0)
    assert (spend[LARGE].calls, spend[LARGE].failures) == (1, 0)
    agrees(ledger, decision["bill"])
    # The prediction is that of the model that answered.
    assert spend[LARGE].predicted_usd == decision["cost_usd"]


@pytest.mark.parametrize("way", ASKS)
async def test_if_all_fail_all_are_counted(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers = {MINI: Reply(status=500), LARGE: Reply(status=429)}
    llm = make()
    ledger = CostLedger(llm)
    with ledger, pytest.raises(Exception, match="429"):
        await ask(way, llm)
    assert {model: (row.calls, row.failures) for model, row in ledger.spend.items()} == {
        MINI: (1, 1),
        LARGE: (1, 1),
    }
    assert ledger.total_usd == 0


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_a_stream_that_fails_midway_is_paid_for(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, cut_after=4)
    llm = make()
    ledger = CostLedger(llm)
    with ledger, pytest.raises(Exception, match=r"(?i)connection|peer closed"):
        await ask(way, llm)
    row = ledger.spend[MINI]
    assert (row.calls, row.failures, row.estimated) == (1, 1, 1)
    assert row.cost_usd > 0


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_an_abandoned_stream_is_no_failure_and_not_free(way: str, make: Make) -> None:
    llm = make()
    ledger = CostLedger(llm)
    argument: Any = [ChatMessage(QUESTION)] if "chat" in way else QUESTION
    with ledger:
        stream = getattr(llm, way)(argument)
        stream = await stream if way.startswith("a") else stream
    # It began in the block, and is counted when it ends.
    assert ledger.spend == {}
    if way.startswith("a"):
        await anext(stream)
        await stream.aclose()
    else:
        next(stream)
        stream.close()
    row = ledger.spend[MINI]
    assert (row.calls, row.failures, row.estimated, row.without_usage) == (1, 0, 1, 0)
    assert row.cost_usd > 0
    assert "estimated, in the sums: 1" in ledger.report()


async def test_a_cancelled_call_is_no_failure(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(TEXT, silent=True)
    llm = make()
    ledger = CostLedger(llm)

    async def call() -> None:
        with ledger:
            await llm.acomplete(QUESTION)

    task = asyncio.create_task(call())
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = ledger.spend[MINI]
    assert (row.calls, row.failures, row.estimated) == (1, 0, 1)


def mocked(**settings: Any) -> CrossRouteLLM:
    models = {LARGE: MockLLM(), MINI: MockLLM()}
    return CrossRouteLLM(models=models, **{"willingness_to_pay": 0, **settings})


@pytest.mark.parametrize("way", ASKS)
async def test_an_answer_without_usage_is_estimated_as_on_its_bill(way: str) -> None:
    llm = mocked()
    ledger = CostLedger(llm, baseline=LARGE)
    with ledger:
        _, decision = await ask(way, llm)
    row = ledger.spend[MINI]
    assert (row.calls, row.estimated, row.without_usage) == (1, 1, 0)
    assert row.cost_usd > 0
    agrees(ledger, decision["bill"])


def test_a_model_without_a_price_is_not_free() -> None:
    pool = ModelPool(
        CrossRouter.default().pool[model].model_copy(update={"price": None})
        for model in (LARGE, MINI)
    )
    llm = mocked(router=CrossRouter.default().over(pool))
    ledger = CostLedger(llm)
    with ledger:
        llm.complete(QUESTION)
    (row,) = ledger.spend.values()
    assert (row.calls, row.without_price, row.cost_usd, row.input_tokens) == (1, 1, 0, 0)
    assert "without a price, NOT in the sums: 1." in ledger.report()


# Strategies


@dataclass(frozen=True)
class DraftAndJudge:
    """The cheaper one drafts, the dearer one judges, and then answers."""

    def answer(self, task: Task) -> Flow:
        cheap, dear = (candidate.model for candidate in task.decision.candidates)
        yield Ask(cheap, role="draft")
        yield Ask(dear, then=[{"role": "user", "content": "Is it?"}], role="judge")
        return (yield Ask(dear))


@dataclass(frozen=True)
class Both:
    """Both are asked at once, and what comes first in the order is the answer."""

    def answer(self, task: Task) -> Flow:
        replies = yield tuple(Ask(candidate.model) for candidate in task.decision.candidates)
        return replies[0]


@dataclass(frozen=True)
class BeginThenLeave:
    """Shows the first words of one, and goes on with another."""

    def answer(self, task: Task) -> Flow:
        cheap, dear = (candidate.model for candidate in task.decision.candidates)
        reply = yield Ask(cheap, until=lambda reply: reply.has_words)
        yield Show(reply)
        return (yield Ask(dear))


@pytest.mark.parametrize("strategy", [DraftAndJudge(), Both(), BeginThenLeave()])
@pytest.mark.parametrize("way", ASKS)
async def test_every_ask_of_a_strategy_is_counted(
    way: str, strategy: Any, make: Make, server: OpenAIServer
) -> None:
    server.answers = {
        MINI: Reply("I am mini, and go on.", input_tokens=100, output_tokens=20),
        LARGE: Reply("I am large.", input_tokens=300, output_tokens=40),
    }
    llm = make(strategy=strategy)
    ledger = CostLedger(llm, baseline=LARGE)
    with ledger:
        _, decision = await ask(way, llm)
    agrees(ledger, decision["bill"])
    if isinstance(strategy, DraftAndJudge):
        assert {role: row.calls for role, row in ledger.roles.items()} == {
            "answer": 1,
            "draft": 1,
            "judge": 1,
        }
        # The baseline needs no drafts and judges.
        assert ledger.roles["draft"].baseline_usd == ledger.roles["judge"].baseline_usd == 0
        assert ledger.roles["answer"].baseline_usd == pytest.approx(
            float(price(LARGE).cost_usd(300, 40))
        )
        assert "By role" in ledger.report()


# Where it counts


def test_blocks_nest_and_each_ledger_counts_once() -> None:
    llm = mocked()
    outer, inner = CostLedger(llm), CostLedger(llm)
    with outer:
        with inner, outer:
            llm.complete(QUESTION)
        llm.complete(QUESTION)
    llm.complete(QUESTION)
    assert (outer.spend[MINI].calls, inner.spend[MINI].calls) == (2, 1)


def test_a_block_that_fails_ends() -> None:
    llm = mocked()
    ledger = CostLedger(llm)
    with pytest.raises(ZeroDivisionError), ledger:
        raise ZeroDivisionError
    llm.complete(QUESTION)
    assert ledger.spend == {}


def test_the_ledger_of_an_llm_counts_its_calls_of_all_threads() -> None:
    ledger = CostLedger(CrossRouter.default())
    llm, other = mocked(ledger=ledger), mocked()
    together = threading.Barrier(8)

    def call(_: int) -> None:
        together.wait(timeout=30)
        for _ in range(10):
            with ledger:  # Counted once all the same.
                llm.complete(QUESTION)
        other.complete(QUESTION)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(8)))
    assert ledger.spend[MINI].calls == 80
    assert "ledger" not in repr(llm)
    assert "ledger" not in llm.to_dict()


async def test_tasks_have_blocks_of_their_own() -> None:
    llm = mocked()
    ledgers = [CostLedger(llm) for _ in range(8)]

    async def calls(number: int) -> None:
        with ledgers[number]:
            for _ in range(number):
                await llm.achat([ChatMessage(QUESTION)])

    await asyncio.gather(*map(calls, range(8)))
    counted = [ledger.spend[MINI].calls if ledger.spend else 0 for ledger in ledgers]
    assert counted == list(range(8))


@pytest.mark.parametrize("streaming", [True, False])
async def test_within_a_query_engine(streaming: bool, make: Make) -> None:
    llm = make()
    ledger = CostLedger(llm)
    engine = RetrieverQueryEngine.from_args(Retriever(), llm=llm, streaming=streaming)
    with ledger:
        response: Any = engine.query(QUESTION)
        assert "Paris" in ("".join(response.response_gen) if streaming else str(response))
    assert ledger.spend[MINI].calls == 1


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
async def test_within_an_agent(make: Make, server: OpenAIServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["role"] == "tool":
            return Reply("It rains.")
        return Reply(tool_calls=(("weather", {"city": "Paris"}),))

    server.answers[MINI] = answer
    llm = make()
    ledger = CostLedger(llm)
    agent = FunctionAgent(tools=[TOOL], llm=llm)
    with ledger:
        running = agent.run("What is the weather like in Paris?")
    await running
    assert ledger.spend[MINI].calls == 2


# Where prices change


def test_a_call_in_flight_is_counted_at_the_prices_that_it_began_with(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MY_KEY", "any")

    def put(model: str, times: float) -> None:
        table = price(model)
        changes = {
            name: getattr(table, name) * times for name in ("input_usd_per_1m", "output_usd_per_1m")
        }
        content = CrossRouter.default().pool[model].model_dump() | {
            "retired": None,
            "price": table.model_copy(update=changes).model_dump(),
            "provider": {
                "chat_model": f"openai:{model}",
                "base_url": server.url,
                "api_key_env": "MY_KEY",
                "arguments": {"stream_usage": True},
            },
        }
        path = ModelDescriptor.model_validate(content).save(tmp_path)
        then = time.time() - 3600
        os.utime(path, (then, then))
        os.utime(tmp_path, (then, then))

    put(LARGE, 1)
    put(MINI, 1)
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=100)
    llm = CrossRouteLLM.from_yaml(tmp_path, follow=True, willingness_to_pay=0)
    assert llm.live is not None
    llm.live._check_seconds = llm.live._due = 0
    ledger = CostLedger(llm, baseline=LARGE)
    with ledger:
        stream = llm.stream_complete(QUESTION)
        put(MINI, 4)
        put(LARGE, 2)
        assert llm.candidates.router.pool[MINI].price != price(MINI)
        list(stream)
        usual = float(price(MINI).cost_usd(1000, 100))
        assert ledger.total_usd == pytest.approx(usual)
        baseline = float(price(LARGE).cost_usd(1000, 100))
        assert ledger.spend[MINI].baseline_usd == pytest.approx(baseline)
        llm.complete(QUESTION)
    assert ledger.total_usd == pytest.approx(5 * usual)
    assert ledger.spend[MINI].baseline_usd == pytest.approx(3 * baseline)


@pytest.mark.parametrize(
    "models",
    [
        lambda: mocked(),
        CrossRouter.default,
        lambda: CrossRouter.default().pool,
    ],
)
def test_what_it_is_made_of(models: Callable[[], Any]) -> None:
    assert CostLedger(models(), baseline=LARGE).saving_usd == 0
    with pytest.raises(UnknownModelError, match="did you mean"):
        CostLedger(models(), baseline="gpt-4o-2024-08-07")


def test_it_follows_a_folder(tmp_path: Path) -> None:
    CrossRouter.default().subset([LARGE, MINI]).pool.save(tmp_path)
    assert CostLedger(CrossRouter.follow(tmp_path), baseline=LARGE).total_usd == 0


def test_it_says_what_it_needs() -> None:
    with pytest.raises(PoolError, match="got list"):
        CostLedger([])  # type: ignore[arg-type]


def test_a_dear_call_shows_its_model() -> None:
    llm = mocked(willingness_to_pay=math.inf)
    ledger = CostLedger(llm, baseline=MINI)
    with ledger:
        llm.complete(QUESTION)
    assert ledger.saving_usd is not None
    assert ledger.saving_usd < 0
    assert "spent more" in ledger.report()


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"large": MockLLM(), "small": MockLLM()}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(block, found)
    printed = capsys.readouterr().out
    assert "total" in printed
    assert str(found["ledger"].total_usd) in printed
    assert found["ledger"].total_usd > 0
