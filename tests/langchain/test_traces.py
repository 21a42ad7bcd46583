"""Whole traces of strategies, recorded in LangChain with real clients over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes_forms import CASES, MODELS, QUESTION
from fakes_langchain import client, weather, with_the_tool
from langchain_core.messages import HumanMessage
from openai_server import OpenAIServer

from crossroute.traces.export import Selection, export
from crossroute.traces.rank import rank
from crossroute.traffic.records import CallRecord, read_records
from langchain_crossroute import ChatCrossRoute, CrossRouteRecorder

NAMES = [
    "a draft is escalated",
    "a vote in turn",
    "a mixture with an aggregator",
    "a probe",
    "a controller that asks an expert",
    "a handoff",
]


@pytest.fixture
def recorder(tmp_path: Path) -> CrossRouteRecorder:
    return CrossRouteRecorder(tmp_path / "records.jsonl", traces=True)


def recorded(recorder: CrossRouteRecorder) -> list[CallRecord]:
    assert recorder.lost == 0
    return list(read_records(recorder.path))


@pytest.mark.parametrize("name", NAMES)
def test_what_each_ask_got_and_said_is_kept(
    name: str, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    case = CASES[name]
    server.answers = dict(case.answers)
    chat = ChatCrossRoute(
        models={model: client(server, model) for model in MODELS},
        strategy=case.strategy,
        willingness_to_pay=case.willingness_to_pay,
        callbacks=[recorder],
    )
    answer = "".join(chunk.text for chunk in chat.stream(QUESTION))
    (found,) = recorded(recorder)
    assert (found.trace, found.query, found.answer) == ("kept", QUESTION, answer)
    assert answer == case.text
    assert sorted((one.model, one.role) for one in found.asks) == sorted(case.asks)
    # What the server was sent is what the record says: the caller's messages, and others behind.
    sent = [request.body["messages"] for request in server.requests]
    for one in found.asks:
        kept = [QUESTION] if one.keep is None else [QUESTION for _ in one.keep]
        texts = [*kept, *(message.get("content") for message in one.then or ())]
        assert texts in [[message.get("content") for message in messages] for messages in sent]
        assert one.said is not None
    shown = [one for one in found.asks if one.handed_on]
    assert shown[-1].model == found.model
    assert answer.endswith(shown[-1].said[-1]["content"][-10:])  # type: ignore[index]
    if "controller" in name:
        calls: Any = found.asks[0].said
        assert json.loads(calls[0]["tool_calls"][0]["function"]["arguments"])
        assert found.asks[0].tools
    if "escalated" in name:
        assert found.asks[1].reason
    # And it is learned from: the whole call, and each ask that said something of its own.
    recorder.feedback(found.id, 1.0)
    roles = frozenset(one.role for one in found.asks) | {"answer"}
    ranking = rank(recorded(recorder))
    rows = export(ranking, Selection("sft", roles=roles, most_a_prompt=9, near_duplicates=1)).rows
    question = {"role": "user", "content": QUESTION}
    whole = {"prompt": [question], "completion": [{"role": "assistant", "content": answer}]}
    assert whole in [{name: row[name] for name in whole} for row in rows]
    assert len(rows) >= len({role for _, role in case.asks})


@pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning", "ignore:The v3 streaming protocol"
)
@pytest.mark.parametrize("way", ["invoke", "stream", "stream_events"])
def test_tools_of_the_caller_and_calls_of_them_are_kept(
    way: str, server: OpenAIServer, recorder: CrossRouteRecorder
) -> None:
    server.answers = dict.fromkeys(MODELS, with_the_tool)
    chat = ChatCrossRoute(
        models={model: client(server, model) for model in MODELS}, callbacks=[recorder]
    ).bind_tools([weather])
    more = {"version": "v3"} if way == "stream_events" else {}
    found: Any = getattr(chat, way)([HumanMessage("How is it in Paris?")], **more)
    if way != "invoke":
        list(found)
    (record,) = recorded(recorder)
    assert record.tools is not None
    assert record.tools[0]["function"]["name"] == "weather"
    (ask,) = record.asks
    (said,) = ask.said or ()
    (call,) = said["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
