"""An effort is an arm: real LLMs of three providers, by what they put on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Unpack

import pytest
from fakes_wire import MODEL, TEXT, WireServer, router_of_efforts
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import LLM, ChatMessage, MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import ToolMetadata
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, ValidationError

from crossroute import ModelDescriptor, NoCandidateError, PoolError
from crossroute.call_settings import CallSettings
from crossroute.strategies import Ask, Flow, Task
from llamaindex_crossroute import CrossRouteLLM, CrossRouteSelector, call_settings
from llamaindex_crossroute.lazy import LazyLLM
from llamaindex_crossroute.wishes import at_effort

LOW, HIGH = f"{MODEL}@low", f"{MODEL}@high"


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def openai(server: WireServer) -> LLM:
    # Of a model on its list, whose field holds in the place of what is sent otherwise.
    return OpenAILike(
        model="gpt-5",
        api_key="none",
        api_base=f"{server.url}/v1",
        is_chat_model=True,
        reasoning_effort="medium",
        max_retries=0,
    )


def unlisted(server: WireServer) -> LLM:
    base = f"{server.url}/v1"
    return OpenAILike(model=MODEL, api_key="none", api_base=base, is_chat_model=True, max_retries=0)


def responses(server: WireServer) -> LLM:
    return OpenAIResponses(
        model="gpt-5",
        api_key="none",
        api_base=f"{server.url}/v1",
        reasoning_options={"summary": "auto", "effort": "medium"},
        max_retries=0,
    )


def anthropic(server: WireServer) -> LLM:
    kind = pytest.importorskip("llama_index.llms.anthropic").Anthropic
    llm: LLM = kind(model="claude-opus-4-8", api_key="none", base_url=server.url, max_retries=0)
    return llm


def google(server: WireServer) -> LLM:
    kind = pytest.importorskip("llama_index.llms.google_genai").GoogleGenAI
    types = pytest.importorskip("google.genai.types")
    llm: LLM = kind(
        model="gemini-3-flash-preview",
        api_key="none",
        http_options=types.HttpOptions(base_url=server.url),
        context_window=100_000,
        max_tokens=100,
        generation_config=types.GenerateContentConfig(
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=100)
        ),
    )
    return llm


CLIENTS: dict[Callable[[WireServer], LLM], Callable[[dict[str, Any]], object]] = {
    openai: lambda body: body["reasoning_effort"],
    unlisted: lambda body: body["reasoning_effort"],
    responses: lambda body: body["reasoning"],
    anthropic: lambda body: body["output_config"],
    google: lambda body: body["generationConfig"]["thinkingConfig"],
}
"""LLMs, by what of a request has the effort."""
SAID: dict[Any, Callable[[str], object]] = {
    openai: lambda effort: effort,
    unlisted: lambda effort: effort,
    responses: lambda effort: {"summary": "auto", "effort": effort},
    anthropic: lambda effort: {"effort": effort},
    google: lambda effort: {"include_thoughts": True, "thinking_level": effort},
}
"""What it is for an effort."""


def plain(said: object) -> str:
    """What was said, however Google's client writes names."""
    return str(said).lower().replace("_", "")


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize("make", CLIENTS)
def test_one_llm_is_asked_with_the_effort_of_each_arm(
    make: Callable[[WireServer], LLM], server: WireServer
) -> None:
    llm = CrossRouteLLM(models={MODEL: make(server)}, router=router_of_efforts())
    messages = [ChatMessage("Capital of France?")]
    with call_settings(model=LOW):
        answer = llm.chat(messages)
    with call_settings(model=HIGH):
        # Google's `chat` runs a loop of its own.
        asyncio.run(llm.achat(messages))
        # It takes no settings of a call.
        llm.predict(PromptTemplate("Capital of {country}?"), country="France")
    assert answer.message.content == TEXT
    assert answer.additional_kwargs["crossroute"]["model"] == LOW
    said = [plain(CLIENTS[make](body)) for body in server.bodies]
    assert said == [plain(SAID[make](effort)) for effort in ("low", "high", "high")]


class Anthropic(MockLLM):
    """With the field of llama-index-llms-anthropic 0.12, which `anthropic` above is of."""

    additional_kwargs: dict[str, Any] = Field(
        default_factory=lambda: {"output_config": {"format": "json"}}
    )


class GoogleGenAI(MockLLM):
    """With the attribute of llama-index-llms-google-genai 0.11, which `google` above is of."""

    _generation_config: dict[str, Any] = PrivateAttr(
        default={
            "seed": 1,
            "thinking_config": {"include_thoughts": True, "thinking_budget": 100},
        }
    )


def test_llms_that_need_not_be_installed() -> None:
    claude, gemini = Anthropic(), GoogleGenAI()
    found: Any = at_effort(claude, "low")
    assert found.additional_kwargs == {"output_config": {"format": "json", "effort": "low"}}
    found = at_effort(gemini, "low")
    thinking = {"include_thoughts": True, "thinking_level": "low"}
    assert found._generation_config == {"seed": 1, "thinking_config": thinking}
    # The LLM itself stays as it is.
    assert gemini._generation_config["thinking_config"]["thinking_budget"] == 100
    assert "effort" not in claude.additional_kwargs["output_config"]
    models = {MODEL: gemini}
    assert set(CrossRouteLLM(models=models, router=router_of_efforts()).models) == {LOW, HIGH}


def test_an_ask_then_the_caller_then_the_arm(server: WireServer) -> None:
    class Medium:
        def answer(self, task: Task) -> Flow:
            return (yield Ask(HIGH, effort="medium"))

    messages = [ChatMessage("Hello")]
    llm = CrossRouteLLM(models={MODEL: openai(server)}, router=router_of_efforts())
    with call_settings(model=LOW):
        llm.chat(messages, reasoning_effort="xhigh")
    llm = CrossRouteLLM(
        models={MODEL: openai(server)}, router=router_of_efforts(), strategy=Medium()
    )
    answer = llm.chat(messages, reasoning_effort="xhigh")
    assert [body["reasoning_effort"] for body in server.bodies] == ["xhigh", "medium"]
    (ask,) = answer.additional_kwargs["crossroute"]["bill"]["asks"]
    assert (ask["model"], ask["effort"]) == (HIGH, "medium")


@pytest.mark.parametrize("make", [openai, responses])
def test_the_caller_s_words_are_those_of_any_class(
    make: Callable[[WireServer], LLM], server: WireServer
) -> None:
    messages = [ChatMessage("Hello")]
    llm = CrossRouteLLM(models={MODEL: make(server)}, router=router_of_efforts())
    with call_settings(model=LOW):
        llm.chat(messages, reasoning_effort="xhigh")
        llm.chat(messages, reasoning={"effort": "xhigh"})
    told = [plain(CLIENTS[make](body)) for body in server.bodies]
    assert told == [plain(SAID[make]("xhigh"))] * 2


class City(BaseModel):
    """A city."""

    name: str


def test_what_hides_the_effort_gets_it(server: WireServer) -> None:
    llm = CrossRouteLLM(
        models={MODEL: responses(server)},
        router=router_of_efforts(("structured_output",)),
    )
    # Of what it is built with, it sends nothing in this method. The answer is no JSON.
    with call_settings(model=LOW), pytest.raises(ValidationError):
        llm.structured_predict(City, PromptTemplate("Capital of France?"))
    with call_settings(model=LOW):
        llm.chat([ChatMessage("Hello")], reasoning={"summary": "detailed"})
    assert [body["reasoning"] for body in server.bodies] == [
        {"summary": "auto", "effort": "low"},
        {"summary": "detailed", "effort": "low"},
    ]


def test_no_temperature_is_sent_beside_reasoning(server: WireServer) -> None:
    base = f"{server.url}/v1"
    # Of a name that is not on the class's list of models that reason.
    unlisted = OpenAIResponses(model="gpt-4.1", api_key="none", api_base=base, temperature=0.3)
    llm = CrossRouteLLM(models={MODEL: unlisted}, router=router_of_efforts())
    llm.complete("Hello")
    (body,) = server.bodies
    assert "temperature" not in body
    assert body["reasoning"]["effort"] in ("low", "high")


def test_an_arm_of_a_folder_is_built_with_its_effort(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_KEY", "none")
    descriptor = ModelDescriptor.model_validate(
        {
            "id": HIGH,
            "provider": {
                "chat_model": f"openai:{MODEL}",
                "base_url": f"{server.url}/v1",
                "api_key_env": "OWN_KEY",
                "arguments": {"reasoning_effort": "high"},
            },
        }
    )
    LazyLLM.of(descriptor).load().complete("Hello")
    assert [body["reasoning_effort"] for body in server.bodies] == ["high"]


def test_what_cannot_be_asked_with_an_effort(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PoolError, match=f"'{MODEL}' means {HIGH}, {LOW}, but .* MockLLM"):
        CrossRouteLLM(models={MODEL: MockLLM()}, router=router_of_efforts())

    class Low:
        def answer(self, task: Task) -> Flow:
            return (yield Ask(HIGH, effort="low"))

    models = {LOW: MockLLM(), HIGH: MockLLM()}
    named = CrossRouteLLM(models=models, router=router_of_efforts(), strategy=Low())
    with caplog.at_level(logging.WARNING):
        named.complete("Hello")
        named.complete("Hello")
    assert len([one for one in caplog.records if "MockLLM is not known" in one.message]) == 1


def test_limits_of_a_selector_may_name_the_model() -> None:
    selector = CrossRouteSelector(router=router_of_efforts(), models=[LOW, HIGH])
    tools = [ToolMetadata(name=name, description=name) for name in ("quick", "thorough")]

    def offered(**limits: Unpack[CallSettings]) -> list[str]:
        with call_settings(**limits):
            decision = selector.select(tools, "Hello").decision
        return sorted(one.model for one in decision.candidates)

    assert offered(model=MODEL) == offered(allowed=[MODEL]) == [HIGH, LOW]
    assert offered(model=MODEL, excluded=[LOW]) == [HIGH]
    with pytest.raises(NoCandidateError, match="excluded by the call"):
        offered(excluded=[MODEL])
