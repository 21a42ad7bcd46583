"""CrossRouteRecorder, shadow and explore in LangChain, in every form of a call."""

# LangChain's own signatures say Any.

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from fakes_langchain import (
    ALL_WAYS,
    BOTH,
    CALLS,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    STREAMS,
    TEXT,
    Make,
    Person,
    ScriptedChatModel,
    agent_of,
    answer_of,
    asked,
    changed,
    chunks_of,
    decision_of,
    output_of,
    person,
    run_agent,
    scripted,
    tool_callers,
    weather,
)
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from openai_server import OpenAIServer, Reply

from crossroute import ConstraintError, CrossRouter, UnknownModelError
from crossroute.strategies import Ask, Flow, PickOne, Task
from crossroute.traffic.records import CallRecord, read_records, records_to_rows
from crossroute.training.data import Row
from langchain_crossroute import (
    ChatCrossRoute,
    CostLedger,
    CrossRouteMiddleware,
    CrossRouteRecorder,
    CrossRouteRunnable,
)

ROUTERS = [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware]


@pytest.fixture
def recorder(tmp_path: Path) -> CrossRouteRecorder:
    return CrossRouteRecorder(tmp_path / "records.jsonl", answers=True)


def recorded(recorder: CrossRouteRecorder) -> list[CallRecord]:
    assert recorder.lost == 0
    return list(read_records(recorder.path)) if recorder.path.exists() else []


def one_of(recorder: CrossRouteRecorder) -> CallRecord:
    (found,) = recorded(recorder)
    return found


# What is recorded


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("way", ALL_WAYS)
async def test_a_call_is_recorded_once(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=200, cached_tokens=400)
    answer = await answer_of(way, make(callbacks=[recorder]), QUESTION)
    found, decision = one_of(recorder), decision_of(answer)
    assert found.id == decision["call_id"]
    assert (found.query, found.answer, found.model) == (QUESTION, TEXT, MINI)
    assert (found.outcome, found.error) == ("answered", None)
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (1000, 200, 400)
    assert found.cost_usd == pytest.approx(decision["bill"]["cost_usd"])
    assert found.latency_s > 0
    assert {c.model: c.cost_usd for c in found.decision.candidates} == {
        c["model"]: c["cost_usd"] for c in decision["candidates"]
    }
    assert len(found.decision.candidates) == 2
    recorder.feedback(decision["call_id"], 0.5)
    (row,) = records_to_rows(recorded(recorder)).rows
    assert row["outputs"][MINI]["score"] == 0.5
    Row.model_validate(row)


@BOTH
@pytest.mark.parametrize("way", CALLS)
async def test_where_the_recorder_is_a_callback_of_the_call(
    way: str, kind: type[Any], make: Make, recorder: CrossRouteRecorder
) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | make(kind) | StrOutputParser()
    config = {"callbacks": [recorder]}
    assert await output_of(way, chain, {"question": QUESTION}, config) == TEXT
    assert one_of(recorder).query == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_watch_sees_what_every_face_decides(
    kind: type[Any], make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = CrossRouter.default().subset(MODELS)
    tuned = router.at_share([QUESTION, "Prove it.", "Write a poem."], {LARGE: 0})
    watch = tuned.watch()
    config: Any = {"callbacks": [CrossRouteRecorder(tmp_path / "records.jsonl", watch=watch)]}
    for _ in range(3):
        if kind is CrossRouteMiddleware:
            agent = agent_of(tool_callers(), [weather])
            agent.invoke({"messages": [HumanMessage(QUESTION)]}, config)
        else:
            make(kind).invoke(QUESTION, config=config)
    # An agent's turn with a tool is two calls.
    assert watch.calls == (6 if kind is CrossRouteMiddleware else 3)
    assert sum(watch.shares.values()) == pytest.approx(1)
    with caplog.at_level(logging.WARNING, "crossroute"):
        for _ in range(300):
            watch.seen(router.route(QUESTION, math.inf).preferring(LARGE))
    (record,) = caplog.records
    assert f"{LARGE} gets " in record.getMessage()


def test_without_a_recorder_no_id_is_on_the_answer(make: Make) -> None:
    assert "call_id" not in decision_of(make().invoke(QUESTION))


def test_the_id_is_that_of_the_run(make: Make, recorder: CrossRouteRecorder) -> None:
    run_id = uuid4()
    routed = make().with_structured_output(Person)
    # Where no message has room for it.
    with pytest.raises(Exception, match=r"."):
        routed.invoke(QUESTION, {"callbacks": [recorder], "run_id": run_id})
    assert one_of(recorder).id == str(run_id)


def test_calls_of_other_models_are_not_recorded(recorder: CrossRouteRecorder) -> None:
    ScriptedChatModel(model_name=MINI).invoke(QUESTION, {"callbacks": [recorder]})
    assert recorded(recorder) == []


@BOTH
@pytest.mark.parametrize("way", CALLS)
async def test_each_failed_attempt_is_seen(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply("slow down", status=429)
    await output_of(way, make(kind), QUESTION, {"callbacks": [recorder]})
    found = one_of(recorder)
    assert (found.decision.model, found.model, found.outcome) == (MINI, LARGE, "answered")
    assert [(ask.model, ask.cost_usd == 0) for ask in found.asks] == [(MINI, True), (LARGE, False)]
    assert found.asks[0].error
    assert found.answering == found.asks[1]


@BOTH
@pytest.mark.parametrize("way", CALLS)
async def test_a_call_that_fails_is_recorded(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers = {MINI: Reply("oops", status=500), LARGE: Reply("no", status=400)}
    with pytest.raises(Exception, match="no"):
        await output_of(way, make(kind), QUESTION, {"callbacks": [recorder]})
    found = one_of(recorder)
    assert (found.model, found.outcome) == (None, "failed")
    assert found.error is not None
    assert [ask.error is not None for ask in found.asks] == [True, True]


@pytest.mark.parametrize("way", STREAMS)
async def test_an_abandoned_stream_is_recorded(
    way: str, make: Make, recorder: CrossRouteRecorder
) -> None:
    config: Any = {"callbacks": [recorder]}
    if way == "stream":
        for chunk in make().stream(QUESTION, config):
            if chunk.text:
                break
        del chunk
    else:
        stream = make().astream(QUESTION, config)
        while not (await anext(stream)).text:
            pass
        await stream.aclose()
        # LangChain leaves it to the event loop to close what is within.
        while not recorder.path.exists():
            await asyncio.sleep(0.01)
    found = one_of(recorder)
    assert (found.outcome, found.model, found.error, found.estimated) == (
        *("left", MINI),
        *(None, True),
    )
    assert found.answer
    assert TEXT.startswith(found.answer)
    assert found.answer != TEXT


async def test_a_cancelled_call_is_recorded(
    make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[MINI] = Reply(TEXT, silent=True)
    task = asyncio.create_task(make().ainvoke(QUESTION, {"callbacks": [recorder]}))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (one_of(recorder).outcome, one_of(recorder).model) == ("left", None)


@pytest.mark.parametrize("way", INVOKES)
async def test_many_at_once(way: str, make: Make, recorder: CrossRouteRecorder) -> None:
    questions = [f"What is {number} + 1?" for number in range(12)]
    routed, config = make(), {"callbacks": [recorder]}
    if way == "invoke":
        answers = routed.batch(questions, config)
    else:
        answers = await routed.abatch(questions, config)
    found = {one.id: one.query for one in recorded(recorder)}
    assert found == {
        decision_of(answer)["call_id"]: question
        for question, answer in zip(questions, answers, strict=True)
    }


class Drafts:
    """The last candidate drafts, the first one answers."""

    def answer(self, task: Task) -> Flow:
        first, *_, last = task.decision.candidates
        yield Ask(last.model, role="draft")
        return (yield Ask(first.model))


@pytest.mark.parametrize("way", CALLS)
async def test_drafts_are_recorded_with_what_they_cost(
    way: str, make: Make, recorder: CrossRouteRecorder
) -> None:
    routed = make(strategy=Drafts())
    answer = await output_of(way, routed, QUESTION, {"callbacks": [recorder]})
    found = one_of(recorder)
    assert [(ask.model, ask.role) for ask in found.asks] == [(LARGE, "draft"), (MINI, "answer")]
    assert found.model == MINI
    assert found.cost_usd == pytest.approx(decision_of(answer)["bill"]["cost_usd"])
    assert found.answering is None


# ChatOpenAI's own warning when it streams a parsed object; the bare client gives it too.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@BOTH
@pytest.mark.parametrize("way", CALLS)
async def test_the_usage_of_a_structured_answer_is_known(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        found = person(body)
        return Reply(found.text, tool_calls=found.tool_calls, input_tokens=1000, output_tokens=20)

    server.answers[MINI] = answer
    if kind is ChatCrossRoute:
        routed = make().with_structured_output(Person)
    else:
        plain = make()
        routed = CrossRouteRunnable(
            models={
                name: model.with_structured_output(Person) for name, model in plain.models.items()
            },
            willingness_to_pay=0,
        )
    found = await chunks_of(way, routed, QUESTION, {"callbacks": [recorder]})
    assert found[-1] == Person(name="Ada", age=36)
    record = one_of(recorder)
    assert (record.input_tokens, record.output_tokens, record.estimated) == (1000, 20, False)
    assert record.cost_usd
    assert record.cost_usd > 0


def test_an_answer_from_the_llm_cache_costs_nothing(recorder: CrossRouteRecorder) -> None:
    routed = ChatCrossRoute(models=scripted(cache=InMemoryCache()), callbacks=[recorder])
    for _ in range(2):
        routed.invoke(QUESTION)
    first, second = recorded(recorder)
    assert first.cost_usd
    assert second.cost_usd == 0


@pytest.mark.parametrize("way", INVOKES)
async def test_each_call_of_an_agent_is_recorded(way: str, recorder: CrossRouteRecorder) -> None:
    agent = agent_of(tool_callers(), [weather])
    state = await run_agent(way, agent, config={"callbacks": [recorder]})
    found = recorded(recorder)
    assert [one.model for one in found] == [found[0].model] * 2
    assert [one.id for one in found] == [
        decision_of(message)["call_id"] for message in state["messages"] if message.type == "ai"
    ]
    assert state["crossroute"]["call_id"] == found[1].id
    query: Any = found[1].query
    assert [message["role"] for message in query] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("way", CALLS)
async def test_what_cannot_be_written_breaks_no_call(
    way: str, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = CrossRouteRecorder(tmp_path / "records.jsonl")
    recorder.path.mkdir()
    with caplog.at_level(logging.WARNING, "crossroute"):
        for _ in range(2):
            answer = await output_of(way, make(), QUESTION, {"callbacks": [recorder]})
            assert answer.text == TEXT
    assert recorder.lost == 2
    assert len([told for told in caplog.messages if "record" in told]) == 1


# In shadow


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("way", ALL_WAYS)
async def test_in_shadow_one_model_answers_every_call(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    routed = make(shadow=LARGE, callbacks=[recorder])
    answer = await answer_of(way, routed, QUESTION)
    assert asked(server) == [LARGE]
    decision = decision_of(answer)
    assert (decision["model"], decision["shadow"]["model"]) == (LARGE, MINI)
    assert "probability" not in decision
    found = one_of(recorder)
    assert found.model == found.decision.model == LARGE
    assert found.decision.shadow is not None
    assert found.decision.shadow.model == MINI
    assert found.predicted is not None
    assert found.predicted.cost_usd == decision["cost_usd"] > found.decision.shadow.cost_usd


@pytest.mark.parametrize("kind", ROUTERS)
async def test_every_kind_of_router_has_a_shadow(
    kind: type[Any], recorder: CrossRouteRecorder, router: CrossRouter
) -> None:
    models, config = tool_callers(), {"callbacks": [recorder]}
    own = router.subset(MODELS).route(QUESTION, 0).model
    assert own != LARGE
    settings: Any = {"willingness_to_pay": 0, "shadow": LARGE}
    if kind is CrossRouteMiddleware:
        await run_agent("ainvoke", agent_of(models, [weather], **settings), config=config)
    else:
        await kind(models=models, **settings).ainvoke(QUESTION, config)
    assert {id_ for id_, model in models.items() if model.asked} == {LARGE}
    for found in recorded(recorder):
        assert found.decision.shadow is not None
        # In the tool loop, too, it is what the router would have gone on with.
        assert found.decision.shadow.model == own


def test_the_ledger_counts_who_answered(make: Make, recorder: CrossRouteRecorder) -> None:
    routed = make(shadow=LARGE)
    ledger = CostLedger(routed, baseline=LARGE)
    answer = routed.invoke(QUESTION, {"callbacks": [ledger, recorder]})
    assert list(ledger.spend) == [LARGE]
    assert ledger.spend[LARGE].predicted_usd == decision_of(answer)["cost_usd"]
    assert ledger.total_usd == pytest.approx(one_of(recorder).cost_usd)
    assert ledger.saving_usd == pytest.approx(0)


@pytest.mark.parametrize("way", CALLS)
async def test_where_the_shadow_model_fails_the_routers_order_follows(
    way: str, make: Make, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers[LARGE] = Reply("oops", status=500)
    routed = make(shadow=LARGE)
    answer = await output_of(way, routed, QUESTION, {"callbacks": [recorder]})
    assert asked(server) == [LARGE, MINI]
    assert decision_of(answer)["model"] == MINI
    found = one_of(recorder)
    assert (found.decision.model, found.model) == (LARGE, MINI)


def test_a_forced_model_answers_also_in_shadow(make: Make, server: OpenAIServer) -> None:
    config = {"configurable": {"crossroute_model": MINI}}
    answer = make(shadow=LARGE).invoke(QUESTION, config)
    assert asked(server) == [MINI]
    assert "shadow" not in decision_of(answer)


def test_a_conversation_in_shadow_is_routed_as_if_the_router_had_answered(make: Make) -> None:
    routed = make(shadow=LARGE, stay_margin=math.inf)
    first = routed.invoke(QUESTION)
    turn = [HumanMessage(QUESTION), first, HumanMessage("And why is that so?")]
    again = routed.invoke(turn, {"configurable": {"willingness_to_pay": math.inf}})
    assert (decision_of(again)["model"], decision_of(again)["shadow"]["model"]) == (LARGE, MINI)


# To explore


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("shadow", [None, LARGE])
async def test_explored_calls_say_their_probability(
    shadow: str | None, kind: type[Any], recorder: CrossRouteRecorder, router: CrossRouter
) -> None:
    models, config = scripted(), {"callbacks": [recorder]}
    own = router.subset(MODELS).route(QUESTION, 0).model
    settings: Any = {"willingness_to_pay": 0, "explore": 0.6, "random": Random(4)}
    settings["shadow"] = shadow
    routed = (
        agent_of(models, **settings)
        if kind is CrossRouteMiddleware
        else kind(models=models, **settings)
    )
    for _ in range(25):
        if kind is CrossRouteMiddleware:
            await run_agent("ainvoke", routed, config=config)
        else:
            await routed.ainvoke(QUESTION, config)
    found = recorded(recorder)
    usual = shadow or own
    for one in found:
        assert one.model == one.decision.model
        assert one.decision.shadow is not None
        assert one.decision.shadow.model == own
        assert one.probability == pytest.approx(0.6 if one.model == usual else 0.2)
    counts = Counter(one.model for one in found)
    assert set(counts) == set(MODELS)
    assert {id_: len(model.asked) for id_, model in models.items()} == counts


def test_an_explored_model_that_fails_over_has_no_known_probability(
    recorder: CrossRouteRecorder,
) -> None:
    models = changed({MINI: {"error": TimeoutError("slow")}})
    routed = ChatCrossRoute(models=models, explore=1, random=Random(1), callbacks=[recorder])
    answers = [routed.invoke(QUESTION) for _ in range(25)]
    found = recorded(recorder)
    failed = [one for one in found if one.decision.model == MINI]
    assert 0 < len(failed) < 25
    for answer, one in zip(answers, found, strict=True):
        assert (one.probability is None) == (one in failed)
        assert ("probability" in decision_of(answer)) == (one not in failed)


def test_what_is_forced_is_not_explored(make: Make, recorder: CrossRouteRecorder) -> None:
    routed = make(explore=1)
    config: Any = {"callbacks": [recorder], "configurable": {"crossroute_model": LARGE}}
    for _ in range(10):
        routed.invoke(QUESTION, config)
    assert {(one.model, one.probability) for one in recorded(recorder)} == {(LARGE, None)}


@pytest.mark.parametrize("shadow", [None, SMALL])
async def test_a_tool_loop_stays_with_the_model_that_was_drawn(
    shadow: str | None, recorder: CrossRouteRecorder
) -> None:
    agent = agent_of(tool_callers(), [weather], explore=1, random=Random(5), shadow=shadow)
    for _ in range(8):
        await run_agent("invoke", agent, config={"callbacks": [recorder]})
    found = recorded(recorder)
    begun, continued = found[::2], found[1::2]
    assert len({one.model for one in begun}) > 1
    assert [one.model for one in begun] == [one.model for one in continued]
    assert {one.probability is None for one in begun} == {False}
    assert {one.probability for one in continued} == {None}


# What makes no sense


@pytest.mark.parametrize("kind", ROUTERS)
def test_settings_that_make_no_sense(kind: type[Any]) -> None:
    for given, error in (
        ({"shadow": "gpt-9"}, UnknownModelError),
        ({"explore": 2}, ConstraintError),
        ({"explore": 0.1, "strategy": PickOne()}, ConstraintError),
        ({"shadow": LARGE, "strategy": PickOne()}, ConstraintError),
        ({"explore": 0.1, "random": 3}, ConstraintError),
    ):
        with pytest.raises(error):
            kind(models=scripted(), **given)
