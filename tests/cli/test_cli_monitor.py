"""`crossroute monitor`."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fakes_core import Run
from fakes_monitor import CHEAP, DEAR, USUAL, World, policy, records, write_records

from crossroute import CrossRouter, ModelDescriptor
from crossroute.traffic.recorder import Recorder

FINE = [USUAL] * 2
OFF = [USUAL, replace(USUAL, share=0.8, dearer=1.6, worse=0.5, failing=0.3)]


@pytest.fixture
def promise(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy().model_dump(mode="json", exclude_none=True)), "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".sqlite"])
def test_matching_traffic_is_fine(suffix: str, run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / f"records{suffix}", FINE)
    code, out, err = run("monitor", path, "--policy", promise)
    assert (code, err) == (0, "")
    assert out.startswith("Fine: ")
    for start in ("2026-11-01 00:00", "2026-11-02 00:00", "together"):
        (line,) = [line for line in out.splitlines() if line.startswith(start)]
        assert f" {600 if start == 'together' else 300} " in line
        assert line.endswith("s")
    share = policy().promised.shares[DEAR]
    assert f"{DEAR}: 4" in out
    assert f"promised {share:.0%}." in out


def test_alarms_exit_with_3(run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", OFF)
    file = tmp_path / "figures.json"
    code, out, err = run("monitor", path, "--policy", promise, "--json", file)
    assert (code, err) == (3, "")
    alarms = [line for line in out.splitlines() if line.startswith("Alarm: ")]
    assert len(alarms) >= 4
    assert any(f"Alarm: {DEAR} gets" in line for line in alarms)
    (line,) = [line for line in out.splitlines() if line.startswith("2026-11-02")]
    assert f"share {DEAR}" in line
    assert f"failures {CHEAP}" in line
    (line,) = [line for line in out.splitlines() if line.startswith("2026-11-01")]
    assert line.endswith("s")
    found = json.loads(file.read_text("utf-8"))
    assert [f"Alarm: {one['text']}" for one in found["alarms"]] == alarms
    assert found["broken"] == 0
    assert [one["calls"] for one in found["windows"]] == [300, 300]
    assert found["together"]["saving"] < policy().promised.saving
    assert {one["kind"] for one in found["figures"] if one["sure"] and one["large"]} == {
        one["kind"] for one in found["alarms"]
    }
    # Options say from where on it matters.
    options = ("--share-off", 0.9, "--cost-off", 9, "--quality-off", 0.9)
    options += ("--max-loss", 0.9, "--failures", 0.9)
    code, out, _ = run("monitor", path, "--policy", promise, *options)
    assert (code, out[:5]) == (0, "Fine:")
    assert run("monitor", path, "--policy", promise, "--last", 1)[0] == 3


def test_several_files_and_windows_of_calls(run: Run, tmp_path: Path) -> None:
    first = write_records(tmp_path / "first.jsonl", [USUAL], 40)
    second = write_records(tmp_path / "second.db", [USUAL], 40)
    code, out, _ = run("monitor", first, second, "--window", 50)
    assert code == 0
    assert "Without a policy" in out
    counts = [int(line.split()[2]) for line in out.splitlines() if line.startswith("2026-11-01")]
    assert counts == [50, 30]
    code, _, err = run("monitor", first, "--window", "week")
    assert (code, "give day, hour or a number" in err) == (1, True)


def test_many_windows_are_cut_short(run: Run, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", [USUAL] * 40, 2)
    out = run("monitor", path)[1]
    assert "... 9 windows before" in out
    assert "2026-11-09 00:00" not in out
    assert "2026-11-10 00:00" in out


def test_too_few_records_are_fine(run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", [World(dearer=9.0)], 5)
    code, out, _ = run("monitor", path, "--policy", promise)
    assert code == 0
    assert "5 calls are too few to say anything: 30 at least." in out
    assert "Fine" not in out
    path.write_text("", "utf-8")
    code, out, _ = run("monitor", path, "--policy", promise)
    assert (code, "0 calls are too few" in out) == (0, True)


def test_broken_records_are_counted(run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", FINE)
    with path.open("a", encoding="utf-8") as file:
        file.write('nonsense\n{"kind": "call"}\n')
    figures = tmp_path / "figures.json"
    code, _, err = run("monitor", path, "--policy", promise, "--json", figures)
    assert code == 0
    assert "Left out: 2 broken records" in err
    assert f"{path}:" in err
    assert json.loads(figures.read_text("utf-8"))["broken"] == 2
    path.write_text("nonsense\n", "utf-8")
    code, _, err = run("monitor", path)
    assert (code, "All 1 records are broken" in err) == (1, True)


def test_what_cannot_be_read_is_an_error(run: Run, promise: Path, tmp_path: Path) -> None:
    assert run("monitor", tmp_path / "none.jsonl")[0] == 1
    path = write_records(tmp_path / "records.jsonl", FINE)
    promise.write_text("models: 3\n", "utf-8")
    code, _, err = run("monitor", path, "--policy", promise)
    assert (code, "not a policy" in err) == (1, True)


def test_scores_say_how_to_onboard(run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", [replace(USUAL, rated=0.3)], 100)
    folder = tmp_path / "new scores"
    code, out, _ = run("monitor", path, "--policy", promise, "--scores-out", folder)
    assert code == 0
    scored = sum(one.score() is not None for one in records([replace(USUAL, rated=0.3)], 100))
    assert f"Scores of {scored} of 100 calls" in out
    assert f"{100 - scored} without feedback" in out
    assert f"{DEAR}: " in out
    assert "too few to onboard it: 20 at least" in out


def test_the_command_that_is_told_works(
    run: Run, toy_router: CrossRouter, promise: Path, tmp_path: Path
) -> None:
    """With a router whose model has the id of the traffic's."""
    text = tmp_path.joinpath("records.jsonl")
    write_records(text, [World(rated=1.0)], 100)
    renamed = text.read_text("utf-8").replace(DEAR, "sage").replace(CHEAP, "poet")
    text.write_text(renamed, "utf-8")
    toy_router.save(tmp_path / "policy.router")
    content = promise.read_text("utf-8").replace(DEAR, "sage").replace(CHEAP, "poet")
    promise.write_text(content, "utf-8")
    code, out, _ = run("monitor", text, "--policy", promise, "--scores-out", tmp_path / "scores")
    assert code == 0
    commands = [line for line in out.splitlines() if line.startswith("  crossroute ")]
    assert len(commands) == 2
    for command in commands:
        code, _, err = run(*shlex.split(command)[1:])
        assert code == 0, err
    new = ModelDescriptor.load(tmp_path / "scores" / "models" / "poet.yaml")
    assert new.learned is not None
    assert new.learned.source == "scores"
    before = ModelDescriptor.load(tmp_path / "policy.router" / "models" / "poet.yaml")
    assert before.learned is not None
    assert before.learned.source != "scores"


def test_records_without_text_make_no_scores(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [USUAL], 40)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        line.pop("query", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    code, out, _ = run("monitor", path, "--scores-out", tmp_path / "scores")
    assert code == 0
    assert "there are no scores" in out
    assert "without the text of the query" in out
    assert not (tmp_path / "scores").exists()


def test_feedback_of_a_recorder_is_heard(run: Run, promise: Path, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.db", [World(rated=0.0)], 60)
    recorder = Recorder(path)
    for number in range(60):
        recorder.feedback(f"0-{number}", 0.0)
    assert recorder.lost == 0
    code, out, _ = run("monitor", path, "--policy", promise)
    assert code == 3
    assert "mean score 0.000 of 60 with feedback" in out


def test_the_page_names_options_and_files_that_are_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "traffic" / "monitor.md"
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    monkeypatch.setenv("COLUMNS", "200")
    known = set(re.findall(r"--[a-z-]+", run("monitor", "--help")[1]))
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= known
    table = next(part for part in text.split("\n\n") if part.startswith("| option |"))
    assert known - {"--help", "--policy", "--write"} == set(re.findall(r"`(--[a-z-]+)", table))
