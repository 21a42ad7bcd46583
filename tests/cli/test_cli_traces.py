"""The command `crossroute traces`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from fakes_core import Run

from crossroute import CrossRouter, Query
from crossroute.strategies import Ask, Ended, EndedAsk, Reply, Task
from crossroute.traffic.recorder import Recorder

Write = Callable[[Path], Path]


@pytest.fixture
def records(toy_router: CrossRouter, tmp_path: Path) -> Path:
    """Four calls: two prompts, to each a right answer by sage and a wrong one by poet."""
    path = tmp_path / "records.jsonl"
    recorder = Recorder(path, traces=True)
    for number, (question, model, said, score) in enumerate(
        [
            ("What is 17 * 23?", "sage", "391", 1.0),
            ("What is 17 * 23?", "poet", "It may be 371, or so; mail bob@example.com.", 0.0),
            ("And 2 + 2?", "sage", "4", 1.0),
            ("And 2 + 2?", "poet", "Five, I guess.", 0.2),
        ]
    ):
        messages = [{"role": "user", "content": question}]
        query = Query.of(messages)
        decision = replace(toy_router.route(query, math.inf), call_id=str(number))
        ask = EndedAsk(
            {
                "model": model,
                "role": "answer",
                "input_tokens": 20,
                "output_tokens": len(said.split()),
                "cached_tokens": 0,
                "cost_usd": 0.002,
                "estimated": False,
            },
            None,
            False,
            Ask(model),
            Reply(model, text=said),
            True,
        )
        recorder.on_crossroute_call(
            Ended(Task(decision, query, messages), [ask], model, said, None, 1.0)
        )
        recorder.feedback(str(number), score)
    assert recorder.lost == 0
    return path


def test_rank(run: Run, records: Path, tmp_path: Path) -> None:
    ranked = tmp_path / "ranked.jsonl"
    code, out, err = run("traces", "rank", records, "--out", ranked, "--token-price", 0.4)
    assert code == 0, err
    assert "4 traces of 4 calls" in out
    rows = [json.loads(line) for line in ranked.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["0", "2", "3", "1"]
    assert rows[0]["reward"] == pytest.approx(1 - 0.4 / 8)
    assert rows[0]["asked"] == "answer sage"
    assert "391" not in ranked.read_text("utf-8")
    # The best path first, and the worst trace.
    assert out.index("answer sage") < out.index("answer poet")
    best, _, worst = out.partition("Best:")[2].partition("Worst:")
    assert "-0.400" in worst
    # Each of the four once.
    assert [
        [line.split()[-1] for line in part.strip().splitlines()[:2]] for part in (best, worst)
    ] == [
        ["0", "2"],
        ["1", "3"],
    ]
    code, _, err = run("traces", "rank", records, "--source", "judge")
    assert (code, "4 without feedback" in err) == (1, True)
    assert "of the source 'judge'. Sources there are: user." in err.replace("\n", " ")
    assert run("traces", "rank", records, "--readability", 0.1)[0] == 0
    assert "not in these files" not in err
    Recorder(records).feedback("nope", 1.0)
    code, _, err = run("traces", "rank", records)
    assert (code, "not in these files (mistyped ids?): 1." in err) == (0, True)


@pytest.mark.parametrize("recipe", ["best", "sater"])
@pytest.mark.parametrize("format_", ["sft", "dpo"])
def test_export(format_: str, recipe: str, run: Run, records: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    code, out, err = run(
        *("traces", "export", records, "--format", format_, "--recipe", recipe, "--out", rows)
    )
    assert code == 0, err
    assert "2 rows of 4 examples in 4 traces. Personal data is masked" in out.replace("\n", " ")
    found = datasets.load_dataset(
        "json", data_files=str(rows), split="train", cache_dir=str(tmp_path / "cache")
    )
    said = {"sft": ["prompt", "completion"], "dpo": ["prompt", "chosen", "rejected"]}[format_]
    assert found.column_names == said
    by_prompt = {row["prompt"][0]["content"]: row for row in found}
    right = by_prompt["What is 17 * 23?"][said[1]]
    assert right == [{"role": "assistant", "content": "391"}]
    if format_ == "dpo":
        wrong = by_prompt["What is 17 * 23?"]["rejected"][0]["content"]
        assert wrong == "It may be 371, or so; mail <EMAIL_1>."


def test_personal_data_is_kept_on_request(run: Run, records: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = ("traces", "export", records, "--format", "dpo", "--out", rows)
    code, out, err = run(*command, "--keep-personal-data")
    assert (code, "Personal data is kept" in out) == (0, True), err
    assert "bob@example.com" in rows.read_text("utf-8")


def test_what_makes_no_row_is_said(run: Run, records: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = ("traces", "export", records, "--format", "sft", "--out", rows)
    code, _, err = run(*command, "--least-reward", 2)
    assert (code, "4 with a reward below 2" in err, rows.exists()) == (1, True, False)
    for wrong, said in (
        (("--format", "orpo"), "sft, dpo"),
        (("--roles", "planner"), "There are answer"),
        (("--phone-region", "Mars"), "ISO 3166"),
        (("--out", records), "holds the records"),
        (("--out", "rows.csv"), "ends in .jsonl"),
    ):
        code, _, err = run(*command, *wrong)
        assert (code, said in err.replace("\n", " ")) == (1, True), err
    before = records.read_bytes()
    records.write_bytes(before + b'{"kind": "call", "trace": \n')
    code, _, err = run(*command)
    assert (code, "records.jsonl:9:" in err) == (1, True), err
    code, out, _ = run(*command, "--skip-broken")
    assert (code, "2 rows" in out) == (0, True)
