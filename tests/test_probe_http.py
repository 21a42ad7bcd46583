"""Probes with real clients of both frameworks: what runs on, who is left, and what is billed."""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fakes_answers import QUESTION
from fakes_forms import (
    HELD,
    LARGE,
    MINI,
    MODELS,
    RIGHT,
    SMALL,
    TOKENS,
    WRONG,
    says,
    tasks,
    told_of,
    wait_until,
)
from fakes_langchain import answer_of, client
from fakes_strategies import threads
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer

from crossroute.strategies import Probe, Strategy, within
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM

LANGCHAIN = ["invoke", "ainvoke", "stream", "astream"]
LLAMAINDEX = ["chat", "achat", "stream_chat", "astream_chat"]
EACH = pytest.mark.parametrize("way", LANGCHAIN + LLAMAINDEX)
STREAMS = pytest.mark.parametrize("way", ["stream", "astream", "stream_chat", "astream_chat"])
ASYNC = pytest.mark.parametrize("way", ["ainvoke", "astream", "achat", "astream_chat"])


def judge(task: Any, probes: Any) -> list[int]:
    """RIGHT goes on, else SECOND."""
    return [("Let" in one.text) * 10 + ("Maybe" in one.text) * 5 for one in probes]


PROBE = Probe((MINI, SMALL, LARGE), tokens=3, judge=judge)
ROLES = [(MINI, "probe"), (SMALL, "probe"), (LARGE, "probe")]
SECOND = "Maybe it is 391, as I reckon."


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with pytest.MonkeyPatch.context() as patch, OpenAIServer() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> Iterator[OpenAIServer]:
    yield running
    assert threads() == []


def routed(way: str, server: OpenAIServer, strategy: Strategy) -> Any:
    settings: dict[str, Any] = {"strategy": strategy, "willingness_to_pay": float("inf")}
    if way in LANGCHAIN:
        return ChatCrossRoute(models={m: client(server, m) for m in MODELS}, **settings)
    llms = {
        model: OpenAILike(
            model=model, api_base=server.url, api_key="key", is_chat_model=True, max_retries=0
        )
        for model in MODELS
    }
    return CrossRouteLLM(models=llms, **settings)


async def answered(way: str, server: OpenAIServer, strategy: Strategy) -> tuple[str, Any]:
    """The answer, and the decision on it."""
    router = routed(way, server, strategy)
    if way in LANGCHAIN:
        answer = await answer_of(way, router, QUESTION)
        return answer.text, answer.response_metadata["crossroute"]
    found = getattr(router, way)([ChatMessage(QUESTION)])
    found = await found if way.startswith("a") else found
    if way == "astream_chat":
        found = [chunk async for chunk in found][-1]
    elif way == "stream_chat":
        found = [*found][-1]
    return found.message.content, found.additional_kwargs["crossroute"]


def check_bill(decision: Any, asks: list[tuple[str, str]], *counted: str) -> None:
    """That each ask is on the bill; of those that ended, with what the server counted."""
    bill = decision["bill"]
    assert [(ask["model"], ask["role"]) for ask in bill["asks"]] == asks
    for ask in bill["asks"]:
        assert ask["estimated"] is (ask["model"] not in counted)
        assert ask["cost_usd"] > 0
        assert ask["input_tokens"] > 0
        if ask["model"] in counted:
            assert (ask["input_tokens"], ask["output_tokens"]) == TOKENS[ask["model"]]
    assert bill["cost_usd"] == pytest.approx(sum(ask["cost_usd"] for ask in bill["asks"]))


@EACH
async def test_every_probe_is_on_the_bill(way: str, server: OpenAIServer) -> None:
    long = "It may be 371, or 381, or 391, or whatever you like it to be."
    answers = {MINI: says(MINI, RIGHT), SMALL: says(SMALL, long), LARGE: says(LARGE, long)}
    with told_of(server, answers):
        text, decision = await answered(way, server, PROBE)
        assert text == RIGHT
        assert decision["model"] == MINI
        check_bill(decision, ROLES, MINI)
        cut = decision["bill"]["asks"][1:]
        assert all(3 <= ask["output_tokens"] < 8 for ask in cut)
    for request in server.requests:
        assert request.body["stream"]
        # They have to be able to go on.
        assert not {"max_tokens", "max_completion_tokens"} & request.body.keys()


@STREAMS
async def test_the_others_are_closed_before_anything_is_shown(
    way: str, server: OpenAIServer
) -> None:
    # The role, and four words.
    answers = {m: says(m, RIGHT if m == MINI else WRONG, hold_after=5) for m in MODELS}
    with told_of(server, answers):
        router = routed(way, server, PROBE)
        given: Any = QUESTION if way in LANGCHAIN else [ChatMessage(QUESTION)]
        stream = getattr(router, way)(given)
        stream = await stream if way == "astream_chat" else stream
        is_async = way.startswith("a")
        words = ""
        while "Let" not in words:
            part = await anext(stream) if is_async else next(stream)
            words = part.text if way in LANGCHAIN else part.message.content
        await wait_until(lambda: sorted(server.left) == sorted([SMALL, LARGE]))
        # The reader leaves, too.
        if is_async:
            await stream.aclose()
        else:
            stream.close()
        await wait_until(lambda: sorted(server.left) == sorted(MODELS))
        assert threads() == tasks() == []
    assert len(server.requests) == 3


# Each takes the seconds that are waited for.
@pytest.mark.parametrize("way", ["invoke", "astream", "stream_chat", "achat"])
async def test_one_that_hangs_is_left_out(way: str, server: OpenAIServer) -> None:
    answers = {MINI: says(MINI, RIGHT), SMALL: HELD[SMALL], LARGE: says(LARGE, WRONG, hold_after=5)}
    with told_of(server, answers):
        text, decision = await answered(way, server, replace(PROBE, seconds=2.0))
        assert text == RIGHT
        check_bill(decision, ROLES, MINI)
        if way.startswith("a"):
            assert tasks() == []
            await wait_until(lambda: sorted(server.left) == sorted([SMALL, LARGE]))


@EACH
async def test_one_that_breaks_before_it_is_judged_is_left_out(
    way: str, server: OpenAIServer
) -> None:
    broken = says(MINI, RIGHT, fail_after=2, status=500)
    answers = {MINI: broken, SMALL: says(SMALL, SECOND), LARGE: says(LARGE, "It is 371, I say.")}
    with told_of(server, answers):
        text, decision = await answered(way, server, PROBE)
        assert text == SECOND
        assert decision["model"] == SMALL
        check_bill(decision, ROLES, SMALL)


BREAKS = pytest.mark.parametrize("how", [{"fail_after": 5, "status": 500}, {"cut_after": 5}])


@STREAMS
@BREAKS
async def test_one_that_breaks_after_something_was_shown_is_an_error(
    way: str, how: dict[str, int], server: OpenAIServer
) -> None:
    held = says(LARGE, WRONG, hold_after=5)
    with told_of(server, {MINI: says(MINI, RIGHT, **how), LARGE: held, SMALL: held}):
        with pytest.raises(Exception, match=r"see|peer|incomplete") as caught:
            await answered(way, server, PROBE)
        assert not isinstance(caught.value, AssertionError)
        await wait_until(lambda: sorted(server.left) == sorted([SMALL, LARGE]))
        assert threads() == tasks() == []


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "chat", "achat"])
@BREAKS
async def test_where_nothing_was_shown_others_are_asked(
    way: str, how: dict[str, int], server: OpenAIServer
) -> None:
    held = says(LARGE, WRONG, hold_after=5)
    large = [held, says(LARGE, "391, that is.")]
    with told_of(server, {MINI: says(MINI, RIGHT, **how), LARGE: large, SMALL: held}):
        text, decision = await answered(way, server, PROBE)
        assert text == "391, that is."
        await wait_until(lambda: sorted(server.left) == sorted([SMALL, LARGE]))
        assert [one["model"] for one in decision["attempts"]] == [MINI]
        asks = decision["bill"]["asks"]
        assert [(ask["model"], ask["role"]) for ask in asks] == [*ROLES, (LARGE, "answer")]
        assert [ask["estimated"] for ask in asks] == [True, True, True, False]


@EACH
async def test_of_two_that_go_on_one_that_breaks_is_not_fused(
    way: str, server: OpenAIServer
) -> None:
    broken = says(MINI, RIGHT, fail_after=5, status=500)
    answers = {MINI: broken, SMALL: says(SMALL, SECOND), LARGE: says(LARGE, WRONG, hold_after=5)}
    with told_of(server, answers):
        text, decision = await answered(way, server, replace(PROBE, fuse=True))
        assert text == SECOND
        await wait_until(lambda: server.left == [LARGE])
        check_bill(decision, ROLES, SMALL)


@EACH
async def test_of_a_fusion_only_who_was_cut_is_estimated(way: str, server: OpenAIServer) -> None:
    long = "It may be 371, or 381, or 391, or whatever you like it to be."
    answers = {MINI: says(MINI, RIGHT), SMALL: says(SMALL, SECOND), LARGE: says(LARGE, long)}
    with told_of(server, answers):
        fused = replace(PROBE, fuse=True, fuser=MINI)
        text, decision = await answered(way, server, fused)
        assert text == RIGHT
        asks = decision["bill"]["asks"]
        assert [(ask["model"], ask["role"]) for ask in asks] == [*ROLES, (MINI, "answer")]
        # Of an answer's stream LlamaIndex's client is not told to count.
        alone = way in ("stream_chat", "astream_chat")
        assert [ask["estimated"] for ask in asks] == [False, False, True, alone]
        for ask in asks[:2]:
            assert (ask["input_tokens"], ask["output_tokens"]) == TOKENS[ask["model"]]


async def cancelled(call: asyncio.Task[Any], is_time: Callable[[], bool]) -> None:
    await wait_until(is_time)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert tasks() == []


@ASYNC
async def test_who_cancels_leaves_no_probe_behind(way: str, server: OpenAIServer) -> None:
    with told_of(server, HELD):
        call = asyncio.create_task(answered(way, server, PROBE))
        await cancelled(call, lambda: len(server.requests) == 3)
        await wait_until(lambda: sorted(server.left) == sorted(MODELS))


@ASYNC
async def test_who_cancels_while_it_is_judged_leaves_nothing_behind(
    way: str, server: OpenAIServer
) -> None:
    began = says(MINI, RIGHT, hold_after=5)
    answers = {MINI: began, SMALL: replace(began), LARGE: HELD[LARGE]}
    with told_of(server, answers):
        judged = Probe((MINI, SMALL), tokens=3, judge=LARGE)
        call = asyncio.create_task(answered(way, server, judged))
        await cancelled(call, lambda: len(server.requests) == 3)
        await wait_until(lambda: sorted(server.left) == sorted(MODELS))


@pytest.mark.parametrize("fuse", [False, True])
async def test_a_graph_that_is_cancelled_leaves_nothing_behind(
    fuse: bool, server: OpenAIServer
) -> None:
    chat = routed("ainvoke", server, replace(PROBE, fuse=fuse))

    async def call(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    app = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call").compile()
    given: Any = {"messages": [HumanMessage(QUESTION)]}
    answers = {m: says(m, RIGHT if m == MINI else SECOND, hold_after=5) for m in MODELS}
    with told_of(server, answers):
        run = asyncio.create_task(app.ainvoke(given))
        # Of a fusion two go on, else one.
        await cancelled(run, lambda: len(server.left) == (1 if fuse else 2))
        await wait_until(lambda: sorted(server.left) == sorted(MODELS))
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", LANGCHAIN)
@pytest.mark.parametrize("usd", [0.02, 0.05])
async def test_a_limit_leaves_room_for_the_judge(
    way: str, usd: float, running: OpenAIServer
) -> None:
    probe = within(usd, replace(PROBE, judge=SMALL))
    routed = ChatCrossRoute(
        models={model: client(running, model) for model in MODELS}, strategy=probe
    )

    def small(body: dict[str, Any]) -> Any:
        is_judge = "Write nothing else" in str(body["messages"][-1]["content"])
        return says(SMALL, "1: 0.9\n2: 0.1\n3: 0.2" if is_judge else WRONG)

    answers = {MINI: says(MINI, RIGHT), SMALL: small, LARGE: says(LARGE, WRONG)}
    with told_of(running, answers):
        answer = await answer_of(way, routed, QUESTION)
    assert answer.text == RIGHT
    asks = answer.response_metadata["crossroute"]["bill"]["asks"]
    assert [(ask["model"], ask["role"]) for ask in asks] == [*ROLES, (SMALL, "judge")]
