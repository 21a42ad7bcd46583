"""Whether one would notice that a router stands where a chat model stood: in agents, in traces."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from fakes_langchain import INVOKES, LARGE, MINI, QUESTION, TEXT, Person, cheap, weather
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError, ModelRateLimitError
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from openai_server import OpenAIServer
from pydantic import Field

from crossroute import CrossRouter, NoCandidateError, Provider
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable
from langchain_crossroute.lazy import LazyChatModel

react = pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
BLANK: list[Any] = [
    "",
    "  \n",
    [],
    [HumanMessage("")],
    [HumanMessage([{"type": "unheard_of"}])],
    [SystemMessage("Be brief.")],
    [("user", "")],
]
Order = Callable[[Any, Any], list[Any]]


@tool
def news(topic: str) -> str:
    """Tell the news."""
    return f"Nothing new about {topic}."


class Fake(BaseChatModel):
    """Answers with how often it was asked; what is asked of it can be changed and is remembered."""

    model_name: str = "fake"
    kind: str = "fake"
    provider: str = "somebody"
    model_provider: str = "somebody"
    temperature: float | None = None
    errors: list[Exception] = Field(default_factory=list)
    count: int = 0
    given: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return self.kind

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_provider": self.provider}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        # Assigned, and not changed in place: a copy of the model would keep it for itself.
        self.count += 1
        self.given.append({"messages": messages, **kwargs})
        if self.errors:
            raise self.errors.pop(0)
        message = AIMessage(
            f"answer {self.count}",
            response_metadata={"model_provider": self.model_provider},
            usage_metadata={"input_tokens": 5000, "output_tokens": 5, "total_tokens": 5005},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def two(**settings: Any) -> dict[str, Any]:
    return {model: Fake(model_name=model, **settings) for model in (LARGE, MINI)}


async def call(way: str, runnable: Any, value: Any = QUESTION, config: Any = None) -> Any:
    if way == "invoke":
        return runnable.invoke(value, config)
    return await runnable.ainvoke(value, config)


def start(*messages: Any) -> Any:
    return {"messages": list(messages) or [HumanMessage(QUESTION)]}


# Tools that are bound


@pytest.fixture
def chat(server: OpenAIServer) -> ChatCrossRoute:
    """A router over real clients that prefers MINI."""
    return cheap(
        {
            model: ChatOpenAI(model=model, base_url=server.url, api_key="key", max_retries=0)
            for model in (LARGE, MINI)
        }
    )


def test_bound_tools_are_seen_as_with_a_bare_model(chat: ChatCrossRoute) -> None:
    bare: Any = chat.models[MINI]
    settings: dict[str, Any] = {"parallel_tool_calls": False, "strict": True}
    bound: Any = chat.bind_tools([weather], **settings)
    expected = bare.bind_tools([weather], parallel_tool_calls=False)
    assert bound.kwargs["tools"] == expected.kwargs["tools"]
    assert bound.kwargs["parallel_tool_calls"] is False
    assert bound.kwargs["strict"] is True
    assert "tool_choice" not in bound.kwargs
    assert chat.bind_tools([], tool_choice="any").kwargs["tools"] == []  # type: ignore[attr-defined]


@react
@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("piped", [False, True])
async def test_what_is_bound_is_kept_by_an_agent(
    way: str, piped: bool, chat: ChatCrossRoute, server: OpenAIServer
) -> None:
    bound: Any = chat.bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    if piped:
        bound = RunnableLambda(lambda messages: messages) | bound
    agent = create_react_agent(bound, [weather])
    state = await call(way, agent, start())
    assert state["messages"][-1].text == TEXT
    (request,) = server.requests
    assert [t["function"]["name"] for t in request.body["tools"]] == ["weather"]
    assert request.body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert request.body["parallel_tool_calls"] is False


@react
def test_other_tools_than_the_agents_are_an_error(chat: ChatCrossRoute) -> None:
    for model in (chat.models[MINI], chat):
        with pytest.raises(ValueError, match="Number of tools"):
            create_react_agent(model.bind_tools([weather, news]), [weather])  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="Missing tools"):
            create_react_agent(model.bind_tools([news]), [weather])  # type: ignore[attr-defined]


@react
async def test_what_langgraph_supervisor_does(chat: ChatCrossRoute, server: OpenAIServer) -> None:
    # It looks for the argument in the signature, binds, and pipes to put agents' names inline.
    assert "parallel_tool_calls" in inspect.signature(chat.bind_tools).parameters
    bound = chat.bind_tools([weather], parallel_tool_calls=False)
    inline: Any = RunnableLambda(lambda messages: messages) | bound | RunnableLambda(lambda m: m)
    state = await create_react_agent(inline, [weather], name="supervisor").ainvoke(start())
    assert state["messages"][-1].name == "supervisor"
    assert server.requests[0].body["parallel_tool_calls"] is False


@pytest.mark.parametrize("way", INVOKES)
async def test_a_call_may_change_what_is_bound(
    way: str, chat: ChatCrossRoute, server: OpenAIServer
) -> None:
    bound = chat.bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    await call(way, bound.bind(tool_choice="none", parallel_tool_calls=True))
    (request,) = server.requests
    assert request.body["tool_choice"] == "none"
    assert request.body["parallel_tool_calls"] is True
    assert len(request.body["tools"]) == 1


@pytest.mark.parametrize("way", INVOKES)
async def test_what_nobody_gave_is_not_passed_on(way: str) -> None:
    class Picky(Fake):
        def bind_tools(self, tools: Any) -> Runnable[Any, AIMessage]:
            return self.bind(tools=[tool.name for tool in tools])

        def with_structured_output(self, schema: Any) -> Any:
            return self | RunnableLambda(lambda message: schema(name=message.text, age=36))

    models: Any = {model: Picky(model_name=model) for model in (LARGE, MINI)}
    await call(way, cheap(models).bind_tools([weather]))
    assert [set(given) for given in models[MINI].given] == [{"messages", "tools"}]
    assert models[MINI].given[0]["tools"] == ["weather"]
    found = await call(way, cheap(models).with_structured_output(Person))
    assert found == Person(name="answer 2", age=36)


# What all candidates share


def test_the_provider_is_that_of_all_candidates() -> None:
    params: Any = cheap(two(provider="openai", temperature=0.3))._get_ls_params()
    assert params["ls_provider"] == "openai"
    assert params["ls_temperature"] == 0.3
    assert params["ls_model_name"] == "ChatCrossRoute"
    assert cheap(two(provider="openai"), temperature=0.5)._get_ls_params() == {
        "ls_provider": "openai",
        "ls_model_type": "chat",
        "ls_model_name": "ChatCrossRoute",
        "ls_temperature": 0.5,
    }
    models = two(provider="openai")
    models[MINI] = Fake(provider="anthropic", temperature=0.1).bind(stop=["x"])
    params = cheap(models)._get_ls_params(model=MINI)
    assert params["ls_provider"] == "crossroute"
    assert params["ls_model_name"] == MINI
    assert "ls_temperature" not in params
    strangers: Any = {model: RunnableLambda(str) for model in (LARGE, MINI)}
    assert cheap(strangers)._get_ls_params()["ls_provider"] == "crossroute"


def test_the_provider_of_models_that_are_not_built_is_that_of_the_descriptor() -> None:
    models: Any = {
        model: LazyChatModel(model, Provider(chat_model=f"anthropic:{model}"))
        for model in (LARGE, MINI)
    }
    assert cheap(models)._get_ls_params()["ls_provider"] == "anthropic"
    assert cheap(models)._llm_type == "crossroute"


@pytest.mark.parametrize("way", INVOKES)
async def test_reported_tokens_trigger_a_summary(way: str) -> None:
    summarizer = FakeListChatModel(responses=["Summary."])
    shared = {"provider": "openai", "model_provider": "openai"}
    for models, expected in ((two(**shared), True), (two(**shared) | {MINI: Fake()}, False)):
        chat = cheap(models)
        middleware: Any = SummarizationMiddleware(
            model=chat, trigger=("tokens", 4000), keep=("messages", 1), summarizer=summarizer
        )
        # Few words, but the provider reported many tokens.
        first = await call(way, chat.bind(model=LARGE))
        state = start(HumanMessage("Hello."), first, HumanMessage("Go on."))
        found = middleware.before_model(state, None)
        assert (found is not None) is expected


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("kind", ["anthropic-chat", "fake"])
async def test_cache_markers_survive_a_fallback_to_candidates_that_take_them(
    way: str, kind: str
) -> None:
    class Marking(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(model_settings={"cache_control": {"type": "x"}}))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(model_settings={"cache_control": {"type": "x"}}))

    models = two(kind=kind)
    down = Fake(kind="anthropic-chat", errors=[ModelRateLimitError("429")])
    agent: Any = create_agent(down, middleware=[Marking(), ModelFallbackMiddleware(cheap(models))])
    state = await call(way, agent, start())
    assert state["messages"][-1].text == "answer 1"
    assert ("cache_control" in models[MINI].given[0]) is (kind == "anthropic-chat")


def test_a_smaller_profile_holds(router: CrossRouter) -> None:
    models = two(profile={"max_input_tokens": 1000})
    chat = cheap(models)
    profile: Any = chat.profile
    assert profile["max_input_tokens"] == 1000
    with pytest.raises(NoCandidateError, match="its context window of 1000 tokens"):
        chat.invoke("word " * 1500)
    routed = CrossRouteMiddleware(models)
    agent: Any = create_agent(models[MINI], middleware=[routed])
    with pytest.raises(NoCandidateError, match="its context window of 1000 tokens"):
        agent.invoke(start(HumanMessage("word " * 1500)))
    # A profile that says more does not make the descriptor's window wider.
    wide: Any = cheap(two(profile={"max_input_tokens": 10**6})).profile
    assert wide["max_input_tokens"] == router.pool[MINI].context_window_tokens


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])
async def test_a_request_that_is_too_long_is_langchains_error_too(
    way: str, kind: type[Any]
) -> None:
    routed = kind(models=two(profile={"max_input_tokens": 1000}))
    with pytest.raises(ContextOverflowError) as raised:
        await call(way, routed, "word " * 1500)
    assert isinstance(raised.value, NoCandidateError)
    assert set(raised.value.removed) == {MINI, LARGE}
    # What a shorter request would not mend is another matter.
    with pytest.raises(NoCandidateError) as raised_for_all:
        await call(way, routed, config={"configurable": {"crossroute_excluded": [MINI, LARGE]}})
    assert not isinstance(raised_for_all.value, ContextOverflowError)


def test_a_history_that_no_candidate_can_take_is_summarized_in_parts() -> None:
    models = two(profile={"max_input_tokens": 3000})
    middleware = SummarizationMiddleware(
        model=cheap(models), trigger=("messages", 4), trim_tokens_to_summarize=None
    )
    history: Any = [HumanMessage("word " * 500) for _ in range(10)]
    assert middleware._create_summary(history) == "answer 1"


# Blank input


@pytest.mark.parametrize("way", [*INVOKES, "stream", "astream"])
@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])
@pytest.mark.parametrize("value", BLANK, ids=repr)
async def test_blank_input_is_answered(way: str, kind: type[Any], value: Any) -> None:
    routed = kind(models=two())
    match way:
        case "stream":
            (answer,) = routed.stream(value)
        case "astream":
            (answer,) = [chunk async for chunk in routed.astream(value)]
        case _:
            answer = await call(way, routed, value)
    assert answer.text == "answer 1"
    is_blank = "Be brief." not in str(value)
    assert answer.response_metadata["crossroute"]["blank"] is is_blank


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("messages", [[], [HumanMessage("")]], ids=repr)
async def test_blank_input_of_an_agent_is_answered(way: str, messages: list[Any]) -> None:
    models = two()
    agent: Any = create_agent(models[MINI], middleware=[CrossRouteMiddleware(models)])
    state = await call(way, agent, {"messages": messages})
    assert state["messages"][-1].text == "answer 1"
    assert state["crossroute"]["blank"] is True


# The middleware


@pytest.mark.parametrize("way", INVOKES)
async def test_the_middleware_asks_the_models_themselves(way: str) -> None:
    models = two()
    seen: list[Any] = []

    class Looking(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            seen.append(request.model)
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            seen.append(request.model)
            return await handler(request)

    routed = CrossRouteMiddleware(models, willingness_to_pay=0)
    agent: Any = create_agent(models[LARGE], middleware=[routed, Looking()])
    for number in (1, 2, 3):
        state = await call(way, agent, start())
        assert state["messages"][-1].text == f"answer {number}"
    assert models[MINI].count == 3
    assert all(model is models[MINI] for model in seen)


@pytest.mark.parametrize("way", INVOKES)
async def test_what_runs_after_a_routed_call_is_not_marked_as_one(way: str) -> None:
    runs: list[dict[str, Any]] = []

    class Runs(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, metadata: Any, **kwargs: Any) -> None:
            runs.append(metadata)

    other = Fake()

    class Asking(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            other.invoke("before")
            found = handler(request)
            other.invoke("after")
            return found

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await other.ainvoke("before")
            found = await handler(request)
            await other.ainvoke("after")
            return found

    models = two()
    routed = CrossRouteMiddleware(models, willingness_to_pay=0)
    agent: Any = create_agent(models[LARGE], middleware=[Asking(), routed])
    await call(way, agent, start(), {"callbacks": [Runs()]})
    assert [metadata.get("crossroute_model") for metadata in runs] == [None, MINI, None]


def failing(times: int) -> dict[str, Any]:
    return {
        model: Fake(model_name=model, errors=[ModelRateLimitError("429")] * times)
        for model in (LARGE, MINI)
    }


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize(
    ("order", "asked"),
    [
        # As docs/langchain/middleware.md says.
        (lambda routing, retry: [retry, routing], {MINI: 2, LARGE: 2}),
        (lambda routing, retry: [routing, retry], {MINI: 2, LARGE: 2}),
    ],
)
async def test_with_retries_the_attempts_multiply(
    way: str, order: Order, asked: dict[str, int]
) -> None:
    models = failing(9)
    retry: Any = ModelRetryMiddleware(max_retries=1, on_failure="error", initial_delay=0)
    agent: Any = create_agent(
        models[MINI], middleware=order(CrossRouteMiddleware(models, willingness_to_pay=0), retry)
    )
    with pytest.raises(ModelRateLimitError):
        await call(way, agent, start())
    assert {model: fake.count for model, fake in models.items()} == asked


@pytest.mark.parametrize("way", INVOKES)
@pytest.mark.parametrize("inside", [True, False])
async def test_where_it_stands_beside_a_fallback_decides(way: str, inside: bool) -> None:
    models, spare = failing(1), Fake(model_name="spare")
    routing, fallback = (
        CrossRouteMiddleware(models, willingness_to_pay=0),
        ModelFallbackMiddleware(spare),
    )
    order: Any = [routing, fallback] if inside else [fallback, routing]
    agent: Any = create_agent(models[LARGE], middleware=order)
    await call(way, agent, start())
    # After it in the list, the fallback answers at the first failure; before it, it is overridden.
    assert spare.count == (1 if inside else 0)
    assert [models[MINI].count, models[LARGE].count] == ([1, 0] if inside else [2, 1])
