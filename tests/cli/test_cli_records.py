"""The command `crossroute records`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_core import Run

from crossroute import CrossRouter, Query
from crossroute.exploration import Exploration
from crossroute.strategies import Ended, EndedAsk, Task
from crossroute.traffic.recorder import Recorder
from crossroute.training.data import RoutingData


@pytest.fixture
def ended(toy_router: CrossRouter) -> Ended:
    messages = [{"role": "user", "content": "What is 4711 * 12?"}]
    query = Query.of(messages)
    decision = replace(toy_router.route(query, math.inf), call_id="one")
    assert decision.model == "sage"
    ask = EndedAsk(
        {
            "model": "sage",
            "role": "answer",
            "input_tokens": 20,
            "output_tokens": 5,
            "cached_tokens": 0,
            "cost_usd": 0.002,
            "estimated": False,
        },
        None,
        False,
    )
    return Ended(Task(decision, query, messages), [ask], "sage", "56532", None, 1.0)


@pytest.fixture
def file(ended: Ended, tmp_path: Path) -> Path:
    """Three calls by sage, the last in shadow; the first two have feedback."""
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path)
    shadow = Exploration.of(["sage", "poet"], shadow="sage")
    for number in range(3):
        decision = replace(ended.task.decision, call_id=str(number))
        if number == 2:
            decision = shadow.chosen(decision, [])
        recorder.on_crossroute_call(ended._replace(task=replace(ended.task, decision=decision)))
    recorder.feedback("0", 1.0)
    recorder.feedback("1", 0.5)
    recorder.feedback("1", 0.0, source="judge")
    return path


def test_rows(run: Run, file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "scored.jsonl"
    code, out, err = run("records", "rows", file, "--out", rows)
    assert code == 0, err
    assert "1 rows of 2 calls" in out
    assert "sage 1" in out
    assert "1 without feedback" in err
    data = RoutingData.load([rows])
    assert data.models == ("sage",)
    assert data.score[0, 0] == pytest.approx(0.625)
    code, *_ = run("records", "rows", file, "--out", rows, "--source", "judge")
    assert code == 0
    assert RoutingData.load([rows]).score[0, 0] == 0


def test_without_feedback_there_are_no_rows(run: Run, file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "scored.jsonl"
    code, _, err = run("records", "rows", file, "--out", rows, "--source", "nobody")
    assert code == 1
    assert "3 without feedback" in err
    assert not rows.exists()
    code, _, err = run("records", "rows", file, "--out", tmp_path / "scored.csv")
    assert (code, "ends in .jsonl" in err) == (1, True)


def test_show(run: Run, file: Path) -> None:
    code, out, err = run("records", "show", file)
    assert code == 0, err
    assert "3 calls" in out
    (line,) = [line for line in out.splitlines() if line.startswith("sage")]
    cells = line.split()
    assert cells[:4] == ["sage", "3", "100%", "$0.0060"]
    assert (cells[5], cells[7]) == ("0.625", "2")
    assert "1 calls, of which 1 went to its own choice" in out
    assert "not in these files" not in err
    Recorder(file).feedback("nope", 1.0)
    Recorder(file).feedback("nope", 0.0, source="judge")
    assert "not in these files (mistyped ids?): 2." in run("records", "show", file)[2]
    found = json.loads(run("records", "show", file, file, "--json")[1])
    assert found["feedback_on_no_call"] == 2
    assert (found["calls"], found["shadowed"], found["models"]["sage"]["scored"]) == (6, 2, 4)


def test_show_of_nothing_and_of_what_is_broken(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("", "utf-8")
    assert "no calls" in run("records", "show", path)[1]
    path.write_text("nonsense\n", "utf-8")
    code, _, err = run("records", "show", path)
    assert (code, "records.jsonl:1:" in err) == (1, True)
    assert run("records", "show", path, "--skip-broken")[0] == 0


@pytest.mark.parametrize("suffix", [".jsonl", ".db"])
def test_feedback(suffix: str, run: Run, ended: Ended, tmp_path: Path) -> None:
    path = tmp_path / f"records{suffix}"
    Recorder(path).on_crossroute_call(ended)
    code, _, err = run("records", "feedback", path, "one", 0.25, "--source", "editor")
    assert code == 0, err
    found = json.loads(run("records", "show", path, "--json")[1])
    assert found["models"]["sage"]["score"] == 0.25
    code, _, err = run("records", "feedback", path, "one", 2)
    assert (code, "score" in err) == (1, True)
    code, _, _ = run("records", "feedback", tmp_path, "one", 1)
    assert code == 1
    wrong = tmp_path / f"recrods{suffix}"
    code, _, err = run("records", "feedback", wrong, "one", 1)
    assert (code, "there is no such file" in err, wrong.exists()) == (1, True, False)


@pytest.mark.parametrize("order", [["old", "new"], ["new", "old"]])
def test_feedback_is_found_in_another_file(
    order: list[str], run: Run, ended: Ended, tmp_path: Path
) -> None:
    # The file was moved away between the call and its feedback.
    Recorder(tmp_path / "old.jsonl").on_crossroute_call(ended)
    Recorder(tmp_path / "new.jsonl").feedback("one", 0.25)
    files, rows = [tmp_path / f"{name}.jsonl" for name in order], tmp_path / "scored.jsonl"
    code, _, err = run("records", "rows", *files, "--out", rows)
    assert code == 0, err
    assert json.loads(rows.read_text("utf-8"))["outputs"]["sage"]["score"] == 0.25
    found = json.loads(run("records", "show", *files, "--json")[1])
    assert found["models"]["sage"]["score"] == 0.25
    code, out, _ = run("monitor", *files, "--scores-out", tmp_path / "scores")
    assert (code, "Scores of 1 of 1 calls" in out) == (0, True)
