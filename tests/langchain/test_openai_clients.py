"""Real ChatOpenAI clients as candidates, which talk over HTTP to a server on this machine."""

# LangChain's own signatures say Any.

import asyncio
import math
import re
import socket
import threading
from functools import reduce
from operator import add
from typing import Any

import openai
import pytest
from fakes_langchain import (
    CALLS,
    LARGE,
    MINI,
    PATIENCE,
    QUESTION,
    ROUTERS,
    STREAMS,
    TEXT,
    Make,
    Recorder,
    asked,
    chunks_of,
    client,
    decision_of,
    output_of,
    weather,
)
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelInvalidRequestError,
    ModelRateLimitError,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter

THIRD = "Meta-Llama-3.1-70B-Instruct"
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
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
@pytest.mark.parametrize("way", CALLS)
async def test_the_chosen_client_answers(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    answer = await output_of(way, PROMPT | make(kind), {"question": QUESTION})
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


@pytest.mark.parametrize("way", CALLS)
async def test_the_willingness_to_pay_of_a_call(way: str, make: Make, server: OpenAIServer) -> None:
    config = {"configurable": {"willingness_to_pay": math.inf}}
    answer = await output_of(way, make().bind_tools([weather]), QUESTION, config)
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


def test_the_server_lists_its_models(server: OpenAIServer) -> None:
    with openai.OpenAI(base_url=server.url, api_key="key", max_retries=0) as plain:
        assert [model.id for model in plain.models.list()] == [MINI, LARGE]
        with pytest.raises(openai.NotFoundError, match="There is no /v1/embeddings"):
            plain.embeddings.create(model="any", input="text")
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/embeddings"]


# Failures


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_next_candidate_answers(
    failure: str, way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    reply, name = FAILURES[failure]
    server.answers[MINI] = reply
    server.answers[LARGE] = Reply("I am large.")
    routed = make(kind, mini={"timeout": 0.2 if reply.silent else PATIENCE})
    events = Recorder()
    answer = await output_of(way, routed, QUESTION, {"callbacks": [events]})

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
    assert len(events.models) == 2
    assert len(events.errors) == 1
    decided, failed = [event[:2] for event in events.events]
    assert (decided[0], decided[1]["model"]) == ("crossroute_decision", MINI)
    assert failed[0] == "crossroute_attempt_failed"
    assert (failed[1]["model"], failed[1]["next"]) == (MINI, LARGE)


@pytest.mark.parametrize("way", CALLS)
async def test_a_server_that_is_not_there(way: str, make: Make, server: OpenAIServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        # Bound but not listening: nobody else takes the port, and a connection is refused.
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        answer = await output_of(way, make(mini={"base_url": url}), QUESTION)
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
        answer = await output_of(way, make(), QUESTION)
        assert answer.text == TEXT
        assert decision_of(answer)["attempts"] == [{"model": MINI, "error": "APIError: oops"}]
    else:
        with pytest.raises(openai.APIError, match="oops"):
            await output_of(way, make(), QUESTION)
    assert asked(server) == ([MINI, LARGE] if passes else [MINI])


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_drops_in_a_tool_call_is_not_restarted(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),), cut_after=2)
    with pytest.raises(Exception, match=r"(?i)connection"):
        await output_of(way, make().bind_tools([weather]), QUESTION)
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


@pytest.mark.parametrize("way", CALLS)
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
        await output_of(way, make(), QUESTION)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
async def test_if_all_fail_the_last_error_names_them(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers = {MINI: Reply("slow down", status=429), LARGE: Reply("oops", status=500)}
    with pytest.raises(ModelAPIError, match="oops") as raised:
        await output_of(way, make(kind), QUESTION)
    (note,) = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_are_bounded(
    attempts: int, way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    models = {model: client(server, model) for model in (MINI, LARGE, THIRD)}
    server.answers = dict.fromkeys(models, Reply(status=503))
    with pytest.raises(ModelAPIError):
        await output_of(way, make(models=models, attempts=attempts), QUESTION)
    preferred = [c.model for c in router.subset(models).route(QUESTION, 0).candidates]
    assert asked(server) == preferred[:attempts]


@pytest.mark.parametrize("way", CALLS)
async def test_a_forced_model_is_not_left(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply("slow down", status=429)
    with pytest.raises(ModelRateLimitError):
        await output_of(way, make(), QUESTION, {"configurable": {"crossroute_model": LARGE}})
    assert asked(server) == [LARGE]


@pytest.mark.parametrize("way", CALLS)
async def test_the_client_retries_by_itself_first(
    way: str, make: Make, server: OpenAIServer
) -> None:
    replies = iter([Reply(status=429), Reply(status=500), Reply(TEXT)])
    server.answers[MINI] = lambda _: next(replies)
    routed = make(mini={"max_retries": None})  # the client's default: two
    answer = await output_of(way, routed, QUESTION)
    assert decision_of(answer)["model"] == MINI
    assert "attempts" not in decision_of(answer)
    assert asked(server) == [MINI] * 3

    server.answers[MINI] = Reply(status=429)
    answer = await output_of(way, routed, QUESTION)
    assert decision_of(answer)["model"] == LARGE
    assert len(decision_of(answer)["attempts"]) == 1
    assert asked(server)[3:] == [MINI, MINI, MINI, LARGE]
