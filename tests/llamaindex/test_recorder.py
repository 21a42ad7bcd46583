"""CrossRouteRecorder, shadow and explore in LlamaIndex, in every form of a call."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fakes_llamaindex import (
    ASK_STREAMS,
    ASKS,
    LARGE,
    MAKES_AN_AGENT,
    MINI,
    MODELS,
    OBJECTS,
    QUESTION,
    SMALL,
    TEXT,
    TEXTS,
    TOOL,
    WAYS,
    Make,
    NativeLLM,
    Retriever,
    answer_of,
    ask,
    asked,
    core_decision,
    outputs,
    scripted,
    user,
    with_the_tool,
)
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from openai_server import OpenAIServer, Reply

from crossroute import ConstraintError, CrossRouter, DataError, UnknownModelError
from crossroute.strategies import Ask, Flow, PickOne, Task
from crossroute.traffic.records import CallRecord, read_records, records_to_rows
from crossroute.training.data import Row
from llamaindex_crossroute import CostLedger, CrossRouteLLM, CrossRouteRecorder, call_settings
from llamaindex_crossroute.events import dispatcher


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[CrossRouteRecorder]:
    recorder = CrossRouteRecorder(tmp_path / "records.jsonl", answers=True)
    root = get_dispatcher()
    before = list(root.event_handlers)
    root.add_event_handler(recorder)
    yield recorder
    root.event_handlers[:] = before


def recorded(recorder: CrossRouteRecorder) -> list[CallRecord]:
    assert recorder.lost == 0
    return list(read_records(recorder.path)) if recorder.path.exists() else []


def one_of(recorder: CrossRouteRecorder) -> CallRecord:
    (found,) = recorded(recorder)
    return found


# What is recorded


@pytest.mark.parametrize("way", ASKS)
async def test_a_call_is_recorded_once(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    _, decision = await ask(way, make())
    found = one_of(recorder)
    assert found.id == decision["call_id"]
    assert (found.query, found.answer, found.model) == (QUESTION, TEXT, MINI)
    assert (found.outcome, found.error) == ("answered", None)
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (1000, 200, 400)
    assert found.cost_usd == pytest.approx(decision["bill"]["cost_usd"])
    assert found.latency_s > 0
    assert {c.model: c.cost_usd for c in found.decision.candidates} == {
        c["model"]: c["cost_usd"] for c in decision["candidates"]
    }
    recorder.feedback(decision["call_id"], 0.5)
    (row,) = records_to_rows(recorded(recorder)).rows
    assert row["outputs"][MINI]["score"] == 0.5
    Row.model_validate(row)


def test_a_watch_sees_what_is_decided(tmp_path: Path) -> None:
    router = CrossRouter.default().subset(MODELS)
    watch = router.at_share([QUESTION, "Prove it.", "Write a poem."], {LARGE: 0}).watch()
    recorder = CrossRouteRecorder(tmp_path / "records.jsonl", watch=watch)
    root = get_dispatcher()
    root.add_event_handler(recorder)
    try:
        for _ in range(3):
            CrossRouteLLM(models=scripted(), willingness_to_pay=0).complete(QUESTION)
    finally:
        root.event_handlers.remove(recorder)
    assert watch.calls == 3
    assert sum(watch.shares.values()) == pytest.approx(1)
    assert watch.alarm is None


@pytest.mark.parametrize("way", WAYS)
async def test_tools_too(way: str, recorder: CrossRouteRecorder) -> None:
    answer = await answer_of(way, CrossRouteLLM(models=scripted()))
    assert one_of(recorder).id == answer.additional_kwargs["crossroute"]["call_id"]
    assert one_of(recorder).model == answer.additional_kwargs["crossroute"]["model"]


@pytest.mark.parametrize("way", [*TEXTS, *OBJECTS])
async def test_prompts_too(way: str, recorder: CrossRouteRecorder) -> None:
    models = {model: NativeLLM(name=model) for model in MODELS}
    await outputs(way, CrossRouteLLM(models=models, willingness_to_pay=0))
    found = one_of(recorder)
    assert found.model == SMALL
    assert "first program" in str(found.query)


async def test_without_a_recorder_no_id_is_on_the_answer(make: Make) -> None:
    _, decision = await ask("chat", make())
    assert "call_id" not in decision


def test_a_recorder_of_two_dispatchers_records_once(recorder: CrossRouteRecorder) -> None:
    before = list(dispatcher.event_handlers)
    dispatcher.add_event_handler(recorder)
    try:
        CrossRouteLLM(models=scripted()).complete(QUESTION)
    finally:
        dispatcher.event_handlers[:] = before
    assert one_of(recorder).outcome == "answered"


def test_what_it_shows_of_itself(recorder: CrossRouteRecorder, tmp_path: Path) -> None:
    assert str(recorder.path) in repr(recorder)
    assert "lost=0" in repr(recorder)
    assert recorder.class_name() == "CrossRouteRecorder"
    with pytest.raises(DataError, match="keep, hash, omit"):
        CrossRouteRecorder(tmp_path / "a.jsonl", text="all")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="score"):
        recorder.feedback("one", 2)


@pytest.mark.parametrize("way", ASKS)
async def test_each_failed_attempt_is_seen(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply("slow down", status=429)
    await ask(way, make())
    found = one_of(recorder)
    assert (found.decision.model, found.model, found.outcome) == (MINI, LARGE, "answered")
    assert [(ask.model, ask.cost_usd == 0) for ask in found.asks] == [(MINI, True), (LARGE, False)]
    assert [ask.error for ask in found.asks] == ["RateLimitError", None]


@pytest.mark.parametrize("way", ASKS)
async def test_a_call_that_fails_is_recorded(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers = {MINI: Reply("oops", status=500), LARGE: Reply("no", status=400)}
    with pytest.raises(Exception, match="no"):
        await ask(way, make())
    found = one_of(recorder)
    assert (found.model, found.outcome, found.error) == (None, "failed", "BadRequestError")
    assert [ask.error for ask in found.asks] == ["InternalServerError", "BadRequestError"]


@pytest.mark.parametrize("way", ASK_STREAMS)
async def test_an_abandoned_stream_is_recorded(
    way: str, make: Make, recorder: CrossRouteRecorder
) -> None:
    argument: Any = [ChatMessage(QUESTION)] if "chat" in way else QUESTION
    stream = getattr(make(), way)(argument)
    if way.startswith("a"):
        stream = await stream
        while not (await anext(stream)).delta:
            pass
        await stream.aclose()
    else:
        while not next(stream).delta:
            pass
        stream.close()
    found = one_of(recorder)
    assert (found.outcome, found.model, found.error, found.estimated) == (
        *("left", MINI),
        *(None, True),
    )
    assert found.answer
    assert found.answer != TEXT


async def test_a_cancelled_call_is_recorded(
    make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply(TEXT, silent=True)
    task = asyncio.create_task(make().acomplete(QUESTION))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (one_of(recorder).outcome, one_of(recorder).model) == ("left", None)


async def test_many_at_once(make: Make, recorder: CrossRouteRecorder) -> None:
    questions = [f"What is {number} + 1?" for number in range(12)]
    llm = make()
    answers = await asyncio.gather(*map(llm.acomplete, questions))
    found = {one.id: one.query for one in recorded(recorder)}
    assert found == {
        answer.additional_kwargs["crossroute"]["call_id"]: question
        for question, answer in zip(questions, answers, strict=True)
    }


class Drafts:
    """The last candidate drafts, the first one answers."""

    def answer(self, task: Task) -> Flow:
        first, *_, last = task.decision.candidates
        yield Ask(last.model, role="draft")
        return (yield Ask(first.model))


@pytest.mark.parametrize("way", ASKS)
async def test_drafts_are_recorded_with_what_they_cost(
    way: str, make: Make, recorder: CrossRouteRecorder
) -> None:
    _, decision = await ask(way, make(strategy=Drafts()))
    found = one_of(recorder)
    assert [(ask.model, ask.role) for ask in found.asks] == [(LARGE, "draft"), (MINI, "answer")]
    assert (found.model, found.answer) == (MINI, TEXT)
    assert found.cost_usd == pytest.approx(decision["bill"]["cost_usd"])


@pytest.mark.parametrize("streaming", [True, False])
def test_within_a_query_engine(streaming: bool, make: Make, recorder: CrossRouteRecorder) -> None:
    engine = RetrieverQueryEngine.from_args(Retriever(), llm=make(), streaming=streaming)
    response: Any = engine.query(QUESTION)
    assert "Paris" in ("".join(response.response_gen) if streaming else str(response))
    assert one_of(recorder).model == MINI


@pytest.mark.parametrize("way", ASKS)
async def test_what_cannot_be_written_breaks_no_call(
    way: str, make: Make, recorder: CrossRouteRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.path.mkdir()
    with caplog.at_level(logging.WARNING, "crossroute"):
        for _ in range(2):
            text, _ = await ask(way, make())
            assert text == TEXT
    assert recorder.lost == 2
    assert len([told for told in caplog.messages if "record" in told]) == 1


# In shadow


@pytest.mark.parametrize("way", ASKS)
async def test_in_shadow_one_model_answers_every_call(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    llm = make(shadow=LARGE)
    ledger = CostLedger(llm, baseline=LARGE)
    with ledger:
        _, decision = await ask(way, llm)
    assert asked(server) == [LARGE]
    assert (decision["model"], decision["shadow"]["model"]) == (LARGE, MINI)
    assert "probability" not in decision
    found = one_of(recorder)
    assert found.model == found.decision.model == LARGE
    assert found.decision.shadow is not None
    assert found.decision.shadow.model == MINI
    assert list(ledger.spend) == [LARGE]
    assert ledger.spend[LARGE].predicted_usd == decision["cost_usd"]
    assert ledger.total_usd == pytest.approx(found.cost_usd)
    assert ledger.saving_usd == pytest.approx(0)


@pytest.mark.parametrize("way", ASKS)
async def test_where_the_shadow_model_fails_the_routers_order_follows(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[LARGE] = Reply("oops", status=500)
    _, decision = await ask(way, make(shadow=LARGE))
    assert asked(server) == [LARGE, MINI]
    assert decision["model"] == MINI
    assert (one_of(recorder).decision.model, one_of(recorder).model) == (LARGE, MINI)


def test_a_conversation_in_shadow_is_routed_as_if_the_router_had_answered() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, shadow=LARGE, stay_margin=math.inf)
    first = ChatMessage.model_validate_json(llm.chat(user(QUESTION)).message.model_dump_json())
    with call_settings(willingness_to_pay=math.inf):
        again = llm.chat([*user(QUESTION), first, *user("And why is that so?")])
    decision = again.additional_kwargs["crossroute"]
    assert (decision["model"], decision["shadow"]["model"]) == (LARGE, SMALL)
    # No provider gets the marks.
    for message in (one for sent in models[LARGE]._asked for one in sent):
        assert not any(name.startswith("crossroute") for name in message.additional_kwargs)


# To explore


@pytest.mark.parametrize("shadow", [None, LARGE])
@pytest.mark.parametrize("way", ["chat", "acomplete"])
async def test_explored_calls_say_their_probability(
    way: str, shadow: str | None, recorder: CrossRouteRecorder
) -> None:
    models = scripted()
    own = core_decision(willingness=0).model
    llm = CrossRouteLLM(
        models=models, willingness_to_pay=0, shadow=shadow, explore=0.6, random=Random(4)
    )
    for _ in range(25):
        await answer_of(way, llm)
    usual = shadow or own
    for one in recorded(recorder):
        assert one.model == one.decision.model
        assert one.decision.shadow is not None
        assert one.decision.shadow.model == own
        assert one.probability == pytest.approx(0.6 if one.model == usual else 0.2)
    counts = Counter(one.model for one in recorded(recorder))
    assert set(counts) == set(MODELS)
    assert {id_: len(model._asked) for id_, model in models.items()} == counts


def test_what_is_forced_is_not_explored(recorder: CrossRouteRecorder) -> None:
    llm = CrossRouteLLM(models=scripted(), explore=1)
    with call_settings(model=LARGE):
        for _ in range(10):
            llm.complete(QUESTION)
    assert {(one.model, one.probability) for one in recorded(recorder)} == {(LARGE, None)}


@MAKES_AN_AGENT
@pytest.mark.parametrize("shadow", [None, LARGE])
async def test_a_tool_loop_stays_with_the_model_that_was_drawn(
    shadow: str | None, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers = {MINI: with_the_tool, LARGE: with_the_tool}
    agent = FunctionAgent(
        tools=[TOOL], llm=make(explore=1, random=Random(5), shadow=shadow), streaming=False
    )
    for _ in range(8):
        await agent.run("What is the weather like in Paris?")
    found = recorded(recorder)
    begun, continued = found[::2], found[1::2]
    assert {one.model for one in begun} == {MINI, LARGE}
    assert [one.model for one in begun] == [one.model for one in continued]
    assert {one.probability for one in begun} == {0.5}
    assert {one.probability for one in continued} == {None}


# What makes no sense


def test_settings_that_make_no_sense() -> None:
    for given, error in (
        ({"shadow": "gpt-9"}, UnknownModelError),
        ({"explore": 2}, ConstraintError),
        ({"explore": 0.1, "strategy": PickOne()}, ConstraintError),
        ({"shadow": LARGE, "strategy": PickOne()}, ConstraintError),
        ({"explore": 0.1, "random": 3}, ConstraintError),
    ):
        with pytest.raises(error):
            CrossRouteLLM(models=scripted(), **given)
