"""The command `crossroute allocate`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fakes_core import Run, make_rows, write_rows

from crossroute import CrossRouter

PROMPTS = [str(row["prompt"]) for row in make_rows(60, seed=5)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("allocate") / "prompts.jsonl"
    # A prompt twice is two to be answered.
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in [*PROMPTS, PROMPTS[0]]]
    path.write_text("".join(lines), "utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def budget_of(folder: Path) -> float:
    cost = CrossRouter.load(folder).predict(PROMPTS).cost_usd
    return float(cost.min(axis=1).sum() + cost.max(axis=1).sum()) / 2


def test_it_writes_a_decision_a_prompt(
    run: Run, file: Path, toy_folder: Path, tmp_path: Path
) -> None:
    result, budget = tmp_path / "decisions.jsonl", budget_of(toy_folder)
    code, out, err = run(
        "allocate", file, "--budget-usd", budget, "--out", result, "--checkpoint", toy_folder
    )
    assert code == 0, err
    assert out.startswith("61 queries: at most $")
    assert "realised: not checked" in out
    assert f"Wrote 61 decisions: {result}" in out
    found = lines_of(result)
    assert [one["position"] for one in found] == [*range(61)]
    assert sum(one["cost_usd"] for one in found) <= budget
    expected = CrossRouter.load(toy_folder).allocate([*PROMPTS, PROMPTS[0]], budget_usd=budget)
    assert [one["model"] for one in found] == expected.models


def test_limits_and_held_out_rows(run: Run, file: Path, toy_folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "decisions.jsonl"
    rows = write_rows(tmp_path / "rows.jsonl", make_rows(300, seed=12))
    code, out, err = run(
        *("allocate", file, "--min-quality", 0.8, "--out", result, "--checkpoint", toy_folder),
        *("--max-share", "poet=0.25", "--max-concurrent", "clerk=3", "--held-out", rows),
    )
    assert code == 0, err
    assert "held-out rows, decided alike" in out
    models = [one["model"] for one in lines_of(result)]
    assert models.count("poet") <= 15
    assert models.count("clerk") <= 3


def test_a_link_stays_one(run: Run, file: Path, toy_folder: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "of_today.jsonl", tmp_path / "decisions.jsonl"
    target.touch()
    link.symlink_to(target)
    code, _, err = run(
        "allocate", file, "--budget-usd", 1, "--out", link, "--checkpoint", toy_folder
    )
    assert code == 0, err
    assert link.is_symlink()
    assert len(lines_of(target)) == 61


def test_nothing_is_written_where_it_cannot_be_had(
    run: Run, file: Path, toy_folder: Path, tmp_path: Path
) -> None:
    result = tmp_path / "decisions.jsonl"
    at = ("allocate", file, "--out", result, "--checkpoint", toy_folder)
    code, _, err = run(*at, "--budget-usd", 1e-9)
    assert code == 1
    assert "does not pay for 61 queries: the least" in err
    assert "Nothing was written; change --budget-usd" in err
    code, _, err = run(*at, "--min-quality", 1)
    assert code == 1
    assert "change --min-quality" in err
    assert not result.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Give one of --budget-usd and --min-quality."),
        (("--budget-usd", 1, "--min-quality", 0.5), "Give one of --budget-usd and --min-quality."),
        (("--budget-usd", -1), "budget_usd is -1"),
        (("--budget-usd", 1, "--max-share", "sage"), "--max-share is 'sage'; give MODEL=0.3"),
        (("--budget-usd", 1, "--max-share", "sage=-0.5"), "max_share of sage is -0.5"),
        (("--budget-usd", 1, "--max-share", "sag=0.5"), "did you mean 'sage'"),
        (("--budget-usd", 1, "--max-concurrent", "sage=x"), "give MODEL=50"),
        (
            ("--budget-usd", 1, "--max-concurrent", "sage=1", "--max-concurrent", "sage=2"),
            "given twice for sage",
        ),
        (("--budget-usd", 1, "--model", "sag"), "did you mean 'sage'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Run, file: Path, toy_folder: Path, tmp_path: Path, options: tuple[Any, ...], said: str
) -> None:
    code, _, err = run(
        "allocate", file, "--out", tmp_path / "x.jsonl", "--checkpoint", toy_folder, *options
    )
    assert code == 1
    assert said in err
    code, _, err = run(
        *("allocate", file, "--budget-usd", 1, "--out", tmp_path / "no" / "x.jsonl"),
        *("--checkpoint", toy_folder),
    )
    assert code == 1
    assert "make the folder" in err
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for result in (tmp_path, pipe):
        code, _, err = run(
            "allocate", file, "--budget-usd", 1, "--out", result, "--checkpoint", toy_folder
        )
        assert code == 1
        assert "is a folder or a device" in err
