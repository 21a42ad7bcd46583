"""Whole traces of strategies, recorded in LlamaIndex with real clients over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes_forms import CASES, MODELS, QUESTION
from fakes_llamaindex import TOOL_CHATS, answer_of, scripted
from llama_index.core.instrumentation import get_dispatcher
from openai_server import OpenAIServer

from crossroute.traces.export import Selection, export
from crossroute.traces.rank import rank
from crossroute.traffic.records import CallRecord, read_records
from llamaindex_crossroute import CrossRouteLLM, CrossRouteRecorder

NAMES = [
    "a draft is escalated",
    "a vote in turn",
    "a mixture with an aggregator",
    "a probe",
    "a controller that asks an expert",
    "a handoff",
]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[CrossRouteRecorder]:
    recorder = CrossRouteRecorder(tmp_path / "records.jsonl", traces=True)
    root = get_dispatcher()
    before = list(root.event_handlers)
    root.add_event_handler(recorder)
    yield recorder
    root.event_handlers[:] = before


def recorded(recorder: CrossRouteRecorder) -> list[CallRecord]:
    assert recorder.lost == 0
    return list(read_records(recorder.path))


@pytest.mark.parametrize("name", NAMES)
def test_what_each_ask_got_and_said_is_kept(
    name: str, client: Callable[..., Any], server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    case = CASES[name]
    server.answers = dict(case.answers)
    llm = CrossRouteLLM(
        models={model: client(model) for model in MODELS},
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
    )
    answer = [*llm.stream_complete(QUESTION)][-1].text
    (found,) = recorded(recorder)
    assert (found.trace, found.query, found.answer) == ("kept", QUESTION, answer)
    assert answer == case.text
    assert sorted((one.model, one.role) for one in found.asks) == sorted(case.asks)
    sent = [request.body["messages"] for request in server.requests]
    for one in found.asks:
        kept = [QUESTION] if one.keep is None else [QUESTION for _ in one.keep]
        texts = [*kept, *(message.get("content") for message in one.then or ())]
        assert texts in [[message.get("content") for message in messages] for messages in sent]
        assert one.said is not None
    shown = [one for one in found.asks if one.handed_on]
    assert shown[-1].model == found.model
    if "controller" in name:
        calls: Any = found.asks[0].said
        assert json.loads(calls[0]["tool_calls"][0]["function"]["arguments"])
    # And it is learned from: the whole call, and each ask that said something of its own.
    recorder.feedback(found.id, 1.0)
    roles = frozenset(one.role for one in found.asks) | {"answer"}
    ranking = rank(recorded(recorder))
    rows = export(ranking, Selection("sft", roles=roles, most_a_prompt=9, near_duplicates=1)).rows
    question = {"role": "user", "content": QUESTION}
    whole = {"prompt": [question], "completion": [{"role": "assistant", "content": answer}]}
    assert whole in [{name: row[name] for name in whole} for row in rows]
    assert len(rows) >= len({role for _, role in case.asks})


@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_tools_of_the_caller_and_calls_of_them_are_kept(
    way: str, recorder: CrossRouteRecorder
) -> None:
    await answer_of(way, CrossRouteLLM(models=scripted()))
    (record,) = recorded(recorder)
    assert record.tools is not None
    name = "multiply"
    assert record.tools[0]["function"]["name"] == name
    (ask,) = record.asks
    (said,) = ask.said or ()
    assert [call["function"]["name"] for call in said["tool_calls"]] == [name]
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"a": 6, "b": 7}
