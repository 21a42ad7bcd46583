"""Signals, calibration and cascade by a small real model in llama.cpp, over HTTP.

Skipped where it is not installed: `make test-llama` installs it, and runs this. What the model says
is its own, so nothing here hangs on how often it is right.
"""

# ruff: noqa: ANN401  # Answers of two frameworks.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer
from openai_server import Reply as Served
from pydantic import SecretStr
from small_model import MODEL, LlamaServer, Question, missing, questions

from crossroute import CrossRouter, ModelDescriptor
from crossroute.strategies import (
    Agreement,
    Ask,
    Calibrations,
    Cascade,
    Flow,
    MeanLogprob,
    MinLogprob,
    PTrue,
    Reply,
    Signal,
    StatedConfidence,
    Strategy,
    Task,
)
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM

if (reason := missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

TEACHER = "teacher"
"""A simulated model that is always right."""
LEARNED, FRESH = 75, 24
"""Questions to calibrate on, and others."""
QUESTIONS = questions(LEARNED + FRESH, seed=1)
ANSWERS = {one.text: one for one in QUESTIONS}
SURE = "What is the capital of Japan?"
LONGEST = 16
ROUNDING = 0.05
"""In a log-probability: a prompt that is in the server's cache is computed in other pieces."""
PATIENCE = 300.0
TAUGHT_TOKENS = 31, 7
CLOSE = {"Connection": "close"}
"""No connection is left over for a client to keep."""


@dataclass
class Measure:
    """Answers by the small model, and notes what it was sent and what the signals say of it."""

    signals: Sequence[Signal] = (MeanLogprob(),)
    streams: bool = False
    heard: list[Reply] = field(default_factory=list)
    values: list[dict[str, float | None]] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        ask = Ask(MODEL, role="draft", until=(lambda _: False) if self.streams else None)
        for signal in self.signals:
            prepared = signal.prepared(task, ask)
            assert prepared is not None
            ask = prepared
        draft: Reply = yield ask
        said = {}
        for signal in self.signals:
            said[signal.name] = yield from signal.read(task, draft)
        self.heard.append(draft)
        self.values.append(said)
        return draft


@dataclass(frozen=True)
class Noted:
    """The mean log-probability, which is noted of each draft."""

    signal: MeanLogprob = field(default_factory=MeanLogprob)
    values: list[float | None] = field(default_factory=list)
    name: str = "mean_logprob"

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        return self.signal.prepared(task, ask)

    def cost_usd(self, task: Task, model: str) -> float:
        return self.signal.cost_usd(task, model)

    def read(self, task: Task, draft: Reply) -> Any:
        value = yield from self.signal.read(task, draft)
        self.values.append(value)
        return value


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture
def teacher() -> Iterator[OpenAIServer]:
    def answer(body: dict[str, Any]) -> Served:
        said = {str(message["content"]) for message in body["messages"]}
        (asked,) = said & ANSWERS.keys()
        text = f"The answer is {ANSWERS[asked].answer}."
        return Served(text, input_tokens=TAUGHT_TOKENS[0], output_tokens=TAUGHT_TOKENS[1])

    with OpenAIServer({TEACHER: answer}) as server:
        yield server


@pytest.fixture(scope="module")
def small_and_teacher() -> CrossRouter:
    router = CrossRouter.shipped()
    for model, price, like, offset, capabilities in [
        (MODEL, 0.1, "Meta-Llama-3.1-8B-Instruct", -0.3, ["logprobs"]),
        (TEACHER, 10.0, "gpt-4o-2024-08-06", 0.5, []),
    ]:
        descriptor = {
            "id": model,
            "price": {"input_usd_per_1m": price, "output_usd_per_1m": 4 * price},
            "capabilities": capabilities,
            "behaves_like": {"model": like, "quality_offset": offset},
        }
        router = router.add_model(ModelDescriptor.model_validate(descriptor))
    return router


def addresses(llama: LlamaServer, teacher: OpenAIServer | None) -> dict[str, str]:
    # Where nobody is to be taught, nobody listens.
    return {MODEL: llama.url, TEACHER: "http://127.0.0.1:9/v1" if teacher is None else teacher.url}


def chat(
    router: CrossRouter,
    strategy: Strategy,
    llama: LlamaServer,
    teacher: OpenAIServer | None = None,
    **settings: Any,
) -> ChatCrossRoute:
    given = {"temperature": 0.0, "max_tokens": LONGEST, "timeout": PATIENCE, **settings}
    given["default_headers"] = CLOSE
    models = {
        model: ChatOpenAI(
            model=model, base_url=url, api_key=SecretStr("none"), max_retries=0, **given
        )
        for model, url in addresses(llama, teacher).items()
    }
    return ChatCrossRoute(models=models, router=router, strategy=strategy)


def llm(
    router: CrossRouter,
    strategy: Strategy,
    llama: LlamaServer,
    teacher: OpenAIServer | None = None,
    **settings: Any,
) -> CrossRouteLLM:
    models = {
        model: OpenAILike(
            model=model,
            api_base=url,
            api_key="none",
            is_chat_model=True,
            temperature=0.0,
            max_tokens=LONGEST,
            timeout=PATIENCE,
            max_retries=0,
            default_headers=CLOSE,
        )
        for model, url in addresses(llama, teacher).items()
    }
    return CrossRouteLLM(models=models, router=router, strategy=strategy, **settings)


@pytest.fixture(scope="module")
def calibrations(small_and_teacher: CrossRouter, llama: LlamaServer) -> Calibrations:
    measure = Measure()
    routed = chat(small_and_teacher, measure, llama)
    rows = []
    for question in QUESTIONS[:LEARNED]:
        answer = routed.invoke(question.text)
        right = question.is_right(answer.text)
        value = measure.values[-1]["mean_logprob"]
        rows.append({"model": MODEL, "signal": "mean_logprob", "value": value, "right": right})
    # It knows some and does not know some, else there would be nothing to learn.
    assert 0 < sum(bool(row["right"]) for row in rows) < LEARNED
    return Calibrations.fit(rows)


# Log-probabilities


async def one_answer(
    framework: str, router: CrossRouter, strategy: Strategy, llama: LlamaServer
) -> None:
    if framework == "langchain":
        await chat(router, strategy, llama).ainvoke(SURE)
        async for _ in chat(router, strategy, llama).astream(SURE):
            pass
    else:
        await llm(router, strategy, llama).achat([ChatMessage(SURE)])
        for _ in llm(router, strategy, llama).stream_chat([ChatMessage(SURE)]):
            pass


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
async def test_log_probabilities_arrive(
    framework: str, small_and_teacher: CrossRouter, llama: LlamaServer
) -> None:
    heard: list[Reply] = []
    for streams in (False, True):
        await one_answer(framework, small_and_teacher, Measure(streams=streams, heard=heard), llama)
    assert len(heard) == 4
    for reply in heard:
        assert all(math.isfinite(value) and value <= 0 for value in reply.logprobs)
        assert reply.usage is not None
        # One a token; that of the end may be without.
        assert reply.usage.output_tokens - len(reply.logprobs) in (0, 1)
        assert reply.text == heard[0].text
        assert reply.logprobs == pytest.approx(heard[0].logprobs, abs=ROUNDING)
    assert len({round(value, 1) for value in heard[0].logprobs}) > 1


# Cascade


def asks(decision: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = decision["bill"]["asks"]
    return found


@dataclass
class Answered:
    """What became of the fresh questions: the draft's p(right), whether it was escalated."""

    p: list[float] = field(default_factory=list)
    escalated: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def add(self, question: Question, text: str, decision: dict[str, Any], p: float) -> None:
        models = [ask["model"] for ask in asks(decision)]
        assert models in ([MODEL], [MODEL, TEACHER])
        self.p.append(p)
        self.escalated.append(decision["model"] == TEACHER)
        assert self.escalated[-1] == (len(models) == 2)
        self.right.append(question.is_right(text))
        self.decisions.append(decision)

    def of(self, escalated: bool) -> list[float]:
        pairs = zip(self.p, self.escalated, strict=True)
        return [p for p, was in pairs if was == escalated]

    def check_bill(self, llama: LlamaServer, before: Any, teacher: OpenAIServer) -> None:
        """Against what the servers have counted themselves."""
        counted = llama.tokens().since(before)
        told = [ask for decision in self.decisions for ask in asks(decision)]
        assert not any(ask["estimated"] for ask in told)
        small = [ask for ask in told if ask["model"] == MODEL]
        large = [ask for ask in told if ask["model"] == TEACHER]
        assert sum(ask["input_tokens"] for ask in small) == counted.input
        assert sum(ask["output_tokens"] for ask in small) == counted.output
        assert len(large) == len(teacher.requests) == sum(self.escalated)
        assert {(ask["input_tokens"], ask["output_tokens"]) for ask in large} <= {TAUGHT_TOKENS}
        usd = (counted.input * 0.1 + counted.output * 0.4) / 1e6
        usd += len(large) * (TAUGHT_TOKENS[0] * 10 + TAUGHT_TOKENS[1] * 40) / 1e6
        billed = sum(decision["bill"]["cost_usd"] for decision in self.decisions)
        assert billed == pytest.approx(usd)


def test_the_unlikelier_drafts_are_escalated(
    small_and_teacher: CrossRouter,
    llama: LlamaServer,
    teacher: OpenAIServer,
    calibrations: Calibrations,
) -> None:
    noted = Noted()
    cascade = Cascade(calibrations, (noted,), escalate_at_most=0.5)
    routed = chat(small_and_teacher, cascade, llama, teacher)
    calibration = calibrations.calibrations[0]
    found, before = Answered(), llama.tokens()
    for question in QUESTIONS[LEARNED:]:
        answer = routed.invoke(question.text)
        assert noted.values[-1] is not None
        p = calibration.probability(noted.values[-1])
        found.add(question, answer.text, answer.response_metadata["crossroute"], p)
    kept, escalated = found.of(False), found.of(True)
    threshold = calibration.threshold_at_most(0.5).p
    assert max(escalated) < threshold <= min(kept)
    assert all(right for right, was in zip(found.right, found.escalated, strict=True) if was)
    found.check_bill(llama, before, teacher)


def test_one_willingness_to_pay_decides_in_llamaindex(
    small_and_teacher: CrossRouter,
    llama: LlamaServer,
    teacher: OpenAIServer,
    calibrations: Calibrations,
) -> None:
    noted = Noted()
    calibration = calibrations.calibrations[0]
    cascade = Cascade(calibrations, (noted,), cheap=MODEL)
    shares = {}
    for willingness in (0.0, 0.002, math.inf):
        routed = llm(small_and_teacher, cascade, llama, teacher, willingness_to_pay=willingness)
        found, before = Answered(), llama.tokens()
        teacher.requests.clear()
        for question in QUESTIONS[LEARNED : LEARNED + FRESH // 2]:
            asked = [ChatMessage(question.text)]
            *_, answer = routed.stream_chat(asked, stream_options={"include_usage": True})
            assert noted.values[-1] is not None
            p = calibration.probability(noted.values[-1])
            decision = answer.additional_kwargs["crossroute"]
            found.add(question, answer.message.content or "", decision, p)
        shares[willingness] = mean(found.escalated)
        found.check_bill(llama, before, teacher)
        if 0 < shares[willingness] < 1:
            assert mean(found.of(True)) < mean(found.of(False))
    few, some, many = shares.values()
    assert few == 0
    assert 0 < some <= many


# Samples


@dataclass
class Samples:
    """Asks for several answers at once; the first is the answer."""

    fresh: bool
    temperature: float
    heard: list[str] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        settings = {"temperature": self.temperature}
        ask = Ask(MODEL, role="draft", fresh=self.fresh, settings=settings)
        replies: Sequence[Reply] = yield (ask, ask, ask, ask)
        self.heard += [reply.text for reply in replies]
        return replies[0]


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_fresh_samples_differ(
    framework: str, small_and_teacher: CrossRouter, llama: LlamaServer
) -> None:
    prompt = "Tell me a short story of an animal."
    samples = Samples(fresh=True, temperature=1.5)
    set_llm_cache(InMemoryCache())
    try:
        if framework == "langchain":
            chat(small_and_teacher, samples, llama).invoke(prompt)
        else:
            llm(small_and_teacher, samples, llama).chat([ChatMessage(prompt)])
    finally:
        set_llm_cache(None)
    assert len(samples.heard) == 4
    assert len({*samples.heard}) > 1


def test_samples_without_temperature_agree(
    small_and_teacher: CrossRouter, llama: LlamaServer
) -> None:
    measure = Measure((Agreement(samples=3),))
    chat(small_and_teacher, measure, llama).invoke(SURE)
    assert measure.values == [{"agreement": 1.0}]


# Questions about drafts


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_signals_that_ask(
    framework: str, small_and_teacher: CrossRouter, llama: LlamaServer
) -> None:
    signals = (
        MinLogprob(),
        PTrue(),
        StatedConfidence(),
        Agreement(samples=3, temperature=1.0),
    )
    measure = Measure(signals)
    before = llama.tokens()
    decisions = []
    for question in QUESTIONS[:5]:
        if framework == "langchain":
            answer = chat(small_and_teacher, measure, llama).invoke(question.text)
            decisions.append(answer.response_metadata["crossroute"])
        else:
            said = llm(small_and_teacher, measure, llama).chat([ChatMessage(question.text)])
            decisions.append(said.additional_kwargs["crossroute"])
    counted = llama.tokens().since(before)
    told = [ask for decision in decisions for ask in asks(decision)]
    assert sum(ask["input_tokens"] for ask in told) == counted.input
    assert sum(ask["output_tokens"] for ask in told) == counted.output
    found: dict[str, list[float]] = {
        signal.name: [v for said in measure.values if (v := said[signal.name]) is not None]
        for signal in signals
    }
    assert all(-100 <= value <= 0 for value in found.pop("min_logprob"))
    assert all(0 <= value <= 1 for values in found.values() for value in values)
    # It was seen to reply with one of the two words, if not always, and samples can be compared.
    assert found["p_true"]
    assert found["agreement"]


# A word of refusal


def test_a_draft_is_left_at_the_word(
    small_and_teacher: CrossRouter, llama: LlamaServer, teacher: OpenAIServer
) -> None:
    cascade = Cascade(cheap=MODEL, word="UNSURE")
    question = QUESTIONS[0]
    before = llama.tokens()
    # What comes first is forced, and what comes then has no end of its own.
    forced = {"grammar": 'root ::= "UNSURE," [a-z ,]*', "ignore_eos": True}
    routed = chat(small_and_teacher, cascade, llama, teacher, max_tokens=1500, extra_body=forced)
    answer = routed.invoke(question.text)
    assert question.is_right(answer.text)
    decision = answer.response_metadata["crossroute"]
    assert [ask["model"] for ask in asks(decision)] == [MODEL, TEACHER]
    assert "says UNSURE" in decision["reason"]
    # The server has one place, so it has left the draft when it answers this.
    chat(small_and_teacher, Measure(), llama).invoke(SURE)
    assert llama.tokens().since(before).output < 1000


def test_drafts_with_a_word_of_refusal(
    small_and_teacher: CrossRouter, llama: LlamaServer, teacher: OpenAIServer
) -> None:
    cascade = Cascade(cheap=MODEL, word="UNSURE")
    for question in QUESTIONS[:5]:
        answer = chat(small_and_teacher, cascade, llama, teacher).invoke(question.text)
        decision = answer.response_metadata["crossroute"]
        if decision["model"] == TEACHER:
            assert question.is_right(answer.text)
        else:
            assert answer.text.strip()
            assert not answer.text.lstrip("\"'* ").startswith("UNSURE")
