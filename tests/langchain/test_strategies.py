"""A strategy of one's own, in every form in which LangChain calls a model."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from fakes_langchain import (
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    WAYS,
    Recorder,
    ScriptedChatModel,
    answer_of,
    output_of,
)
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from crossroute import ConstraintError, CostLimitError, CrossRouter, Query
from crossroute.query import estimate_tokens
from crossroute.strategies import Ask, Flow, GoOn, PickOne, Show, Task, within
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRunnable,
)
from langchain_crossroute.metadata import cut

BOTH = pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])


@dataclass(frozen=True)
class Unsure:
    """Drafts with one model, and asks another one where the draft has a certain text in it."""

    draft: str
    other: str
    text: str
    takes_tools: bool = False

    def answer(self, task: Task) -> Flow:
        reply = yield Ask(self.draft, role="draft")
        if reply.failed or self.text in reply.text:
            reply = yield Ask(self.other)
        return reply


class Scripted(ScriptedChatModel):
    """Takes tools, and makes nothing of them."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, **kwargs)


def models() -> dict[str, Scripted]:
    return {model: Scripted(model_name=model) for model in MODELS}


class Tokens(BaseCallbackHandler):
    """What a reader of tokens is shown."""

    def __init__(self) -> None:
        self.text = ""

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.text += token if isinstance(token, str) else ""


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("unsure", [True, False])
async def test_a_draft_is_kept_or_dropped(way: str, kind: type[Any], unsure: bool) -> None:
    candidates, tokens, runs = models(), Tokens(), Recorder()
    strategy = Unsure(SMALL, LARGE, SMALL if unsure else "?")
    routed = kind(models=candidates, strategy=strategy)
    answer = await output_of(way, routed, QUESTION, {"callbacks": [tokens, runs]})
    chosen = LARGE if unsure else SMALL
    assert answer.text == f"I am {chosen}."
    assert answer.response_metadata["crossroute"]["model"] == chosen
    assert "attempts" not in answer.response_metadata["crossroute"]
    # The draft is muted, yet its run is seen.
    assert tokens.text in ("", f"I am {LARGE}.")
    assert len(runs.of_kind("model")) == 1 + unsure
    assert [len(candidates[model].asked) for model in (SMALL, LARGE)] == [1, int(unsure)]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_every_ask_is_on_the_bill(way: str, kind: type[Any], router: CrossRouter) -> None:
    candidates = models()
    candidates[LARGE].usage = None
    routed = kind(models=candidates, strategy=Unsure(SMALL, LARGE, SMALL))
    answer = await output_of(way, routed, QUESTION)
    bill = answer.response_metadata["crossroute"]["bill"]
    draft, given = bill["asks"]
    small, large = router.pool[SMALL].price, router.pool[LARGE].price
    assert small is not None
    assert large is not None
    assert draft == {
        "model": SMALL,
        "role": "draft",
        "input_tokens": 5,
        "output_tokens": 7,
        "cached_tokens": 0,
        "cost_usd": pytest.approx(small.cost_usd(5, 7)),
        "estimated": False,
    }
    # Nobody has counted the answer's tokens: they are estimated, and not free.
    tokens = given["input_tokens"], given["output_tokens"]
    assert (given["model"], given["role"], given["estimated"]) == (LARGE, "answer", True)
    assert tokens == (round(Query.of(QUESTION).input_tokens), round(estimate_tokens(answer.text)))
    assert given["cost_usd"] == pytest.approx(large.cost_usd(*tokens))
    assert bill["cost_usd"] == pytest.approx(draft["cost_usd"] + given["cost_usd"])
    assert bill["estimated"]


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_the_ledger_agrees_with_the_bill(way: str, kind: type[Any]) -> None:
    routed = kind(models=models(), strategy=Unsure(SMALL, LARGE, SMALL))
    ledger = CostLedger(routed, baseline=LARGE)
    answer = await output_of(way, routed, QUESTION, {"callbacks": [ledger]})
    bill = answer.response_metadata["crossroute"]["bill"]
    assert ledger.total_usd == pytest.approx(bill["cost_usd"])
    assert {role: row.cost_usd for role, row in ledger.roles.items()} == {
        ask["role"]: pytest.approx(ask["cost_usd"]) for ask in bill["asks"]
    }
    # A baseline would not have drafted.
    assert ledger.roles["draft"].baseline_usd == 0
    assert ledger.saving_usd == pytest.approx(-bill["asks"][0]["cost_usd"])
    assert "draft" in ledger.report()


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_what_failed_is_on_the_bill(way: str, kind: type[Any]) -> None:
    candidates = models()
    candidates[SMALL].error = TimeoutError("slow")
    answer = await output_of(way, kind(models=candidates, willingness_to_pay=0), QUESTION)
    failed, given = answer.response_metadata["crossroute"]["bill"]["asks"]
    assert (failed["model"], failed["role"], failed["estimated"]) == (SMALL, "answer", True)
    assert failed["cost_usd"] == 0
    assert given["cost_usd"] > 0


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_draft_that_fails_is_an_attempt(way: str, kind: type[Any]) -> None:
    candidates = models()
    candidates[SMALL].error = TimeoutError("slow")
    routed = kind(models=candidates, strategy=Unsure(SMALL, LARGE, "?"))
    answer = await output_of(way, routed, QUESTION)
    assert answer.text == f"I am {LARGE}."
    (attempt,) = answer.response_metadata["crossroute"]["attempts"]
    assert attempt == {"model": SMALL, "error": "TimeoutError: slow"}


@dataclass(frozen=True)
class Judged:
    """Sends a question of its own after the system prompt, with settings of its own."""

    def answer(self, task: Task) -> Flow:
        assert task.messages[-1] == {"role": "user", "content": QUESTION}
        yield Ask(
            MINI,
            keep=[0],
            then=[{"role": "user", "content": "Who answers?"}],
            settings={"temperature": 0.5},
            role="judge",
        )
        return (yield Ask(LARGE))


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_an_ask_may_keep_messages_and_add_its_own(way: str, kind: type[Any]) -> None:
    candidates = models()
    asked = [("system", "Be brief."), ("human", QUESTION)]
    answer = await output_of(way, kind(models=candidates, strategy=Judged()), asked)
    assert answer.text == f"I am {LARGE}."
    (judged,) = candidates[MINI].asked
    assert [message.text for message in judged] == ["Be brief.", "Who answers?"]
    (whole,) = candidates[LARGE].asked
    assert [message.text for message in whole] == ["Be brief.", QUESTION]


@dataclass(frozen=True)
class HandedOver:
    """Begins with one model and goes on with another."""

    def answer(self, task: Task) -> Flow:
        begun = yield Ask(SMALL, until=lambda reply: len(reply.text) >= 4)
        yield Show(begun)
        return (yield Ask(LARGE, then=[{"role": "assistant", "content": begun.text}]))


@BOTH
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_strategy_that_looks_into_a_stream(way: str, kind: type[Any]) -> None:
    candidates = models()
    answer = await output_of(way, kind(models=candidates, strategy=HandedOver()), QUESTION)
    begun = answer.text.removesuffix(f"I am {LARGE}.")
    assert 4 <= len(begun) < len(f"I am {SMALL}.")
    assert f"I am {SMALL}.".startswith(begun)
    assert answer.response_metadata["crossroute"]["model"] == LARGE
    assert candidates[LARGE].asked[0][-1].text == begun


@dataclass(frozen=True)
class Longest:
    """Asks several at once, and gives the longest answer."""

    def answer(self, task: Task) -> Flow:
        replies = yield tuple(Ask(model, role="draft") for model in MODELS)
        return max((one for one in replies if not one.failed), key=lambda one: len(one.text))


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_several_are_asked_at_once(way: str, kind: type[Any]) -> None:
    candidates, runs = models(), Recorder()
    longest = max(MODELS, key=len)
    (failing, other) = (model for model in MODELS if model != longest)
    candidates[failing].error = ConnectionError("gone")
    routed = kind(models=candidates, strategy=Longest())
    answer = await output_of(way, routed, QUESTION, {"callbacks": [runs]})
    assert answer.text == f"I am {longest}."
    assert [len(candidates[model].asked) for model in MODELS] == [1, 1, 1]
    decision = answer.response_metadata["crossroute"]
    assert decision["model"] == longest
    assert other not in str(decision.get("attempts"))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_shows_the_tokens_of_the_answer_only(asynchronous: bool) -> None:
    chat = ChatCrossRoute(models=models(), strategy=Unsure(SMALL, LARGE, SMALL))

    def call(state: MessagesState) -> Any:
        return {"messages": [chat.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("call", acall if asynchronous else call)
    app = graph.add_edge(START, "call").compile()
    given = {"messages": [HumanMessage(QUESTION)]}
    if asynchronous:
        parts = [part async for part in app.astream(given, stream_mode="messages")]
    else:
        parts = list(app.stream(given, stream_mode="messages"))
    text = "".join(message.text for message, _ in parts)
    assert text == f"I am {LARGE}."


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sun in {city}."


@pytest.mark.parametrize("takes_tools", [False, True])
def test_with_tools_one_model_answers_unless_the_strategy_takes_them(takes_tools: bool) -> None:
    candidates = models()
    strategy = Unsure(SMALL, LARGE, SMALL, takes_tools=takes_tools)
    chat = ChatCrossRoute(models=candidates, strategy=strategy, willingness_to_pay=0)
    chat.bind_tools([weather]).invoke(QUESTION)
    assert [len(candidates[model].asked) for model in (SMALL, LARGE)] == [1, int(takes_tools)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_strategy_in_an_agent(asynchronous: bool) -> None:
    candidates = models()
    middleware = CrossRouteMiddleware(candidates, strategy=Unsure(SMALL, LARGE, SMALL))
    agent = create_agent(candidates[MINI], [], middleware=[middleware])
    given = {"messages": [HumanMessage(QUESTION)]}
    found = await agent.ainvoke(given) if asynchronous else agent.invoke(given)
    assert found["messages"][-1].text == f"I am {LARGE}."
    assert found["crossroute"]["model"] == LARGE
    assert not candidates[MINI].asked


@pytest.mark.parametrize("wrong", ["cascade", PickOne, 7, lambda task: None])
@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware])
def test_what_is_no_strategy_is_named(kind: type[Any], wrong: object) -> None:
    with pytest.raises(ConstraintError, match="answer\\(task\\)"):
        kind(models=models(), strategy=wrong)


# Parts of two streams as one answer


@dataclass(frozen=True)
class Spliced:
    """Shows the beginning of one model's stream, and goes on within another's."""

    def answer(self, task: Task) -> Flow:
        begun = yield Ask(SMALL, role="draft", until=lambda reply: len(reply.text) >= 4)
        yield Show(begun, end=2, close=False)
        (begun,) = yield GoOn((begun,), lambda reply: len(reply.text) >= 7)
        yield Show(begun, end=5)
        goes_on = yield Ask(LARGE, role="draft", until=lambda reply: len(reply.text) >= 8)
        yield Show(goes_on, start=5, close=False)
        return goes_on


SPLICED = f"I am {LARGE}."


def check_spliced(answer: AIMessage) -> None:
    decision = answer.response_metadata["crossroute"]
    assert answer.text == SPLICED
    assert decision["model"] == LARGE
    small, large = decision["bill"]["asks"]
    assert (small["model"], small["estimated"]) == (SMALL, True)
    assert (large["input_tokens"], large["output_tokens"]) == (5, 7)
    # How the first stream ended nobody knows; the second one's end is not doubled.
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 7


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_parts_of_two_streams(way: str, kind: type[Any]) -> None:
    candidates, tokens = models(), Tokens()
    config = {"callbacks": [tokens]}
    check_spliced(
        await output_of(way, kind(models=candidates, strategy=Spliced()), QUESTION, config)
    )
    # Neither of them alone is the answer.
    assert tokens.text == ""


@pytest.mark.parametrize("way", ["v3", "av3"])
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_parts_of_two_streams_are_events_of_one(way: str) -> None:
    check_spliced(
        await answer_of(way, ChatCrossRoute(models=models(), strategy=Spliced()), QUESTION)
    )


@dataclass(frozen=True)
class Shown:
    """Shows a whole draft, and goes on with another model, or with nothing more."""

    goes_on: bool
    is_streamed: bool

    def answer(self, task: Task) -> Flow:
        draft = yield Ask(SMALL, role="draft", until=bool if self.is_streamed else None)
        (draft,) = yield GoOn((draft,))
        yield Show(draft)
        return (yield Ask(LARGE)) if self.goes_on else draft


@pytest.mark.parametrize("way", [*WAYS, "v3", "av3"])
@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_how_it_ended_is_said_by_the_answer_alone(
    way: str, goes_on: bool, is_streamed: bool
) -> None:
    chat = ChatCrossRoute(models=models(), strategy=Shown(goes_on, is_streamed))
    answer = await answer_of(way, chat, QUESTION)
    metadata = answer.response_metadata
    assert answer.text == f"I am {SMALL}." + goes_on * f"I am {LARGE}."
    assert metadata["finish_reason"] == "stop"
    assert metadata["model_name"] == metadata["crossroute"]["model"]
    assert len(metadata["crossroute"]["bill"]["asks"]) == 1 + goes_on
    assert answer.usage_metadata["output_tokens"] == 7


@dataclass(frozen=True)
class Broken:
    """Shows the beginning of a stream that breaks, and goes on with another model."""

    def answer(self, task: Task) -> Flow:
        begun = yield Ask(SMALL, until=lambda reply: bool(reply.text))
        yield Show(begun, close=False)
        (begun,) = yield GoOn((begun,))
        assert begun.failed
        return (yield Ask(LARGE))


@pytest.mark.parametrize("way", [*WAYS, "v3", "av3"])
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_what_was_shown_of_a_stream_that_broke(way: str) -> None:
    broken = models()
    broken[SMALL].error, broken[SMALL].drops_after = TimeoutError("too slow"), 2
    answer = await answer_of(way, ChatCrossRoute(models=broken, strategy=Broken()), QUESTION)
    assert answer.text == f"I aI am {LARGE}."
    assert answer.response_metadata["crossroute"]["model"] == LARGE


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_the_events_of_two_streams_are_in_order() -> None:
    chat = ChatCrossRoute(models=models(), strategy=Spliced())
    events = [*chat.stream_events(QUESTION, version="v3")]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("message-start", "message-finish")
    assert kinds.count("message-start") == kinds.count("content-block-start") == 1
    assert "".join(e["delta"]["text"] for e in events if "delta" in e) == SPLICED


@pytest.mark.parametrize("end", [0, 2, 4, 5, 40])
async def test_what_is_shown_of_a_whole_answer(end: int) -> None:
    """A model that does not stream gives all in one part, of which some may be dropped."""

    @dataclass(frozen=True)
    class Cut:
        def answer(self, task: Task) -> Flow:
            draft = yield Ask(SMALL, role="draft")
            yield Show(draft, end=end, close=False)
            return draft

    class Whole(Scripted):
        disable_streaming: Any = True

    candidates = models() | {SMALL: Whole(model_name=SMALL)}
    for way in WAYS:
        answer = await output_of(way, ChatCrossRoute(models=candidates, strategy=Cut()), QUESTION)
        assert answer.text == f"I am {SMALL}."
        assert answer.usage_metadata["output_tokens"] == 7
        assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("content", ["one two", [{"type": "text", "text": "one two"}]])
def test_a_part_that_is_cut(content: Any) -> None:
    chunk = AIMessageChunk(content, response_metadata={"finish_reason": "stop"})
    head, tail = cut(chunk, 0, 3), cut(chunk, 3, None)
    assert (head.text, tail.text) == ("one", " two")
    assert head.response_metadata == {}
    assert tail.response_metadata == {"finish_reason": "stop"}
    assert (head + tail).text == "one two"
    assert cut("one two", 4, None) == "two"
    assert cut(7, 1, 2) == 7


def test_reasoning_goes_with_the_text_after_it() -> None:
    said = [
        {"type": "reasoning", "reasoning": "So?"},
        {"type": "text", "text": "one"},
        {"type": "text", "text": " two"},
    ]
    chunk = AIMessageChunk(content=said)
    assert cut(chunk, 0, 4).content == [*said[:2], {"type": "text", "text": " "}]
    assert cut(chunk, 4, None).content == [{"type": "text", "text": "two"}]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_shows_parts_of_two_streams_once(asynchronous: bool) -> None:
    chat = ChatCrossRoute(models=models(), strategy=Spliced())

    async def acall(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    def call(state: MessagesState) -> Any:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("call", acall if asynchronous else call)
    app = graph.add_edge(START, "call").compile()
    given = {"messages": [HumanMessage(QUESTION)]}
    if asynchronous:
        parts = [part async for part in app.astream(given, stream_mode="messages")]
    else:
        parts = list(app.stream(given, stream_mode="messages"))
    assert "".join(message.text for message, _ in parts) == SPLICED


# A hard limit around a strategy


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_strategy_within_a_limit(way: str, kind: type[Any]) -> None:
    candidates = models()
    strategy = within(0.003, Unsure(SMALL, LARGE, SMALL))
    answer = await output_of(way, kind(models=candidates, strategy=strategy), QUESTION)
    # What the rest of it does not pay for is not asked.
    decision = answer.response_metadata["crossroute"]
    assert decision["bill"]["cost_usd"] <= 0.003
    assert all(given["max_tokens"] > 0 for given in candidates[SMALL].given)
    with pytest.raises(CostLimitError, match=r"limit of the strategy \(within\)"):
        await output_of(way, kind(models=models(), strategy=within(0, PickOne())), QUESTION)


def test_the_limit_holds_where_tools_are_bound() -> None:
    candidates = models()
    chat = ChatCrossRoute(models=candidates, strategy=within(0.0, Unsure(SMALL, LARGE, SMALL)))
    with pytest.raises(CostLimitError):
        chat.bind_tools([weather]).invoke(QUESTION)
    assert not any(model.asked for model in candidates.values())
