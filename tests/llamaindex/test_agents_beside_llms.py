"""Agents, query engines, retrievers and tools: behind CrossRouteAgents, and in a selector."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import (
    ASKS,
    LARGE,
    MAKES_AN_AGENT,
    MINI,
    QUESTION,
    Recorder,
    Retriever,
    answers_of,
    multiply,
    scripted,
)
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolMetadata
from pydantic import BaseModel

from crossroute import (
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    PoolError,
    Provider,
    Topsis,
)
from crossroute.strategies import Ask, Flow, Task
from llamaindex_crossroute import (
    CostLedger,
    CrossRouteAgents,
    CrossRouteDecisionEvent,
    CrossRouteLLM,
    CrossRouteRecorder,
    CrossRouteSelector,
    call_settings,
    dispatch,
)

pytestmark = MAKES_AN_AGENT

FLIGHT = "Which flights go from Paris to Rome on Friday?"
LEAVE = "How many holidays do I have, and how is parental leave handled?"


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


def router_with(*agents: ModelDescriptor) -> CrossRouter:
    shipped = CrossRouter.shipped()
    return shipped.over(ModelPool([shipped.pool[MINI], shipped.pool[LARGE], *agents]))


def door(agent: Any, descriptor: ModelDescriptor = FLIGHTS, **settings: Any) -> CrossRouteAgents:
    models = {model: one for model, one in scripted().items() if model in (MINI, LARGE)}
    return CrossRouteAgents(
        router=router_with(descriptor),
        models={**models, descriptor.id: agent},
        **{"willingness_to_pay": math.inf} | settings,
    )


def calling_agent() -> FunctionAgent:
    """An agent that calls its tool, then answers: two calls of its LLM."""
    return FunctionAgent(tools=[multiply], llm=scripted()["gpt-4o-2024-08-06"])


class Broken(CustomQueryEngine):
    """A query engine that fails."""

    error: Any

    def custom_query(self, query_str: str) -> str:
        raise self.error


class NothingFound(BaseRetriever):
    """A retriever without data."""

    def _retrieve(self, query_bundle: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("way", ASKS)
async def test_an_agent_answers_what_it_serves(way: str) -> None:
    agent = calling_agent()
    llm = door(agent)
    (*_, found) = await answers_of(way, llm, FLIGHT)
    text = found.text if "complete" in way else found.message.content
    assert text == f"I am {LARGE}."
    decision = found.additional_kwargs["crossroute"]
    assert decision["model"] == "flights"
    (ask,) = decision["bill"]["asks"]
    assert (ask["model"], ask["input_tokens"], ask["cost_usd"]) == ("flights", 100, 0.02)
    (*_, other) = await answers_of(way, llm, QUESTION)
    assert other.additional_kwargs["crossroute"]["model"] in (MINI, LARGE)


async def test_it_gets_the_conversation_and_tells_its_course(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent: Any = calling_agent()
    llm = door(AgentWorkflow(agents=[agent]))
    history = [ChatMessage("Hello."), ChatMessage("Hello!", role=MessageRole.ASSISTANT)]
    found = await llm.achat([*history, ChatMessage(FLIGHT)])
    first, second = agent.llm._asked
    assert [one.content for one in first if one.role != "system"] == ["Hello.", "Hello!", FLIGHT]
    assert second[-1].content == "42"
    assert found.raw.current_agent_name == agent.name

    seen: list[Any] = []

    class Looks:
        def answer(self, task: Task) -> Flow:
            reply = yield Ask(task.decision.model)
            seen.extend(reply.messages)
            return reply

    monkeypatch.setattr(dispatch, "_flow", lambda _llm, _request, task: Looks().answer(task))
    await llm.achat([ChatMessage(FLIGHT)])
    assert [one["role"] for one in seen] == ["assistant", "tool", "assistant"]
    assert seen[0]["tool_calls"][0]["function"]["name"] == multiply.metadata.name
    assert seen[1]["content"] == "42"


@pytest.mark.parametrize("error", [ConnectionError("no line"), KeyError("a bug")])
async def test_models_stand_in_for_what_fails(error: Exception) -> None:
    llm = door(Broken(error=error))
    if isinstance(error, KeyError):
        with pytest.raises(KeyError, match="a bug"):
            llm.chat([ChatMessage(FLIGHT)])
        return
    for found in (llm.chat([ChatMessage(FLIGHT)]), await llm.achat([ChatMessage(FLIGHT)])):
        decision = found.additional_kwargs["crossroute"]
        assert decision["model"] in (MINI, LARGE)
        assert decision["attempts"] == [{"model": "flights", "error": "ConnectionError: no line"}]
        # It was asked.
        assert decision["bill"]["asks"][0]["cost_usd"] == 0.02


async def test_an_agent_whose_llm_fails() -> None:
    agent = FunctionAgent(tools=[multiply], llm=scripted(error=TimeoutError("late"))[MINI])
    found = await door(agent).achat([ChatMessage(FLIGHT)])
    assert found.additional_kwargs["crossroute"]["model"] in (MINI, LARGE)
    assert "late" in found.additional_kwargs["crossroute"]["attempts"][0]["error"]


def test_retrievers_and_tools_get_the_text() -> None:
    found = door(Retriever(), FAQ).chat([ChatMessage("Hello."), ChatMessage(LEAVE)])
    assert found.additional_kwargs["crossroute"]["model"] == "faq"
    assert found.message.content == "Primes are numbers."
    assert found.raw[0].score == 1.0
    empty = door(NothingFound(), FAQ).complete(LEAVE)
    assert empty.additional_kwargs["crossroute"]["attempts"][0]["model"] == "faq"

    def calculate(question: str, digits: int = 2) -> str:
        """Calculate."""
        return question.upper() + "!" * digits

    with call_settings(model="sums"):
        found = door(FunctionTool.from_defaults(calculate), SUMS).chat([ChatMessage("three")])
    assert found.message.content == "THREE!!"
    assert found.additional_kwargs["crossroute"]["bill"]["cost_usd"] == 0.0


def test_objects_are_asked_of_models(events: Recorder) -> None:
    class City(BaseModel):
        name: str

    llm = door(calling_agent())
    prompt = PromptTemplate("{question}")
    assert llm.predict(prompt, question=FLIGHT) == f"I am {LARGE}."
    llm.structured_predict(City, prompt, question=FLIGHT)
    decision = events.of(CrossRouteDecisionEvent)[-1].decision
    assert decision["model"] in (MINI, LARGE)
    assert "flights" in decision["removed"]


class Both:
    """Asks each candidate, and gives the last answer."""

    takes_tools = True

    def answer(self, task: Task) -> Flow:
        for one in task.decision.candidates:
            reply = yield Ask(one.model)
        return reply


def test_strategies_are_for_models() -> None:
    llm = door(calling_agent(), strategy=Both())
    asked = [
        [ask["model"] for ask in llm.complete(text).additional_kwargs["crossroute"]["bill"]["asks"]]
        for text in (FLIGHT, QUESTION)
    ]
    assert asked == [["flights"], [LARGE, MINI]]


def test_the_books_hold_agents(tmp_path: Path) -> None:
    llm = door(calling_agent())
    recorder, ledger = (
        CrossRouteRecorder(tmp_path / "records.jsonl"),
        CostLedger(llm, baseline=MINI),
    )
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    dispatcher.add_event_handler(recorder)
    try:
        with ledger:
            llm.complete(FLIGHT)
    finally:
        dispatcher.event_handlers[:] = before
    record = json.loads((tmp_path / "records.jsonl").read_text())
    assert (record["model"], record["cost_usd"]) == ("flights", 0.02)
    (ask,) = record["asks"]
    assert (ask["kind"], ask["stated"]) == ("agent", True)
    spend = ledger.spend["flights"]
    assert (spend.calls, spend.cost_usd, ledger.saving_usd) == (1, 0.02, 0.0)


def two_numbers(a: int, b: int) -> str:
    """Multiply."""
    return str(a * b)


@pytest.mark.parametrize(
    ("candidate", "descriptor", "says"),
    [
        (FunctionTool.from_defaults(two_numbers), SUMS, "takes the arguments a: integer, b: int"),
        (MockLLM(), FLIGHTS, "is an LLM, and of kind agent"),
        (object(), FLIGHTS, "is of type object; give an LLM, an agent"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    candidate: Any, descriptor: ModelDescriptor, says: str
) -> None:
    with pytest.raises(PoolError, match=says):
        door(candidate, descriptor)


def test_an_llm_takes_models_only() -> None:
    with pytest.raises(PoolError, match=r"'flights' is of kind agent .* or take CrossRouteAgents"):
        CrossRouteLLM(router=router_with(FLIGHTS), models={MINI: MockLLM(), "flights": MockLLM()})
    llm = CrossRouteLLM(router=router_with(FLIGHTS), models={MINI: MockLLM(), LARGE: MockLLM()})
    assert "flights" not in llm.router.pool


@pytest.mark.parametrize("follow", [False, True])
def test_a_folder_with_agents(follow: bool, tmp_path: Path) -> None:
    pool = CrossRouter.shipped().pool
    provider = Provider(
        chat_model="openai:x", base_url="http://127.0.0.1:1", api_key_env="KEY_OF_X"
    )
    for model in (MINI, LARGE):
        pool[model].model_copy(update={"provider": provider, "retired": None}).save(tmp_path)
    FLIGHTS.save(tmp_path)
    llm = CrossRouteAgents.from_yaml(tmp_path, agents={"flights": calling_agent()}, follow=follow)
    with call_settings(model="flights"):
        assert llm.complete("Hello.").text == f"I am {LARGE}."


def test_a_selector_chooses_agents_by_what_they_say() -> None:
    class Named(CustomQueryEngine):
        name: str

        def custom_query(self, query_str: str) -> str:
            return f"{self.name} answers"

    names = {"book": "flights", "leave": "faq", "quick": MINI, "thorough": LARGE}
    engine = RouterQueryEngine(
        CrossRouteSelector(router=router_with(FLIGHTS, FAQ), models=names),
        [
            QueryEngineTool.from_defaults(Named(name=name), name=name, description="Any.")
            for name in names
        ],
        llm=MockLLM(),
    )
    assert [str(engine.query(text)) for text in (FLIGHT, LEAVE)] == [
        "book answers",
        "leave answers",
    ]
    result: Any = (engine.query(QUESTION).metadata or {})["selector_result"]
    assert result.decision.model in (MINI, LARGE)


@pytest.mark.parametrize("follows", [False, True])
def test_a_ranking_takes_the_place_of_the_routers(follows: bool, tmp_path: Path) -> None:
    models = {model: MockLLM() for model in (MINI, LARGE)}
    assert CrossRouteLLM(models=models, ranking="topsis").router.ranking == Topsis()
    router: Any = CrossRouter.shipped().subset([MINI, LARGE])
    if follows:
        for model in router.pool.values():
            model.model_copy(update={"retired": None}).save(tmp_path)
        router = CrossRouter.follow(tmp_path)
    tools = [ToolMetadata(name=name, description="Any.") for name in (MINI, LARGE)]
    chosen = [
        CrossRouteSelector(router, ranking=Topsis(*weights)).select(tools, QUESTION).ind
        for weights in ((0, 1, 0), (1, 0, 0))
    ]
    assert chosen == [0, 1]


def test_a_selector_of_agents_alone_says_that_none_serves() -> None:
    tools = [ToolMetadata(name=name, description="Any.") for name in ("flights", "faq")]
    selector = CrossRouteSelector(router_with(FLIGHTS, FAQ))
    assert "the query fits it by" in selector.select(tools, FLIGHT).selections[0].reason
    with pytest.raises(NoCandidateError, match="the margin is"):
        selector.select(tools, QUESTION)
