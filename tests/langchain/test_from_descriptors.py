"""Chat models that are built from descriptors, when they are first chosen."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import datetime
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import (
    CALLS,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    ROUTERS,
    SMALL,
    SYSTEM,
    TEXT,
    WAYS,
    Recorder,
    ScriptedChatModel,
    ToolCaller,
    answer_of,
    chunks_of,
    decision_of,
    lookup,
    output_of,
    run_agent,
    weather,
    with_the_tool,
)
from fakes_langchain_providers import ScriptedProvider
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import ChatPromptTemplate
from openai_server import OpenAIServer, Reply

from crossroute import (
    CrossRouter,
    DescriptorError,
    MissingExtraError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Provider,
)
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.middleware import CrossRouteMiddleware

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])


class Builds:
    """Stands for `init_chat_model`; remembers what was built."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, model: str, **arguments: Any) -> ScriptedChatModel:
        time.sleep(0.02)  # long enough for a second thread to come in between
        self.made.append((model, arguments))
        return ScriptedChatModel(model_name=model)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()
    monkeypatch.setattr("langchain.chat_models.init_chat_model", builds)
    return builds


@pytest.fixture
def write(tmp_path: Path, router: CrossRouter) -> Callable[..., Path]:
    """Writes the shipped descriptors of some models into a folder, with changes."""

    def write(changes: dict[str, dict[str, Any]]) -> Path:
        for model, change in changes.items():
            content = router.pool[model].model_dump() | {"retired": None} | change
            ModelDescriptor.model_validate(content).save(tmp_path)
        return tmp_path

    return write


def provider(name: str, **settings: Any) -> dict[str, Any]:
    return {"provider": {"chat_model": f"fake:{name}", **settings}}


@pytest.mark.parametrize("way", WAYS)
async def test_a_chat_model_is_built_when_it_is_first_chosen(
    way: str, builds: Builds, write: Callable[..., Path], expected: Callable[[float], str]
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=math.inf, name="mine")
    assert routed.config_specs
    assert repr(routed)
    assert builds.made == []

    recorder = Recorder()
    for _ in range(2):
        chain = PROMPT | routed
        answer = await output_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})
    assert builds.made == [(f"fake:{expected(math.inf)}", {})]
    assert answer.text == f"I am fake:{expected(math.inf)}."
    # A model that is built late has no run of its own.
    for answering in recorder.of_kind("model"):
        parent = recorder.runs[answering].parent
        assert parent is not None
        assert recorder.runs[parent].name == "mine"


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_chat_model_that_is_built_late_streams(
    way: str, builds: Builds, write: Callable[..., Path]
) -> None:
    routed = CrossRouteRunnable.from_yaml(write({model: provider(model) for model in MODELS}))
    chunks = await chunks_of(way, routed, QUESTION)
    assert [chunk.text for chunk in chunks[:3]] == ["I a", "m f", "ake"]


def test_a_chat_model_is_built_once_for_many_threads(
    builds: Builds, write: Callable[..., Path]
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    barrier = threading.Barrier(8)

    def ask(_: int) -> Any:
        barrier.wait()
        return routed.invoke(QUESTION)

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(ask, range(8)))) == 8
    assert len(builds.made) == 1


async def test_a_chat_model_is_built_once_beside_the_event_loop(
    builds: Builds, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    threads = []

    def build(model: str, **arguments: Any) -> ScriptedChatModel:
        threads.append(threading.current_thread())
        return builds(model, **arguments)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    await asyncio.gather(*(routed.ainvoke(QUESTION) for _ in range(8)))
    assert len(builds.made) == 1
    assert threads[0] is not threading.main_thread()


def test_a_descriptor_says_how_to_build_its_model(
    builds: Builds, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    settings = {
        "base_url": "http://localhost:8000/v1",
        "api_key_env": "MY_KEY",
        "arguments": {"temperature": 0.5},
    }
    folder = write({model: provider(model, **settings) for model in MODELS})
    CrossRouteRunnable.from_yaml(folder).invoke(QUESTION)
    ((_, arguments),) = builds.made
    assert arguments.pop("api_key").get_secret_value() == "sk-SECRET"
    assert arguments == {"temperature": 0.5, "base_url": "http://localhost:8000/v1"}


def test_a_real_chat_model_is_built_without_showing_its_key(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    good = Provider(chat_model="openai:gpt-4o-mini", api_key_env="MY_KEY")
    model: Any = LazyChatModel("good", good).load()
    assert model.openai_api_key.get_secret_value() == "sk-SECRET"

    wrong = good.model_copy(update={"arguments": {"n": 0}})
    with pytest.raises(ValueError, match="n must be at least 1") as raised:
        LazyChatModel("wrong", wrong).load()
    assert "SECRET" not in str(raised.value)
    assert raised.value.__notes__ == ["While building the chat model of 'wrong'."]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_named(
    value: str | None,
    builds: Builds,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    monkeypatch.setenv("OTHER_KEY", "sk-SECRET")
    folder = write({model: provider(model, api_key_env="MY_KEY") for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    with pytest.raises(DescriptorError, match=f"{SMALL}.*MY_KEY, which is not set") as raised:
        routed.invoke(QUESTION)
    assert "SECRET" not in str(raised.value)
    assert builds.made == []

    # It is asked for again: the variable may be set later.
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    assert routed.invoke(QUESTION).text


def test_without_langchain_it_says_what_to_install(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder)
    with pytest.raises(MissingExtraError, match=r"'langchain'.*pip install"):
        routed.invoke(QUESTION)


def test_retired_models_and_those_without_a_provider_are_left_out(
    write: Callable[..., Path],
) -> None:
    today = datetime.date.today()
    folder = write(
        {
            LARGE: {"retired": today + datetime.timedelta(days=30)},
            SMALL: {},
            MINI: {"retired": today},
            "gpt-5.5": {"retired": today - datetime.timedelta(days=1)},
            "Meta-Llama-3.1-70B-Instruct": {"provider": None},
        }
    )
    assert set(CrossRouteRunnable.from_yaml(folder).models) == {LARGE, SMALL}


def test_fewer_than_two_models_left(write: Callable[..., Path]) -> None:
    folder = write(
        {LARGE: {"provider": None}, SMALL: {}, MINI: {"retired": datetime.date(2020, 1, 2)}}
    )
    with pytest.raises(PoolError) as raised:
        CrossRouteRunnable.from_yaml(folder)
    for part in (f"1 of the 3 descriptors: {SMALL};", f"{LARGE} (no provider)", "2020-01-02"):
        assert part in str(raised.value)


def test_a_checkpoint_folder(toy_router: CrossRouter, tmp_path: Path, builds: Builds) -> None:
    pool = ModelPool(
        model.model_copy(update={"provider": Provider(chat_model=f"fake:{model.id}")})
        for model in toy_router.pool.values()
    )
    toy_router.checkpoint.save(tmp_path / "checkpoint", pool)
    routed = CrossRouteRunnable.from_yaml(tmp_path / "checkpoint", willingness_to_pay=0)
    assert routed.router.checkpoint.id == toy_router.checkpoint.id
    chosen = toy_router.route(QUESTION, 0).model
    assert routed.invoke(QUESTION).text == f"I am fake:{chosen}."


def test_the_shipped_descriptors(router: CrossRouter) -> None:
    routed = CrossRouteRunnable.from_yaml()
    assert {LARGE, MINI} <= set(routed.models)
    assert all(router.pool[model].provider for model in routed.models)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="nowhere"):
        CrossRouteRunnable.from_yaml(tmp_path / "nowhere")


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
    # As if it were installed.
    monkeypatch.setitem(sys.modules, "langchain_openrouter", sys)
    for model in MODELS:
        router.pool[model].save(tmp_path)
    chat = ChatCrossRoute.from_yaml(tmp_path, willingness_to_pay=0)
    assert chat.profile
    assert made == []
    answer = await answer_of(way, chat.bind_tools([weather]), QUESTION)
    assert answer.tool_calls
    assert made == ["openrouter:meta-llama/llama-3.1-8b-instruct"]


@pytest.mark.parametrize("way", INVOKES)
async def test_chat_models_of_descriptors_are_built_when_chosen(
    way: str,
    router: CrossRouter,
    expected: Callable[[float], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def build(name: str, **_: Any) -> ToolCaller:
        made.append(name)
        return ToolCaller(model_name=name)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    for id_ in MODELS:
        change = {"provider": Provider(chat_model=f"fake:{id_}"), "retired": None}
        ModelDescriptor.model_validate(router.pool[id_].model_copy(update=change)).save(tmp_path)
    routed = CrossRouteMiddleware.from_yaml(tmp_path, willingness_to_pay=0)
    assert made == []
    agent: Any = create_agent(ToolCaller(model_name="never"), [lookup], middleware=[routed])
    state = await run_agent(way, agent)
    assert made == [f"fake:{expected(0)}"]
    assert state["messages"][-1].text == f"I am fake:{expected(0)}."


# Clients


@pytest.fixture
def folder(
    server: OpenAIServer, router: CrossRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Descriptors of both models, which are reached at the server with a key each."""
    for model, variable in ((MINI, "KEY_OF_MINI"), (LARGE, "KEY_OF_LARGE")):
        monkeypatch.setenv(variable, f"sk-SECRET-{variable}")
        content = router.pool[model].model_dump() | {
            "retired": None,
            "provider": {
                "chat_model": f"openai:{model}",
                "base_url": server.url,
                "api_key_env": variable,
                "arguments": {"max_retries": 0, "stream_usage": True},
            },
        }
        ModelDescriptor.model_validate(content).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
async def test_from_yaml(way: str, kind: type[Any], folder: Path, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply(status=500)
    routed = kind.from_yaml(folder, willingness_to_pay=math.inf)
    answer = await output_of(way, routed, QUESTION)
    assert answer.text == TEXT
    assert decision_of(answer)["model"] == MINI
    assert [attempt["model"] for attempt in decision_of(answer)["attempts"]] == [LARGE]
    assert decision_of(answer)["realised"]["cost_usd"] > 0
    # Each key goes to its own model only, and is shown nowhere.
    assert [(r.body["model"], r.authorization) for r in server.requests] == [
        (LARGE, "Bearer sk-SECRET-KEY_OF_LARGE"),
        (MINI, "Bearer sk-SECRET-KEY_OF_MINI"),
    ]
    shown = f"{routed!r} {routed.models!r} {answer!r} {json.dumps(routed.to_json())}"
    assert MINI in shown
    assert "SECRET" not in shown
    assert not any("SECRET" in path.read_text("utf-8") for path in folder.iterdir())


async def test_tools_of_models_from_yaml(folder: Path, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    routed = ChatCrossRoute.from_yaml(folder, willingness_to_pay=0).bind_tools([weather])
    answer = await routed.ainvoke("What is the weather like in Paris?")
    assert [call["name"] for call in answer.tool_calls] == ["weather"]
    assert [bound["function"]["name"] for bound in server.requests[0].body["tools"]] == ["weather"]
