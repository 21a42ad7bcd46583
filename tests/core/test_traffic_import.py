"""Logs in many formats, and the prompts that are made of them."""

# ruff: noqa: ANN401  # Logs hold anything.

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from crossroute.errors import DataError
from crossroute.evaluation.comparison import load_prompts
from crossroute.secret_text import looks_like_secret, mask_secrets
from crossroute.traffic.cases import load_cases
from crossroute.traffic.imports import Imported, import_traffic

SYSTEM = {"role": "system", "content": "You are a clerk."}
USER = {"role": "user", "content": "What is 17 * 23?"}
CHAT = [SYSTEM, USER]
CALL = {"name": "add", "args": {"a": 1}, "id": "c1"}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL_TURN = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "c1"},
]


def lc(name: str, **kwargs: Any) -> dict[str, Any]:
    where = ["langchain", "schema", "messages", name]
    return {"lc": 1, "type": "constructor", "id": where, "kwargs": kwargs}


def run(inputs: object, **more: Any) -> dict[str, Any]:
    return {"id": "r", "run_type": "llm", "inputs": inputs, **more}


def otlp(attributes: dict[str, Any], events: list[Any] | None = None) -> dict[str, Any]:
    """A span as the OTLP file exporter writes it."""
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    pairs = [
        {"key": name, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for name, value in attributes.items()
    ]
    span = {"traceId": "t", "spanId": "s", "attributes": pairs, "events": events or []}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}


def parts(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def imported(
    tmp_path: Path, *records: object, name: str = "log.jsonl", **settings: Any
) -> tuple[Imported, list[dict[str, Any]]]:
    log, out = tmp_path / name, tmp_path / "prompts.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    found = import_traffic([log], out, **settings)
    # What reads prompts elsewhere can read these.
    assert len(load_prompts(out)) == found.written
    return found, [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def prompt_of(tmp_path: Path, record: object) -> Any:
    found, (row,) = imported(tmp_path, record)
    assert not found.skipped
    return row["prompt"]


@pytest.mark.parametrize(
    "messages",
    [
        [
            [
                lc("SystemMessage", content=SYSTEM["content"]),
                lc("HumanMessage", content=USER["content"]),
            ]
        ],
        [
            {"type": "system", "content": SYSTEM["content"]},
            {"type": "human", "content": USER["content"]},
        ],
        [
            {"type": "system", "data": {"content": SYSTEM["content"], "type": "system"}},
            {"type": "human", "data": {"content": USER["content"], "type": "human"}},
        ],
        [["system", SYSTEM["content"]], ["human", USER["content"]]],
        CHAT,
        [SYSTEM, {"role": "user", "content": [{"type": "text", "text": USER["content"]}]}],
        json.dumps(CHAT),
    ],
    ids=["lc", "type", "data", "pairs", "role", "parts", "json"],
)
def test_langsmith_writes_messages_in_many_ways(tmp_path: Path, messages: object) -> None:
    assert prompt_of(tmp_path, run({"messages": messages})) == CHAT


def test_a_run_says_what_is_known_of_its_call(tmp_path: Path) -> None:
    record = run(
        {"messages": CHAT},
        extra={
            "invocation_params": {"model": "gpt-5.5", "tools": [{"type": "function"}]},
            "metadata": {"topic": "sums"},
        },
        prompt_tokens=21,
        completion_tokens=4,
        total_cost="0.0021",
        feedback_stats={"correct": {"n": 2, "avg": 0.5}, "stars": {"n": 1, "avg": 4}},
    )
    found, (row,) = imported(tmp_path, record, score="correct")
    assert found.formats == {"LangSmith runs": 1}
    assert row == {
        "prompt": CHAT,
        "topic": "sums",
        "model": "gpt-5.5",
        "input_tokens": 21,
        "output_tokens": 4,
        "cost_usd": 0.0021,
        "score": 0.5,
        "feedback": {"stars": 4.0},
        "needs": ["tools"],
    }
    # A score is one between 0 and 1.
    assert "score" not in imported(tmp_path, record, score="stars")[1][0]


def test_tool_calls_and_their_answers_are_kept(tmp_path: Path) -> None:
    of_langchain = [
        lc("HumanMessage", content=USER["content"]),
        lc("AIMessage", content="", tool_calls=[CALL]),
        lc("ToolMessage", content="2", tool_call_id="c1"),
    ]
    of_responses = [
        USER,
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]
    of_telemetry = [
        parts("user", str(USER["content"])),
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
    ]
    records = [
        run({"messages": [of_langchain]}),
        {"model": "m", "input": of_responses},
        otlp({"gen_ai.input.messages": json.dumps(of_telemetry)}),
        {"model": "m", "messages": TOOL_TURN},
    ]
    for record in records:
        prompt = prompt_of(tmp_path, record)
        assert [message["role"] for message in prompt] == ["user", "assistant", "tool"]
        assert prompt[1]["tool_calls"] == [TOOL_CALL]
        assert prompt[2]["tool_call_id"] == "c1"
        assert prompt[2]["content"] == "2"


def test_a_chain_stands_for_model_calls_only_if_there_are_none(tmp_path: Path) -> None:
    chain = {"id": "a", "trace_id": "a", "run_type": "chain", "inputs": {"input": "Who won?"}}
    within = chain | {"id": "b", "parent_run_id": "a"}
    call = run({"messages": CHAT}, trace_id="a", parent_run_id="b")
    found, rows = imported(tmp_path, chain, within, call)
    assert [row["prompt"] for row in rows] == [CHAT]
    assert sum(one.count for one in found.skipped.values()) == 2
    found, rows = imported(tmp_path, chain, within, chain | {"trace_id": "c"})
    assert [row["prompt"] for row in rows] == ["Who won?"]
    # As the client gives a run with its children.
    nested = chain | {"child_runs": [within | {"child_runs": [call]}]}
    assert prompt_of(tmp_path, nested) == CHAT


def test_a_batch_of_langchain_is_several_prompts(tmp_path: Path) -> None:
    batch = [[lc("HumanMessage", content="One?")], [lc("HumanMessage", content="Two?")]]
    _, rows = imported(tmp_path, run({"messages": batch}, total_cost=1))
    assert rows == [{"prompt": "One?"}, {"prompt": "Two?"}]
    _, rows = imported(tmp_path, run({"prompts": ["One?", "Two?"]}))
    assert [row["prompt"] for row in rows] == ["One?", "Two?"]


@pytest.mark.parametrize(
    "record",
    [
        {"model": "m", "messages": CHAT},
        {"request": {"model": "m", "messages": CHAT}, "response": {"usage": {"prompt_tokens": 9}}},
        {"request": {"body": json.dumps({"model": "m", "messages": CHAT})}},
        {
            "custom_id": "1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": CHAT},
        },
        {"model": "m", "instructions": SYSTEM["content"], "input": USER["content"]},
        {
            "custom_id": "1",
            "url": "/v1/responses",
            "body": {
                "model": "m",
                "instructions": SYSTEM["content"],
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": USER["content"]}]}
                ],
            },
        },
        {"model": "m", "system": SYSTEM["content"], "messages": [USER]},
        {"messages": [*CHAT, {"role": "assistant", "content": "391"}]},
        {"object": "list", "data": [SYSTEM | {"id": "1"}, USER | {"id": "2"}]},
        {"prompt": CHAT},
        CHAT,
    ],
    ids=[
        *("bare", "request", "json", "batch", "responses", "batch of responses", "system apart"),
        *("with the answer", "stored", "routing data", "a list"),
    ],
)
def test_requests_of_openais_form(tmp_path: Path, record: object) -> None:
    assert prompt_of(tmp_path, record) == CHAT


def test_images_are_kept(tmp_path: Path) -> None:
    address = "data:image/png;base64,c2stYWJjZGVmZ2hpamtsbW5vcA=="
    image = {"type": "image_url", "image_url": {"url": address}}
    given = {"type": "input_image", "image_url": address}
    question = {"type": "text", "text": "What is this?"}
    record = {"model": "m", "input": [{"role": "user", "content": [question, given]}]}
    assert prompt_of(tmp_path, record) == [{"role": "user", "content": [question, image]}]


GEN_AI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 9,
}


@pytest.mark.parametrize(
    "span",
    [
        otlp(
            GEN_AI
            | {
                "gen_ai.system_instructions": json.dumps(
                    [{"type": "text", "content": SYSTEM["content"]}]
                ),
                "gen_ai.input.messages": json.dumps([parts("user", str(USER["content"]))]),
            }
        ),
        otlp(
            GEN_AI
            | {
                "gen_ai.prompt.0.role": "system",
                "gen_ai.prompt.0.content": str(SYSTEM["content"]),
                "gen_ai.prompt.1.role": "user",
                "gen_ai.prompt.1.content": str(USER["content"]),
                "gen_ai.completion.0.content": "391",
            }
        ),
        otlp(
            {
                "openinference.span.kind": "LLM",
                "llm.model_name": "m",
                "llm.token_count.prompt": 9,
                "llm.input_messages.0.message.role": "system",
                "llm.input_messages.0.message.content": str(SYSTEM["content"]),
                "llm.input_messages.1.message.role": "user",
                "llm.input_messages.1.message.content": str(USER["content"]),
            }
        ),
        {
            "name": "chat m",
            "context": {"trace_id": "0x1", "span_id": "0x2"},
            "attributes": GEN_AI,
            "events": [
                {"name": "gen_ai.system.message", "attributes": {"content": SYSTEM["content"]}},
                {"name": "gen_ai.user.message", "attributes": {"content": USER["content"]}},
            ],
        },
        {
            "name": "chat m",
            "context": {"trace_id": "0x1"},
            "attributes": GEN_AI,
            "events": [
                {
                    "name": "gen_ai.client.inference.operation.details",
                    "attributes": {
                        "gen_ai.system_instructions": [
                            {"type": "text", "content": SYSTEM["content"]}
                        ],
                        "gen_ai.input.messages": [parts("user", str(USER["content"]))],
                    },
                }
            ],
        },
    ],
    ids=["parts", "OpenLLMetry", "OpenInference", "events", "details"],
)
def test_spans_of_opentelemetry(tmp_path: Path, span: dict[str, Any]) -> None:
    found, (row,) = imported(tmp_path, span)
    assert row == {"prompt": CHAT, "model": "m", "input_tokens": 9}
    assert found.formats == {"OpenTelemetry spans": 1}


def test_what_the_console_exporter_writes_is_no_list(tmp_path: Path) -> None:
    span = {"context": {}, "attributes": GEN_AI | {"gen_ai.prompt.0.content": "One?"}}
    other = {"context": {}, "attributes": GEN_AI | {"gen_ai.prompt.0.content": "Two?"}}
    log = tmp_path / "spans.json"
    log.write_text("\n".join(json.dumps(one, indent=4) for one in (span, {}, other)), "utf-8")
    found = import_traffic([log], tmp_path / "out.jsonl")
    assert [prompt for prompt, _ in load_prompts(tmp_path / "out.jsonl")] == ["One?", "Two?"]
    # The second begins in the line after the first one's last.
    lines = json.dumps(span, indent=4).count("\n") + 2
    assert found.skipped["a record of no known format"].places == [f"{log}:{lines}"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "wrap", [lambda runs: runs, lambda runs: {"runs": runs}], ids=["list", "runs"]
)
def test_a_document_of_runs(tmp_path: Path, indent: int | None, wrap: Any) -> None:
    log = tmp_path / "runs.json"
    runs = [run({"prompt": "One?"}), run({"prompt": "Two?"}), {"nothing": 1}]
    log.write_text(json.dumps(wrap(runs), indent=indent), "utf-8")
    found = import_traffic([log], tmp_path / "out.jsonl")
    assert found.written == 2
    (place,) = found.skipped["a record of no known format"].places
    assert place.endswith("[2]")


def test_lines_of_text_and_gzip(tmp_path: Path) -> None:
    log, out = tmp_path / "log.txt.gz", tmp_path / "out.jsonl.gz"
    lines = ["What is 2 + 2?", "", json.dumps({"model": "m", "messages": CHAT}), "{odd"]
    log.write_bytes(gzip.compress("\n".join(lines).encode()))
    found = import_traffic([log], out)
    assert [prompt for prompt, _ in load_prompts(out)] == ["What is 2 + 2?", CHAT, "{odd"]
    assert found.formats == {"lines of text": 2, "OpenAI requests": 1}


def test_duplicates_are_dropped_over_all_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.jsonl"
    first.write_text("One?\nOne?\n  One?\t\nTwo?\n", "utf-8")
    second.write_text('{"messages": [{"role": "user", "content": "Two?\\n"}]}\n"Three?"\n', "utf-8")
    found = import_traffic([first, second], tmp_path / "out.jsonl")
    assert (found.written, found.duplicates) == (3, 3)
    # Another system prompt makes another prompt.
    found, _ = imported(tmp_path, {"messages": CHAT}, {"messages": [USER]})
    assert found.duplicates == 0


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        b'{"prompt": "One?"}',
        b"{broken",
        b'{"prompt": "   "}',
        b'{"messages": [{"content": "who says this"}]}',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b"17",
        b'{"model": "text-embedding-3-small", "input": "a"}',
        b'{"id": "1", "object": "chat.completion", "model": "m"}',
        json.dumps(otlp({"http.method": "GET"})).encode(),
        json.dumps(otlp(GEN_AI)).encode(),
        b"[" * 5_000,
    ]
    log.write_bytes(b"\n".join(lines))
    missing, table = tmp_path / "missing.jsonl", tmp_path / "runs.parquet"
    table.write_bytes(b"PAR1")
    found = import_traffic([log, missing, table], tmp_path / "out.jsonl")
    assert found.written == 1
    places = [place for one in found.skipped.values() for place in one.places]
    assert sorted(places) == sorted(
        [*(f"{log}:{number}" for number in range(2, 12)), str(missing), str(table)]
    )
    assert found.skipped["not JSON"].count == 3
    text = "\n".join(found.reasons())
    assert "3 x not JSON" in text
    assert "DuckDB" in text


def test_a_line_that_is_too_long_does_not_hide_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lines", "traffic.imports"):
        monkeypatch.setattr(f"crossroute.{module}.MOST_LINE_BYTES", 100)
    long = {"prompt": "x" * 1_000}
    found, rows = imported(tmp_path, {"prompt": "a"}, long, {"prompt": "b"}, long)
    assert [row["prompt"] for row in rows] == ["a", "b"]
    (reason,) = found.reasons()
    assert reason.startswith("2 x a line of more than 100 bytes: ")
    assert reason.endswith(f"log.jsonl:2, {tmp_path / 'log.jsonl'}:4")
    log = tmp_path / "log.jsonl.gz"
    log.write_bytes(gzip.compress((tmp_path / "log.jsonl").read_bytes()))
    assert import_traffic([log], tmp_path / "prompts.jsonl").written == 2


def test_text_in_utf_16_is_not_read_as_prompts(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("one\ntwo\n", "utf-16")
    with pytest.raises(DataError, match="not text in UTF-8"):
        import_traffic([tmp_path / "log.txt"], tmp_path / "prompts.jsonl")


def test_what_is_written_can_be_collected(tmp_path: Path) -> None:
    deep = json.loads("[" * 400 + "]" * 400)
    found, rows = imported(
        tmp_path,
        {"prompt": "a", "topic": "t" * 150},
        run({"messages": json.dumps([USER, {**USER, "tool_calls": deep}])}),
        {"prompt": "b"},
    )
    assert [(row["prompt"], row.get("topic")) for row in rows] == [("a", "t" * 100), ("b", None)]
    assert list(found.skipped) == ["lists in lists, too deep to be read"]
    assert len(load_cases(tmp_path / "prompts.jsonl")) == 2


@pytest.mark.parametrize("operation", [["chat"], {"a": 1}, 5])
def test_an_operation_that_is_no_text_is_none(tmp_path: Path, operation: object) -> None:
    attributes = {"gen_ai.operation.name": operation, "gen_ai.prompt": "hi"}
    found, _ = imported(tmp_path, {"attributes": attributes, "context": {}}, {"prompt": "a"})
    (reason,) = found.skipped
    assert reason.startswith("a span that asks no model")


def test_secrets_are_masked_by_their_names_and_in_topics(tmp_path: Path) -> None:
    arguments = {"api_key": "abcdef", "user": "me"}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    turn = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, TOOL_TURN[2]]
    topic = "sk-abc123abc123abc123"
    found, (row,) = imported(tmp_path, {"prompt": turn, "topic": topic})
    assert row["prompt"][1]["tool_calls"][0]["function"]["arguments"] == {
        "api_key": "***",
        "user": "me",
    }
    assert (row["topic"], found.masked) == ("***", 1)


def test_only_the_first_places_are_kept(tmp_path: Path) -> None:
    found, _ = imported(tmp_path, {"prompt": "One?"}, *[{"x": 1}] * 9)
    (line,) = found.reasons()
    assert line.startswith("9 x a record of no known format: ")
    assert line.endswith("log.jsonl:4, ...")


def test_nothing_at_all_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    out = tmp_path / "prompts.jsonl"
    out.write_text("old", "utf-8")
    with pytest.raises(DataError, match=r"No prompt could be read.*\n.*2 x a record of no known"):
        imported(tmp_path, {"x": 1}, {"y": 2})
    assert out.read_text("utf-8") == "old"
    assert len([*tmp_path.iterdir()]) == 2


def test_the_log_itself_is_not_overwritten(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('"One?"\n', "utf-8")
    with pytest.raises(DataError, match="one of the files to read"):
        import_traffic([log], log)
    with pytest.raises(DataError, match=r"\.jsonl or \.jsonl\.gz"):
        import_traffic([log], tmp_path / "out.txt")
    with pytest.raises(DataError, match="from 1 up"):
        import_traffic([log], tmp_path / "out.jsonl", sample=0)
    assert log.read_text("utf-8") == '"One?"\n'


def test_a_sample_is_random_and_repeats_itself(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join(f"Number {number}?" for number in range(200)), "utf-8")

    def sample(seed: int) -> list[Any]:
        found = import_traffic([log], tmp_path / "out.jsonl", sample=20, seed=seed)
        assert (found.written, found.distinct) == (20, 200)
        return [prompt for prompt, _ in load_prompts(tmp_path / "out.jsonl")]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    numbers = [int(prompt.split()[1][:-1]) for seed in range(30) for prompt in sample(seed)]
    # In the order of the log, and from all of it.
    assert numbers[:20] == sorted(numbers[:20])
    assert 80 < sum(numbers) / len(numbers) < 120


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnop1234",
        "ghp_" + "a1" * 12,
        "Bearer abc123def456",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz\n-----END RSA PRIVATE KEY-----",
        "https://me:geheim123@host.example/path",
        "s\u200bk-abcdefghijklmnop1234",
    ],
)
def test_secrets_are_masked(tmp_path: Path, secret: str) -> None:
    found, (row,) = imported(
        tmp_path, {"messages": [SYSTEM, {"role": "user", "content": f"Why is {secret} bad?"}]}
    )
    assert found.masked == 1
    assert row["prompt"][1]["content"] == "Why is *** bad?"
    assert not looks_like_secret(mask_secrets(secret))


def test_a_text_without_secrets_is_not_changed() -> None:
    assert mask_secrets("Basic sums:  a\u200bb") == "Basic sums:  a\u200bb"
