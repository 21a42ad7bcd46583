"""CrossRouteLLM where an LLM stands: who answers, what the answer carries, what is told."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import asyncio
import doctest
import json
import math
import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import PromptTemplate, Settings
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CitableBlock,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    DocumentBlock,
    ImageBlock,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llamaindex_ways import Recorder
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

import llamaindex_crossroute.llm
from crossroute import (
    ConstraintError,
    CrossRouter,
    Decision,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    PoolError,
    QueryError,
    UnknownModelError,
    WillingnessToPayError,
)
from llamaindex_crossroute import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    CrossRouteLLM,
    call_settings,
)

pytest_plugins = ["llamaindex_fixtures"]

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MEDIUM]
QUESTION = "Prove that there are infinitely many primes, and explain every step."
USAGE = {"prompt_tokens": 50, "completion_tokens": 70}
SECRET = "sk-nobody-should-see-this"
# LlamaIndex looks for the steps of an agent in all of its attributes.
MAKES_AN_AGENT = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
PAGE = Path(__file__).parent.parent / "docs" / "llamaindex" / "llm.md"


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


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


@pytest.fixture
def settings() -> Iterator[None]:
    """LlamaIndex's global settings, put back afterwards."""
    before = dict(vars(Settings))
    yield
    vars(Settings).clear()
    vars(Settings).update(before)


def scripted(**options: Any) -> dict[str, ScriptedLLM]:
    return {model: ScriptedLLM(name=model, **options) for model in MODELS}


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(text)]


def core_decision(
    query: Any = QUESTION, willingness: float = 0.01, models: Sequence[str] = MODELS, **given: Any
) -> Decision:
    return CrossRouter.default().subset(models).route(query, willingness, **given)


CHATS = ["chat", "achat", "stream_chat", "astream_chat"]
COMPLETIONS = ["complete", "acomplete", "stream_complete", "astream_complete"]
TOOL_CHATS = [
    "chat_with_tools",
    "achat_with_tools",
    "stream_chat_with_tools",
    "astream_chat_with_tools",
]
WAYS = [*CHATS, *COMPLETIONS, *TOOL_CHATS]
STREAMS = [way for way in WAYS if "stream" in way]


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


def _multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


multiply = FunctionTool.from_defaults(_multiply, name="multiply")


# Who answers


@pytest.mark.parametrize("way", [*CHATS, *COMPLETIONS])
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_model_that_the_core_chooses_answers(way: str, willingness: float) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=willingness)
    answer = await answer_of(way, llm, temperature=0.5)

    expected = core_decision(willingness=willingness)
    assert str(answer).endswith(f"I am {expected.model}.")
    [asked] = models[expected.model]._asked
    assert asked == (QUESTION if way in COMPLETIONS else user(QUESTION))
    assert models[expected.model]._given[0]["temperature"] == 0.5
    assert sum(len(model._asked) for model in models.values()) == 1


def test_the_ends_of_the_scale_choose_different_models() -> None:
    assert core_decision(willingness=0).model != core_decision(willingness=math.inf).model


@pytest.mark.parametrize("way", WAYS)
async def test_the_answer_carries_decision_and_realised_cost(way: str) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=math.inf)
    found = dict((await answer_of(way, llm)).additional_kwargs["crossroute"])

    price = llm.router.pool[found["model"]].price
    realised = {
        "input_tokens": 50,
        "output_tokens": 70,
        "cached_tokens": 0,
        "cost_usd": pytest.approx(price.cost_usd(50, 70)),
    }
    assert found.pop("realised") == realised
    assert found.pop("bill") == {
        "asks": [{"model": found["model"], "role": "answer", **realised, "estimated": False}],
        "cost_usd": realised["cost_usd"],
        "estimated": False,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    if way not in TOOL_CHATS:
        assert found == core_decision(willingness=math.inf).to_dict()


@pytest.mark.parametrize("way", STREAMS)
async def test_each_chunk_of_a_stream_carries_the_decision(way: str) -> None:
    chunks = await answers_of(way, CrossRouteLLM(models=scripted()))
    assert len(chunks) > 3
    found = [chunk.additional_kwargs["crossroute"] for chunk in chunks]
    assert len({decision["model"] for decision in found}) == 1
    assert ["realised" in decision for decision in found] == [False] * (len(found) - 1) + [True]
    if way not in TOOL_CHATS:
        assert "".join(chunk.delta for chunk in chunks).startswith("I am ")


def test_a_stream_passes_tokens_when_they_are_made() -> None:
    models = scripted()
    stream = CrossRouteLLM(models=models, willingness_to_pay=0).stream_chat(user(QUESTION))
    next(stream)
    [model] = [model for model in models.values() if model._asked]
    assert not model._closed
    stream.close()
    assert model._closed == [True]


async def test_an_async_stream_that_is_left_is_closed() -> None:
    models = scripted()
    stream = await CrossRouteLLM(models=models, willingness_to_pay=0).astream_chat(user(QUESTION))
    await anext(stream)
    [model] = [model for model in models.values() if model._asked]
    assert not model._closed
    await stream.aclose()
    await asyncio.sleep(0.01)  # The loop closes what is left.
    assert model._closed == [True]


async def test_async_calls_run_beside_each_other() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0.001)
    questions = [QUESTION, "What is the capital of France?", "Write a haiku about rain."] * 5
    answers = await asyncio.gather(*(llm.achat(user(question)) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        model = answer.additional_kwargs["crossroute"]["model"]
        assert model == core_decision(question, 0.001).model
        assert answer.message.content == f"I am {model}."


def test_the_response_of_the_candidate_is_not_touched(events: Recorder) -> None:
    answer = CrossRouteLLM(models=scripted()).chat(user(QUESTION))
    [end] = events.of(LLMChatEndEvent)
    assert "crossroute" in answer.additional_kwargs
    assert end.response.additional_kwargs == {}


def test_predict_and_a_system_prompt() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, system_prompt="Be brief.")
    prompt = PromptTemplate("Translate: {text}")
    assert llm.predict(prompt, text="Guten Tag") == f"I am {SMALL}."
    assert asyncio.run(llm.apredict(prompt, text="Guten Tag")) == f"I am {SMALL}."
    assert "".join(llm.stream(prompt, text="Guten Tag")) == f"I am {SMALL}."
    for messages in models[SMALL]._asked:
        assert [message.content for message in messages] == ["Be brief.", "Translate: Guten Tag"]


def test_candidates_that_only_complete() -> None:
    models = scripted(is_chat_model=False)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.predict(PromptTemplate("Translate: {text}"), text="Guten Tag") == f"I am {SMALL}."
    assert models[SMALL]._asked == ["Translate: Guten Tag"]
    assert models[SMALL]._given == [{"formatted": True}]


# Where an LLM stands


class Retriever(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text="Primes are numbers."), score=1.0)]


@pytest.mark.parametrize("mode", ["sync", "async", "streaming"])
async def test_in_a_query_engine_as_settings_llm(settings: None, mode: str) -> None:
    models = scripted()
    Settings.llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    streaming = mode == "streaming"
    engine = RetrieverQueryEngine(
        Retriever(), get_response_synthesizer(streaming=streaming, response_mode="compact")
    )
    response = await engine.aquery(QUESTION) if mode == "async" else engine.query(QUESTION)
    answer = "".join(response.response_gen) if streaming else str(response)
    assert answer == f"I am {SMALL}."
    with call_settings(model=LARGE):
        response = await engine.aquery(QUESTION) if mode == "async" else engine.query(QUESTION)
        answer = "".join(response.response_gen) if streaming else str(response)
    assert answer == f"I am {LARGE}."
    assert "Primes are numbers." in models[LARGE]._asked[0][-1].content


@MAKES_AN_AGENT
@pytest.mark.parametrize("streaming", [True, False])
async def test_in_a_function_agent(streaming: bool, events: Recorder) -> None:
    models = scripted()
    agent = FunctionAgent(
        tools=[multiply],
        llm=CrossRouteLLM(models=models, willingness_to_pay=math.inf),
        streaming=streaming,
    )
    chosen = core_decision("What is 6 * 7?", math.inf).model
    handler = agent.run("What is 6 * 7?")
    texts = [e.response async for e in handler.stream_events() if isinstance(e, AgentStream)]
    assert str(await handler) == f"I am {chosen}."
    assert (texts[-1:] == [f"I am {chosen}."]) is streaming
    first, second = models[chosen]._asked
    assert [message.content for message in first] == ["What is 6 * 7?"]
    assert second[-1].content == "42"
    assert [event.model for event in events.of(CrossRouteAnswerEvent)] == [chosen, chosen]
    assert len(events.of(LLMChatStartEvent)) == 2

    with call_settings(model=MEDIUM):
        handler = agent.run("What is 6 * 7?")
    assert str(await handler) == f"I am {MEDIUM}."


async def test_in_a_workflow() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)

    class Ask(Workflow):
        @step
        async def ask(self, ctx: Context, event: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete(event.question)))

    assert await Ask().run(question=QUESTION) == f"I am {SMALL}."
    with call_settings(excluded=[SMALL, MEDIUM]):
        assert await Ask().run(question=QUESTION) == f"I am {LARGE}."


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.mark.parametrize("functions", [True, False])
async def test_structured_answers(functions: bool) -> None:
    # Without functions LlamaIndex asks for JSON in the text.
    models = scripted(calls_functions=functions)
    if not functions:
        for model in models.values():
            object.__setattr__(model, "name", json.dumps({"name": "Ada", "age": 36}))
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    prompt = PromptTemplate("Who wrote the first program? {hint}")
    ada = Person(name="Ada", age=36)
    assert llm.structured_predict(Person, prompt, hint="Ada") == ada
    assert await llm.astructured_predict(Person, prompt, hint="Ada") == ada
    structured = llm.as_structured_llm(Person)
    assert structured.chat(user("Who?")).raw == ada
    assert (await structured.achat(user("Who?"))).raw == ada
    if functions:
        *_, last = llm.stream_structured_predict(Person, prompt, hint="Ada")
        assert Person.model_validate(last.model_dump()) == ada


def test_as_structured_llm_by_text() -> None:
    models = scripted()
    llm = CrossRouteLLM(
        models=models, willingness_to_pay=0, pydantic_program_mode=PydanticProgramMode.LLM
    )
    with pytest.raises(ValueError, match="I am"):
        llm.structured_predict(Person, PromptTemplate("Who?"))
    assert len(models[SMALL]._asked) == 1


# Tools


@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_tools_go_whole_to_one_model_that_reads_its_calls(way: str) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    for chunk in await answers_of(way, llm, "What is 6 * 7?", tool_required=True, seed=1):
        model = chunk.additional_kwargs["crossroute"]["model"]
        [call] = llm.get_tool_calls_from_response(chunk)
        assert call.tool_id == f"{model}:multiply"
        assert call.tool_kwargs == {"a": 6, "b": 7}
    assert models[model]._given == [{"flags": (False, False, True), "seed": 1}]
    assert sum(len(model._asked) for model in models.values()) == 1


def test_a_user_message_joins_the_history() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    history = [ChatMessage("Hello", role="system")]
    for message in ("What is 6 * 7?", ChatMessage("What is 6 * 7?")):
        llm.chat_with_tools([multiply], user_msg=message, chat_history=history)
    for asked in models[SMALL]._asked:
        assert [message.content for message in asked] == ["Hello", "What is 6 * 7?"]
    assert len(history) == 1


def test_predict_and_call() -> None:
    llm = CrossRouteLLM(models=scripted())
    assert str(llm.predict_and_call([multiply], "What is 6 * 7?")) == "42"
    assert str(asyncio.run(llm.apredict_and_call([multiply], "What is 6 * 7?"))) == "42"


def test_tool_calls_of_a_foreign_response() -> None:
    llm = CrossRouteLLM(models=scripted())
    foreign = ChatResponse(message=ChatMessage("text"))
    for flag in (True, False):
        with pytest.raises(ValueError, match="no decision in additional_kwargs"):
            llm.get_tool_calls_from_response(foreign, error_on_no_tool_call=flag)


def test_tools_are_not_prepared_for_nobody() -> None:
    with pytest.raises(NotImplementedError, match="chat_with_tools"):
        CrossRouteLLM(models=scripted())._prepare_chat_with_tools([multiply])


def test_a_model_that_cannot_call_tools_does_not_get_them() -> None:
    # A plain LLM has no method for it, whatever its descriptor says.
    plain = MockLLM()
    models = {SMALL: plain, MEDIUM: ScriptedLLM(name=MEDIUM)}
    assert "tools" in CrossRouter.default().pool[SMALL].capabilities
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.chat(user(QUESTION)).additional_kwargs["crossroute"]["model"] == SMALL
    for answer in (
        llm.chat_with_tools([multiply], QUESTION),
        llm.chat(user(QUESTION), functions=[{"name": "multiply"}]),
    ):
        found = answer.additional_kwargs["crossroute"]
        assert found["model"] == MEDIUM
        assert found["removed"] == {SMALL: "tools is not among the capabilities in its descriptor"}


def test_metadata_adds_tools_to_a_descriptor() -> None:
    models = {"claude-v1": ScriptedLLM(name="claude-v1"), LARGE: ScriptedLLM(name=LARGE)}
    assert "tools" not in CrossRouter.default().pool["claude-v1"].capabilities
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.router.pool["claude-v1"].capabilities == ("tools",)
    assert len(llm.chat_with_tools([multiply], QUESTION).additional_kwargs["crossroute"]) > 0


# Hard requirements


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (
            ImageBlock(url="https://example.com/cat.png"),
            "image_input is not among the capabilities in its descriptor",
        ),
        (
            AudioBlock(url="https://example.com/cat.mp3"),
            "audio_input is not among the capabilities in its descriptor",
        ),
        (
            VideoBlock(url="https://example.com/cat.mp4"),
            "file_input is not among the capabilities in its descriptor",
        ),
        (
            DocumentBlock(data=b"%PDF-1.7", title="a"),
            "file_input is not among the capabilities in its descriptor",
        ),
        (
            CitableBlock(title="a", source="b", content=[ImageBlock(url="https://a.b/c.png")]),
            "image_input is not among the capabilities in its descriptor",
        ),
    ],
)
def test_blocks_need_models_that_take_them(block: Any, reason: str) -> None:
    flash = "gemini-1.5-flash-002"
    models = {model: ScriptedLLM(name=model) for model in (SMALL, flash)}
    llm = CrossRouteLLM(models=models)
    assert llm.chat(user(QUESTION)).additional_kwargs["crossroute"]["removed"] == {}
    for blocks in ([TextBlock(text=QUESTION), block], [block]):
        answer = llm.chat([ChatMessage(blocks=blocks)])
        found = answer.additional_kwargs["crossroute"]
        assert found["model"] == flash
        assert found["removed"] == {SMALL: reason}


def test_cache_points_and_texts_need_nothing() -> None:
    blocks = [
        TextBlock(text=QUESTION),
        CachePoint(cache_control=CacheControl(type="ephemeral")),
        CitableBlock(title="a", source="b", content="Euclid."),
    ]
    answer = CrossRouteLLM(models=scripted()).chat([ChatMessage(blocks=blocks)])
    found = answer.additional_kwargs["crossroute"]
    assert found["removed"] == {}
    assert found == found | core_decision(f"{QUESTION}\nEuclid.").to_dict()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_long_answer_needs_a_model_that_can_give_it(name: str) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=math.inf)
    answer = llm.chat(user(QUESTION), **{name: 20_000})
    found = answer.additional_kwargs["crossroute"]
    assert found["model"] == SMALL
    assert found["removed"][LARGE] == "answers with 16384 tokens at most, 20000 are asked for"


@pytest.mark.parametrize("response_format", [Person, {"type": "json_schema", "json_schema": {}}])
def test_a_response_format_needs_a_model_that_keeps_it(response_format: Any) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)
    answer = llm.chat(user(QUESTION), response_format=response_format)
    found = answer.additional_kwargs["crossroute"]
    assert found["removed"] == {
        SMALL: "structured_output is not among the capabilities in its descriptor"
    }
    answer = llm.chat(user(QUESTION), response_format={"type": "json_object"})
    assert answer.additional_kwargs["crossroute"]["model"] == SMALL


def pool_of(**windows: int | None) -> CrossRouter:
    """A router over models with these context windows in their descriptors."""
    shipped = CrossRouter.default()
    return shipped.over(
        ModelPool(
            ModelDescriptor.model_validate(
                {**shipped.pool[model].model_dump(), "id": name, "context_window_tokens": window}
            )
            for (name, window), model in zip(windows.items(), MODELS, strict=False)
        )
    )


def test_the_context_window_is_the_descriptors_else_the_metadatas() -> None:
    router = pool_of(said=1000, completed=None, unknown=None)
    models = {
        "said": ScriptedLLM(name="said", window=7),
        "completed": ScriptedLLM(name="completed", window=2000),
        # LlamaIndex's default, which says nothing.
        "unknown": ScriptedLLM(name="unknown", window=3900),
    }
    llm = CrossRouteLLM(models=models, router=router)
    windows = {name: d.context_window_tokens for name, d in llm.router.pool.items()}
    assert windows == {"said": 1000, "completed": 2000, "unknown": None}
    assert router.pool["completed"].context_window_tokens is None

    def removed(words: int) -> list[str]:
        answer = llm.chat(user("word " * words))
        return sorted(answer.additional_kwargs["crossroute"]["removed"])

    assert removed(500) == []
    assert removed(1500) == ["said"]
    assert removed(50_000) == ["completed", "said"]


@pytest.mark.parametrize("way", WAYS)
async def test_no_model_can_serve(way: str) -> None:
    models = scripted()
    with pytest.raises(NoCandidateError, match="context window") as caught:
        await answers_of(way, CrossRouteLLM(models=models), "word " * 200_000)
    assert sorted(caught.value.removed) == sorted(MODELS)
    assert not any(model._asked for model in models.values())


@pytest.mark.parametrize("messages", [[], user("")])
def test_blank_input_is_answered_as_by_a_model(messages: Any) -> None:
    answer = CrossRouteLLM(models=scripted()).chat(messages)
    assert answer.additional_kwargs["crossroute"]["blank"]


@pytest.mark.parametrize("messages", [["text"], 5])
def test_input_that_cannot_be_routed(messages: Any) -> None:
    with pytest.raises(QueryError):
        CrossRouteLLM(models=scripted()).chat(messages)


# Metadata, dumps


def test_metadata_is_the_intersection() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models)
    assert llm.metadata == LLMMetadata(
        context_window=128_000,  # of the descriptors; the models say 200,000
        num_output=1000,
        is_chat_model=True,
        is_function_calling_model=True,
        model_name="crossroute",
    )
    object.__setattr__(models[SMALL], "window", 5000)
    object.__setattr__(models[SMALL], "is_chat_model", False)
    object.__setattr__(models[LARGE], "num_output", 300)
    object.__setattr__(models[MEDIUM], "num_output", -1)
    object.__setattr__(models[MEDIUM], "calls_functions", False)
    assert llm.metadata == LLMMetadata(context_window=5000, num_output=300, model_name="crossroute")
    plain = {**models, LARGE: MockLLM(is_chat_model=True)}
    assert not CrossRouteLLM(models=plain).metadata.is_function_calling_model


def test_nothing_secret_is_shown() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0.5)
    texts = [
        repr(llm),
        str(llm),
        llm.to_json(),
        llm.model_dump_json(),
        str(llm.to_dict()),
        str(llm.to_payload()),
        repr(llm.as_structured_llm(Person)),
    ]
    for text in texts:
        assert SECRET not in text
    assert repr(llm) == f"CrossRouteLLM(models={MODELS!r}, willingness_to_pay=0.5)"
    assert llm.to_dict()["class_name"] == "CrossRouteLLM"
    with pytest.raises(ValidationError) as caught:
        CrossRouteLLM(models={SMALL: SECRET, LARGE: SECRET})
    assert SECRET not in str(caught.value)


# Arguments


def test_typos_in_arguments_are_errors() -> None:
    with pytest.raises(ValidationError, match="willingnes_to_pay"):
        CrossRouteLLM(models=scripted(), willingnes_to_pay=0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"willingness_to_pay": math.nan}, WillingnessToPayError),
        ({"willingness_to_pay": "a lot"}, WillingnessToPayError),
        ({"attempts": 0}, ConstraintError),
        ({"stay_margin": -0.1}, ConstraintError),
        ({"models": {LARGE: MockLLM()}}, PoolError),
        ({"models": {LARGE: MockLLM(), "no-such-model": MockLLM()}}, UnknownModelError),
        ({"rate_limiter": TokenBucketRateLimiter(requests_per_minute=1)}, ValueError),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        CrossRouteLLM(**{"models": scripted(), **arguments})
    assert type(caught.value) is error


def test_models_are_copied() -> None:
    models: dict[str, LLM] = dict(scripted())
    llm = CrossRouteLLM(models=models)
    models.clear()
    assert str(llm.complete(QUESTION)).startswith("I am ")


# Settings of a call


@pytest.mark.parametrize("way", [*CHATS, *COMPLETIONS])
@pytest.mark.parametrize(
    ("settings_of_call", "expected"),
    [
        ({"willingness_to_pay": math.inf}, core_decision(willingness=math.inf).model),
        ({"model": MEDIUM}, MEDIUM),
        ({"allowed": {LARGE}}, LARGE),
        ({"excluded": [SMALL, LARGE]}, MEDIUM),
        ({"max_cost_usd": 1e-3}, SMALL),
        ({}, SMALL),
    ],
)
async def test_settings_of_a_call(
    way: str, settings_of_call: dict[str, Any], expected: str
) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)
    with call_settings(**settings_of_call):
        answer = await answer_of(way, llm)
    assert answer.additional_kwargs["crossroute"]["model"] == expected
    assert (await answer_of(way, llm)).additional_kwargs["crossroute"]["model"] == SMALL


def test_settings_nest() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)

    def model() -> str:
        found: str = llm.complete(QUESTION).additional_kwargs["crossroute"]["model"]
        return found

    with call_settings(excluded=[SMALL]):
        assert model() == MEDIUM
        with call_settings(willingness_to_pay=math.inf):
            assert model() == LARGE
        with call_settings(excluded=[MEDIUM]):
            assert model() == SMALL
        assert model() == MEDIUM
    assert model() == SMALL


async def test_settings_of_calls_at_the_same_time_do_not_mix() -> None:
    llm = CrossRouteLLM(models=scripted())

    async def model(forced: str) -> str:
        with call_settings(model=forced):
            await asyncio.sleep(0)
            return str(await llm.acomplete(QUESTION))

    found = await asyncio.gather(*(model(forced) for forced in MODELS * 3))
    assert found == [f"I am {forced}." for forced in MODELS * 3]


@pytest.mark.parametrize(
    ("settings_of_call", "error"),
    [
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"allowed": SMALL}, ConstraintError),
        ({"max_cost_usd": -1}, ConstraintError),
    ],
)
def test_settings_that_make_no_sense(
    settings_of_call: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error), call_settings(**settings_of_call):
        pytest.fail("The block must not be entered.")
    assert str(CrossRouteLLM(models=scripted()).complete(QUESTION)).startswith("I am ")


def test_settings_with_an_unknown_model() -> None:
    llm = CrossRouteLLM(models=scripted())
    with call_settings(model="no-such-model"), pytest.raises(UnknownModelError):
        llm.complete(QUESTION)


def test_settings_that_leave_nobody() -> None:
    llm = CrossRouteLLM(models=scripted())
    with call_settings(max_cost_usd=0), pytest.raises(NoCandidateError, match=r"limit is \$0.00"):
        llm.complete(QUESTION)


# When a model fails


@pytest.mark.parametrize("way", WAYS)
async def test_the_next_best_model_answers(way: str, events: Recorder) -> None:
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    models = scripted(appends=True)
    object.__setattr__(models[ranking[0]], "error", StatusError(429))
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    answer = await answer_of(way, llm)

    found = answer.additional_kwargs["crossroute"]
    assert found["model"] == ranking[1]
    assert found["attempts"] == [{"model": ranking[0], "error": "StatusError: status 429"}]
    score = next(c for c in found["candidates"] if c["model"] == ranking[1])
    assert (found["quality"], found["cost_usd"]) == (score["quality"], score["cost_usd"])
    # The first one appended to its messages.
    assert models[ranking[0]]._asked == models[ranking[1]]._asked
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    assert decided.decision["model"] == ranking[0]
    assert answered.model == ranking[1]
    assert answered.attempts == found["attempts"]
    if way in TOOL_CHATS:
        assert llm.get_tool_calls_from_response(answer)[0].tool_id == f"{ranking[1]}:multiply"


@pytest.mark.parametrize("way", WAYS)
async def test_attempts_are_bounded(way: str, events: Recorder) -> None:
    models = scripted(error=TimeoutError("slow"))
    with pytest.raises(TimeoutError, match="slow") as caught:
        await answers_of(way, CrossRouteLLM(models=models, willingness_to_pay=0, attempts=2))
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    assert [len(models[model]._asked) for model in ranking] == [1, 1, 0]
    assert caught.value.__notes__[-1] == (
        f"CrossRoute tried, in this order: {ranking[0]}: TimeoutError: slow; "
        f"{ranking[1]}: TimeoutError: slow."
    )
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_of_the_caller_is_raised_at_once(way: str) -> None:
    models = scripted(error=StatusError(400))
    with pytest.raises(StatusError) as caught:
        await answers_of(way, CrossRouteLLM(models=models))
    assert sum(len(model._asked) for model in models.values()) == 1
    assert not hasattr(caught.value, "__notes__")


def test_a_forced_model_is_not_left() -> None:
    models = scripted(error=StatusError(503))
    with call_settings(model=MEDIUM), pytest.raises(StatusError):
        CrossRouteLLM(models=models).complete(QUESTION)
    assert {name: len(model._asked) for name, model in models.items()} == {
        LARGE: 0,
        SMALL: 0,
        MEDIUM: 1,
    }


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_has_emitted_is_not_restarted(way: str, events: Recorder) -> None:
    models = scripted(error=ConnectionResetError("dropped"), drops_after=2)
    with pytest.raises(ConnectionResetError):
        await answers_of(way, CrossRouteLLM(models=models))
    assert sum(len(model._asked) for model in models.values()) == 1
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_has_emitted_nothing_goes_to_the_next_model(way: str) -> None:
    models = scripted()
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    object.__setattr__(models[ranking[0]], "error", ConnectionResetError("dropped"))
    object.__setattr__(models[ranking[0]], "drops_after", 0)
    chunks = await answers_of(way, CrossRouteLLM(models=models, willingness_to_pay=0))
    assert {chunk.additional_kwargs["crossroute"]["model"] for chunk in chunks} == {ranking[1]}


# Events and token counts


@pytest.mark.parametrize("way", WAYS)
async def test_decision_and_answer_are_events(
    way: str, events: Recorder, spans: SimpleSpanHandler
) -> None:
    answer = await answer_of(way, CrossRouteLLM(models=scripted()))
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    found = answer.additional_kwargs["crossroute"]
    assert {**decided.decision, "realised": found["realised"], "bill": answered.bill} == found
    assert answered.model == found["model"]
    assert (answered.quality, answered.cost_usd) == (found["quality"], found["cost_usd"])
    assert answered.attempts == []
    assert answered.realised == found["realised"]
    assert answered.span_id == decided.span_id
    for event in (decided, answered):
        assert json.loads(event.model_dump_json(), parse_constant=pytest.fail)
        assert event.class_name() == type(event).__name__
    if way not in TOOL_CHATS:  # LlamaIndex makes no span of these.
        [span] = [span for span in spans.completed_spans if span.id_ == decided.span_id]
        assert span.id_.startswith(f"CrossRouteLLM.{way}-")
        [inner] = [span for span in spans.completed_spans if span.parent_id == decided.span_id]
        assert inner.id_.startswith(f"ScriptedLLM.{way}-")


def test_an_abandoned_stream_is_no_answer(events: Recorder) -> None:
    stream = CrossRouteLLM(models=scripted()).stream_chat(user(QUESTION))
    next(stream)
    stream.close()
    assert len(events.of(CrossRouteDecisionEvent)) == 1
    assert not events.of(CrossRouteAnswerEvent)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["argument", "settings", "candidates"])
async def test_tokens_are_counted_once(
    settings: None, events: Recorder, way: str, given: str
) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    if given == "argument":
        llm = CrossRouteLLM(models=scripted(), callback_manager=manager)
    elif given == "candidates":
        llm = CrossRouteLLM(models=scripted(callback_manager=manager))
    else:
        Settings.callback_manager = manager
        Settings.llm = CrossRouteLLM(models=scripted())
        llm = Settings.llm
    await answers_of(way, llm)
    assert counter.total_llm_token_count == 120
    assert len(counter.llm_token_counts) == 1
    kinds = [event.class_name() for event in events.found]
    assert sum(kind.endswith("StartEvent") for kind in kinds) == 1
    assert sum(kind.endswith("EndEvent") for kind in kinds) == 1


def test_without_usage_nothing_is_realised(events: Recorder) -> None:
    answer = CrossRouteLLM(models=scripted(raw=None)).complete(QUESTION)
    assert "realised" not in answer.additional_kwargs["crossroute"]
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.realised is None


# Conversations


def test_a_short_follow_up_is_read_with_what_it_follows() -> None:
    llm = CrossRouteLLM(models=scripted())
    conversation = [
        ChatMessage("You are a mathematician.", role="system"),
        ChatMessage(QUESTION),
        ChatMessage("Shall I go on?", role="model"),
        ChatMessage("yes"),
    ]
    expected = core_decision(
        [
            {"role": "system", "content": "You are a mathematician."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "Shall I go on?"},
            {"role": "user", "content": "yes"},
        ]
    )
    found = llm.chat(conversation).additional_kwargs["crossroute"]
    spent = {"realised": found["realised"], "bill": found["bill"]}
    assert found == expected.to_dict() | spent


@pytest.mark.parametrize("way", [*CHATS, *TOOL_CHATS])
async def test_a_conversation_stays_on_its_model(way: str) -> None:
    models = scripted()
    routes: Callable[[float | None], CrossRouteLLM] = lambda margin: CrossRouteLLM(  # noqa: E731
        models=models, willingness_to_pay=math.inf, stay_margin=margin
    )
    with call_settings(model=SMALL):
        first = (await answer_of(way, routes(0.5))).message
    assert first.additional_kwargs["crossroute_model"] == SMALL
    # Memory and context stores may write it out and read it again.
    first = ChatMessage.model_validate_json(first.model_dump_json())
    follow_up = [*user(QUESTION), first, *user("Now prove it in a quite different way, please.")]
    for margin, expected in ((0.5, SMALL), (0, LARGE), (None, LARGE)):
        found = (await answer_of(way, routes(margin), follow_up)).additional_kwargs["crossroute"]
        assert (found["model"], found["kept"]) == (expected, expected == SMALL)
    # No provider gets the mark.
    for asked in models[LARGE]._asked + models[SMALL]._asked:
        assert not any("crossroute_model" in message.additional_kwargs for message in asked)
    assert first.additional_kwargs["crossroute_model"] == SMALL


def test_messages_are_marked_only_where_conversations_stay() -> None:
    answer = CrossRouteLLM(models=scripted()).chat(user(QUESTION))
    assert answer.message.additional_kwargs == {}


# The package


def test_docstring_example_runs() -> None:
    outcome = doctest.testmod(llamaindex_crossroute.llm)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@MAKES_AN_AGENT
def test_examples_of_the_page_run(
    settings: None, events: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    models = scripted()
    namespace: dict[str, Any] = {"large": models[LARGE], "small": models[MEDIUM]}
    namespace |= {"retriever": Retriever(), "tools": [multiply]}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    assert capsys.readouterr().out.splitlines()[-1] == f"${namespace['bill'].realised_usd:.6f}"
    assert models[LARGE]._asked
    assert namespace["bill"].realised_usd > 0
