"""CostLedger over a folder whose prices change."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import LARGE, MINI, QUESTION, USAGE, Counted, followed, put
from langchain.agents import create_agent

from crossroute import CrossRouter, Price
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRunnable,
)

CLASSES = [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda _: Counted())
    put(tmp_path, LARGE, "large")
    put(tmp_path, MINI, "small")
    return tmp_path


def table(model: str, times: float = 1) -> Price:
    price = CrossRouter.default().pool[model].price
    assert price is not None
    changes = {
        name: getattr(price, name) * times for name in ("input_usd_per_1m", "output_usd_per_1m")
    }
    return price.model_copy(update=changes)


def usd(model: str, times: float = 1) -> float:
    return float(table(model, times).cost_usd(USAGE["input_tokens"], USAGE["output_tokens"]))


def ask_with(routed: Any, ledger: CostLedger) -> Any:
    config = {"callbacks": [ledger]}
    if isinstance(routed, CrossRouteMiddleware):
        agent: Any = create_agent(Counted(), middleware=[routed])
        return agent.invoke({"messages": [("user", QUESTION)]}, config)["messages"][-1]
    return routed.invoke(QUESTION, config)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("given", ["itself", "live"])
def test_what_follows_a_folder_is_counted_at_the_prices_of_each_call(
    folder: Path, cls: Any, given: str
) -> None:
    routed = followed(cls.from_yaml(folder, follow=True, willingness_to_pay=0))
    ledger = CostLedger(routed if given == "itself" else routed.live, baseline=LARGE)
    ask_with(routed, ledger)
    put(folder, MINI, "small", price=table(MINI, 4))
    put(folder, LARGE, "large", price=table(LARGE, 2))
    answer = ask_with(routed, ledger)
    realised = answer.response_metadata["crossroute"]["realised"]
    assert realised["cost_usd"] == pytest.approx(usd(MINI, 4))
    assert ledger.total_usd == pytest.approx(usd(MINI) + usd(MINI, 4))
    assert ledger.spend[MINI].baseline_usd == pytest.approx(usd(LARGE) + usd(LARGE, 2))


@pytest.mark.parametrize("cls", CLASSES)
def test_what_follows_no_folder_has_the_prices_of_its_router(folder: Path, cls: Any) -> None:
    routed = cls.from_yaml(folder, willingness_to_pay=0)
    ledger = CostLedger(routed, baseline=LARGE)
    put(folder, MINI, "small", price=table(MINI, 4))
    ask_with(routed, ledger)
    assert ledger.total_usd == pytest.approx(usd(MINI))


def test_a_call_in_flight_is_counted_at_the_prices_that_it_began_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Counted):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            inside.set()
            assert go_on.wait(30)
            return super()._generate(*args, **kwargs)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda _: Slow())
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    ledger = CostLedger(chat, baseline=LARGE)
    with ThreadPoolExecutor(1) as executor:
        call = executor.submit(ask_with, chat, ledger)
        assert inside.wait(30)
        put(folder, MINI, "small", price=table(MINI, 4))
        put(folder, LARGE, "large", price=table(LARGE, 4))
        assert chat.live.current.router.pool[MINI].price == table(MINI, 4)
        go_on.set()
        realised = call.result(30).response_metadata["crossroute"]["realised"]
    assert realised["cost_usd"] == pytest.approx(usd(MINI))
    assert ledger.total_usd == pytest.approx(usd(MINI))
    assert ledger.spend[MINI].baseline_usd == pytest.approx(usd(LARGE))


def test_a_baseline_that_leaves_the_folder_keeps_its_price(folder: Path) -> None:
    put(folder, "gpt-5.5", "older", price=table(LARGE, 1))
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    ledger = CostLedger(chat, baseline=LARGE)
    put(folder, MINI, "small", price=table(MINI, 2))
    path = folder / f"{LARGE}.yaml"
    path.unlink()
    put(folder, MINI, "small", price=table(MINI, 3))
    ask_with(chat, ledger)
    assert LARGE not in chat.live.current.models
    assert ledger.spend[MINI].cost_usd == pytest.approx(usd(MINI, 3))
    assert ledger.spend[MINI].baseline_usd == pytest.approx(usd(LARGE))


def test_a_ledger_takes_a_followed_router(folder: Path) -> None:
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    live = CrossRouter.follow(folder, check_seconds=0)
    ledger = CostLedger(live)
    put(folder, MINI, "small", price=table(MINI, 4))
    ask_with(chat, ledger)
    assert ledger.total_usd == pytest.approx(usd(MINI, 4))
