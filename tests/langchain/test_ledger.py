"""CostLedger: what it counts, at what price, and what it does not call free."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import json
import math
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fakes_langchain import LARGE, QUESTION, ROOT, SMALL, USAGE, WAYS, Counted
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListLLM
from langchain_core.outputs import LLMResult

from crossroute import CrossRouter, DescriptorError, ModelPool, PoolError, UnknownModelError
from langchain_crossroute import CrossRouteRunnable, ledger
from langchain_crossroute.ledger import CostLedger

PAGE = ROOT / "docs" / "langchain" / "ledger.md"


@pytest.fixture
def pair(router: CrossRouter) -> CrossRouter:
    return router.subset([SMALL, LARGE])


def routed(router: CrossRouter, willingness_to_pay: float = 0, **settings: Any) -> Any:
    models = {model: Counted(**settings) for model in router.pool}
    return CrossRouteRunnable(router=router, models=models, willingness_to_pay=willingness_to_pay)


async def call(way: str, runnable: Any, config: Any) -> None:
    match way:
        case "invoke":
            runnable.invoke(QUESTION, config)
        case "ainvoke":
            await runnable.ainvoke(QUESTION, config)
        case "stream":
            list(runnable.stream(QUESTION, config))
        case "astream":
            assert [chunk async for chunk in runnable.astream(QUESTION, config)]
        case "batch":
            runnable.batch([QUESTION], config)
        case _:
            await runnable.abatch([QUESTION], config)


def price(router: CrossRouter, model: str) -> Any:
    found = router.pool[model].price
    assert found is not None
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_counted_once_at_the_price_of_its_model(
    way: str, pair: CrossRouter
) -> None:
    costs = CostLedger(pair, baseline=LARGE)
    await call(way, routed(pair), {"callbacks": [costs]})

    decision = pair.route(QUESTION, 0)
    realised = price(pair, SMALL).cost_usd(1000, 200)
    baseline = price(pair, LARGE).cost_usd(1000, 200)
    assert list(costs.spend) == [SMALL]
    row = costs.spend[SMALL]
    assert (row.calls, row.failures, row.without_usage, row.cached_answers) == (1, 0, 0, 0)
    assert (row.input_tokens, row.output_tokens, row.cached_tokens) == (1000, 200, 0)
    assert row.cost_usd == pytest.approx(realised)
    assert row.predicted_usd == decision.cost_usd
    assert costs.total_usd == row.cost_usd
    assert costs.saving_usd == pytest.approx(baseline - realised)
    assert baseline > realised > 0


def test_sums_over_calls_and_models(pair: CrossRouter) -> None:
    costs = CostLedger(pair.pool, baseline=LARGE)
    chain = routed(pair)
    for willingness in (0, 0, float("inf")):
        configurable = {"willingness_to_pay": willingness}
        chain.invoke(QUESTION, {"callbacks": [costs], "configurable": configurable})
    spend = costs.spend
    assert {model: row.calls for model, row in spend.items()} == {SMALL: 2, LARGE: 1}
    assert spend[SMALL].cost_usd == pytest.approx(2 * price(pair, SMALL).cost_usd(1000, 200))
    assert spend[LARGE].cost_usd == spend[LARGE].baseline_usd
    assert costs.total_usd == pytest.approx(sum(row.cost_usd for row in spend.values()))
    # The spend is a copy: nobody else's sums change with it.
    spend[SMALL].calls = 99
    assert costs.spend[SMALL].calls == 2


def test_cached_input_has_its_own_price(pair: CrossRouter) -> None:
    dear = price(pair, LARGE).model_copy(update={"cached_input_usd_per_1m": 0.5})
    pool = ModelPool(
        model.model_copy(update={"price": dear}) if model.id == LARGE else model
        for model in pair.pool.values()
    )
    usage = USAGE | {"input_token_details": {"cache_read": 600}}
    costs = CostLedger(pool, baseline=LARGE)
    routed(pair.over(pool), float("inf"), usage=usage).invoke(QUESTION, {"callbacks": [costs]})
    row = costs.spend[LARGE]
    by_hand = (400 * dear.input_usd_per_1m + 600 * 0.5 + 200 * dear.output_usd_per_1m) / 1e6
    assert row.cached_tokens == 600
    assert row.cost_usd == pytest.approx(by_hand)
    assert row.baseline_usd == row.cost_usd


def test_reasoning_has_its_own_price_where_it_is_billed_apart(pair: CrossRouter) -> None:
    table = price(pair, LARGE).model_copy(update={"reasoning_output_usd_per_1m": 100.0})
    pool = ModelPool(
        model.model_copy(update={"price": table}) if model.id == LARGE else model
        for model in pair.pool.values()
    )
    usage = USAGE | {"output_token_details": {"reasoning": 50}}
    costs = CostLedger(pool)
    answer = routed(pair.over(pool), float("inf"), usage=usage).invoke(
        QUESTION, {"callbacks": [costs]}
    )
    tokens = 1000 * table.input_usd_per_1m + 150 * table.output_usd_per_1m
    by_hand = (tokens + 50 * 100.0) / 1e6
    assert costs.total_usd == pytest.approx(by_hand)
    realised = answer.response_metadata["crossroute"]["realised"]
    assert realised["cost_usd"] == pytest.approx(by_hand)


@pytest.mark.parametrize("details", [None, {}, {"audio": 3}])
def test_usage_without_cached_tokens(details: Any, pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    usage = USAGE | ({} if details is None else {"input_token_details": details})
    routed(pair, usage=usage).invoke(QUESTION, {"callbacks": [costs]})
    assert costs.spend[SMALL].cached_tokens == 0
    assert costs.total_usd > 0


@pytest.mark.parametrize("usage", [USAGE, None])
def test_an_answer_from_the_llm_cache_costs_nothing(usage: Any, pair: CrossRouter) -> None:
    costs = CostLedger(pair, baseline=LARGE)
    model = Counted(usage=usage, cache=InMemoryCache())
    metadata = {"crossroute_model": SMALL, "crossroute": pair.route(QUESTION, 0).to_dict()}
    model.invoke(QUESTION, {"callbacks": [costs], "metadata": metadata})
    once = costs.spend[SMALL]
    model.invoke(QUESTION, {"callbacks": [costs], "metadata": metadata})
    twice = costs.spend[SMALL]
    assert (twice.calls, twice.cached_answers) == (2, 1)
    assert twice.without_usage == once.without_usage == (usage is None)
    assert (twice.cost_usd, twice.baseline_usd) == (once.cost_usd, once.baseline_usd)
    # The cached answer was not paid, so its prediction is not compared with what was.
    assert twice.predicted_usd == once.predicted_usd
    assert "Answered from the LLM cache, at no cost: 1." in costs.report()


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_without_usage_is_not_free(way: str, pair: CrossRouter) -> None:
    costs = CostLedger(pair, baseline=LARGE)
    await call(way, routed(pair, usage=None), {"callbacks": [costs]})
    row = costs.spend[SMALL]
    assert (row.calls, row.without_usage, row.cached_answers) == (1, 1, 0)
    assert row.cost_usd == row.predicted_usd == row.baseline_usd == 0
    report = costs.report()
    assert "Calls without usage, NOT in the sums: 1." in report
    # Nothing that is told of it reads as if it had been free.
    assert "$" not in report
    _, one, total, saving, _ = report.splitlines()
    assert one.split() == [SMALL, "1", "0", *"?????"]
    assert total.split() == ["total", "1", "0", *"?????"]
    assert saving == f"All by {LARGE}: not known, for the cost of no call is."
    # One that is known, and one that failed, beside it.
    await call(way, routed(pair, math.inf), {"callbacks": [costs]})
    _, one, known, total, saving, _ = costs.report().splitlines()
    assert one.split() == [SMALL, "1", "0", *"?????"]
    assert "$" in known
    assert "$" in total
    assert "saved" in saving


def test_a_model_without_a_price_is_not_free(pair: CrossRouter) -> None:
    pool = ModelPool(model.model_copy(update={"price": None}) for model in pair.pool.values())
    costs = CostLedger(pool)
    routed(pair).invoke(QUESTION, {"callbacks": [costs]})
    row = costs.spend[SMALL]
    assert (row.calls, row.without_price, row.cost_usd, row.input_tokens) == (1, 1, 0, 0)
    assert "without a price, NOT in the sums: 1." in costs.report()


def test_a_model_outside_the_ledgers_pool_is_not_free(
    router: CrossRouter, pair: CrossRouter
) -> None:
    costs = CostLedger(router.subset(["gpt-4o-mini-2024-07-18", LARGE]))
    routed(pair).invoke(QUESTION, {"callbacks": [costs]})
    assert costs.spend[SMALL].without_price == 1


def test_a_text_completion_has_no_usage(pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    models = dict.fromkeys(pair.pool, FakeListLLM(responses=["Fine."]))
    chain = CrossRouteRunnable(router=pair, models=models, willingness_to_pay=0)
    chain.invoke(QUESTION, {"callbacks": [costs]})
    assert (costs.spend[SMALL].calls, costs.spend[SMALL].without_usage) == (1, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_is_counted(way: str, pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    with pytest.raises(ValueError, match="wrong"):
        await call(way, routed(pair, error=ValueError("wrong")), {"callbacks": [costs]})
    row = costs.spend[SMALL]
    assert (row.calls, row.failures, row.without_usage) == (1, 1, 0)
    # What a stream gave before it failed is paid for.
    midway = way.endswith("stream")
    assert row.estimated == midway
    assert (row.cost_usd > 0) == midway


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_an_abandoned_stream_is_no_failure_and_not_free(way: str, pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    chain = routed(pair)
    if way == "stream":
        stream = chain.stream(QUESTION, {"callbacks": [costs]})
        next(stream)
        stream.close()
    else:
        astream = chain.astream(QUESTION, {"callbacks": [costs]})
        await anext(astream)
        await astream.aclose()
        await asyncio.sleep(0.01)
    row = costs.spend[SMALL]
    assert (row.calls, row.failures, row.estimated, row.without_usage) == (1, 0, 1, 0)
    assert row.input_tokens == round(pair.route(QUESTION).input_tokens)
    assert row.output_tokens > 0
    assert row.cost_usd > 0
    assert "estimated, in the sums: 1" in costs.report()


def test_runs_of_other_models_are_ignored(pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    Counted().invoke(QUESTION, {"callbacks": [costs]})
    with pytest.raises(ValueError, match="wrong"):
        Counted(error=ValueError("wrong")).invoke(QUESTION, {"callbacks": [costs]})
    assert costs.spend == {}
    assert costs.total_usd == 0


def test_many_calls_at_once(pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    chain, together = routed(pair), threading.Barrier(16)

    def ask(_: int) -> None:
        together.wait(timeout=10)
        for _ in range(10):
            chain.invoke(QUESTION, {"callbacks": [costs]})

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    assert costs.spend[SMALL].calls == 160
    assert costs.spend[SMALL].input_tokens == 160_000


async def test_many_calls_at_once_async(pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    chain = routed(pair)
    await asyncio.gather(*(chain.ainvoke(QUESTION, {"callbacks": [costs]}) for _ in range(50)))
    assert costs.spend[SMALL].calls == 50


def test_runs_that_never_end_do_not_pile_up(
    pair: CrossRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_OPEN_RUNS", 3)
    costs = CostLedger(pair)
    metadata = {"crossroute_model": SMALL, "crossroute": pair.route(QUESTION, 0).to_dict()}
    runs = [uuid4() for _ in range(5)]
    for run in runs:
        costs.on_chat_model_start({}, [], run_id=run, metadata=metadata)
    # The two oldest are given up, and said to be of unknown cost.
    assert (costs.spend[SMALL].calls, costs.spend[SMALL].without_usage) == (2, 2)
    for run in runs:
        costs.on_llm_end(LLMResult(generations=[]), run_id=run)
    assert costs.spend[SMALL].calls == 5


def test_the_prediction_is_that_of_the_model_that_ran(pair: CrossRouter) -> None:
    decision = pair.route(QUESTION, 0)
    costs = CostLedger(pair)
    metadata = {"crossroute_model": LARGE, "crossroute": decision.to_dict()}
    Counted().invoke(QUESTION, {"callbacks": [costs], "metadata": metadata})
    (predicted,) = [c.cost_usd for c in decision.candidates if c.model == LARGE]
    assert costs.spend[LARGE].predicted_usd == predicted != decision.cost_usd


def test_to_dict_is_json(pair: CrossRouter) -> None:
    costs = CostLedger(pair, baseline=LARGE)
    routed(pair).invoke(QUESTION, {"callbacks": [costs]})
    found = json.loads(json.dumps(costs.to_dict(), allow_nan=False))
    assert found["models"][SMALL]["calls"] == found["total"]["calls"] == 1
    assert found["total"]["cost_usd"] == costs.total_usd
    assert found["saving_usd"] == costs.saving_usd
    assert found["baseline"] == LARGE


def test_the_report_names_models_and_the_saving(pair: CrossRouter) -> None:
    costs = CostLedger(pair, baseline=LARGE)
    chain = routed(pair)
    chain.invoke(QUESTION, {"callbacks": [costs]})
    report = costs.report()
    assert SMALL in report
    assert f"All by {LARGE}: $0.0045; " in report
    assert " saved (" in report
    assert "NOT in the sums" not in report
    assert repr(costs).startswith("CostLedger($0.0002")


def test_a_baseline_that_is_cheaper(pair: CrossRouter) -> None:
    costs = CostLedger(pair, baseline=SMALL)
    routed(pair, float("inf")).invoke(QUESTION, {"callbacks": [costs]})
    assert costs.saving_usd is not None
    assert costs.saving_usd < 0
    assert " spent more (-" in costs.report()


def test_without_a_call_and_without_a_baseline(pair: CrossRouter) -> None:
    costs = CostLedger(pair)
    assert costs.saving_usd is None
    assert costs.to_dict()["saving_usd"] is None
    assert "total" in costs.report()
    assert "$0.00" in CostLedger(pair, baseline=LARGE).report()


def test_a_baseline_needs_a_price(pair: CrossRouter) -> None:
    with pytest.raises(UnknownModelError, match="did you mean"):
        CostLedger(pair, baseline="gpt-4o-2024-08-07")
    pool = ModelPool(model.model_copy(update={"price": None}) for model in pair.pool.values())
    with pytest.raises(DescriptorError, match=f"{LARGE}.*no price"):
        CostLedger(pool, baseline=LARGE)


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda _: Counted())
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(block, found)
    printed = capsys.readouterr().out
    assert "total" in printed
    assert str(found["ledger"].total_usd) in printed
    assert found["ledger"].to_dict()["total"]["calls"] == 2


def test_a_followed_folder_is_priced_as_it_is_now(pair: CrossRouter, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    pair.pool.save(folder)
    live = CrossRouter.follow(folder, check_seconds=0)
    costs = CostLedger(live, baseline=LARGE)
    model = routed(pair)
    model.invoke(QUESTION, {"callbacks": [costs]})
    before = costs.total_usd
    table = price(pair, SMALL)
    dearer = table.model_copy(update={"input_usd_per_1m": table.input_usd_per_1m + 1000})
    pair.pool[SMALL].model_copy(update={"price": dearer}).save(folder)
    time.sleep(0.15)  # What changed a moment ago may be half done, and is left for the next look.
    model.invoke(QUESTION, {"callbacks": [costs]})
    assert costs.total_usd - before > 100 * before


def test_a_ledger_says_what_it_needs() -> None:
    with pytest.raises(PoolError, match="got list"):
        CostLedger([])  # type: ignore[arg-type]
