"""What the tests of LlamaIndex's classes share: models, events, ways of asking."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import BaseRetriever, RouterRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel, Field, PrivateAttr

from crossroute import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter, Decision
from llamaindex_crossroute import CrossRouteLLM

ROOT = Path(__file__).parents[2]

# From the cheapest to the best.
SMALL = "Meta-Llama-3.1-8B-Instruct"
MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MINI]  # neither by name nor by cost: an index is not right by accident
TWO = [LARGE, MINI]

QUESTION = "Prove that there are infinitely many primes, and explain every step."
TEXT = "The capital of France is Paris."
USAGE = {"prompt_tokens": 50, "completion_tokens": 70}
SECRET = "sk-nobody-should-see-this"

CHATS = ["chat", "achat", "stream_chat", "astream_chat"]
COMPLETIONS = ["complete", "acomplete", "stream_complete", "astream_complete"]
TOOL_CHATS = [f"{way}_with_tools" for way in CHATS]
ASKS = [*CHATS, *COMPLETIONS]
WAYS = [*ASKS, *TOOL_CHATS]
ASK_STREAMS = [way for way in ASKS if "stream" in way]
STREAMS = [way for way in WAYS if "stream" in way]

PATIENCE = 60.0
"""Seconds after which something hangs; nothing here takes that long."""

# LlamaIndex looks for the steps of an agent in all of its attributes, deprecated ones too.
MAKES_AN_AGENT = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

Make = Callable[..., CrossRouteLLM]


# Models, tools and events


class ScriptedLLM(FunctionCallingLLM):
    """Answers with its name, in tokens of four characters; remembers what it was asked.

    With tools it first calls each of them, in tool calls that only it can read.
    """

    name: str
    api_key: str = SECRET
    error: Any = None
    drops_after: int | None = None
    raw: Any = Field(default_factory=lambda: {"usage": USAGE})
    window: int = 200_000
    num_output: int = 1000
    is_chat_model: bool = True
    calls_functions: bool = True
    appends: bool = False

    _asked: list[Any] = PrivateAttr(default_factory=list)
    _given: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _closed: list[bool] = PrivateAttr(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self.window,
            num_output=self.num_output,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.calls_functions,
            model_name=self.name,
        )

    @property
    def text(self) -> str:
        return f"I am {self.name}."

    def _ask(self, what: Any, given: dict[str, Any]) -> None:
        self._asked.append(list(what) if isinstance(what, list) else what)
        self._given.append(given)
        if self.appends and isinstance(what, list):
            what.append(ChatMessage("mine"))
        if self.error is not None and self.drops_after is None:
            raise self.error

    def _message(self, messages: Sequence[ChatMessage], tools: Sequence[Any], text: str) -> Any:
        if not tools or messages[-1].role == MessageRole.TOOL:
            return ChatMessage(text, role=MessageRole.ASSISTANT)
        fill = {"name": "Ada", "age": 36, "a": 6, "b": 7}
        calls = [
            ToolCallBlock(
                tool_call_id=f"{self.name}:{tool.metadata.name}",
                tool_name=tool.metadata.name,
                tool_kwargs={
                    name: fill[name] for name in tool.metadata.get_parameters_dict()["properties"]
                },
            )
            for tool in tools
        ]
        return ChatMessage(
            blocks=calls,
            role=MessageRole.ASSISTANT,
            # Where LlamaIndex's streamed structured answers look for them.
            additional_kwargs={"tool_calls": [call.model_dump() for call in calls]},
        )

    def _chunks(self, messages: Sequence[ChatMessage], tools: Sequence[Any]) -> Iterator[Any]:
        texts = [self.text[:end] for end in range(4, len(self.text) + 4, 4)]
        for position, text in enumerate(texts):
            if position == self.drops_after:
                raise self.error
            yield ChatResponse(
                message=self._message(messages, tools, text),
                delta=text[4 * position :],
                raw=self.raw if text is texts[-1] else None,
            )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], tools: Any = (), **kwargs: Any) -> ChatResponse:
        self._ask(messages, kwargs)
        return ChatResponse(message=self._message(messages, tools, self.text), raw=self.raw)

    @llm_chat_callback()
    def stream_chat(
        self, messages: Sequence[ChatMessage], tools: Any = (), **kwargs: Any
    ) -> ChatResponseGen:
        def chunks() -> Generator[ChatResponse, None, None]:
            try:
                self._ask(messages, kwargs)
                yield from self._chunks(messages, tools)
            finally:
                self._closed.append(True)

        return chunks()

    @llm_chat_callback()
    async def achat(
        self, messages: Sequence[ChatMessage], tools: Any = (), **kwargs: Any
    ) -> ChatResponse:
        await asyncio.sleep(0)
        self._ask(messages, kwargs)
        return ChatResponse(message=self._message(messages, tools, self.text), raw=self.raw)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], tools: Any = (), **kwargs: Any
    ) -> ChatResponseAsyncGen:
        async def chunks() -> AsyncGenerator[ChatResponse, None]:
            try:
                self._ask(messages, kwargs)
                for chunk in self._chunks(messages, tools):
                    await asyncio.sleep(0)
                    yield chunk
            finally:
                self._closed.append(True)

        return chunks()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._ask(prompt, {"formatted": formatted, **kwargs})
        return CompletionResponse(text=self.text, raw=self.raw)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        def chunks() -> Generator[CompletionResponse, None, None]:
            self._ask(prompt, {"formatted": formatted, **kwargs})
            for chunk in self._chunks([], []):
                yield CompletionResponse(
                    text=chunk.message.content, delta=chunk.delta, raw=chunk.raw
                )

        return chunks()

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        self._ask(prompt, {"formatted": formatted, **kwargs})
        return CompletionResponse(text=self.text, raw=self.raw)

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        async def chunks() -> AsyncGenerator[CompletionResponse, None]:
            self._ask(prompt, {"formatted": formatted, **kwargs})
            for chunk in self._chunks([], []):
                yield CompletionResponse(
                    text=chunk.message.content, delta=chunk.delta, raw=chunk.raw
                )

        return chunks()

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: Any = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        assert user_msg is None
        return {
            "messages": chat_history,
            "tools": tools,
            "flags": (verbose, allow_parallel_tool_calls, tool_required),
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        assert all(str(call.tool_call_id).startswith(self.name) for call in calls)
        if not calls and error_on_no_tool_call:
            raise ValueError("no tool call")
        return [
            ToolSelection(
                tool_id=str(call.tool_call_id),
                tool_name=call.tool_name,
                tool_kwargs=call.tool_kwargs,
            )
            for call in calls
        ]


def scripted(**options: Any) -> dict[str, ScriptedLLM]:
    return {model: ScriptedLLM(name=model, **options) for model in MODELS}


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


def _multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


multiply = FunctionTool.from_defaults(_multiply, name="multiply")


def weather(city: str) -> str:
    """Say what the weather in a city is like."""
    return f"It rains in {city}."


TOOL = FunctionTool.from_defaults(weather)


def with_the_tool(body: dict[str, Any]) -> Reply:
    """Calls the tool, and tells its result."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Reply(f"The tool says: {last['content']}")
    return Reply(tool_calls=(("weather", {"city": "Paris"}),))


class Author(BaseModel):
    """A person."""

    name: str
    age: int


class Retriever(BaseRetriever):
    """Retrieves the same text whatever is asked."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text="Primes are numbers."), score=1.0)]


class Wire(NamedTuple):
    """One server and one pair of HTTP clients for all: making them takes longer than a test."""

    server: OpenAIServer
    sync: httpx.Client
    asynchronous: httpx.AsyncClient


class Recorder(BaseEventHandler):
    """The events of the root dispatcher."""

    found: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.found.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self.found if isinstance(event, kind)]


# Ways of asking


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(text)]


async def answers_of(way: str, llm: LLM, question: Any = QUESTION, **kwargs: Any) -> list[Any]:
    """Call an LLM in one of the ways; its chunks, or the one response."""
    if way in COMPLETIONS:
        outcome = getattr(llm, way)(question, **kwargs)
    else:
        messages = user(question) if isinstance(question, str) else question
        if way in TOOL_CHATS:
            kwargs.setdefault("tools", [multiply])
            outcome = getattr(llm, way)(chat_history=messages, **kwargs)
        else:
            outcome = getattr(llm, way)(messages, **kwargs)
    if way.startswith("a"):
        outcome = await outcome
    if "astream" in way:
        return [chunk async for chunk in outcome]
    return list(outcome) if "stream" in way else [outcome]


async def answer_of(way: str, llm: LLM, question: Any = QUESTION, **kwargs: Any) -> Any:
    return (await answers_of(way, llm, question, **kwargs))[-1]


def core_decision(
    query: Any = QUESTION, willingness: float = 0.01, models: Sequence[str] = MODELS, **given: Any
) -> Decision:
    return CrossRouter.default().subset(models).route(query, willingness, **given)


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


async def ask(way: str, llm: CrossRouteLLM, question: str = QUESTION) -> tuple[str, dict[str, Any]]:
    """The text and the decision."""
    argument = [ChatMessage(question)] if "chat" in way else question
    answer = (await responses(way, llm, argument))[-1]
    text = answer.message.content if "chat" in way else answer.text
    return text, answer.additional_kwargs["crossroute"]


def asked(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


async def answers(way: str, llm: Any, question: str = QUESTION) -> list[Any]:
    arguments = ([TOOL], question) if way in TOOL_CHATS else ()
    return await responses(way, llm, *arguments)


def text_of(answer: Any) -> str | None:
    text: str | None = answer.text if hasattr(answer, "text") else answer.message.content
    return text


# Prompts: models with their own way with them, and ways of asking with one


PROMPT = PromptTemplate("Who wrote the first program? {hint}")


class Person(BaseModel):
    """A person."""

    name: str | None = None
    age: int | None = None


ADA = Person(name="Ada", age=36)


def written_into(llm_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    llm_kwargs = {} if llm_kwargs is None else llm_kwargs
    llm_kwargs["written"] = "into"
    return llm_kwargs


class NativeLLM(ScriptedLLM):
    """Has its own way with prompts: it shouts, and gives objects without LlamaIndex's help."""

    def _messages(self, prompt: Any, given: dict[str, Any]) -> Any:
        return prompt.format_messages(**given)

    def predict(self, prompt: Any, **given: Any) -> str:
        return str(self.chat(self._messages(prompt, given)).message.content).upper()

    async def apredict(self, prompt: Any, **given: Any) -> str:
        return str((await self.achat(self._messages(prompt, given))).message.content).upper()

    def stream(self, prompt: Any, **given: Any) -> Any:
        for chunk in self.stream_chat(self._messages(prompt, given)):
            yield (chunk.delta or "").upper()

    async def astream(self, prompt: Any, **given: Any) -> Any:
        async def tokens() -> AsyncGenerator[str, None]:
            async for chunk in await self.astream_chat(self._messages(prompt, given)):
                yield (chunk.delta or "").upper()

        return tokens()

    def structured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **given: Any
    ) -> Any:
        llm_kwargs = written_into(llm_kwargs)
        self.chat(self._messages(prompt, given), **llm_kwargs)
        return output_cls(name=self.name, age=36)

    async def astructured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **given: Any
    ) -> Any:
        llm_kwargs = written_into(llm_kwargs)
        await self.achat(self._messages(prompt, given), **llm_kwargs)
        return output_cls(name=self.name, age=36)

    def stream_structured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **given: Any
    ) -> Any:
        llm_kwargs = written_into(llm_kwargs)
        yield output_cls()
        list(self.stream_chat(self._messages(prompt, given), **llm_kwargs))
        yield output_cls(name=self.name)
        yield output_cls(name=self.name, age=36)

    async def astream_structured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **given: Any
    ) -> Any:
        chunks = self.stream_structured_predict(output_cls, prompt, llm_kwargs, **given)

        async def objects() -> AsyncGenerator[Any, None]:
            for chunk in chunks:
                yield chunk

        return objects()

    def predict_and_call(self, tools: Any, **kwargs: Any) -> Any:
        self.chat(kwargs["chat_history"])
        return AgentChatResponse(f"{self.name} {sorted(kwargs)}")

    async def apredict_and_call(self, tools: Any, **kwargs: Any) -> Any:
        return self.predict_and_call(tools, **kwargs)


def native(**options: Any) -> dict[str, NativeLLM]:
    return {model: NativeLLM(name=model, **options) for model in TWO}


TEXTS = ["predict", "apredict", "stream", "astream"]
OBJECTS = [
    "structured_predict",
    "astructured_predict",
    "stream_structured_predict",
    "astream_structured_predict",
]


async def outputs(way: str, llm: LLM, **given: Any) -> list[Any]:
    """What a way gives: all tokens or objects of a stream, or the one text or object."""
    arguments = (PROMPT,) if way in TEXTS else (Person, PROMPT)
    found = getattr(llm, way)(*arguments, hint="Ada.", **given)
    if way.startswith("as") or way == "apredict":
        found = await found
    if way.startswith("astream"):
        return [chunk async for chunk in found]
    return list(found) if "stream" in way else [found]


def expected_of(way: str, model: str) -> Any:
    return f"I AM {model}.".upper() if way in TEXTS else Person(name=model, age=36)


def result_of(way: str, found: list[Any]) -> Any:
    return "".join(found) if way in TEXTS else found[-1]


# Engines and retrievers to select from


class NamedEngine(CustomQueryEngine):
    """Answers with its name, and counts its queries."""

    name: str
    calls: list[str] = Field(default_factory=list)

    def custom_query(self, query_str: str) -> str:
        self.calls.append(query_str)
        return f"{self.name} answers"


class NamedRetriever(BaseRetriever):
    """Retrieves one node with its name as text, and counts its queries."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls: list[str] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.calls.append(query_bundle.query_str)
        return [NodeWithScore(node=TextNode(text=self.name), score=1.0)]


def metadata(names: Iterable[str | None]) -> list[ToolMetadata]:
    return [ToolMetadata(name=name, description=f"Useful for {name} things") for name in names]


def query_engine(
    selector: BaseSelector, names: Iterable[str]
) -> tuple[RouterQueryEngine, list[NamedEngine]]:
    engines = [NamedEngine(name=name) for name in names]
    tools = [
        QueryEngineTool(engine, meta) for engine, meta in zip(engines, metadata(names), strict=True)
    ]
    return RouterQueryEngine(selector, tools, llm=MockLLM()), engines


def router_retriever(
    selector: BaseSelector, names: Iterable[str]
) -> tuple[RouterRetriever, list[NamedRetriever]]:
    retrievers = [NamedRetriever(name) for name in names]
    tools = [
        RetrieverTool(retriever, meta)
        for retriever, meta in zip(retrievers, metadata(names), strict=True)
    ]
    return RouterRetriever(selector, tools, llm=MockLLM()), retrievers


def decision_of_the_core(
    query: str, willingness: float = DEFAULT_WILLINGNESS_TO_PAY, models: Sequence[str] = MODELS
) -> Decision:
    return CrossRouter.default().subset(models).route(query, willingness)


# Folders of descriptors


KEYS = {MINI: "KEY_OF_MINI", LARGE: "KEY_OF_LARGE"}
Put = Callable[..., Path]


def followed(llm: CrossRouteLLM) -> CrossRouteLLM:
    """Without a wait between two looks at the folder."""
    assert llm.live is not None
    llm.live._check_seconds = llm.live._due = 0
    return llm


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "cannot be built" in r.getMessage()]
