"""A strategy with real clients: the bill is what the server counted, and it sees what they give."""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes_langchain import ALL_WAYS, CALLS, Recorder, Teller, answer_of, client
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute.strategies import Ask, Flow, Task
from crossroute.strategies import Reply as Heard
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable
from llamaindex_crossroute import CrossRouteLLM

MINI, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
REASONS = "gpt-5.4"
"""A model whose descriptor lists no log-probabilities."""

QUESTION = "Are there infinitely many primes?"
LOGPROBS = (-0.25, -0.5, -1.5)
LI_WAYS = ["chat", "achat", "stream_chat", "astream_chat", "complete", "stream_complete"]


@dataclass(frozen=True)
class DraftThenAnswer:
    """Drafts with the small model, and asks the large one."""

    def answer(self, task: Task) -> Flow:
        yield Ask(MINI, role="draft")
        return (yield Ask(LARGE))


@dataclass(frozen=True)
class Draft:
    """Drafts with a model, with log-probabilities where it can give them, and takes the draft."""

    model: str = MINI
    looks: bool = False
    fresh: bool = False
    heard: list[Heard] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        settings = {"logprobs": True} if task.can(self.model, "logprobs") else {}
        seen: list[int] = []

        def until(reply: Heard) -> bool:
            # One for each word that has come; an event of version v3 begins a block before them.
            assert len(reply.logprobs) - len(reply.text.split()) in (0, 1)
            seen.append(len(reply.logprobs))
            return False

        reply = yield Ask(
            self.model,
            role="draft",
            settings=settings,
            until=until if self.looks else None,
            fresh=self.fresh,
        )
        assert not self.looks or seen == sorted(seen)
        self.heard.append(reply)
        return reply


@pytest.fixture
def server() -> Any:
    with OpenAIServer() as server:
        server.answers = {
            MINI: Reply("I am small.", input_tokens=31, output_tokens=7, logprobs=LOGPROBS),
            LARGE: Reply("I am large.", input_tokens=33, output_tokens=9, logprobs=LOGPROBS),
            REASONS: Reply("I have thought.", input_tokens=35, output_tokens=90),
        }
        yield server


COUNTED = [(MINI, "draft", 31, 7, False), (LARGE, "answer", 33, 9, False)]


def asks(decision: dict[str, Any]) -> list[tuple[Any, ...]]:
    fields = ("model", "role", "input_tokens", "output_tokens", "estimated")
    return [tuple(ask[name] for name in fields) for ask in decision["bill"]["asks"]]


def chats(server: OpenAIServer, **settings: Any) -> dict[str, ChatOpenAI]:
    # As a user has them: nothing is said of the usage of streams.
    settings.setdefault("stream_usage", None)
    return {model: client(server, model, **settings) for model in (MINI, LARGE, REASONS)}


def llms(server: OpenAIServer, **settings: Any) -> dict[str, OpenAILike]:
    given: dict[str, Any] = {"is_chat_model": True, "max_retries": 0, **settings}
    return {
        model: OpenAILike(model=model, api_base=server.url, api_key="key", **given)
        for model in (MINI, LARGE, REASONS)
    }


async def li_answer(way: str, llm: CrossRouteLLM, **kwargs: Any) -> Any:
    given = [ChatMessage(QUESTION)] if "chat" in way else QUESTION
    outcome = getattr(llm, way)(given, **kwargs)
    if way.startswith("a"):
        outcome = await outcome
    if "astream" in way:
        return [chunk async for chunk in outcome][-1]
    return [*outcome][-1] if "stream" in way else outcome


# The bill


@pytest.mark.parametrize("way", CALLS)
async def test_in_langchain(way: str, server: OpenAIServer) -> None:
    chat = ChatCrossRoute(models=chats(server, stream_usage=True), strategy=DraftThenAnswer())
    answer = await answer_of(way, chat, QUESTION)
    assert answer.text == "I am large."
    decision = answer.response_metadata["crossroute"]
    assert asks(decision) == COUNTED
    costs = [ask["cost_usd"] for ask in decision["bill"]["asks"]]
    assert decision["bill"]["cost_usd"] == pytest.approx(sum(costs))
    assert [request.body["model"] for request in server.requests] == [MINI, LARGE]


def test_a_draft_that_fails(server: OpenAIServer) -> None:
    server.answers[MINI] = Reply("slow down", status=429)
    chat = ChatCrossRoute(models=chats(server), strategy=DraftThenAnswer())
    decision = chat.invoke(QUESTION).response_metadata["crossroute"]
    assert asks(decision) == [(MINI, "draft", 0, 0, True), COUNTED[1]]
    assert decision["attempts"][0]["model"] == MINI


def test_in_llamaindex(server: OpenAIServer) -> None:
    llm = CrossRouteLLM(models=llms(server), strategy=DraftThenAnswer())
    answer = llm.chat([ChatMessage(QUESTION)])
    assert answer.message.content == "I am large."
    assert asks(answer.additional_kwargs["crossroute"]) == COUNTED


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("way", [*CALLS, "v3", "av3"])
async def test_the_usage_of_a_streamed_draft_is_asked_for(
    way: str, looks: bool, server: OpenAIServer
) -> None:
    chat = ChatCrossRoute(models=chats(server), strategy=Draft(looks=looks))
    answer = await answer_of(way, chat, QUESTION)
    assert answer.text == "I am small."
    assert asks(answer.response_metadata["crossroute"]) == [COUNTED[0]]
    (request,) = server.requests
    streams = looks or "invoke" not in way
    options = {"include_usage": True} if streams else None
    assert (bool(request.body.get("stream")), request.body.get("stream_options")) == (
        streams,
        options,
    )


def test_a_model_that_is_not_to_say_its_usage_is_not_asked_for_it(server: OpenAIServer) -> None:
    models = chats(server, stream_usage=False)
    chat = ChatCrossRoute(models=models, strategy=Draft(looks=True))
    decision = chat.invoke(QUESTION).response_metadata["crossroute"]
    assert "stream_options" not in server.requests[0].body
    assert decision["bill"]["estimated"]


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("way", LI_WAYS)
async def test_the_usage_of_a_streamed_draft_in_llamaindex(
    way: str, looks: bool, server: OpenAIServer
) -> None:
    llm = CrossRouteLLM(models=llms(server), strategy=Draft(looks=looks))
    answer = await li_answer(way, llm)
    assert asks(answer.additional_kwargs["crossroute"]) == [COUNTED[0]]
    (request,) = server.requests
    assert request.body.get("stream_options") == ({"include_usage": True} if looks else None)


# Log-probabilities


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("way", ALL_WAYS)
async def test_a_strategy_sees_log_probabilities(
    way: str, looks: bool, server: OpenAIServer
) -> None:
    strategy = Draft(looks=looks and "v3" not in way)
    chat = ChatCrossRoute(models=chats(server), strategy=strategy)
    answer = await answer_of(way, chat, QUESTION)
    assert server.requests[0].body["logprobs"] is True
    assert [reply.logprobs for reply in strategy.heard] == [list(LOGPROBS)]
    # The caller did not ask for them.
    assert answer.text == "I am small."
    assert not {"logprobs", "logprobs_result"} & answer.response_metadata.keys()
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("way", LI_WAYS)
async def test_a_strategy_sees_log_probabilities_in_llamaindex(
    way: str, looks: bool, server: OpenAIServer
) -> None:
    strategy = Draft(looks=looks)
    answer = await li_answer(way, CrossRouteLLM(models=llms(server), strategy=strategy))
    assert server.requests[0].body["logprobs"] is True
    assert [reply.logprobs for reply in strategy.heard] == [list(LOGPROBS)]
    assert answer.logprobs is None


@pytest.mark.parametrize("way", CALLS)
async def test_a_model_that_has_none_is_not_asked_for_them(way: str, server: OpenAIServer) -> None:
    strategy = Draft(REASONS)
    answer = await answer_of(way, ChatCrossRoute(models=chats(server), strategy=strategy), QUESTION)
    assert answer.text == "I have thought."
    li_strategy = Draft(REASONS)
    CrossRouteLLM(models=llms(server), strategy=li_strategy).complete(QUESTION)
    assert len(server.requests) == 2
    assert not any("logprobs" in request.body for request in server.requests)
    assert strategy.heard[0].logprobs == li_strategy.heard[0].logprobs == []


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("by", ["call", "model", "binding"])
async def test_a_caller_keeps_what_it_asks_for(way: str, by: str, server: OpenAIServer) -> None:
    strategy = Draft()
    models: dict[str, Any] = dict(chats(server, logprobs=True if by == "model" else None))
    if by == "binding":
        models = {name: model.bind(logprobs=True) for name, model in models.items()}
    chat = ChatCrossRoute(models=models, strategy=strategy)
    given = {"logprobs": True} if by == "call" else {}
    answer = await answer_of(way, chat, QUESTION, **given)
    found = [token["logprob"] for token in answer.response_metadata["logprobs"]["content"]]
    assert found == strategy.heard[0].logprobs == list(LOGPROBS)


async def test_a_caller_keeps_what_it_asks_for_in_llamaindex(server: OpenAIServer) -> None:
    strategy = Draft()
    models = llms(server)
    answer = await li_answer("chat", CrossRouteLLM(models=models, strategy=strategy), logprobs=True)
    assert answer.logprobs is not None
    own = llms(server, logprobs=True, top_logprobs=0)
    answer = await li_answer("chat", CrossRouteLLM(models=own, strategy=strategy))
    assert answer.logprobs is not None
    assert [reply.logprobs for reply in strategy.heard] == [list(LOGPROBS)] * 2


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_chain_is_asked_as_its_model_is(way: str, server: OpenAIServer) -> None:
    strategy = Draft()
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    chains = {name: prompt | model | StrOutputParser() for name, model in chats(server).items()}
    routed = CrossRouteRunnable(
        models=chains, strategy=strategy, query=lambda value: value["question"]
    )
    assert await answer_of(way, routed, {"question": QUESTION}) == "I am small."
    assert server.requests[0].body["logprobs"] is True
    assert strategy.heard[0].logprobs == list(LOGPROBS)


@pytest.mark.parametrize("looks", [False, True])
async def test_those_of_a_refusal_are_not_of_an_answer(looks: bool, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(refusal="I will not.", logprobs=LOGPROBS)
    strategy = Draft(looks=looks)
    ChatCrossRoute(models=chats(server), strategy=strategy).invoke(QUESTION)
    CrossRouteLLM(models=llms(server), strategy=strategy).chat([ChatMessage(QUESTION)])
    assert [request.body["logprobs"] for request in server.requests] == [True, True]
    # LangChain's streams drop what OpenAI marks a refusal with.
    assert [reply.refused for reply in strategy.heard] == [not looks, True]
    assert [reply.logprobs for reply in strategy.heard] == [[], []]


def test_the_responses_api_is_asked_without(server: OpenAIServer) -> None:
    strategy = Draft()
    models = chats(server, use_responses_api=True)
    with pytest.raises(Exception, match="There is no /v1/responses"):
        ChatCrossRoute(models=models, strategy=strategy).invoke(QUESTION)
    (request,) = server.requests
    assert request.path == "/v1/responses"
    assert not {"logprobs", "include"} & request.body.keys()


# Samples


@dataclass(frozen=True)
class Samples:
    """Asks one model several times, one after the other; the last sample is the answer."""

    fresh: bool = True
    heard: list[str] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        reply = None
        for _ in range(3):
            reply = yield Ask(MINI, role="draft", fresh=self.fresh)
            self.heard.append(reply.text)
        return reply


CACHED: dict[str, Callable[[InMemoryCache], dict[str, Any]]] = {
    "of all": lambda cache: {},
    "of the model": lambda cache: {"cache": cache},
}


@pytest.mark.parametrize("form", ["model", "binding", "chain"])
@pytest.mark.parametrize("cached", CACHED)
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_fresh_answer_is_from_no_cache(
    way: str, cached: str, form: str, server: OpenAIServer
) -> None:
    server.answers[MINI] = [Reply("one"), Reply("two"), Reply("three"), Reply("four")]
    cache = InMemoryCache()
    models: dict[str, Any] = dict(chats(server, **CACHED[cached](cache)))
    if form == "binding":
        models = {name: model.bind(seed=1) for name, model in models.items()}
    elif form == "chain":
        prompt = ChatPromptTemplate.from_messages(["{question}"])
        models = {name: prompt | model for name, model in models.items()}
    value = {"question": QUESTION}
    set_llm_cache(cache if cached == "of all" else None)
    try:
        for fresh, expected in [(True, ["one", "two", "three"]), (False, ["four"] * 3)]:
            strategy = Samples(fresh)
            routed = CrossRouteRunnable(
                models=models,
                strategy=strategy,
                query=(lambda value: value["question"]) if form == "chain" else None,
            )
            answer = await answer_of(way, routed, value if form == "chain" else QUESTION)
            assert answer.text == expected[-1]
            assert strategy.heard == expected
            # What is fresh went into no cache either.
            assert len(cache._cache) == (0 if fresh else 1)
    finally:
        set_llm_cache(None)


def test_samples_in_llamaindex_are_fresh(server: OpenAIServer) -> None:
    server.answers[MINI] = [Reply("one"), Reply("two"), Reply("three")]
    strategy = Samples()
    CrossRouteLLM(models=llms(server), strategy=strategy).complete(QUESTION)
    assert strategy.heard == ["one", "two", "three"]


# A draft that becomes the answer


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_a_draft_that_becomes_the_answer(way: str, server: OpenAIServer) -> None:
    teller, runs = Teller(), Recorder()
    chat = ChatCrossRoute(models=chats(server), strategy=Draft())
    answer = await answer_of(way, chat, QUESTION, {"callbacks": [teller, runs]})
    assert answer.text == "I am small."
    decision = answer.response_metadata["crossroute"]
    assert decision["model"] == MINI
    assert asks(decision) == [COUNTED[0]]
    # Nobody was shown its tokens while they were made, yet its run was seen.
    assert teller.told == runs.tokens == []
    assert [run.metadata["crossroute_role"] for run in runs.models] == ["draft"]


async def test_events_of_a_draft_that_becomes_the_answer(server: OpenAIServer) -> None:
    chat = ChatCrossRoute(models=chats(server), strategy=Draft())
    events = [event async for event in chat.astream_events(QUESTION, version="v2")]
    assert not [event for event in events if event["event"] == "on_chat_model_stream"]
    parts = [e["data"]["chunk"] for e in events if e["event"] == "on_chain_stream"]
    assert "".join(part.text for part in parts) == "I am small."


@pytest.mark.parametrize("strategy", [Draft(), Draft(looks=True), DraftThenAnswer()])
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_shows_a_reader_the_answer_once(
    asynchronous: bool, streams: bool, strategy: Any, server: OpenAIServer
) -> None:
    chat = ChatCrossRoute(models=chats(server), strategy=strategy)

    def call(state: MessagesState) -> Any:
        return {"messages": [chat.invoke(state["messages"], stream=streams)]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"], stream=streams)]}

    graph = StateGraph(MessagesState).add_node("call", acall if asynchronous else call)
    app = graph.add_edge(START, "call").compile()
    given = {"messages": [HumanMessage(QUESTION)]}
    if asynchronous:
        shown = [part async for part in app.astream(given, stream_mode="messages")]
    else:
        shown = list(app.stream(given, stream_mode="messages"))
    large = isinstance(strategy, DraftThenAnswer)
    text = "".join(message.text for message, _ in shown)
    assert text == ("I am large." if large else "I am small.")
    assert {request.body["model"] for request in server.requests} == {MINI} | (
        {LARGE} if large else set()
    )


@pytest.mark.parametrize("strategy", [Draft(), Draft(looks=True), DraftThenAnswer()])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_shows_a_reader_the_answer_once(
    asynchronous: bool, strategy: Any, server: OpenAIServer
) -> None:
    models = chats(server)
    middleware = CrossRouteMiddleware(models, strategy=strategy)
    agent = create_agent(models[REASONS], [], middleware=[middleware])
    given: Any = {"messages": [HumanMessage(QUESTION)]}
    if asynchronous:
        shown = [part async for part in agent.astream(given, stream_mode="messages")]
    else:
        shown = list(agent.stream(given, stream_mode="messages"))
    text = "".join(message.text for message, _ in shown)
    assert text == ("I am large." if isinstance(strategy, DraftThenAnswer) else "I am small.")


@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable, CrossRouteLLM])
def test_a_strategy_knows_the_descriptors_of_the_candidates(
    kind: Any, server: OpenAIServer
) -> None:
    seen: list[Task] = []

    class Look:
        def answer(self, task: Task) -> Flow:
            seen.append(task)
            return (yield Ask(MINI))

    langchain = kind is not CrossRouteLLM
    routed = kind(models=chats(server) if langchain else llms(server), strategy=Look())
    routed.invoke(QUESTION) if langchain else routed.complete(QUESTION)
    (task,) = seen
    assert {*task.pool} == {MINI, LARGE, REASONS}
    assert [task.can(model, "logprobs") for model in (MINI, LARGE, REASONS, "?")] == [
        *(True, True),
        *(False, False),
    ]
    assert task.pool[MINI].price is not None
