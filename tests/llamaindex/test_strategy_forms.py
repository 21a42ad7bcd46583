"""Each strategy in each form in which LlamaIndex calls an LLM, with real clients over HTTP."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fakes_forms import (
    CASES,
    LARGE,
    MODELS,
    QUESTION,
    Case,
    Reader,
    Seen,
    check,
    check_bill,
    check_decision,
    told,
)
from fakes_llamaindex import (
    ASK_STREAMS,
    ASKS,
    CHATS,
    OBJECTS,
    TOOL_CHATS,
    Person,
    Recorder,
    Retriever,
    answer_of,
    text_of,
)
from llama_index.core import PromptTemplate, Settings
from llama_index.core.instrumentation.events.llm import (
    LLMChatInProgressEvent,
    LLMCompletionInProgressEvent,
)
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from openai_server import OpenAIServer, Reply

from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteLLM

EACH = pytest.mark.parametrize("name", CASES)
Client = Callable[..., Any]


def routed_over(client: Client, case: Case, **settings: Any) -> CrossRouteLLM:
    return CrossRouteLLM(
        models={model: client(model, **settings) for model in MODELS},
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
    )


def check_event(events: Recorder, case: Case) -> None:
    """The event of the answer has the bill, whatever the form gives."""
    (event,) = events.of(CrossRouteAnswerEvent)
    assert event.model == case.model
    assert event.attempts == []
    check_bill(event.bill, case)


@EACH
@pytest.mark.parametrize("way", ASKS)
async def test_an_llm(
    way: str, name: str, client: Client, server: OpenAIServer, events: Recorder
) -> None:
    case, reader = CASES[name], Reader(server)
    llm = routed_over(client, case)
    live = way in ASK_STREAMS
    with told(server, case, live=live):
        outcome = getattr(llm, way)([ChatMessage(QUESTION)] if way in CHATS else QUESTION)
        if way.startswith("a"):
            outcome = await outcome
        if not live:
            decision = outcome.additional_kwargs["crossroute"]
            check(Seen(text_of(outcome) or "", decision), case, server)
        else:
            # Before it returns, it is decided who answers, and the first chunk is there.
            asked = [request.body["model"] for request in server.requests]
            assert sorted(asked) == sorted(case.models)
            chunks = []
            if "astream" in way:
                async for chunk in outcome:
                    chunks.append(chunk)
                    reader.take(chunk.delta)
            else:
                for chunk in outcome:
                    chunks.append(chunk)
                    reader.take(chunk.delta)
            assert text_of(chunks[-1]) == case.text
            check(reader.seen(chunks[-1].additional_kwargs["crossroute"]), case, server)
        # Of a draft nobody hears a token, but of streams that the strategy looks into.
        shown = [*events.of(LLMChatInProgressEvent), *events.of(LLMCompletionInProgressEvent)]
        assert bool(shown) == (case.is_probed or (live and case.is_live))
        check_event(events, case)


@pytest.mark.parametrize("limit", [{"max_tokens": 512}, {}])
@pytest.mark.parametrize("given", [{"max_completion_tokens": 500}, {"max_tokens": 500}, {}])
def test_a_question_on_a_draft_has_one_limit_and_its_own(
    limit: dict[str, Any], given: dict[str, Any], client: Client, server: OpenAIServer
) -> None:
    case = CASES["a draft without log-probabilities"]
    llm = routed_over(client, case, **limit)
    with told(server, case, live=False):
        assert llm.complete(QUESTION, **given).text == case.text
    limits = [
        {name: body[name] for name in body if name.endswith("_tokens")}
        for body in (request.body for request in server.requests)
    ]
    assert limits == [{**given, **limit}, {"max_tokens": 16}, {**given, **limit}]


PROMPT = PromptTemplate("Say briefly: {question}")


@EACH
@pytest.mark.parametrize("way", ["predict", "apredict", "stream", "astream"])
async def test_a_prompt(
    way: str, name: str, client: Client, server: OpenAIServer, events: Recorder
) -> None:
    case, reader = CASES[name], Reader(server)
    llm = routed_over(client, case)
    with told(server, case, live="stream" in way):
        outcome = getattr(llm, way)(PROMPT, question=QUESTION)
        if way.startswith("a"):
            outcome = await outcome
        if "predict" in way:
            check(Seen(outcome, None), case, server)
        else:
            if way == "astream":
                async for text in outcome:
                    reader.take(text)
            else:
                for text in outcome:
                    reader.take(text)
            check(reader.seen(None), case, server)
        check_event(events, case)


@EACH
@pytest.mark.parametrize("way", ["query", "aquery", "streamed", "astreamed"])
async def test_a_query_engine(
    way: str,
    name: str,
    client: Client,
    server: OpenAIServer,
    events: Recorder,
    settings: None,
) -> None:
    case, reader = CASES[name], Reader(server)
    Settings.llm = routed_over(client, case)
    streams, asynchronous = "streamed" in way, way.startswith("a")
    engine = RetrieverQueryEngine(
        Retriever(), get_response_synthesizer(streaming=streams, response_mode=ResponseMode.COMPACT)
    )
    with told(server, case, live=streams):
        response: Any = await engine.aquery(QUESTION) if asynchronous else engine.query(QUESTION)
        if not streams:
            check(Seen(str(response), None), case, server)
        else:
            if asynchronous:
                async for text in response.async_response_gen():
                    reader.take(text)
            else:
                for text in response.response_gen:
                    reader.take(text)
            check(reader.seen(None), case, server)
        assert "Primes are numbers." in str(server.requests[0].body["messages"])
        check_event(events, case)


# Tools and schemas


STRATEGIES = pytest.mark.parametrize("name", [name for name in CASES if name != "one"])


@STRATEGIES
@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_with_tools_one_model_answers(
    way: str, name: str, client: Client, server: OpenAIServer
) -> None:
    calls = (("multiply", {"a": 17, "b": 23}),)
    server.answers = {model: Reply(tool_calls=calls) for model in MODELS}
    llm = routed_over(client, CASES[name])
    answer = await answer_of(way, llm, QUESTION)
    (call,) = llm.get_tool_calls_from_response(answer)
    assert call.tool_kwargs == {"a": 17, "b": 23}
    bill = answer.additional_kwargs["crossroute"]["bill"]
    assert [(ask["model"], ask["role"]) for ask in bill["asks"]] == [(LARGE, "answer")]
    (request,) = server.requests
    assert "logprobs" not in request.body


@STRATEGIES
@pytest.mark.parametrize("way", OBJECTS)
async def test_with_a_schema_one_model_answers(
    way: str, name: str, client: Client, server: OpenAIServer
) -> None:
    ada: dict[str, Any] = {"name": "Ada", "age": 36}
    server.answers = {
        model: lambda body: (
            Reply(tool_calls=((body["tools"][0]["function"]["name"], ada),))
            if body.get("tools")
            else Reply(json.dumps(ada))
        )
        for model in MODELS
    }
    llm = routed_over(client, CASES[name])
    outcome = getattr(llm, way)(Person, PROMPT, question=QUESTION)
    if way.startswith("a"):
        outcome = await outcome
    if way.startswith("astream"):
        outcome = [part async for part in outcome][-1]
    elif "stream" in way:
        outcome = list(outcome)[-1]
    assert outcome == Person(**ada)
    (request,) = server.requests
    assert request.body["model"] == LARGE
    assert "logprobs" not in request.body


# What a client is asked for by itself


@pytest.mark.parametrize("way", ASKS)
async def test_a_client_that_says_no_usage_of_streams(
    way: str, client: Client, server: OpenAIServer
) -> None:
    case = CASES["a draft is escalated"]
    llm = routed_over(client, case, additional_kwargs={})
    with told(server, case, live=False):
        answer = await answer_of(way, llm, QUESTION)
        decision = answer.additional_kwargs["crossroute"]
        draft, given = decision["bill"]["asks"]
        assert not draft["estimated"]
        # The caller's own stream asks for its usage as the caller says.
        assert given["estimated"] is (way in ASK_STREAMS)
        if way not in ASK_STREAMS:
            check_decision(decision, case)
