"""Settings of the integrations and of their single calls that make no sense, or are misspelt."""

# ruff: noqa: ANN401  # Settings can be anything.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from llama_index.core.llms import MockLLM

from crossroute import (
    ConstraintError,
    CrossRouteError,
    NoCandidateError,
    QueryError,
    WillingnessToPayError,
)
from crossroute.constraints import check_settings
from crossroute.errors import shortened
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable
from llamaindex_crossroute import CrossRouteLLM

MODELS = ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18")
ENDLESS = 10**5000


def made(kind: Callable[..., Any], **settings: Any) -> Any:
    def candidate() -> Any:
        return MockLLM() if kind is CrossRouteLLM else FakeListChatModel(responses=["Well."])

    return kind(models={model: candidate() for model in MODELS}, **settings)


ALL = pytest.mark.parametrize(
    "kind", [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware, CrossRouteLLM]
)


@ALL
@pytest.mark.parametrize("value", [10**400, ENDLESS, math.inf], ids=shortened)
def test_any_willingness_from_0_up_is_taken(kind: Any, value: Any) -> None:
    router = made(kind, willingness_to_pay=value)
    if kind is CrossRouteMiddleware:
        agent: Any = create_agent(FakeListChatModel(responses=["No."]), middleware=[router])
        decision = agent.invoke({"messages": [HumanMessage("Well?")]})["crossroute"]
        assert float(decision["willingness_to_pay"]) == math.inf
    else:
        assert router.willingness_to_pay == math.inf


@ALL
@pytest.mark.parametrize("value", [-(10**400), -ENDLESS, "1", None], ids=shortened)
def test_any_other_willingness_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(WillingnessToPayError, match="willingness_to_pay is "):
        made(kind, willingness_to_pay=value)


@ALL
@pytest.mark.parametrize("value", [0, -(10**400), -ENDLESS], ids=shortened)
def test_less_than_one_attempt_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ConstraintError, match=r"attempts is .*; give a whole number from 1 up"):
        made(kind, attempts=value)
    made(kind, attempts=ENDLESS)


@pytest.mark.parametrize(
    "value", ["2", 1.5, math.nan, math.inf, None, True, [ENDLESS]], ids=shortened
)
def test_attempts_are_whole(value: Any) -> None:
    with pytest.raises(ConstraintError, match="attempts is"):
        check_settings(0.1, value)


# Of single calls


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("wilingness_to_pay", "willingness_to_pay"),
        ("willingness-to-pay", "willingness_to_pay"),
        ("Willingness_to_pay", "willingness_to_pay"),
        ("willing_to_pay", "willingness_to_pay"),
        ("crossroute_willingness", "willingness_to_pay"),
        ("crossroute_willingness_to_pay", "willingness_to_pay"),
        ("crossroute_alowed", "crossroute_allowed"),
        ("crossroute_cost", "crossroute_max_cost_usd"),
        ("crosroute_model", "crossroute_model"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_one_that_is_meant(name: str, meant: str) -> None:
    chat = made(ChatCrossRoute)
    said = rf"configurable: there is no '{name}'; did you mean '{meant}'\?"
    with pytest.raises(ConstraintError, match=said):
        chat.invoke("Why?", config={"configurable": {name: 0}})


def test_a_setting_that_is_like_none_has_no_hint() -> None:
    with pytest.raises(ConstraintError, match=r"there is no 'crossroute_xyz'\. The settings are"):
        made(ChatCrossRoute).invoke("Why?", config={"configurable": {"crossroute_xyz": 0}})


@pytest.mark.parametrize(
    "name",
    [
        *("thread_id", "checkpoint_id", "checkpoint_ns", "user_id", "model", "model_provider"),
        *("temperature", "max_tokens", "model_name", "route_model", "pay", "regions", "x" * 5000),
        *("my_willingness_to_pay", "willingness_to_pay_of_the_second"),
    ],
)
def test_settings_of_others_pass(name: str) -> None:
    chat = made(ChatCrossRoute)
    assert chat.invoke("Why?", config={"configurable": {name: 0}}).content == "Well."


@pytest.mark.parametrize("value", [-ENDLESS, "1", [ENDLESS]], ids=shortened)
@pytest.mark.parametrize("name", ["willingness_to_pay", "crossroute_max_cost_usd"])
def test_a_number_of_a_call_is_checked(name: str, value: Any) -> None:
    with pytest.raises(CrossRouteError, match=f"{name.removeprefix('crossroute_')} is "):
        made(ChatCrossRoute).invoke("Why?", config={"configurable": {name: value}})


LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
BOTH = pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteLLM])


def answered(kind: Any, **settings: Any) -> dict[str, Any]:
    """The decision of a call with these settings."""
    router = made(kind, willingness_to_pay=math.inf)
    if kind is ChatCrossRoute:
        found: dict[str, Any] = router.invoke("Why?", **settings).response_metadata["crossroute"]
    else:
        found = router.complete("Why?", **settings).additional_kwargs["crossroute"]
    return found


@BOTH
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", ["16385", " 16385 ", 16385.0, np.int64(16385), 16385])
def test_a_longest_answer_is_read_as_clients_do(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(NoCandidateError, match="at most, 16385 are asked for"):
        answered(kind, **{name: value})


@BOTH
@pytest.mark.parametrize("value", [None, 0, -1, "100", True])
def test_no_longest_answer_removes_nobody(kind: Any, value: Any) -> None:
    assert answered(kind, max_tokens=value)["removed"] == {}


@BOTH
@pytest.mark.parametrize(
    "value",
    ["much", "1e3", "9" * 5000, -2, -ENDLESS, 1.5, math.nan, math.inf, [1], b"12"],
    ids=shortened,
)
def test_any_other_longest_answer_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(QueryError, match=r"The longest answer \(max_tokens\) is .*; give a whole"):
        answered(kind, max_tokens=value)


@BOTH
def test_an_endless_answer_is_too_long_for_every_model(kind: Any) -> None:
    with pytest.raises(NoCandidateError, match="ask for a shorter answer"):
        answered(kind, max_tokens=ENDLESS)
