"""A strategy with real clients: the bill is what the server counted."""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute.strategies import Ask, Flow, Task
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM

MINI, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
QUESTION = "Are there infinitely many primes?"


@dataclass(frozen=True)
class DraftThenAnswer:
    """Drafts with the small model, and asks the large one."""

    def answer(self, task: Task) -> Flow:
        yield Ask(MINI, role="draft")
        return (yield Ask(LARGE))


@pytest.fixture
def server() -> Any:
    with OpenAIServer() as server:
        server.answers = {
            MINI: Reply("I am small.", input_tokens=31, output_tokens=7),
            LARGE: Reply("I am large.", input_tokens=33, output_tokens=9),
        }
        yield server


COUNTED = [(MINI, "draft", 31, 7, False), (LARGE, "answer", 33, 9, False)]


def asks(decision: dict[str, Any]) -> list[tuple[Any, ...]]:
    fields = ("model", "role", "input_tokens", "output_tokens", "estimated")
    return [tuple(ask[name] for name in fields) for ask in decision["bill"]["asks"]]


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_in_langchain(way: str, server: OpenAIServer) -> None:
    models = {
        model: ChatOpenAI(
            model=model, base_url=server.url, api_key="key", max_retries=0, stream_usage=True
        )
        for model in (MINI, LARGE)
    }
    chat = ChatCrossRoute(models=models, strategy=DraftThenAnswer())
    answer: Any = (
        chat.invoke(QUESTION) if way == "invoke" else reduce(add, list(chat.stream(QUESTION)))
    )
    assert answer.text == "I am large."
    decision = answer.response_metadata["crossroute"]
    assert asks(decision) == COUNTED
    costs = [ask["cost_usd"] for ask in decision["bill"]["asks"]]
    assert decision["bill"]["cost_usd"] == pytest.approx(sum(costs))
    assert [request.body["model"] for request in server.requests] == [MINI, LARGE]


def test_a_draft_that_fails(server: OpenAIServer) -> None:
    server.answers[MINI] = Reply("slow down", status=429)
    models = {
        model: ChatOpenAI(model=model, base_url=server.url, api_key="key", max_retries=0)
        for model in (MINI, LARGE)
    }
    chat = ChatCrossRoute(models=models, strategy=DraftThenAnswer())
    decision = chat.invoke(QUESTION).response_metadata["crossroute"]
    assert asks(decision) == [(MINI, "draft", 0, 0, True), COUNTED[1]]
    assert decision["attempts"][0]["model"] == MINI


def test_in_llamaindex(server: OpenAIServer) -> None:
    models = {
        model: OpenAILike(
            model=model, api_base=server.url, api_key="key", is_chat_model=True, max_retries=0
        )
        for model in (MINI, LARGE)
    }
    llm = CrossRouteLLM(models=models, strategy=DraftThenAnswer())
    answer = llm.chat([ChatMessage(QUESTION)])
    assert answer.message.content == "I am large."
    assert asks(answer.additional_kwargs["crossroute"]) == COUNTED
