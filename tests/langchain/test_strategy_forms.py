"""Each strategy in each form in which LangChain calls a model, with real clients over HTTP."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import pytest
from fakes_forms import (
    CASCADE,
    CASES,
    CONVERSING,
    LARGE,
    MODELS,
    QUESTION,
    Case,
    Reader,
    Seen,
    check,
    check_decision,
    told,
    told_of,
)
from fakes_langchain import ROUTERS, Person, Recorder, client, person, weather
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, MessagesState, StateGraph
from openai_server import OpenAIServer, Reply

from crossroute.errors import StrategyError
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRunnable,
)

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning", "ignore:The v3 streaming protocol"
)

EACH = pytest.mark.parametrize("name", CASES)
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
STATE: Any = {"messages": [HumanMessage(QUESTION)]}


class Tokens(BaseCallbackHandler):
    """Notes the tokens that it is told, and how many runs of models."""

    run_inline = True

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.started = self.ended = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.started += 1

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.ended += 1


def chats(server: OpenAIServer) -> dict[str, Any]:
    return {model: client(server, model) for model in MODELS}


def routed_over(server: OpenAIServer, case: Case, kind: type[Any] = ChatCrossRoute) -> Any:
    return kind(
        models=chats(server),
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
    )


def whole(answer: Any) -> Seen:
    return Seen(answer.text, answer.response_metadata["crossroute"])


def read(server: OpenAIServer, chunks: Iterator[Any]) -> Seen:
    reader, found = Reader(server), []
    for chunk in chunks:
        found.append(chunk)
        reader.take(chunk.text)
    return reader.seen(reduce(add, found).response_metadata["crossroute"])


async def aread(server: OpenAIServer, chunks: AsyncIterator[Any]) -> Seen:
    reader, found = Reader(server), []
    async for chunk in chunks:
        found.append(chunk)
        reader.take(chunk.text)
    return reader.seen(reduce(add, found).response_metadata["crossroute"])


# The forms of a call: of a router, and of a chain with one in it.


async def invoke(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return whole(routed.invoke(value))


async def ainvoke(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return whole(await routed.ainvoke(value))


async def batch(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return whole(routed.batch([value])[0])


async def abatch(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return whole((await routed.abatch([value]))[0])


async def stream(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return read(server, routed.stream(value))


async def astream(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    return await aread(server, routed.astream(value))


async def events_v2(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    """The chunks of the outermost run: the stream of the call itself."""
    reader, found, runs = Reader(server), [], []
    async for event in routed.astream_events(value, version="v2"):
        runs.append(event["run_id"])
        if event["run_id"] == runs[0] and event["event"].endswith("_stream"):
            found.append(event["data"]["chunk"])
            reader.take(found[-1].text)
    return reader.seen(reduce(add, found).response_metadata["crossroute"])


async def events_v3(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    reader = Reader(server)
    events = routed.stream_events(value, version="v3")
    for text in events.text:
        reader.take(text)
    return reader.seen(events.output.response_metadata["crossroute"])


async def aevents_v3(server: OpenAIServer, routed: Any, value: Any) -> Seen:
    reader = Reader(server)
    events = await routed.astream_events(value, version="v3")
    async for text in events.text:
        reader.take(text)
    return reader.seen((await events.output).response_metadata["crossroute"])


WHOLE = [invoke, ainvoke, batch, abatch]
STREAMS = [stream, astream, events_v2]
V3 = [events_v3, aevents_v3]
Form = Callable[[OpenAIServer, Any, Any], Awaitable[Seen]]


def name_of(form: Any) -> str:
    return str(form.__name__)


@EACH
@pytest.mark.parametrize("form", [*WHOLE, *STREAMS], ids=name_of)
@pytest.mark.parametrize("kind", ROUTERS)
async def test_a_router(form: Form, kind: type[Any], name: str, server: OpenAIServer) -> None:
    case = CASES[name]
    with told(server, case, live=form in STREAMS):
        check(await form(server, routed_over(server, case, kind), QUESTION), case, server)


@EACH
@pytest.mark.parametrize("form", V3, ids=name_of)
async def test_events_of_version_v3(form: Form, name: str, server: OpenAIServer) -> None:
    case = CASES[name]
    with told(server, case, live=True):
        check(await form(server, routed_over(server, case), QUESTION), case, server)


# A chain calls its router in the form in which it is called: each case goes through each form, and
# each router through both.
@pytest.mark.parametrize(
    ("form", "name", "kind"),
    [
        pytest.param(form, name, ROUTERS[(place + number) % 2], id=f"{name}-{form.__name__}")
        for place, form in enumerate([*WHOLE, *STREAMS])
        for number, name in enumerate(CASES)
    ],
)
async def test_a_chain(form: Form, name: str, kind: type[Any], server: OpenAIServer) -> None:
    case = CASES[name]
    chain = PROMPT | routed_over(server, case, kind)
    with told(server, case, live=form in STREAMS):
        check(await form(server, chain, {"question": QUESTION}), case, server)


def chains_over(server: OpenAIServer, case: Case) -> Any:
    return CrossRouteRunnable(
        models={m: PROMPT | chat | StrOutputParser() for m, chat in chats(server).items()},
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
        query=lambda value: value["question"],
    )


@pytest.mark.parametrize("name", [name for name in CASES if name not in CONVERSING])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_chains_as_candidates(asynchronous: bool, name: str, server: OpenAIServer) -> None:
    case, reader = CASES[name], Reader(server)
    routed = chains_over(server, case)
    ledger = CostLedger(routed)
    value, config = {"question": QUESTION}, {"callbacks": [ledger]}
    with told(server, case, live=True):
        if asynchronous:
            async for text in routed.astream(value, config):
                reader.take(text)
        else:
            for text in routed.stream(value, config):
                reader.take(text)
        check(reader.seen(None), case, server)
    # A text has no place for the bill; the ledger counts the same asks.
    counted = {role: row.calls for role, row in ledger.roles.items()}
    roles = [role for _, role in case.asks]
    assert counted == {role: roles.count(role) for role in roles}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("where", ["model", "manager", "binding", "bound", "chain"])
async def test_handlers_of_the_models_see_no_token_of_a_draft(
    asynchronous: bool, where: str, server: OpenAIServer
) -> None:
    case, seen = CASES["a draft is escalated"], Tokens()

    def watched(model: str) -> Any:
        chat = client(server, model)
        if where == "model":
            chat.callbacks = [seen]
        elif where == "manager":
            chat.callbacks = CallbackManager([seen])
        elif where == "bound":
            chat = chat.bind(seed=7).bind(top_p=0.5)
        else:
            chat = chat.with_config(callbacks=[seen])
        return chat | StrOutputParser() if where == "chain" else chat

    router: Any = CrossRouteRunnable(
        models={model: watched(model) for model in MODELS},
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
    )
    with told(server, case, live=False):
        # Also the handler of the call, which is told of each run once.
        config: Any = {"callbacks": [seen]}
        if asynchronous:
            parts = [part async for part in router.astream(QUESTION, config)]
        else:
            parts = [*router.stream(QUESTION, config)]
    assert "".join(getattr(part, "text", part) for part in parts) == case.text
    assert "".join(seen.tokens) == case.text
    assert (seen.started, seen.ended) == (len(case.asks), len(case.asks))


@pytest.mark.parametrize("name", CONVERSING)
def test_a_question_on_a_draft_needs_a_conversation(name: str, server: OpenAIServer) -> None:
    case = CASES[name]
    with told(server, case, live=False), pytest.raises(StrategyError, match="of type dict"):
        chains_over(server, case).invoke({"question": QUESTION})


# Graphs and agents


def graph_of(routed: Any, *, asynchronous: bool) -> Any:
    def call(state: MessagesState) -> Any:
        return {"messages": [routed.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": [await routed.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("call", acall if asynchronous else call)
    return graph.add_edge(START, "call").compile()


def agent_over(server: OpenAIServer, case: Case, tools: Any = (), strategy: Any = None) -> Any:
    models = chats(server)
    middleware: Any = CrossRouteMiddleware(
        models,
        strategy=strategy or case.strategy,
        willingness_to_pay=case.willingness_to_pay,
    )
    return create_agent(client(server, "never"), list(tools), middleware=[middleware])


async def shown_by(server: OpenAIServer, app: Any, *, asynchronous: bool) -> tuple[Reader, Any]:
    """What a reader of `messages` is shown, and the last state."""
    reader, state = Reader(server), None
    modes = ["messages", "values"]
    if asynchronous:
        async for mode, part in app.astream(STATE, stream_mode=modes):
            state = part if mode == "values" else state
            reader.take(part[0].text if mode == "messages" else None)
    else:
        for mode, part in app.stream(STATE, stream_mode=modes):
            state = part if mode == "values" else state
            reader.take(part[0].text if mode == "messages" else None)
    return reader, state


@EACH
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ROUTERS)
async def test_a_graph(
    asynchronous: bool, kind: type[Any], name: str, server: OpenAIServer
) -> None:
    case = CASES[name]
    app = graph_of(routed_over(server, case, kind), asynchronous=asynchronous)
    with told(server, case, live=True):
        reader, state = await shown_by(server, app, asynchronous=asynchronous)
        decision = state["messages"][-1].response_metadata["crossroute"]
        check(reader.seen(decision), case, server)


@EACH
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent(asynchronous: bool, name: str, server: OpenAIServer) -> None:
    case = CASES[name].in_one_part
    app = agent_over(server, case)
    with told(server, case, live=True, joins=False):
        reader, state = await shown_by(server, app, asynchronous=asynchronous)
        decision = state["messages"][-1].response_metadata["crossroute"]
        check(reader.seen(decision), case, server)
    # The state keeps the decision, without the bill.
    assert state["crossroute"]["model"] == case.model


@EACH
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_that_does_not_stream(
    asynchronous: bool, name: str, server: OpenAIServer
) -> None:
    case = CASES[name].in_one_part
    app = agent_over(server, case)
    with told(server, case, live=False):
        state = await app.ainvoke(STATE) if asynchronous else app.invoke(STATE)
        check(whole(state["messages"][-1]), case, server)


# What is seen beside the answer


@EACH
@pytest.mark.parametrize("form", ["invoke", "ainvoke", "stream", "astream"])
async def test_every_ask_is_a_run(form: str, name: str, server: OpenAIServer) -> None:
    case, runs = CASES[name], Recorder()
    chat = routed_over(server, case)
    config = {"callbacks": [runs]}
    with told(server, case, live=False):
        if "stream" not in form:
            answer = await chat.ainvoke(QUESTION, config) if form == "ainvoke" else None
            answer = answer or chat.invoke(QUESTION, config)
        elif form == "stream":
            answer = reduce(add, chat.stream(QUESTION, config))
        else:
            answer = reduce(add, [chunk async for chunk in chat.astream(QUESTION, config)])
        check_decision(answer.response_metadata["crossroute"], case)
        roles = sorted(
            (run.metadata["crossroute_model"], run.metadata["crossroute_role"])
            for run in runs.models
        )
        assert roles == sorted(case.asks)
        # Only an answer tells its tokens while they are made.
        shows = case.is_live and "stream" in form
        assert "".join(runs.tokens) == (case.text if shows else "")


# Tools and schemas


@pytest.mark.parametrize("name", [name for name in CASES if name != "one"])
async def test_with_tools_or_a_schema_one_model_answers(name: str, server: OpenAIServer) -> None:
    strategy = CASES[name].strategy
    server.answers = {
        model: lambda body: person(body) if "response_format" in body else Reply("391.")
        for model in MODELS
    }
    chat: Any = ChatCrossRoute(models=chats(server), strategy=strategy)
    with_tools, with_schema = chat.bind_tools([weather]), chat.with_structured_output(Person)
    answer = with_tools.invoke(QUESTION)
    bill = answer.response_metadata["crossroute"]["bill"]
    assert [ask["role"] for ask in bill["asks"]] == ["answer"]
    assert answer.text == (await with_tools.ainvoke(QUESTION)).text == "391."
    assert reduce(add, with_tools.stream(QUESTION)).text == "391."
    assert with_schema.invoke(QUESTION) == Person(name="Ada", age=36)
    assert await with_schema.ainvoke(QUESTION) == Person(name="Ada", age=36)
    in_json_mode = chat.with_structured_output(Person, method="json_mode")
    assert in_json_mode.invoke(QUESTION) == Person(name="Ada", age=36)
    assert [*in_json_mode.stream(QUESTION)][-1] == Person(name="Ada", age=36)
    assert len(server.requests) == 7
    assert not any("logprobs" in request.body for request in server.requests)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_with_tools_asks_one_model(asynchronous: bool, server: OpenAIServer) -> None:
    case = CASES["a draft is escalated"]
    server.answers = {model: Reply("391.") for model in MODELS}
    app = agent_over(server, case, [weather], CASCADE)
    reader, state = await shown_by(server, app, asynchronous=asynchronous)
    assert "".join(reader.parts) == "391."
    assert [request.body["model"] for request in server.requests] == [LARGE]
    assert state["crossroute"]["model"] == LARGE


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_graph_shows_a_probe_as_it_goes_on(
    streams: bool, asynchronous: bool, kind: type[Any], server: OpenAIServer
) -> None:
    """One message, whose rest the server holds until its beginning is shown."""
    case = CASES["a probe"]
    router = routed_over(server, case, kind)
    goes_on = case.answers[case.model]
    assert isinstance(goes_on, Reply)
    text = f"{goes_on.text} That is so, as twenty times twenty-three is 460."

    def call(state: MessagesState) -> Any:
        return {"messages": [reduce(add, router.stream(state["messages"]))]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": [reduce(add, [c async for c in router.astream(state["messages"])])]}

    app = graph_of(router, asynchronous=asynchronous)
    if streams:
        graph = StateGraph(MessagesState).add_node("call", acall if asynchronous else call)
        app = graph.add_edge(START, "call").compile()
    with told_of(server, {**case.answers, case.model: replace(goes_on, text=text, hold_after=12)}):
        shown, ids = Reader(server), set()
        if asynchronous:
            async for message, _ in app.astream(STATE, stream_mode="messages"):
                ids.add(message.id)
                shown.take(message.text)
        else:
            for message, _ in app.stream(STATE, stream_mode="messages"):
                ids.add(message.id)
                shown.take(message.text)
    assert "".join(shown.parts) == text
    assert len(ids) == 1
    assert len(shown.parts) > 2


async def test_a_graph_that_is_told_to_show_nothing(server: OpenAIServer) -> None:
    case = CASES["a probe"]
    router = routed_over(server, case).with_config(tags=["nostream"])
    app = graph_of(router, asynchronous=True)
    with told(server, case, live=False):
        messages = [m async for m, _ in app.astream(STATE, stream_mode="messages")]
    # But for what the node returns.
    assert [message.text for message in messages] == [case.text]
