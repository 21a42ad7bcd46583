"""Streams: each token once and when it is made, in every form of streaming."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from fakes_langchain import (
    MODELS,
    QUESTION,
    SMALL,
    SYSTEM,
    Recorder,
    ScriptedChatModel,
    State,
    answer_of,
    cheap,
    chunks_of,
    decision_of,
    predicted,
    scripted,
)
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator
from langgraph.graph import START, StateGraph

from crossroute import CrossRouter
from langchain_crossroute import CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_the_decision_is_on_the_first_chunk_only(way: str) -> None:
    chunks = await chunks_of(way, CrossRouteRunnable(models=scripted()), QUESTION)
    assert len(chunks) > 5
    first, *middle, last = [chunk.response_metadata.get("crossroute") for chunk in chunks]
    assert "model" in first
    assert not any(middle)
    assert list(last) == ["realised", "bill"]


def test_tokens_pass_when_they_are_made() -> None:
    models = scripted()
    chain = PROMPT | CrossRouteRunnable(models=models, willingness_to_pay=0) | StrOutputParser()
    stream = chain.stream({"question": QUESTION})
    assert next(stream) == "I a"
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert next(stream) == "m M"
    assert sum(len(model.tokens_made) for model in models.values()) == 2


async def test_tokens_pass_when_they_are_made_async() -> None:
    models = scripted()
    chain = PROMPT | CrossRouteRunnable(models=models, willingness_to_pay=0) | StrOutputParser()
    stream = chain.astream({"question": QUESTION})
    assert await anext(stream) == "I a"
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert await anext(stream) == "m M"
    assert sum(len(model.tokens_made) for model in models.values()) == 2
    await stream.aclose()


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_handler_sees_each_token_once(way: str, expected: Callable[[float], str]) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {expected(0)}."


def test_a_streamed_input_is_routed_whole(router: CrossRouter) -> None:
    def words(_: Iterator[Any]) -> Iterator[str]:
        yield from (QUESTION[:20], QUESTION[20:])

    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=math.inf)
    answer = reduce(add, (RunnableGenerator(words) | routed).stream("go"))
    decision = router.subset(MODELS).route(QUESTION, math.inf)
    assert predicted(answer) == decision.to_dict()
    assert models[decision.model].asked == [[HumanMessage(QUESTION)]]


async def test_a_streamed_input_is_routed_whole_async(router: CrossRouter) -> None:
    async def words(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for part in (QUESTION[:20], QUESTION[20:]):
            yield part

    routed = CrossRouteRunnable(models=scripted())
    chunks = [chunk async for chunk in (RunnableGenerator(words) | routed).astream("go")]
    decision = router.subset(MODELS).route(QUESTION)
    assert predicted(reduce(add, chunks)) == decision.to_dict()


def test_an_abandoned_stream_ends_its_run() -> None:
    models, recorder = scripted(), Recorder()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    stream = routed.stream(QUESTION, {"callbacks": [recorder]})
    next(stream)
    stream.close()
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


async def test_an_abandoned_stream_ends_its_run_async() -> None:
    models, recorder = scripted(), Recorder()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    stream = routed.astream(QUESTION, {"callbacks": [recorder]})
    await anext(stream)
    await stream.aclose()
    await asyncio.sleep(0.01)
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_chain_streams_its_tokens(way: str) -> None:
    chains = {id_: model | StrOutputParser() for id_, model in scripted().items()}
    routed = CrossRouteRunnable(models=chains, willingness_to_pay=0)
    chunks = await chunks_of(way, routed, QUESTION)
    assert chunks[:2] == ["I a", "m M"]


def test_the_decision_waits_for_the_first_message() -> None:
    def mixed(_: Iterator[Any]) -> Iterator[Any]:
        yield "not a message"
        yield AIMessageChunk("one")
        yield AIMessageChunk("two")

    routed = CrossRouteRunnable(models={model: RunnableGenerator(mixed) for model in MODELS})
    text, one, two = routed.stream(QUESTION)
    assert text == "not a message"
    assert "crossroute" in one.response_metadata
    assert "crossroute" not in two.response_metadata


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_usage_in_several_chunks_is_added_up(way: str, router: CrossRouter) -> None:
    def parts(_: Any) -> Any:
        for tokens in ((5, 1), (0, 2), (0, 4)):
            yield AIMessageChunk(
                content="x",
                usage_metadata={
                    "input_tokens": tokens[0],
                    "output_tokens": tokens[1],
                    "total_tokens": sum(tokens),
                },
            )

    async def aparts(_: Any) -> Any:
        for part in parts(_):
            yield part

    models: Any = {model: RunnableGenerator(parts, aparts) for model in MODELS}
    answer = await answer_of(way, cheap(models), QUESTION)
    price = router.pool[SMALL].price
    assert price is not None
    assert answer.text == "xxx"
    assert decision_of(answer)["realised"]["output_tokens"] == 7
    assert decision_of(answer)["realised"]["cost_usd"] == pytest.approx(price.cost_usd(5, 7))


def test_streaming_lets_the_model_stream_within_invoke() -> None:
    models, recorder = scripted(), Recorder()
    cheap(models, streaming=True).invoke(QUESTION, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {SMALL}."
    cheap(models).invoke(QUESTION, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {SMALL}."


# Events


async def test_events_of_a_chain(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    events = [event async for event in chain.astream_events({"question": QUESTION})]
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == f"I am {expected(0)}."
    assert [e["event"] for e in events].count("on_chat_model_start") == 1


@pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated")
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_events_of_versions_1_and_2(version: Any) -> None:
    events = [e async for e in cheap(scripted()).astream_events(QUESTION, version=version)]
    names = [event["event"] for event in events]
    assert names.count("on_chat_model_start") == names.count("on_chat_model_end") == 1
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == f"I am {SMALL}."
    assert events[0]["name"] == "ChatCrossRoute"


async def test_the_custom_event_is_in_the_stream_of_events() -> None:
    events = [event async for event in cheap(scripted()).astream_events(QUESTION, version="v2")]
    (custom,) = [event for event in events if event["event"] == "on_custom_event"]
    assert custom["name"] == "crossroute_decision"
    assert custom["data"]["model"] == SMALL
    assert custom["run_id"] == events[0]["run_id"]


def test_the_protocol_stream_passes_tokens_when_they_are_made() -> None:
    models = scripted()
    stream = cheap(models).stream_events(QUESTION, version="v3")
    assert not models[SMALL].tokens_made
    text = iter(stream.text)
    assert next(text) == "I a"
    assert len(models[SMALL].tokens_made) < 4
    assert "".join(text) == f"m {SMALL}."


async def test_a_protocol_stream_can_be_closed_early() -> None:
    class Slow(ScriptedChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                await asyncio.sleep(0.05)

    recorder = Recorder()
    models = {model: Slow(model_name=model) for model in MODELS}
    stream = await cheap(models).astream_events(QUESTION, {"callbacks": [recorder]}, version="v3")
    async with stream:
        async for _ in stream.text:
            break
    await asyncio.sleep(0.01)
    assert len(models[SMALL].tokens_made) < 4
    assert len(recorder.runs) == 2
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


@pytest.mark.parametrize("way", ["v3", "av3"])
async def test_an_error_ends_a_protocol_stream(way: str) -> None:
    models = {model: ScriptedChatModel(model_name=model, error=ValueError) for model in MODELS}
    with pytest.raises(ValueError):  # noqa: PT011
        await answer_of(way, cheap(models), QUESTION)


# Graphs


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_graph_emits_each_token_once(is_async: bool) -> None:
    chat = cheap(scripted())
    graph = StateGraph(State)
    graph.add_node("ask", lambda state: {"messages": [chat.invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    app = graph.compile()
    start: Any = {"messages": [HumanMessage(QUESTION)]}
    if is_async:
        found = [part async for part in app.astream(start, stream_mode="messages")]
    else:
        found = list(app.stream(start, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in found) == f"I am {SMALL}."
    assert len(found) > 5
