from __future__ import annotations

import json
from pathlib import Path

from fakes_core import Run


def test_traffic_import_says_what_it_read_and_what_not(run: Run, tmp_path: Path) -> None:
    log, prompts = tmp_path / "log.jsonl", tmp_path / "prompts.jsonl"
    lines = [{"prompt": "One?"}, {"prompt": "One? "}, {"prompt": "sk-abcdefghijklmnop1?"}, {"x": 1}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    code, out, err = run("traffic", "import", log, "--out", prompts)
    assert code == 0
    assert "2 prompts (read: 3 in plain prompts; 1 duplicates dropped)" in out
    assert "In 1 prompts" in out
    assert f"1 x a record of no known format: {log}:4" in err
    # What is made of it is read by the other commands.
    pair = ("gpt-5.2@high", "gpt-5.4-mini")
    code, _, err = run("models", "compare", *pair, "--prompts", prompts)
    assert code == 0, err


def test_traffic_import_takes_a_sample(run: Run, tmp_path: Path) -> None:
    log, prompts = tmp_path / "log.txt", tmp_path / "prompts.jsonl"
    log.write_text("\n".join(f"Number {number}?" for number in range(9)), "utf-8")
    code, out, _ = run("traffic", "import", log, "--out", prompts, "--sample", "4")
    assert code == 0
    assert "4 prompts, a sample of 9 (" in out
    assert len(prompts.read_text("utf-8").splitlines()) == 4


def test_traffic_import_fails_where_nothing_is_read(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"x": 1}\n', "utf-8")
    code, _, err = run("traffic", "import", log, "--out", tmp_path / "prompts.jsonl")
    assert code == 1
    assert "No prompt could be read" in err
    assert not (tmp_path / "prompts.jsonl").exists()
