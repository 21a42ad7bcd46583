"""For the same request and pool, LangChain's and LlamaIndex's side give the same decision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from typing import Any, NamedTuple

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.messages.utils import convert_to_messages
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool

from crossroute import Constraints, CrossRouter, Decision, NoCandidateError
from crossroute.call_settings import CallSettings
from langchain_crossroute import ChatCrossRoute
from langchain_crossroute.dispatch import BUDGET
from llamaindex_crossroute import CrossRouteLLM, CrossRouteSelector, call_settings

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
CHEAP = "gemini-3.1-flash-lite"
MODELS = [LARGE, SMALL, MEDIUM, CHEAP]
QUESTION = "Prove that there are infinitely many primes, and explain every step."
SUM = "What is 17 * 23?"
WILLINGNESS = [0, 1e-4, 0.001, 0.01, 0.3, math.inf]


class AnyChatModel(FakeListChatModel):
    """A chat model that takes tools, as they are."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return self


class Pair(NamedTuple):
    """One request in the form of each framework."""

    langchain: str | list[BaseMessage]
    llamaindex: str | list[ChatMessage]


def _multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


MULTIPLY = FunctionTool.from_defaults(_multiply, name="multiply")


def pair(*turns: tuple[str, str]) -> Pair:
    return Pair(
        convert_to_messages(list(turns)),
        [ChatMessage(text, role=role) for role, text in turns],
    )


def parts(
    langchain: list[dict[str, Any]],
    llamaindex: list[Any],
) -> Pair:
    return Pair(
        convert_to_messages([{"role": "user", "content": langchain}]),
        [ChatMessage(blocks=llamaindex)],
    )


TEXT = {"type": "text", "text": "What is in it?"}
CALL = ToolCall(name="multiply", args={"a": 17, "b": 23}, id="call_1")
TOOL_LOOP = Pair(
    [
        *convert_to_messages([("system", "Use the tools."), ("user", SUM)]),
        AIMessage("", tool_calls=[CALL]),
        *convert_to_messages([{"role": "tool", "content": "391", "tool_call_id": "call_1"}]),
    ],
    [
        ChatMessage("Use the tools.", role="system"),
        ChatMessage(SUM),
        ChatMessage(
            role="assistant",
            blocks=[
                TextBlock(text=""),
                # As OpenAI's clients leave the arguments.
                ToolCallBlock(
                    tool_name="multiply",
                    tool_kwargs=json.dumps({"a": 17, "b": 23}),
                    tool_call_id="call_1",
                ),
            ],
        ),
        ChatMessage("391", role="tool", additional_kwargs={"tool_call_id": "call_1"}),
    ],
)
REQUESTS = {
    "string": Pair(QUESTION, QUESTION),
    "sum": Pair(SUM, SUM),
    "code": Pair("def f(x):\n    return x +", "def f(x):\n    return x +"),
    "long": Pair("word " * 9_000 + QUESTION, "word " * 9_000 + QUESTION),
    "not ascii": Pair("Übersetze: 你好世界", "Übersetze: 你好世界"),
    "one turn": pair(("user", QUESTION)),
    "system prompt": pair(("system", "You are a poet. " * 40), ("user", SUM)),
    "follow-up": pair(("user", QUESTION), ("assistant", "Shall I go on?"), ("user", "yes")),
    "two follow-ups": pair(
        ("system", "Be brief."),
        ("user", QUESTION),
        ("assistant", "Euclid's proof. Shall I go on?"),
        ("user", "yes, do"),
        ("assistant", "And now?"),
        ("user", "again"),
    ),
    "change of subject": pair(
        ("user", QUESTION), ("assistant", "Done."), ("user", "Translate this: Guten Tag, Ada.")
    ),
    "answer last": pair(("user", QUESTION), ("assistant", "Assume that there are only finitely")),
    "tool loop": TOOL_LOOP,
    "text parts": parts(
        [TEXT, {"type": "text", "text": QUESTION}],
        [TextBlock(text="What is in it?"), TextBlock(text=QUESTION)],
    ),
    "image": parts(
        [TEXT, {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}],
        [TextBlock(text="What is in it?"), ImageBlock(url="https://a.b/c.png")],
    ),
    "lone image": parts(
        [{"type": "image", "url": "https://a.b/c.png"}], [ImageBlock(url="https://a.b/c.png")]
    ),
    "audio": parts(
        [TEXT, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}],
        [TextBlock(text="What is in it?"), AudioBlock(url="https://a.b/c.mp3")],
    ),
    "document": parts(
        [TEXT, {"type": "file", "file": {"file_id": "f"}}],
        [TextBlock(text="What is in it?"), DocumentBlock(data=b"%PDF-1.7", title="f")],
    ),
    "thoughts": Pair(
        [
            *convert_to_messages([("user", QUESTION)]),
            AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]),
            *convert_to_messages([("user", "Why?")]),
        ],
        [
            ChatMessage(QUESTION),
            ChatMessage(
                role="assistant", blocks=[ThinkingBlock(content="Hm."), TextBlock(text="Yes.")]
            ),
            ChatMessage("Why?"),
        ],
    ),
}


def langchain_decision(
    request: Pair,
    willingness: float,
    tools: list[dict[str, Any]] | None = None,
    limits: dict[str, Any] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> dict[str, Any]:
    chat: Any = ChatCrossRoute(
        models={model: AnyChatModel(responses=["An answer."]) for model in MODELS},
        willingness_to_pay=willingness,
    )
    if tools is not None:
        chat = chat.bind_tools(tools)
    settings = {f"crossroute_{name}": value for name, value in (limits or {}).items()}
    answer = chat.invoke(request.langchain, {"configurable": settings}, **kwargs)
    found: dict[str, Any] = dict(answer.response_metadata["crossroute"])
    del found["bill"]
    return found


def llamaindex_decision(
    request: Pair,
    willingness: float,
    tools: list[FunctionTool] | None = None,
    limits: dict[str, Any] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> dict[str, Any]:
    models: dict[str, LLM] = {model: MockFunctionCallingLLM() for model in MODELS}
    llm = CrossRouteLLM(models=models, willingness_to_pay=willingness)
    asked = request.llamaindex
    with call_settings(**limits) if limits else nullcontext():
        if tools is not None:
            messages = [ChatMessage(asked)] if isinstance(asked, str) else asked
            answer: Any = llm.chat_with_tools(tools, chat_history=messages)
        elif isinstance(asked, str):
            answer = llm.complete(asked, **kwargs)
        else:
            answer = llm.chat(asked, **kwargs)
    found: dict[str, Any] = dict(answer.additional_kwargs["crossroute"])
    del found["bill"]
    return found


def test_the_requests_and_settings_lead_to_different_models() -> None:
    # Otherwise the comparisons below would hold for two constant routers.
    found = {
        llamaindex_decision(request, willingness)["model"]
        for request in REQUESTS.values()
        for willingness in WILLINGNESS
    }
    assert len(found) > 2


@pytest.mark.parametrize("willingness", WILLINGNESS)
@pytest.mark.parametrize("name", REQUESTS)
def test_both_sides_decide_the_same(name: str, willingness: float) -> None:
    request = REQUESTS[name]
    assert llamaindex_decision(request, willingness) == langchain_decision(request, willingness)


@pytest.mark.parametrize("willingness", WILLINGNESS)
@pytest.mark.parametrize("name", ["string", "follow-up", "tool loop", "image"])
def test_with_tools(name: str, willingness: float) -> None:
    request = REQUESTS[name]
    found = llamaindex_decision(request, willingness, [MULTIPLY])
    assert found == langchain_decision(request, willingness, [MULTIPLY.metadata.to_openai_tool()])
    assert found["input_tokens"] > llamaindex_decision(request, willingness)["input_tokens"]


@pytest.mark.parametrize("name", ["string", "one turn"])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"max_tokens": 9_000},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"functions": [MULTIPLY.metadata.to_openai_tool()["function"]]},
    ],
)
def test_with_arguments(name: str, kwargs: dict[str, Any]) -> None:
    found = llamaindex_decision(REQUESTS[name], 0, **kwargs)
    assert found == langchain_decision(REQUESTS[name], 0, **kwargs)


@pytest.mark.parametrize(
    "limits",
    [
        {"model": MEDIUM},
        {"allowed": [SMALL, LARGE]},
        {"excluded": [CHEAP, SMALL]},
        {"max_cost_usd": 1e-3},
        {"hard_max_cost_usd": 5e-4},
        {"regions": ["eu"]},
        {"languages": ["de"]},
        {"max_data_retention_days": 30},
        {"max_latency_seconds": 3},
    ],
)
@pytest.mark.parametrize("name", ["string", "follow-up", "image"])
def test_with_the_settings_of_a_call(name: str, limits: dict[str, Any]) -> None:
    def outcome(decide: Callable[..., dict[str, Any]]) -> object:
        try:
            return decide(REQUESTS[name], 0.01, limits=limits)
        except NoCandidateError as error:
            return error.removed

    assert outcome(llamaindex_decision) == outcome(langchain_decision)


def test_both_sides_have_the_same_settings() -> None:
    chat = ChatCrossRoute(models={m: AnyChatModel(responses=["?"]) for m in MODELS})
    # LlamaIndex has no batches that could have a budget.
    ids = {spec.id for spec in chat.config_specs} - {BUDGET}
    names = {name.removeprefix("crossroute_") for name in ids}
    assert names == set(CallSettings.__annotations__)
    limits = {field.name for field in fields(Constraints)}
    assert names == {"willingness_to_pay", *limits}
    with (
        pytest.raises(TypeError, match="no 'lamguages'; the settings are"),
        call_settings(
            lamguages=["de"],  # type: ignore[call-arg]
        ),
    ):
        pass


@pytest.mark.parametrize("willingness", WILLINGNESS)
def test_the_selector_decides_the_same(willingness: float) -> None:
    selector = CrossRouteSelector(models=MODELS, willingness_to_pay=willingness)
    decision: Decision = selector.select(list("abcd"), QUESTION).decision
    assert decision == CrossRouter.default().subset(MODELS).route(QUESTION, willingness)
    assert decision.to_dict() == langchain_decision(REQUESTS["string"], willingness)


def test_a_context_window_is_completed_the_same() -> None:
    # Neither framework's fakes say anything about themselves.
    chat = ChatCrossRoute(models={model: AnyChatModel(responses=[""]) for model in MODELS})
    llm = CrossRouteLLM(models={model: MockFunctionCallingLLM() for model in MODELS})
    assert dict(chat.router.pool) == dict(llm.router.pool)
    plain = CrossRouteLLM(models={model: MockLLM() for model in MODELS})
    assert dict(plain.router.pool) != dict(llm.router.pool)
