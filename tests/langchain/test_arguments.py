"""The arguments of the three classes: what they do, what is refused, what is never shown."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import json
import math
from typing import Any

import pytest
from fakes_langchain import (
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    SYSTEM,
    WAYS,
    Recorder,
    ScriptedChatModel,
    answer_of,
    cheap,
    scripted,
    tool_callers,
    weather,
)
from langchain_core.caches import InMemoryCache
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from crossroute import (
    ConstraintError,
    CrossRouteError,
    CrossRouter,
    PoolError,
    UnknownModelError,
    WillingnessToPayError,
)
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.middleware import CrossRouteMiddleware

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])


def test_the_router_is_narrowed_to_the_models(router: CrossRouter) -> None:
    assert set(router.pool) > set(MODELS)
    routed = CrossRouteRunnable(router=router, models=scripted())
    assert set(routed.router.pool) == set(MODELS)
    assert len(routed.invoke(QUESTION).response_metadata["crossroute"]["candidates"]) == 3

    narrow = router.subset(MODELS)
    assert CrossRouteRunnable(router=narrow, models=scripted()).router is narrow


def test_the_models_are_the_callers_no_longer() -> None:
    models: dict[str, Any] = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    models.clear()
    assert routed.invoke(QUESTION).text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {"gpt-4o-2024-08-6": 1, MINI: 1}}, UnknownModelError, f"mean '{LARGE}'"),
        ({"models": {LARGE: 1}}, PoolError, f"at least two models.*1: {LARGE}"),
        ({"models": {}}, PoolError, "at least two models"),
        ({"willingness_to_pay": -1}, WillingnessToPayError, "-1"),
        ({"willingness_to_pay": math.nan}, WillingnessToPayError, "nan"),
        ({"willingness_to_pay": "0.1"}, WillingnessToPayError, "'0.1'"),
        ({"willingness_to_pay": True}, WillingnessToPayError, "True"),
    ],
)
def test_wrong_arguments_raise_our_errors(
    change: dict[str, Any], error: type[CrossRouteError], message: str
) -> None:
    if models := change.get("models"):
        change = {"models": {model: RunnableLambda(str) for model in models}}
    with pytest.raises(error, match=message) as raised:
        CrossRouteRunnable(**({"models": scripted()} | change))
    assert not isinstance(raised.value, ValidationError)


@pytest.mark.parametrize(
    "change",
    [
        {"models": {LARGE: "openai:gpt-4o", MINI: "sk-SECRET"}},
        {"models": {LARGE: {"api_key": "sk-SECRET"}, MINI: RunnableLambda(str)}},
        {"models": ["sk-SECRET"]},
        {"router": "sk-SECRET"},
        {"query": "sk-SECRET"},
    ],
)
def test_arguments_of_a_wrong_type_are_not_printed(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        CrossRouteRunnable(**({"models": scripted()} | change))
    assert next(iter(change)) in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_misspelt_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="wilingness_to_pay"):
        CrossRouteRunnable(models=scripted(), wilingness_to_pay=0)  # type: ignore[call-arg]


def test_nothing_secret_is_shown() -> None:
    class Talkative(ScriptedChatModel):
        key: str

    routed = CrossRouteRunnable(
        models={m: Talkative(model_name=m, key="sk-SECRET") for m in MODELS}
    )
    assert "SECRET" in repr(routed.models)
    shown = f"{routed!r} {routed} {PROMPT | routed!r} {json.dumps(routed.to_json())}"
    assert LARGE in shown
    assert "SECRET" not in shown


# The chat model


def test_callbacks_tags_and_metadata_of_the_constructor() -> None:
    recorder, inner = Recorder(), Recorder()
    chat = cheap(scripted(), callbacks=[recorder], tags=["t"], metadata={"m": 1})
    chat.invoke(QUESTION)
    assert len(recorder.of_kind("chain")) == len(recorder.of_kind("model")) == 1
    assert {run.metadata["m"] for run in recorder.runs.values()} == {1}
    outer = RunnableLambda(lambda text: chat.invoke(text), name="outer")
    outer.invoke(QUESTION, {"callbacks": [inner]})
    assert len(inner.of_kind("model")) == 1
    assert len(recorder.of_kind("model")) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_standard_arguments_reach_the_chosen_model(way: str) -> None:
    models = scripted()
    chat = cheap(models, temperature=0.5, max_tokens=9, timeout=3, stop=["x"])
    await answer_of(way, chat, QUESTION)
    await answer_of(way, chat, QUESTION, stop=["y"], temperature=0)
    first, second = models[SMALL].given
    assert first == {"temperature": 0.5, "max_tokens": 9, "timeout": 3}
    assert second == first | {"temperature": 0}
    assert models[SMALL].stops == [["x"], ["y"]]


def test_nothing_is_sent_that_was_not_given() -> None:
    models = scripted()
    cheap(models).invoke(QUESTION)
    assert models[SMALL].given == [{}]
    assert models[SMALL].stops == [None]


def test_max_retries_is_one_less_than_the_attempts() -> None:
    assert cheap(scripted(), max_retries=0).attempts == 1
    assert cheap(scripted()).attempts == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cache", True),
        ("cache", InMemoryCache()),
        ("rate_limiter", InMemoryRateLimiter(requests_per_second=1)),
        ("disable_streaming", True),
    ],
)
def test_what_would_have_no_effect_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} has no effect.*candidates"):
        cheap(scripted(), **{setting: value})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {LARGE: RunnableLambda(str)}}, PoolError, "at least two"),
        (
            {"models": dict.fromkeys(["nobody", LARGE], RunnableLambda(str))},
            UnknownModelError,
            "no",
        ),
        ({"willingness_to_pay": -1}, WillingnessToPayError, "-1"),
        ({"attempts": 0}, ConstraintError, "attempts is 0"),
        ({"stay_margin": -0.1}, ConstraintError, "margin is -0.1"),
        ({"temprature": 0}, ValidationError, "temprature"),
        ({"models": {LARGE: "sk-SECRET"}}, ValidationError, "models"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        ChatCrossRoute(**({"models": scripted()} | change))
    assert "SECRET" not in str(raised.value)


def test_nothing_secret_is_shown_by_the_chat_model() -> None:
    class Talkative(ScriptedChatModel):
        key: str

    models = {m: Talkative(model_name=m, key="sk-SECRET") for m in MODELS}
    chat = ChatCrossRoute(models=models, api_key="sk-SECRET")
    assert "SECRET" in repr(chat.models)
    shown = f"{chat!r} {chat} {chat.to_json()} {chat.asdict()} {chat | StrOutputParser()!r}"
    assert LARGE in shown
    assert "SECRET" not in shown


def test_tokens_are_counted_without_a_tokenizer() -> None:
    chat = cheap(scripted())
    assert 10 < chat.get_num_tokens(QUESTION) < 20
    messages: list[BaseMessage] = [HumanMessage(QUESTION)]
    plain = chat.get_num_tokens_from_messages(messages)
    assert 10 < plain < 25
    assert chat.get_num_tokens_from_messages(messages, tools=[weather]) > plain + 10
    with pytest.raises(NotImplementedError, match="tokenizers"):
        chat.get_token_ids(QUESTION)
    own = cheap(scripted(), custom_get_token_ids=lambda text: [1] * len(text))
    assert own.get_num_tokens("four") == len(own.get_token_ids("four")) == 4


# The middleware


def test_candidates_must_be_chat_models() -> None:
    models: Any = {LARGE: RunnableLambda(str), SMALL: RunnableLambda(str)}
    with pytest.raises(PoolError, match=f"{LARGE}.*RunnableLambda.*chat model"):
        CrossRouteMiddleware(models)


def test_wrong_arguments_of_the_middleware() -> None:
    models: Any = tool_callers()
    with pytest.raises(UnknownModelError):
        CrossRouteMiddleware({**models, "nobody": models[SMALL]})
    with pytest.raises(PoolError, match="at least two"):
        CrossRouteMiddleware({SMALL: models[SMALL]})
    with pytest.raises(WillingnessToPayError):
        CrossRouteMiddleware(models, willingness_to_pay=math.nan)
    with pytest.raises(ValueError, match="attempts"):
        CrossRouteMiddleware(models, attempts=0)
    with pytest.raises(ValueError, match="margin"):
        CrossRouteMiddleware(models, stay_margin=-1)


def test_repr_shows_no_secret() -> None:
    models = tool_callers(metadata={"key": "SECRET"})
    shown = repr(CrossRouteMiddleware(models))
    assert LARGE in shown
    assert "SECRET" not in shown
