"""Real OpenAILike clients as candidates, which talk over HTTP to a server on this machine."""

# LlamaIndex's own signatures say Any.

import asyncio
import math
import re
from typing import Any

import openai
import pytest
from fakes_llamaindex import (
    ASK_STREAMS,
    CHATS,
    COMPLETIONS,
    LARGE,
    MINI,
    PATIENCE,
    QUESTION,
    TEXT,
    Make,
    ask,
    asked,
    responses,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from llamaindex_crossroute import call_settings

FAILURES = {
    "rate limit": (Reply("slow down", status=429), "RateLimit"),
    "server error": (Reply("oops", status=500), "InternalServerError"),
    "overloaded": (Reply("busy", status=503), "InternalServerError"),
    "wrong key": (Reply("wrong key", status=401), "AuthenticationError"),
    "retired model": (Reply("no such model", status=404), "NotFoundError"),
    "connection dropped": (Reply(TEXT, cut_after=0), "ConnectionError|RemoteProtocolError"),
    "too slow": (Reply(TEXT, silent=True), "Timeout"),
}


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_the_chosen_client_answers(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    text, decision = await ask(way, make())
    assert text == TEXT
    assert decision["model"] == MINI
    assert "attempts" not in decision
    price = router.pool[MINI].price
    assert price is not None
    assert decision["realised"] == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cached_tokens": 400,
        "cost_usd": pytest.approx(float(price.cost_usd(1000, 200, 400))),
    }
    (request,) = server.requests
    assert request.authorization == f"Bearer key of {MINI}"
    assert request.body["messages"] == [{"role": "user", "content": QUESTION}]
    assert bool(request.body.get("stream")) == ("stream" in way)


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_a_stream_has_a_chunk_for_each_token(way: str, make: Make) -> None:
    chunks = await responses(way, make())
    assert [c.delta for c in chunks if c.delta] == [
        "The",
        " capital",
        " of",
        " France",
        " is",
        " Paris.",
    ]
    assert {chunk.additional_kwargs["crossroute"]["model"] for chunk in chunks} == {MINI}


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_settings_of_a_call(way: str, make: Make, server: OpenAIServer) -> None:
    llm = make()
    for settings in ({"willingness_to_pay": math.inf}, {"model": LARGE}, {"excluded": [MINI]}):
        with call_settings(**settings):  # type: ignore[arg-type]
            assert (await ask(way, llm))[1]["model"] == LARGE
    assert (await ask(way, llm))[1]["model"] == MINI
    assert asked(server) == [LARGE] * 3 + [MINI]


async def test_many_calls_at_the_same_time_of_which_some_fail(
    make: Make, server: OpenAIServer
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        number = int(body["messages"][-1]["content"].split()[2])
        if number % 2 and body["model"] == MINI:
            return Reply(status=429)
        return Reply(f"{body['model']} {number}")

    server.answers = {MINI: answer, LARGE: answer}
    llm = make()
    answers = await asyncio.gather(*(llm.acomplete(f"What is {n} + 1?") for n in range(24)))
    assert [a.text for a in answers] == [f"{LARGE if n % 2 else MINI} {n}" for n in range(24)]


@pytest.mark.parametrize("way", CHATS)
async def test_tokens_are_counted_once(way: str, make: Make, server: OpenAIServer) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = make(callback_manager=CallbackManager([counter]))
    server.answers[MINI] = Reply(TEXT, input_tokens=30, output_tokens=7)
    await ask(way, llm)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (30, 7)
    assert len(counter.llm_token_counts) == 1


# Failures


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_next_candidate_answers(
    failure: str, way: str, make: Make, server: OpenAIServer
) -> None:
    reply, name = FAILURES[failure]
    server.answers = {MINI: reply, LARGE: Reply("I am large.")}
    text, decision = await ask(way, make({"timeout": 0.2 if reply.silent else PATIENCE}))
    assert text == "I am large."
    assert asked(server) == [MINI, LARGE]
    assert [request.authorization for request in server.requests] == [
        f"Bearer key of {MINI}",
        f"Bearer key of {LARGE}",
    ]
    assert decision["model"] == LARGE
    (attempt,) = decision["attempts"]
    assert attempt["model"] == MINI
    assert re.search(name, attempt["error"])


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_a_stream_that_has_begun_is_not_restarted(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, cut_after=4)  # the role and three words
    heard = []
    argument: Any = [ChatMessage(QUESTION)] if "chat" in way else QUESTION

    async def listen() -> None:
        stream = getattr(make(), way)(argument)
        if way.startswith("a"):
            async for chunk in await stream:
                heard.append(chunk.delta or "")  # noqa: PERF401  # the error comes between
        else:
            for chunk in stream:
                heard.append(chunk.delta or "")  # noqa: PERF401

    # As what it is raised depends on the version of openai's client.
    with pytest.raises(Exception, match=r"(?i)connection|peer closed"):
        await listen()
    assert "".join(heard) == "The capital of"
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply("no such parameter", status=400), openai.BadRequestError),
    ],
    ids=["bad request"],
)
async def test_what_another_model_would_not_mend_is_raised_at_once(
    reply: Reply, error: type[Exception], way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = reply
    with pytest.raises(error, match=reply.text):
        await ask(way, make())
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_if_all_fail_the_last_error_names_them(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers = {MINI: Reply("slow down", status=429), LARGE: Reply("oops", status=500)}
    with pytest.raises(openai.InternalServerError, match="oops") as raised:
        await ask(way, make())
    (note,) = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", CHATS)
async def test_a_forced_model_is_not_left(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply("slow down", status=429)
    with call_settings(model=LARGE), pytest.raises(openai.RateLimitError):
        await ask(way, make())
    assert asked(server) == [LARGE]
