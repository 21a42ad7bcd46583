"""Real ChatOpenAI clients as candidates, which talk over HTTP to a server on this machine."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import json
import math
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelInvalidRequestError,
    ModelRateLimitError,
)
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel

from crossroute import CrossRouter, ModelDescriptor
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRunnable,
)

ROOT = Path(__file__).parent.parent

MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
THIRD = "gpt-4o-2024-05-13"
QUESTION = "What is the capital of France?"
TEXT = "The capital of France is Paris."
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
WAYS = ["invoke", "ainvoke", "stream", "astream"]
STREAMS = ["stream", "astream"]
ROUTERS = [ChatCrossRoute, CrossRouteRunnable]
PATIENCE = 60.0
"""Seconds after which something hangs; nothing here takes that long."""

Make = Callable[..., Any]


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """Say what the weather in a city is like."""
    return f"It rains in {city}."


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
    defaults: dict[str, Any] = {
        "base_url": server.url,
        "api_key": f"key of {model}",
        "max_retries": 0,
        "timeout": PATIENCE,
        "stream_usage": True,
    }
    return ChatOpenAI(model=model, **defaults | settings)


@pytest.fixture
def make(server: OpenAIServer) -> Make:
    """Makes a router that prefers MINI to LARGE; `mini` changes the client of MINI."""

    def make(
        kind: type[Any] = ChatCrossRoute, mini: dict[str, Any] | None = None, **settings: Any
    ) -> Any:
        models = {LARGE: client(server, LARGE), MINI: client(server, MINI, **mini or {})}
        return kind(**{"models": models, "willingness_to_pay": 0, **settings})

    return make


async def chunks_of(way: str, runnable: Runnable[Any, Any], value: Any, config: Any = None) -> Any:
    match way:
        case "invoke":
            return [runnable.invoke(value, config)]
        case "ainvoke":
            return [await runnable.ainvoke(value, config)]
        case "stream":
            return list(runnable.stream(value, config))
        case _:
            return [chunk async for chunk in runnable.astream(value, config)]


async def ask(way: str, runnable: Runnable[Any, Any], value: Any, config: Any = None) -> Any:
    return reduce(add, await chunks_of(way, runnable, value, config))


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


def decision_of(answer: AIMessage) -> dict[str, Any]:
    found: dict[str, Any] = answer.response_metadata["crossroute"]
    return found


# Answers


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
async def test_the_chosen_client_answers(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    answer = await ask(way, PROMPT | make(kind), {"question": QUESTION})
    assert answer.text == TEXT
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert answer.response_metadata["model_name"] == MINI
    assert answer.response_metadata["model_provider"] == "openai"
    assert answer.response_metadata["finish_reason"] == "stop"

    (request,) = server.requests
    assert request.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    assert bool(request.body.get("stream")) == (way in STREAMS)
    assert request.authorization == f"Bearer key of {MINI}"


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_has_a_chunk_for_each_token(way: str, make: Make) -> None:
    tokens = await chunks_of(way, PROMPT | make() | StrOutputParser(), {"question": QUESTION})
    words = [token for token in tokens if token]
    assert words == ["The", " capital", " of", " France", " is", " Paris."]


@pytest.mark.parametrize("way", WAYS)
async def test_the_willingness_to_pay_of_a_call(way: str, make: Make, server: OpenAIServer) -> None:
    config = {"configurable": {"willingness_to_pay": math.inf}}
    answer = await ask(way, make().bind_tools([weather]), QUESTION, config)
    assert decision_of(answer)["model"] == LARGE
    assert asked(server) == [LARGE]


@pytest.mark.parametrize("way", ["batch", "abatch"])
async def test_calls_at_the_same_time(way: str, make: Make, server: OpenAIServer) -> None:
    together = threading.Barrier(4)

    def answer(body: dict[str, Any]) -> Reply:
        together.wait(PATIENCE)  # none is answered before all have been asked
        return Reply(f"To: {body['messages'][-1]['content']}")

    server.answers = {MINI: answer, LARGE: answer}
    questions = [f"What is {number} + 1?" for number in range(4)]
    routed = make()
    answers = routed.batch(questions) if way == "batch" else await routed.abatch(questions)
    assert [answer.text for answer in answers] == [f"To: {question}" for question in questions]
    assert {decision_of(answer)["model"] for answer in answers} == {MINI}


async def test_many_async_calls_of_which_some_fail(make: Make, server: OpenAIServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        number = int(body["messages"][-1]["content"].split()[2])
        return Reply(status=429) if number % 2 else Reply(f"mini {number}")

    server.answers[MINI] = answer
    server.answers[LARGE] = lambda body: Reply(
        f"large {body['messages'][-1]['content'].split()[2]}"
    )
    routed = make()
    answers = await asyncio.gather(*(routed.ainvoke(f"What is {n} + 1?") for n in range(24)))
    assert [answer.text for answer in answers] == [
        f"{'large' if number % 2 else 'mini'} {number}" for number in range(24)
    ]
    assert [len(decision_of(answer).get("attempts", [])) for answer in answers] == [0, 1] * 12


# Cost


@pytest.mark.parametrize("way", WAYS)
async def test_usage_and_realised_cost(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    usage = UsageMetadataCallbackHandler()
    answer = await ask(way, make(), QUESTION, {"callbacks": [usage]})

    price = router.pool[MINI].price
    assert price is not None
    assert decision_of(answer)["realised"] == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cached_tokens": 400,
        "cost_usd": pytest.approx(float(price.cost_usd(1000, 200, 400))),
    }
    assert answer.usage_metadata["total_tokens"] == 1200
    assert {name: count["total_tokens"] for name, count in usage.usage_metadata.items()} == {
        MINI: 1200
    }


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_whose_usage_was_not_asked_for(way: str, make: Make) -> None:
    # ChatOpenAI asks for it by itself only where no base_url is set.
    answer = await ask(way, make(mini={"stream_usage": None}), QUESTION)
    assert answer.text == TEXT
    assert answer.usage_metadata is None
    assert "realised" not in decision_of(answer)


@pytest.mark.parametrize("way", WAYS)
async def test_the_model_that_answered_in_the_end_is_priced(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(status=500)
    server.answers[LARGE] = Reply(TEXT, input_tokens=1000, output_tokens=200)
    answer = await ask(way, make(), QUESTION)
    price = router.pool[LARGE].price
    assert price is not None
    assert decision_of(answer)["realised"]["cost_usd"] == pytest.approx(
        float(price.cost_usd(1000, 200))
    )


async def test_a_ledger_of_real_clients(make: Make, server: OpenAIServer) -> None:
    routed = make()
    ledger = CostLedger(routed.router, baseline=LARGE)
    answers = [await ask(way, routed, QUESTION, {"callbacks": [ledger]}) for way in WAYS]
    server.answers[MINI] = Reply(status=500)
    answers += [await ask(way, routed, QUESTION, {"callbacks": [ledger]}) for way in WAYS]
    assert ledger.total_usd == pytest.approx(
        sum(decision_of(answer)["realised"]["cost_usd"] for answer in answers)
    )
    calls = {model: (spend.calls, spend.failures) for model, spend in ledger.spend.items()}
    assert calls == {MINI: (8, 4), LARGE: (4, 0)}


# Tools and structured output


@pytest.mark.parametrize("way", WAYS)
async def test_tool_calls(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(
        tool_calls=(("weather", {"city": "Paris"}), ("weather", {"city": "Rome"}))
    )
    routed = make().bind_tools([weather], tool_choice="weather")
    answer = await ask(way, routed, "What is the weather like in Paris and Rome?")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("weather", {"city": "Paris"}),
        ("weather", {"city": "Rome"}),
    ]
    assert decision_of(answer)["model"] == MINI
    (request,) = server.requests
    assert [bound["function"]["name"] for bound in request.body["tools"]] == ["weather"]
    assert request.body["tool_choice"]["function"]["name"] == "weather"


@pytest.mark.parametrize("way", WAYS)
async def test_candidates_with_their_tools_bound(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),))
    models = {model: client(server, model).bind_tools([weather]) for model in (MINI, LARGE)}
    answer = await ask(way, make(CrossRouteRunnable, models=models), "Is it raining in Paris?")
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Paris"}]
    assert decision_of(answer)["model"] == MINI


def person(body: dict[str, Any]) -> Reply:
    ada = {"name": "Ada", "age": 36}
    if body.get("tools"):
        return Reply(tool_calls=((body["tools"][0]["function"]["name"], ada),))
    return Reply(json.dumps(ada))


# ChatOpenAI's own warning when it streams a parsed object; the bare client gives it too.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("way", WAYS)
async def test_structured_output(way: str, method: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = person
    routed = make().with_structured_output(Person, method=method)
    assert (await chunks_of(way, routed, "Who wrote it? Answer in JSON."))[-1] == Person(
        name="Ada", age=36
    )
    (request,) = server.requests
    match method:
        case "json_schema":
            form = request.body["response_format"]
            assert form["type"] == "json_schema"
            assert set(form["json_schema"]["schema"]["properties"]) == {"name", "age"}
        case "function_calling":
            assert request.body["tools"][0]["function"]["name"] == "Person"
        case _:
            assert request.body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output_with_its_message(
    method: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(status=500)
    server.answers[LARGE] = person
    routed = make().with_structured_output(Person, method=method, include_raw=True)
    answer = await routed.ainvoke("Who wrote it? Answer in JSON.")
    assert answer["parsed"] == Person(name="Ada", age=36)
    assert decision_of(answer["raw"])["model"] == LARGE
    assert [attempt["model"] for attempt in decision_of(answer["raw"])["attempts"]] == [MINI]


async def test_a_refusal_of_structured_output(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(refusal="I would rather not.")
    server.answers[LARGE] = person
    routed = make(pass_refusals=True).with_structured_output(Person, method="json_schema")
    for way in ("invoke", "ainvoke"):
        assert (await chunks_of(way, routed, "Who?")) == [Person(name="Ada", age=36)]
    assert asked(server) == [MINI, LARGE] * 2


# Failures


class Events(BaseCallbackHandler):
    """The custom events of a call, and the runs that failed."""

    def __init__(self) -> None:
        self.custom: list[tuple[str, Any]] = []
        self.failed: list[BaseException] = []
        self.models = 0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.models += 1

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.custom.append((name, data))

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.failed.append(error)


FAILURES = {
    "rate limit": (Reply("slow down", status=429), "RateLimit"),
    "server error": (Reply("oops", status=500), "APIError"),
    "overloaded": (Reply("busy", status=503), "APIError"),
    "wrong key": (Reply("wrong key", status=401), "Authentication"),
    "retired model": (Reply("no such model", status=404), "NotFound"),
    "connection dropped": (Reply(TEXT, cut_after=0), "ConnectionError|RemoteProtocolError"),
    "too slow": (Reply(TEXT, silent=True), "Timeout"),
}


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_next_candidate_answers(
    failure: str, way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    reply, name = FAILURES[failure]
    server.answers[MINI] = reply
    server.answers[LARGE] = Reply("I am large.")
    routed = make(kind, mini={"timeout": 0.2 if reply.silent else PATIENCE})
    events = Events()
    answer = await ask(way, routed, QUESTION, {"callbacks": [events]})

    assert answer.text == "I am large."
    assert asked(server) == [MINI, LARGE]
    assert [request.authorization for request in server.requests] == [
        f"Bearer key of {MINI}",
        f"Bearer key of {LARGE}",
    ]
    assert decision_of(answer)["model"] == LARGE
    (attempt,) = decision_of(answer)["attempts"]
    assert attempt["model"] == MINI
    assert re.search(name, attempt["error"])
    # The failed try is a run of its own, that says so.
    assert events.models == 2
    assert len(events.failed) == 1
    decided, failed = events.custom
    assert (decided[0], decided[1]["model"]) == ("crossroute_decision", MINI)
    assert failed[0] == "crossroute_attempt_failed"
    assert (failed[1]["model"], failed[1]["next"]) == (MINI, LARGE)


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_is_not_there(way: str, make: Make, server: OpenAIServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        # Bound but not listening: nobody else takes the port, and a connection is refused.
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        answer = await ask(way, make(mini={"base_url": url}), QUESTION)
    assert answer.text == TEXT
    assert asked(server) == [LARGE]
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [MINI]


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_has_begun_is_not_restarted(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, cut_after=4)  # the role and three words
    heard = []

    async def listen() -> None:
        if way == "stream":
            for chunk in make().stream(QUESTION):
                heard.append(chunk)  # noqa: PERF402  # one by one, for the error comes between
        else:
            async for chunk in make().astream(QUESTION):
                heard.append(chunk)  # noqa: PERF401

    # As what it is raised depends on the version of openai's client.
    with pytest.raises(Exception, match=r"(?i)connection"):
        await listen()
    assert reduce(add, heard).text == "The capital of"
    assert decision_of(heard[0])["model"] == MINI
    assert asked(server) == [MINI]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_drops_after_the_role_goes_to_the_next(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, cut_after=1)
    chunks = await chunks_of(way, make(kind), QUESTION)
    answer = reduce(add, chunks)
    assert answer.text == TEXT
    assert asked(server) == [MINI, LARGE]
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [MINI]
    # What was held back is there: the role, six words, the end, the usage, and LangChain's last.
    assert [chunk.text for chunk in chunks] == ["", *re.findall(r" ?\S+", TEXT), "", "", ""]
    assert decision_of(chunks[0])["model"] == LARGE


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize(
    ("status", "fail_after", "passes"),
    [(500, 1, True), (503, 0, True), (429, 1, True), (400, 1, False), (500, 2, False)],
)
async def test_an_error_event_in_a_stream(
    status: int, fail_after: int, passes: bool, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("oops", status=status, fail_after=fail_after)
    if passes:
        answer = await ask(way, make(), QUESTION)
        assert answer.text == TEXT
        assert decision_of(answer)["attempts"] == [{"model": MINI, "error": "APIError: oops"}]
    else:
        with pytest.raises(openai.APIError, match="oops"):
            await ask(way, make(), QUESTION)
    assert asked(server) == ([MINI, LARGE] if passes else [MINI])


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_drops_in_a_tool_call_is_not_restarted(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),), cut_after=2)
    with pytest.raises(Exception, match=r"(?i)connection"):
        await ask(way, make().bind_tools([weather]), QUESTION)
    assert asked(server) == [MINI]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize(
    "reply", [Reply(TEXT, cut_after=1), Reply("", finish_reason="content_filter")]
)
async def test_a_protocol_stream_without_content_goes_to_the_next(
    reply: Reply, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = reply
    routed = make(pass_refusals=True)
    if way == "stream":
        events = list(routed.stream_events(QUESTION, version="v3"))
    else:
        async with await routed.astream_events(QUESTION, version="v3") as stream:
            events = [event async for event in stream]
    names = [event["event"] for event in events]
    assert names.count("message-start") == 1
    assert (names[0], names[-1]) == ("message-start", "message-finish")
    found = events[-1]["metadata"]["crossroute"]
    assert (found["model"], found["attempts"][0]["model"]) == (LARGE, MINI)
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply("no such parameter", status=400), ModelInvalidRequestError),
        (Reply("context_length_exceeded", status=400), ContextOverflowError),
    ],
    ids=["bad request", "too long"],
)
async def test_what_another_model_would_not_mend_is_raised_at_once(
    reply: Reply, error: type[Exception], way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = reply
    with pytest.raises(error, match=reply.text):
        await ask(way, make(), QUESTION)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
async def test_if_all_fail_the_last_error_names_them(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers = {MINI: Reply("slow down", status=429), LARGE: Reply("oops", status=500)}
    with pytest.raises(ModelAPIError, match="oops") as raised:
        await ask(way, make(kind), QUESTION)
    (note,) = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_are_bounded(
    attempts: int, way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    models = {model: client(server, model) for model in (MINI, LARGE, THIRD)}
    server.answers = dict.fromkeys(models, Reply(status=503))
    with pytest.raises(ModelAPIError):
        await ask(way, make(models=models, attempts=attempts), QUESTION)
    preferred = [c.model for c in router.subset(models).route(QUESTION, 0).candidates]
    assert asked(server) == preferred[:attempts]


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_model_is_not_left(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply("slow down", status=429)
    with pytest.raises(ModelRateLimitError):
        await ask(way, make(), QUESTION, {"configurable": {"crossroute_model": LARGE}})
    assert asked(server) == [LARGE]


@pytest.mark.parametrize("way", WAYS)
async def test_the_client_retries_by_itself_first(
    way: str, make: Make, server: OpenAIServer
) -> None:
    replies = iter([Reply(status=429), Reply(status=500), Reply(TEXT)])
    server.answers[MINI] = lambda _: next(replies)
    routed = make(mini={"max_retries": None})  # the client's default: two
    answer = await ask(way, routed, QUESTION)
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert asked(server) == [MINI] * 3

    server.answers[MINI] = Reply(status=429)
    answer = await ask(way, routed, QUESTION)
    assert decision_of(answer)["model"] == LARGE
    assert len(decision_of(answer)["attempts"]) == 1
    assert asked(server)[3:] == [MINI, MINI, MINI, LARGE]


REFUSALS = {
    "refusal": Reply(refusal="I would rather not."),
    "content filter": Reply("", finish_reason="content_filter"),
}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_goes_to_the_next(
    refusal: str, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = REFUSALS[refusal]
    answer = await ask(way, make(pass_refusals=True), QUESTION)
    assert answer.text == TEXT
    assert decision_of(answer)["model"] == LARGE
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [MINI]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_is_the_answer_unless_it_is_to_pass(
    refusal: str, way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = REFUSALS[refusal]
    answer = await ask(way, make(kind), QUESTION)
    assert answer.text == ""
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_if_all_refuse_the_first_refusal_is_the_answer(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    models = {model: client(server, model) for model in (MINI, LARGE, THIRD)}
    server.answers = {model: Reply(refusal=f"Not {model}.") for model in models}
    preferred = [c.model for c in router.subset(models).route(QUESTION, 0).candidates]
    answer = await ask(way, make(models=models, attempts=2, pass_refusals=True), QUESTION)
    assert answer.additional_kwargs["refusal"] == f"Not {preferred[0]}."
    assert decision_of(answer)["model"] == preferred[0]
    assert asked(server) == preferred[:2]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", STREAMS)
async def test_a_streamed_content_filter_goes_to_the_next(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = REFUSALS["content filter"]
    ledger, events = CostLedger(router), Events()
    routed = make(kind, pass_refusals=True)
    answer = await ask(way, routed, QUESTION, {"callbacks": [ledger, events]})
    assert answer.text == TEXT
    assert decision_of(answer)["attempts"] == [{"model": MINI, "error": "refused"}]
    # It was an answer all the same, of a run that ended, and it was paid for.
    assert not events.failed
    assert [ledger.spend[model].calls for model in (MINI, LARGE)] == [1, 1]
    assert ledger.spend[MINI].cost_usd > 0

    server.answers[LARGE] = REFUSALS["content filter"]
    answer = await ask(way, routed, QUESTION)
    assert answer.response_metadata["finish_reason"] == "content_filter"
    assert decision_of(answer)["model"] == MINI
    assert decision_of(answer)["realised"]["input_tokens"] == 20


@pytest.mark.parametrize("way", STREAMS)
async def test_a_filter_in_the_middle_of_an_answer_is_its_end(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("Well, no.", finish_reason="content_filter")
    assert (await ask(way, make(pass_refusals=True), QUESTION)).text == "Well, no."
    assert asked(server) == [MINI]


# Agents and graphs


def with_the_tool(body: dict[str, Any]) -> Reply:
    """Calls the tool, and tells its result."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Reply(f"The tool says: {last['content']}")
    return Reply(tool_calls=(("weather", {"city": "Paris"}),))


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


# From descriptors


@pytest.fixture
def folder(
    server: OpenAIServer, router: CrossRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Descriptors of both models, which are reached at the server with a key each."""
    for model, variable in ((MINI, "KEY_OF_MINI"), (LARGE, "KEY_OF_LARGE")):
        monkeypatch.setenv(variable, f"sk-SECRET-{variable}")
        content = router.pool[model].model_dump() | {
            "retired": None,
            "provider": {
                "chat_model": f"openai:{model}",
                "base_url": server.url,
                "api_key_env": variable,
                "arguments": {"max_retries": 0, "stream_usage": True},
            },
        }
        ModelDescriptor.model_validate(content).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
async def test_from_yaml(way: str, kind: type[Any], folder: Path, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply(status=500)
    routed = kind.from_yaml(folder, willingness_to_pay=math.inf)
    answer = await ask(way, routed, QUESTION)
    assert answer.text == TEXT
    assert decision_of(answer)["model"] == MINI
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [LARGE]
    assert decision_of(answer)["realised"]["cost_usd"] > 0
    # Each key goes to its own model only, and is shown nowhere.
    assert [(r.body["model"], r.authorization) for r in server.requests] == [
        (LARGE, "Bearer sk-SECRET-KEY_OF_LARGE"),
        (MINI, "Bearer sk-SECRET-KEY_OF_MINI"),
    ]
    shown = f"{routed!r} {routed.models!r} {answer!r} {json.dumps(routed.to_json())}"
    assert MINI in shown
    assert "SECRET" not in shown
    assert not any("SECRET" in path.read_text("utf-8") for path in folder.iterdir())


async def test_tools_of_models_from_yaml(folder: Path, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    routed = ChatCrossRoute.from_yaml(folder, willingness_to_pay=0).bind_tools([weather])
    answer = await routed.ainvoke("What is the weather like in Paris?")
    assert [call["name"] for call in answer.tool_calls] == ["weather"]
    assert [bound["function"]["name"] for bound in server.requests[0].body["tools"]] == ["weather"]


# The overview page


def test_the_code_of_the_page_runs(make: Make) -> None:
    page = (ROOT / "docs" / "langchain" / "index.md").read_text("utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        found: dict[str, Any] = {}
        exec(code, found)
        assert set(found["chat"].models) == {MINI, LARGE}
    for name in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page):
        assert (ROOT / "docs" / "langchain" / name).exists(), name
    assert all(f"| `{setting.id}` |" in page for setting in make().config_specs)


# The server itself


def test_the_server_lists_its_models(server: OpenAIServer) -> None:
    with openai.OpenAI(base_url=server.url, api_key="key", max_retries=0) as plain:
        assert [model.id for model in plain.models.list()] == [MINI, LARGE]
        with pytest.raises(openai.NotFoundError, match="There is no /v1/embeddings"):
            plain.embeddings.create(model="any", input="text")
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/embeddings"]
