"""Prompts are read out of what LangChain itself writes."""

# ruff: noqa: ANN401  # What it writes is anything.

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import SMALL, scripted
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
    message_to_dict,
)
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from crossroute.evaluation.comparison import load_prompts
from crossroute.traffic.imports import import_traffic

MESSAGES = [
    SystemMessage("You are a clerk."),
    HumanMessage("What is 17 * 23?"),
    AIMessage("", tool_calls=[{"name": "times", "args": {"a": 17, "b": 23}, "id": "c1"}]),
    ToolMessage("391", tool_call_id="c1"),
]


def read(tmp_path: Path, record: object) -> Any:
    log, out = tmp_path / "log.jsonl", tmp_path / "prompts.jsonl"
    log.write_text(json.dumps(record, default=str) + "\n", "utf-8")
    import_traffic([log], out)
    ((prompt, _),) = load_prompts(out)
    return prompt


def plain(prompt: Any) -> Any:
    """Without what says nothing: an answer that is nothing but a tool call."""
    return [
        {name: value for name, value in one.items() if value not in ("", None)} for one in prompt
    ]


@pytest.mark.parametrize(
    "dump",
    [dumpd, message_to_dict, lambda message: message.model_dump()],
    ids=["lc", "data", "type"],
)
def test_messages_are_those_that_langchain_converts(
    tmp_path: Path, dump: Callable[[Any], Any]
) -> None:
    record = {"run_type": "llm", "inputs": {"messages": [[dump(one) for one in MESSAGES]]}}
    found = plain(read(tmp_path, record))
    expected: Any = plain(convert_to_openai_messages(MESSAGES))
    for one in (*found, *expected):
        for call in one.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert found == expected


def test_a_run_as_a_tracer_has_it(tmp_path: Path) -> None:
    runs: list[Run] = []

    class Keeping(BaseTracer):
        def _persist_run(self, run: Run) -> None:
            runs.append(run)

    scripted()[SMALL].invoke(MESSAGES[:2], {"callbacks": [Keeping(_schema_format="original+chat")]})
    (run,) = runs
    assert run.run_type in ("llm", "chat_model")
    record = {"id": run.id, "run_type": run.run_type, "inputs": run.inputs, "extra": run.extra}
    found = read(tmp_path, record)
    assert found == convert_to_openai_messages(MESSAGES[:2])
