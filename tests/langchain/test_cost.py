"""What a call really cost."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    CALLS,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    STREAMS,
    TEXT,
    Make,
    ScriptedChatModel,
    answer_of,
    cheap,
    decision_of,
    output_of,
)
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter, ModelPool
from langchain_crossroute import CostLedger


def test_cached_tokens_cost_less(router: CrossRouter) -> None:
    pool = ModelPool(
        descriptor.model_copy(
            update={
                "price": descriptor.price.model_copy(update={"cached_input_usd_per_1m": 0.01})  # type: ignore[union-attr]
            }
        )
        for descriptor in router.pool.subset(MODELS).values()
    )
    message = AIMessage(
        "x",
        usage_metadata={
            "input_tokens": 1000,
            "output_tokens": 10,
            "total_tokens": 1010,
            "input_token_details": {"cache_read": 900},
        },
    )
    models: Any = {model: RunnableLambda(lambda _: message) for model in MODELS}
    realised = decision_of(cheap(models, router=router.over(pool)).invoke(QUESTION))["realised"]
    price = pool[SMALL].price
    assert price is not None
    assert realised["cached_tokens"] == 900
    assert realised["cost_usd"] == price.cost_usd(1000, 10, 900) < price.cost_usd(1000, 10)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_answer_from_the_cache_costs_nothing(way: str) -> None:
    cache = InMemoryCache()
    models = {model: ScriptedChatModel(model_name=model, cache=cache) for model in MODELS}
    first, second = [decision_of(await answer_of(way, cheap(models), QUESTION)) for _ in range(2)]
    assert first["realised"]["cost_usd"] > 0
    assert second["realised"] == first["realised"] | {"cost_usd": 0.0}
    assert "crossroute" not in models[SMALL].invoke(QUESTION).response_metadata


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_answer_from_the_cache_need_not_have_usage(kind: Any, way: str) -> None:
    cache = InMemoryCache()
    models = {
        model: ScriptedChatModel(model_name=model, cache=cache, usage=None) for model in MODELS
    }
    chat = kind(models=models, willingness_to_pay=0)
    first = decision_of(chat.invoke(QUESTION))
    config = {"callbacks": [ledger := CostLedger(chat.router)]}
    second = decision_of(await answer_of(way, chat, QUESTION, config))
    assert "realised" not in first
    realised = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": 0.0}
    assert second["realised"] == realised
    assert ledger.spend[SMALL].cached_answers == 1


# Clients


@pytest.mark.parametrize("way", CALLS)
async def test_usage_and_realised_cost(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    usage = UsageMetadataCallbackHandler()
    answer = await output_of(way, make(), QUESTION, {"callbacks": [usage]})

    price = router.pool[MINI].price
    assert price is not None
    assert decision_of(answer)["realised"] == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cached_tokens": 400,
        "cost_usd": pytest.approx(float(price.cost_usd(1000, 200, 400))),
    }
    assert answer.usage_metadata["total_tokens"] == 1200
    assert {name: count["total_tokens"] for name, count in usage.usage_metadata.items()} == {
        MINI: 1200
    }


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_whose_usage_was_not_asked_for(way: str, make: Make) -> None:
    # ChatOpenAI asks for it by itself only where no base_url is set.
    answer = await output_of(way, make(mini={"stream_usage": None}), QUESTION)
    assert answer.text == TEXT
    assert answer.usage_metadata is None
    assert "realised" not in decision_of(answer)


@pytest.mark.parametrize("way", CALLS)
async def test_the_model_that_answered_in_the_end_is_priced(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(status=500)
    server.answers[LARGE] = Reply(TEXT, input_tokens=1000, output_tokens=200)
    answer = await output_of(way, make(), QUESTION)
    price = router.pool[LARGE].price
    assert price is not None
    assert decision_of(answer)["realised"]["cost_usd"] == pytest.approx(
        float(price.cost_usd(1000, 200))
    )


async def test_a_ledger_of_real_clients(make: Make, server: OpenAIServer) -> None:
    # Without rests: the fourth failure is one more.
    routed = make(cooldown=None)
    ledger = CostLedger(routed.router, baseline=LARGE)
    answers = [await output_of(way, routed, QUESTION, {"callbacks": [ledger]}) for way in CALLS]
    server.answers[MINI] = Reply(status=500)
    answers += [await output_of(way, routed, QUESTION, {"callbacks": [ledger]}) for way in CALLS]
    assert ledger.total_usd == pytest.approx(
        sum(decision_of(answer)["realised"]["cost_usd"] for answer in answers)
    )
    calls = {model: (spend.calls, spend.failures) for model, spend in ledger.spend.items()}
    assert calls == {MINI: (8, 4), LARGE: (4, 0)}
