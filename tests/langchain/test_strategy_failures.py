"""What goes wrong in strategies of several models, with LangChain's real clients over HTTP."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

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
from fakes_langchain import (
    ALL_WAYS,
    CALLS,
    INVOKES,
    ROUTERS,
    aged,
    answer_of,
    client,
    followed,
    put,
)
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from openai_server import OpenAIServer

from crossroute.errors import CostLimitError
from crossroute.strategies import PickOne, Strategy
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

USD = 0.002
SENT = "max_completion_tokens"
"""What OpenAI calls the most output tokens."""


def routed_over(
    server: OpenAIServer, strategy: Strategy, kind: type[Any] = ChatCrossRoute, **settings: Any
) -> Any:
    return kind(
        models={model: client(server, model) for model in MODELS},
        strategy=strategy,
        **{"willingness_to_pay": float("inf"), **settings},
    )


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("way", ALL_WAYS)
async def test_a_draft_that_is_no_answer(way: str, name: str, server: OpenAIServer) -> None:
    fault = FAULTS[name]
    with told_of(server, {MINI: fault.draft, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, routed_over(server, fault.strategy), QUESTION)
        check_fault(Seen(answer.text, answer.response_metadata["crossroute"]), fault)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("way", INVOKES)
async def test_in_an_agent(way: str, name: str, server: OpenAIServer) -> None:
    fault = FAULTS[name]
    models = {model: client(server, model) for model in MODELS}
    middleware: Any = CrossRouteMiddleware(
        models, strategy=fault.strategy, willingness_to_pay=float("inf")
    )
    agent: Any = create_agent(models[SMALL], [], middleware=[middleware])
    given = {"messages": [HumanMessage(QUESTION)]}
    with told_of(server, {MINI: fault.draft, LARGE: says(LARGE, RIGHT)}):
        state = await agent.ainvoke(given) if way == "ainvoke" else agent.invoke(given)
        answer = state["messages"][-1]
        check_fault(Seen(answer.text, answer.response_metadata["crossroute"]), fault)


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
async def test_a_draft_that_says_the_word_is_left(
    way: str, kind: type[Any], server: OpenAIServer
) -> None:
    # After the role and the word; the rest is not let go before the call returns.
    draft = says(MINI, "UNSURE, since I am small.", hold_after=2)
    with told_of(server, {MINI: draft, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, routed_over(server, WITH_WORD, kind), QUESTION)
        assert answer.text == RIGHT
        await wait_until(lambda: server.left == [MINI])
        asks = answer.response_metadata["crossroute"]["bill"]["asks"]
        # Nobody has counted the draft, of which a word was read.
        assert asks[0]["estimated"]
        assert 0 < asks[0]["output_tokens"] < 5
        assert not asks[1]["estimated"]


@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch", "av3"])
async def test_a_draft_that_is_too_late_is_closed(way: str, server: OpenAIServer) -> None:
    with told_of(server, {**HELD, LARGE: says(LARGE, RIGHT)}):
        answer = await answer_of(way, routed_over(server, TIMED), QUESTION)
        assert answer.text == RIGHT
        assert tasks() == []
        # On a slow machine it may not have got as far as the server.
        await wait_until(lambda: server.left == [one for one in asked(server) if one == MINI])


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("way", [*CALLS, "v3", "av3"])
async def test_if_all_fail_the_error_says_what_was_tried(
    way: str, name: str, server: OpenAIServer
) -> None:
    chat = routed_over(server, STRATEGIES[name])
    with told_of(server, FAILING), pytest.raises(Exception, match=r"busy|oops|slow down") as caught:
        await answer_of(way, chat, QUESTION)
    (note,) = caught.value.__notes__
    for text in (f"{MINI}: ", "slow down", f"{LARGE}: ", "oops", f"{SMALL}: ", "busy"):
        assert text in note
    assert sorted(asked(server)) == sorted(MODELS)


@pytest.mark.parametrize("way", [*CALLS, "v3", "av3"])
async def test_a_doubtful_draft_is_better_than_an_error(way: str, server: OpenAIServer) -> None:
    with told_of(server, {**FAILING, MINI: says(MINI, WRONG, UNSURE)}):
        answer = await answer_of(way, routed_over(server, CASCADE), QUESTION)
    assert answer.text == WRONG
    decision = answer.response_metadata["crossroute"]
    assert decision["model"] == MINI
    assert [(ask["model"], ask["cost_usd"] > 0) for ask in decision["bill"]["asks"]] == [
        (MINI, True),
        (LARGE, False),
        (SMALL, False),
    ]


@pytest.mark.parametrize("name", ["vote", "in turn", "arms"])
@pytest.mark.parametrize("way", [*CALLS, "v3", "av3"])
async def test_a_voter_that_fails_has_no_vote(way: str, name: str, server: OpenAIServer) -> None:
    answers = {**FAILING, LARGE: says(LARGE, RIGHT), SMALL: says(SMALL, "391")}
    with told_of(server, answers):
        answer = await answer_of(way, routed_over(server, STRATEGIES[name]), QUESTION)
    assert answer.text == RIGHT
    # Two who agree may be faster than the third, of a vote at once.
    assert {LARGE, SMALL} <= {*asked(server)}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch", "av3"])
async def test_a_reader_that_is_cancelled_leaves_nothing_behind(
    way: str, name: str, server: OpenAIServer
) -> None:
    number, chat = AT_ONCE[name], routed_over(server, STRATEGIES[name])

    async def ask() -> None:
        if way == "av3":
            # LangChain goes on with a stream of events that is not left like this.
            async with await chat.astream_events(QUESTION, version="v3") as events:
                await events
        else:
            await answer_of(way, chat, QUESTION)

    with told_of(server, HELD):
        call = asyncio.create_task(ask())
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
@pytest.mark.parametrize("way", CALLS)
async def test_a_hard_limit_is_kept(
    way: str, longest: int | None, name: str, server: OpenAIServer
) -> None:
    config = {"configurable": {"crossroute_hard_max_cost_usd": USD}}
    answers = {**dict.fromkeys(MODELS, spends_all(SENT)), MINI: spends_all(SENT, longest)}
    with told_of(server, answers):
        chat = routed_over(server, STRATEGIES[name])
        answer = await answer_of(way, chat, QUESTION, config)
    bill = answer.response_metadata["crossroute"]["bill"]
    assert all(request.body[SENT] > 0 for request in server.requests)
    assert 0 < bill["cost_usd"] <= USD
    # Who drafts may use all of it up: then there is nobody else, and the draft stands.
    # A controller without a question answers alone; a stream that waits may cost all yet.
    alone = (longest is None and AT_ONCE[name] == 1) or name in ("controller", "handoff")
    assert (len(server.requests) == 1) is alone


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_draft_that_was_left_may_have_cost_all(way: str, server: OpenAIServer) -> None:
    config = {"configurable": {"crossroute_hard_max_cost_usd": USD}}
    chat = routed_over(server, TIMED)
    with told_of(server, {**HELD, LARGE: says(LARGE, RIGHT)}):
        with pytest.raises(CostLimitError, match="was not asked"):
            await answer_of(way, chat, QUESTION, config)
        assert {*asked(server)} <= {MINI}
        # With room for more it goes on.
        answer = await answer_of(way, chat, QUESTION, config, max_tokens=100)
    assert answer.text == RIGHT
    assert answer.response_metadata["crossroute"]["bill"]["cost_usd"] <= USD


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("way", CALLS)
async def test_over_a_folder_of_descriptors(
    way: str,
    follow: bool,
    server: OpenAIServer,
    write_pair: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_pair()
    # A router needs two, whichever is left.
    put(folder, SMALL, SMALL)
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    chat: Any = ChatCrossRoute.from_yaml(
        folder, follow=follow, strategy=CASCADE, willingness_to_pay=float("inf")
    )
    if follow:
        chat = followed(chat)
    case = CASES["a draft is escalated"]
    with told_of(server, case.answers):
        answer = await answer_of(way, chat, QUESTION)
        assert answer.text == RIGHT
        assert asked(server) == [MINI, LARGE]
        assert [bool(request.body.get("logprobs")) for request in server.requests] == [True, False]
        if follow:
            (folder / f"{MINI}.yaml").unlink()
            aged(folder / f"{LARGE}.yaml")
            answer = await answer_of(way, chat, QUESTION)
            assert chat.live.error is None
            # Who drafts is no candidate any more.
            assert asked(server) == [MINI, LARGE, LARGE]
            reason = answer.response_metadata["crossroute"]["reason"]
            assert reason.startswith("asked at once")


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize(
    ("strategy", "first"), [(PickOne(), LARGE), (CASCADE, MINI), (STRATEGIES["in turn"], MINI)]
)
async def test_a_conversation_stays_where_the_strategy_leaves_it_to_the_router(
    way: str, strategy: Strategy, first: str, server: OpenAIServer
) -> None:
    last = AIMessage("Hello.", response_metadata={"crossroute": {"model": LARGE}})
    conversation = [HumanMessage("Hello."), last, HumanMessage(QUESTION)]
    with told_of(server, {model: says(model, RIGHT) for model in MODELS}):
        chat = routed_over(server, strategy, stay_margin=10, willingness_to_pay=0.002)
        await answer_of(way, chat, conversation)
    # A strategy drafts with whom it will.
    assert asked(server)[0] == first
