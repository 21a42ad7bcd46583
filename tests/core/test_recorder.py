"""Records: what is written of a call, by many at once, and what is read and made of it."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from pydantic import ValidationError

from crossroute import CrossRouter, DataError, Query
from crossroute.exploration import new_call_id
from crossroute.strategies import Ask, Ended, EndedAsk, Reply, Role, Task, ToolCall
from crossroute.traffic import records, sinks
from crossroute.traffic.recorder import Recorder
from crossroute.traffic.records import (
    CallRecord,
    Feedback,
    Text,
    query_hash,
    read_records,
    recorded_messages,
    recorded_query,
    records_to_rows,
)
from crossroute.traffic.summary import Summary
from crossroute.training.data import Row

QUESTION = "What is 4711 * 12 + 99?"
SECRET = "sk-proj-1234567890abcdefghij"
KINDS = [".jsonl", ".db"]
End = Callable[..., Ended]
EVERY_SINK = pytest.mark.parametrize("suffix", KINDS)


def asked(
    model: str = "sage",
    role: Role = "answer",
    cost_usd: float | None = 0.002,
    error: BaseException | None = None,
    *,
    refused: bool = False,
) -> EndedAsk:
    return EndedAsk(
        {
            "model": model,
            "role": role,
            "input_tokens": 20,
            "output_tokens": 5,
            "cached_tokens": 8,
            "cost_usd": cost_usd,
            "estimated": False,
        },
        error,
        refused,
    )


@pytest.fixture
def end(toy_router: CrossRouter) -> End:
    """Makes what is told of a call that has ended."""

    def end(
        query: object = QUESTION,
        asks: Sequence[EndedAsk] = (asked(),),
        model: str | None = "sage",
        error: BaseException | None = None,
        call_id: str | None = None,
        **decided: float,
    ) -> Ended:
        messages: Any = [{"role": "user", "content": query}]
        if not isinstance(query, str):
            messages = query
        read = Query.of(messages)
        decision = replace(
            toy_router.route(read, math.inf), call_id=call_id or new_call_id(), **decided
        )
        return Ended(Task(decision, read, messages), asks, model, "It is 56631.", error, 1.5)

    return end


def one_of(path: Path) -> CallRecord:
    (found,) = read_records(path)
    return found


@EVERY_SINK
def test_a_call_is_recorded_with_all_predictions(suffix: str, end: End, tmp_path: Path) -> None:
    path = tmp_path / f"records{suffix}"
    recorder = Recorder(path)
    ended = end()
    recorder.on_crossroute_call(ended)
    found, decision = one_of(path), ended.task.decision
    assert found.id == decision.call_id
    assert timedelta(0) <= datetime.now(UTC) - found.at < timedelta(minutes=5)
    assert found.query == QUESTION
    assert [tuple(vars(c).values()) for c in found.decision.candidates] == [
        tuple(c) for c in decision.candidates
    ]
    assert found.decision.willingness_to_pay == math.inf
    assert (found.model, found.outcome, found.error, found.answer) == (
        *("sage", "answered"),
        *(None, None),
    )
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (20, 5, 8)
    assert found.cost_usd == pytest.approx(0.002)
    assert found.latency_s == 1.5
    assert found.predicted is not None
    assert found.predicted.model == "sage"
    assert (found.probability, found.feedback, recorder.lost) == (None, {}, 0)


def test_a_line_is_plain_json(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    Recorder(path, answers=True).on_crossroute_call(end(probability=0.25))
    (line,) = path.read_text("utf-8").splitlines()
    found = json.loads(line)
    assert (found["kind"], found["query"], found["answer"]) == ("call", QUESTION, "It is 56631.")
    assert found["decision"]["probability"] == 0.25
    assert found["asks"][0]["model"] == "sage"
    assert "feedback" not in found


@EVERY_SINK
@pytest.mark.parametrize("text", ["hash", "omit"])
def test_texts_that_nobody_should_keep_are_not_in_the_file(
    text: Text, suffix: str, end: End, tmp_path: Path
) -> None:
    path = tmp_path / f"records{suffix}"
    Recorder(path, text=text).on_crossroute_call(end())
    assert one_of(path).query is None
    assert one_of(path).query_hash == (query_hash(QUESTION) if text == "hash" else None)
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"4711" not in written
    assert b"56631" not in written


def test_a_hash_is_the_same_for_the_same_prompt() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    same = [QUESTION, [{"role": "user", "content": QUESTION}], parts]
    assert len({query_hash(one) for one in same}) == 1
    assert query_hash(f"{QUESTION} ") != query_hash(QUESTION)


def test_secrets_and_attachments_are_not_recorded() -> None:
    messages = [
        {"role": "system", "content": f"The key is {SECRET}, be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"name": "look", "args": {"api_key": "plain", "at": 3}, "id": "1"}],
        },
        {"role": "tool", "content": "a lone \ud800 surrogate", "tool_call_id": "1", "raw": 1},
    ]
    found = recorded_query(messages)
    assert found == [
        {"role": "system", "content": "The key is *** be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url"}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"name": "look", "args": {"api_key": "***", "at": 3}, "id": "1"}],
        },
        {"role": "tool", "content": "a lone ? surrogate", "tool_call_id": "1"},
    ]
    assert Query.of(found).needs == {"image_input"}


def test_failures_drafts_and_left_calls(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    failed = asked("sage", error=TimeoutError(f"with {SECRET}"), cost_usd=0.0)
    recorder.on_crossroute_call(end(asks=[failed, asked("clerk")], model="clerk"))
    recorder.on_crossroute_call(end(asks=[failed], model=None, error=TimeoutError(SECRET)))
    recorder.on_crossroute_call(end(error=GeneratorExit()))
    recorder.on_crossroute_call(end(asks=[asked("poet", "draft", None), asked()]))
    recorder.on_crossroute_call(end(asks=[asked("clerk", refused=True), asked()]))
    passed, failure, left, drafted, refused = read_records(path)
    assert [ask.error for ask in passed.asks] == ["TimeoutError", None]
    assert passed.answering == passed.asks[1]
    assert (failure.outcome, failure.error, failure.model) == ("failed", "TimeoutError", None)
    assert (left.outcome, left.error, left.model) == ("left", None, "sage")
    assert [ask.role for ask in drafted.asks] == ["draft", "answer"]
    # One cost is not known; the answer came of several asks.
    assert (drafted.cost_usd, drafted.answering) == (None, None)
    assert drafted.input_tokens == 40
    assert refused.asks[0].error == "refused"
    assert refused.answering == refused.asks[1]
    assert SECRET not in path.read_text("utf-8")


def test_the_probability_is_that_of_the_model_that_was_drawn(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    recorder.on_crossroute_call(end(probability=0.1))
    recorder.on_crossroute_call(end(probability=0.1, asks=[asked("poet")], model="poet"))
    assert [one.probability for one in read_records(path)] == [0.1, None]


# Feedback


@EVERY_SINK
def test_of_a_source_the_latest_feedback_counts(suffix: str, end: End, tmp_path: Path) -> None:
    path = tmp_path / f"records{suffix}"
    # It may be there before the call, of which a stream is still being read.
    Recorder(path).feedback("one", 0.0)
    Recorder(path).on_crossroute_call(end(call_id="one"))
    Recorder(path).on_crossroute_call(end(call_id="two"))
    Recorder(path).feedback("one", 1.0)
    Recorder(path).feedback("one", 0.5, source="judge")
    Recorder(path).feedback("nobody", 0.5)
    one, two = read_records(path)
    assert {source: said.score for source, said in one.feedback.items()} == {
        "user": 1.0,
        "judge": 0.5,
    }
    assert one.score() == pytest.approx(0.75)
    assert (one.score("judge"), one.score("nobody"), two.score()) == (0.5, None, None)


def test_the_latest_is_so_by_its_time_not_by_its_place(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    Recorder(path).on_crossroute_call(end(call_id="one"))
    now = datetime.now(UTC)
    with path.open("a", encoding="utf-8") as file:
        for hours, score in ((0, 0.9), (-1, 0.1)):
            said = Feedback(id="one", at=now + timedelta(hours=hours), score=score)
            file.write(said.model_dump_json() + "\n")
    assert one_of(path).score() == 0.9


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"score": 1.5}, "score"),
        ({"score": math.nan}, "score"),
        ({"score": True}, "score"),
        ({"score": "good"}, "score"),
        ({"call_id": ""}, "id"),
        ({"call_id": None}, "id"),
        ({"source": "x" * 101}, "source"),
    ],
)
def test_feedback_that_is_none(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(DataError, match=f"Feedback: {said}: "):
        Recorder(path).feedback(**{"call_id": "one", "score": 1.0, **wrong})
    assert not path.exists()


# Many writers

WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from crossroute.traffic.recorder import Recorder

path, writer = Path(sys.argv[1]), sys.argv[2]
recorder = Recorder(path)
sys.stdin.readline()
with ThreadPoolExecutor(4) as threads:
    said = [threads.submit(recorder.feedback, f"{writer}-{n}", n / 200) for n in range(200)]
[one.result() for one in said]
assert recorder.lost == 0
"""


@EVERY_SINK
def test_many_threads_of_many_processes_write_at_once(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"records{suffix}"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    found = [Feedback.model_validate_json(line) for _, _, line in sinks.stored(path)]
    assert len(found) == 800
    assert {one.id for one in found} == {f"{w}-{n}" for w in range(4) for n in range(200)}


FORKING = """
import os, sys
from pathlib import Path
from crossroute.traffic.recorder import Recorder

recorder = Recorder(Path(sys.argv[1]))
recorder.feedback("parent", 1.0)
child = os.fork()
for n in range(50):
    recorder.feedback(f"{'parent' if child else 'child'}-{n}", 1.0)
if not child:
    os._exit(recorder.lost)
_, status = os.waitpid(child, 0)
recorder.feedback("parent after", 1.0)
sys.exit(status or recorder.lost)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@EVERY_SINK
def test_a_forked_process_writes_on(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"records{suffix}"
    command = [sys.executable, "-c", FORKING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(sinks.stored(path))) == 102


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    recorder.feedback("one", 1.0)
    path.rename(tmp_path / "old.jsonl")
    recorder.feedback("two", 1.0)
    assert [b'"two"' in line for _, _, line in sinks.stored(path)] == [True]


def test_a_line_that_was_left_half_written_harms_no_other(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind": "call", "id": "torn', "utf-8")
    Recorder(path).on_crossroute_call(end(call_id="one"))
    Recorder(path).feedback("one", 1.0)
    with pytest.raises(DataError, match=r"1 records are broken:\n.*records\.jsonl:1: .*JSON"):
        list(read_records(path))
    (found,) = read_records(path, skip_broken=True)
    assert (found.id, found.score()) == ("one", 1.0)


# What cannot be written


@EVERY_SINK
def test_what_cannot_be_written_is_lost_and_said_once(
    suffix: str, end: End, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"records{suffix}"
    recorder = Recorder(path)
    path.mkdir()
    with caplog.at_level(logging.WARNING, "crossroute"):
        for _ in range(3):
            recorder.on_crossroute_call(end())
        recorder.feedback("one", 1.0)
    assert recorder.lost == 4
    (told,) = caplog.messages
    assert str(path) in told
    assert "lost=4" in repr(recorder)
    path.rmdir()
    recorder.on_crossroute_call(end())
    assert recorder.lost == 4
    assert one_of(path).model == "sage"


def test_a_full_disk_leaves_no_half_line(
    end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    recorder.on_crossroute_call(end())
    write = os.write
    monkeypatch.setattr(sinks.os, "write", lambda file, line: write(file, line[:10]))
    recorder.on_crossroute_call(end())
    monkeypatch.undo()
    assert recorder.lost == 1
    recorder.on_crossroute_call(end())
    assert len(list(read_records(path))) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of files there")
def test_a_lock_that_nobody_gives_back_holds_up_no_call_for_ever(
    end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    recorder.on_crossroute_call(end())
    monkeypatch.setattr(sinks, "PATIENCE_SECONDS", 0.01)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        recorder.on_crossroute_call(end())
    assert recorder.lost == 1
    recorder.on_crossroute_call(end())
    assert recorder.lost == 1


def test_what_no_line_holds_is_recorded_without_its_texts(
    end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossroute.traffic.recorder.MOST_LINE_BYTES", 5_000)
    path = tmp_path / "records.jsonl"
    Recorder(path, answers=True).on_crossroute_call(end("word " * 2000))
    found = one_of(path)
    assert (found.text, found.query, found.answer, found.model) == (
        "too long",
        None,
        None,
        "sage",
    )


def traced(reply: Reply, **ask: Any) -> EndedAsk:  # noqa: ANN401  # Fields of an ask.
    return asked()._replace(ask=Ask("sage", **ask), reply=reply, shown=True)


def test_a_trace_has_what_each_ask_got_and_said_without_secrets(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    said = Reply("sage", text=f"Use {SECRET}.", tool_calls=[ToolCall("log", {"token": "t"}, "1")])
    judge = {"role": "user", "content": f"Is {SECRET} right?"}
    run = [{"role": "tool", "tool_call_id": "1", "content": SECRET, "of": 3}]
    asks = [
        traced(said, keep=(), then=(judge,), reason=f"for {SECRET}", tools=[{"a": SECRET}]),
        traced(Reply("sage", text="Done.", messages=run)),
        traced(Reply("sage", was_asked=False)),
    ]
    ended = end(asks=asks)
    tools = [{"type": "function", "function": {"name": "log"}}]
    ended = ended._replace(task=replace(ended.task, tools=lambda: tools))
    Recorder(path, traces=True).on_crossroute_call(ended)
    assert SECRET not in path.read_text("utf-8")
    found = one_of(path)
    assert (found.trace, found.answer, found.tools) == ("kept", "It is 56631.", tools)
    first, second, third = found.asks
    assert (first.keep, first.reason, first.tools) == ((), "for ***", [{"a": "***"}])
    assert first.then == [{"role": "user", "content": "Is *** right?"}]
    assert first.said == [
        {
            "role": "assistant",
            "content": "Use ***",
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "log", "arguments": '{"token": "***"}'},
                }
            ],
        }
    ]
    assert (second.keep, second.then) == (None, None)
    assert second.said == [{"role": "tool", "tool_call_id": "1", "content": "***"}]
    assert third.said == []


def test_without_traces_a_record_has_none(end: End, tmp_path: Path) -> None:
    Recorder(tmp_path / "records.jsonl").on_crossroute_call(end(asks=[traced(Reply("sage"))]))
    (line,) = (tmp_path / "records.jsonl").read_text("utf-8").splitlines()
    assert not {"trace", "tools", "answer"} & json.loads(line).keys()
    assert "said" not in json.loads(line)["asks"][0]
    for text in ("hash", "omit"):
        with pytest.raises(DataError, match="traces=True with text"):
            Recorder(tmp_path / "records.jsonl", text=text, traces=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [True, False])
def test_of_what_no_line_holds_the_trace_goes_first(
    answers: bool, end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossroute.traffic.recorder.MOST_LINE_BYTES", 5_000)
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path, answers=answers, traces=True)
    recorder.on_crossroute_call(end(asks=[traced(Reply("sage", text="word " * 2000))]))
    found = one_of(path)
    assert (found.trace, found.text, found.query) == ("too long", "keep", QUESTION)
    assert found.answer == ("It is 56631." if answers else None)
    assert found.asks[0].said is None


def test_a_message_that_nobody_can_record_fails_no_call(end: End, tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    recorder = Recorder(tmp_path / "records.jsonl")
    ended = end()
    odd = [{"role": "user", "content": QUESTION, "tool_calls": [Odd()]}]
    recorder.on_crossroute_call(ended._replace(task=replace(ended.task, messages=odd)))
    assert recorder.lost == 1


def test_where_records_may_go(tmp_path: Path) -> None:
    for name in ("records.json", "records", "records.jsonl.gz"):
        with pytest.raises(DataError, match=r"\.jsonl"):
            Recorder(tmp_path / name)
    with pytest.raises(DataError, match="no folder"):
        Recorder(tmp_path / "nowhere" / "records.jsonl")
    with pytest.raises(DataError, match="keep, hash, omit"):
        Recorder(tmp_path / "records.jsonl", text="all")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"watch is 0\.3; give tuned\.watch\(\)"):
        Recorder(tmp_path / "records.jsonl", watch=0.3)  # type: ignore[arg-type]


# What cannot be read


def test_files_that_are_none_of_records(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    view = tmp_path / "view.db"
    with sqlite3.connect(view) as connection:
        connection.execute("CREATE VIEW records AS SELECT 1 AS position, 'a' AS kind, '' AS record")
    connection.close()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database" * 500)
    blob = tmp_path / "blob.db"
    Recorder(blob).feedback("one", 1.0)
    with sqlite3.connect(blob) as connection:
        connection.execute("UPDATE records SET record = x'00'")
    connection.close()
    cases = {
        other: "no table of records",
        view: "no table of records",
        garbage: "cannot be read",
        blob: "record 1 is no text",
        tmp_path / "missing.db": "cannot be read",
        tmp_path / "missing.jsonl": "cannot be read",
        tmp_path / "records.csv": r"\.jsonl",
        tmp_path: r"\.jsonl",
    }
    for path, said in cases.items():
        with pytest.raises(DataError, match=said):
            list(read_records(path))
    assert not (tmp_path / "missing.db").exists()


def test_broken_records_are_named_but_not_all(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind": "call", "id": 5}\n' * 30 + '{"kind": "other"}\n', "utf-8")
    with pytest.raises(DataError, match=r"31 records are broken") as raised:
        list(read_records(path))
    assert "records.jsonl:10:" in str(raised.value)
    assert "and 21 more" in str(raised.value)
    assert len(str(raised.value)) < 5_000
    assert list(read_records(path, skip_broken=True)) == []


def test_too_much_feedback_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_FEEDBACK", 2)
    path = tmp_path / "records.jsonl"
    for number in range(3):
        Recorder(path).feedback(str(number), 1.0)
    with pytest.raises(DataError, match="split the file"):
        list(read_records(path))


def test_numbers_out_of_bounds_are_no_record(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    Recorder(path).on_crossroute_call(end())
    good = json.loads(path.read_text("utf-8"))
    assert CallRecord.model_validate(good)
    for changes in (
        {"latency_s": -1},
        {"cost_usd": -1},
        {"input_tokens": 1e12},
        {"at": "2026-01-01T00:00:00"},
        {"outcome": "fine"},
        {"decision": {**good["decision"], "candidates": []}},
        {"decision": {**good["decision"], "probability": 0}},
    ):
        with pytest.raises(ValidationError):
            CallRecord.model_validate({**good, **changes})
    # What a later version adds is passed over.
    assert CallRecord.model_validate({**good, "new": 1})


# Rows


def test_calls_with_feedback_become_rows(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    other = "Write a poem about an otter."
    for query, model, score in (
        (QUESTION, "sage", 1.0),
        (QUESTION, "sage", 0.5),
        (QUESTION, "clerk", 0.25),
        (other, "poet", 1.0),
        (other, "sage", None),
    ):
        ended = end(query, asks=[asked(model)], model=model)
        recorder.on_crossroute_call(ended)
        if score is not None:
            recorder.feedback(ended.task.decision.call_id, score)
    found = records_to_rows(read_records(path))
    assert (found.calls, found.used) == (5, 4)
    assert found.skipped == {"without feedback": 1}
    asked_for = {"cost_usd": pytest.approx(0.002), "input_tokens": 20, "output_tokens": 5}
    assert found.rows == [
        {
            "prompt": QUESTION,
            "outputs": {
                "sage": {"score": 0.75, **asked_for},
                "clerk": {"score": 0.25, **asked_for},
            },
        },
        {"prompt": other, "outputs": {"poet": {"score": 1.0, **asked_for}}},
    ]
    for row in found.rows:
        Row.model_validate(row)
    assert not records_to_rows(read_records(path), source="judge").rows


def test_a_call_that_was_drawn_is_a_row_of_its_own(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    for probability in (0.9, 0.9, None):
        ended = end(probability=probability)
        recorder.on_crossroute_call(ended)
        recorder.feedback(ended.task.decision.call_id, 1.0)
    rows = records_to_rows(read_records(path)).rows
    assert [row["outputs"]["sage"].get("probability") for row in rows] == [0.9, 0.9, None]


def test_drawn_among_other_candidates_is_not_drawn(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)

    def record(query: str, missing: dict[str, str]) -> None:
        ended = end(query, probability=0.5)
        decision = replace(ended.task.decision.without(missing), model="sage")
        recorder.on_crossroute_call(ended._replace(task=replace(ended.task, decision=decision)))
        recorder.feedback(decision.call_id or "", 1.0)

    # Calls in which sage alone was left are the most, and compare nothing.
    for number in range(3):
        record(f"Alone {number}?", {"clerk": "it rests", "poet": "it rests"})
    record("Two?", {"poet": "it rests"})
    for number in range(2):
        record(f"All {number}?", {})
    found = records_to_rows(read_records(path))
    drawn = {row["prompt"]: row["outputs"]["sage"].get("probability") for row in found.rows}
    assert drawn == {
        **{f"All {number}?": 0.5 for number in range(2)},
        **{f"Alone {number}?": None for number in range(3)},
        "Two?": None,
    }
    assert (found.used, found.apart) == (6, 4)


def test_calls_that_make_no_row_are_counted_by_the_reason(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    keeping, hashing = Recorder(path), Recorder(path, text="hash")
    cases = [
        (hashing, end()),
        (keeping, end(asks=[asked(error=ValueError())], model=None, error=ValueError())),
        (keeping, end(asks=[asked("poet", "draft"), asked()])),
        (keeping, end("   ")),
        (keeping, end(error=GeneratorExit())),
    ]
    for recorder, ended in cases:
        recorder.on_crossroute_call(ended)
        recorder.feedback(ended.task.decision.call_id, 1.0)
    line = json.loads(path.read_text("utf-8").splitlines()[2])
    line |= {"id": "odd", "query": [{"content": "no role"}]}
    line["asks"], line["model"], line["outcome"] = [dict(line["asks"][0])], "sage", "answered"
    line["asks"][0]["error"] = None
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    keeping.feedback("odd", 1.0)
    found = records_to_rows(read_records(path))
    assert found.skipped == {
        "without the text of the query": 1,
        "failed": 1,
        "answered by several asks": 1,
        "without words in the query": 1,
        "with a query of no known form": 1,
    }
    # Who has left a stream may have liked what there was.
    assert (found.used, len(found.rows)) == (1, 1)


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.floats()
    | strategies.integers(-(10**5000), 10**5000)
    | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=5,
)
MESSAGES = strategies.lists(
    strategies.dictionaries(strategies.sampled_from(["role", "content", "tool_calls", "x"]), JSON)
)


@given(
    field=strategies.sampled_from([*CallRecord.model_fields, "decision.candidates", "asks.0"]),
    value=JSON | MESSAGES,
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_record_is_read_or_refused(
    field: str, value: object, end: End, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    path.unlink(missing_ok=True)
    recorder = Recorder(path)
    recorder.on_crossroute_call(end(call_id="one"))
    recorder.feedback("one", 1.0)
    call, *rest = path.read_text("utf-8").splitlines()
    record = json.loads(call)
    held: Any = record
    *places, last = field.split(".")
    for place in places:
        held = held[place]
    held[int(last) if last.isdigit() else last] = value
    sys.set_int_max_str_digits(0)
    try:
        line = json.dumps(record)
    finally:
        sys.set_int_max_str_digits(4300)
    path.write_text("\n".join([line, *rest]), "utf-8", "replace")
    try:
        read = list(read_records(path))
    except DataError:
        return
    for row in records_to_rows(read).rows:
        Row.model_validate(row)
        json.dumps(row)
    Summary.of(read)


def test_threads_share_a_recorder(end: End, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    recorder = Recorder(path)
    ended = [end() for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(recorder.on_crossroute_call, ended))
    assert {one.id for one in read_records(path)} == {one.task.decision.call_id for one in ended}
    assert recorder.lost == 0


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ({"passwd": "a", "keys": ["a"]}, {"passwd": "***", "keys": ["a"]}),
        ({"passwords": ["a b", None]}, {"passwords": ["***", None]}),
        ({"password": 12345678, "max_tokens": 4096}, {"password": "***", "max_tokens": 4096}),
        ({"password_length": 12, "token": 1500}, {"password_length": 12, "token": 1500}),
        # A schema says of a password what it is.
        ({"password": {"type": "string"}}, {"password": {"type": "string"}}),
        # It stays JSON, so that it can be read again.
        (
            {"arguments": '{"password": "hunter2", "n": 1}'},
            {"arguments": '{"password": "***", "n": 1}'},
        ),
        ({"arguments": '{"password": "hunter2"'}, {"arguments": '{"***"'}),
        ({"arguments": '{"n":1}'}, {"arguments": '{"n":1}'}),
    ],
)
def test_values_are_masked_by_their_names(
    given: dict[str, object], masked: dict[str, object]
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "log_in", **given}}
    (message,) = recorded_messages([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["tool_calls"][0]["function"] == {"name": "log_in", **masked}
