"""Keys that a server echoes in its errors are shown nowhere."""

# LlamaIndex's own signatures say Any.

from __future__ import annotations

import traceback
from collections.abc import Callable

import openai
import pytest
from fakes_llamaindex import LARGE, MINI, STREAMS, TEXT, WAYS, Recorder, answers
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteLLM

KEYS = {MINI: "sk-mini-0123456789abcdef", LARGE: "sk-large-0123456789abcdef"}


def echoing(server: OpenAIServer, reply: Callable[[str], Reply]) -> None:
    """Let the server answer with the key that it got."""
    server.answers = dict.fromkeys(
        KEYS, lambda _: reply(f"you sent {server.requests[-1].authorization}")
    )


@pytest.fixture
def keyed(client: Callable[..., OpenAILike]) -> CrossRouteLLM:
    models = {model: client(model, api_key=key) for model, key in KEYS.items()}
    return CrossRouteLLM(models=models, willingness_to_pay=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [401, 500, 400])
async def test_a_key_that_is_echoed_is_told_nowhere(
    status: int,
    way: str,
    keyed: CrossRouteLLM,
    server: OpenAIServer,
    events: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    echoing(server, lambda text: Reply(text, status=status))
    with pytest.raises(openai.APIStatusError, match="you sent") as raised:
        await answers(way, keyed)
    error = raised.value
    told = "".join(
        (
            *traceback.format_exception(error),
            repr(error),
            str(error.body),
            caplog.text,
            # The candidate's own events say what they say without a router.
            *(
                event.model_dump_json()
                for event in events.found
                if "CrossRoute" in f"{event.class_name()} {event.span_id}"
            ),
        )
    )
    assert "you sent" in told
    for key in KEYS.values():
        assert key not in told


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_that_is_echoed_is_not_in_the_attempts(
    way: str, keyed: CrossRouteLLM, server: OpenAIServer, events: Recorder
) -> None:
    echoing(server, lambda text: Reply(text, status=401))
    server.answers[LARGE] = Reply(TEXT)
    answer = (await answers(way, keyed))[-1]
    (attempt,) = answer.additional_kwargs["crossroute"]["attempts"]
    assert "you sent Bearer ***" in attempt["error"] or "you sent ***" in attempt["error"]
    (answered,) = events.of(CrossRouteAnswerEvent)
    assert answered.attempts == [attempt]


@pytest.mark.parametrize("way", STREAMS)
async def test_a_key_that_is_echoed_in_a_stream(
    way: str, keyed: CrossRouteLLM, server: OpenAIServer
) -> None:
    # The role, and some words of the text that is also the error's.
    echoing(server, lambda text: Reply(text, status=500, fail_after=3))
    with pytest.raises(openai.APIError, match="you sent") as raised:
        await answers(way, keyed)
    assert KEYS[MINI] not in "".join(traceback.format_exception(raised.value))
