"""Handoffs with real clients: what goes over the wire, what hangs or breaks, and the bill."""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import pytest
from fakes_forms import (
    BEGUN,
    CASES,
    FROM_THE_START,
    GUESS,
    HANDOFF,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    TOKENS,
    says,
    tasks,
    told_of,
    wait_until,
)
from fakes_langchain import client
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter, ModelPool
from crossroute.strategies import Handoff, within
from crossroute.strategies.going_on import GO_ON
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM

GOES_ON = "It is 391."
TEXT = f"{BEGUN} {GOES_ON}"
GOOD = {MINI: GUESS, LARGE: says(LARGE, GOES_ON)}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


def prefilling() -> CrossRouter:
    """The router, with a large model that is said to go on from a message of its own."""
    router = CrossRouter.default()
    large = router.pool[LARGE]
    large = large.model_copy(update={"capabilities": (*large.capabilities, "prefill")})
    return router.over(ModelPool([router.pool[SMALL], router.pool[MINI], large]))


def chat(server: OpenAIServer, strategy: Handoff = HANDOFF, **more: Any) -> ChatCrossRoute:
    models = {model: client(server, model) for model in MODELS}
    return ChatCrossRoute(models=models, strategy=strategy, willingness_to_pay=1e9, **more)


def llm(server: OpenAIServer, **more: Any) -> CrossRouteLLM:
    models: dict[str, Any] = {
        model: OpenAILike(
            model=model, api_base=server.url, api_key="key", is_chat_model=True, max_retries=0
        )
        for model in MODELS
    }
    return CrossRouteLLM(models=models, strategy=HANDOFF, willingness_to_pay=1e9, **more)


async def read(
    routed: ChatCrossRoute, parts: list[str], *, heard: str | None = None, asynchronous: bool = True
) -> None:
    """Read a stream, up to its end or until something was heard."""
    if not asynchronous:
        parts.extend(chunk.text for chunk in routed.stream(QUESTION))
        return
    async with aclosing(routed.astream(QUESTION)) as stream:
        async for chunk in stream:
            parts.append(chunk.text)
            if heard is not None and "".join(parts).startswith(heard):
                return


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize("prefills", [False, True])
def test_the_prefix_reaches_the_wire(framework: str, prefills: bool, server: OpenAIServer) -> None:
    more = {"router": prefilling()} if prefills else {}
    with told_of(server, GOOD):
        if framework == "langchain":
            text = "".join(chunk.text for chunk in chat(server, **more).stream(QUESTION))
        else:
            parts = llm(server, **more).stream_chat([ChatMessage(QUESTION)])
            text = "".join(part.delta or "" for part in parts)
    assert text == TEXT
    sent = [
        (message["role"], message["content"]) for message in server.requests[1].body["messages"]
    ]
    told = [] if prefills else [("user", GO_ON)]
    assert sent == [("user", QUESTION), ("assistant", BEGUN), *told]


def asks_of(decision: dict[str, Any]) -> list[tuple[Any, ...]]:
    fields = ("model", "role", "estimated")
    return [tuple(ask[name] for name in fields) for ask in decision["bill"]["asks"]]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_bill(asynchronous: bool, server: OpenAIServer) -> None:
    with told_of(server, GOOD):
        routed = chat(server)
        if asynchronous:
            answer = reduce(add, [chunk async for chunk in routed.astream(QUESTION)])
        else:
            answer = reduce(add, routed.stream(QUESTION))
    decision = answer.response_metadata["crossroute"]
    assert asks_of(decision) == [(MINI, "draft", True), (LARGE, "draft", False)]
    cheap, strong = decision["bill"]["asks"]
    assert (strong["input_tokens"], strong["output_tokens"]) == TOKENS[LARGE]
    # What came of it until it was closed, and no more.
    assert 0 < cheap["output_tokens"] < TOKENS[MINI][1]
    assert decision["bill"]["estimated"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_cheap_model_that_hangs(asynchronous: bool, server: OpenAIServer) -> None:
    """The first sentence was shown; what hangs is left, and another one goes on."""
    timed = replace(HANDOFF, seconds=1.5)
    hangs = replace(says(MINI, f"{BEGUN} It is 391, I am sure."), hold_after=7)
    with told_of(server, {MINI: hangs, LARGE: says(LARGE, GOES_ON)}):
        routed = chat(server, timed)
        if asynchronous:
            answer = reduce(add, [chunk async for chunk in routed.astream(QUESTION)])
        else:
            answer = reduce(add, routed.stream(QUESTION))
        decision = answer.response_metadata["crossroute"]
        assert answer.text == TEXT
        assert "the cheap model failed (AskTimeoutError)" in decision["reason"]
        assert asks_of(decision) == [(MINI, "draft", True), (LARGE, "draft", False)]
        if asynchronous:
            await wait_until(lambda: server.left == [MINI])
    assert tasks() == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_nobody_waits_for_a_cheap_model_that_was_unsure(
    asynchronous: bool, server: OpenAIServer
) -> None:
    """It hangs behind the token that decides, in a call that does not stream."""
    with told_of(server, GOOD | {MINI: replace(GUESS, hold_after=6)}):
        routed = chat(server)
        answer = await routed.ainvoke(QUESTION) if asynchronous else routed.invoke(QUESTION)
        assert "attempts" not in answer.response_metadata["crossroute"]
        # Until its client gave up, its stream would not be left.
        await wait_until(lambda: server.left == [MINI])
    assert answer.text == TEXT


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_cheap_model_that_breaks(asynchronous: bool, server: OpenAIServer) -> None:
    breaks = replace(says(MINI, f"{BEGUN} It is 391, I am sure."), fail_after=7, status=500)
    with told_of(server, {MINI: breaks, LARGE: says(LARGE, GOES_ON)}):
        routed = chat(server)
        if asynchronous:
            answer = reduce(add, [chunk async for chunk in routed.astream(QUESTION)])
        else:
            answer = reduce(add, routed.stream(QUESTION))
    assert answer.text == TEXT
    (failed,) = answer.response_metadata["crossroute"]["attempts"]
    assert failed["model"] == MINI


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_strong_model_that_breaks(asynchronous: bool, server: OpenAIServer) -> None:
    breaks = replace(says(LARGE, "It is surely 391, my friend."), fail_after=4, status=500)
    parts: list[str] = []
    with told_of(server, {MINI: GUESS, LARGE: breaks, SMALL: says(SMALL, GOES_ON)}):
        routed = chat(server)
        with pytest.raises(Exception, match="friend"):
            await read(routed, parts, asynchronous=asynchronous)
        assert "".join(parts) == f"{BEGUN} It is surely"
        assert [request.body["model"] for request in server.requests] == [MINI, LARGE]
        # Whole, nothing was shown yet: the cheap one goes on itself, as the other one is worse.
        guessed = GUESS.text
        answer = await routed.ainvoke(QUESTION) if asynchronous else routed.invoke(QUESTION)
        assert answer.text == guessed
        assert answer.response_metadata["crossroute"]["model"] == MINI
        # It does so in a stream, too, if the other one never begins.
        server.answers[LARGE] = Reply("oops", status=500)
        assert reduce(add, routed.stream(QUESTION)).text == guessed
        assert SMALL not in [request.body["model"] for request in server.requests]


@pytest.mark.parametrize(("who", "heard"), [(MINI, BEGUN), (LARGE, f"{BEGUN} It")])
@pytest.mark.parametrize("cancels", [False, True])
async def test_a_reader_who_leaves(
    cancels: bool, who: str, heard: str, server: OpenAIServer
) -> None:
    """Nothing runs on: neither the cheap model's stream, nor that of the one who goes on."""
    sure = replace(says(MINI, f"{BEGUN} It is 391, I am sure."), hold_after=5)
    slow = replace(says(LARGE, "It is surely 391, my friend."), hold_after=3)
    parts: list[str] = []
    with told_of(server, {MINI: sure if who == MINI else GUESS, LARGE: slow}):
        reading = asyncio.create_task(read(chat(server), parts, heard=None if cancels else heard))
        if cancels:
            await wait_until(lambda: "".join(parts).startswith(heard))
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        else:
            await reading
        await wait_until(lambda: server.left == [who])
        assert [request.body["model"] for request in server.requests][-1] == who
    assert tasks() == []


def test_a_model_that_gives_no_log_probabilities(server: OpenAIServer) -> None:
    """Its descriptor says that it would."""
    with told_of(server, {MINI: replace(GUESS, logprobs=None), LARGE: says(LARGE, GOES_ON)}):
        assert reduce(add, chat(server).stream(QUESTION)).text == GUESS.text
        assert [request.body["model"] for request in server.requests] == [MINI]


def test_callers_get_no_log_probabilities_that_they_did_not_ask_for(server: OpenAIServer) -> None:
    for name in ("a handoff", "a handoff that is not needed"):
        with told_of(server, CASES[name].answers):
            answer = reduce(add, chat(server).stream(QUESTION))
            assert "logprobs" not in answer.response_metadata
            found = llm(server).stream_chat([ChatMessage(QUESTION)])
            assert all(part.logprobs is None for part in found)


def test_nothing_kept_streams_natively(server: OpenAIServer) -> None:
    with told_of(server, FROM_THE_START.answers | {MINI: replace(GUESS, logprobs=[-1.0] * 8)}):
        answer = reduce(add, chat(server).stream(QUESTION))
        decision = answer.response_metadata["crossroute"]
        assert asks_of(decision)[1][:2] == (LARGE, "answer")


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_object_in_json_is_written_anew(way: str, server: OpenAIServer) -> None:
    begun = Reply('{\n "sum": 391,\n "sure": false\n}', logprobs=[-0.01] * 3 + [-9.0] * 3)
    server.answers = {MINI: begun, LARGE: Reply('{"sum": 391}')}
    routed = chat(server, Handoff(tau=-1, window=2)).bind(response_format={"type": "json_object"})
    parts = [routed.invoke(QUESTION)] if way == "invoke" else [*routed.stream(QUESTION)]
    assert "".join(part.text for part in parts) == '{"sum": 391}'
    assert [request.body["model"] for request in server.requests] == [MINI, LARGE]


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("usd", [0.02, 0.03, 0.05])
def test_a_limit_leaves_room_for_who_goes_on(way: str, usd: float, server: OpenAIServer) -> None:
    routed = ChatCrossRoute(
        models={model: client(server, model) for model in MODELS},
        strategy=within(usd, HANDOFF),
        willingness_to_pay=1e9,
    )
    with told_of(server, GOOD):
        parts = [routed.invoke(QUESTION)] if way == "invoke" else [*routed.stream(QUESTION)]
        answer = reduce(add, parts)
    assert answer.text == TEXT
    bill = answer.response_metadata["crossroute"]["bill"]
    assert [ask["model"] for ask in bill["asks"]] == [MINI, LARGE]
    # What the two may say at most is paid for.
    prices = {model: routed.router.pool[model].price for model in MODELS}
    most = 0.0
    for request in server.requests:
        price = prices[request.body["model"]]
        assert price is not None
        most += float(price.cost_usd(60, request.body["max_completion_tokens"]))
    assert most <= usd


def test_a_limit_that_pays_for_the_cheap_model_alone(server: OpenAIServer) -> None:
    """It is asked without leaving anything, as nobody else can be paid."""
    routed = ChatCrossRoute(
        models={model: client(server, model) for model in MODELS if model != SMALL},
        strategy=within(0.0001, HANDOFF),
        willingness_to_pay=1e9,
    )
    with told_of(server, GOOD):
        answer = routed.invoke(QUESTION)
    assert answer.text == GUESS.text
    bill = answer.response_metadata["crossroute"]["bill"]
    assert [ask["model"] for ask in bill["asks"]] == [MINI]
