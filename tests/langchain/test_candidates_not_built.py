"""Candidates that cannot be built: a key or a package is missing."""

# LangChain's own signatures say Any.

import logging
import sys
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
    ask,
    asked,
    client,
    decision_of,
)
from langchain.agents import create_agent
from langchain.chat_models import base as langchain_registry
from langchain_core.messages import HumanMessage
from openai_server import OpenAIServer

from crossroute import CrossRouter, DescriptorError, ModelDescriptor
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware
from langchain_crossroute.lazy import PACKAGES


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@BOTH
@pytest.mark.parametrize("way", [*INVOKES, *STREAMS])
async def test_where_one_lacks_its_key_the_next_answers(
    way: str,
    kind: type[Any],
    write_pair: Callable[..., Path],
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # It is not asked, so it is no attempt.
    routed = kind.from_yaml(write_pair(), willingness_to_pay=0, attempts=1)
    told = warnings_of(caplog)
    assert len(told) == 1
    assert f"{MINI!r} cannot be built" in told[0]
    assert "KEY_OF_MINI is not set" in told[0]
    for _ in range(2):
        answer = await ask(way, routed)
        assert answer.text == TEXT
        decision = decision_of(answer)
        assert "attempts" not in decision
        assert [*decision["removed"]] == [MINI]
        assert "KEY_OF_MINI is not set" in decision["removed"][MINI]
    assert asked(server) == [LARGE] * 2
    assert warnings_of(caplog) == told


async def test_what_is_not_seen_at_the_start_is_told_at_the_first_call(
    write_pair: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    path = write_pair("deepseek")
    monkeypatch.setitem(sys.modules, "langchain_deepseek", sys)
    routed = ChatCrossRoute.from_yaml(path, willingness_to_pay=0)
    assert warnings_of(caplog) == []
    for _ in range(2):
        answer = await ask("ainvoke", routed)
        assert decision_of(answer)["attempts"][0]["model"] == MINI
    (told,) = warnings_of(caplog)
    assert f"{MINI!r} cannot be built" in told
    assert "SECRET" not in told


async def test_where_one_lacks_its_package_the_next_answers(
    write_pair: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "langchain_deepseek", None)
    path = write_pair("deepseek", api_key_env=None, base_url=None, arguments={})
    routed = ChatCrossRoute.from_yaml(path, willingness_to_pay=0)
    (told,) = warnings_of(caplog)
    assert "pip install langchain-deepseek" in told
    answer = await ask("invoke", routed)
    assert answer.text == TEXT
    assert "pip install langchain-deepseek" in decision_of(answer)["removed"][MINI]
    assert warnings_of(caplog) == [told]


@pytest.mark.parametrize("way", INVOKES)
async def test_an_agent_goes_on_where_one_lacks_its_key(
    way: str, write_pair: Callable[..., Path], server: OpenAIServer
) -> None:
    routed = CrossRouteMiddleware.from_yaml(write_pair(), willingness_to_pay=0, attempts=1)
    agent: Any = create_agent(client(server, "never"), middleware=[routed])
    start = {"messages": [HumanMessage(QUESTION)]}
    state = agent.invoke(start) if way == "invoke" else await agent.ainvoke(start)
    assert state["messages"][-1].text == TEXT
    assert [*state["crossroute"]["removed"]] == [MINI]


async def test_a_forced_model_that_cannot_be_built_is_not_left(
    write_pair: Callable[..., Path], server: OpenAIServer
) -> None:
    routed = ChatCrossRoute.from_yaml(write_pair())
    with pytest.raises(DescriptorError, match="KEY_OF_MINI"):
        await ask("invoke", routed, model=MINI)
    assert asked(server) == []


async def test_if_none_can_be_built_the_last_error_names_them(
    write_pair: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_OF_LARGE")
    routed = ChatCrossRoute.from_yaml(write_pair(), willingness_to_pay=0)
    with pytest.raises(DescriptorError, match="KEY_OF_LARGE, which is not set") as raised:
        await ask("invoke", routed)
    built, tried = raised.value.__notes__
    assert LARGE in built
    assert tried.index(MINI) < tried.index(LARGE)
    # The keys are asked for again.
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-of-mini")
    assert (await ask("invoke", routed)).text == TEXT


def test_a_disabled_candidate_is_nothing_to_warn_of(
    write_pair: Callable[..., Path], router: CrossRouter, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_pair()
    third = router.pool["Meta-Llama-3.1-70B-Instruct"].model_dump() | {
        "retired": None,
        "disabled": True,
        "provider": {"chat_model": "openai:x", "api_key_env": "NOT_SET"},
    }
    ModelDescriptor.model_validate(third).save(path)
    ChatCrossRoute.from_yaml(path)
    assert len(warnings_of(caplog)) == 1


def test_the_packages_of_the_providers_are_those_of_langchain() -> None:
    ours = dict(PACKAGES)
    for provider, (module, *_) in langchain_registry._BUILTIN_PROVIDERS.items():
        assert ours.pop(provider, "langchain_openai") == module.partition(".")[0]
    assert ours == {}
