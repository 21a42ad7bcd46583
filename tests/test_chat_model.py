"""ChatCrossRoute: what runs, what is bound, who may answer, what happens when a model fails."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import doctest
import math
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.exceptions import (
    ModelAPIError,
    ModelInvalidRequestError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, Runnable, RunnableGenerator, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import ConsoleCallbackHandler
from langchain_core.tracers._streaming import _V2StreamingCallbackHandler
from langchain_openai.chat_models.base import OpenAIRefusalError
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel, ValidationError
from test_chat_model_standard import ScriptedProvider
from test_langchain import (
    LARGE,
    MEDIUM,
    MODELS,
    QUESTION,
    SMALL,
    WAYS,
    Recorder,
    ScriptedChatModel,
    chunks_of,
    output_of,
    scripted,
)

import langchain_crossroute.chat_model
from crossroute import (
    ConstraintError,
    CrossRouter,
    ModelPool,
    NoCandidateError,
    PoolError,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.query import Query
from langchain_crossroute import ChatCrossRoute, CostLedger, CrossRouteRunnable
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.messages import to_query

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

ALL_WAYS = [*WAYS, "generate", "agenerate", "v3", "av3"]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
USAGE: Any = {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}
TOOL_CALL: Any = {"name": "weather", "args": "", "id": "1", "index": 0}
BOTH = pytest.mark.parametrize("router_class", [ChatCrossRoute, CrossRouteRunnable])


async def answer_of(way: str, chat: Any, value: Any, config: Any = None, **kwargs: Any) -> Any:
    """Call a chat model in one of the ways; the whole answer."""
    match way:
        case "generate" | "agenerate":
            messages = [[HumanMessage(value)] if isinstance(value, str) else value]
            callbacks = (config or {}).get("callbacks")
            if way == "generate":
                result = chat.generate(messages, callbacks=callbacks, **kwargs)
            else:
                result = await chat.agenerate(messages, callbacks=callbacks, **kwargs)
            return result.generations[0][0].message
        case "v3":
            return chat.stream_events(value, config, version="v3", **kwargs).output
        case "av3":
            return await (await chat.astream_events(value, config, version="v3", **kwargs))
        case _:
            return await output_of(way, chat, value, config, **kwargs)


def changed(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Scripted models, some of them with other settings."""
    return {
        model: ScriptedChatModel(model_name=model, **changes.get(model, {})) for model in MODELS
    }


def providers() -> dict[str, ScriptedProvider]:
    return {model: ScriptedProvider(model_name=model) for model in MODELS}


def cheap(models: Any, **settings: Any) -> ChatCrossRoute:
    return ChatCrossRoute(models=models, willingness_to_pay=0, **settings)


def decision_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.response_metadata["crossroute"]
    return found


@tool
def weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"Sunny in {city}."


class Weather(BaseModel):
    """The weather of a city."""

    setup: str
    punchline: str


# What runs


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_one_model_run_under_one_router_run(way: str) -> None:
    recorder, usage, models = Recorder(), UsageMetadataCallbackHandler(), scripted()
    config = {"callbacks": [recorder, usage]}
    answer = await answer_of(way, cheap(models), QUESTION, config)

    assert answer.text == f"I am {SMALL}."
    assert isinstance(answer, AIMessage)
    (routing,), (answering,) = recorder.of_kind("chain"), recorder.of_kind("model")
    assert recorder.runs[routing].name == "ChatCrossRoute"
    assert recorder.runs[routing].parent is None
    assert recorder.runs[answering].parent == routing
    assert set(recorder.ended) == set(recorder.runs)
    assert not recorder.errors
    assert usage.usage_metadata[SMALL]["total_tokens"] == 12
    assert len(usage.usage_metadata) == 1
    assert [len(model.asked) for model in models.values()] == [0, 1, 0]


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_the_decision_is_seen_everywhere(way: str, router: CrossRouter) -> None:
    recorder = Recorder()
    answer = await answer_of(way, cheap(scripted()), QUESTION, {"callbacks": [recorder]})

    decision = router.subset(MODELS).route(QUESTION, 0).to_dict()
    found = dict(decision_of(answer))
    realised, bill = found.pop("realised"), found.pop("bill")
    assert found == decision
    assert bill["cost_usd"] == pytest.approx(realised["cost_usd"])
    assert realised["input_tokens"] == 5
    assert realised["output_tokens"] == 7
    (routing,), (answering,) = recorder.of_kind("chain"), recorder.of_kind("model")
    assert recorder.events == [("crossroute_decision", decision, routing)]
    assert recorder.runs[answering].metadata["crossroute_model"] == decision["model"]
    assert recorder.runs[answering].metadata["crossroute"] == decision
    assert "crossroute" not in recorder.runs[routing].metadata
    assert answer.response_metadata["model_name"] == SMALL
    assert answer.response_metadata["model_provider"] == "scripted"


@pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated")
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_events_of_versions_1_and_2(version: Any) -> None:
    events = [e async for e in cheap(scripted()).astream_events(QUESTION, version=version)]
    names = [event["event"] for event in events]
    assert names.count("on_chat_model_start") == names.count("on_chat_model_end") == 1
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == f"I am {SMALL}."
    assert events[0]["name"] == "ChatCrossRoute"


async def test_the_custom_event_is_in_the_stream_of_events() -> None:
    events = [event async for event in cheap(scripted()).astream_events(QUESTION, version="v2")]
    (custom,) = [event for event in events if event["event"] == "on_custom_event"]
    assert custom["name"] == "crossroute_decision"
    assert custom["data"]["model"] == SMALL
    assert custom["run_id"] == events[0]["run_id"]


def test_the_protocol_stream_passes_tokens_when_they_are_made() -> None:
    models = scripted()
    stream = cheap(models).stream_events(QUESTION, version="v3")
    assert not models[SMALL].tokens_made
    text = iter(stream.text)
    assert next(text) == "I a"
    assert len(models[SMALL].tokens_made) < 4
    assert "".join(text) == f"m {SMALL}."


async def test_a_protocol_stream_can_be_closed_early() -> None:
    class Slow(ScriptedChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                await asyncio.sleep(0.05)

    recorder = Recorder()
    models = {model: Slow(model_name=model) for model in MODELS}
    stream = await cheap(models).astream_events(QUESTION, {"callbacks": [recorder]}, version="v3")
    async with stream:
        async for _ in stream.text:
            break
    await asyncio.sleep(0.01)
    assert len(models[SMALL].tokens_made) < 4
    assert len(recorder.runs) == 2
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


@pytest.mark.parametrize("way", ["v3", "av3"])
async def test_an_error_ends_a_protocol_stream(way: str) -> None:
    models = {model: ScriptedChatModel(model_name=model, error=ValueError) for model in MODELS}
    with pytest.raises(ValueError):  # noqa: PT011
        await answer_of(way, cheap(models), QUESTION)


class State(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_graph_emits_each_token_once(is_async: bool) -> None:
    chat = cheap(scripted())
    graph = StateGraph(State)
    graph.add_node("ask", lambda state: {"messages": [chat.invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    app = graph.compile()
    start: Any = {"messages": [HumanMessage(QUESTION)]}
    if is_async:
        found = [part async for part in app.astream(start, stream_mode="messages")]
    else:
        found = list(app.stream(start, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in found) == f"I am {SMALL}."
    assert len(found) > 5


def test_the_config_of_an_outer_run_is_inherited() -> None:
    recorder = Recorder()
    outer = RunnableLambda(lambda text: cheap(scripted()).invoke(text).text, name="outer")
    config: Any = {"callbacks": [recorder], "configurable": {"crossroute_model": LARGE}}
    assert outer.invoke(QUESTION, config) == f"I am {LARGE}."
    assert recorder.runs[recorder.named("ChatCrossRoute")].parent == recorder.named("outer")


def test_generate_answers_several_prompts(router: CrossRouter) -> None:
    recorder, run_id = Recorder(), uuid.uuid4()
    prompts: list[list[BaseMessage]] = [[HumanMessage(f"{QUESTION} {n}")] for n in range(3)]
    result = cheap(scripted()).generate(
        prompts,
        callbacks=[recorder],
        tags=["t"],
        metadata={"m": 1},
        run_name="three",
        run_id=run_id,
    )
    assert [len(generations) for generations in result.generations] == [1, 1, 1]
    assert result.run is not None
    assert result.run[0].run_id == run_id
    assert set(recorder.of_kind("chain")) == {run.run_id for run in result.run}
    assert recorder.runs[run_id].name == "three"
    assert recorder.runs[run_id].metadata["m"] == 1
    decision = router.subset(MODELS).route(prompts[1][0].text, 0)
    message: Any = result.generations[1][0].message  # type: ignore[union-attr]
    assert decision_of(message)["cost_usd"] == decision.cost_usd


# What is bound to the model that is chosen


@pytest.mark.parametrize("way", [*WAYS, "v3", "av3"])
async def test_tools_are_bound_to_the_chosen_model(way: str) -> None:
    chat = cheap(providers()).bind_tools([weather], tool_choice="weather")
    answer = await answer_of(way, chat, "Is it sunny in 'Lima'?")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Lima"})
    assert decision_of(answer)["model"] == SMALL


async def test_the_call_settings_survive_bind_tools() -> None:
    chat = cheap(providers()).bind_tools([weather])
    config: Any = {"configurable": {"crossroute_model": LARGE}}
    for bound in (chat, chat.with_config(run_name="x"), chat.with_retry()):
        assert decision_of(await bound.ainvoke(QUESTION, config))["model"] == LARGE
    fixed = chat.with_config(configurable={"crossroute_model": MEDIUM})
    assert decision_of(fixed.invoke(QUESTION))["model"] == MEDIUM


def test_tools_are_converted_once_for_each_model() -> None:
    made = []

    class Counting(ScriptedProvider):
        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
            made.append(self.model_name)
            return super().bind_tools(tools, **kwargs)

    chat = cheap({model: Counting(model_name=model) for model in MODELS}).bind_tools([weather])
    for model in (SMALL, LARGE, SMALL):
        chat.invoke(QUESTION, {"configurable": {"crossroute_model": model}})
    assert made == [SMALL, LARGE]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", [None, "function_calling", "json_mode", "json_schema"])
async def test_structured_output(way: str, method: str | None) -> None:
    settings = {} if method is None else {"method": method}
    chat = cheap(providers()).with_structured_output(Weather, **settings)
    recorder = Recorder()
    assert isinstance(
        (await chunks_of(way, chat, "Tell it.", {"callbacks": [recorder]}))[-1], Weather
    )
    (answering,) = recorder.of_kind("model")
    expected = MEDIUM if method == "json_schema" else SMALL
    assert recorder.runs[answering].metadata["crossroute_model"] == expected


@pytest.mark.parametrize("way", WAYS)
async def test_structured_output_with_the_raw_message(way: str) -> None:
    chat = cheap(providers()).with_structured_output(Weather, include_raw=True)
    found = await output_of(way, chat, "Tell it.")
    assert isinstance(found["parsed"], Weather)
    assert found["parsing_error"] is None
    assert decision_of(found["raw"])["model"] == SMALL
    assert decision_of(found["raw"])["realised"]["input_tokens"] == 8


def test_fallbacks_get_the_tools_too() -> None:
    broken = cheap({m: ScriptedProvider(model_name=m) for m in MODELS})
    spare = cheap(providers(), name="spare")
    both = broken.with_fallbacks([spare]).bind_tools([weather])  # type: ignore[attr-defined]
    config: Any = {"configurable": {"crossroute_allowed": [LARGE]}}
    assert both.invoke(QUESTION, config).tool_calls
    for bound in (both.runnable, *both.fallbacks):
        assert bound.kwargs["tools"][0]["function"]["name"] == "weather"


def test_a_fallback_answers_where_all_candidates_fail() -> None:
    broken = cheap(changed({model: {"error": ModelAPIError} for model in MODELS}))
    spare = cheap(scripted())
    assert broken.with_fallbacks([spare]).invoke(QUESTION).text == f"I am {SMALL}."


def test_retry_starts_over() -> None:
    models = changed({model: {"error": ModelAPIError} for model in MODELS})
    chat = cheap(models, attempts=1).with_retry(
        retry_if_exception_type=(ModelAPIError,),
        wait_exponential_jitter=False,
        stop_after_attempt=2,
    )
    with pytest.raises(ModelAPIError):
        chat.invoke(QUESTION)
    assert len(models[SMALL].asked) == 2


# The constructor


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


def test_streaming_lets_the_model_stream_within_invoke() -> None:
    models, recorder = scripted(), Recorder()
    cheap(models, streaming=True).invoke(QUESTION, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {SMALL}."
    cheap(models).invoke(QUESTION, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {SMALL}."


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


def test_nothing_secret_is_shown() -> None:
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


def test_fields_may_be_configurable() -> None:
    chat = cheap(scripted()).configurable_fields(
        willingness_to_pay=ConfigurableField(id="wtp"), temperature=ConfigurableField(id="heat")
    )
    config: Any = {"configurable": {"wtp": math.inf, "heat": 1.0}}
    assert decision_of(chat.invoke(QUESTION, config))["model"] != SMALL
    assert decision_of(chat.invoke(QUESTION))["model"] == SMALL


def test_a_descriptor_folder(tmp_path: Path, router: CrossRouter) -> None:
    for model in MODELS:
        router.pool[model].save(tmp_path)
    chat = ChatCrossRoute.from_yaml(tmp_path, willingness_to_pay=0, stay_margin=0.1)
    assert set(chat.models) == set(MODELS)
    assert all(isinstance(model, LazyChatModel) for model in chat.models.values())
    assert chat.stay_margin == 0.1


@pytest.mark.parametrize("way", [*WAYS, "v3", "av3"])
async def test_a_model_of_a_descriptor_is_built_late(
    way: str, tmp_path: Path, router: CrossRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def build(name: str, **_: Any) -> BaseChatModel:
        made.append(name)
        return ScriptedProvider(model_name=name)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    for model in MODELS:
        router.pool[model].save(tmp_path)
    chat = ChatCrossRoute.from_yaml(tmp_path, willingness_to_pay=0)
    assert chat.profile
    assert made == []
    answer = await answer_of(way, chat.bind_tools([weather]), QUESTION)
    assert answer.tool_calls
    assert made == ["openrouter:meta-llama/llama-3.1-8b-instruct"]


# Who may answer


def test_the_profile_is_what_all_candidates_offer(router: CrossRouter) -> None:
    profiles: dict[str, dict[str, Any]] = {
        SMALL: {"tool_calling": False, "max_output_tokens": 4000, "text_inputs": True},
        MEDIUM: {"max_input_tokens": 1000, "audio_inputs": True, "text_inputs": True},
        LARGE: {"max_input_tokens": 0, "audio_inputs": True, "text_inputs": False, "name": "large"},
    }
    chat = cheap({m: ScriptedChatModel(model_name=m, profile=p) for m, p in profiles.items()})
    profile: Any = chat.profile
    # The smallest number holds; where a profile says nothing, the descriptor does.
    assert profile["max_input_tokens"] == 1000
    assert profile["max_output_tokens"] == 4000
    assert profile["tool_calling"] is False
    assert profile["pdf_inputs"] is False
    assert profile["structured_output"] is False
    assert profile["audio_inputs"] is False
    assert profile["text_inputs"] is False
    assert "name" not in profile
    assert cheap(scripted(), profile={"tool_calling": False}).profile == {"tool_calling": False}


def test_profiles_complete_the_descriptors(router: CrossRouter) -> None:
    bare = router.over(
        ModelPool(
            descriptor.model_copy(
                update={"capabilities": (), "context_window_tokens": None, "max_output_tokens": 10}
            )
            for descriptor in router.pool.subset(MODELS).values()
        )
    )
    models: dict[str, Any] = scripted()
    models[LARGE] = ScriptedChatModel(
        model_name=LARGE,
        profile={
            "tool_calling": True,
            "image_url_inputs": True,
            "pdf_inputs": True,
            "max_input_tokens": 50,
            "max_output_tokens": 99,
        },
    ).bind(temperature=0)
    found = ChatCrossRoute(models=models, router=bare).router.pool
    assert set(found[LARGE].capabilities) == {"tools", "image_input", "file_input"}
    assert (found[LARGE].context_window_tokens, found[LARGE].max_output_tokens) == (50, 10)
    assert found[SMALL] is bare.pool[SMALL]
    # Of two numbers the smaller one holds, in routing too.
    found = ChatCrossRoute(models=models, router=router).router.pool
    assert (found[LARGE].context_window_tokens, found[LARGE].max_output_tokens) == (50, 99)


@BOTH
def test_images_go_to_models_that_take_them(router_class: Any) -> None:
    chat = router_class(models=scripted(), willingness_to_pay=0)
    answer = chat.invoke([HumanMessage([{"type": "text", "text": QUESTION}, IMAGE])])
    assert decision_of(answer)["model"] == MEDIUM
    assert decision_of(answer)["removed"] == {
        SMALL: "image_input is not among the capabilities in its descriptor"
    }
    assert decision_of(chat.invoke([HumanMessage([IMAGE])]))["model"] == MEDIUM


def test_tools_count_and_need_a_model_that_calls_them(router: CrossRouter) -> None:
    pool = ModelPool(
        descriptor.model_copy(update={"capabilities": ()}) if descriptor.id == SMALL else descriptor
        for descriptor in router.pool.subset(MODELS).values()
    )
    chat = cheap(providers(), router=router.over(pool))
    plain = decision_of(chat.invoke(QUESTION))
    for bound in (
        chat.bind_tools([weather]),
        chat.bind(tools=[{"type": "function", "function": {"name": "weather"}}], tool_choice="x"),
        chat.with_structured_output(Weather, include_raw=True),
        chat.with_structured_output(Weather, include_raw=True, method="function_calling"),
    ):
        answer: Any = bound.invoke(QUESTION)
        found = decision_of(answer["raw"] if isinstance(answer, dict) else answer)
        assert found["removed"] == {SMALL: "tools is not among the capabilities in its descriptor"}
        assert found["input_tokens"] > plain["input_tokens"] + 5
    assert decision_of(chat.bind_tools([]).invoke(QUESTION))["model"] == SMALL


def test_a_response_format_needs_structured_output() -> None:
    chat = cheap(scripted())
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert decision_of(chat.invoke(QUESTION, response_format=schema))["model"] == MEDIUM
    loose = chat.invoke(QUESTION, response_format={"type": "json_object"})
    assert decision_of(loose)["model"] == SMALL


def test_room_for_the_answer() -> None:
    chat = cheap(scripted())
    assert decision_of(chat.invoke(QUESTION, max_tokens=20_000))["model"] == SMALL
    assert set(decision_of(chat.invoke(QUESTION, max_tokens=20_000))["removed"]) == {MEDIUM, LARGE}
    with pytest.raises(NoCandidateError) as raised:
        cheap(scripted(), max_tokens=200_000).invoke(QUESTION)
    for model in MODELS:
        assert model in str(raised.value)


@pytest.mark.parametrize(
    ("block", "needs"),
    [
        ({"type": "image", "url": "https://x/y.png"}, {"image_input"}),
        ({"type": "image", "base64": "AA==", "mime_type": "image/png"}, {"image_input"}),
        ({"type": "image", "source_type": "url", "url": "https://x/y.png"}, {"image_input"}),
        ({"type": "image", "source": {"type": "base64", "data": "AA=="}}, {"image_input"}),
        ({"image": {"format": "png", "source": {"bytes": b"x"}}}, {"image_input"}),
        (IMAGE, {"image_input"}),
        ({"type": "audio", "base64": "AA==", "mime_type": "audio/wav"}, {"audio_input"}),
        ({"type": "input_audio", "input_audio": {"data": "AA=="}}, {"audio_input"}),
        ({"type": "media", "mime_type": "audio/mp3", "data": "AA=="}, {"audio_input"}),
        ({"type": "media", "mime_type": "image/png", "data": "AA=="}, {"image_input"}),
        ({"type": "file", "base64": "AA==", "mime_type": "application/pdf"}, {"file_input"}),
        ({"type": "file", "source_type": "id", "id": "file-1"}, {"file_input"}),
        ({"type": "video", "url": "https://x/y.mp4"}, {"file_input"}),
        ({"type": "text-plain", "url": "https://x/y.txt"}, {"file_input"}),
        ({"type": "text-plain", "text": "a note", "mime_type": "text/plain"}, set()),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, {"file_input"}),
        ({"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}, {"image_input"}),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {}}, set()),
        ({"type": "reasoning", "reasoning": "hm"}, set()),
    ],
)
def test_content_blocks_show_what_they_need(block: dict[str, Any], needs: set[str]) -> None:
    text: dict[str, Any] = {"type": "text", "text": QUESTION}
    found = Query.of(to_query([HumanMessage([text, block])]))
    assert found.needs == needs
    # Also in what a tool gave back.
    later = [HumanMessage(QUESTION), ToolMessage([block], tool_call_id="1")]
    assert Query.of(to_query(later)).needs == needs


def test_text_in_blocks_counts() -> None:
    long = "The contract ends in May. " * 50
    plain = Query.of(to_query([HumanMessage(QUESTION)]))
    for block in (
        {"type": "text-plain", "text": long},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": long}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": long}]},
    ):
        value = [HumanMessage(QUESTION), ToolMessage([block], tool_call_id="1")]
        assert Query.of(to_query(value)).input_tokens > plain.input_tokens + 200


# Control of a call


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_controlled_by_its_config(router_class: Any, way: str) -> None:
    chat = router_class(models=scripted(), willingness_to_pay=0)
    for settings, expected in (
        ({"crossroute_model": LARGE}, LARGE),
        ({"crossroute_allowed": [LARGE, MEDIUM]}, MEDIUM),
        ({"crossroute_excluded": [SMALL]}, MEDIUM),
        ({"crossroute_excluded": [SMALL], "willingness_to_pay": 1e9}, LARGE),
        ({"crossroute_max_cost_usd": 0.001, "willingness_to_pay": 1e9}, MEDIUM),
        ({"crossroute_model": None, "crossroute_excluded": None}, SMALL),
    ):
        answer = await output_of(way, chat, QUESTION, {"configurable": settings})
        assert decision_of(answer)["model"] == expected, settings


@BOTH
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"crossroute_model": "nobody"}, UnknownModelError),
        ({"crossroute_allowed": [LARGE, "nobody"]}, UnknownModelError),
        ({"crossroute_allowed": LARGE}, ConstraintError),
        ({"crossroute_max_cost_usd": "1"}, ConstraintError),
        ({"crossroute_excluded": MODELS}, NoCandidateError),
        ({"willingness_to_pay": -1}, WillingnessToPayError),
    ],
)
def test_wrong_settings_of_a_call(router_class: Any, settings: Any, error: type[Exception]) -> None:
    models = scripted()
    with pytest.raises(error):
        router_class(models=models).invoke(QUESTION, {"configurable": settings})
    assert not any(model.asked for model in models.values())


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_the_argument_model_asks_another_candidate(way: str) -> None:
    answer = await answer_of(way, cheap(scripted()), QUESTION, model=LARGE)
    assert decision_of(answer)["model"] == LARGE
    with pytest.raises(UnknownModelError, match="nobody"):
        await answer_of(way, cheap(scripted()), QUESTION, model="nobody")


# When a model fails


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error",
    [
        ModelRateLimitError,
        ModelAPIError,
        ModelTimeoutError,
        TimeoutError,
        ConnectionResetError,
        httpx.RemoteProtocolError,
    ],
)
async def test_the_next_best_answers(router_class: Any, way: str, error: type[Exception]) -> None:
    recorder = Recorder()
    models = changed({SMALL: {"error": error("busy")}, MEDIUM: {"error": error("busy too")}})
    chat = router_class(models=models, willingness_to_pay=0)
    answer = await output_of(way, chat, QUESTION, {"callbacks": [recorder]})

    assert answer.text == f"I am {LARGE}."
    found = decision_of(answer)
    assert found["model"] == LARGE
    scores = {candidate["model"]: candidate for candidate in found["candidates"]}
    assert list(scores) == [SMALL, MEDIUM, LARGE]
    assert found["cost_usd"] == scores[LARGE]["cost_usd"]
    assert found["attempts"] == [
        {"model": SMALL, "error": f"{error.__name__}: busy"},
        {"model": MEDIUM, "error": f"{error.__name__}: busy too"},
    ]
    failed = [(data["model"], data["next"]) for name, data, _ in recorder.events if "fail" in name]
    assert failed == [(SMALL, MEDIUM), (MEDIUM, LARGE)]
    named = [recorder.runs[run].metadata["crossroute_model"] for run in recorder.of_kind("model")]
    assert named == [SMALL, MEDIUM, LARGE]
    assert [*recorder.errors] == recorder.of_kind("model")[:2]


@pytest.mark.parametrize("way", ["generate", "agenerate", "v3", "av3"])
async def test_the_next_best_answers_in_the_other_ways(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("down")}})
    answer = await answer_of(way, cheap(models), QUESTION)
    assert answer.text == f"I am {MEDIUM}."
    assert decision_of(answer)["attempts"] == [{"model": SMALL, "error": "ModelAPIError: down"}]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_the_number_of_attempts_is_bounded(router_class: Any, way: str) -> None:
    recorder = Recorder()
    models = changed({model: {"error": ModelRateLimitError(model)} for model in MODELS})
    chat = router_class(models=models, willingness_to_pay=0, attempts=2)
    with pytest.raises(ModelRateLimitError, match=MEDIUM) as raised:
        await output_of(way, chat, QUESTION, {"callbacks": [recorder]})
    (note,) = raised.value.__notes__
    assert SMALL in note
    assert MEDIUM in note
    assert not models[LARGE].asked
    assert [data["next"] for name, data, _ in recorder.events if "fail" in name] == [MEDIUM, None]


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [ModelInvalidRequestError, ValueError, KeyError])
async def test_other_errors_are_raised_at_once(
    router_class: Any, way: str, error: type[Exception]
) -> None:
    models = changed({SMALL: {"error": error("wrong")}})
    with pytest.raises(error, match="wrong") as raised:
        await output_of(way, router_class(models=models, willingness_to_pay=0), QUESTION)
    assert not hasattr(raised.value, "__notes__")
    assert not models[MEDIUM].asked


@pytest.mark.parametrize("way", WAYS)
async def test_a_later_error_names_what_was_tried(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("down")}, MEDIUM: {"error": ValueError("no")}})
    with pytest.raises(ValueError, match="no") as raised:
        await answer_of(way, cheap(models), QUESTION)
    assert raised.value.__notes__ == [
        f"CrossRoute tried, in this order: {SMALL}: ModelAPIError: down."
    ]
    assert not models[LARGE].asked


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_model_is_not_left(way: str) -> None:
    models = changed({LARGE: {"error": ModelAPIError("down")}})
    config = {"configurable": {"crossroute_model": LARGE}}
    with pytest.raises(ModelAPIError, match="down"):
        await answer_of(way, cheap(models), QUESTION, config)
    assert not models[SMALL].asked


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_has_emitted_is_not_restarted(router_class: Any, way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("dropped"), "drops_after": 2}})
    chat = router_class(models=models, willingness_to_pay=0)
    seen = []

    async def read() -> None:
        if way == "stream":
            for chunk in chat.stream(QUESTION):
                seen.append(chunk.text)  # noqa: PERF401
        else:
            async for chunk in chat.astream(QUESTION):
                seen.append(chunk.text)  # noqa: PERF401

    with pytest.raises(ModelAPIError, match="dropped"):
        await read()
    assert seen == ["I a", "m M"]
    assert not models[MEDIUM].asked


class Teller(BaseCallbackHandler):
    """Passes tokens on, as a handler of an application does."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.told.append(token)


class TellerOfEvents(BaseCallbackHandler, _V2StreamingCallbackHandler):
    """The same with the events of version v3."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        if event["event"] == "content-block-delta":
            self.told.append(event["delta"]["text"])


class Streaming(ScriptedChatModel):
    streaming: bool = True


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("kind", [Teller, TellerOfEvents])
@pytest.mark.parametrize("of_the_model", [False, True])
async def test_an_answer_whose_tokens_were_told_is_not_restarted(
    router_class: Any, way: str, kind: type[Any], of_the_model: bool
) -> None:
    teller = kind()
    models = {m: Streaming(model_name=m, streaming=True) for m in MODELS}
    models[SMALL].error, models[SMALL].drops_after = ModelAPIError("dropped"), 2
    config = {"callbacks": [teller]}
    if of_the_model:
        models[SMALL].callbacks, config = [teller], {}
    chat = router_class(models=models, willingness_to_pay=0, pass_refusals=True)
    with pytest.raises(ModelAPIError, match="dropped"):
        await output_of(way, chat, QUESTION, config)
    assert teller.told == ["I a", "m M"]
    assert not models[MEDIUM].asked

    # What was told may be read once more, but a refusal is not replaced by another answer.
    models[SMALL].error = models[SMALL].drops_after = None
    models[SMALL].refusal = REFUSALS[1]
    assert (await output_of(way, chat, QUESTION, config)).text == f"I am {SMALL}."
    assert not models[MEDIUM].asked


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("silent", [CostLedger, ConsoleCallbackHandler])
async def test_who_only_counts_or_records_prevents_no_restart(
    router_class: Any, way: str, silent: type[Any], router: CrossRouter
) -> None:
    models = {m: Streaming(model_name=m, streaming=True) for m in MODELS}
    models[SMALL].error, models[SMALL].drops_after = ModelAPIError("dropped"), 2
    handler = CostLedger(router) if silent is CostLedger else silent()
    chat = router_class(models=models, willingness_to_pay=0)
    answer = await output_of(way, chat, QUESTION, {"callbacks": [handler]})
    assert answer.text == f"I am {MEDIUM}."


@BOTH
@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_node_of_a_graph_emits_no_token_twice(
    router_class: Any, way: str, is_async: bool
) -> None:
    models = changed({SMALL: {"error": ModelAPIError("dropped"), "drops_after": 2}})
    chat = router_class(models=models, willingness_to_pay=0)

    async def ask(state: State) -> Any:
        return {"messages": [await output_of(f"a{way}", chat, state["messages"])]}

    def ask_now(state: State) -> Any:
        found = chat.invoke if way == "invoke" else lambda m: reduce(add, chat.stream(m))
        return {"messages": [found(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("ask", ask if is_async else ask_now)
    graph.add_edge(START, "ask")
    app: Any = graph.compile()
    start = {"messages": [HumanMessage(QUESTION)]}
    seen = []

    async def read() -> None:
        if is_async:
            async for chunk, _ in app.astream(start, stream_mode="messages"):
                seen.append(chunk.text)
        else:
            for chunk, _ in app.stream(start, stream_mode="messages"):
                seen.append(chunk.text)

    with pytest.raises(ModelAPIError, match="dropped"):
        await read()
    assert seen == ["I a", "m M"]
    assert not models[MEDIUM].asked
    # A failure before the first token is nobody's to see.
    seen.clear()
    models[SMALL].drops_after = None
    await read()
    assert "".join(seen) == f"I am {MEDIUM}."


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_a_stream_that_fails_before_its_first_chunk_goes_on(way: str) -> None:
    models = changed({SMALL: {"error": ModelAPIError("early"), "drops_after": 0}})
    answer = await answer_of(way, cheap(models), QUESTION)
    assert answer.text == f"I am {MEDIUM}."


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    ("first", "shows"),
    [
        ("", False),
        (AIMessageChunk(""), False),
        (AIMessageChunk("", usage_metadata=USAGE), False),
        (AIMessageChunk([{"type": "text", "text": "", "index": 0}]), False),
        (AIMessageChunk("", additional_kwargs={"refusal": None}), False),
        ({"raw": AIMessageChunk("")}, False),
        ("a", True),
        (AIMessageChunk("a"), True),
        (AIMessageChunk([{"type": "text", "text": "a", "index": 0}]), True),
        (AIMessageChunk(["a"]), True),
        (AIMessageChunk([{"type": "thinking", "thinking": ""}]), True),
        (AIMessageChunk("", additional_kwargs={"reasoning_content": "Hm"}), True),
        (AIMessageChunk("", tool_call_chunks=[TOOL_CALL]), True),
        ({"answer": ""}, True),
        (0, True),
    ],
)
async def test_a_stream_begins_with_its_first_content(way: str, first: Any, shows: bool) -> None:
    def parts(_: Any) -> Any:
        yield first
        raise ModelAPIError("dropped")

    async def aparts(_: Any) -> Any:
        yield first
        raise ModelAPIError("dropped")

    models: Any = {model: RunnableGenerator(parts, aparts) for model in (SMALL, MEDIUM)}
    models[MEDIUM] = ScriptedChatModel(model_name=MEDIUM)
    chat = CrossRouteRunnable(models=models, willingness_to_pay=0)
    if shows:
        with pytest.raises(ModelAPIError, match="dropped"):
            await chunks_of(way, chat, QUESTION)
    else:
        assert (await output_of(way, chat, QUESTION)).text == f"I am {MEDIUM}."
    assert bool(models[MEDIUM].asked) != shows


REFUSALS: list[dict[str, Any]] = [
    {"additional_kwargs": {"refusal": "I cannot."}},
    {"response_metadata": {"finish_reason": "content_filter"}},
    {"response_metadata": {"stop_reason": "refusal"}},
]


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_goes_to_the_next_best(
    router_class: Any, way: str, refusal: dict[str, Any]
) -> None:
    models = changed({SMALL: {"refusal": refusal}})
    chat = router_class(models=models, willingness_to_pay=0, pass_refusals=True)
    answer = await output_of(way, chat, QUESTION)
    assert answer.text == f"I am {MEDIUM}."
    assert decision_of(answer)["attempts"] == [{"model": SMALL, "error": "refused"}]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_that_is_raised_passes_only_if_it_is_to(
    router_class: Any, way: str
) -> None:
    models = changed({SMALL: {"error": OpenAIRefusalError("I cannot.")}})
    with pytest.raises(OpenAIRefusalError, match="I cannot"):
        await output_of(way, router_class(models=models, willingness_to_pay=0), QUESTION)
    assert not models[MEDIUM].asked
    chat = router_class(models=models, willingness_to_pay=0, pass_refusals=True)
    answer = await output_of(way, chat, QUESTION)
    assert answer.text == f"I am {MEDIUM}."
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
        for refusing in [(SMALL, MEDIUM)]
    }
    answer = await answer_of(way, cheap(models, pass_refusals=True), QUESTION)
    assert answer.text == f"I am {LARGE}."
    two = {m: models[m] for m in (SMALL, MEDIUM)}
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
    models[MEDIUM].error, models[MEDIUM].refusal = ModelAPIError("down"), None
    assert (
        await answer_of(way, cheap(models, pass_refusals=True), QUESTION)
    ).text == f"I am {SMALL}."


# What it really cost


def test_cached_tokens_cost_less(router: CrossRouter) -> None:
    pool = ModelPool(
        descriptor.model_copy(
            update={
                "price": descriptor.price.model_copy(update={"cached_input_usd_per_1m": 0.01})  # type: ignore[union-attr]
            }
        )
        for descriptor in router.pool.subset(MODELS).values()
    )
    message = AIMessage(
        "x",
        usage_metadata={
            "input_tokens": 1000,
            "output_tokens": 10,
            "total_tokens": 1010,
            "input_token_details": {"cache_read": 900},
        },
    )
    models: Any = {model: RunnableLambda(lambda _: message) for model in MODELS}
    realised = decision_of(cheap(models, router=router.over(pool)).invoke(QUESTION))["realised"]
    price = pool[SMALL].price
    assert price is not None
    assert realised["cached_tokens"] == 900
    assert realised["cost_usd"] == price.cost_usd(1000, 10, 900) < price.cost_usd(1000, 10)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_answer_from_the_cache_costs_nothing(way: str) -> None:
    cache = InMemoryCache()
    models = {model: ScriptedChatModel(model_name=model, cache=cache) for model in MODELS}
    first, second = [decision_of(await answer_of(way, cheap(models), QUESTION)) for _ in range(2)]
    assert first["realised"]["cost_usd"] > 0
    assert second["realised"] == first["realised"] | {"cost_usd": 0.0}
    assert "crossroute" not in models[SMALL].invoke(QUESTION).response_metadata


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_answer_from_the_cache_need_not_have_usage(router_class: Any, way: str) -> None:
    cache = InMemoryCache()
    models = {
        model: ScriptedChatModel(model_name=model, cache=cache, usage=None) for model in MODELS
    }
    chat = router_class(models=models, willingness_to_pay=0)
    first = decision_of(chat.invoke(QUESTION))
    config = {"callbacks": [ledger := CostLedger(chat.router)]}
    second = decision_of(await answer_of(way, chat, QUESTION, config))
    assert "realised" not in first
    realised = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": 0.0}
    assert second["realised"] == realised
    assert ledger.spend[SMALL].cached_answers == 1


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_usage_in_several_chunks_is_added_up(way: str, router: CrossRouter) -> None:
    def parts(_: Any) -> Any:
        for tokens in ((5, 1), (0, 2), (0, 4)):
            yield AIMessageChunk(
                content="x",
                usage_metadata={
                    "input_tokens": tokens[0],
                    "output_tokens": tokens[1],
                    "total_tokens": sum(tokens),
                },
            )

    async def aparts(_: Any) -> Any:
        for part in parts(_):
            yield part

    models: Any = {model: RunnableGenerator(parts, aparts) for model in MODELS}
    answer = await answer_of(way, cheap(models), QUESTION)
    price = router.pool[SMALL].price
    assert price is not None
    assert answer.text == "xxx"
    assert decision_of(answer)["realised"]["output_tokens"] == 7
    assert decision_of(answer)["realised"]["cost_usd"] == pytest.approx(price.cost_usd(5, 7))


# Request parts of one provider


class Claude(ScriptedChatModel):
    @property
    def _llm_type(self) -> str:
        return "anthropic-chat"


class Gpt(ScriptedChatModel):
    @property
    def _llm_type(self) -> str:
        return "openai-chat"


def test_cache_markers_go_to_their_provider_only() -> None:
    models: Any = {
        SMALL: ScriptedChatModel(model_name=SMALL),
        MEDIUM: Claude(model_name=MEDIUM),
        LARGE: Gpt(model_name=LARGE),
    }
    marker = {"cache_control": {"type": "ephemeral"}}
    block = {"type": "text", "text": QUESTION, **marker, "extras": {**marker, "kept": 1}}
    messages = [SystemMessage([block]), HumanMessage(QUESTION)]
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}, **marker}
    settings: Any = {"tools": [function], "prompt_cache_key": "k", "extra_headers": {"a": "b"}}
    settings |= marker
    for model in MODELS:
        cheap(models).invoke(messages, model=model, **settings)

    unmarked_block = {"type": "text", "text": QUESTION, "extras": {"kept": 1}}
    unmarked_tool = {name: value for name, value in function.items() if name != "cache_control"}
    headers = {"extra_headers": {"a": "b"}}
    assert models[SMALL].given == [{"tools": [unmarked_tool], **headers}]
    assert models[SMALL].asked[0][0].content == [unmarked_block]
    assert models[LARGE].given == [{"tools": [unmarked_tool], "prompt_cache_key": "k", **headers}]
    assert models[LARGE].asked[0][0].content == [unmarked_block]
    assert models[MEDIUM].given == [{"tools": [function], **headers, **marker}]
    assert models[MEDIUM].asked[0][0].content == [block]
    # The caller's messages and tools are left alone.
    assert messages[0].content == [block]
    assert "cache_control" in function


def test_cache_markers_of_bound_tools_go_to_their_provider_only() -> None:
    seen = []

    class Binding(ScriptedProvider):
        kind: str

        @property
        def _llm_type(self) -> str:
            return self.kind

        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
            seen.append((self.kind, tools[0].extras))
            return super().bind_tools(tools, **kwargs)

    marked = weather.model_copy(update={"extras": {"cache_control": {"type": "ephemeral"}}})
    models = {
        SMALL: Binding(model_name=SMALL, kind="openai-chat"),
        MEDIUM: Binding(model_name=MEDIUM, kind="anthropic-chat"),
    }
    chat = cheap(models).bind_tools([marked])
    for model in models:
        chat.invoke(QUESTION, {"configurable": {"crossroute_model": model}})
    assert seen == [("openai-chat", None), ("anthropic-chat", marked.extras)]


# Conversations


def after(answer: AIMessage, *messages: BaseMessage) -> list[BaseMessage]:
    """A conversation that goes on after an answer."""
    return [HumanMessage(QUESTION), answer, *messages]


def test_a_short_follow_up_is_read_with_what_it_follows_up_on(router: CrossRouter) -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    answer = AIMessage("Suppose there were finitely many. Shall I go on?")
    alone = decision_of(chat.invoke([HumanMessage("Yes, please.")]))
    followed = decision_of(chat.invoke(after(answer, HumanMessage("Yes, please."))))
    expected = router.subset(MODELS).route(f"{QUESTION}\nYes, please.", 0.01)
    assert followed["quality"] == pytest.approx(expected.quality, abs=1e-9)
    assert followed["quality"] != pytest.approx(alone["quality"], abs=1e-3)


def test_a_new_topic_is_read_by_itself(router: CrossRouter) -> None:
    topic = "What is the capital city of the country that borders both Spain and France?"
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    found = decision_of(chat.invoke(after(AIMessage("Done."), HumanMessage(topic))))
    alone = decision_of(chat.invoke(topic))
    for new, old in zip(found["candidates"], alone["candidates"], strict=True):
        assert new["quality"] == old["quality"]
    # What went before is paid for all the same.
    assert found["input_tokens"] > alone["input_tokens"]
    assert found["cost_usd"] > alone["cost_usd"]


def test_a_tool_loop_is_routed_by_the_turn_that_started_it() -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    alone = decision_of(chat.invoke(QUESTION))
    call = {"name": "weather", "args": {"city": "Lima"}, "id": "1"}
    loop = after(
        AIMessage("", tool_calls=[call]), ToolMessage("Sunny in Lima. " * 40, tool_call_id="1")
    )
    found = decision_of(chat.invoke(loop))
    assert {c["model"]: c["quality"] for c in found["candidates"]} == {
        c["model"]: c["quality"] for c in alone["candidates"]
    }
    assert found["input_tokens"] > alone["input_tokens"] + 100
    without_call = decision_of(chat.invoke(after(AIMessage(""), loop[-1])))
    assert found["input_tokens"] > without_call["input_tokens"] + 5


def test_a_system_prompt_is_counted_and_not_read() -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.01)
    alone = decision_of(chat.invoke(QUESTION))
    system = SystemMessage("Write short stories about otters. " * 20)
    found = decision_of(chat.invoke([system, HumanMessage(QUESTION)]))
    assert {c["model"]: c["quality"] for c in found["candidates"]} == {
        c["model"]: c["quality"] for c in alone["candidates"]
    }
    assert found["input_tokens"] > alone["input_tokens"] + 100


@pytest.fixture
def cached_router(router: CrossRouter) -> Callable[[float | None], CrossRouter]:
    """The router with a price for cached input: a share of that for other input."""

    def with_share(share: float | None) -> CrossRouter:
        pool = []
        for descriptor in router.pool.subset(MODELS).values():
            price = descriptor.price
            assert price is not None
            cached = None if share is None else share * price.input_usd_per_1m
            price = price.model_copy(update={"cached_input_usd_per_1m": cached})
            pool.append(descriptor.model_copy(update={"price": price}))
        return router.over(ModelPool(pool))

    return with_share


SWITCH = "Now add 17 and 25, and say only the sum of the two numbers."


@BOTH
def test_a_conversation_stays_on_its_model(router_class: Any) -> None:
    models = scripted()
    wtp = 0.002
    first = ChatCrossRoute(models=models, willingness_to_pay=math.inf).invoke(QUESTION)
    assert decision_of(first)["model"] == LARGE
    conversation = after(first, HumanMessage(SWITCH))

    def model_of(margin: float | None) -> str:
        chat = router_class(models=models, willingness_to_pay=wtp, stay_margin=margin)
        return str(decision_of(chat.invoke(conversation))["model"])

    assert model_of(None) != LARGE
    assert model_of(0) != LARGE
    assert model_of(10) == LARGE
    chat = router_class(models=models, willingness_to_pay=wtp, stay_margin=10)
    assert decision_of(chat.invoke(conversation))["kept"] is True
    # A control of the call is stronger, and so is what the model cannot take.
    excluded: Any = {"configurable": {"crossroute_excluded": [LARGE]}}
    assert decision_of(chat.invoke(conversation, excluded))["model"] != LARGE
    forced: Any = {"configurable": {"crossroute_model": MEDIUM}}
    assert decision_of(chat.invoke(conversation, forced))["model"] == MEDIUM


def test_the_lost_prompt_cache_is_part_of_the_margin(
    cached_router: Callable[[float | None], CrossRouter],
) -> None:
    models = scripted()
    long = HumanMessage("Here is the contract. " + "The tenant pays on the first. " * 4000)
    answer = AIMessage("I have read it.", response_metadata={"crossroute": {"model": LARGE}})
    conversation = [long, answer, HumanMessage(SWITCH)]

    def model_of(share: float | None) -> str:
        chat = ChatCrossRoute(
            models=models, router=cached_router(share), willingness_to_pay=0.2, stay_margin=0.0
        )
        return str(decision_of(chat.invoke(conversation))["model"])

    assert model_of(None) != LARGE
    assert model_of(0.0) == LARGE


@pytest.mark.parametrize(
    "metadata", [{}, {"crossroute": {"model": "gone"}}, {"crossroute": "odd"}, {"crossroute": {}}]
)
def test_an_answer_of_somebody_else_binds_nobody(metadata: dict[str, Any]) -> None:
    chat = cheap(scripted(), stay_margin=10.0)
    answer = AIMessage("Hello.", response_metadata=metadata)
    assert decision_of(chat.invoke(after(answer, HumanMessage(SWITCH))))["model"] == SMALL


def test_a_conversation_stays_through_a_streamed_answer() -> None:
    chat = ChatCrossRoute(models=scripted(), willingness_to_pay=0.002, stay_margin=10)
    config: Any = {"configurable": {"crossroute_model": LARGE}}
    streamed: Any = reduce(add, chat.stream(QUESTION, config))
    assert decision_of(chat.invoke(after(streamed, HumanMessage(SWITCH))))["model"] == LARGE


# The package


def test_docstring_example() -> None:
    result = doctest.testmod(langchain_crossroute.chat_model)
    assert result.attempted > 3
    assert result.failed == 0


@pytest.mark.parametrize("name", ["chat_model", "runnable"])
def test_the_page_of_the_class_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stand(ScriptedProvider):
        def __init__(self, *, model: str, **_: Any) -> None:
            super().__init__(model_name=model)  # type: ignore[call-arg]

    monkeypatch.setattr("langchain_openai.ChatOpenAI", Stand)
    page = (Path(__file__).parent.parent / "docs" / "langchain" / f"{name}.md").read_text("utf-8")
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, found)
    assert "gpt-4o" in capsys.readouterr().out
    assert "crossroute" in found["answer"].response_metadata


def test_a_misspelt_setting_is_refused() -> None:
    chat = cheap(providers())
    with pytest.raises(ConstraintError, match="did you mean 'crossroute_regions'"):
        chat.invoke(QUESTION, {"configurable": {"crossroute_region": ["eu"]}})


def test_a_candidate_that_cannot_bind_tools_is_named() -> None:
    models = {model: FakeListChatModel(responses=["x"]) for model in MODELS}
    with pytest.raises(NotImplementedError) as caught:
        ChatCrossRoute(models=models, willingness_to_pay=0).bind_tools([weather]).invoke(QUESTION)
    assert "bind_tools of the candidate" in caught.value.__notes__[0]
