"""Conversations, tool loops and threads: what is read of their past, and who stays."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
import math
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from fakes_core import NotingQueries
from fakes_langchain import (
    BOTH,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    agent_of,
    answered,
    cheap,
    decision_of,
    lookup,
    run_agent,
    scripted,
    tool_callers,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from crossroute import CrossRouter, ModelPool
from langchain_crossroute import ChatCrossRoute

PIXEL = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
SWITCH = "Now add 17 and 25, and say only the sum of the two numbers."


def after(answer: AIMessage, *messages: BaseMessage) -> list[BaseMessage]:
    """A conversation that goes on after an answer."""
    return [HumanMessage(QUESTION), answer, *messages]


def test_a_short_follow_up_is_read_with_what_it_follows_up_on(router: CrossRouter) -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    question = "Which planet is the largest?\nA. Mars\nB. Jupiter\nC. Venus\nD. Saturn"
    answer = AIMessage("There are two gas giants among them. Shall I go on?")
    further = HumanMessage("Yes, please.")
    alone = decision_of(chat.invoke([further]))
    followed = decision_of(chat.invoke([HumanMessage(question), answer, further]))
    expected = router.subset(MODELS).route(f"{question}\nYes, please.", 0.01)
    assert followed["quality"] == pytest.approx(expected.quality, abs=1e-9)
    assert followed["quality"] != pytest.approx(alone["quality"], abs=1e-3)


def test_a_new_topic_is_read_by_itself(router: CrossRouter) -> None:
    topic = "What is the capital city of the country that borders both Spain and France?"
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    found = decision_of(chat.invoke(after(AIMessage("Done."), HumanMessage(topic))))
    alone = decision_of(chat.invoke(topic))
    for new, old in zip(found["candidates"], alone["candidates"], strict=True):
        assert new["quality"] == old["quality"]
    # What went before is paid for all the same.
    assert found["input_tokens"] > alone["input_tokens"]
    assert found["cost_usd"] > alone["cost_usd"]


def test_a_tool_loop_is_routed_by_the_turn_that_started_it() -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    alone = decision_of(chat.invoke(QUESTION))
    call = {"name": "weather", "args": {"city": "Lima"}, "id": "1"}
    loop = after(
        AIMessage("", tool_calls=[call]), ToolMessage("Sunny in Lima. " * 40, tool_call_id="1")
    )
    found = decision_of(chat.invoke(loop))
    assert {c["model"]: c["quality"] for c in found["candidates"]} == {
        c["model"]: c["quality"] for c in alone["candidates"]
    }
    assert found["input_tokens"] > alone["input_tokens"] + 100
    without_call = decision_of(chat.invoke(after(AIMessage(""), loop[-1])))
    assert found["input_tokens"] > without_call["input_tokens"] + 5


def test_a_system_prompt_is_counted_and_read(router: CrossRouter) -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    alone = decision_of(chat.invoke(QUESTION))
    told = "Write short stories about otters. " * 20
    found = decision_of(chat.invoke([SystemMessage(told), HumanMessage(QUESTION)]))
    messages = [{"role": "system", "content": told}, {"role": "user", "content": QUESTION}]
    expected = router.subset(MODELS).route(messages, 0.01)
    assert {c["model"]: c["quality"] for c in found["candidates"]} == {
        c.model: c.quality for c in expected.candidates
    }
    assert found["quality"] != pytest.approx(alone["quality"], abs=1e-3)
    assert found["input_tokens"] > alone["input_tokens"] + 100


@BOTH
def test_a_system_prompt_says_the_kind_of_task(kind: Any) -> None:
    noted = NotingQueries()
    chat = kind(models=scripted(), strategy=noted)
    told = "You label tickets by topic. Answer in one word."
    for role in ("system", "developer"):
        chat.invoke([{"role": role, "content": told}, HumanMessage(QUESTION)])
    chat.invoke([SystemMessage([{"type": "text", "text": told}]), HumanMessage(QUESTION)])
    assert [(query.text, query.kind) for query in noted.seen] == [(QUESTION, told)] * 3
    assert [query.asked for query in noted.seen] == [pytest.approx(1.35)] * 3


@pytest.mark.parametrize("way", INVOKES)
async def test_the_system_prompt_of_an_agent_says_the_kind_of_task(way: str) -> None:
    noted = NotingQueries()
    told = {"system_prompt": "You label tickets by topic."}
    await run_agent(way, agent_of(tool_callers(), [lookup], told, strategy=noted))
    assert [query.kind for query in noted.seen] == ["You label tickets by topic."] * 2


@pytest.fixture
def cached_router(router: CrossRouter) -> Callable[[float | None], CrossRouter]:
    """The router with a price for cached input: a share of that for other input."""

    def with_share(share: float | None) -> CrossRouter:
        pool = []
        for descriptor in router.pool.subset(MODELS).values():
            price = descriptor.price
            assert price is not None
            cached = None if share is None else share * price.input_usd_per_1m
            price = price.model_copy(update={"cached_input_usd_per_1m": cached})
            pool.append(descriptor.model_copy(update={"price": price}))
        return router.over(ModelPool(pool))

    return with_share


@BOTH
def test_a_conversation_stays_on_its_model(kind: Any) -> None:
    models = scripted()
    wtp = 0.002
    first = ChatCrossRoute(models=models, willingness_to_pay=math.inf).invoke(QUESTION)
    assert decision_of(first)["model"] == LARGE
    conversation = after(first, HumanMessage(SWITCH))

    def model_of(margin: float | None) -> str:
        chat = kind(models=models, willingness_to_pay=wtp, stay_margin=margin)
        return str(decision_of(chat.invoke(conversation))["model"])

    assert model_of(None) != LARGE
    assert model_of(0) != LARGE
    assert model_of(10) == LARGE
    chat = kind(models=models, willingness_to_pay=wtp, stay_margin=10)
    assert decision_of(chat.invoke(conversation))["kept"] is True
    # A control of the call is stronger, and so is what the model cannot take.
    excluded: Any = {"configurable": {"crossroute_excluded": [LARGE]}}
    assert decision_of(chat.invoke(conversation, excluded))["model"] != LARGE
    forced: Any = {"configurable": {"crossroute_model": MINI}}
    assert decision_of(chat.invoke(conversation, forced))["model"] == MINI


def test_the_lost_prompt_cache_is_part_of_the_margin(
    cached_router: Callable[[float | None], CrossRouter],
) -> None:
    models = scripted()
    long = HumanMessage("Here is the contract. " + "The tenant pays on the first. " * 4000)
    answer = AIMessage("I have read it.", response_metadata={"crossroute": {"model": LARGE}})
    conversation = [long, answer, HumanMessage(SWITCH)]

    def model_of(share: float | None) -> str:
        chat = ChatCrossRoute(
            models=models, router=cached_router(share), willingness_to_pay=0.2, stay_margin=0.0
        )
        return str(decision_of(chat.invoke(conversation))["model"])

    assert model_of(None) != LARGE
    assert model_of(0.0) == LARGE


@pytest.mark.parametrize(
    "metadata", [{}, {"crossroute": {"model": "gone"}}, {"crossroute": "odd"}, {"crossroute": {}}]
)
def test_an_answer_of_somebody_else_binds_nobody(metadata: dict[str, Any]) -> None:
    chat = cheap(scripted(), stay_margin=10.0)
    answer = AIMessage("Hello.", response_metadata=metadata)
    assert decision_of(chat.invoke(after(answer, HumanMessage(SWITCH))))["model"] == SMALL


def test_a_conversation_stays_through_a_streamed_answer() -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.002, stay_margin=10)
    config: Any = {"configurable": {"crossroute_model": LARGE}}
    streamed: Any = reduce(add, chat.stream(QUESTION, config))
    assert decision_of(chat.invoke(after(streamed, HumanMessage(SWITCH))))["model"] == LARGE


# Tool loops of agents


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


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("keep", [True, False])
async def test_a_tool_loop_keeps_its_model_unless_told_otherwise(
    way: str, keep: bool, tipping: tuple[float, str, str]
) -> None:
    willingness, first, result = tipping

    def read(name: str) -> str:
        """Read a long document."""
        return result

    models = tool_callers()
    agent = agent_of(models, [read], willingness_to_pay=willingness, keep_within_tool_loop=keep)
    state = await run_agent(way, agent)
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

    agent = agent_of(tool_callers(), [look], willingness_to_pay=0)
    config = {"configurable": {"crossroute_excluded": [MINI]}}
    state = await run_agent("invoke", agent, config=config)
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
    models = tool_callers()
    narrow = router.over(ModelPool(pool))
    agent = agent_of(models, [lookup], router=narrow, willingness_to_pay=0)
    state = await run_agent("invoke", agent)
    assert state["crossroute"]["removed"] == {
        SMALL: "tools is not among the capabilities in its descriptor"
    }
    # The tools count as input tokens.
    plain = await run_agent("invoke", agent_of(tool_callers(), router=narrow, willingness_to_pay=0))
    calls = [m for m in state["messages"] if isinstance(m, AIMessage)]
    tokens = calls[0].response_metadata["crossroute"]["input_tokens"]
    assert tokens > plain["crossroute"]["input_tokens"] + 5


# Turns of a thread


@pytest.mark.parametrize("way", INVOKES)
async def test_a_new_turn_is_decided_anew_and_remembered(
    way: str, expected: Callable[[float], str]
) -> None:
    models = tool_callers()
    saver = InMemorySaver()
    agent = agent_of(models, [lookup], {"checkpointer": saver}, willingness_to_pay=0)
    turn = {"configurable": {"thread_id": "1"}}
    await run_agent(way, agent, config=turn)
    remembered = agent.get_state(turn).values["crossroute"]
    assert remembered["model"] == expected(0)
    assert answered(models) == {expected(0): 2}

    dear = {"configurable": {"thread_id": "1", "willingness_to_pay": math.inf}}
    state = await run_agent(way, agent, "Now prove it in another way, please, step by step.", dear)
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

    models = tool_callers()
    agent = agent_of(models, [ask], {"checkpointer": InMemorySaver()}, willingness_to_pay=0)
    state = await run_agent("invoke", agent, config={"configurable": {"thread_id": "1"}})
    assert state["__interrupt__"]
    # At this willingness to pay another model would be chosen.
    dear = {"configurable": {"thread_id": "1", "willingness_to_pay": math.inf}}
    state = await run_agent("invoke", agent, Command(resume="That one."), dear)
    assert state["messages"][-1].text == f"I am {expected(0)}."
    assert state["crossroute"]["kept"] is True


@pytest.mark.parametrize(("margin", "stays"), [(0.9, True), (0, False), (None, False)])
async def test_a_margin_keeps_a_thread_on_its_model(
    margin: float | None, stays: bool, router: CrossRouter
) -> None:
    models = tool_callers()
    agent = agent_of(models, agent={"checkpointer": InMemorySaver()}, stay_margin=margin)
    turn: dict[str, Any] = {"thread_id": "1", "willingness_to_pay": math.inf}
    forced = {"configurable": {**turn, "crossroute_model": SMALL}}
    assert (await run_agent("invoke", agent, config=forced))["crossroute"]["model"] == SMALL
    state = await run_agent("invoke", agent, config={"configurable": turn})
    assert (state["crossroute"]["model"] == SMALL) is stays
    assert state["crossroute"]["kept"] is stays
