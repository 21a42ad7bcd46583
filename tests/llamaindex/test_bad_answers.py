"""Answers of a server that are none: status 200 with nothing usable in it, streams that break."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MINI,
    STREAMS,
    TEXT,
    TOOL_CHATS,
    WAYS,
    Make,
    Recorder,
    Wire,
    answers,
    asked,
    text_of,
)
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute import NoAnswerError, UnfinishedAnswerError
from llamaindex_crossroute import CrossRouteAnswerEvent

WHOLE = [way for way in WAYS if "stream" not in way]
PAGE = "<html><title>Sign in</title></html>"
BREAKS = {
    "an error": Reply(TEXT, status=500, fail_after=1),
    "a lost connection": Reply(TEXT, cut_after=1),
    "an end": Reply(TEXT, end_after=1),
}


def frame(**content: object) -> str:
    kind = "chat.completion.chunk" if "chunk" in content else "chat.completion"
    content.pop("chunk", None)
    return json.dumps({"id": "1", "object": kind, "created": 0, "model": MINI, **content})


def sent(*data: str) -> str:
    return "".join(f"data: {event}\n\n" for event in data)


def chunk(**choice: object) -> str:
    return frame(chunk=True, choices=[{"index": 0, "finish_reason": None, **choice}])


ROLE = chunk(delta={"role": "assistant", "content": ""})
ERROR = json.dumps({"error": {"message": "overloaded", "type": "error", "code": None}})
BODIES = {
    "null choices": frame(choices=None),
    "empty choices": frame(choices=[]),
    "no choices": frame(),
    "null message": frame(choices=[{"index": 0, "message": None, "finish_reason": None}]),
    "a page": PAGE,
    "cut": frame(choices=[])[:-20],
    "an error": ERROR,
    "an empty body": "",
    "a list": "[]",
    "null": "null",
    "an unknown role": frame(
        choices=[{"index": 0, "message": {"role": 0, "content": TEXT}, "finish_reason": "stop"}]
    ),
    "nothing": frame(
        choices=[{"index": 0, "message": {"role": "assistant"}, "finish_reason": None}]
    ),
}
STREAMED = {
    "null choices": sent(frame(chunk=True, choices=None), "[DONE]"),
    "empty choices": sent(frame(chunk=True, choices=[]), "[DONE]"),
    "null delta": sent(chunk(delta=None), "[DONE]"),
    "a page": PAGE,
    "no events": frame(choices=[{"index": 0, "message": {"content": TEXT}}]),
    "a cut event": sent(ROLE[:-20]),
    "a cut event after the role": sent(ROLE, ROLE[:-20]),
    "an error": sent(ERROR),
    "an error after the role": sent(ROLE, ERROR),
    "an empty body": "",
    "only the end": sent("[DONE]"),
    "only the role": sent(ROLE),
    "the role and the end": sent(ROLE, "[DONE]"),
    "a list": sent("[]"),
    "an unknown role": sent(chunk(delta={"role": "nobody", "content": TEXT}), "[DONE]"),
    "blanks": sent(ROLE, chunk(delta={"content": "\n"}), "[DONE]"),
}


@pytest.mark.parametrize(
    ("way", "body"),
    [
        *((way, BODIES[name]) for way in WHOLE for name in BODIES),
        *((way, STREAMED[name]) for way in STREAMS for name in STREAMED),
    ],
)
async def test_the_next_candidate_answers(
    way: str,
    body: str,
    make: Make,
    server: OpenAIServer,
    events: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answers[MINI] = Reply(raw=body)
    answer = (await answers(way, make()))[-1]
    assert text_of(answer) == TEXT
    assert asked(server) == [MINI, LARGE]
    (attempt,) = answer.additional_kwargs["crossroute"]["attempts"]
    assert attempt["model"] == MINI
    assert attempt["error"]
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert told.name.startswith("llamaindex_crossroute")
    assert told.getMessage() == f"Candidate {MINI} failed: {attempt['error']}"
    (answered,) = events.of(CrossRouteAnswerEvent)
    assert (answered.model, answered.attempts) == (LARGE, [attempt])


@pytest.mark.parametrize("name", ["null choices", "a list", "an unknown role"])
@pytest.mark.parametrize("way", [way for way in STREAMS if not way.startswith("a")])
async def test_no_stream_is_left_to_the_collector(
    way: str, name: str, make: Make, server: OpenAIServer, wire: Wire
) -> None:
    """It may run while the client holds the lock that closing a stream takes, too."""
    server.answers[MINI] = Reply(raw=STREAMED[name])
    pool: Any = wire.sync._transport
    gc.collect()
    gc.disable()
    try:
        assert text_of((await answers(way, make()))[-1]) == TEXT
        assert not pool._pool.connections
    finally:
        gc.enable()


@pytest.mark.parametrize("way", WAYS)
async def test_if_nobody_answers_the_error_names_all(
    way: str, make: Make, server: OpenAIServer
) -> None:
    body = sent(ROLE, "[DONE]") if "stream" in way else BODIES["nothing"]
    server.answers = {MINI: Reply(raw=body), LARGE: Reply(raw=body)}
    with pytest.raises(NoAnswerError, match=LARGE) as raised:
        await answers(way, make())
    (note,) = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_an_empty_text_with_a_finish_reason_is_an_answer(
    reason: str, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("", finish_reason=reason)
    answer = (await answers(way, make()))[-1]
    assert not text_of(answer)
    decision = answer.additional_kwargs["crossroute"]
    assert decision["model"] == MINI
    assert "attempts" not in decision
    assert "unfinished" not in decision


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "usage",
    ["many", [], 5, {"prompt_tokens": "1", "completion_tokens": [2]}, {"prompt_tokens": 10**400}],
)
async def test_a_usage_that_is_nonsense_does_not_lose_the_answer(
    usage: Any, way: str, make: Make, server: OpenAIServer
) -> None:
    choice = {"index": 0, "finish_reason": "stop"}
    whole = frame(
        choices=[{**choice, "message": {"role": "assistant", "content": TEXT}}], usage=usage
    )
    last = frame(chunk=True, choices=[{**choice, "delta": {"content": TEXT}}], usage=usage)
    server.answers[MINI] = Reply(raw=sent(ROLE, last, "[DONE]") if "stream" in way else whole)
    answer = (await answers(way, make()))[-1]
    assert text_of(answer) == TEXT
    assert "realised" not in answer.additional_kwargs["crossroute"]


# Streams


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("reply", BREAKS.values(), ids=BREAKS)
async def test_a_stream_that_breaks_before_its_first_words_goes_to_the_next(
    reply: Reply, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = reply
    chunks = await answers(way, make())
    assert "".join(chunk.delta or "" for chunk in chunks) == TEXT
    assert {chunk.additional_kwargs["crossroute"]["model"] for chunk in chunks} == {LARGE}
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", STREAMS)
async def test_every_chunk_is_handed_on(
    way: str, make: Make, client: Callable[..., OpenAILike]
) -> None:
    expected = [chunk.delta for chunk in await answers(way, client(MINI))]
    assert [chunk.delta for chunk in await answers(way, make())] == expected


@pytest.mark.parametrize("way", TOOL_CHATS[2:])
async def test_a_stream_that_breaks_in_a_tool_call_is_not_restarted(
    way: str, make: Make, server: OpenAIServer
) -> None:
    # The role, the name of the tool, a part of its arguments.
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),), cut_after=3)
    # As what it is raised depends on the version of openai's client.
    with pytest.raises(Exception, match=r"(?i)connection|peer closed"):
        await answers(way, make())
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_ends_without_saying_why_is_marked(
    way: str, make: Make, server: OpenAIServer, events: Recorder
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)  # the role and three words
    *others, last = await answers(way, make())
    assert text_of(last) == "The capital of"
    assert last.additional_kwargs["crossroute"]["unfinished"] is True
    assert not any("unfinished" in chunk.additional_kwargs["crossroute"] for chunk in others)
    (answered,) = events.of(CrossRouteAnswerEvent)
    assert (answered.model, answered.unfinished) == (MINI, True)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", STREAMS)
async def test_strict_streams_raise_at_such_an_end(
    way: str, make: Make, server: OpenAIServer, events: Recorder
) -> None:
    server.answers[MINI] = Reply(TEXT, end_after=4)
    with pytest.raises(UnfinishedAnswerError, match=MINI):
        await answers(way, make(strict_streams=True))
    assert not events.of(CrossRouteAnswerEvent)
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_a_whole_answer_is_not_marked(
    reason: str, strict: bool, way: str, make: Make, server: OpenAIServer, events: Recorder
) -> None:
    server.answers[MINI] = Reply(TEXT, finish_reason=reason)
    found = await answers(way, make(strict_streams=strict))
    assert text_of(found[-1]) == TEXT
    assert not any("unfinished" in answer.additional_kwargs["crossroute"] for answer in found)
    (answered,) = events.of(CrossRouteAnswerEvent)
    assert not answered.unfinished


# Refusals


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "reply", [Reply(refusal="I will not."), Reply("", finish_reason="content_filter")]
)
async def test_a_refusal_is_an_answer_unless_it_may_pass(
    reply: Reply, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = reply
    answer = (await answers(way, make()))[-1]
    assert answer.additional_kwargs["crossroute"]["model"] == MINI
    assert asked(server) == [MINI]
    answer = (await answers(way, make(pass_refusals=True)))[-1]
    assert text_of(answer) == TEXT
    assert answer.additional_kwargs["crossroute"]["attempts"] == [
        {"model": MINI, "error": "refused"}
    ]
    assert asked(server) == [MINI, MINI, LARGE]
