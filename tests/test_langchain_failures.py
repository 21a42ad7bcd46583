"""Answers that are none, unfinished streams, candidates that cannot be built, keys that are echoed.

Real ChatOpenAI clients talk over HTTP to a server on this machine.
"""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import base as langchain_registry
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelAuthenticationError
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator
from langchain_openai import ChatOpenAI
from openai_server import OpenAIServer, Reply

from crossroute import (
    CrossRouteError,
    CrossRouter,
    DescriptorError,
    ModelDescriptor,
    NoAnswerError,
    UnfinishedAnswerError,
)
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable
from langchain_crossroute.lazy import PACKAGES

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
]

MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
QUESTION = "What is the capital of France?"
TEXT = "The capital of France is Paris."
WAYS = ["invoke", "ainvoke"]
STREAMS = ["stream", "astream"]
EVENTS = ["v3", "av3"]
BOTH = pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    # One for all: for each new address ChatOpenAI makes HTTP clients, which takes 0.1 s.
    with pytest.MonkeyPatch.context() as patch, OpenAIServer() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    """A server that answers with TEXT for both models, and has not been asked."""
    running.answers = {MINI: Reply(TEXT), LARGE: Reply(TEXT)}
    running.requests.clear()
    return running


def client(server: OpenAIServer, model: str, **settings: Any) -> ChatOpenAI:
    defaults = {"base_url": server.url, "api_key": f"key of {model}", "max_retries": 0}
    return ChatOpenAI(model=model, **{**defaults, "stream_usage": True, **settings})


@pytest.fixture
def make(server: OpenAIServer) -> Make:
    """Makes a router that prefers MINI to LARGE."""

    def make(kind: type[Any] = ChatCrossRoute, **settings: Any) -> Any:
        models = {model: client(server, model) for model in (LARGE, MINI)}
        return kind(**{"models": models, "willingness_to_pay": 0, **settings})

    return make


async def ask(way: str, chat: Any, config: Any = None, **kwargs: Any) -> Any:
    """Ask QUESTION in one of the ways; the whole answer."""
    match way:
        case "invoke":
            return chat.invoke(QUESTION, config, **kwargs)
        case "ainvoke":
            return await chat.ainvoke(QUESTION, config, **kwargs)
        case "stream":
            return reduce(add, chat.stream(QUESTION, config, **kwargs))
        case "astream":
            return reduce(add, [chunk async for chunk in chat.astream(QUESTION, config, **kwargs)])
        case "v3":
            return chat.stream_events(QUESTION, config, version="v3", **kwargs).output
        case _:
            return await (await chat.astream_events(QUESTION, config, version="v3", **kwargs))


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


def decision_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.response_metadata["crossroute"]
    return found


class Teller(BaseCallbackHandler):
    """Passes tokens on, so that models stream within `invoke`; remembers the custom events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        pass

    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self.events.append(data)


# Answers that are none


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
    *((way, body) for way in WAYS for body in BODIES.values()),
    *((way, body) for way in [*STREAMS, *EVENTS] for body in STREAM_BODIES.values()),
]
BAD_IDS = [
    *(f"{way} {name}" for way in WAYS for name in BODIES),
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
@pytest.mark.parametrize("way", [*WAYS, *STREAMS])
async def test_an_empty_answer_is_an_answer(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("")
    answer = await ask(way, make(kind))
    assert answer.text == ""
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert "unfinished" not in decision_of(answer)


@pytest.mark.parametrize("way", WAYS)
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


@pytest.mark.parametrize("way", WAYS)
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


@pytest.mark.parametrize("way", [*WAYS, *STREAMS, *EVENTS])
async def test_a_finished_answer_is_not_marked(way: str, make: Make) -> None:
    assert "unfinished" not in decision_of(await ask(way, make(strict_streams=True)))
    # Whoever does not stream has either answered or not.
    fake = {model: FakeListChatModel(responses=["x"]) for model in (MINI, LARGE)}
    if way in WAYS:
        assert "unfinished" not in decision_of(await ask(way, make(models=fake)))


@pytest.mark.parametrize("way", WAYS)
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


@pytest.mark.parametrize("way", WAYS)
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


# Candidates that cannot be built


@pytest.fixture
def folder(
    server: OpenAIServer, router: CrossRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Writes descriptors of both models; only the key of LARGE is set."""
    monkeypatch.delenv("KEY_OF_MINI", raising=False)
    monkeypatch.setenv("KEY_OF_LARGE", "sk-SECRET-of-large")

    def write(mini: str = "openai", **provider: Any) -> Path:
        for model, vendor, variable in (
            (MINI, mini, "KEY_OF_MINI"),
            (LARGE, "openai", "KEY_OF_LARGE"),
        ):
            own = {
                "chat_model": f"{vendor}:{model}",
                "base_url": server.url,
                "api_key_env": variable,
                "arguments": {"max_retries": 0},
            }
            content = router.pool[model].model_dump() | {
                "retired": None,
                "provider": own | (provider if model == MINI else {}),
            }
            ModelDescriptor.model_validate(content).save(tmp_path)
        return tmp_path

    return write


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@BOTH
@pytest.mark.parametrize("way", [*WAYS, *STREAMS])
async def test_where_one_lacks_its_key_the_next_answers(
    way: str,
    kind: type[Any],
    folder: Callable[..., Path],
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # It is not asked, so it is no attempt.
    routed = kind.from_yaml(folder(), willingness_to_pay=0, attempts=1)
    told = warnings_of(caplog)
    assert len(told) == 1
    assert f"{MINI!r} cannot be built" in told[0]
    assert "KEY_OF_MINI is not set" in told[0]
    for _ in range(2):
        answer = await ask(way, routed)
        assert answer.text == TEXT
        (attempt,) = decision_of(answer)["attempts"]
        assert attempt["model"] == MINI
        assert "KEY_OF_MINI, which is not set" in attempt["error"]
    assert asked(server) == [LARGE] * 2
    assert warnings_of(caplog) == told


async def test_what_is_not_seen_at_the_start_is_told_at_the_first_call(
    folder: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    path = folder("deepseek")
    monkeypatch.setitem(sys.modules, "langchain_deepseek", sys)
    routed = ChatCrossRoute.from_yaml(path, willingness_to_pay=0)
    assert warnings_of(caplog) == []
    for _ in range(2):
        answer = await ask("ainvoke", routed)
        assert decision_of(answer)["attempts"][0]["model"] == MINI
    (told,) = warnings_of(caplog)
    assert f"{MINI!r} cannot be built" in told
    assert "SECRET" not in told


async def test_where_one_lacks_its_package_the_next_answers(
    folder: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain_deepseek", None)
    path = folder("deepseek", api_key_env=None, base_url=None, arguments={})
    routed = ChatCrossRoute.from_yaml(path, willingness_to_pay=0)
    (told,) = warnings_of(caplog)
    assert "pip install langchain-deepseek" in told
    answer = await ask("invoke", routed)
    assert answer.text == TEXT
    assert "langchain-deepseek" in decision_of(answer)["attempts"][0]["error"]
    assert warnings_of(caplog) == [told]


@pytest.mark.parametrize("way", WAYS)
async def test_an_agent_goes_on_where_one_lacks_its_key(
    way: str, folder: Callable[..., Path], server: OpenAIServer
) -> None:
    routed = CrossRouteMiddleware.from_yaml(folder(), willingness_to_pay=0, attempts=1)
    agent: Any = create_agent(client(server, "never"), middleware=[routed])
    start = {"messages": [HumanMessage(QUESTION)]}
    state = agent.invoke(start) if way == "invoke" else await agent.ainvoke(start)
    assert state["messages"][-1].text == TEXT
    assert [attempt["model"] for attempt in state["crossroute"]["attempts"]] == [MINI]


async def test_a_forced_model_that_cannot_be_built_is_not_left(
    folder: Callable[..., Path], server: OpenAIServer
) -> None:
    routed = ChatCrossRoute.from_yaml(folder())
    with pytest.raises(DescriptorError, match="KEY_OF_MINI"):
        await ask("invoke", routed, model=MINI)
    assert asked(server) == []


async def test_if_none_can_be_built_the_last_error_names_them(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_OF_LARGE")
    routed = ChatCrossRoute.from_yaml(folder(), willingness_to_pay=0)
    with pytest.raises(DescriptorError, match="KEY_OF_LARGE, which is not set") as raised:
        await ask("invoke", routed)
    built, tried = raised.value.__notes__
    assert LARGE in built
    assert tried.index(MINI) < tried.index(LARGE)
    # The keys are asked for again.
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    assert (await ask("invoke", routed)).text == TEXT


def test_a_disabled_candidate_is_nothing_to_warn_of(
    folder: Callable[..., Path], router: CrossRouter, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder()
    third = router.pool["gpt-4o-2024-05-13"].model_dump() | {
        "retired": None,
        "disabled": True,
        "provider": {"chat_model": "openai:x", "api_key_env": "NOT_SET"},
    }
    ModelDescriptor.model_validate(third).save(path)
    ChatCrossRoute.from_yaml(path)
    assert len(warnings_of(caplog)) == 1


def test_the_packages_of_the_providers_are_those_of_langchain() -> None:
    ours = dict(PACKAGES)
    for provider, (module, *_) in langchain_registry._BUILTIN_PROVIDERS.items():
        assert ours.pop(provider, "langchain_openai") == module.partition(".")[0]
    assert ours == {}


# Keys that a server echoes


def echoes(server: OpenAIServer, status: int, **how: Any) -> str:
    """Let MINI fail with its key in the error; the key."""
    server.answers[MINI] = Reply(
        f"You sent 'Authorization: Bearer key of {MINI}'.", status=status, **how
    )
    return f"key of {MINI}"


@BOTH
@pytest.mark.parametrize("way", [*WAYS, *STREAMS])
async def test_an_echoed_key_is_masked_in_what_is_told(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    key, teller = echoes(server, 401), Teller()
    answer = await ask(way, make(kind), {"callbacks": [teller]})
    assert answer.text == TEXT
    told = str(decision_of(answer)["attempts"]) + str(teller.events)
    assert "Bearer ***" in told
    assert key not in told


@pytest.mark.parametrize("way", [*WAYS, *STREAMS, *EVENTS])
@pytest.mark.parametrize("status", [400, 401])
async def test_an_echoed_key_is_masked_in_the_error(
    way: str, status: int, make: Make, server: OpenAIServer
) -> None:
    key = echoes(server, status)
    with pytest.raises(Exception, match=r"Bearer \*\*\*") as raised:
        await ask(way, make(), {"configurable": {"crossroute_model": MINI}})
    assert key not in "".join(traceback.format_exception(raised.value))
    assert key not in repr(vars(raised.value))
    if status == 401:
        assert isinstance(raised.value, ModelAuthenticationError)
        assert getattr(raised.value, "status_code", None) == 401


@pytest.mark.parametrize("way", STREAMS)
async def test_an_echoed_key_is_masked_in_the_middle_of_a_stream(
    way: str, make: Make, server: OpenAIServer
) -> None:
    key = echoes(server, 500, fail_after=2)
    with pytest.raises(Exception, match=r"Bearer \*\*\*") as raised:
        await ask(way, make())
    assert key not in "".join(traceback.format_exception(raised.value))


PROMPT = ChatPromptTemplate.from_template("{q}")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: PROMPT | model.with_retry(stop_after_attempt=1) | StrOutputParser(),
        lambda model: PROMPT | model.bind(temperature=0),
        lambda model: PROMPT | model.with_fallbacks([model]),
        lambda model: PROMPT | {"answer": model},
    ],
)
async def test_an_echoed_key_is_masked_for_models_within_chains(
    wrap: Callable[[Any], Any], server: OpenAIServer
) -> None:
    key = echoes(server, 401)
    routed = CrossRouteRunnable(
        models={model: wrap(client(server, model)) for model in (MINI, LARGE)},
        willingness_to_pay=0,
        query=lambda value: value["q"],
        attempts=1,
    )
    with pytest.raises(ModelAuthenticationError, match=r"Bearer \*\*\*") as raised:
        await routed.ainvoke({"q": QUESTION})
    assert key not in str(raised.value.__notes__)


async def test_an_echoed_key_of_a_descriptor_is_masked(
    folder: Callable[..., Path],
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    server.answers[MINI] = Reply("You sent sk-SECRET-of-mini.", status=401)
    routed = ChatCrossRoute.from_yaml(folder(), willingness_to_pay=0)
    answer = await ask("ainvoke", routed)
    assert "You sent ***." in decision_of(answer)["attempts"][0]["error"]
    agent: Any = create_agent(
        client(server, "never"),
        middleware=[CrossRouteMiddleware(routed.models, willingness_to_pay=0)],  # type: ignore[arg-type]
    )
    state = await agent.ainvoke({"messages": [HumanMessage(QUESTION)]})
    assert "SECRET" not in str(state)
