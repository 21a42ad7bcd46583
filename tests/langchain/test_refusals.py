"""Refusals: they are the answer unless they are to pass to another model."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import math
from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    CALLS,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    ROUTERS,
    SMALL,
    STREAMS,
    TEXT,
    WAYS,
    Make,
    Recorder,
    ScriptedChatModel,
    agent_of,
    answer_of,
    answered,
    asked,
    changed,
    cheap,
    client,
    decision_of,
    order,
    output_of,
    run_agent,
    tokens_of,
    tool_callers,
)
from langchain_core.exceptions import ModelAPIError
from langchain_core.language_models import BaseChatModel
from langchain_openai.chat_models.base import OpenAIRefusalError
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from langchain_crossroute import CostLedger

THIRD = "Meta-Llama-3.1-70B-Instruct"
REFUSING = {
    "refusal": Reply(refusal="I would rather not."),
    "content filter": Reply("", finish_reason="content_filter"),
}
REFUSALS: list[dict[str, Any]] = [
    {"additional_kwargs": {"refusal": "I cannot."}},
    {"response_metadata": {"finish_reason": "content_filter"}},
    {"response_metadata": {"stop_reason": "refusal"}},
]


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_goes_to_the_next_best(
    kind: Any, way: str, refusal: dict[str, Any]
) -> None:
    models = changed({SMALL: {"refusal": refusal}})
    chat = kind(models=models, willingness_to_pay=0, pass_refusals=True)
    answer = await output_of(way, chat, QUESTION)
    assert answer.text == f"I am {MINI}."
    assert decision_of(answer)["attempts"] == [{"model": SMALL, "error": "refused"}]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_that_is_raised_passes_only_if_it_is_to(kind: Any, way: str) -> None:
    models = changed({SMALL: {"error": OpenAIRefusalError("I cannot.")}})
    with pytest.raises(OpenAIRefusalError, match="I cannot"):
        await output_of(way, kind(models=models, willingness_to_pay=0), QUESTION)
    assert not models[MINI].asked
    chat = kind(models=models, willingness_to_pay=0, pass_refusals=True)
    answer = await output_of(way, chat, QUESTION)
    assert answer.text == f"I am {MINI}."
    (failed,) = decision_of(answer)["attempts"]
    assert failed == {"model": SMALL, "error": "OpenAIRefusalError: I cannot."}


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_refusal_in_one_chunk_goes_to_the_next_best(way: str) -> None:
    class Whole(ScriptedChatModel):
        _stream = BaseChatModel._stream
        _astream = BaseChatModel._astream

    models = {
        m: Whole(model_name=m, refusal=REFUSALS[0] if m in refusing else None)
        for m in MODELS
        for refusing in [(SMALL, MINI)]
    }
    answer = await answer_of(way, cheap(models, pass_refusals=True), QUESTION)
    assert answer.text == f"I am {LARGE}."
    two = {m: models[m] for m in (SMALL, MINI)}
    answer = await answer_of(way, cheap(two, pass_refusals=True), QUESTION)
    assert answer.text == f"I am {SMALL}."
    assert decision_of(answer)["realised"]["output_tokens"] == 7


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_first_refusal_is_returned_where_all_refuse(way: str) -> None:
    models = changed({model: {"refusal": REFUSALS[0]} for model in MODELS})
    answer = await answer_of(way, cheap(models, pass_refusals=True), QUESTION)
    assert answer.text == f"I am {SMALL}."
    assert answer.additional_kwargs["refusal"]
    assert decision_of(answer)["model"] == SMALL
    assert [len(model.asked) for model in models.values()] == [1, 1, 1]
    models[MINI].error, models[MINI].refusal = ModelAPIError("down"), None
    assert (
        await answer_of(way, cheap(models, pass_refusals=True), QUESTION)
    ).text == f"I am {SMALL}."


# Clients


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("refusal", REFUSING)
async def test_a_refusal_goes_to_the_next(
    refusal: str, way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = REFUSING[refusal]
    answer = await output_of(way, make(pass_refusals=True), QUESTION)
    assert answer.text == TEXT
    assert decision_of(answer)["model"] == LARGE
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [MINI]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("refusal", REFUSING)
async def test_a_refusal_is_the_answer_unless_it_is_to_pass(
    refusal: str, way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = REFUSING[refusal]
    answer = await output_of(way, make(kind), QUESTION)
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
    answer = await output_of(way, make(models=models, attempts=2, pass_refusals=True), QUESTION)
    assert answer.additional_kwargs["refusal"] == f"Not {preferred[0]}."
    assert decision_of(answer)["model"] == preferred[0]
    assert asked(server) == preferred[:2]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", STREAMS)
async def test_a_streamed_content_filter_goes_to_the_next(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = REFUSING["content filter"]
    ledger, events = CostLedger(router), Recorder()
    routed = make(kind, pass_refusals=True)
    answer = await output_of(way, routed, QUESTION, {"callbacks": [ledger, events]})
    assert answer.text == TEXT
    assert decision_of(answer)["attempts"] == [{"model": MINI, "error": "refused"}]
    # It was an answer all the same, of a run that ended, and it was paid for.
    assert not events.errors
    assert [ledger.spend[model].calls for model in (MINI, LARGE)] == [1, 1]
    assert ledger.spend[MINI].cost_usd > 0

    server.answers[LARGE] = REFUSING["content filter"]
    answer = await output_of(way, routed, QUESTION)
    assert answer.response_metadata["finish_reason"] == "content_filter"
    assert decision_of(answer)["model"] == MINI
    assert decision_of(answer)["realised"]["input_tokens"] == 20


@pytest.mark.parametrize("way", STREAMS)
async def test_a_filter_in_the_middle_of_an_answer_is_its_end(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("Well, no.", finish_reason="content_filter")
    assert (await output_of(way, make(pass_refusals=True), QUESTION)).text == "Well, no."
    assert asked(server) == [MINI]


# Agents


@pytest.mark.parametrize("way", INVOKES)
async def test_a_refusal_goes_to_the_next_model(way: str, router: CrossRouter) -> None:
    models = tool_callers()
    first, second, _ = order(router)
    models[first].refuses = True
    state = await run_agent(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert state["messages"][-1].text == f"I am {second}."
    (failed,) = state["messages"][-1].response_metadata["crossroute"]["attempts"]
    assert failed["model"] == first
    assert len(state["messages"]) == 2


@pytest.mark.parametrize("way", INVOKES)
async def test_a_refusal_in_an_agent_is_the_answer_unless_it_is_to_pass(
    way: str, router: CrossRouter
) -> None:
    models = tool_callers(refuses=True)
    first = order(router)[0]
    state = await run_agent(way, agent_of(models, willingness_to_pay=math.inf))
    assert state["messages"][-1].additional_kwargs["refusal"] == "I will not."
    assert state["crossroute"]["model"] == first
    assert answered(models) == {first: 1}


@pytest.mark.parametrize("way", INVOKES)
async def test_if_all_refuse_in_an_agent_the_first_refusal_is_the_answer(
    way: str, router: CrossRouter
) -> None:
    models = tool_callers(refuses=True)
    state = await run_agent(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    first = order(router)[0]
    answer = state["messages"][-1]
    assert answer.additional_kwargs["refusal"] == "I will not."
    assert answer.response_metadata["model_name"] == first
    assert answer.response_metadata["crossroute"]["model"] == first
    assert state["crossroute"]["model"] == first
    assert answered(models) == dict.fromkeys(MODELS, 1)


@pytest.mark.parametrize("way", INVOKES)
async def test_a_refusal_in_a_stream_goes_to_the_next_model(way: str, router: CrossRouter) -> None:
    models = tool_callers()
    first, second, _ = order(router)
    models[first].refuses = True
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert "".join(tokens) == f"I am {second}."


@pytest.mark.parametrize("way", INVOKES)
async def test_a_refusal_that_was_read_is_the_answer(way: str, router: CrossRouter) -> None:
    models = tool_callers(begins="Well, ")
    first = order(router)[0]
    models[first].refuses = True
    tokens = await tokens_of(way, agent_of(models, willingness_to_pay=math.inf, pass_refusals=True))
    assert "".join(tokens) == "Well, "
    assert answered(models) == {first: 1}
