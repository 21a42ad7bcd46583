"""Agents, chains, retrievers and tools among the candidates of CrossRouteRunnable."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import (
    LARGE,
    MINI,
    QUESTION,
    Recorder,
    ScriptedChatModel,
    ToolCaller,
    decision_of,
    weather,
)
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from crossroute import (
    ConstraintError,
    CrossRouter,
    DailySpend,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    PoolError,
    Provider,
    UnknownModelError,
)
from crossroute.strategies import Ask, Ended, Flow, Task
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRecorder,
    CrossRouteRunnable,
)

FLIGHT = "Which flights go from Paris to Rome on Friday?"
EACH = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])


def of_kind(id_: str, kind: Any, description: str, **fields: Any) -> ModelDescriptor:
    defaults: dict[str, Any] = {"expected_quality": 0.99, "cost_usd_a_call": 0.02}
    return ModelDescriptor(id=id_, kind=kind, description=description, **defaults | fields)


FLIGHTS = of_kind(
    "flights",
    "agent",
    "Finds and books flights between cities.",
    examples=("Which flights are there from Berlin to Madrid on Monday?",),
)
FAQ = of_kind("faq", "retriever", "The handbook: holidays, sick leave and parental leave.")
SUMS = of_kind("sums", "tool", "A calculator for sums and percentages.", cost_usd_a_call=0.0)
REPORT = of_kind("report", "chain", "Writes the weekly sales report.", cost_usd_a_call=None)


def router_with(*agents: ModelDescriptor) -> CrossRouter:
    shipped = CrossRouter.shipped()
    return shipped.over(ModelPool([shipped.pool[MINI], shipped.pool[LARGE], *agents]))


def models() -> dict[str, ScriptedChatModel]:
    return {model: ScriptedChatModel(model_name=model) for model in (MINI, LARGE)}


def runnable(agent: Any, descriptor: ModelDescriptor = FLIGHTS, **settings: Any) -> Any:
    return CrossRouteRunnable(
        router=router_with(descriptor),
        models={**models(), descriptor.id: agent},
        **{"willingness_to_pay": math.inf} | settings,
    )


def calling_agent(**settings: Any) -> Any:
    """An agent that calls its tool, then answers: two calls of its model, with 12 tokens each."""
    return create_agent(ToolCaller(model_name="inner"), [weather], **settings)


def failing(error: Exception) -> Any:
    def fail(state: Any) -> Any:
        raise error

    return RunnableLambda(fail)


def forced(model: str, **settings: Any) -> Any:
    return {"configurable": {"crossroute_model": model}, **settings}


async def output(way: str, one: Any, value: Any, config: Any = None) -> Any:
    """What comes of a call: the parts of a stream as one, and the only one of a batch."""
    if way == "invoke":
        return one.invoke(value, config)
    if way == "ainvoke":
        return await one.ainvoke(value, config)
    if way == "stream":
        return reduce(add, one.stream(value, config))
    if way == "astream":
        return reduce(add, [part async for part in one.astream(value, config)])
    (found,) = one.batch([value], config) if way == "batch" else await one.abatch([value], config)
    return found


@EACH
async def test_an_agent_answers_what_it_serves(way: str) -> None:
    found = await output(way, runnable(calling_agent()), FLIGHT)
    assert (type(found), found.text) == (AIMessage, "I am inner.")
    assert found.usage_metadata == {"input_tokens": 10, "output_tokens": 14, "total_tokens": 24}
    decision = decision_of(found)
    assert decision["model"] == "flights"
    (ask,) = decision["bill"]["asks"]
    assert (ask["model"], ask["input_tokens"], ask["cost_usd"]) == ("flights", 10, 0.02)
    assert decision["bill"]["estimated"] is False


@EACH
async def test_models_answer_what_no_agent_serves(way: str) -> None:
    one = CrossRouteRunnable(
        router=router_with(FLIGHTS, FAQ),
        models={**models(), "flights": calling_agent(), "faq": failing(KeyError())},
    )
    assert decision_of(await output(way, one, QUESTION))["model"] in (MINI, LARGE)
    assert decision_of(await output(way, one, FLIGHT))["model"] == "flights"


async def test_its_runs_are_under_that_of_the_router() -> None:
    recorder = Recorder()
    config: Any = {"callbacks": [recorder], "tags": ["mine"]}
    events = [event async for event in runnable(calling_agent()).astream_events(FLIGHT, config)]
    router, agent = recorder.named("CrossRouteRunnable"), recorder.named("LangGraph")
    assert recorder.runs[agent].parent == router
    assert recorder.runs[agent].metadata["crossroute_model"] == "flights"
    assert len(recorder.models) == 2
    assert all("mine" in run.tags for run in recorder.runs.values() if run.name == "model")
    kinds = [event["event"] for event in events]
    assert kinds.count("on_tool_end") == 1
    assert kinds[-1] == "on_chain_end"
    assert events[-1]["data"]["output"].text == "I am inner."


def test_it_gets_the_conversation_and_its_thread() -> None:
    agent = calling_agent(checkpointer=InMemorySaver())
    one = runnable(agent)
    config: Any = {"configurable": {"thread_id": "1"}}
    history: list[Any] = [HumanMessage("Hello."), AIMessage("Hello!"), HumanMessage(FLIGHT)]
    history += [one.invoke(history, config), HumanMessage(f"{FLIGHT} And back?")]
    assert (one | StrOutputParser()).invoke(history, config) == "I am inner."
    kept = agent.get_state(config).values["messages"]
    # What was sent twice is there once.
    assert [one.text for one in kept if one.type == "human"] == [
        "Hello.",
        FLIGHT,
        f"{FLIGHT} And back?",
    ]


def test_the_state_of_an_agent_is_its_input() -> None:
    seen: list[Any] = []

    def answer(state: Any) -> Any:
        seen.append(state)
        return {"messages": [AIMessage("Fine.")]}

    by_text = runnable(RunnableLambda(answer), query=lambda state: state["question"])
    assert by_text.invoke({"question": FLIGHT, "user": 7}).text == "Fine."
    (state,) = seen
    assert [message.text for message in state.pop("messages")] == [FLIGHT]
    assert state == {"question": FLIGHT, "user": 7}


@pytest.mark.parametrize("way", ["invoke", "astream"])
async def test_an_interrupt_is_no_failure(way: str, tmp_path: Path) -> None:
    def confirm(state: MessagesState) -> Any:
        return {"messages": [AIMessage(f"Booked: {interrupt('Shall I book?')}")]}

    graph = StateGraph(MessagesState)
    graph.add_node("confirm", confirm)
    graph.add_edge(START, "confirm")
    alone = graph.compile(checkpointer=InMemorySaver())
    one = runnable(alone)
    recorder, ledger = CrossRouteRecorder(tmp_path / "records.jsonl"), CostLedger(one)
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [recorder, ledger]}
    with pytest.raises(GraphInterrupt) as raised:
        await output(way, one, FLIGHT, config)
    assert raised.value.args[0][0].value == "Shall I book?"
    assert json.loads((tmp_path / "records.jsonl").read_text())["outcome"] == "left"
    assert ledger.spend["flights"].failures == 0
    # Who holds the agent goes on with it.
    assert alone.invoke(Command(resume="yes"), config)["messages"][-1].text == "Booked: yes"

    # Within a graph, that graph goes on with it.
    inner = runnable(graph.compile())
    outer = StateGraph(MessagesState)
    outer.add_node("ask", lambda state: {"messages": [inner.invoke(state["messages"])]})
    outer.add_edge(START, "ask")
    whole = outer.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "2"}}
    stopped = whole.invoke({"messages": [HumanMessage(FLIGHT)]}, config)
    assert stopped["__interrupt__"][0].value == "Shall I book?"
    assert whole.invoke(Command(resume="yes"), config)["messages"][-1].text == "Booked: yes"


@EACH
async def test_models_stand_in_for_an_agent_that_fails(way: str) -> None:
    one = runnable(failing(ConnectionError("no line")))
    found = decision_of(await output(way, one, FLIGHT))
    assert found["model"] in (MINI, LARGE)
    assert found["attempts"] == [{"model": "flights", "error": "ConnectionError: no line"}]
    # It was asked.
    assert found["bill"]["asks"][0]["cost_usd"] == 0.02


@pytest.mark.parametrize("error", [KeyError("a bug"), ToolException("no sums")])
def test_bugs_are_raised_and_a_tool_may_say_that_it_cannot(error: Exception) -> None:
    @tool
    def sums(question: str) -> str:
        """Calculate."""
        raise error

    one = runnable(sums, SUMS)
    asked = "What is the sum of 3 and 4 percent of 20? Calculate it with the calculator."
    if isinstance(error, ToolException):
        assert one.invoke(asked).response_metadata["crossroute"]["model"] in (MINI, LARGE)
    else:
        with pytest.raises(KeyError, match="a bug"):
            one.invoke(asked)


class City(BaseModel):
    """A form of an answer."""

    name: str


@tool(return_direct=True)
def forecast(city: str) -> str:
    """Say how the weather will be."""
    return f"Sun in {city}."


ODD: list[Any] = [{"type": "image"}, {"type": "text", "text": "There."}, {"odd": 1}]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"messages": [{"role": "user", "content": "x"}, ("ai", "Fine.")]}, "Fine."),
        ({"messages": [AIMessage(ODD)]}, "There."),
        (
            {
                "messages": [
                    AIMessage("", tool_calls=[{"name": "x", "args": {}, "id": "1"}]),
                    ToolMessage("Sun", tool_call_id="1"),
                    ToolMessage("Wind", tool_call_id="2"),
                ]
            },
            "Sun\n\nWind",
        ),
    ],
)
def test_what_agents_leave_in_their_state(state: Any, text: str) -> None:
    one = runnable(RunnableLambda(lambda _: state))
    found = one.invoke(FLIGHT)
    assert (type(found), found.text, found.tool_calls) == (AIMessage, text, [])


@EACH
async def test_an_agent_may_end_with_a_tool(way: str) -> None:
    inner = ToolCaller(model_name="inner")
    found = await output(way, runnable(create_agent(inner, [forecast])), FLIGHT)
    assert (found.text, found.tool_calls) == ("Sun in Paris.", [])
    assert found.usage_metadata["output_tokens"] == 7
    formed = runnable(create_agent(inner, [], response_format=ToolStrategy(City)))
    found = await output(way, formed, FLIGHT)
    assert found.additional_kwargs["structured_response"] == City(name="Paris")
    assert found.tool_calls == []


class Handbook(BaseRetriever):
    """Finds two texts, or nothing."""

    is_empty: bool = False

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [] if self.is_empty else [Document(query), Document("28 days.")]


LEAVE = "How many holidays do I have, and how is parental leave handled?"


@EACH
async def test_a_retriever_gets_the_text_and_gives_documents(way: str) -> None:
    said = [HumanMessage("Hello."), AIMessage("Hello!"), HumanMessage(LEAVE)]
    found = await output(way, runnable(Handbook(), FAQ), said, forced("faq"))
    assert found.text == f"{LEAVE}\n\n28 days."
    assert [one.page_content for one in found.additional_kwargs["documents"]] == [LEAVE, "28 days."]
    # Nobody has counted tokens, and there are none.
    assert decision_of(found)["bill"]["asks"][0]["input_tokens"] == 0


def test_models_answer_where_a_retriever_finds_nothing() -> None:
    found = runnable(Handbook(is_empty=True), FAQ).invoke(LEAVE).response_metadata["crossroute"]
    assert found["model"] in (MINI, LARGE)
    assert "has found nothing" in found["attempts"][0]["error"]


@EACH
async def test_a_tool_gets_the_text_and_a_chain_the_input(way: str) -> None:
    @tool(response_format="content_and_artifact")
    def sums(question: str, digits: int = 2) -> Any:
        """Calculate."""
        return question.upper(), digits

    found = await output(way, runnable(sums, SUMS), "three and four", forced("sums"))
    assert (type(found), found.text) == (AIMessage, "THREE AND FOUR")
    assert found.additional_kwargs["artifact"] == 2
    assert decision_of(found)["bill"]["cost_usd"] == 0.0

    chain = runnable(RunnableLambda(lambda value: {"got": value}), REPORT)
    assert await output(way, chain, "the report", forced("report")) == {"got": "the report"}


def test_what_an_agent_did_is_told_and_counted(tmp_path: Path) -> None:
    one = runnable(calling_agent())
    ended: list[Ended] = []

    class Hears(CrossRouteRecorder):
        def on_crossroute_call(self, call: Ended) -> None:
            ended.append(call)
            super().on_crossroute_call(call)

    recorder, ledger = Hears(tmp_path / "records.jsonl"), CostLedger(one, baseline=MINI)
    one.invoke(FLIGHT, {"callbacks": [recorder, ledger]})
    record = json.loads((tmp_path / "records.jsonl").read_text())
    assert (record["model"], record["cost_usd"], record["outcome"]) == ("flights", 0.02, "answered")
    (ask,) = record["asks"]
    assert (ask["kind"], ask["stated"]) == ("agent", True)
    spend = ledger.spend["flights"]
    assert (spend.calls, spend.output_tokens, spend.cost_usd) == (1, 14, 0.02)
    # No model could have done it for less.
    assert ledger.saving_usd == 0.0
    assert ended[0].text == "I am inner."


def test_the_course_of_an_agent_is_on_the_reply() -> None:
    seen: list[Any] = []

    class Looks:
        takes_tools = True

        def answer(self, task: Task) -> Flow:
            reply = yield Ask("flights")
            seen.extend(reply.messages)
            return reply

    from crossroute.strategies import drive
    from langchain_crossroute.transport import WHOLE

    one = runnable(calling_agent())
    with one_run() as config:
        call = one._dispatch().decide(FLIGHT, config, {}, WHOLE)
        list(drive(call.task, Looks().answer(call.task), call.transport))
    assert [message["role"] for message in seen] == ["assistant", "tool", "assistant"]
    assert seen[0]["tool_calls"][0]["name"] == "weather"


def one_run() -> Any:
    from contextlib import nullcontext

    from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

    config = ensure_config()
    config["callbacks"] = get_callback_manager_for_config(config)
    return nullcontext(config)


def test_limits_on_cost_count_agents() -> None:
    daily = DailySpend(by_model={"flights": 0.03})
    one = runnable(calling_agent(), daily_spend=daily)
    assert one.invoke(FLIGHT).response_metadata["crossroute"]["model"] == "flights"
    assert daily.spent == {"flights": 0.02}
    second = one.invoke(FLIGHT).response_metadata["crossroute"]
    assert second["model"] in (MINI, LARGE)
    hard: Any = {"configurable": {"crossroute_hard_max_cost_usd": 1.0}}
    third = one.invoke(FLIGHT, hard).response_metadata["crossroute"]
    assert "nobody can limit what agents spend" in third["removed"]["flights"]


@dataclass
class Asks:
    """Asks each candidate, and gives the last answer."""

    takes_tools = True

    def answer(self, task: Task) -> Flow:
        for one in task.decision.candidates:
            reply = yield Ask(one.model)
        return reply


def test_strategies_are_for_models() -> None:
    one = runnable(calling_agent(), strategy=Asks())
    found = [
        one.invoke(text).response_metadata["crossroute"]["bill"] for text in (FLIGHT, QUESTION)
    ]
    assert [[ask["model"] for ask in bill["asks"]] for bill in found] == [
        ["flights"],
        [LARGE, MINI],
    ]


def test_a_strategy_of_a_conversation_that_keeps_its_model_asks_models() -> None:
    one = runnable(calling_agent(), strategy=Asks(), stay_margin=math.inf)
    begun = one.invoke(QUESTION, forced(MINI))
    found = decision_of(one.invoke([HumanMessage(QUESTION), begun, HumanMessage(FLIGHT)]))
    assert found["candidates"][1]["model"] == "flights"
    assert [ask["model"] for ask in found["bill"]["asks"]] == [MINI, LARGE]


def test_calls_with_tools_go_to_models() -> None:
    bound = runnable(calling_agent()).bind(tools=[{"type": "function", "function": {"name": "x"}}])
    found = bound.invoke(FLIGHT).response_metadata["crossroute"]
    assert found["model"] in (MINI, LARGE)
    assert "flights" in found["removed"]


@tool
def distance(start: str, end: str) -> str:
    """How far it is."""
    return ""


@tool
def of_user(question: str, runtime: ToolRuntime) -> str:
    """Say what the user has asked before."""
    return ""


@pytest.mark.parametrize(
    ("candidate", "descriptor", "says"),
    [
        (of_user, SUMS, "needs runtime, which only an agent gives it"),
        (distance, SUMS, r"takes the arguments start: string, end: string, but gets one text"),
        (distance, FLIGHTS, r"of kind agent in the router's pool: write kind: tool"),
        (Handbook(), FLIGHTS, "write kind: retriever"),
        (ScriptedChatModel(model_name="x"), FLIGHTS, "write kind: model"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    candidate: Any, descriptor: ModelDescriptor, says: str
) -> None:
    with pytest.raises(PoolError, match=says):
        runnable(candidate, descriptor)


def test_an_agent_that_gives_no_messages_says_so() -> None:
    one = runnable(RunnableLambda(lambda _: {"output": "Fine."}))
    with pytest.raises(PoolError, match="with the keys 'output', and no state with messages"):
        one.invoke(FLIGHT, forced("flights"))


@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteMiddleware])
def test_classes_of_models_take_models_only(kind: Callable[..., Any]) -> None:
    router = router_with(FLIGHTS)
    with pytest.raises(
        PoolError, match=r"'flights' is of kind agent .* or take CrossRouteRunnable"
    ):
        kind(router=router, models={**models(), "flights": ScriptedChatModel(model_name="x")})
    assert "flights" not in kind(router=router, models=models()).router.pool


def test_a_folder_with_agents(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = CrossRouter.shipped().pool
    provider = Provider(
        chat_model="openai:x", base_url="http://127.0.0.1:1", api_key_env="KEY_OF_X"
    )
    for model in (MINI, LARGE):
        pool[model].model_copy(update={"provider": provider, "retired": None}).save(tmp_path)
    FLIGHTS.save(tmp_path)
    FAQ.save(tmp_path)
    given = {"flights": calling_agent()}
    for follow in (False, True):
        one = CrossRouteRunnable.from_yaml(tmp_path, agents=given, follow=follow)
        assert set(one.models) == {MINI, LARGE, "flights"}
        assert one.invoke(FLIGHT, forced("flights")).text == "I am inner."
        assert "Nothing says how 'faq' can be called" in caplog.text
        caplog.clear()
    with pytest.raises(UnknownModelError, match="fligths"):
        CrossRouteRunnable.from_yaml(tmp_path, agents={"fligths": calling_agent()})
    with pytest.raises(PoolError, match="is a model in the folder"):
        CrossRouteRunnable.from_yaml(tmp_path, agents={MINI: calling_agent()})
    with pytest.raises(ConstraintError, match="ChatCrossRoute takes models only"):
        ChatCrossRoute.from_yaml(tmp_path, agents=given)
    assert set(ChatCrossRoute.from_yaml(tmp_path).models) == {MINI, LARGE}


def test_agents_alone_say_that_none_serves() -> None:
    with pytest.raises(NoCandidateError, match="flights"):
        CrossRouteRunnable(
            router=CrossRouter.shipped().over(ModelPool([FLIGHTS, FAQ])),
            models={"flights": calling_agent(), "faq": Handbook()},
        ).invoke(QUESTION)
