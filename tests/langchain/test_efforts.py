"""An effort is an arm: real clients of three providers, by what they put on the wire."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes_wire import MODEL, TEXT, WireServer, router_of_efforts
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from crossroute import PoolError, Provider
from crossroute.strategies import Ask, Flow, Task
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.wishes import Wishes

LOW, HIGH = f"{MODEL}@low", f"{MODEL}@high"


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def openai(server: WireServer, reasoning: dict[str, str] | None = None) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        api_key="none",  # type: ignore[arg-type]
        base_url=f"{server.url}/v1",
        max_retries=0,
        reasoning=reasoning,
    )


def responses(server: WireServer) -> ChatOpenAI:
    return openai(server, {"summary": "auto", "effort": "medium"})


def anthropic(server: WireServer) -> BaseChatModel:
    kind = pytest.importorskip("langchain_anthropic").ChatAnthropic
    model: BaseChatModel = kind(
        model="claude-opus-4-8", api_key="none", base_url=server.url, max_retries=0, effort="medium"
    )
    return model


def google(server: WireServer) -> BaseChatModel:
    kind = pytest.importorskip("langchain_google_genai").ChatGoogleGenerativeAI
    model: BaseChatModel = kind(
        model="gemini-3-flash-preview",
        api_key="none",
        base_url=server.url,
        max_retries=0,
        include_thoughts=True,
        thinking_budget=100,
    )
    return model


CLIENTS: dict[Callable[[WireServer], BaseChatModel], Callable[[dict[str, Any]], object]] = {
    openai: lambda body: body["reasoning_effort"],
    responses: lambda body: body["reasoning"],
    anthropic: lambda body: body["output_config"],
    google: lambda body: body["generationConfig"]["thinkingConfig"],
}
"""Clients, by what of a request has the effort."""
SAID: dict[Any, Callable[[str], object]] = {
    openai: lambda effort: effort,
    responses: lambda effort: {"summary": "auto", "effort": effort},
    anthropic: lambda effort: {"effort": effort},
    google: lambda effort: {"include_thoughts": True, "thinking_level": effort},
}
"""What it is for an effort."""


def plain(said: object) -> str:
    """What was said, however Google's client writes names."""
    return str(said).lower().replace("_", "")


def forced(model: str) -> dict[str, Any]:
    return {"configurable": {"crossroute_model": model}}


# Google's own client.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize("make", CLIENTS)
async def test_one_client_is_asked_with_the_effort_of_each_arm(
    make: Callable[[WireServer], BaseChatModel], server: WireServer
) -> None:
    chat = ChatCrossRoute(models={MODEL: make(server)}, router=router_of_efforts())
    assert sorted(chat.models) == [HIGH, LOW]
    answer = chat.invoke("Capital of France?", forced(LOW))
    await chat.ainvoke("Capital of France?", forced(HIGH))
    assert answer.text == TEXT
    assert answer.response_metadata["crossroute"]["model"] == LOW
    said = [plain(CLIENTS[make](body)) for body in server.bodies]
    assert said == [plain(SAID[make](effort)) for effort in ("low", "high")]


@pytest.mark.parametrize("make", CLIENTS)
def test_a_strategy_names_an_effort(
    make: Callable[[WireServer], BaseChatModel], server: WireServer
) -> None:
    class Medium:
        def answer(self, task: Task) -> Flow:
            return (yield Ask(HIGH, effort="medium"))

    chat = ChatCrossRoute(
        models={MODEL: make(server)}, router=router_of_efforts(), strategy=Medium()
    )
    # It holds against what the caller binds, as all settings of an ask do.
    answer = chat.bind(**({"reasoning_effort": "low"} if make is openai else {})).invoke("Hello")
    (body,) = server.bodies
    assert plain(CLIENTS[make](body)) == plain(SAID[make]("medium"))
    (ask,) = answer.response_metadata["crossroute"]["bill"]["asks"]
    assert (ask["model"], ask["effort"]) == (HIGH, "medium")


def test_a_folder_is_followed_from_a_model_to_its_efforts(
    server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_KEY", "none")
    (own, *_) = router_of_efforts().pool.values()
    provider = Provider(
        chat_model=f"openai:{MODEL}", base_url=f"{server.url}/v1", api_key_env="OWN_KEY"
    )
    fields = {"learned": None, "effort": None, "provider": provider}
    for name in (MODEL, "other"):
        own.model_copy(update={**fields, "id": name}).save(tmp_path)
    chat = ChatCrossRoute.from_yaml(tmp_path, follow=True)
    live = chat.live
    assert live is not None
    chat.invoke("Hello", forced(MODEL))
    own.model_copy(update={**fields, "id": MODEL, "efforts": ("low", "high")}).save(tmp_path)
    deadline = time.monotonic() + 60
    while MODEL in live.current.models and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(live.current.models) == [HIGH, LOW, "other"]
    # Who names the model means any of its efforts.
    for model in (HIGH, LOW, MODEL):
        answer = chat.invoke("Hello", forced(model))
        assert answer.response_metadata["crossroute"]["model"] in (HIGH, LOW)
    efforts = [body.get("reasoning_effort") for body in server.bodies]
    assert efforts[:3] == [None, "high", "low"]
    assert efforts[3] in ("high", "low")


class ChatGoogleGenerativeAI(FakeListChatModel):
    """With the fields of langchain-google-genai 4.4, which `google` above is of."""

    reasoning_effort: str | None = None
    thinking_budget: int | None = 100


class ChatOpenRouter(FakeListChatModel):
    """With the field of langchain-openrouter."""

    reasoning: dict[str, Any] | None


def test_clients_that_need_not_be_installed() -> None:
    router = router_of_efforts()
    google = ChatGoogleGenerativeAI(responses=["Hi."])
    openrouter = ChatOpenRouter(responses=["Hi."], reasoning={"summary": "auto"})
    for model, expected in (
        (google, {"reasoning_effort": "low", "thinking_budget": None}),
        (openrouter, {"reasoning": {"summary": "auto", "effort": "low"}}),
    ):
        assert set(ChatCrossRoute(models={MODEL: model}, router=router).models) == {LOW, HIGH}
        changed, _ = Wishes(effort="low").of(model, {})
        assert {name: getattr(changed, name) for name in expected} == expected
        assert changed.invoke("Hello").text == "Hi."
    # How long to think is for the caller to say, too.
    kept, _ = Wishes(effort="low").of(google, {"thinking_budget": 7})
    assert (kept.reasoning_effort, kept.thinking_budget) == (None, 100)


def test_the_caller_s_own_effort_holds(server: WireServer) -> None:
    chat = ChatCrossRoute(
        models={LOW: openai(server), HIGH: responses(server)}, router=router_of_efforts()
    )
    chat.invoke("Hello", forced(LOW), reasoning_effort="xhigh")
    chat.bind(reasoning={"effort": "xhigh"}).invoke("Hello", forced(LOW))
    # What is asked for beside the effort leaves it.
    chat.invoke("Hello", forced(LOW), reasoning={"summary": "auto"})
    chat.invoke("Hello", forced(HIGH), reasoning={"summary": "detailed"})
    told = [(one.get("reasoning_effort"), one.get("reasoning")) for one in server.bodies]
    assert told == [
        ("xhigh", None),
        (None, {"effort": "xhigh"}),
        (None, {"summary": "auto", "effort": "low"}),
        (None, {"summary": "detailed", "effort": "high"}),
    ]


def test_a_model_within_a_chain_and_with_tools(server: WireServer) -> None:
    def weather(city: str) -> str:
        """Say the weather."""
        return city

    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    chain = prompt | openai(server).bind(temperature=1.0)
    routed = CrossRouteRunnable(
        models={MODEL: chain}, router=router_of_efforts(), query=lambda value: value["question"]
    )
    routed.invoke({"question": "Hello"}, forced(HIGH))
    router = router_of_efforts(capabilities=("tools",))
    chat = ChatCrossRoute(models={MODEL: openai(server)}, router=router)
    chat.bind_tools([weather]).invoke("Hello", forced(LOW))
    assert [body["reasoning_effort"] for body in server.bodies] == ["high", "low"]


def test_what_cannot_be_asked_with_an_effort(
    server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeListChatModel(responses=["Hi."])
    bound = openai(server).bind(reasoning_effort="low")
    for client in (fake, RunnableLambda(lambda _: "Hi."), bound):
        with pytest.raises(PoolError, match=f"'{MODEL}' means {HIGH}, {LOW}, but"):
            CrossRouteRunnable(models={MODEL: client}, router=router_of_efforts())

    class Low:
        def answer(self, task: Task) -> Flow:
            return (yield Ask(HIGH, effort="low"))

    # Who names an effort says that the client has it.
    named = ChatCrossRoute(
        models={LOW: fake, HIGH: fake}, router=router_of_efforts(), strategy=Low()
    )
    with caplog.at_level(logging.WARNING):
        assert [named.invoke("Hello").text for _ in range(2)] == ["Hi.", "Hi."]
    assert [one.message for one in caplog.records] == [
        "A strategy asks with a reasoning effort, which a FakeListChatModel is not known to take: "
        "it is left out"
    ]
