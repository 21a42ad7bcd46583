"""Streams of agents and graphs: each token once."""

# LangChain's own signatures say Any.

import math
from collections.abc import Callable
from typing import Any

import pytest
from fakes_langchain import (
    INVOKES,
    MINI,
    QUESTION,
    ROUTERS,
    STREAMS,
    Make,
    agent_of,
    answered,
    asked,
    lookup,
    order,
    tokens_of,
    tool_callers,
    weather,
    with_the_tool,
)
from langchain.agents import create_agent
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.messages import AIMessageChunk, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from openai_server import OpenAIServer

from crossroute import CrossRouter
from langchain_crossroute.ledger import CostLedger


@pytest.mark.parametrize("way", INVOKES)
async def test_each_token_is_streamed_once(way: str, expected: Callable[[float], str]) -> None:
    costs = CostLedger(CrossRouter.default())
    agent = agent_of(tool_callers(), [lookup], willingness_to_pay=0)
    tokens = await tokens_of(way, agent, {"callbacks": [costs]})
    text = f"I am {expected(0)}."
    assert [token for token in tokens if token] == [
        text[start : start + 3] for start in range(0, len(text), 3)
    ]
    assert costs.spend[expected(0)].calls == 2
    assert costs.spend[expected(0)].without_usage == 0


@pytest.mark.parametrize("way", INVOKES)
async def test_the_state_is_streamed_with_the_decision(
    way: str, expected: Callable[[float], str]
) -> None:
    agent = agent_of(tool_callers(), willingness_to_pay=0)
    value = {"messages": [HumanMessage(QUESTION)]}
    if way == "invoke":
        states = list(agent.stream(value, stream_mode="values"))
    else:
        states = [state async for state in agent.astream(value, stream_mode="values")]
    assert states[-1]["crossroute"]["model"] == expected(0)


@pytest.mark.parametrize("way", INVOKES)
async def test_a_stream_that_fails_before_its_first_token_goes_to_the_next_model(
    way: str, router: CrossRouter
) -> None:
    models = tool_callers()
    first, second, _ = order(router)
    models[first].errors.append(ModelRateLimitError("429"))
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf))
    assert "".join(tokens) == f"I am {second}."


@pytest.mark.parametrize("way", INVOKES)
async def test_a_stream_that_has_emitted_is_not_started_again(
    way: str, router: CrossRouter
) -> None:
    models = tool_callers(fails_after=2)
    first = order(router)[0]
    models[first].errors.append(ConnectionError("dropped"))
    with pytest.raises(ConnectionError, match="dropped"):
        await tokens_of(way, agent_of(models, willingness_to_pay=math.inf))
    assert answered(models) == {first: 1}


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_a_stream_of_events_that_has_emitted_is_not_started_again(
    router: CrossRouter,
) -> None:
    models = tool_callers(fails_after=2)
    first = order(router)[0]
    models[first].errors.append(ConnectionError("dropped"))
    agent = agent_of(models, willingness_to_pay=math.inf)
    value = {"messages": [HumanMessage(QUESTION)]}

    async def read() -> None:
        async with await agent.astream_events(value, version="v3") as events:
            async for _ in events:
                pass

    with pytest.raises(ConnectionError, match="dropped"):
        await read()
    assert answered(models) == {first: 1}


# Clients


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", STREAMS)
async def test_a_graph_streams_each_token_once(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    routed = make(kind)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [routed.invoke(state["messages"])]}

    async def aanswer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await routed.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer if way == "stream" else aanswer)
    graph.add_edge(START, "answer")
    app: Any = graph.compile()
    state = {"messages": [HumanMessage(QUESTION)]}
    if way == "stream":
        parts = list(app.stream(state, stream_mode="messages"))
    else:
        parts = [part async for part in app.astream(state, stream_mode="messages")]
    texts = [message.text for message, _ in parts if message.text]
    assert texts == ["The", " capital", " of", " France", " is", " Paris."]
    assert all(isinstance(message, AIMessageChunk) for message, _ in parts)
    assert asked(server) == [MINI]


async def test_an_agent_streams_each_token_once(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    agent = create_agent(make(), [weather])
    state: Any = {"messages": [HumanMessage("What is the weather like in Paris?")]}
    parts = [part async for part in agent.astream(state, stream_mode="messages")]
    said = [m.text for m, _ in parts if isinstance(m, AIMessageChunk) and m.text]
    assert "".join(said) == "The tool says: It rains in Paris."
