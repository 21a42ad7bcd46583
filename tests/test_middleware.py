"""CrossRouteMiddleware in agents of LangChain: who answers, what is remembered, what fails over."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import json
import math
import re
import runpy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelRequest,
    ModelResponse,
    wrap_model_call,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.exceptions import (
    ModelAPIError,
    ModelError,
    ModelInvalidRequestError,
    ModelRateLimitError,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field

from crossroute import (
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    PoolError,
    Provider,
    UnknownModelError,
    WillingnessToPayError,
)
from langchain_crossroute.ledger import CostLedger
from langchain_crossroute.middleware import CrossRouteMiddleware

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MEDIUM]
QUESTION = "Prove that there are infinitely many primes, and explain every step."
ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "langchain_agent.py"
PAGE = ROOT / "docs" / "langchain" / "middleware.md"
WAYS = ["invoke", "ainvoke"]
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
PIXEL = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}


class Capital(BaseModel):
    """The capital of a country."""

    city: str


class Scripted(BaseChatModel):
    """Calls the first of its tools for a user, answers with its name after that."""

    model_name: str
    errors: list[Exception] = Field(default_factory=list)
    fails_after: int = 0
    refuses: bool = False
    begins: str = ""
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    settings: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _answer(self, messages: list[BaseMessage], **kwargs: Any) -> AIMessage:
        self.asked.append(messages)
        self.settings.append(kwargs)
        answer: dict[str, Any] = {
            "response_metadata": {"model_name": self.model_name},
            "usage_metadata": USAGE,
        }
        if self.refuses:
            answer["additional_kwargs"] = {"refusal": "I will not."}
            return AIMessage(self.begins, **answer)
        tools = [tool["function"] for tool in kwargs.get("tools", [])]
        if tools and not isinstance(messages[-1], ToolMessage):
            (needed,) = tools[0]["parameters"]["required"][:1]
            call = {"name": tools[0]["name"], "args": {needed: "Paris"}, "id": "1"}
            return AIMessage("", tool_calls=[call], **answer)
        if "response_format" in kwargs:
            return AIMessage('{"city": "Paris"}', **answer)
        return AIMessage(f"I am {self.model_name}.", **answer)

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = self._answer(messages, **kwargs)
        self._fail()
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, **kwargs)
        if not self.fails_after:
            self._fail()
        for made, start in enumerate(range(0, len(answer.text), 3)):
            if made == self.fails_after:
                self._fail()
            chunk = ChatGenerationChunk(message=AIMessageChunk(answer.text[start : start + 3]))
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
        last = AIMessageChunk(
            "",
            tool_call_chunks=[
                {"name": call["name"], "args": json.dumps(call["args"]), "id": "1", "index": 0}
                for call in answer.tool_calls
            ],
            additional_kwargs=answer.additional_kwargs,
            response_metadata=answer.response_metadata,
            usage_metadata=answer.usage_metadata,
        )
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, **kwargs):
            await asyncio.sleep(0)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class Recorder(BaseCallbackHandler):
    """The metadata of the model runs, and the custom events."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.tags: list[list[str]] = []
        self.events: list[tuple[str, Any]] = []

    def on_chat_model_start(self, *args: Any, metadata: Any, tags: Any, **kwargs: Any) -> None:
        self.metadata.append(metadata)
        self.tags.append(tags)

    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self.events.append((name, data))


def scripted(**settings: Any) -> dict[str, Scripted]:
    return {model: Scripted(model_name=model, **settings) for model in MODELS}


def agent_of(
    models: dict[str, Scripted], tools: Sequence[Any] = (), agent: Any = None, **settings: Any
) -> Any:
    """An agent whose own model must never be asked."""
    never = Scripted(model_name="never", errors=[AssertionError("the agent's own model")] * 9)
    routed = CrossRouteMiddleware(models, **settings)
    return create_agent(never, list(tools), middleware=[routed], **(agent or {}))


async def run(way: str, agent: Any, value: Any = QUESTION, config: Any = None) -> dict[str, Any]:
    messages = value if isinstance(value, (list, Command)) else [HumanMessage(value)]
    value = messages if isinstance(messages, Command) else {"messages": messages}
    state: dict[str, Any] = (
        agent.invoke(value, config) if way == "invoke" else await agent.ainvoke(value, config)
    )
    return state


def answered(models: dict[str, Scripted]) -> dict[str, int]:
    return {id_: len(model.asked) for id_, model in models.items() if model.asked}


@pytest.fixture
def expected(router: CrossRouter) -> Callable[[float], str]:
    narrow = router.subset(MODELS)
    assert narrow.route(QUESTION, 0).model != narrow.route(QUESTION, math.inf).model
    return lambda willingness_to_pay: narrow.route(QUESTION, willingness_to_pay).model


def order(router: CrossRouter, willingness: float = math.inf, **constraints: Any) -> list[str]:
    """The candidates for the question, preferred first."""
    return [c.model for c in router.subset(MODELS).route(QUESTION, willingness).candidates]


def lookup(city: str) -> str:
    """Look a city up."""
    return f"{city} is fine."


# One call


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_chosen_model_answers(
    way: str, willingness: float, expected: Callable[[float], str], router: CrossRouter
) -> None:
    models = scripted()
    state = await run(way, agent_of(models, willingness_to_pay=willingness))

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


@pytest.mark.parametrize("way", WAYS)
async def test_the_run_is_the_models_own_and_is_counted_once(
    way: str, expected: Callable[[float], str], router: CrossRouter
) -> None:
    models, usage, recorder = scripted(), UsageMetadataCallbackHandler(), Recorder()
    costs = CostLedger(router, baseline=LARGE)
    config = {"callbacks": [usage, recorder, costs]}
    state = await run(way, agent_of(models, willingness_to_pay=0), config=config)
    assert {model: count["total_tokens"] for model, count in usage.usage_metadata.items()} == {
        expected(0): 12
    }
    (metadata,) = recorder.metadata
    assert metadata["crossroute_model"] == expected(0)
    assert metadata["crossroute"] == state["crossroute"]
    assert recorder.events == [("crossroute_decision", state["crossroute"])]
    assert {model: row.calls for model, row in costs.spend.items()} == {expected(0): 1}
    assert costs.total_usd > 0


async def test_what_is_set_on_a_model_stays_as_it_is(expected: Callable[[float], str]) -> None:
    recorder, own = Recorder(), Recorder()
    models = scripted(metadata={"mine": 1}, tags=["mine"], callbacks=[own])
    chosen = models[expected(0)]
    before = dict(chosen.metadata or {})
    await run("invoke", agent_of(models, willingness_to_pay=0), config={"callbacks": [recorder]})
    assert recorder.metadata == own.metadata
    assert recorder.metadata[0]["mine"] == 1
    assert "mine" in recorder.tags[0]
    assert (chosen.metadata, chosen.tags, chosen.callbacks) == (before, ["mine"], [own])


@pytest.mark.parametrize("way", WAYS)
async def test_system_prompt_and_settings_reach_the_model(
    way: str, expected: Callable[[float], str]
) -> None:
    models = scripted()
    agent = agent_of(models, agent={"system_prompt": "Be brief."}, willingness_to_pay=0)
    state = await run(way, agent)
    (asked,) = models[expected(0)].asked
    assert [type(message) for message in asked] == [SystemMessage, HumanMessage]
    plain = await run(way, agent_of(scripted(), willingness_to_pay=0))
    # The system prompt is counted, and does not change what is routed.
    assert state["crossroute"]["input_tokens"] > plain["crossroute"]["input_tokens"]
    assert state["crossroute"]["quality"] == plain["crossroute"]["quality"]


async def test_cached_messages_are_not_changed(expected: Callable[[float], str]) -> None:
    cache = InMemoryCache()
    models = scripted(cache=cache)
    agent = agent_of(models, willingness_to_pay=0)
    first = HumanMessage(QUESTION, id="1")
    for _ in range(2):
        state = await run("invoke", agent, [first])
    assert answered(models) == {expected(0): 1}
    assert state["messages"][-1].response_metadata["crossroute"]["realised"]["cost_usd"] == 0
    assert "crossroute" not in models[expected(0)].invoke([first]).response_metadata
    assert answered(models) == {expected(0): 1}


@pytest.mark.parametrize("way", WAYS)
async def test_outside_a_graph(way: str, expected: Callable[[float], str]) -> None:
    models = scripted()
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
    models = scripted()
    found = await run("invoke", agent_of(models), " ")
    assert found["crossroute"]["blank"]
    assert answered(models) == {found["crossroute"]["model"]: 1}


# Tool loops


@pytest.fixture
def tipping(router: CrossRouter) -> tuple[float, str, str]:
    """A willingness to pay, the model it chooses, and a tool result that changes the choice."""
    result = "word " * 20_000
    messages = [{"role": "user", "content": QUESTION}, {"role": "tool", "content": result}]
    narrow = router.subset(MODELS)
    found = []
    for willingness in np.geomspace(1e-4, 10, 60).tolist():
        before, after = (narrow.route(query, willingness).model for query in (QUESTION, messages))
        if before != after:
            found.append((willingness, before, result))
    return found[len(found) // 2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keep", [True, False])
async def test_a_tool_loop_keeps_its_model_unless_told_otherwise(
    way: str, keep: bool, tipping: tuple[float, str, str]
) -> None:
    willingness, first, result = tipping

    def read(name: str) -> str:
        """Read a long document."""
        return result

    models = scripted()
    agent = agent_of(models, [read], willingness_to_pay=willingness, keep_within_tool_loop=keep)
    state = await run(way, agent)
    calls = [m for m in state["messages"] if isinstance(m, AIMessage)]
    before, after = (call.response_metadata["crossroute"] for call in calls)
    assert (before["model"], before["kept"]) == (first, False)
    assert (after["model"] == first) is keep
    assert after["kept"] is keep
    assert state["crossroute"]["model"] == after["model"] == after["candidates"][0]["model"]
    assert answered(models) == ({first: 2} if keep else {first: 1, after["model"]: 1})
    # The prediction of the second call is its own: the tool result costs.
    assert after["input_tokens"] > before["input_tokens"] + 10_000
    if keep:
        assert after["cost_usd"] > before["cost_usd"]


async def test_a_model_that_cannot_take_a_tool_result_is_left() -> None:
    def look(name: str) -> list[Any]:
        """Look at a picture."""
        return [PIXEL]

    agent = agent_of(scripted(), [look], willingness_to_pay=0)
    config = {"configurable": {"crossroute_excluded": [MEDIUM]}}
    state = await run("invoke", agent, config=config)
    first, second = (
        m.response_metadata["crossroute"] for m in state["messages"] if isinstance(m, AIMessage)
    )
    assert first["model"] == SMALL
    assert second["model"] == LARGE
    assert "image_input" in second["removed"][SMALL]


async def test_a_model_without_tools_is_removed(router: CrossRouter) -> None:
    pool = [
        d.model_copy(update={"capabilities": ()}) if d.id == SMALL else d
        for d in router.subset(MODELS).pool.values()
    ]
    models = scripted()
    narrow = router.over(ModelPool(pool))
    agent = agent_of(models, [lookup], router=narrow, willingness_to_pay=0)
    state = await run("invoke", agent)
    assert state["crossroute"]["removed"] == {
        SMALL: "tools is not among the capabilities in its descriptor"
    }
    # The tools count as input tokens.
    plain = await run("invoke", agent_of(scripted(), router=narrow, willingness_to_pay=0))
    calls = [m for m in state["messages"] if isinstance(m, AIMessage)]
    tokens = calls[0].response_metadata["crossroute"]["input_tokens"]
    assert tokens > plain["crossroute"]["input_tokens"] + 5


# Turns of a thread


@pytest.mark.parametrize("way", WAYS)
async def test_a_new_turn_is_decided_anew_and_remembered(
    way: str, expected: Callable[[float], str]
) -> None:
    models = scripted()
    saver = InMemorySaver()
    agent = agent_of(models, [lookup], {"checkpointer": saver}, willingness_to_pay=0)
    turn = {"configurable": {"thread_id": "1"}}
    await run(way, agent, config=turn)
    remembered = agent.get_state(turn).values["crossroute"]
    assert remembered["model"] == expected(0)
    assert answered(models) == {expected(0): 2}

    dear = {"configurable": {"thread_id": "1", "willingness_to_pay": math.inf}}
    state = await run(way, agent, "Now prove it in another way, please, step by step.", dear)
    assert state["crossroute"]["model"] == expected(math.inf)
    assert state["crossroute"]["kept"] is False
    assert answered(models)[expected(math.inf)] == 2
    assert agent.get_state(turn).values["crossroute"] == state["crossroute"]
    json.dumps(state["crossroute"], allow_nan=False)

    # Another agent goes on where this one stopped: the memory is in the checkpoint.
    again = agent_of(models, [lookup], {"checkpointer": saver})
    assert again.get_state(turn).values["crossroute"] == state["crossroute"]


async def test_a_thread_that_stops_in_a_tool_loop_goes_on_with_its_model(
    expected: Callable[[float], str],
) -> None:
    def ask(name: str) -> str:
        """Ask a person."""
        return str(interrupt("Which one?"))

    models = scripted()
    agent = agent_of(models, [ask], {"checkpointer": InMemorySaver()}, willingness_to_pay=0)
    state = await run("invoke", agent, config={"configurable": {"thread_id": "1"}})
    assert state["__interrupt__"]
    # At this willingness to pay another model would be chosen.
    dear = {"configurable": {"thread_id": "1", "willingness_to_pay": math.inf}}
    state = await run("invoke", agent, Command(resume="That one."), dear)
    assert state["messages"][-1].text == f"I am {expected(0)}."
    assert state["crossroute"]["kept"] is True


@pytest.mark.parametrize(("margin", "stays"), [(0.9, True), (0, False), (None, False)])
async def test_a_margin_keeps_a_thread_on_its_model(
    margin: float | None, stays: bool, router: CrossRouter
) -> None:
    models = scripted()
    agent = agent_of(models, agent={"checkpointer": InMemorySaver()}, stay_margin=margin)
    turn: dict[str, Any] = {"thread_id": "1", "willingness_to_pay": math.inf}
    forced = {"configurable": {**turn, "crossroute_model": SMALL}}
    assert (await run("invoke", agent, config=forced))["crossroute"]["model"] == SMALL
    state = await run("invoke", agent, config={"configurable": turn})
    assert (state["crossroute"]["model"] == SMALL) is stays
    assert state["crossroute"]["kept"] is stays


async def test_an_agent_as_a_node_of_a_graph(expected: Callable[[float], str]) -> None:
    models, costs = scripted(), CostLedger(CrossRouter.default())
    agent = agent_of(models, [lookup], willingness_to_pay=0)
    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_edge(START, "agent")
    whole: Any = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}, "callbacks": [costs]}
    for turn in (1, 2):
        state = await run("ainvoke", whole, config=config)
        assert state["messages"][-1].text == f"I am {expected(0)}."
        assert costs.spend[expected(0)].calls == 2 * turn


# Settings of a call


@pytest.mark.parametrize("way", WAYS)
async def test_settings_of_a_call(
    way: str, expected: Callable[[float], str], router: CrossRouter
) -> None:
    cheap, best = expected(0), expected(math.inf)
    agent = agent_of(scripted(), willingness_to_pay=0)

    async def model(**settings: Any) -> str:
        state = await run(way, agent, config={"configurable": settings})
        return str(state["crossroute"]["model"])

    assert await model() == cheap
    assert await model(willingness_to_pay=math.inf) == best
    assert await model(crossroute_model=best) == best
    assert await model(crossroute_allowed=[best]) == best
    assert await model(crossroute_excluded=[cheap]) != cheap
    limit = router.subset(MODELS).route(QUESTION, math.inf).cost_usd / 2
    assert await model(willingness_to_pay=math.inf, crossroute_max_cost_usd=limit) != best


@pytest.mark.parametrize("way", WAYS)
async def test_wrong_settings_of_a_call(way: str) -> None:
    agent = agent_of(scripted())
    for settings, error in (
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"crossroute_model": "nobody"}, UnknownModelError),
        ({"crossroute_max_cost_usd": 0}, NoCandidateError),
    ):
        with pytest.raises(error):
            await run(way, agent, config={"configurable": settings})


# Failures


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error", [ModelRateLimitError("429"), ModelAPIError("500"), TimeoutError(), ConnectionError()]
)
async def test_the_next_best_model_answers_where_one_fails(
    way: str, error: Exception, router: CrossRouter
) -> None:
    models, recorder, costs = scripted(), Recorder(), CostLedger(router)
    first, second, _ = order(router)
    models[first].errors.append(error)
    agent = agent_of(models, willingness_to_pay=math.inf)
    state = await run(way, agent, config={"callbacks": [recorder, costs]})

    answer = state["messages"][-1]
    assert answer.text == f"I am {second}."
    assert answered(models) == {first: 1, second: 1}
    found = answer.response_metadata["crossroute"]
    assert found["model"] == state["crossroute"]["model"] == second
    (failed,) = found["attempts"]
    assert failed["model"] == first
    assert type(error).__name__ in failed["error"]
    assert [name for name, _ in recorder.events] == [
        "crossroute_decision",
        "crossroute_attempt_failed",
    ]
    assert recorder.events[1][1]["next"] == second
    assert [m["crossroute_model"] for m in recorder.metadata] == [first, second]
    assert costs.spend[first].failures == 1
    assert (costs.spend[second].calls, costs.spend[second].failures) == (1, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_are_bounded(way: str, attempts: int, router: CrossRouter) -> None:
    models = scripted()
    for model in models.values():
        model.errors.append(ModelRateLimitError(model.model_name))
    tried = order(router)[:attempts]
    with pytest.raises(ModelRateLimitError, match=tried[-1]) as raised:
        await run(way, agent_of(models, willingness_to_pay=math.inf, attempts=attempts))
    assert answered(models) == dict.fromkeys(tried, 1)
    if attempts > 1:
        assert all(model in str(raised.value.__notes__) for model in tried)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error", [ValueError("wrong"), ModelInvalidRequestError("400"), ModelError("other")]
)
async def test_other_errors_are_raised_at_once(
    way: str, error: Exception, router: CrossRouter
) -> None:
    models = scripted()
    first = order(router)[0]
    models[first].errors.append(error)
    with pytest.raises(type(error)):
        await run(way, agent_of(models, willingness_to_pay=math.inf))
    assert answered(models) == {first: 1}


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_model_is_not_left(way: str) -> None:
    models = scripted()
    models[MEDIUM].errors.append(ModelRateLimitError("429"))
    config = {"configurable": {"crossroute_model": MEDIUM}}
    with pytest.raises(ModelRateLimitError):
        await run(way, agent_of(models), config=config)
    assert answered(models) == {MEDIUM: 1}


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_goes_to_the_next_model(way: str, router: CrossRouter) -> None:
    models = scripted()
    first, second, _ = order(router)
    models[first].refuses = True
    state = await run(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert state["messages"][-1].text == f"I am {second}."
    (failed,) = state["messages"][-1].response_metadata["crossroute"]["attempts"]
    assert failed["model"] == first
    assert len(state["messages"]) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_is_the_answer_unless_it_is_to_pass(way: str, router: CrossRouter) -> None:
    models = scripted(refuses=True)
    first = order(router)[0]
    state = await run(way, agent_of(models, willingness_to_pay=math.inf))
    assert state["messages"][-1].additional_kwargs["refusal"] == "I will not."
    assert state["crossroute"]["model"] == first
    assert answered(models) == {first: 1}


@pytest.mark.parametrize("way", WAYS)
async def test_if_all_refuse_the_first_refusal_is_the_answer(way: str, router: CrossRouter) -> None:
    models = scripted(refuses=True)
    state = await run(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    first = order(router)[0]
    answer = state["messages"][-1]
    assert answer.additional_kwargs["refusal"] == "I will not."
    assert answer.response_metadata["model_name"] == first
    assert answer.response_metadata["crossroute"]["model"] == first
    assert state["crossroute"]["model"] == first
    assert answered(models) == dict.fromkeys(MODELS, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_that_fails_in_a_tool_loop_is_left_for_the_rest_of_it(
    way: str, router: CrossRouter
) -> None:
    first, second, _ = order(router)
    models = scripted()

    def read(name: str) -> str:
        """Read a document."""
        models[first].errors.append(ModelAPIError("500"))
        return "Nothing in it."

    state = await run(way, agent_of(models, [read], willingness_to_pay=math.inf))
    assert state["messages"][-1].text == f"I am {second}."
    assert state["crossroute"]["model"] == second


async def test_an_interrupt_is_no_failure(router: CrossRouter) -> None:
    class Approve(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            interrupt("May I?")
            return handler(request)

    models = scripted()
    routed = CrossRouteMiddleware(models, willingness_to_pay=math.inf)
    agent: Any = create_agent(
        models[SMALL], middleware=[routed, Approve()], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    state = await run("invoke", agent, config=config)
    assert state["__interrupt__"]
    assert answered(models) == {}
    state = await run("invoke", agent, Command(resume="yes"), config)
    assert state["messages"][-1].text == f"I am {order(router)[0]}."


async def test_another_middlewares_answer_passes(expected: Callable[[float], str]) -> None:
    @wrap_model_call
    def shout(request: Any, handler: Any) -> AIMessage:
        return AIMessage(handler(request).result[0].text.upper())

    routed = CrossRouteMiddleware(scripted(), willingness_to_pay=0)
    for middleware in ([routed, shout], [shout, routed]):
        agent: Any = create_agent(scripted()[SMALL], middleware=middleware)
        state = await run("invoke", agent)
        assert state["messages"][-1].text == f"I AM {expected(0).upper()}."
        assert state["crossroute"]["model"] == expected(0)


# Streams


async def tokens_of(way: str, agent: Any, config: Any = None) -> list[str]:
    value = {"messages": [HumanMessage(QUESTION)]}
    if way == "invoke":
        found = list(agent.stream(value, config, stream_mode="messages"))
    else:
        found = [part async for part in agent.astream(value, config, stream_mode="messages")]
    return [message.text for message, _ in found if isinstance(message, AIMessageChunk)]


@pytest.mark.parametrize("way", WAYS)
async def test_each_token_is_streamed_once(way: str, expected: Callable[[float], str]) -> None:
    costs = CostLedger(CrossRouter.default())
    agent = agent_of(scripted(), [lookup], willingness_to_pay=0)
    tokens = await tokens_of(way, agent, {"callbacks": [costs]})
    text = f"I am {expected(0)}."
    assert [token for token in tokens if token] == [
        text[start : start + 3] for start in range(0, len(text), 3)
    ]
    assert costs.spend[expected(0)].calls == 2
    assert costs.spend[expected(0)].without_usage == 0


@pytest.mark.parametrize("way", WAYS)
async def test_the_state_is_streamed_with_the_decision(
    way: str, expected: Callable[[float], str]
) -> None:
    agent = agent_of(scripted(), willingness_to_pay=0)
    value = {"messages": [HumanMessage(QUESTION)]}
    if way == "invoke":
        states = list(agent.stream(value, stream_mode="values"))
    else:
        states = [state async for state in agent.astream(value, stream_mode="values")]
    assert states[-1]["crossroute"]["model"] == expected(0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_fails_before_its_first_token_goes_to_the_next_model(
    way: str, router: CrossRouter
) -> None:
    models = scripted()
    first, second, _ = order(router)
    models[first].errors.append(ModelRateLimitError("429"))
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf))
    assert "".join(tokens) == f"I am {second}."


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_has_emitted_is_not_started_again(
    way: str, router: CrossRouter
) -> None:
    models = scripted(fails_after=2)
    first = order(router)[0]
    models[first].errors.append(ConnectionError("dropped"))
    with pytest.raises(ConnectionError, match="dropped"):
        await tokens_of(way, agent_of(models, willingness_to_pay=math.inf))
    assert answered(models) == {first: 1}


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
async def test_a_stream_of_events_that_has_emitted_is_not_started_again(
    router: CrossRouter,
) -> None:
    models = scripted(fails_after=2)
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


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_in_a_stream_goes_to_the_next_model(way: str, router: CrossRouter) -> None:
    models = scripted()
    first, second, _ = order(router)
    models[first].refuses = True
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert "".join(tokens) == f"I am {second}."


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_that_was_read_is_the_answer(way: str, router: CrossRouter) -> None:
    models = scripted(begins="Well, ")
    first = order(router)[0]
    models[first].refuses = True
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert "".join(tokens) == "Well, "
    assert answered(models) == {first: 1}


# Structured output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", [Capital, ToolStrategy(Capital), ProviderStrategy(Capital)])
async def test_structured_output(way: str, strategy: Any, router: CrossRouter) -> None:
    models = scripted()
    agent = agent_of(models, agent={"response_format": strategy}, willingness_to_pay=0)
    state = await run(way, agent)
    assert state["structured_response"] == Capital(city="Paris")
    decision = state["crossroute"]
    if isinstance(strategy, ProviderStrategy):
        assert decision["removed"] == {
            SMALL: "structured_output is not among the capabilities in its descriptor"
        }
    else:
        # A model that calls tools gives structured output by a tool.
        assert decision["removed"] == {}
    assert answered(models) == {decision["model"]: 1}
    message = next(m for m in state["messages"] if isinstance(m, AIMessage))
    assert message.response_metadata["crossroute"]["model"] == decision["model"]


# The constructor


def test_candidates_must_be_chat_models() -> None:
    models: Any = {LARGE: RunnableLambda(str), SMALL: RunnableLambda(str)}
    with pytest.raises(PoolError, match=f"{LARGE}.*RunnableLambda.*chat model"):
        CrossRouteMiddleware(models)


def test_wrong_arguments() -> None:
    models: Any = scripted()
    with pytest.raises(UnknownModelError):
        CrossRouteMiddleware({**models, "nobody": models[SMALL]})
    with pytest.raises(PoolError, match="at least two"):
        CrossRouteMiddleware({SMALL: models[SMALL]})
    with pytest.raises(WillingnessToPayError):
        CrossRouteMiddleware(models, willingness_to_pay=math.nan)
    with pytest.raises(ValueError, match="attempts"):
        CrossRouteMiddleware(models, attempts=0)
    with pytest.raises(ValueError, match="margin"):
        CrossRouteMiddleware(models, stay_margin=-1)


def test_repr_shows_no_secret() -> None:
    models = scripted(metadata={"key": "SECRET"})
    shown = repr(CrossRouteMiddleware(models))
    assert LARGE in shown
    assert "SECRET" not in shown


@pytest.mark.parametrize("way", WAYS)
async def test_chat_models_of_descriptors_are_built_when_chosen(
    way: str,
    router: CrossRouter,
    expected: Callable[[float], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def build(name: str, **_: Any) -> Scripted:
        made.append(name)
        return Scripted(model_name=name)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    for id_ in MODELS:
        change = {"provider": Provider(chat_model=f"fake:{id_}"), "retired": None}
        ModelDescriptor.model_validate(router.pool[id_].model_copy(update=change)).save(tmp_path)
    routed = CrossRouteMiddleware.from_yaml(tmp_path, willingness_to_pay=0)
    assert made == []
    agent: Any = create_agent(Scripted(model_name="never"), [lookup], middleware=[routed])
    state = await run(way, agent)
    assert made == [f"fake:{expected(0)}"]
    assert state["messages"][-1].text == f"I am fake:{expected(0)}."


def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def simulated(name: str) -> Scripted:
        return Scripted(model_name=name.removeprefix("openai:"))

    monkeypatch.setattr("langchain.chat_models.init_chat_model", simulated)
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(block, found)
    assert f"I am {MEDIUM}." in capsys.readouterr().out
    assert found["state"]["crossroute"]["model"] == LARGE


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    shown = capsys.readouterr().out
    assert "simulated" in shown
    # An example in which one model gets everything shows nothing.
    assert Counter(word for word in shown.split() if word in MODELS).keys() >= {SMALL, LARGE}
