"""What a strategy wishes of chat models, in the words of classes that are not installed here."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes_langchain import CALLS, QUESTION, SMALL, answer_of, scripted
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_openai import ChatOpenAI
from pydantic import Field

from crossroute.strategies import Ask, Flow, Reply, Task
from langchain_crossroute import ChatCrossRoute
from langchain_crossroute.wishes import Wishes

WORDS = ["I", " am", " here."]
VALUES = [-0.5, -1.0, -2.0]
OTHER = "gpt-4o-mini-2024-07-18"


@dataclass(frozen=True)
class Draft:
    """Asks for log-probabilities, whatever a descriptor says, and takes the draft."""

    role: Any = "draft"
    heard: list[Reply] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        reply = yield Ask(SMALL, role=self.role, settings={"logprobs": True, "seed": 1})
        self.heard.append(reply)
        return reply


class ChatOllama(BaseChatModel):
    """Lists tokens as Ollama's class does, with those of its reasoning if it has any."""

    logprobs: bool | None = None
    thought: str = ""
    given: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "chat-ollama"

    def listed(self, words: list[tuple[str, float]]) -> dict[str, Any]:
        tokens = [{"token": word, "logprob": value} for word, value in words]
        return {"logprobs": tokens} if self.logprobs else {}

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.given.append(kwargs)
        words = list(zip(WORDS, VALUES, strict=True))
        message = AIMessage("".join(WORDS), response_metadata={"done_reason": "stop"})
        if self.thought:
            words = [(self.thought, -9.0), *words]
            message.additional_kwargs["reasoning_content"] = self.thought
        message.response_metadata |= self.listed(words)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.given.append(kwargs)
        if self.thought:
            beside = {"reasoning_content": self.thought}
            chunk = AIMessageChunk("", additional_kwargs=beside)
            chunk.response_metadata = self.listed([(self.thought, -9.0)])
            yield ChatGenerationChunk(message=chunk)
        for word, value in zip(WORDS, VALUES, strict=True):
            chunk = AIMessageChunk(word)
            chunk.response_metadata = self.listed([(word, value)])
            yield ChatGenerationChunk(message=chunk)


class ChatVertexAI(ChatOllama):
    """Lists them under another name."""

    def listed(self, words: list[tuple[str, float]]) -> dict[str, Any]:
        found = super().listed(words)
        return {"logprobs_result": found["logprobs"]} if found else {}


class ChatTogether(ChatOpenAI):
    """Lists tokens and values apart."""

    def listed(self, words: list[tuple[str, float]]) -> dict[str, Any]:
        if not self.logprobs:
            return {}
        tokens, values = zip(*words, strict=True)
        return {"logprobs": {"tokens": list(tokens), "token_logprobs": list(values)}}

    thought: str = ""
    given: list[Any] = Field(default_factory=list)
    _generate = ChatOllama._generate
    _stream = ChatOllama._stream
    _agenerate = BaseChatModel._agenerate
    _astream = BaseChatModel._astream


KINDS: list[Any] = [
    ChatOllama,
    ChatVertexAI,
    lambda **settings: ChatTogether(model="one", api_key="key", **settings),
]


@pytest.mark.parametrize("thought", ["", "Let me see."])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", CALLS)
async def test_each_class_in_its_own_way(way: str, kind: Any, thought: str) -> None:
    strategy = Draft()
    models = {SMALL: kind(thought=thought, given=[]), OTHER: kind()}
    answer = await answer_of(way, ChatCrossRoute(models=models, strategy=strategy), QUESTION)
    assert answer.text == "I am here."
    assert [reply.logprobs for reply in strategy.heard] == [VALUES]
    assert not {"logprobs", "logprobs_result"} & answer.response_metadata.keys()
    # What the class knows is no keyword of the call, and the caller's own model stays as it is.
    assert models[SMALL].given[0].keys() <= {"seed", "stream"}
    assert not models[SMALL].logprobs


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("role", ["draft", "answer"])
async def test_a_class_that_does_not_know_them_is_not_asked(way: str, role: str) -> None:
    strategy, models = Draft(role), scripted()
    await answer_of(way, ChatCrossRoute(models=models, strategy=strategy), QUESTION)
    assert models[SMALL].given[0] == {"seed": 1}
    assert strategy.heard[0].logprobs == []


def model(**settings: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o", api_key="key", **settings)  # type: ignore[arg-type]


def test_nothing_wished_is_nothing_changed() -> None:
    chain = RunnablePassthrough() | model()
    assert Wishes().of(chain, {}) == (chain, False)
    assert Wishes().of(chain, {})[0] is chain
    plain = RunnableLambda(lambda text: text)
    assert Wishes(logprobs=True, fresh=True, usage=True).of(plain, {}) == (plain, False)


def test_models_are_found_wherever_they_stand() -> None:
    wishes = Wishes(logprobs=True, usage=True, fresh=True)
    own, other = model(stream_usage=None), model(cache=True, stream_usage=False)
    candidate = (
        RunnablePassthrough.assign(x=own.bind(seed=1))
        | RunnableParallel(a=own, b=lambda x: x)
        | other
    ).with_fallbacks([own.with_retry()])
    found, ours = wishes.of(candidate, {})
    assert ours
    assign, parallel, last = found.runnable.steps
    inner = [
        assign.mapper.steps__["x"].bound,
        parallel.steps__["a"],
        last,
        found.fallbacks[0].bound,
    ]
    assert [one.logprobs for one in inner] == [True] * 4
    assert [one.cache for one in inner] == [False] * 4
    assert [one.stream_usage for one in inner] == [True, True, False, True]
    assert assign.mapper.steps__["x"].kwargs == {"seed": 1}
    # On copies, which have the same clients.
    assert (own.logprobs, own.cache, other.cache) == (None, None, True)
    assert last.client is other.client


@pytest.mark.parametrize(
    "candidate",
    [
        model(logprobs=True),
        model().bind(logprobs=True),
        model(use_responses_api=True),
        model().bind(include=["reasoning.encrypted_content"]),
    ],
)
def test_a_wish_adds_nothing_where_it_cannot_or_need_not(candidate: Any) -> None:
    found, ours = Wishes(logprobs=True).of(candidate, {})
    assert found is candidate
    assert not ours
