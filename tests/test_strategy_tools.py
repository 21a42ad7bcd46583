"""Strategies that give tools to models: what is sent of them, and what comes back, over HTTP."""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes_langchain import CALLS, Recorder, answer_of, client
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import MockLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute import StrategyError
from crossroute.cooldown import DEFAULT_COOLDOWN
from crossroute.strategies import Ask, Controller, Flow, Task, ToolCall, within
from crossroute.strategies import Reply as Heard
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable
from llamaindex_crossroute import CrossRouteLLM

MINI, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
QUESTION = "What is the weather in Lima and in Rome?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name."}},
            "required": ["city"],
        },
    },
}
LOOKS: tuple[tuple[str, Any], ...] = (("weather", {"city": "Lima"}), ("weather", {"city": "Rome"}))
FOUND = [
    ToolCall("weather", {"city": "Lima"}, "call_0"),
    ToolCall("weather", {"city": "Rome"}, "call_1"),
]
LI_WAYS = ["chat", "achat", "stream_chat", "astream_chat", "complete", "astream_complete"]


@dataclass(frozen=True)
class Looks:
    """Lets a model call a tool once, says what came of it, and takes what the model says then."""

    model: str = MINI
    looks_into: bool = False
    heard: list[Heard] = field(default_factory=list)
    calls: list[list[ToolCall]] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        until = (lambda reply: False) if self.looks_into else None
        first = yield Ask(self.model, tools=[WEATHER], role="control", until=until)
        self.heard.append(first)
        self.calls.append(first.tool_calls)
        if not first.tool_calls:
            return first
        asked = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": '{"city": "' + city + '"}'},
            }
            for call, city in zip(first.tool_calls, ("Lima", "Rome"), strict=True)
        ]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
            for call in first.tool_calls
        ]
        then = [{"role": "assistant", "content": "", "tool_calls": asked}, *results]
        return (yield Ask(self.model, tools=[WEATHER], then=then))


def _told(body: dict[str, Any]) -> Reply:
    if body["messages"][-1]["role"] == "tool":
        return Reply("It rains in both.")
    return Reply("Let me look.", tool_calls=LOOKS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with OpenAIServer({MINI: _told, LARGE: Reply("It is dry.")}) as server:
        yield server


def chats(server: OpenAIServer) -> dict[str, Any]:
    return {model: client(server, model) for model in (MINI, LARGE)}


def llms(server: OpenAIServer, **settings: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "is_chat_model": True,
        "is_function_calling_model": True,
        "max_retries": 0,
        **settings,
    }
    return {
        model: OpenAILike(model=model, api_base=server.url, api_key="key", **given)
        for model in (MINI, LARGE)
    }


async def li_answer(way: str, llm: CrossRouteLLM) -> Any:
    outcome = getattr(llm, way)([ChatMessage(QUESTION)] if "chat" in way else QUESTION)
    if way.startswith("a"):
        outcome = await outcome
    if "astream" in way:
        return [chunk async for chunk in outcome][-1]
    return [*outcome][-1] if "stream" in way else outcome


def check_wire(server: OpenAIServer) -> None:
    """What the server was sent, whatever the framework."""
    first, second = [request.body for request in server.requests]
    for body in (first, second):
        (tool,) = body["tools"]
        assert tool["function"]["name"] == "weather"
        assert tool["function"]["description"] == "The weather of a city."
        parameters = tool["function"]["parameters"]
        for name, value in WEATHER["function"]["parameters"].items():
            assert parameters[name] == value
        assert body.get("tool_choice") in (None, "auto")
        assert body.get("parallel_tool_calls") in (None, True)
    assert first["messages"][-1]["role"] == "user"
    asked, *results = second["messages"][1:]
    assert asked["role"] == "assistant"
    assert [call["id"] for call in asked["tool_calls"]] == ["call_0", "call_1"]
    assert [call["function"]["name"] for call in asked["tool_calls"]] == ["weather", "weather"]
    assert "Lima" in asked["tool_calls"][0]["function"]["arguments"]
    assert [(one["role"], one["tool_call_id"]) for one in results] == [
        ("tool", "call_0"),
        ("tool", "call_1"),
    ]
    assert all(one["content"] == "It rains." for one in results)


@pytest.mark.parametrize("looks_into", [False, True])
@pytest.mark.parametrize("way", [*CALLS, "v3", "av3"])
async def test_in_langchain(way: str, looks_into: bool, server: OpenAIServer) -> None:
    strategy, runs = Looks(looks_into=looks_into), Recorder()
    chat = ChatCrossRoute(models=chats(server), strategy=strategy)
    answer = await answer_of(way, chat, QUESTION, {"callbacks": [runs]})
    assert answer.text == "It rains in both."
    assert strategy.calls == [FOUND]
    assert strategy.heard[0].text == "Let me look."
    check_wire(server)
    # What it says beside its calls is shown to nobody.
    assert "look" not in "".join(runs.tokens)
    roles = [ask["role"] for ask in answer.response_metadata["crossroute"]["bill"]["asks"]]
    assert roles == ["control", "answer"]


@pytest.mark.parametrize("looks_into", [False, True])
@pytest.mark.parametrize("way", LI_WAYS)
async def test_in_llamaindex(way: str, looks_into: bool, server: OpenAIServer) -> None:
    strategy = Looks(looks_into=looks_into)
    answer = await li_answer(way, CrossRouteLLM(models=llms(server), strategy=strategy))
    text = answer.text if "complete" in way else answer.message.content
    assert text == "It rains in both."
    assert strategy.calls == [FOUND]
    check_wire(server)
    roles = [ask["role"] for ask in answer.additional_kwargs["crossroute"]["bill"]["asks"]]
    assert roles == ["control", "answer"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_in_an_agent(asynchronous: bool, server: OpenAIServer) -> None:
    strategy = Looks()
    middleware: Any = CrossRouteMiddleware(chats(server), strategy=strategy)
    app = create_agent(client(server, "never"), middleware=[middleware])
    state: Any = {"messages": [HumanMessage(QUESTION)]}
    state = await app.ainvoke(state) if asynchronous else app.invoke(state)
    assert [message.text for message in state["messages"]] == [QUESTION, "It rains in both."]
    assert strategy.calls == [FOUND]
    check_wire(server)


# Beside tools of the caller


@dataclass(frozen=True)
class Beside(Looks):
    """Lets a model call its own tool first, and then answer with the caller's."""

    takes_tools = True

    def answer(self, task: Task) -> Flow:
        reply = yield Ask(self.model, tools=[WEATHER], role="control")
        self.calls.append(reply.tool_calls)
        return (yield Ask(self.model))


def other(x: int) -> int:
    """Another tool."""
    return x


def check_beside(server: OpenAIServer, strategy: Beside) -> None:
    assert strategy.calls == [FOUND]
    first, second = [request.body for request in server.requests]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    assert first.get("tool_choice") in (None, "auto")
    assert [tool["function"]["name"] for tool in second["tools"]] == ["other"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("how", ["bound", "given", "agent"])
async def test_beside_tools_of_the_caller(
    how: str, asynchronous: bool, server: OpenAIServer
) -> None:
    server.answers[MINI] = [Reply("Look.", tool_calls=LOOKS), Reply("It rains.")]
    strategy = Beside()
    if how == "agent":
        middleware: Any = CrossRouteMiddleware(chats(server), strategy=strategy)
        app = create_agent(client(server, "never"), [other], middleware=[middleware])
        state: Any = {"messages": [HumanMessage(QUESTION)]}
        state = await app.ainvoke(state) if asynchronous else app.invoke(state)
        assert state["messages"][-1].text == "It rains."
    else:
        chat: Any = ChatCrossRoute(models=chats(server), strategy=strategy)
        bound = chat.bind_tools([other], tool_choice="other")
        given = {} if how == "bound" else bound.kwargs
        called = bound if how == "bound" else chat
        answer = (
            await called.ainvoke(QUESTION, **given)
            if asynchronous
            else called.invoke(QUESTION, **given)
        )
        assert answer.text == "It rains."
    check_beside(server, strategy)


@pytest.mark.parametrize("way", ["chat_with_tools", "astream_chat_with_tools"])
async def test_beside_tools_of_the_caller_in_llamaindex(way: str, server: OpenAIServer) -> None:
    server.answers[MINI] = [Reply("Look.", tool_calls=LOOKS), Reply("It rains.")]
    strategy = Beside()
    llm = CrossRouteLLM(models=llms(server), strategy=strategy)
    outcome = getattr(llm, way)(
        [FunctionTool.from_defaults(other)], QUESTION, tool_required=True, tool_choice="other"
    )
    if way.startswith("a"):
        *_, outcome = [chunk async for chunk in await outcome]
    assert outcome.message.content == "It rains."
    check_beside(server, strategy)


# A controller under a limit


def _expert(body: dict[str, Any]) -> Reply:
    return Reply("It rains.", output_tokens=body.get("max_completion_tokens") or body["max_tokens"])


def _controls(body: dict[str, Any]) -> Reply:
    if "tools" not in body:
        return Reply("Rain.", output_tokens=20)
    name = body["tools"][0]["function"]["name"]
    return Reply(tool_calls=((name, {"question": "Does it rain?"}),), output_tokens=30)


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("usd", [0.02, 0.0014])
@pytest.mark.parametrize("way", ["invoke", "astream", "chat", "astream_chat"])
async def test_a_controller_keeps_to_its_limit(
    way: str, usd: float, around: bool, server: OpenAIServer
) -> None:
    server.answers = {MINI: _controls, LARGE: _expert}
    strategy = within(usd, Controller()) if around else Controller(hard_max_cost_usd=usd)
    if "chat" in way:
        llm = CrossRouteLLM(models=llms(server), strategy=strategy)
        answer = await li_answer(way, llm)
        text, decision = answer.message.content, answer.additional_kwargs["crossroute"]
    else:
        answer = await answer_of(
            way, ChatCrossRoute(models=chats(server), strategy=strategy), QUESTION
        )
        text, decision = answer.text, answer.response_metadata["crossroute"]
    assert text == "Rain."
    roles = [ask["role"] for ask in decision["bill"]["asks"]]
    if usd > 0.01:
        # The expert takes all that it may: then there is nothing for another turn.
        assert roles == ["control", "draft", "answer"]
        assert decision["bill"]["cost_usd"] > usd / 2
    else:
        assert roles == ["control", "control", "control", "answer"]
        told = str(server.requests[1].body["messages"])
        assert "could cost more than is left for it" in told
    assert decision["bill"]["cost_usd"] <= usd


@pytest.mark.parametrize("way", ["invoke", "astream", "chat", "astream_chat"])
@pytest.mark.parametrize("code", ["invalid_request", "content_filter"])
async def test_a_question_that_is_wrong_costs_the_call_no_answer(
    code: str, way: str, server: OpenAIServer
) -> None:
    """The question is the controller's, so that it may be wrong where the call is not."""
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": code}
    wrong = Reply(status=400, raw=json.dumps({"error": error}))
    server.answers = {MINI: _controls, LARGE: wrong}
    strategy = Controller(MINI, rounds=1)

    async def text() -> str:
        if "chat" in way:
            llm = CrossRouteLLM(models=llms(server), strategy=strategy)
            return str((await li_answer(way, llm)).message.content)
        chat = ChatCrossRoute(models=chats(server), strategy=strategy)
        return str((await answer_of(way, chat, QUESTION)).text)

    assert await text() == "Rain."
    # What is the caller's is wrong for all.
    server.answers = {MINI: wrong, LARGE: _expert}
    with pytest.raises(Exception, match="400"):
        await text()


def test_nobody_rests_for_a_question_that_is_wrong(server: OpenAIServer) -> None:
    server.answers = {MINI: _controls, LARGE: Reply("No.", status=400)}
    chat = ChatCrossRoute(models=chats(server), strategy=Controller(MINI, rounds=1))
    roles = ["control", "draft", "answer"]
    for _ in range(2 * DEFAULT_COOLDOWN.failures):
        bill = chat.invoke(QUESTION).response_metadata["crossroute"]["bill"]
        assert [ask["role"] for ask in bill["asks"]] == roles
    # For one that is not answered it does.
    server.answers[LARGE] = Reply("Slow.", status=429)
    for _ in range(DEFAULT_COOLDOWN.failures + 1):
        bill = chat.invoke(QUESTION).response_metadata["crossroute"]["bill"]
    assert [ask["role"] for ask in bill["asks"]] == ["answer"]


@dataclass(frozen=True)
class Aside:
    """Asks something of its own, and then what the caller asks."""

    def answer(self, task: Task) -> Flow:
        question = {"role": "user", "content": "Which city?"}
        yield Ask(LARGE, keep=(), then=[question], role="draft")
        return (yield Ask(MINI))


@pytest.mark.parametrize("way", ["invoke", "chat"])
def test_a_question_of_its_own_is_not_asked_in_the_form_of_the_answer(
    way: str, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("{}")
    form = {"type": "json_object"}
    if way == "chat":
        llm = CrossRouteLLM(models=llms(server), strategy=Aside())
        llm.chat([ChatMessage("As JSON, please.")], response_format=form)
    else:
        chat = ChatCrossRoute(models=chats(server), strategy=Aside())
        chat.invoke("As JSON, please.", response_format=form)
    assert [request.body.get("response_format") for request in server.requests] == [None, form]


# What a model writes as arguments

ODD: list[tuple[Any, Any]] = [
    ('{"city": "Lim', {}),
    ("", {}),
    ('["Lima"]', {}),
    ("[" * 20_000, {}),
    ('{"city": "L\u00edma \ud83c\udf27\n"}', {"city": "L\u00edma \U0001f327\n"}),
]


@pytest.mark.parametrize(("sent", "found"), ODD, ids=["cut", "none", "list", "deep", "unicode"])
@pytest.mark.parametrize("way", ["invoke", "stream"])
async def test_odd_arguments_in_langchain(
    way: str, sent: str, found: Any, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("Hm.", tool_calls=(("weather", sent), ("other", {"a": 1})))
    strategy = Once()
    await answer_of(way, ChatCrossRoute(models=chats(server), strategy=strategy), QUESTION)
    if way == "invoke" and sent == '["Lima"]':
        # LangChain's own message takes no such arguments.
        assert strategy.heard[0].failed
    else:
        _same(strategy.calls[0], found)


@pytest.mark.parametrize(("sent", "found"), ODD, ids=["cut", "none", "list", "deep", "unicode"])
@pytest.mark.parametrize("way", ["chat", "stream_chat"])
async def test_odd_arguments_in_llamaindex(
    way: str, sent: str, found: Any, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply("Hm.", tool_calls=(("weather", sent), ("other", {"a": 1})))
    strategy = Once()
    await li_answer(way, CrossRouteLLM(models=llms(server), strategy=strategy))
    _same(strategy.calls[0], found)


def _same(calls: Sequence[ToolCall], found: Any) -> None:
    # LangChain lists those that cannot be read after the others.
    in_order = sorted(calls, key=lambda call: call.id)
    assert in_order == [ToolCall("weather", found, "call_0"), ToolCall("other", {"a": 1}, "call_1")]


@dataclass(frozen=True)
class Once(Looks):
    """Lets a model call tools, and takes what another one says."""

    def answer(self, task: Task) -> Flow:
        reply = yield Ask(self.model, tools=[WEATHER], role="control")
        self.heard.append(reply)
        self.calls.append(reply.tool_calls)
        return (yield Ask(LARGE))


def test_no_calls_are_none(server: OpenAIServer) -> None:
    strategy = Looks(LARGE)
    chat = ChatCrossRoute(models=chats(server), strategy=strategy)
    assert chat.invoke(QUESTION).text == "It is dry."
    llm = CrossRouteLLM(models=llms(server), strategy=strategy)
    assert llm.complete(QUESTION).text == "It is dry."
    assert strategy.calls == [[], []]


# Models of other kinds


def test_what_is_bound_to_a_candidate_stays(server: OpenAIServer) -> None:
    strategy = Looks()
    models = {
        model: chat.bind_tools([other], tool_choice="other", parallel_tool_calls=False).bind(seed=7)
        for model, chat in chats(server).items()
    }
    assert (
        CrossRouteRunnable(models=models, strategy=strategy).invoke(QUESTION).text.startswith("It")
    )
    assert [request.body["seed"] for request in server.requests] == [7, 7]
    # But for its tools, as those of the ask stand in their place.
    check_wire(server)


@pytest.mark.parametrize("kind", ["chain", "model"])
def test_a_candidate_that_binds_no_tools(kind: str, server: OpenAIServer) -> None:
    models: dict[str, Any] = {
        model: chat | StrOutputParser() if kind == "chain" else FakeListChatModel(responses=["x"])
        for model, chat in chats(server).items()
    }
    with pytest.raises(StrategyError, match=f"asks '{MINI}' with tools, which a .* cannot bind"):
        CrossRouteRunnable(models=models, strategy=Looks()).invoke(QUESTION)
    assert server.requests == []


def test_an_llm_that_calls_no_tools() -> None:
    models = {MINI: MockLLM(), LARGE: MockLLM()}
    with pytest.raises(StrategyError, match=f"asks '{MINI}' with tools, which .* cannot call"):
        CrossRouteLLM(models=models, strategy=Looks()).complete(QUESTION)


def test_an_llm_whose_client_does_not_say_that_it_calls_tools(server: OpenAIServer) -> None:
    # As OpenAILike is, if it is not told otherwise; tools of the caller go to it, too.
    models = llms(server, is_function_calling_model=False)
    assert CrossRouteLLM(models=models, strategy=Looks()).complete(QUESTION).text.startswith("It")
    check_wire(server)


class Whole(FakeListChatModel):
    """Cannot stream, and some of its calls cannot be read."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._generate(*args, **kwargs)
        result.generations[0].message = AIMessage(
            "Hm.",
            tool_calls=[{"name": "weather", "args": {"city": "Lima"}, "id": None}],
            invalid_tool_calls=[{"name": None, "args": "{", "id": "2", "error": None}],
        )
        return result

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class Other(MockLLM):
    """Leaves its calls where only it knows to find them."""

    @property
    def metadata(self) -> Any:
        update = {"is_function_calling_model": True, "is_chat_model": True}
        return super().metadata.model_copy(update=update)

    def chat_with_tools(self, tools: Any, chat_history: Any = None, **kwargs: Any) -> Any:
        made = ChatMessage("", role="assistant", additional_kwargs={"tool_calls": ["weather"]})
        return ChatResponse(message=made)

    def get_tool_calls_from_response(self, response: Any, **kwargs: Any) -> list[ToolSelection]:
        assert response.message.additional_kwargs["tool_calls"] == ["weather"]
        return [ToolSelection(tool_id="1", tool_name="weather", tool_kwargs={"city": "Lima"})]


def test_calls_of_other_models() -> None:
    strategy = Once()
    whole = {model: Whole(responses=["x"]) for model in (MINI, LARGE)}
    ChatCrossRoute(models=whole, strategy=strategy).invoke(QUESTION)
    CrossRouteLLM(models={MINI: Other(), LARGE: Other()}, strategy=strategy).complete(QUESTION)
    assert strategy.calls == [
        [ToolCall("weather", {"city": "Lima"}, ""), ToolCall("", {}, "2")],
        [ToolCall("weather", {"city": "Lima"}, "1")],
    ]
