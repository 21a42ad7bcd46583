"""Answers of a server that are none, and streams that end without a finish reason."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    INVOKES,
    LARGE,
    MINI,
    QUESTION,
    STREAMS,
    TEXT,
    Make,
    Teller,
    ask,
    asked,
    client,
    decision_of,
)
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableGenerator
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouteError, NoAnswerError, UnfinishedAnswerError
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
]

EVENTS = ["v3", "av3"]


def completion(choices: Any) -> str:
    return json.dumps({"id": "1", "object": "chat.completion", "created": 0, "choices": choices})


def sse(*events: str) -> str:
    return "".join(f"data: {event}\n\n" for event in events)


def delta(reason: str | None = None, **content: Any) -> str:
    choice = {"index": 0, "delta": content, "finish_reason": reason}
    frame = {"id": "1", "object": "chat.completion.chunk", "created": 0, "choices": [choice]}
    return json.dumps(frame)


BODIES = {
    "null choices": completion(None),
    "empty choices": completion([]),
    "null choice": completion([None]),
    "no message": completion([{"index": 0, "message": None, "finish_reason": "stop"}]),
    "html": "<html>It works!</html>",
    "cut json": completion([{"index": 0}])[:60],
    "error object": json.dumps({"error": {"message": "oops", "type": "error", "code": None}}),
    "error text": json.dumps({"error": "oops"}),
    "empty": "",
    "null": "null",
    "list": "[]",
}
STREAM_BODIES = {
    "nothing": "",
    "html": "<html>It works!</html>",
    "only done": sse("[DONE]"),
    "cut json": sse('{"id": "1", "choi'),
    "error event": sse(json.dumps({"error": {"message": "oops"}})),
    "null choices": sse(completion(None), "[DONE]"),
    "empty choices": sse(completion([]), "[DONE]"),
    "null choice": sse(completion([None]), "[DONE]"),
    "null": sse("null", "[DONE]"),
    "list": sse("[]", "[DONE]"),
    "no delta": sse(completion([{"index": 0, "delta": None}]), "[DONE]"),
    "a role and an end": sse(delta(role="assistant", content=""), "[DONE]"),
    "a role": sse(delta(role="assistant", content="")),
}
BAD = [
    *((way, body) for way in INVOKES for body in BODIES.values()),
    *((way, body) for way in [*STREAMS, *EVENTS] for body in STREAM_BODIES.values()),
]
BAD_IDS = [
    *(f"{way} {name}" for way in INVOKES for name in BODIES),
    *(f"{way} {name}" for way in [*STREAMS, *EVENTS] for name in STREAM_BODIES),
]


@pytest.mark.parametrize(("way", "body"), BAD, ids=BAD_IDS)
async def test_a_body_that_is_no_answer_passes_to_the_next(
    way: str, body: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(raw=body)
    answer = await ask(way, make())
    assert answer.text == TEXT
    assert asked(server) == [MINI, LARGE]
    (attempt,) = decision_of(answer)["attempts"]
    assert attempt["model"] == MINI
    assert "Error" in attempt["error"]


@pytest.mark.parametrize(("way", "body"), BAD, ids=BAD_IDS)
async def test_if_nobody_answers_the_last_error_says_so(
    way: str, body: str, make: Make, server: OpenAIServer
) -> None:
    server.answers = {MINI: Reply(raw=body), LARGE: Reply(raw=body)}
    with pytest.raises(Exception, match=r"\S") as raised:
        await ask(way, make())
    (note,) = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)
    assert asked(server) == [MINI, LARGE]


@BOTH
@pytest.mark.parametrize("way", [*INVOKES, *STREAMS])
async def test_an_empty_answer_is_an_answer(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("")
    answer = await ask(way, make(kind))
    assert answer.text == ""
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert "unfinished" not in decision_of(answer)


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("body", ["null choices", "only done", "html", "a role"])
async def test_a_stream_within_invoke_that_is_no_answer(
    way: str, body: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(raw=STREAM_BODIES[body])
    for settings, config in (({"streaming": True}, None), ({}, {"callbacks": [Teller()]})):
        models = {MINI: client(server, MINI, streaming=True), LARGE: client(server, LARGE)}
        answer = await ask(way, make(models=models, **settings), config)
        assert answer.text == TEXT
        assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [MINI]


async def test_a_stream_of_an_agent_that_is_no_answer(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(raw=STREAM_BODIES["null choices"])
    agent: Any = create_agent(client(server, "never"), middleware=[make(CrossRouteMiddleware)])
    start = {"messages": [HumanMessage(QUESTION)]}
    parts = [part async for part in agent.astream(start, stream_mode="messages")]
    assert "".join(m.text for m, _ in parts if isinstance(m, AIMessageChunk)) == TEXT


@pytest.mark.parametrize("way", STREAMS)
async def test_a_chain_that_yields_nothing(way: str) -> None:
    def nothing(_: Any) -> Iterator[str]:
        yield from ()

    async def anothing(_: Any) -> Any:
        for part in ():
            yield part

    def text(value: str) -> Any:
        return FakeListChatModel(responses=[value]) | StrOutputParser()

    silent: Any = RunnableGenerator(nothing, anothing)
    routed = CrossRouteRunnable(models={MINI: silent, LARGE: text("Paris.")}, willingness_to_pay=0)
    assert await ask(way, routed) == "Paris."
    routed = CrossRouteRunnable(models={MINI: silent, LARGE: silent}, willingness_to_pay=0)
    with pytest.raises(NoAnswerError, match=f"stream of '{LARGE}' ended with nothing"):
        await ask(way, routed)


@pytest.mark.parametrize("way", INVOKES)
async def test_an_error_in_an_application_is_no_missing_answer(way: str) -> None:
    class Buggy(FakeListChatModel):
        def _call(self, *args: Any, **kwargs: Any) -> str:
            return [""][1]

    models = {model: Buggy(responses=[]) for model in (MINI, LARGE)}
    with pytest.raises(IndexError) as raised:
        await ask(way, ChatCrossRoute(models=models))
    assert not hasattr(raised.value, "__notes__")


# Streams that end without a finish reason


@BOTH
@pytest.mark.parametrize("way", STREAMS)
async def test_an_unfinished_stream_is_marked_on_its_last_chunk(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)  # the role and three words
    routed = make(kind)
    if way == "stream":
        chunks = list(routed.stream(QUESTION))
    else:
        chunks = [chunk async for chunk in routed.astream(QUESTION)]
    assert reduce(add, chunks).text == "The capital of"
    assert "unfinished" not in decision_of(chunks[0])
    assert decision_of(chunks[-1])["unfinished"] is True
    assert decision_of(reduce(add, chunks))["unfinished"] is True
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", EVENTS)
async def test_an_unfinished_stream_of_events_is_marked(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)
    answer = await ask(way, make())
    assert answer.text == "The capital of"
    assert decision_of(answer)["unfinished"] is True


@pytest.mark.parametrize("way", [*INVOKES, *STREAMS, *EVENTS])
async def test_a_finished_answer_is_not_marked(way: str, make: Make) -> None:
    assert "unfinished" not in decision_of(await ask(way, make(strict_streams=True)))
    # Whoever does not stream has either answered or not.
    fake = {model: FakeListChatModel(responses=["x"]) for model in (MINI, LARGE)}
    if way in INVOKES:
        assert "unfinished" not in decision_of(await ask(way, make(models=fake)))


@pytest.mark.parametrize("way", INVOKES)
async def test_an_unfinished_stream_within_invoke_is_marked(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)
    for settings, config in (({"streaming": True}, None), ({}, {"callbacks": [Teller()]})):
        models = {MINI: client(server, MINI, streaming=True), LARGE: client(server, LARGE)}
        answer = await ask(way, make(models=models, **settings), config)
        assert decision_of(answer)["unfinished"] is True


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        *((ChatCrossRoute, way) for way in [*STREAMS, *EVENTS]),
        *((CrossRouteRunnable, way) for way in STREAMS),
    ],
)
async def test_strict_streams_raise(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)
    with pytest.raises(UnfinishedAnswerError, match=MINI) as raised:
        await ask(way, make(kind, strict_streams=True))
    assert isinstance(raised.value, CrossRouteError)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", INVOKES)
async def test_strict_streams_of_an_agent(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)
    start = {"messages": [HumanMessage(QUESTION)]}
    seen: list[Any] = []

    async def read(**settings: Any) -> None:
        routed = make(CrossRouteMiddleware, **settings)
        agent: Any = create_agent(client(server, "never"), middleware=[routed])
        if way == "invoke":
            for part in agent.stream(start, stream_mode=["messages", "values"]):
                seen.append(part)  # noqa: PERF402
        else:
            async for part in agent.astream(start, stream_mode=["messages", "values"]):
                seen.append(part)  # noqa: PERF401

    await read()
    assert decision_of(seen[-1][1]["messages"][-1])["unfinished"] is True
    with pytest.raises(UnfinishedAnswerError, match=MINI):
        await read(strict_streams=True)
