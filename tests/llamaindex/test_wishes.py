"""What a strategy wishes of LLMs, in the words of their classes."""

# ruff: noqa: ANN401  # Raw answers are mappings or objects of their providers.

from __future__ import annotations

from typing import Any

import pytest
from fakes_llamaindex import ASKS, MINI, SMALL, ScriptedLLM, answers_of
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    TextBlock,
    ThinkingBlock,
)
from llama_index.llms.openai_like import OpenAILike

from crossroute.strategies import Ask, Flow, Task
from llamaindex_crossroute import CrossRouteLLM
from llamaindex_crossroute.answers import logprobs_of
from llamaindex_crossroute.wishes import wished

WISH = {"logprobs": True, "seed": 1}


class Groq(OpenAILike):
    """A class whose API refuses them, made from one that knows them."""


def llm(kind: Any = OpenAILike, **settings: Any) -> Any:
    return kind(model="one", api_key="key", **{"is_chat_model": True, **settings})


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        (llm(), {}, ({"seed": 1, "logprobs": True}, True)),
        (llm(is_chat_model=False), {}, ({"seed": 1, "logprobs": 1}, True)),
        (llm(Groq), {}, ({"seed": 1}, False)),
        (ScriptedLLM(name=MINI), {}, ({"seed": 1}, False)),
        (llm(), {"logprobs": True}, ({"seed": 1}, False)),
        (llm(logprobs=True), {}, ({"seed": 1}, False)),
        (llm(additional_kwargs={"logprobs": True}), {}, ({"seed": 1}, False)),
    ],
)
def test_each_class_in_its_own_way(model: Any, given: dict[str, Any], expected: Any) -> None:
    assert wished(model, given, WISH, usage=False) == expected
    assert wished(model, given, {**WISH, "logprobs": False}, usage=False) == ({"seed": 1}, False)


def test_the_usage_of_a_stream_is_asked_for_unless_somebody_says_otherwise() -> None:
    options = {"include_usage": True}
    assert wished(llm(), {}, {}, usage=True) == ({"stream_options": options}, False)
    assert wished(llm(), {"stream_options": {}}, {}, usage=True) == ({}, False)
    own = llm(additional_kwargs={"stream_options": {}})
    assert wished(own, {}, {}, usage=True) == ({}, False)
    assert wished(ScriptedLLM(name=MINI), {}, {}, usage=True) == ({}, False)


class Own:
    def answer(self, task: Task) -> Flow:
        assert task.pool[SMALL].id == SMALL
        assert task.can(SMALL, "tools") == ("tools" in task.pool[SMALL].capabilities)
        return (yield Ask(SMALL, settings=WISH, role="draft"))


@pytest.mark.parametrize("way", ASKS)
async def test_a_class_that_does_not_know_them_is_not_asked(way: str) -> None:
    models = {model: ScriptedLLM(name=model) for model in (SMALL, MINI)}
    await answers_of(way, CrossRouteLLM(models=models, strategy=Own()))
    (given,) = models[SMALL]._given
    assert given.get("seed") == 1
    assert "logprobs" not in given


LISTED = [
    {"token": "Hm.", "logprob": -9},
    {"token": "I", "logprob": -1},
    {"token": " am.", "logprob": -2},
]
RAW = {"choices": [{"logprobs": {"content": LISTED}}]}


def test_those_of_reasoning_are_left_out() -> None:
    blocks = [ThinkingBlock(content="Hm."), TextBlock(text="I am.")]
    message = ChatMessage(role="assistant", blocks=blocks)
    assert logprobs_of(ChatResponse(message=message, raw=RAW)) == [-1, -2]
    thought = ChatResponse(
        message=message, delta="", raw=RAW, additional_kwargs={"thinking_delta": "Hm."}
    )
    assert logprobs_of(thought) == []
    said = ChatResponse(message=message, delta="Hm.I am.", raw=RAW)
    assert logprobs_of(said) == [-9, -1, -2]


def test_those_of_a_completion_are_in_lists_of_their_own() -> None:
    listed = {"tokens": ["I", " am."], "token_logprobs": [None, -2.0]}
    raw = {"choices": [{"logprobs": listed}]}
    assert logprobs_of(CompletionResponse(text="I am.", raw=raw)) == [-2]
