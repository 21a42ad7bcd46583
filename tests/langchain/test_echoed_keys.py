"""Keys that a server echoes in its errors are shown nowhere."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    INVOKES,
    LARGE,
    MINI,
    QUESTION,
    STREAMS,
    TEXT,
    Make,
    Teller,
    ask,
    client,
    decision_of,
)
from langchain.agents import create_agent
from langchain_core.exceptions import ModelAuthenticationError
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from openai_server import OpenAIServer, Reply

from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
]

EVENTS = ["v3", "av3"]
PROMPT = ChatPromptTemplate.from_template("{q}")


def echoes(server: OpenAIServer, status: int, **how: Any) -> str:
    """Let MINI fail with its key in the error; the key."""
    server.answers[MINI] = Reply(
        f"You sent 'Authorization: Bearer key of {MINI}'.", status=status, **how
    )
    return f"key of {MINI}"


@BOTH
@pytest.mark.parametrize("way", [*INVOKES, *STREAMS])
async def test_an_echoed_key_is_masked_in_what_is_told(
    way: str, kind: type[Any], make: Make, server: OpenAIServer
) -> None:
    key, teller = echoes(server, 401), Teller()
    answer = await ask(way, make(kind), {"callbacks": [teller]})
    assert answer.text == TEXT
    told = str(decision_of(answer)["attempts"]) + str(teller.events)
    assert "Bearer ***" in told
    assert key not in told


@pytest.mark.parametrize("way", [*INVOKES, *STREAMS, *EVENTS])
@pytest.mark.parametrize("status", [400, 401])
async def test_an_echoed_key_is_masked_in_the_error(
    way: str, status: int, make: Make, server: OpenAIServer
) -> None:
    key = echoes(server, status)
    with pytest.raises(Exception, match=r"Bearer \*\*\*") as raised:
        await ask(way, make(), {"configurable": {"crossroute_model": MINI}})
    assert key not in "".join(traceback.format_exception(raised.value))
    assert key not in repr(vars(raised.value))
    if status == 401:
        assert isinstance(raised.value, ModelAuthenticationError)
        assert getattr(raised.value, "status_code", None) == 401


@pytest.mark.parametrize("way", STREAMS)
async def test_an_echoed_key_is_masked_in_the_middle_of_a_stream(
    way: str, make: Make, server: OpenAIServer
) -> None:
    key = echoes(server, 500, fail_after=2)
    with pytest.raises(Exception, match=r"Bearer \*\*\*") as raised:
        await ask(way, make())
    assert key not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: PROMPT | model.with_retry(stop_after_attempt=1) | StrOutputParser(),
        lambda model: PROMPT | model.bind(temperature=0),
        lambda model: PROMPT | model.with_fallbacks([model]),
        lambda model: PROMPT | {"answer": model},
    ],
)
async def test_an_echoed_key_is_masked_for_models_within_chains(
    wrap: Callable[[Any], Any], server: OpenAIServer
) -> None:
    key = echoes(server, 401)
    routed = CrossRouteRunnable(
        models={model: wrap(client(server, model)) for model in (MINI, LARGE)},
        willingness_to_pay=0,
        query=lambda value: value["q"],
        attempts=1,
    )
    with pytest.raises(ModelAuthenticationError, match=r"Bearer \*\*\*") as raised:
        await routed.ainvoke({"q": QUESTION})
    assert key not in str(raised.value.__notes__)


async def test_an_echoed_key_of_a_descriptor_is_masked(
    write_pair: Callable[..., Path],
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    server.answers[MINI] = Reply("You sent sk-SECRET-of-mini.", status=401)
    routed = ChatCrossRoute.from_yaml(write_pair(), willingness_to_pay=0)
    answer = await ask("ainvoke", routed)
    assert "You sent ***." in decision_of(answer)["attempts"][0]["error"]
    agent: Any = create_agent(
        client(server, "never"),
        middleware=[CrossRouteMiddleware(routed.models, willingness_to_pay=0)],  # type: ignore[arg-type]
    )
    state = await agent.ainvoke({"messages": [HumanMessage(QUESTION)]})
    assert "SECRET" not in str(state)
