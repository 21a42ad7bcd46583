"""One call: who answers, what runs, what the answer carries, whatever the candidates are."""

# LangChain's own signatures say Any.

import asyncio
import json
import math
import threading
import uuid
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest
from fakes_langchain import (
    ALL_WAYS,
    LARGE,
    MESSAGES,
    MODELS,
    QUESTION,
    SMALL,
    SYSTEM,
    WAYS,
    Recorder,
    ScriptedChatModel,
    answer_of,
    cheap,
    chunks_of,
    decision_of,
    output_of,
    predicted,
    scripted,
)
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

import langchain_crossroute
import langchain_crossroute.runnable
from crossroute import CrossRouter, QueryError
from langchain_crossroute import CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_chosen_model_answers(
    way: str, willingness: float, expected: Callable[[float], str]
) -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=willingness)
    chain = PROMPT | routed | StrOutputParser()

    assert await output_of(way, chain, {"question": QUESTION}) == f"I am {expected(willingness)}."
    asked = {model: fake.asked for model, fake in models.items() if fake.asked}
    assert asked == {expected(willingness): [[SystemMessage(SYSTEM), HumanMessage(QUESTION)]]}


@pytest.mark.parametrize("way", WAYS)
async def test_one_model_run_under_one_router_run(
    way: str, expected: Callable[[float], str]
) -> None:
    recorder = Recorder()
    chain = PROMPT | CrossRouteRunnable(models=scripted()) | StrOutputParser()
    await chunks_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})

    routing = recorder.named("CrossRouteRunnable")
    (answering,) = recorder.of_kind("model")
    assert recorder.runs[answering].parent == routing
    assert recorder.runs[routing].parent == recorder.named("RunnableSequence")
    assert recorder.runs[recorder.named("RunnableSequence")].parent is None
    assert set(recorder.ended) == set(recorder.runs)
    assert not recorder.errors
    model = expected(langchain_crossroute.runnable.DEFAULT_WILLINGNESS_TO_PAY)
    assert recorder.runs[answering].metadata["crossroute_model"] == model
    assert "crossroute_model" not in recorder.runs[routing].metadata


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_one_model_run_under_one_run_of_the_chat_model(way: str) -> None:
    recorder, usage, models = Recorder(), UsageMetadataCallbackHandler(), scripted()
    config = {"callbacks": [recorder, usage]}
    answer = await answer_of(way, cheap(models), QUESTION, config)

    assert answer.text == f"I am {SMALL}."
    assert isinstance(answer, AIMessage)
    (routing,), (answering,) = recorder.of_kind("chain"), recorder.of_kind("model")
    assert recorder.runs[routing].name == "ChatCrossRoute"
    assert recorder.runs[routing].parent is None
    assert recorder.runs[answering].parent == routing
    assert set(recorder.ended) == set(recorder.runs)
    assert not recorder.errors
    assert usage.usage_metadata[SMALL]["total_tokens"] == 12
    assert len(usage.usage_metadata) == 1
    assert [len(model.asked) for model in models.values()] == [0, 1, 0]


def test_the_config_of_an_outer_run_is_inherited() -> None:
    recorder = Recorder()
    outer = RunnableLambda(lambda text: cheap(scripted()).invoke(text).text, name="outer")
    config: Any = {"callbacks": [recorder], "configurable": {"crossroute_model": LARGE}}
    assert outer.invoke(QUESTION, config) == f"I am {LARGE}."
    assert recorder.runs[recorder.named("ChatCrossRoute")].parent == recorder.named("outer")


@pytest.mark.parametrize("way", WAYS)
async def test_the_answer_carries_the_decision(way: str, router: CrossRouter) -> None:
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=math.inf)
    answer = await output_of(way, PROMPT | routed, {"question": QUESTION})

    decision = router.subset(MODELS).route(MESSAGES, math.inf)
    found = answer.response_metadata["crossroute"]
    price = router.pool[decision.model].price
    assert price is not None
    realised = {
        "input_tokens": 5,
        "output_tokens": 7,
        "cached_tokens": 0,
        "cost_usd": pytest.approx(price.cost_usd(5, 7)),
    }
    assert found.pop("realised") == realised
    assert found.pop("bill") == {
        "asks": [{"model": decision.model, "role": "answer", **realised, "estimated": False}],
        "cost_usd": realised["cost_usd"],
        "estimated": False,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(
        json.dumps(decision.to_dict())
    )
    assert answer.response_metadata["model_name"] == decision.model
    assert answer.response_metadata["model_provider"] == "scripted"
    assert answer.usage_metadata["total_tokens"] == 12


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_the_decision_is_seen_everywhere(way: str, router: CrossRouter) -> None:
    recorder = Recorder()
    answer = await answer_of(way, cheap(scripted()), QUESTION, {"callbacks": [recorder]})

    decision = router.subset(MODELS).route(QUESTION, 0).to_dict()
    found = dict(decision_of(answer))
    realised, bill = found.pop("realised"), found.pop("bill")
    assert found == decision
    assert bill["cost_usd"] == pytest.approx(realised["cost_usd"])
    assert realised["input_tokens"] == 5
    assert realised["output_tokens"] == 7
    (routing,), (answering,) = recorder.of_kind("chain"), recorder.of_kind("model")
    assert recorder.events == [("crossroute_decision", decision, routing)]
    assert recorder.runs[answering].metadata["crossroute_model"] == decision["model"]
    assert recorder.runs[answering].metadata["crossroute"] == decision
    assert "crossroute" not in recorder.runs[routing].metadata
    assert answer.response_metadata["model_name"] == SMALL
    assert answer.response_metadata["model_provider"] == "scripted"


@pytest.mark.parametrize("way", WAYS)
async def test_usage_is_counted_once(way: str, expected: Callable[[float], str]) -> None:
    usage = UsageMetadataCallbackHandler()
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [usage]})
    assert {model: count["total_tokens"] for model, count in usage.usage_metadata.items()} == {
        expected(0): 12
    }


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_of_the_model_reaches_the_caller(way: str) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted(error=ValueError("bad input")))
    with pytest.raises(ValueError, match="bad input"):
        await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [recorder]})
    (answering,) = recorder.of_kind("model")
    assert isinstance(recorder.errors[answering], ValueError)
    assert isinstance(recorder.errors[recorder.named("CrossRouteRunnable")], ValueError)


@pytest.mark.parametrize("way", WAYS)
async def test_a_query_that_cannot_be_routed_asks_no_model(way: str) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(QueryError, match="Cannot route by"):
        await chunks_of(way, routed, {"question": "?"}, {"callbacks": [recorder]})
    assert recorder.of_kind("model") == []
    assert isinstance(recorder.errors[recorder.named("CrossRouteRunnable")], QueryError)


@pytest.mark.parametrize("way", WAYS)
async def test_arguments_of_a_call_reach_the_model(
    way: str, expected: Callable[[float], str]
) -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0).bind(stop=["\n"])
    await chunks_of(way, PROMPT | routed, {"question": QUESTION})
    assert models[expected(0)].stops == [["\n"]]


# Many calls


def test_a_batch_runs_in_threads_and_keeps_its_order(router: CrossRouter) -> None:
    questions = [f"{QUESTION} Then find {10**number} of them." for number in range(16)]
    together = threading.Barrier(16)

    def answer(question: str) -> AIMessage:
        together.wait(timeout=10)
        return AIMessage(question)

    routed = CrossRouteRunnable(models={model: RunnableLambda(answer) for model in MODELS})
    answers = routed.batch(questions, {"max_concurrency": 16})
    assert [answer.text for answer in answers] == questions
    assert [predicted(answer) for answer in answers] == [
        router.subset(MODELS).route(question).to_dict() for question in questions
    ]


async def test_many_calls_at_once_async() -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models)
    answers = await asyncio.gather(*(routed.ainvoke(f"{QUESTION} {n}") for n in range(16)))
    for answer in answers:
        assert answer.text == f"I am {answer.response_metadata['crossroute']['model']}."


def test_a_batch_can_return_errors() -> None:
    routed = CrossRouteRunnable(models=scripted())
    answer, error = routed.batch([QUESTION, 7], return_exceptions=True)
    assert isinstance(answer, AIMessage)
    assert isinstance(error, QueryError)


def test_generate_answers_several_prompts(router: CrossRouter) -> None:
    recorder, run_id = Recorder(), uuid.uuid4()
    prompts: list[list[BaseMessage]] = [[HumanMessage(f"{QUESTION} {n}")] for n in range(3)]
    result = cheap(scripted()).generate(
        prompts,
        callbacks=[recorder],
        tags=["t"],
        metadata={"m": 1},
        run_name="three",
        run_id=run_id,
    )
    assert [len(generations) for generations in result.generations] == [1, 1, 1]
    assert result.run is not None
    assert result.run[0].run_id == run_id
    assert set(recorder.of_kind("chain")) == {run.run_id for run in result.run}
    assert recorder.runs[run_id].name == "three"
    assert recorder.runs[run_id].metadata["m"] == 1
    decision = router.subset(MODELS).route(prompts[1][0].text, 0)
    message: Any = result.generations[1][0].message  # type: ignore[union-attr]
    assert decision_of(message)["cost_usd"] == decision.cost_usd


# Messages that others hold


def test_cached_messages_are_not_changed() -> None:
    cache = InMemoryCache()
    models = {model: ScriptedChatModel(model_name=model, cache=cache) for model in MODELS}
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    chosen = [routed.invoke(QUESTION).response_metadata["crossroute"]["model"] for _ in range(2)]
    model = models[chosen[0]]
    assert len(model.asked) == 1
    assert "crossroute" not in model.invoke(QUESTION).response_metadata
    assert len(model.asked) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_shared_message_is_not_changed(way: str) -> None:
    shared = AIMessageChunk("the same", response_metadata={"model_name": "shared"})
    models = {model: RunnableLambda(lambda _: shared) for model in MODELS}
    answer = await output_of(way, CrossRouteRunnable(models=models), QUESTION)
    assert answer.response_metadata["model_name"] == "shared"
    assert "crossroute" in answer.response_metadata
    assert shared.response_metadata == {"model_name": "shared"}


# Candidates that are no chat models


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("output", ["text", {"answer": 1}, ["a", "b"], 0])
async def test_other_outputs_pass_unchanged(way: str, output: object) -> None:
    recorder = Recorder()
    models = {
        model: RunnableLambda(lambda _: output).with_config(run_name=model) for model in MODELS
    }
    routed = CrossRouteRunnable(models=models)
    assert await chunks_of(way, routed, QUESTION, {"callbacks": [recorder]}) == [output]

    (answering,) = [run for run in recorder.runs.values() if run.parent is not None]
    assert answering.parent == recorder.named("CrossRouteRunnable")
    assert answering.metadata["crossroute_model"] == answering.name


@pytest.mark.parametrize("way", WAYS)
async def test_candidates_may_be_chains_with_a_dict_as_input(
    way: str, expected: Callable[[float], str]
) -> None:
    recorder, models = Recorder(), scripted()
    chains = {id_: PROMPT | model | StrOutputParser() for id_, model in models.items()}
    routed = CrossRouteRunnable(
        models=chains, willingness_to_pay=math.inf, query=itemgetter("question")
    )
    chain = RunnablePassthrough.assign(context=lambda _: "unread") | routed
    answer = await output_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})
    assert answer == f"I am {expected(math.inf)}."
    (answering,) = recorder.of_kind("model")
    assert recorder.runs[answering].metadata["crossroute_model"] == expected(math.inf)


def test_a_dict_needs_to_be_told_what_to_read() -> None:
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(QueryError, match=r"type dict with the keys 'question', 'k':.*itemgetter"):
        routed.invoke({"question": QUESTION, "k": 3})
