"""What the tests of `CrossRouteLLM` share: the ways of asking it, and what they find."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from openai_server import OpenAIServer
from pydantic import Field

from llamaindex_crossroute import CrossRouteLLM

MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
QUESTION = "What is the capital of France?"
TEXT = "The capital of France is Paris."
CHATS = ["chat", "achat", "stream_chat", "astream_chat"]
COMPLETIONS = ["complete", "acomplete", "stream_complete", "astream_complete"]
STREAMS = [way for way in (*CHATS, *COMPLETIONS) if "stream" in way]
PATIENCE = 60.0
"""Seconds after which something hangs; nothing here takes that long."""

Make = Callable[..., CrossRouteLLM]


def weather(city: str) -> str:
    """Say what the weather in a city is like."""
    return f"It rains in {city}."


TOOL = FunctionTool.from_defaults(weather)


class Wire(NamedTuple):
    """One server and one pair of HTTP clients for all: making them takes longer than a test."""

    server: OpenAIServer
    sync: httpx.Client
    asynchronous: httpx.AsyncClient


async def responses(way: str, llm: CrossRouteLLM, *arguments: Any) -> list[Any]:
    """What one of the eight methods gives: a response, or all chunks of a stream."""
    if not arguments:
        arguments = ([ChatMessage(QUESTION)],) if "chat" in way else (QUESTION,)
    answer = getattr(llm, way)(*arguments)
    if way.startswith("a"):
        answer = await answer
    if "stream" not in way:
        return [answer]
    if way.startswith("a"):
        return [chunk async for chunk in answer]
    return list(answer)


async def ask(way: str, llm: CrossRouteLLM) -> tuple[str, dict[str, Any]]:
    """The text and the decision."""
    answer = (await responses(way, llm))[-1]
    text = answer.message.content if "chat" in way else answer.text
    return text, answer.additional_kwargs["crossroute"]


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


class Recorder(BaseEventHandler):
    """The events of the root dispatcher."""

    found: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.found.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self.found if isinstance(event, kind)]
