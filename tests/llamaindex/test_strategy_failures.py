"""What goes wrong in strategies of several models, with LlamaIndex's real clients over HTTP."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes_forms import (
    AT_ONCE,
    CASCADE,
    CASES,
    FAILING,
    FAULTS,
    HELD,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    RIGHT,
    SMALL,
    STRATEGIES,
    TIMED,
    UNSURE,
    WITH_WORD,
    WRONG,
    Seen,
    check_fault,
    says,
    spends_all,
    tasks,
    told_of,
    wait_until,
)
from fakes_llamaindex import ASK_STREAMS, ASKS, Put, answer_of, asked, followed, text_of
from llama_index.core.llms import ChatMessage
from openai_server import OpenAIServer

from crossroute.errors import CostLimitError
from crossroute.strategies import PickOne, Strategy
from llamaindex_crossroute import CrossRouteLLM, call_settings

A_ASKS = [way for way in ASKS if way.startswith("a")]
USD = 0.002
SENT = "max_tokens"
Over = Callable[..., CrossRouteLLM]


@pytest.fixture
def over(client: Callable[..., Any]) -> Over:
    def over(strategy: Strategy, **settings: Any) -> CrossRouteLLM:
        return CrossRouteLLM(
            models={model: client(model) for model in MODELS},
            strategy=strategy,
            **{"willingness_to_pay": float("inf"), **settings},
        )

    return over


def decision_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.additional_kwargs["crossroute"]
    return found


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("way", ASKS)
async def test_a_draft_that_is_no_answer(
    way: str, name: str, over: Over, server: OpenAIServer
) -> None:
    fault = FAULTS[name]
    with told_of(server, {MINI: fault.draft, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, over(fault.strategy), QUESTION)
        check_fault(Seen(text_of(answer) or "", decision_of(answer)), fault)


@pytest.mark.parametrize("way", ASKS)
async def test_a_draft_that_says_the_word_is_left(
    way: str, over: Over, server: OpenAIServer
) -> None:
    # After the role and the word; the rest is not let go before the call returns.
    draft = says(MINI, "UNSURE, since I am small.", hold_after=2)
    with told_of(server, {MINI: draft, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, over(WITH_WORD), QUESTION)
        assert text_of(answer) == RIGHT
        await wait_until(lambda: server.left == [MINI])
        asks = decision_of(answer)["bill"]["asks"]
        # Nobody has counted the draft, of which a word was read.
        assert asks[0]["estimated"]
        assert 0 < asks[0]["output_tokens"] < 5
        assert not asks[1]["estimated"]


@pytest.mark.parametrize("strategy", [PickOne(), CASCADE])
@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_a_reader_that_leaves_closes_the_connection(
    way: str, strategy: Strategy, over: Over, server: OpenAIServer
) -> None:
    answers = {m: says(m, WRONG, UNSURE, hold_after=3) for m in MODELS}
    with told_of(server, {**answers, MINI: says(MINI, WRONG, UNSURE)}):
        stream: Any = getattr(over(strategy), way)(
            [ChatMessage(QUESTION)] if "chat" in way else QUESTION
        )
        if way.startswith("a"):
            stream = await stream
            await anext(stream)
            await stream.aclose()
        else:
            next(stream)
            stream.close()
        await wait_until(lambda: server.left == [LARGE])


@pytest.mark.parametrize("way", A_ASKS)
async def test_a_draft_that_is_too_late_is_closed(
    way: str, over: Over, server: OpenAIServer
) -> None:
    with told_of(server, {**HELD, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, over(TIMED), QUESTION)
        assert text_of(answer) == RIGHT
        assert tasks() == []
        # On a slow machine it may not have got as far as the server.
        await wait_until(lambda: server.left == [one for one in asked(server) if one == MINI])


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("way", ASKS)
async def test_if_all_fail_the_error_says_what_was_tried(
    way: str, name: str, over: Over, server: OpenAIServer
) -> None:
    llm = over(STRATEGIES[name])
    with told_of(server, FAILING), pytest.raises(Exception, match=r"busy|oops|slow down") as caught:
        await answer_of(way, llm, QUESTION)
    (note,) = caught.value.__notes__
    for text in (f"{MINI}: ", "slow down", f"{LARGE}: ", "oops", f"{SMALL}: ", "busy"):
        assert text in note
    assert sorted(asked(server)) == sorted(MODELS)


@pytest.mark.parametrize("way", ASKS)
async def test_a_doubtful_draft_is_better_than_an_error(
    way: str, over: Over, server: OpenAIServer
) -> None:
    with told_of(server, {**FAILING, MINI: says(MINI, WRONG, UNSURE)}):
        answer = await answer_of(way, over(CASCADE), QUESTION)
    assert text_of(answer) == WRONG
    decision = decision_of(answer)
    assert decision["model"] == MINI
    assert [(ask["model"], ask["cost_usd"] > 0) for ask in decision["bill"]["asks"]] == [
        (MINI, True),
        (LARGE, False),
        (SMALL, False),
    ]


@pytest.mark.parametrize("name", ["vote", "in turn", "arms"])
@pytest.mark.parametrize("way", ASKS)
async def test_a_voter_that_fails_has_no_vote(
    way: str, name: str, over: Over, server: OpenAIServer
) -> None:
    answers = {**FAILING, LARGE: says(LARGE, RIGHT), SMALL: says(SMALL, "391")}
    with told_of(server, answers):
        answer = await answer_of(way, over(STRATEGIES[name]), QUESTION)
    assert text_of(answer) == RIGHT
    # Two who agree may be faster than the third, of a vote at once.
    assert {LARGE, SMALL} <= {*asked(server)}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("way", A_ASKS)
async def test_a_reader_that_is_cancelled_leaves_nothing_behind(
    way: str, name: str, over: Over, server: OpenAIServer
) -> None:
    number = AT_ONCE[name]
    llm = over(STRATEGIES[name])
    with told_of(server, HELD):
        call = asyncio.ensure_future(answer_of(way, llm, QUESTION))
        await wait_until(lambda: len(server.requests) == number)
        assert len(tasks()) == (number if number > 1 else 0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert tasks() == []
        await wait_until(lambda: sorted(server.left) == sorted(asked(server)))
    assert len(server.requests) == number


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("longest", [None, 500])
@pytest.mark.parametrize("way", ASKS)
async def test_a_hard_limit_is_kept(
    way: str, longest: int | None, name: str, over: Over, server: OpenAIServer
) -> None:
    answers = {**dict.fromkeys(MODELS, spends_all(SENT)), MINI: spends_all(SENT, longest)}
    with told_of(server, answers), call_settings(hard_max_cost_usd=USD):
        answer = await answer_of(way, over(STRATEGIES[name]), QUESTION)
    assert all(request.body[SENT] > 0 for request in server.requests)
    assert 0 < decision_of(answer)["bill"]["cost_usd"] <= USD
    # Who drafts may use all of it up: then there is nobody else, and the draft stands.
    # A controller without a question answers alone; a stream that waits may cost all yet.
    alone = (longest is None and AT_ONCE[name] == 1) or name in ("controller", "handoff")
    assert (len(server.requests) == 1) is alone


@pytest.mark.parametrize("way", A_ASKS)
async def test_a_draft_that_was_left_may_have_cost_all(
    way: str, over: Over, server: OpenAIServer
) -> None:
    llm = over(TIMED)
    with told_of(server, {**HELD, LARGE: says(LARGE, RIGHT)}), call_settings(hard_max_cost_usd=USD):
        with pytest.raises(CostLimitError, match="was not asked"):
            await answer_of(way, llm, QUESTION)
        assert {*asked(server)} <= {MINI}
        # With room for more it goes on.
        answer = await answer_of(way, llm, QUESTION, max_tokens=100)
    assert text_of(answer) == RIGHT
    assert decision_of(answer)["bill"]["cost_usd"] <= USD


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("way", ASKS)
async def test_over_a_folder_of_descriptors(
    way: str, follow: bool, put: Put, folder: Path, server: OpenAIServer
) -> None:
    llm: Any = CrossRouteLLM.from_yaml(
        folder, follow=follow, strategy=CASCADE, willingness_to_pay=float("inf")
    )
    llm = followed(llm) if follow else llm
    case = CASES["a draft is escalated"]
    with told_of(server, case.answers):
        answer = await answer_of(way, llm, QUESTION)
        assert text_of(answer) == RIGHT
        assert asked(server) == [MINI, LARGE]
        assert [bool(request.body.get("logprobs")) for request in server.requests] == [True, False]
        if follow:
            put(MINI, disabled=True)
            answer = await answer_of(way, llm, QUESTION)
            # Who drafts is no candidate any more.
            assert asked(server) == [MINI, LARGE, LARGE]
            assert decision_of(answer)["reason"].startswith("asked at once")


@pytest.mark.parametrize(
    ("strategy", "first"), [(PickOne(), LARGE), (CASCADE, MINI), (STRATEGIES["in turn"], MINI)]
)
def test_a_conversation_stays_where_the_strategy_leaves_it_to_the_router(
    strategy: Strategy, first: str, over: Over, server: OpenAIServer
) -> None:
    last = ChatMessage("Hello.", role="assistant", additional_kwargs={"crossroute_model": LARGE})
    conversation = [ChatMessage("Hello."), last, ChatMessage(QUESTION)]
    with told_of(server, {model: says(model, RIGHT) for model in MODELS}):
        over(strategy, stay_margin=10, willingness_to_pay=0.002).chat(conversation)
    # A strategy drafts with whom it will.
    assert asked(server)[0] == first
