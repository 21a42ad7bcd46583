"""CrossRouteRunnable in chains: what runs, what the answer carries, what is built when."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import asyncio
import datetime
import doctest
import json
import math
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add, itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)
from pydantic import Field, ValidationError

import langchain_crossroute
import langchain_crossroute.runnable
from crossroute import (
    CrossRouteError,
    CrossRouter,
    DescriptorError,
    MissingExtraError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Provider,
    QueryError,
    UnknownModelError,
    WillingnessToPayError,
)
from langchain_crossroute import CrossRouteRunnable
from langchain_crossroute.lazy import LazyChatModel
from langchain_crossroute.messages import to_query

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MEDIUM]
QUESTION = "Prove that there are infinitely many primes, and explain every step."
SYSTEM = "You answer briefly."
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])
EXAMPLE = Path(__file__).parent.parent / "examples" / "langchain_chain.py"
CALL_SETTINGS = [
    "crossroute_allowed",
    "crossroute_excluded",
    "crossroute_languages",
    "crossroute_max_cost_usd",
    "crossroute_max_data_retention_days",
    "crossroute_max_latency_seconds",
    "crossroute_model",
    "crossroute_regions",
    "willingness_to_pay",
]
WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]


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


class Run(NamedTuple):
    kind: str
    name: str
    parent: UUID | None
    metadata: dict[str, Any]


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
        self, kind: str, run_id: UUID, name: str, parent_run_id: Any, metadata: Any, **_: Any
    ) -> None:
        self.runs[run_id] = Run(kind, name, parent_run_id, metadata)

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

    def of_kind(self, kind: str) -> list[UUID]:
        return [run_id for run_id, run in self.runs.items() if run.kind == kind]


def scripted(**settings: Any) -> dict[str, ScriptedChatModel]:
    return {model: ScriptedChatModel(model_name=model, **settings) for model in MODELS}


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


def predicted(answer: AIMessage) -> dict[str, Any]:
    """The decision that an answer carries, without what the call really cost."""
    decision = dict(answer.response_metadata["crossroute"])
    decision.pop("realised", None)
    del decision["bill"]
    return decision


@pytest.fixture
def expected(router: CrossRouter) -> Callable[[float], str]:
    """The model that the core itself chooses for the messages of these tests."""
    narrow = router.subset(MODELS)
    assert narrow.route(MESSAGES, 0).model != narrow.route(MESSAGES, math.inf).model
    return lambda willingness_to_pay: narrow.route(MESSAGES, willingness_to_pay).model


# In a chain


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_chosen_model_answers(
    way: str, willingness: float, expected: Callable[[float], str]
) -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=willingness)
    chain = PROMPT | routed | StrOutputParser()

    assert await output_of(way, chain, {"question": QUESTION}) == f"I am {expected(willingness)}."
    asked = {model: fake.asked for model, fake in models.items() if fake.asked}
    assert asked == {expected(willingness): [[SystemMessage(SYSTEM), HumanMessage(QUESTION)]]}


@pytest.mark.parametrize("way", WAYS)
async def test_one_model_run_under_one_router_run(
    way: str, expected: Callable[[float], str]
) -> None:
    recorder = Recorder()
    chain = PROMPT | CrossRouteRunnable(models=scripted()) | StrOutputParser()
    await chunks_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})

    routing = recorder.named("CrossRouteRunnable")
    (answering,) = recorder.of_kind("model")
    assert recorder.runs[answering].parent == routing
    assert recorder.runs[routing].parent == recorder.named("RunnableSequence")
    assert recorder.runs[recorder.named("RunnableSequence")].parent is None
    assert set(recorder.ended) == set(recorder.runs)
    assert not recorder.errors
    model = expected(langchain_crossroute.runnable.DEFAULT_WILLINGNESS_TO_PAY)
    assert recorder.runs[answering].metadata["crossroute_model"] == model
    assert "crossroute_model" not in recorder.runs[routing].metadata


@pytest.mark.parametrize("way", WAYS)
async def test_the_answer_carries_the_decision(way: str, router: CrossRouter) -> None:
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=math.inf)
    answer = await output_of(way, PROMPT | routed, {"question": QUESTION})

    decision = router.subset(MODELS).route(MESSAGES, math.inf)
    found = answer.response_metadata["crossroute"]
    price = router.pool[decision.model].price
    assert price is not None
    realised = {
        "input_tokens": 5,
        "output_tokens": 7,
        "cached_tokens": 0,
        "cost_usd": pytest.approx(price.cost_usd(5, 7)),
    }
    assert found.pop("realised") == realised
    assert found.pop("bill") == {
        "asks": [{"model": decision.model, "role": "answer", **realised, "estimated": False}],
        "cost_usd": realised["cost_usd"],
        "estimated": False,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(
        json.dumps(decision.to_dict())
    )
    assert answer.response_metadata["model_name"] == decision.model
    assert answer.response_metadata["model_provider"] == "scripted"
    assert answer.usage_metadata["total_tokens"] == 12


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_the_decision_is_on_the_first_chunk_only(way: str) -> None:
    chunks = await chunks_of(way, CrossRouteRunnable(models=scripted()), QUESTION)
    assert len(chunks) > 5
    first, *middle, last = [chunk.response_metadata.get("crossroute") for chunk in chunks]
    assert "model" in first
    assert not any(middle)
    assert list(last) == ["realised", "bill"]


def test_tokens_pass_when_they_are_made() -> None:
    models = scripted()
    chain = PROMPT | CrossRouteRunnable(models=models, willingness_to_pay=0) | StrOutputParser()
    stream = chain.stream({"question": QUESTION})
    assert next(stream) == "I a"
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert next(stream) == "m M"
    assert sum(len(model.tokens_made) for model in models.values()) == 2


async def test_tokens_pass_when_they_are_made_async() -> None:
    models = scripted()
    chain = PROMPT | CrossRouteRunnable(models=models, willingness_to_pay=0) | StrOutputParser()
    stream = chain.astream({"question": QUESTION})
    assert await anext(stream) == "I a"
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert await anext(stream) == "m M"
    assert sum(len(model.tokens_made) for model in models.values()) == 2
    await stream.aclose()


def test_a_streamed_input_is_routed_whole(router: CrossRouter) -> None:
    def words(_: Iterator[Any]) -> Iterator[str]:
        yield from (QUESTION[:20], QUESTION[20:])

    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=math.inf)
    answer = reduce(add, (RunnableGenerator(words) | routed).stream("go"))
    decision = router.subset(MODELS).route(QUESTION, math.inf)
    assert predicted(answer) == decision.to_dict()
    assert models[decision.model].asked == [[HumanMessage(QUESTION)]]


async def test_a_streamed_input_is_routed_whole_async(router: CrossRouter) -> None:
    async def words(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for part in (QUESTION[:20], QUESTION[20:]):
            yield part

    routed = CrossRouteRunnable(models=scripted())
    chunks = [chunk async for chunk in (RunnableGenerator(words) | routed).astream("go")]
    decision = router.subset(MODELS).route(QUESTION)
    assert predicted(reduce(add, chunks)) == decision.to_dict()


@pytest.mark.parametrize("way", WAYS)
async def test_usage_is_counted_once(way: str, expected: Callable[[float], str]) -> None:
    usage = UsageMetadataCallbackHandler()
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [usage]})
    assert {model: count["total_tokens"] for model, count in usage.usage_metadata.items()} == {
        expected(0): 12
    }


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_handler_sees_each_token_once(way: str, expected: Callable[[float], str]) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [recorder]})
    assert "".join(recorder.tokens) == f"I am {expected(0)}."


async def test_events_of_a_chain(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    events = [event async for event in chain.astream_events({"question": QUESTION})]
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == f"I am {expected(0)}."
    assert [e["event"] for e in events].count("on_chat_model_start") == 1


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_of_the_model_reaches_the_caller(way: str) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted(error=ValueError("bad input")))
    with pytest.raises(ValueError, match="bad input"):
        await chunks_of(way, PROMPT | routed, {"question": QUESTION}, {"callbacks": [recorder]})
    (answering,) = recorder.of_kind("model")
    assert isinstance(recorder.errors[answering], ValueError)
    assert isinstance(recorder.errors[recorder.named("CrossRouteRunnable")], ValueError)


@pytest.mark.parametrize("way", WAYS)
async def test_a_query_that_cannot_be_routed_asks_no_model(way: str) -> None:
    recorder = Recorder()
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(QueryError, match="Cannot route by"):
        await chunks_of(way, routed, {"question": "?"}, {"callbacks": [recorder]})
    assert recorder.of_kind("model") == []
    assert isinstance(recorder.errors[recorder.named("CrossRouteRunnable")], QueryError)


def test_an_abandoned_stream_ends_its_run() -> None:
    models, recorder = scripted(), Recorder()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    stream = routed.stream(QUESTION, {"callbacks": [recorder]})
    next(stream)
    stream.close()
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


async def test_an_abandoned_stream_ends_its_run_async() -> None:
    models, recorder = scripted(), Recorder()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    stream = routed.astream(QUESTION, {"callbacks": [recorder]})
    await anext(stream)
    await stream.aclose()
    await asyncio.sleep(0.01)
    assert sum(len(model.tokens_made) for model in models.values()) == 1
    assert set(recorder.ended) | set(recorder.errors) == set(recorder.runs)


@pytest.mark.parametrize("way", WAYS)
async def test_arguments_of_a_call_reach_the_model(
    way: str, expected: Callable[[float], str]
) -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0).bind(stop=["\n"])
    await chunks_of(way, PROMPT | routed, {"question": QUESTION})
    assert models[expected(0)].stops == [["\n"]]


def test_a_batch_runs_in_threads_and_keeps_its_order(router: CrossRouter) -> None:
    questions = [f"{QUESTION} Then find {10**number} of them." for number in range(16)]
    together = threading.Barrier(16)

    def answer(question: str) -> AIMessage:
        together.wait(timeout=10)
        return AIMessage(question)

    routed = CrossRouteRunnable(models={model: RunnableLambda(answer) for model in MODELS})
    answers = routed.batch(questions, {"max_concurrency": 16})
    assert [answer.text for answer in answers] == questions
    assert [predicted(answer) for answer in answers] == [
        router.subset(MODELS).route(question).to_dict() for question in questions
    ]


async def test_many_calls_at_once_async() -> None:
    models = scripted()
    routed = CrossRouteRunnable(models=models)
    answers = await asyncio.gather(*(routed.ainvoke(f"{QUESTION} {n}") for n in range(16)))
    for answer in answers:
        assert answer.text == f"I am {answer.response_metadata['crossroute']['model']}."


def test_a_batch_can_return_errors() -> None:
    routed = CrossRouteRunnable(models=scripted())
    answer, error = routed.batch([QUESTION, 7], return_exceptions=True)
    assert isinstance(answer, AIMessage)
    assert isinstance(error, QueryError)


# Messages that others hold


def test_cached_messages_are_not_changed() -> None:
    cache = InMemoryCache()
    models = {model: ScriptedChatModel(model_name=model, cache=cache) for model in MODELS}
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    chosen = [routed.invoke(QUESTION).response_metadata["crossroute"]["model"] for _ in range(2)]
    model = models[chosen[0]]
    assert len(model.asked) == 1
    assert "crossroute" not in model.invoke(QUESTION).response_metadata
    assert len(model.asked) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_shared_message_is_not_changed(way: str) -> None:
    shared = AIMessageChunk("the same", response_metadata={"model_name": "shared"})
    models = {model: RunnableLambda(lambda _: shared) for model in MODELS}
    answer = await output_of(way, CrossRouteRunnable(models=models), QUESTION)
    assert answer.response_metadata["model_name"] == "shared"
    assert "crossroute" in answer.response_metadata
    assert shared.response_metadata == {"model_name": "shared"}


# Candidates that are no chat models


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("output", ["text", {"answer": 1}, ["a", "b"], 0])
async def test_other_outputs_pass_unchanged(way: str, output: object) -> None:
    recorder = Recorder()
    models = {
        model: RunnableLambda(lambda _: output).with_config(run_name=model) for model in MODELS
    }
    routed = CrossRouteRunnable(models=models)
    assert await chunks_of(way, routed, QUESTION, {"callbacks": [recorder]}) == [output]

    (answering,) = [run for run in recorder.runs.values() if run.parent is not None]
    assert answering.parent == recorder.named("CrossRouteRunnable")
    assert answering.metadata["crossroute_model"] == answering.name


@pytest.mark.parametrize("way", WAYS)
async def test_candidates_may_be_chains_with_a_dict_as_input(
    way: str, expected: Callable[[float], str]
) -> None:
    recorder, models = Recorder(), scripted()
    chains = {id_: PROMPT | model | StrOutputParser() for id_, model in models.items()}
    routed = CrossRouteRunnable(
        models=chains, willingness_to_pay=math.inf, query=itemgetter("question")
    )
    chain = RunnablePassthrough.assign(context=lambda _: "unread") | routed
    answer = await output_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})
    assert answer == f"I am {expected(math.inf)}."
    (answering,) = recorder.of_kind("model")
    assert recorder.runs[answering].metadata["crossroute_model"] == expected(math.inf)


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_chain_streams_its_tokens(way: str) -> None:
    chains = {id_: model | StrOutputParser() for id_, model in scripted().items()}
    routed = CrossRouteRunnable(models=chains, willingness_to_pay=0)
    chunks = await chunks_of(way, routed, QUESTION)
    assert chunks[:2] == ["I a", "m M"]


def test_the_decision_waits_for_the_first_message() -> None:
    def mixed(_: Iterator[Any]) -> Iterator[Any]:
        yield "not a message"
        yield AIMessageChunk("one")
        yield AIMessageChunk("two")

    routed = CrossRouteRunnable(models={model: RunnableGenerator(mixed) for model in MODELS})
    text, one, two = routed.stream(QUESTION)
    assert text == "not a message"
    assert "crossroute" in one.response_metadata
    assert "crossroute" not in two.response_metadata


def test_a_dict_needs_to_be_told_what_to_read() -> None:
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(QueryError, match=r"type dict with the keys 'question', 'k':.*itemgetter"):
        routed.invoke({"question": QUESTION, "k": 3})


# The willingness to pay of a call


@pytest.mark.parametrize("way", WAYS)
async def test_the_config_sets_the_willingness_to_pay(
    way: str, expected: Callable[[float], str]
) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    for willingness in (math.inf, 0, None):
        config = {"configurable": {"willingness_to_pay": willingness}}
        answer = await output_of(way, chain, {"question": QUESTION}, config)
        decision = answer.response_metadata["crossroute"]
        assert decision["model"] == expected(willingness or 0)
        assert float(decision["willingness_to_pay"]) == (willingness or 0)


def test_each_of_a_batch_has_its_own_willingness_to_pay(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted()) | StrOutputParser()
    configs: list[Any] = [{"configurable": {"willingness_to_pay": w}} for w in (0, math.inf)]
    assert chain.batch([{"question": QUESTION}] * 2, configs) == [
        f"I am {expected(0)}.",
        f"I am {expected(math.inf)}.",
    ]


def test_with_config_sets_the_willingness_to_pay(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    dear = chain.with_config(configurable={"willingness_to_pay": math.inf})
    assert dear.invoke({"question": QUESTION}).text == f"I am {expected(math.inf)}."


def test_fields_may_be_configurable(expected: Callable[[float], str]) -> None:
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    chain = PROMPT | routed.configurable_fields(willingness_to_pay=ConfigurableField(id="wtp"))
    assert chain.invoke({"question": QUESTION}).text == f"I am {expected(0)}."
    dear = chain.invoke({"question": QUESTION}, {"configurable": {"wtp": math.inf}})
    assert dear.text == f"I am {expected(math.inf)}."


def test_the_willingness_to_pay_is_declared() -> None:
    one = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    two = CrossRouteRunnable(models=scripted(), willingness_to_pay=1)
    chain = one | StrOutputParser() | two
    assert sorted(spec.id for spec in chain.config_specs) == CALL_SETTINGS
    configurable = chain.get_config_jsonschema()["$defs"]["Configurable"]
    assert sorted(configurable["properties"]) == CALL_SETTINGS


@pytest.mark.parametrize(
    "setting",
    [
        {"crossroute_regions": ["eu"]},
        {"crossroute_max_data_retention_days": 0},
        {"crossroute_max_latency_seconds": 2.0},
    ],
)
def test_a_call_may_demand_what_the_descriptor_says(
    setting: dict[str, Any], router: CrossRouter
) -> None:
    facts = {"region": "eu", "data_retention_days": 0, "expected_latency_seconds": 1.0}
    pool = ModelPool(
        router.pool[model].model_copy(update=facts if model == LARGE else {}) for model in MODELS
    )
    routed = CrossRouteRunnable(router=router.over(pool), models=scripted(), willingness_to_pay=0)
    answer = routed.invoke(QUESTION, {"configurable": setting})
    assert answer.text == f"I am {LARGE}."
    assert set(answer.response_metadata["crossroute"]["removed"]) == {SMALL, MEDIUM}


def test_fields_of_the_models_are_declared() -> None:
    voice = scripted()[LARGE].configurable_fields(model_name=ConfigurableField(id="voice"))
    routed = CrossRouteRunnable(models=dict.fromkeys(MODELS, voice))
    assert {spec.id for spec in routed.config_specs} == {*CALL_SETTINGS, "voice"}
    answer = routed.invoke(QUESTION, {"configurable": {"voice": "another"}})
    assert answer.text == "I am another."


@pytest.mark.parametrize("wrong", [-1, math.nan, "0.1", True])
def test_a_wrong_willingness_to_pay_in_the_config(wrong: Any) -> None:
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(WillingnessToPayError):
        routed.invoke(QUESTION, {"configurable": {"willingness_to_pay": wrong}})


# The constructor


def test_the_router_is_narrowed_to_the_models(router: CrossRouter) -> None:
    assert set(router.pool) > set(MODELS)
    routed = CrossRouteRunnable(router=router, models=scripted())
    assert set(routed.router.pool) == set(MODELS)
    assert len(routed.invoke(QUESTION).response_metadata["crossroute"]["candidates"]) == 3

    narrow = router.subset(MODELS)
    assert CrossRouteRunnable(router=narrow, models=scripted()).router is narrow


def test_the_models_are_the_callers_no_longer() -> None:
    models: dict[str, Any] = scripted()
    routed = CrossRouteRunnable(models=models, willingness_to_pay=0)
    models.clear()
    assert routed.invoke(QUESTION).text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {"gpt-4o-2024-08-6": 1, MEDIUM: 1}}, UnknownModelError, f"mean '{LARGE}'"),
        ({"models": {LARGE: 1}}, PoolError, f"at least two models.*1: {LARGE}"),
        ({"models": {}}, PoolError, "at least two models"),
        ({"willingness_to_pay": -1}, WillingnessToPayError, "-1"),
        ({"willingness_to_pay": math.nan}, WillingnessToPayError, "nan"),
        ({"willingness_to_pay": "0.1"}, WillingnessToPayError, "'0.1'"),
        ({"willingness_to_pay": True}, WillingnessToPayError, "True"),
    ],
)
def test_wrong_arguments_raise_our_errors(
    change: dict[str, Any], error: type[CrossRouteError], message: str
) -> None:
    if models := change.get("models"):
        change = {"models": {model: RunnableLambda(str) for model in models}}
    with pytest.raises(error, match=message) as raised:
        CrossRouteRunnable(**({"models": scripted()} | change))
    assert not isinstance(raised.value, ValidationError)


@pytest.mark.parametrize(
    "change",
    [
        {"models": {LARGE: "openai:gpt-4o", MEDIUM: "sk-SECRET"}},
        {"models": {LARGE: {"api_key": "sk-SECRET"}, MEDIUM: RunnableLambda(str)}},
        {"models": ["sk-SECRET"]},
        {"router": "sk-SECRET"},
        {"query": "sk-SECRET"},
    ],
)
def test_arguments_of_a_wrong_type_are_not_printed(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        CrossRouteRunnable(**({"models": scripted()} | change))
    assert next(iter(change)) in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_misspelt_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="wilingness_to_pay"):
        CrossRouteRunnable(models=scripted(), wilingness_to_pay=0)  # type: ignore[call-arg]


def test_nothing_secret_is_shown() -> None:
    class Talkative(ScriptedChatModel):
        key: str

    routed = CrossRouteRunnable(
        models={m: Talkative(model_name=m, key="sk-SECRET") for m in MODELS}
    )
    assert "SECRET" in repr(routed.models)
    shown = f"{routed!r} {routed} {PROMPT | routed!r} {json.dumps(routed.to_json())}"
    assert LARGE in shown
    assert "SECRET" not in shown


def test_exported_names() -> None:
    assert langchain_crossroute.__all__ == [
        "ChatCrossRoute",
        "CostLedger",
        "CrossRouteMiddleware",
        "CrossRouteRunnable",
    ]
    for name in langchain_crossroute.__all__:
        assert getattr(langchain_crossroute, name).__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        langchain_crossroute.Nonsense  # noqa: B018


# Input as a query


@pytest.mark.parametrize(
    "value",
    [
        QUESTION,
        StringPromptValue(text=QUESTION),
        [HumanMessage(QUESTION)],
        [HumanMessageChunk(QUESTION)],
        [("human", QUESTION)],
        ({"role": "user", "content": QUESTION},),
        [QUESTION],
        [HumanMessage([{"type": "text", "text": QUESTION}])],
        [HumanMessage([{"type": "unheard_of"}, {"type": "text", "text": QUESTION}])],
    ],
)
def test_every_input_of_a_chat_model_is_read(value: Any, router: CrossRouter) -> None:
    found = predicted(CrossRouteRunnable(models=scripted()).invoke(value))
    assert found == router.subset(MODELS).route(QUESTION).to_dict()


def test_roles_of_messages() -> None:
    messages: list[Any] = [
        SystemMessage("s"),
        HumanMessage("u"),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        AIMessageChunk("a"),
        ToolMessage("t", tool_call_id="1"),
        ChatMessage("c", role="user"),
    ]
    assert to_query(messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "", "tool_calls": messages[2].tool_calls},
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "t"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "an input of type int"),
        (None, "an input of type NoneType"),
        ({}, "an input of type dict"),
        (HumanMessage(QUESTION), "an input of type HumanMessage"),
        ([3], "not a list of messages"),
        ([("robot", "hi")], "robot"),
        ([("human", "hi", "there")], "not a list of messages"),
        ([(["human"], "hi")], "not a list of messages"),
        ([{"content": "hi"}], "role"),
        (b"bytes", "not a list of messages"),
    ],
)
def test_other_inputs_are_refused(value: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        CrossRouteRunnable(models=scripted()).invoke(value)


@pytest.mark.parametrize(
    "value", ["", [], [HumanMessage("")], [HumanMessage([{"type": "unheard_of"}])]]
)
def test_blank_input_is_answered_as_by_a_model(value: Any) -> None:
    answer = CrossRouteRunnable(models=scripted()).invoke(value)
    assert answer.response_metadata["crossroute"]["blank"]


# From descriptors


class Builds:
    """Stands for `init_chat_model`; remembers what was built."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, model: str, **arguments: Any) -> ScriptedChatModel:
        time.sleep(0.02)  # long enough for a second thread to come in between
        self.made.append((model, arguments))
        return ScriptedChatModel(model_name=model)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()
    monkeypatch.setattr("langchain.chat_models.init_chat_model", builds)
    return builds


@pytest.fixture
def write(tmp_path: Path, router: CrossRouter) -> Callable[..., Path]:
    """Writes the shipped descriptors of some models into a folder, with changes."""

    def write(changes: dict[str, dict[str, Any]]) -> Path:
        for model, change in changes.items():
            content = router.pool[model].model_dump() | {"retired": None} | change
            ModelDescriptor.model_validate(content).save(tmp_path)
        return tmp_path

    return write


def provider(name: str, **settings: Any) -> dict[str, Any]:
    return {"provider": {"chat_model": f"fake:{name}", **settings}}


@pytest.mark.parametrize("way", WAYS)
async def test_a_chat_model_is_built_when_it_is_first_chosen(
    way: str, builds: Builds, write: Callable[..., Path], expected: Callable[[float], str]
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=math.inf, name="mine")
    assert routed.config_specs
    assert repr(routed)
    assert builds.made == []

    recorder = Recorder()
    for _ in range(2):
        chain = PROMPT | routed
        answer = await output_of(way, chain, {"question": QUESTION}, {"callbacks": [recorder]})
    assert builds.made == [(f"fake:{expected(math.inf)}", {})]
    assert answer.text == f"I am fake:{expected(math.inf)}."
    # A model that is built late has no run of its own.
    for answering in recorder.of_kind("model"):
        parent = recorder.runs[answering].parent
        assert parent is not None
        assert recorder.runs[parent].name == "mine"


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_chat_model_that_is_built_late_streams(
    way: str, builds: Builds, write: Callable[..., Path]
) -> None:
    routed = CrossRouteRunnable.from_yaml(write({model: provider(model) for model in MODELS}))
    chunks = await chunks_of(way, routed, QUESTION)
    assert [chunk.text for chunk in chunks[:3]] == ["I a", "m f", "ake"]


def test_a_chat_model_is_built_once_for_many_threads(
    builds: Builds, write: Callable[..., Path]
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    barrier = threading.Barrier(8)

    def ask(_: int) -> Any:
        barrier.wait()
        return routed.invoke(QUESTION)

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(ask, range(8)))) == 8
    assert len(builds.made) == 1


async def test_a_chat_model_is_built_once_beside_the_event_loop(
    builds: Builds, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    threads = []

    def build(model: str, **arguments: Any) -> ScriptedChatModel:
        threads.append(threading.current_thread())
        return builds(model, **arguments)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    await asyncio.gather(*(routed.ainvoke(QUESTION) for _ in range(8)))
    assert len(builds.made) == 1
    assert threads[0] is not threading.main_thread()


def test_a_descriptor_says_how_to_build_its_model(
    builds: Builds, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    settings = {
        "base_url": "http://localhost:8000/v1",
        "api_key_env": "MY_KEY",
        "arguments": {"temperature": 0.5},
    }
    folder = write({model: provider(model, **settings) for model in MODELS})
    CrossRouteRunnable.from_yaml(folder).invoke(QUESTION)
    ((_, arguments),) = builds.made
    assert arguments.pop("api_key").get_secret_value() == "sk-SECRET"
    assert arguments == {"temperature": 0.5, "base_url": "http://localhost:8000/v1"}


def test_a_real_chat_model_is_built_without_showing_its_key(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    good = Provider(chat_model="openai:gpt-4o-mini", api_key_env="MY_KEY")
    model: Any = LazyChatModel("good", good).load()
    assert model.openai_api_key.get_secret_value() == "sk-SECRET"

    wrong = good.model_copy(update={"arguments": {"n": 0}})
    with pytest.raises(ValueError, match="n must be at least 1") as raised:
        LazyChatModel("wrong", wrong).load()
    assert "SECRET" not in str(raised.value)
    assert raised.value.__notes__ == ["While building the chat model of 'wrong'."]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_named(
    value: str | None,
    builds: Builds,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    monkeypatch.setenv("OTHER_KEY", "sk-SECRET")
    folder = write({model: provider(model, api_key_env="MY_KEY") for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder, willingness_to_pay=0)
    with pytest.raises(DescriptorError, match=f"{SMALL}.*MY_KEY, which is not set") as raised:
        routed.invoke(QUESTION)
    assert "SECRET" not in str(raised.value)
    assert builds.made == []

    # It is asked for again: the variable may be set later.
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    assert routed.invoke(QUESTION).text


def test_without_langchain_it_says_what_to_install(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    folder = write({model: provider(model) for model in MODELS})
    routed = CrossRouteRunnable.from_yaml(folder)
    with pytest.raises(MissingExtraError, match=r"'langchain'.*pip install"):
        routed.invoke(QUESTION)


def test_retired_models_and_those_without_a_provider_are_left_out(
    write: Callable[..., Path],
) -> None:
    today = datetime.date.today()
    folder = write(
        {
            LARGE: {"retired": today + datetime.timedelta(days=30)},
            SMALL: {},
            MEDIUM: {"retired": today},
            "gpt-4-1106-preview": {"retired": today - datetime.timedelta(days=1)},
            "gpt-4o-2024-05-13": {"provider": None},
        }
    )
    assert set(CrossRouteRunnable.from_yaml(folder).models) == {LARGE, SMALL}


def test_fewer_than_two_models_left(write: Callable[..., Path]) -> None:
    folder = write(
        {LARGE: {"provider": None}, SMALL: {}, MEDIUM: {"retired": datetime.date(2020, 1, 2)}}
    )
    with pytest.raises(PoolError) as raised:
        CrossRouteRunnable.from_yaml(folder)
    for part in (f"1 of the 3 descriptors: {SMALL};", f"{LARGE} (no provider)", "2020-01-02"):
        assert part in str(raised.value)


def test_a_checkpoint_folder(toy_router: CrossRouter, tmp_path: Path, builds: Builds) -> None:
    pool = ModelPool(
        model.model_copy(update={"provider": Provider(chat_model=f"fake:{model.id}")})
        for model in toy_router.pool.values()
    )
    toy_router.checkpoint.save(tmp_path / "checkpoint", pool)
    routed = CrossRouteRunnable.from_yaml(tmp_path / "checkpoint", willingness_to_pay=0)
    assert routed.router.checkpoint.id == toy_router.checkpoint.id
    chosen = toy_router.route(QUESTION, 0).model
    assert routed.invoke(QUESTION).text == f"I am fake:{chosen}."


def test_the_shipped_descriptors(router: CrossRouter) -> None:
    routed = CrossRouteRunnable.from_yaml()
    assert {LARGE, MEDIUM} <= set(routed.models)
    assert all(router.pool[model].provider for model in routed.models)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="nowhere"):
        CrossRouteRunnable.from_yaml(tmp_path / "nowhere")


# The package


def test_imports_are_light() -> None:
    code = """
import sys
heavy = {"torch", "sentence_transformers", "transformers", "langchain", "langchain_openai",
         "langchain_core.language_models.chat_models"}
from langchain_crossroute import CrossRouteRunnable
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from langchain_core.runnables import RunnableLambda
models = {"gpt-4o-2024-08-06": RunnableLambda(str), "gpt-4o-mini-2024-07-18": RunnableLambda(str)}
assert CrossRouteRunnable(models=models).invoke("What is 2 + 2?") == "What is 2 + 2?"
CrossRouteRunnable.from_yaml()
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_docstring_example() -> None:
    result = doctest.testmod(langchain_crossroute.runnable)
    assert result.attempted > 5
    assert result.failed == 0


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "simulated" in capsys.readouterr().out
