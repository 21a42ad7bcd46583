"""Logs that hold anything: what is read of them is a prompt, and nothing else is raised."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crossroute.errors import DataError
from crossroute.evaluation.comparison import load_prompts
from crossroute.secret_text import looks_like_secret, mask_secrets
from crossroute.traffic.imports import import_traffic

NAMES = [
    *("run_type", "inputs", "messages", "prompts", "prompt", "input", "child_runs", "runs", "data"),
    *("extra", "metadata", "invocation_params", "outputs", "feedback_stats", "trace_id", "id"),
    *("lc", "kwargs", "type", "role", "content", "parts", "text", "tool_calls", "args", "function"),
    *(
        "name",
        "additional_kwargs",
        "model",
        "body",
        "request",
        "url",
        "response",
        "usage",
        "object",
    ),
    *("instructions", "system", "output", "image_url", "attributes", "context", "events", "spanId"),
    *("resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords", "key"),
    *("value", "stringValue", "arrayValue", "kvlistValue", "values", "gen_ai.input.messages"),
    *("gen_ai.prompt.0.role", "gen_ai.prompt.0.content", "gen_ai.prompt.1.tool_calls.0.name"),
    *("gen_ai.prompt.0", "gen_ai.prompt.0.tool_calls", "gen_ai.operation.name", "score", "tools"),
    *("response_format", "gen_ai.system_instructions", "total_cost", "prompt_tokens", "topic"),
]
WORDS = [
    *("llm", "chain", "human", "ai", "user", "system", "tool", "assistant", "text", "constructor"),
    *("HumanMessage", "AIMessage", "input_text", "input_image", "function_call", "message", "data"),
    *("function_call_output", "tool_call", "tool_call_response", "blob", "list", "chat.completion"),
    *("gen_ai.user.message", "gen_ai.content.prompt", "gen_ai.evaluation.result", "chat", "1e999"),
    *('[{"role": "user", "content": "Why?"}]', "{", "[[", "Why?", "", " ", "\ud800", "NaN", "12"),
]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text()
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=30,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=6), max_size=4)


@given(records=RECORDS, name=st.sampled_from(["log.jsonl", "log.json", "log.txt"]))
def test_any_record_is_read_or_told(records: list[object], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, out = Path(folder) / name, Path(folder) / "out.jsonl"
        log.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        try:
            found = import_traffic([log], out)
        except DataError as error:
            assert "No prompt could be read" in str(error)  # noqa: PT017
        else:
            assert len(load_prompts(out)) == found.written == found.distinct


@given(content=st.binary(max_size=300), name=st.sampled_from(["a.jsonl", "a.json", "a", "a.gz"]))
def test_any_bytes_are_read_or_told(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, out = Path(folder) / name, Path(folder) / "out.jsonl"
        log.write_bytes(content)
        try:
            found = import_traffic([log], out)
        except DataError as error:
            assert "No prompt could be read" in str(error)  # noqa: PT017
        else:
            assert len(load_prompts(out)) == found.written


SECRETS = [
    *("sk-", "abcdef1234567890", "Bearer ", "password=", "secret: ", "'", '"', " ", "\n", "\u200b"),
    *(
        "token=",
        "https://",
        "me:",
        "@host",
        "ghp_",
        "A" * 20,
        "eyJ" + "a" * 12 + ".",
        "eyJb",
        "***",
    ),
    *("-----BEGIN ", "PRIVATE KEY", "-----END ", "-----", "authorization: basic ", "api_key ", "7"),
]


@given(parts=st.lists(st.sampled_from(SECRETS), max_size=12))
def test_no_secret_is_left(parts: list[str]) -> None:
    text = "".join(parts)
    masked = mask_secrets(text)
    assert not looks_like_secret(masked), (text, masked)
    if not looks_like_secret(text):
        assert masked == text
    assert len(re.findall(r"\n", masked)) <= text.count("\n")
