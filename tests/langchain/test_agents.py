"""Agents and graphs: the middleware in LangChain's agents, and routers as their model."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from fakes_langchain import (
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    Make,
    Person,
    Recorder,
    agent_of,
    answered,
    asked,
    client,
    decision_of,
    lookup,
    order,
    person,
    run_agent,
    tool_callers,
    weather,
    with_the_tool,
)
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelRequest,
    ModelResponse,
    wrap_model_call,
)
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import (
    ModelAPIError,
    ModelError,
    ModelInvalidRequestError,
    ModelRateLimitError,
)
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from langchain_crossroute import CrossRouteMiddleware
from langchain_crossroute.ledger import CostLedger


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_chosen_model_answers(
    way: str, willingness: float, expected: Callable[[float], str], router: CrossRouter
) -> None:
    models = tool_callers()
    state = await run_agent(way, agent_of(models, willingness_to_pay=willingness))

    decision = router.subset(MODELS).route(QUESTION, willingness)
    answer = state["messages"][-1]
    assert answer.text == f"I am {expected(willingness)}."
    assert answered(models) == {expected(willingness): 1}
    assert state["crossroute"] == decision.to_dict()
    found = dict(answer.response_metadata["crossroute"])
    realised, bill = found.pop("realised"), found.pop("bill")
    assert found == decision.to_dict()
    assert bill["cost_usd"] == pytest.approx(realised["cost_usd"])
    assert (realised["input_tokens"], realised["output_tokens"]) == (5, 7)
    assert realised["cost_usd"] > 0
    assert answer.response_metadata["model_name"] == expected(willingness)
    json.dumps(answer.response_metadata, allow_nan=False)


@pytest.mark.parametrize("way", INVOKES)
async def test_the_run_is_the_models_own_and_is_counted_once(
    way: str, expected: Callable[[float], str], router: CrossRouter
) -> None:
    models, usage, recorder = tool_callers(), UsageMetadataCallbackHandler(), Recorder()
    costs = CostLedger(router, baseline=LARGE)
    config = {"callbacks": [usage, recorder, costs]}
    state = await run_agent(way, agent_of(models, willingness_to_pay=0), config=config)
    assert {model: count["total_tokens"] for model, count in usage.usage_metadata.items()} == {
        expected(0): 12
    }
    (run,) = recorder.models
    assert run.metadata["crossroute_model"] == expected(0)
    assert run.metadata["crossroute"] == state["crossroute"]
    assert [event[:2] for event in recorder.events] == [
        ("crossroute_decision", state["crossroute"])
    ]
    assert {model: row.calls for model, row in costs.spend.items()} == {expected(0): 1}
    assert costs.total_usd > 0


async def test_what_is_set_on_a_model_stays_as_it_is(expected: Callable[[float], str]) -> None:
    recorder, own = Recorder(), Recorder()
    models = tool_callers(metadata={"mine": 1}, tags=["mine"], callbacks=[own])
    chosen = models[expected(0)]
    before = dict(chosen.metadata or {})
    await run_agent(
        "invoke", agent_of(models, willingness_to_pay=0), config={"callbacks": [recorder]}
    )
    assert [run.metadata for run in recorder.models] == [run.metadata for run in own.models]
    assert recorder.models[0].metadata["mine"] == 1
    assert "mine" in recorder.models[0].tags
    assert (chosen.metadata, chosen.tags, chosen.callbacks) == (before, ["mine"], [own])


@pytest.mark.parametrize("way", INVOKES)
async def test_system_prompt_and_settings_reach_the_model(
    way: str, expected: Callable[[float], str], router: CrossRouter
) -> None:
    models = tool_callers()
    agent = agent_of(models, agent={"system_prompt": "Be brief."}, willingness_to_pay=0)
    state = await run_agent(way, agent)
    (asked,) = models[expected(0)].asked
    assert [type(message) for message in asked] == [SystemMessage, HumanMessage]
    plain = await run_agent(way, agent_of(tool_callers(), willingness_to_pay=0))
    # The system prompt is counted, and read for the kind of task.
    assert state["crossroute"]["input_tokens"] > plain["crossroute"]["input_tokens"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    assert state["crossroute"]["quality"] == router.subset(MODELS).route(messages, 0).quality


async def test_cached_messages_of_an_agent_are_not_changed(
    expected: Callable[[float], str],
) -> None:
    cache = InMemoryCache()
    models = tool_callers(cache=cache)
    agent = agent_of(models, willingness_to_pay=0)
    first = HumanMessage(QUESTION, id="1")
    for _ in range(2):
        state = await run_agent("invoke", agent, [first])
    assert answered(models) == {expected(0): 1}
    assert state["messages"][-1].response_metadata["crossroute"]["realised"]["cost_usd"] == 0
    assert "crossroute" not in models[expected(0)].invoke([first]).response_metadata
    assert answered(models) == {expected(0): 1}


@pytest.mark.parametrize("way", INVOKES)
async def test_outside_a_graph(way: str, expected: Callable[[float], str]) -> None:
    models = tool_callers()
    routed: Any = CrossRouteMiddleware(models, willingness_to_pay=0)
    request: Any = ModelRequest(model=models[LARGE], messages=[HumanMessage(QUESTION)])

    def handler(request: Any) -> Any:
        return ModelResponse(result=[request.model.invoke(request.messages)])

    async def ahandler(request: Any) -> Any:
        return handler(request)

    if way == "invoke":
        found = routed.wrap_model_call(request, handler)
    else:
        found = await routed.awrap_model_call(request, ahandler)
    assert found.model_response.result[0].text == f"I am {expected(0)}."
    assert found.command.update["crossroute"]["model"] == expected(0)


async def test_blank_input_is_answered() -> None:
    models = tool_callers()
    found = await run_agent("invoke", agent_of(models), " ")
    assert found["crossroute"]["blank"]
    assert answered(models) == {found["crossroute"]["model"]: 1}


async def test_an_agent_as_a_node_of_a_graph(expected: Callable[[float], str]) -> None:
    models, costs = tool_callers(), CostLedger(CrossRouter.default())
    agent = agent_of(models, [lookup], willingness_to_pay=0)
    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_edge(START, "agent")
    whole: Any = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}, "callbacks": [costs]}
    for turn in (1, 2):
        state = await run_agent("ainvoke", whole, config=config)
        assert state["messages"][-1].text == f"I am {expected(0)}."
        assert costs.spend[expected(0)].calls == 2 * turn


# Failures


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize(
    "error", [ModelRateLimitError("429"), ModelAPIError("500"), TimeoutError(), ConnectionError()]
)
async def test_the_next_best_model_answers_where_one_fails(
    way: str, error: Exception, router: CrossRouter
) -> None:
    models, recorder, costs = tool_callers(), Recorder(), CostLedger(router)
    first, second, _ = order(router)
    models[first].errors.append(error)
    agent = agent_of(models, willingness_to_pay=math.inf)
    state = await run_agent(way, agent, config={"callbacks": [recorder, costs]})

    answer = state["messages"][-1]
    assert answer.text == f"I am {second}."
    assert answered(models) == {first: 1, second: 1}
    found = answer.response_metadata["crossroute"]
    assert found["model"] == state["crossroute"]["model"] == second
    (failed,) = found["attempts"]
    assert failed["model"] == first
    assert type(error).__name__ in failed["error"]
    assert [name for name, *_ in recorder.events] == [
        "crossroute_decision",
        "crossroute_attempt_failed",
    ]
    assert recorder.events[1][1]["next"] == second
    assert [run.metadata["crossroute_model"] for run in recorder.models] == [first, second]
    assert costs.spend[first].failures == 1
    assert (costs.spend[second].calls, costs.spend[second].failures) == (1, 0)


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_are_bounded(way: str, attempts: int, router: CrossRouter) -> None:
    models = tool_callers()
    for model in models.values():
        model.errors.append(ModelRateLimitError(model.model_name))
    tried = order(router)[:attempts]
    with pytest.raises(ModelRateLimitError, match=tried[-1]) as raised:
        await run_agent(way, agent_of(models, willingness_to_pay=math.inf, attempts=attempts))
    assert answered(models) == dict.fromkeys(tried, 1)
    if attempts > 1:
        assert all(model in str(raised.value.__notes__) for model in tried)


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize(
    "error", [ValueError("wrong"), ModelInvalidRequestError("400"), ModelError("other")]
)
async def test_other_errors_are_raised_at_once(
    way: str, error: Exception, router: CrossRouter
) -> None:
    models = tool_callers()
    first = order(router)[0]
    models[first].errors.append(error)
    with pytest.raises(type(error)):
        await run_agent(way, agent_of(models, willingness_to_pay=math.inf))
    assert answered(models) == {first: 1}


@pytest.mark.parametrize("way", INVOKES)
async def test_a_forced_model_is_not_left(way: str) -> None:
    models = tool_callers()
    models[MINI].errors.append(ModelRateLimitError("429"))
    config = {"configurable": {"crossroute_model": MINI}}
    with pytest.raises(ModelRateLimitError):
        await run_agent(way, agent_of(models), config=config)
    assert answered(models) == {MINI: 1}


@pytest.mark.parametrize("way", INVOKES)
async def test_a_model_that_fails_in_a_tool_loop_is_left_for_the_rest_of_it(
    way: str, router: CrossRouter
) -> None:
    first, second, _ = order(router)
    models = tool_callers()

    def read(name: str) -> str:
        """Read a document."""
        models[first].errors.append(ModelAPIError("500"))
        return "Nothing in it."

    state = await run_agent(way, agent_of(models, [read], willingness_to_pay=math.inf))
    assert state["messages"][-1].text == f"I am {second}."
    assert state["crossroute"]["model"] == second


async def test_an_interrupt_is_no_failure(router: CrossRouter) -> None:
    class Approve(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            interrupt("May I?")
            return handler(request)

    models = tool_callers()
    routed = CrossRouteMiddleware(models, willingness_to_pay=math.inf)
    agent: Any = create_agent(
        models[SMALL], middleware=[routed, Approve()], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    state = await run_agent("invoke", agent, config=config)
    assert state["__interrupt__"]
    assert answered(models) == {}
    state = await run_agent("invoke", agent, Command(resume="yes"), config)
    assert state["messages"][-1].text == f"I am {order(router)[0]}."


async def test_another_middlewares_answer_passes(expected: Callable[[float], str]) -> None:
    @wrap_model_call
    def shout(request: Any, handler: Any) -> AIMessage:
        return AIMessage(handler(request).result[0].text.upper())

    routed = CrossRouteMiddleware(tool_callers(), willingness_to_pay=0)
    for middleware in ([routed, shout], [shout, routed]):
        agent: Any = create_agent(tool_callers()[SMALL], middleware=middleware)
        state = await run_agent("invoke", agent)
        assert state["messages"][-1].text == f"I AM {expected(0).upper()}."
        assert state["crossroute"]["model"] == expected(0)


# Clients


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("with_middleware", [False, True], ids=["model", "middleware"])
async def test_an_agent_with_a_tool(
    way: str, with_middleware: bool, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = with_the_tool
    if with_middleware:
        models = {model: client(server, model) for model in (LARGE, MINI)}
        middleware: Any = CrossRouteMiddleware(models, willingness_to_pay=0)
        agent: Any = create_agent(models[LARGE], [weather], middleware=[middleware])
    else:
        agent = create_agent(make(), [weather])
    state = {"messages": [HumanMessage("What is the weather like in Paris?")]}
    result = agent.invoke(state) if way == "invoke" else await agent.ainvoke(state)
    _, call, said, answer = result["messages"]
    assert call.tool_calls[0]["args"] == {"city": "Paris"}
    assert isinstance(said, ToolMessage)
    assert answer.text == "The tool says: It rains in Paris."
    assert [decision_of(message)["model"] for message in (call, answer)] == [MINI, MINI]


async def test_an_agent_with_structured_output(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = person
    agent: Any = create_agent(make(), response_format=Person)
    result = await agent.ainvoke({"messages": [HumanMessage("Who wrote the first program?")]})
    assert result["structured_response"] == Person(name="Ada", age=36)
    # Both candidates have it by themselves, so the agent needs no tool for it.
    (request,) = server.requests
    assert request.body["response_format"]["type"] == "json_schema"
    assert not request.body.get("tools")


async def test_an_agent_whose_model_fails_in_the_loop(make: Make, server: OpenAIServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        is_second = body["messages"][-1]["role"] == "tool"
        return Reply(status=500) if is_second else with_the_tool(body)

    server.answers = {MINI: answer, LARGE: with_the_tool}
    agent = create_agent(make(), [weather])
    result = await agent.ainvoke({"messages": [HumanMessage("And the weather in Paris?")]})
    assert result["messages"][-1].text == "The tool says: It rains in Paris."
    assert asked(server) == [MINI, MINI, LARGE]
