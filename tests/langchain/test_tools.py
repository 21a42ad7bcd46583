"""Tools and schemas: they are bound to the model that is chosen."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from collections.abc import Sequence
from typing import Any

import pytest
from fakes_langchain import (
    CALLS,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    WAYS,
    Capital,
    Joke,
    Make,
    Person,
    Recorder,
    agent_of,
    answer_of,
    answered,
    asked,
    changed,
    cheap,
    chunks_of,
    client,
    decision_of,
    output_of,
    person,
    run_agent,
    scripted,
    tool_callers,
    weather,
)
from fakes_langchain_providers import ScriptedProvider, providers
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.exceptions import ModelAPIError
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


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
    fixed = chat.with_config(configurable={"crossroute_model": MINI})
    assert decision_of(fixed.invoke(QUESTION))["model"] == MINI


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


def test_a_candidate_that_cannot_bind_tools_is_named() -> None:
    models = {model: FakeListChatModel(responses=["x"]) for model in MODELS}
    with pytest.raises(NotImplementedError) as caught:
        ChatCrossRoute(models=models, willingness_to_pay=0).bind_tools([weather]).invoke(QUESTION)
    assert "bind_tools of the candidate" in caught.value.__notes__[0]


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


@pytest.mark.parametrize("way", CALLS)
async def test_tool_calls(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(
        tool_calls=(("weather", {"city": "Paris"}), ("weather", {"city": "Rome"}))
    )
    routed = make().bind_tools([weather], tool_choice="weather")
    answer = await output_of(way, routed, "What is the weather like in Paris and Rome?")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("weather", {"city": "Paris"}),
        ("weather", {"city": "Rome"}),
    ]
    assert decision_of(answer)["model"] == MINI
    (request,) = server.requests
    assert [bound["function"]["name"] for bound in request.body["tools"]] == ["weather"]
    assert request.body["tool_choice"]["function"]["name"] == "weather"


@pytest.mark.parametrize("way", CALLS)
async def test_candidates_with_their_tools_bound(
    way: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),))
    models = {model: client(server, model).bind_tools([weather]) for model in (MINI, LARGE)}
    answer = await output_of(
        way, make(CrossRouteRunnable, models=models), "Is it raining in Paris?"
    )
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Paris"}]
    assert decision_of(answer)["model"] == MINI


# Structured output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", [None, "function_calling", "json_mode", "json_schema"])
async def test_structured_output(way: str, method: str | None) -> None:
    settings = {} if method is None else {"method": method}
    chat = cheap(providers()).with_structured_output(Joke, **settings)
    recorder = Recorder()
    assert isinstance((await chunks_of(way, chat, "Tell it.", {"callbacks": [recorder]}))[-1], Joke)
    (answering,) = recorder.of_kind("model")
    expected = MINI if method == "json_schema" else SMALL
    assert recorder.runs[answering].metadata["crossroute_model"] == expected


@pytest.mark.parametrize("way", WAYS)
async def test_structured_output_with_the_raw_message(way: str) -> None:
    chat = cheap(providers()).with_structured_output(Joke, include_raw=True)
    found = await output_of(way, chat, "Tell it.")
    assert isinstance(found["parsed"], Joke)
    assert found["parsing_error"] is None
    assert decision_of(found["raw"])["model"] == SMALL
    assert decision_of(found["raw"])["realised"]["input_tokens"] == 8


# ChatOpenAI's own warning when it streams a parsed object; the bare client gives it too.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("way", CALLS)
async def test_structured_output_of_clients(
    way: str, method: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = person
    routed = make().with_structured_output(Person, method=method)
    assert (await chunks_of(way, routed, "Who wrote it? Answer in JSON."))[-1] == Person(
        name="Ada", age=36
    )
    (request,) = server.requests
    match method:
        case "json_schema":
            form = request.body["response_format"]
            assert form["type"] == "json_schema"
            assert set(form["json_schema"]["schema"]["properties"]) == {"name", "age"}
        case "function_calling":
            assert request.body["tools"][0]["function"]["name"] == "Person"
        case _:
            assert request.body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output_with_its_message(
    method: str, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(status=500)
    server.answers[LARGE] = person
    routed = make().with_structured_output(Person, method=method, include_raw=True)
    answer = await routed.ainvoke("Who wrote it? Answer in JSON.")
    assert answer["parsed"] == Person(name="Ada", age=36)
    assert decision_of(answer["raw"])["model"] == LARGE
    assert [attempt["model"] for attempt in decision_of(answer["raw"])["attempts"]] == [MINI]


async def test_a_refusal_of_structured_output(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(refusal="I would rather not.")
    server.answers[LARGE] = person
    routed = make(pass_refusals=True).with_structured_output(Person, method="json_schema")
    for way in ("invoke", "ainvoke"):
        assert (await chunks_of(way, routed, "Who?")) == [Person(name="Ada", age=36)]
    assert asked(server) == [MINI, LARGE] * 2


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("strategy", [Capital, ToolStrategy(Capital), ProviderStrategy(Capital)])
async def test_structured_output_of_an_agent(way: str, strategy: Any, router: CrossRouter) -> None:
    models = tool_callers()
    agent = agent_of(models, agent={"response_format": strategy}, willingness_to_pay=0)
    state = await run_agent(way, agent)
    assert state["structured_response"] == Capital(city="Paris")
    decision = state["crossroute"]
    if isinstance(strategy, ProviderStrategy):
        assert decision["removed"] == {
            SMALL: "structured_output is not among the capabilities in its descriptor"
        }
    else:
        # A model that calls tools gives structured output by a tool.
        assert decision["removed"] == {}
    assert answered(models) == {decision["model"]: 1}
    message = next(m for m in state["messages"] if isinstance(m, AIMessage))
    assert message.response_metadata["crossroute"]["model"] == decision["model"]
