"""What the tests of LangChain's classes share: chat models, handlers, ways of asking.

A module called `langchain_...` would count as a vendor's client, and its errors as such a client's.
"""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI
from langgraph.graph.message import add_messages
from langgraph.types import Command
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel, Field

from crossroute import CrossRouter, Provider
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.middleware import CrossRouteMiddleware

ROOT = Path(__file__).parents[2]

# From the cheapest to the best.
SMALL = "Meta-Llama-3.1-8B-Instruct"
MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MINI]

QUESTION = "Prove that there are infinitely many primes, and explain every step."
SYSTEM = "You answer briefly."
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
TEXT = "The capital of France is Paris."
USAGE = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}

INVOKES = ["invoke", "ainvoke"]
STREAMS = ["stream", "astream"]
CALLS = [*INVOKES, *STREAMS]
WAYS = [*CALLS, "batch", "abatch"]
ALL_WAYS = [*WAYS, "generate", "agenerate", "v3", "av3"]
ROUTERS = [ChatCrossRoute, CrossRouteRunnable]
BOTH = pytest.mark.parametrize("kind", ROUTERS)

PATIENCE = 60.0
"""Seconds after which something hangs; nothing here takes that long."""

Make = Callable[..., Any]


# Chat models


class ScriptedChatModel(BaseChatModel):
    """Answers with its name, in tokens of three characters; remembers what it was asked."""

    model_name: str
    error: Any = None
    drops_after: int | None = None
    refusal: Any = None
    usage: Any = Field(
        default_factory=lambda: {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    )
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    stops: list[list[str] | None] = Field(default_factory=list)
    given: list[dict[str, Any]] = Field(default_factory=list)
    tokens_made: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def text(self) -> str:
        return f"I am {self.model_name}."

    @property
    def metadata_of_answer(self) -> dict[str, Any]:
        metadata = {"model_name": self.model_name, "model_provider": "scripted"}
        return metadata | {"finish_reason": "stop"}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self._ask(messages, stop, kwargs)
        answer = AIMessage(
            self.text,
            usage_metadata=self.usage,
            **{"response_metadata": self.metadata_of_answer} | (self.refusal or {}),
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        await asyncio.sleep(0)
        return self._generate(messages, stop, **kwargs)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._ask(messages, stop, kwargs)
        for chunk in self._chunks():
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self._ask(messages, stop, kwargs)
        for chunk in self._chunks():
            await asyncio.sleep(0)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        tokens = [self.text[start : start + 3] for start in range(0, len(self.text), 3)]
        for position, token in enumerate(tokens):
            if position == self.drops_after:
                raise self.error
            self.tokens_made.append(token)
            message = AIMessageChunk(token)
            if token is tokens[-1]:
                message.usage_metadata = self.usage
                message.response_metadata = self.metadata_of_answer
                message = message.model_copy(update=self.refusal)
            yield ChatGenerationChunk(message=message)

    def _ask(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> None:
        self.asked.append(messages)
        self.stops.append(stop)
        self.given.append(kwargs)
        if self.error is not None and self.drops_after is None:
            raise self.error


def scripted(**settings: Any) -> dict[str, ScriptedChatModel]:
    return {model: ScriptedChatModel(model_name=model, **settings) for model in MODELS}


def changed(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Scripted models, some of them with other settings."""
    return {
        model: ScriptedChatModel(model_name=model, **changes.get(model, {})) for model in MODELS
    }


def cheap(models: Any, **settings: Any) -> ChatCrossRoute:
    return ChatCrossRoute(models=models, willingness_to_pay=0, **settings)


class ToolCaller(BaseChatModel):
    """Calls the first of its tools for a user, answers with its name after that."""

    model_name: str
    errors: list[Exception] = Field(default_factory=list)
    fails_after: int = 0
    refuses: bool = False
    begins: str = ""
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    settings: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _answer(self, messages: list[BaseMessage], **kwargs: Any) -> AIMessage:
        self.asked.append(messages)
        self.settings.append(kwargs)
        answer: dict[str, Any] = {
            "response_metadata": {"model_name": self.model_name},
            "usage_metadata": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
        }
        if self.refuses:
            answer["additional_kwargs"] = {"refusal": "I will not."}
            return AIMessage(self.begins, **answer)
        tools = [tool["function"] for tool in kwargs.get("tools", [])]
        if tools and not isinstance(messages[-1], ToolMessage):
            (needed,) = tools[0]["parameters"]["required"][:1]
            call = {"name": tools[0]["name"], "args": {needed: "Paris"}, "id": "1"}
            return AIMessage("", tool_calls=[call], **answer)
        if "response_format" in kwargs:
            return AIMessage('{"city": "Paris"}', **answer)
        return AIMessage(f"I am {self.model_name}.", **answer)

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = self._answer(messages, **kwargs)
        self._fail()
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, **kwargs)
        if not self.fails_after:
            self._fail()
        for made, start in enumerate(range(0, len(answer.text), 3)):
            if made == self.fails_after:
                self._fail()
            chunk = ChatGenerationChunk(message=AIMessageChunk(answer.text[start : start + 3]))
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
        last = AIMessageChunk(
            "",
            tool_call_chunks=[
                {"name": call["name"], "args": json.dumps(call["args"]), "id": "1", "index": 0}
                for call in answer.tool_calls
            ],
            additional_kwargs=answer.additional_kwargs,
            response_metadata=answer.response_metadata,
            usage_metadata=answer.usage_metadata,
        )
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, **kwargs):
            await asyncio.sleep(0)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def tool_callers(**settings: Any) -> dict[str, ToolCaller]:
    return {model: ToolCaller(model_name=model, **settings) for model in MODELS}


class Counted(BaseChatModel):
    """Answers with a given usage, or none; fails if told to."""

    usage: dict[str, Any] | None = Field(default_factory=lambda: dict(USAGE))
    error: Exception | None = None

    @property
    def _llm_type(self) -> str:
        return "counted"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if self.error is not None:
            raise self.error
        answer = AIMessage("Fine.", usage_metadata=self.usage)  # type: ignore[arg-type]
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("Fi"))
        if self.error is not None:
            raise self.error
        last = AIMessageChunk("ne.", usage_metadata=self.usage)  # type: ignore[arg-type]
        yield ChatGenerationChunk(message=last)


def client(server: OpenAIServer, model: str, **settings: Any) -> ChatOpenAI:
    defaults: dict[str, Any] = {
        "base_url": server.url,
        "api_key": f"key of {model}",
        "max_retries": 0,
        "timeout": PATIENCE,
        "stream_usage": True,
    }
    return ChatOpenAI(model=model, **defaults | settings)


# Tools, schemas and replies with them


@tool
def weather(city: str) -> str:
    """Say what the weather in a city is like."""
    return f"It rains in {city}."


def lookup(city: str) -> str:
    """Look a city up."""
    return f"{city} is fine."


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Capital(BaseModel):
    """The capital of a country."""

    city: str


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


def with_the_tool(body: dict[str, Any]) -> Reply:
    """Calls the tool, and tells its result."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Reply(f"The tool says: {last['content']}")
    return Reply(tool_calls=(("weather", {"city": "Paris"}),))


def person(body: dict[str, Any]) -> Reply:
    ada = {"name": "Ada", "age": 36}
    if body.get("tools"):
        return Reply(tool_calls=((body["tools"][0]["function"]["name"], ada),))
    return Reply(json.dumps(ada))


# Handlers


class Run(NamedTuple):
    kind: str
    name: str
    parent: UUID | None
    metadata: dict[str, Any]
    tags: list[str]


class Recorder(BaseCallbackHandler):
    """The runs of a call: which started under which, and how they ended."""

    def __init__(self) -> None:
        self.runs: dict[UUID, Run] = {}
        self.errors: dict[UUID, BaseException] = {}
        self.ended: list[UUID] = []
        self.tokens: list[str] = []
        self.events: list[tuple[str, Any, UUID]] = []

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append((name, data, run_id))

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **of_run: Any) -> None:
        self._start("chain", run_id, **of_run)

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, **of_run: Any
    ) -> None:
        self._start("model", run_id, **of_run)

    def _start(
        self,
        kind: str,
        run_id: UUID,
        name: str,
        parent_run_id: Any,
        metadata: Any,
        tags: Any,
        **_: Any,
    ) -> None:
        self.runs[run_id] = Run(kind, name, parent_run_id, metadata, tags)

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.ended.append(run_id)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.ended.append(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.errors[run_id] = error

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.errors[run_id] = error

    def named(self, name: str) -> UUID:
        (run_id,) = [run_id for run_id, run in self.runs.items() if run.name == name]
        return run_id

    @property
    def models(self) -> list[Run]:
        return [run for run in self.runs.values() if run.kind == "model"]

    def of_kind(self, kind: str) -> list[UUID]:
        return [run_id for run_id, run in self.runs.items() if run.kind == kind]


class Teller(BaseCallbackHandler):
    """Passes tokens on, as a handler of an application does; remembers the custom events too."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.events: list[Any] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.told.append(token)

    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self.events.append(data)


# Ways of asking


async def chunks_of(
    way: str, runnable: Runnable[Any, Any], value: Any, config: Any = None, **kwargs: Any
) -> list[Any]:
    """Call a Runnable in one of the ways; what it yields, or the one output."""
    match way:
        case "invoke":
            return [runnable.invoke(value, config, **kwargs)]
        case "ainvoke":
            return [await runnable.ainvoke(value, config, **kwargs)]
        case "stream":
            return list(runnable.stream(value, config, **kwargs))
        case "astream":
            return [chunk async for chunk in runnable.astream(value, config, **kwargs)]
        case "batch":
            return runnable.batch([value], config, **kwargs)
        case _:
            return await runnable.abatch([value], config, **kwargs)


async def output_of(
    way: str, runnable: Runnable[Any, Any], value: Any, config: Any = None, **kwargs: Any
) -> Any:
    return reduce(add, await chunks_of(way, runnable, value, config, **kwargs))


async def answer_of(way: str, chat: Any, value: Any, config: Any = None, **kwargs: Any) -> Any:
    """Call a chat model in one of the ways; the whole answer."""
    match way:
        case "generate" | "agenerate":
            messages = [[HumanMessage(value)] if isinstance(value, str) else value]
            callbacks = (config or {}).get("callbacks")
            if way == "generate":
                result = chat.generate(messages, callbacks=callbacks, **kwargs)
            else:
                result = await chat.agenerate(messages, callbacks=callbacks, **kwargs)
            return result.generations[0][0].message
        case "v3":
            return chat.stream_events(value, config, version="v3", **kwargs).output
        case "av3":
            return await (await chat.astream_events(value, config, version="v3", **kwargs))
        case _:
            return await output_of(way, chat, value, config, **kwargs)


async def ask(way: str, chat: Any, config: Any = None, **kwargs: Any) -> Any:
    """Ask QUESTION in one of the ways; the whole answer."""
    match way:
        case "invoke":
            return chat.invoke(QUESTION, config, **kwargs)
        case "ainvoke":
            return await chat.ainvoke(QUESTION, config, **kwargs)
        case "stream":
            return reduce(add, chat.stream(QUESTION, config, **kwargs))
        case "astream":
            return reduce(add, [chunk async for chunk in chat.astream(QUESTION, config, **kwargs)])
        case "v3":
            return chat.stream_events(QUESTION, config, version="v3", **kwargs).output
        case _:
            return await (await chat.astream_events(QUESTION, config, version="v3", **kwargs))


def agent_of(
    models: dict[str, ToolCaller], tools: Sequence[Any] = (), agent: Any = None, **settings: Any
) -> Any:
    """An agent whose own model must never be asked."""
    never = ToolCaller(model_name="never", errors=[AssertionError("the agent's own model")] * 9)
    routed = CrossRouteMiddleware(models, **settings)
    return create_agent(never, list(tools), middleware=[routed], **(agent or {}))


async def run_agent(
    way: str, agent: Any, value: Any = QUESTION, config: Any = None
) -> dict[str, Any]:
    messages = value if isinstance(value, (list, Command)) else [HumanMessage(value)]
    value = messages if isinstance(messages, Command) else {"messages": messages}
    state: dict[str, Any] = (
        agent.invoke(value, config) if way == "invoke" else await agent.ainvoke(value, config)
    )
    return state


async def tokens_of(way: str, agent: Any, config: Any = None) -> list[str]:
    value = {"messages": [HumanMessage(QUESTION)]}
    if way == "invoke":
        found = list(agent.stream(value, config, stream_mode="messages"))
    else:
        found = [part async for part in agent.astream(value, config, stream_mode="messages")]
    return [message.text for message, _ in found if isinstance(message, AIMessageChunk)]


class State(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


# What was asked and answered


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


def answered(models: dict[str, ToolCaller]) -> dict[str, int]:
    return {id_: len(model.asked) for id_, model in models.items() if model.asked}


def order(router: CrossRouter, willingness: float = math.inf, **constraints: Any) -> list[str]:
    """The candidates for the question, preferred first."""
    return [c.model for c in router.subset(MODELS).route(QUESTION, willingness).candidates]


def decision_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.response_metadata["crossroute"]
    return found


def predicted(answer: AIMessage) -> dict[str, Any]:
    """The decision that an answer carries, without what the call really cost."""
    decision = dict(answer.response_metadata["crossroute"])
    decision.pop("realised", None)
    del decision["bill"]
    return decision


# Folders of descriptors


def put(folder: Path, model: str, chat_model: str | None, **changes: Any) -> Path:
    provider = None if chat_model is None else Provider(chat_model=f"openai:{chat_model}")
    descriptor = CrossRouter.default().pool[model]
    changes = {"provider": provider, "retired": None, **changes}
    return aged(descriptor.model_copy(update=changes).save(folder))


def aged(path: Path) -> Path:
    """A change of a while back: what is a moment old may be half done."""
    then = time.time() - 3600
    os.utime(path, (then, then))
    os.utime(path.parent, (then, then))
    return path


def followed(made: Any) -> Any:
    """Without a wait between two looks at the folder."""
    made.live._check_seconds = 0
    made.live._due = 0
    return made
