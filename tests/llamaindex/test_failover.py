"""When a model fails: who is asked next, and when nobody is."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MINI,
    QUESTION,
    SMALL,
    STREAMS,
    TEXT,
    TOOL_CHATS,
    WAYS,
    Make,
    Recorder,
    StatusError,
    answer_of,
    answers,
    answers_of,
    asked,
    core_decision,
    scripted,
    text_of,
)
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from llamaindex_crossroute import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    CrossRouteLLM,
    call_settings,
)

PAGE = "<html><title>Sign in</title></html>"


@pytest.mark.parametrize("way", WAYS)
async def test_the_next_best_model_answers(way: str, events: Recorder) -> None:
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    models = scripted(appends=True)
    object.__setattr__(models[ranking[0]], "error", StatusError(429))
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    answer = await answer_of(way, llm)

    found = answer.additional_kwargs["crossroute"]
    assert found["model"] == ranking[1]
    assert found["attempts"] == [{"model": ranking[0], "error": "StatusError: status 429"}]
    score = next(c for c in found["candidates"] if c["model"] == ranking[1])
    assert (found["quality"], found["cost_usd"]) == (score["quality"], score["cost_usd"])
    # The first one appended to its messages.
    assert models[ranking[0]]._asked == models[ranking[1]]._asked
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    assert decided.decision["model"] == ranking[0]
    assert answered.model == ranking[1]
    assert answered.attempts == found["attempts"]
    if way in TOOL_CHATS:
        assert llm.get_tool_calls_from_response(answer)[0].tool_id == f"{ranking[1]}:multiply"


@pytest.mark.parametrize("way", WAYS)
async def test_attempts_are_bounded(way: str, events: Recorder) -> None:
    models = scripted(error=TimeoutError("slow"))
    with pytest.raises(TimeoutError, match="slow") as caught:
        await answers_of(way, CrossRouteLLM(models=models, willingness_to_pay=0, attempts=2))
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    assert [len(models[model]._asked) for model in ranking] == [1, 1, 0]
    assert caught.value.__notes__[-1] == (
        f"CrossRoute tried, in this order: {ranking[0]}: TimeoutError: slow; "
        f"{ranking[1]}: TimeoutError: slow."
    )
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_of_the_caller_is_raised_at_once(way: str) -> None:
    models = scripted(error=StatusError(400))
    with pytest.raises(StatusError) as caught:
        await answers_of(way, CrossRouteLLM(models=models))
    assert sum(len(model._asked) for model in models.values()) == 1
    assert not hasattr(caught.value, "__notes__")


def test_a_forced_model_is_not_left() -> None:
    models = scripted(error=StatusError(503))
    with call_settings(model=MINI), pytest.raises(StatusError):
        CrossRouteLLM(models=models).complete(QUESTION)
    assert {name: len(model._asked) for name, model in models.items()} == {
        LARGE: 0,
        SMALL: 0,
        MINI: 1,
    }


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_has_emitted_is_not_restarted(way: str, events: Recorder) -> None:
    models = scripted(error=ConnectionResetError("dropped"), drops_after=2)
    with pytest.raises(ConnectionResetError):
        await answers_of(way, CrossRouteLLM(models=models))
    assert sum(len(model._asked) for model in models.values()) == 1
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_has_emitted_nothing_goes_to_the_next_model(way: str) -> None:
    models = scripted()
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    object.__setattr__(models[ranking[0]], "error", ConnectionResetError("dropped"))
    object.__setattr__(models[ranking[0]], "drops_after", 0)
    chunks = await answers_of(way, CrossRouteLLM(models=models, willingness_to_pay=0))
    assert {chunk.additional_kwargs["crossroute"]["model"] for chunk in chunks} == {ranking[1]}


# Candidates that cannot be asked


@pytest.mark.parametrize("way", WAYS)
async def test_a_candidate_without_a_key(
    way: str,
    client: Callable[..., OpenAILike],
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    without = OpenAI(model="gpt-4o-mini", api_base=server.url, max_retries=0)
    without.api_key = None
    llm = CrossRouteLLM(models={MINI: without, LARGE: client(LARGE)}, willingness_to_pay=0)
    answer = (await answers(way, llm))[-1]
    assert text_of(answer) == TEXT
    (attempt,) = answer.additional_kwargs["crossroute"]["attempts"]
    assert "OPENAI_API_KEY" in attempt["error"]
    assert f"Candidate {MINI} failed" in caplog.text
    assert asked(server) == [LARGE]


class Unpackaged(OpenAILike):
    """Its package is imported when it is first asked, and is not there."""

    def _get_client(self) -> Any:
        import a_package_that_is_not_there  # type: ignore[import-not-found]

        return a_package_that_is_not_there

    _get_aclient = _get_client


@pytest.mark.parametrize("way", WAYS)
async def test_a_candidate_without_its_package(
    way: str,
    client: Callable[..., OpenAILike],
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {"is_chat_model": True, "is_function_calling_model": True, "max_retries": 0}
    without = Unpackaged(model=MINI, api_base=server.url, api_key="k", **settings)
    llm = CrossRouteLLM(models={MINI: without, LARGE: client(LARGE)}, willingness_to_pay=0)
    answer = (await answers(way, llm))[-1]
    assert text_of(answer) == TEXT
    (attempt,) = answer.additional_kwargs["crossroute"]["attempts"]
    assert "a_package_that_is_not_there" in attempt["error"]
    assert f"Candidate {MINI} failed" in caplog.text
    assert asked(server) == [LARGE]


async def test_a_history_goes_whole_to_the_next(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(raw=PAGE)
    history = [ChatMessage("Be brief.", role="system"), ChatMessage(QUESTION)]
    answer = await make().achat(history)
    assert answer.message.content == TEXT
    first, second = server.requests
    assert first.body["messages"] == second.body["messages"]
