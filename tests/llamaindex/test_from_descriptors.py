"""CrossRouteLLM.from_yaml: LLMs that descriptors name, over HTTP."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import copy
import math
import pickle
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import (
    ASK_STREAMS,
    ASKS,
    CHATS,
    LARGE,
    MINI,
    QUESTION,
    ROOT,
    TEXT,
    TOOL,
    Put,
    ask,
    asked,
    responses,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import MockLLM
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel, model_validator

from crossroute import DescriptorError, ModelDescriptor, PoolError
from crossroute.candidates import distribution
from crossroute.models.provider_arguments import allowed
from llamaindex_crossroute import CrossRouteLLM, call_settings
from llamaindex_crossroute.lazy import MAKERS, LazyLLM, Maker

pytestmark = pytest.mark.usefixtures("environment")


@pytest.mark.parametrize("way", ASKS)
async def test_from_yaml(way: str, folder: Path, server: OpenAIServer) -> None:
    server.answers[LARGE] = Reply(status=500)
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=math.inf)
    assert all(model.built is None for model in llm.models.values() if isinstance(model, LazyLLM))
    text, decision = await ask(way, llm)
    assert text == TEXT
    assert decision["model"] == MINI
    assert [attempt["model"] for attempt in decision["attempts"]] == [LARGE]
    assert decision["realised"]["cost_usd"] > 0
    # Each key goes to its own model only, and is shown nowhere.
    assert [(r.body["model"], r.authorization) for r in server.requests] == [
        (LARGE, "Bearer sk-SECRET-KEY_OF_LARGE"),
        (MINI, "Bearer sk-SECRET-KEY_OF_MINI"),
    ]
    shown = f"{llm!r} {llm} {llm.models!r} {decision} {llm.to_dict()} {llm.model_dump_json()}"
    assert MINI in shown
    assert "SECRET" not in shown
    assert not any("SECRET" in path.read_text("utf-8") for path in folder.iterdir())


@pytest.mark.parametrize("way", ASK_STREAMS)
@pytest.mark.parametrize("reply", [Reply(TEXT, cut_after=1), Reply("", end_after=1)])
async def test_a_stream_goes_on_elsewhere_until_its_first_words(
    reply: Reply, way: str, folder: Path, server: OpenAIServer
) -> None:
    server.answers = {MINI: reply, LARGE: Reply("I am large.")}
    text, decision = await ask(way, CrossRouteLLM.from_yaml(folder, willingness_to_pay=0))
    assert text == "I am large."
    assert [attempt["model"] for attempt in decision["attempts"]] == [MINI]
    assert asked(server) == [MINI, LARGE]


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_a_stream_that_has_begun_stays(way: str, folder: Path, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(TEXT, cut_after=4)
    with pytest.raises(Exception, match=r"(?i)connection|peer closed"):
        await ask(way, CrossRouteLLM.from_yaml(folder, willingness_to_pay=0))
    assert asked(server) == [MINI]


@pytest.mark.parametrize("way", [f"{way}_with_tools" for way in CHATS])
async def test_tools(way: str, folder: Path, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),))
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    answer = (await responses(way, llm, [TOOL], "What is the weather like in Paris?"))[-1]
    (call,) = llm.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Paris"})


@pytest.mark.parametrize("way", ["structured_predict", "astructured_predict"])
async def test_a_candidates_own_way_with_a_prompt(
    way: str, folder: Path, server: OpenAIServer
) -> None:
    from llama_index.core.prompts import PromptTemplate

    class Capital(BaseModel):
        """A capital."""

        city: str

    server.answers = {MINI: Reply(status=503), LARGE: Reply('{"city": "Paris"}')}
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    found: Any = getattr(llm, way)(Capital, PromptTemplate("The capital of France?"))
    assert (await found if way.startswith("a") else found) == Capital(city="Paris")
    # By OpenAI's structured outputs, which the descriptors say that both models have.
    assert [r.body["response_format"]["type"] for r in server.requests] == ["json_schema"] * 2


def test_metadata_is_that_of_the_descriptors(put: Put) -> None:
    put(LARGE, context_window_tokens=9000)
    llm = CrossRouteLLM.from_yaml(put(MINI, "a-name-that-openai-does-not-know"))
    assert llm.metadata.context_window == 9000
    assert llm.metadata.is_function_calling_model
    assert llm.metadata.is_chat_model
    lazy = llm.models[MINI]
    assert isinstance(lazy, LazyLLM)
    assert lazy.built is None
    assert lazy.load().metadata.context_window == lazy.metadata.context_window > 9000
    assert llm.complete(QUESTION).text
    without = CrossRouteLLM.from_yaml(put(MINI, capabilities=[]))
    assert not without.metadata.is_function_calling_model


def test_callbacks_of_the_router_reach_what_is_built_later(
    folder: Path, server: OpenAIServer
) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    server.answers[MINI] = Reply(TEXT, input_tokens=30, output_tokens=7)
    llm = CrossRouteLLM.from_yaml(
        folder, willingness_to_pay=0, callback_manager=CallbackManager([counter])
    )
    llm.complete(QUESTION)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (30, 7)
    other = TokenCountingHandler(tokenizer=str.split)
    llm.callback_manager = CallbackManager([other])
    llm.complete(QUESTION)
    assert (counter.prompt_llm_token_count, other.prompt_llm_token_count) == (30, 30)


@pytest.mark.parametrize("deep", [True, False])
def test_a_copy_for_another_process_holds_no_key(
    deep: bool, folder: Path, server: OpenAIServer
) -> None:
    # LlamaIndex leaves out what cannot be copied, and sends transformations to other processes.
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    assert llm.complete(QUESTION).text == TEXT
    content = pickle.dumps(llm)
    assert b"SECRET" not in content
    again = copy.deepcopy(llm) if deep else pickle.loads(content)
    assert again.complete(QUESTION).text == TEXT
    assert [request.authorization for request in server.requests] == [
        "Bearer sk-SECRET-KEY_OF_MINI"
    ] * 2


def test_the_shipped_descriptors() -> None:
    llm = CrossRouteLLM.from_yaml()
    assert {LARGE, MINI} <= set(llm.models)
    assert all(isinstance(model, LazyLLM) for model in llm.models.values())


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="nowhere"):
        CrossRouteLLM.from_yaml(tmp_path / "nowhere")


# Keys


@pytest.mark.parametrize("way", ASKS)
async def test_an_echoed_key_is_masked(
    way: str, folder: Path, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers[MINI] = Reply("You sent sk-SECRET-KEY_OF_MINI.", status=401)
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    _, decision = await ask(way, llm)
    assert "You sent ***." in decision["attempts"][0]["error"]
    with call_settings(model=MINI), pytest.raises(Exception, match=r"\*\*\*") as raised:
        await ask(way, llm)
    assert "SECRET" not in "".join(traceback.format_exception(raised.value))
    ours = [r.getMessage() for r in caplog.records if "crossroute" in r.name]
    assert any("***" in message for message in ours)
    assert "SECRET" not in str(ours)


def test_an_error_of_building_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(MockLLM):
        def __init__(self, **given: Any) -> None:
            raise ValueError(f"cannot make it of {given}")

    maker = Maker("careless", "Careless", {}, {}, keys=("MY_KEY",))
    monkeypatch.setitem(MAKERS, "careless", maker)  # type: ignore[arg-type]
    monkeypatch.setattr(LazyLLM, "_class", lambda _: Careless)
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    lazy = LazyLLM.of(descriptor("careless:x"))
    with pytest.raises(ValueError, match=r"\*\*\*") as raised:
        lazy.load()
    assert "SECRET" not in "".join(traceback.format_exception(raised.value))


def test_an_error_of_pydantic_shows_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(BaseModel, extra="allow"):
        @model_validator(mode="before")
        @classmethod
        def _endpoint(cls, given: dict[str, Any]) -> dict[str, Any]:
            raise ValueError("set the endpoint")

    key = "sk-" + "0123456789ABCDEF" * 4
    monkeypatch.setattr(LazyLLM, "_class", lambda _: Picky)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    lazy = LazyLLM.of(descriptor("openai:x"))
    with pytest.raises(
        DescriptorError, match="OpenAILike cannot be built: set the endpoint"
    ) as raised:
        lazy.load()
    told = "".join(traceback.format_exception(raised.value))
    assert key[-6:] not in told
    assert key[:6] not in told


def descriptor(chat_model: str, **more: Any) -> ModelDescriptor:
    provider = {"chat_model": chat_model, **more.pop("provider", {})}
    return ModelDescriptor.model_validate({"id": "me", "provider": provider, **more})


@pytest.mark.parametrize("vendor", [name for name, m in MAKERS.items() if m.name == "OpenAILike"])
def test_a_vendors_own_key_goes_to_its_own_address(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (variable,) = MAKERS[vendor].keys
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET-of-openai")
    monkeypatch.delenv(variable, raising=False)
    lazy = LazyLLM.of(descriptor(f"{vendor}:x"))
    with pytest.raises(DescriptorError, match=f"{variable}, which is not set"):
        lazy.load()
    monkeypatch.setenv(variable, "sk-SECRET-of-its-own")
    llm: Any = lazy.load()
    assert isinstance(llm, OpenAILike)
    assert llm.api_key == "sk-SECRET-of-its-own"
    host = "x.ai" if vendor == "xai" else vendor.partition("_")[0]
    assert host in llm.api_base
    assert llm.api_base.startswith("https://")


@pytest.mark.parametrize(
    ("set_to", "variable"),
    [({}, "GOOGLE_API_KEY"), ({"GEMINI_API_KEY": "x"}, "GEMINI_API_KEY")],
)
def test_the_first_variable_that_is_set_has_the_key(
    set_to: dict[str, str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert LazyLLM.of(descriptor("google_genai:x")).key_variable == variable


# What the classes are given


def test_arguments_by_their_names_in_llamaindex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET")
    arguments = {
        "temperature": 0.7,
        "max_tokens": 50,
        "request_timeout": 9,
        "max_retries": 1,
        "top_p": 0.5,
        "stop": ["x"],
        "seed": 3,
    }
    lazy = LazyLLM.of(
        descriptor(
            "openai:gpt-9",
            provider={"arguments": arguments},
            context_window_tokens=5000,
            capabilities=["tools"],
        )
    )
    llm: Any = lazy.load()
    assert (llm.model, llm.temperature, llm.max_tokens) == ("gpt-9", 0.7, 50)
    assert (llm.timeout, llm.max_retries) == (9, 1)
    # The cost of a stream is known only if its usage is asked for.
    assert llm.additional_kwargs == {
        "top_p": 0.5,
        "stop": ["x"],
        "seed": 3,
        "stream_options": {"include_usage": True},
    }
    assert llm.metadata == lazy.metadata
    assert (llm.metadata.context_window, llm.metadata.num_output) == (5000, 50)
    assert llm.metadata.is_function_calling_model


@pytest.mark.parametrize(("usage", "asked_for"), [(None, False), (False, False), (True, True)])
def test_other_servers_are_asked_for_usage_where_it_is_said(
    usage: bool | None, asked_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = {
        "base_url": "http://127.0.0.1:1/v1",
        "api_key_env": "KEY_OF_MINI",
        "arguments": {} if usage is None else {"stream_usage": usage},
    }
    llm: Any = LazyLLM.of(descriptor("openai:x", provider=provider)).load()
    assert ("stream_options" in llm.additional_kwargs) == asked_for


def test_every_class_has_names_that_a_descriptor_may_say() -> None:
    for vendor, maker in MAKERS.items():
        assert set(maker.arguments) & set(allowed(vendor))
        if maker.name != "OpenAILike":  # Whose table several providers share.
            assert not set(maker.arguments) - set(allowed(vendor)), vendor
        assert maker.package.startswith("llama_index.llms.")
        assert maker.key or not maker.keys


def test_a_class_with_a_list_of_names_takes_those_of_tomorrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = MAKERS["anthropic"]._replace(package="llama_index.llms.openai", name="OpenAI")
    monkeypatch.setitem(MAKERS, "anthropic", maker)  # type: ignore[arg-type]
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-SECRET")
    lazy = LazyLLM.of(descriptor("anthropic:claude-9", context_window_tokens=7000))
    llm = lazy.load()
    assert isinstance(llm, OpenAI)
    assert llm.metadata.context_window == 7000
    with pytest.raises(ValueError, match="claude-9"):
        OpenAI(model="claude-9", api_key="x").metadata  # noqa: B018  # Why it is needed.


def test_the_page_names_every_provider_with_its_arguments() -> None:
    page = (ROOT / "docs" / "descriptor.md").read_text("utf-8")
    section = page.partition("## In LlamaIndex")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| ")][1:]
    found = {name: row for row in rows for name in row[0].strip().split(", ")}
    assert set(found) == set(MAKERS)
    shared = re.search(r"`OpenAILike` and `AzureOpenAI` take.*?: (.*?)\.", section, re.DOTALL)
    assert shared is not None
    openai = set(re.findall(r"`(\w+)`", shared[1]))
    for name, (_, kind, arguments, keys) in found.items():
        maker, said = MAKERS[name], set(re.findall(r"`(\w+)`", arguments))
        if "see below" in arguments:
            said |= openai
        assert said == set(maker.arguments), name
        assert set(maker.keys) <= set(re.findall(r"`(\w+)`", keys))
        if "the same" not in kind:
            assert f"`{maker.name}`, {distribution(maker.package)}" in kind
