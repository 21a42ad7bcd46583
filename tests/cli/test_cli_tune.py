"""The command `crossroute tune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes_core import Run, make_rows

from crossroute import CrossRouter


def write(path: Path, prompts: list[object]) -> Path:
    path.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts), "utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = [row["prompt"] for row in make_rows(200, seed=5)]
    return write(tmp_path_factory.mktemp("tune") / "prompts.jsonl", prompts)


def test_it_finds_a_share_and_says_how_to_use_it(run: Run, file: Path, toy_folder: Path) -> None:
    code, out, err = run("tune", file, "--share", "sage=0.3", "--checkpoint", toy_folder)
    assert code == 0, err
    assert out.startswith("Willingness to pay: ")
    assert "Asked: 30 % for sage." in out
    assert "sage: 30.0%, +- 6.4 points" in out
    assert "Expected, by 200 prompts (95 %)" in out
    assert "to be within 3 points, give 897 prompts" in out
    # What it says to use gives that share.
    (line,) = [line for line in out.splitlines() if "route(prompt, " in line]
    prompts = [json.loads(line)["prompt"] for line in file.read_text("utf-8").splitlines()]
    router = CrossRouter.load(toy_folder)
    found = [eval(line, {"router": router, "prompt": prompt}).model for prompt in prompts]
    assert found.count("sage") == 60


def test_json_has_all_of_it(run: Run, file: Path, toy_folder: Path) -> None:
    at = ("tune", file, "--checkpoint", toy_folder, "--json")
    code, out, err = run(*at, "--share", "sage=0.2", "--share", "poet=0.3", "-w", "0.004")
    assert code == 0, err
    found = json.loads(out)
    assert found["willingness_to_pay"] == 0.004
    assert found["asked"] == {"shares": {"sage": 0.2, "poet": 0.3}}
    assert found["shares"]["poet"] == pytest.approx(0.3, abs=0.006)
    most = json.loads(run(*at, "--cost-usd", 1)[1])
    assert most["willingness_to_pay"] == "inf"
    cheap = json.loads(run(*at, "--cost-usd", most["cost_usd"] / 2)[1])
    assert cheap["reached"]
    assert cheap["cost_usd"] <= most["cost_usd"] / 2
    good = json.loads(run(*at, "--quality", cheap["quality"])[1])
    assert good["quality"] == pytest.approx(cheap["quality"])
    only = json.loads(run(*at, "--share", "sage=0.5", "-m", "sage", "-m", "poet")[1])
    assert set(only["shares"]) == {"sage", "poet"}


def test_later_prompts_are_held_against_it(
    run: Run, file: Path, toy_folder: Path, tmp_path: Path
) -> None:
    at = ("tune", file, "--share", "clerk=0.4", "--checkpoint", toy_folder)
    same = write(tmp_path / "same.jsonl", [row["prompt"] for row in make_rows(200, seed=6)])
    code, out, _ = run(*at, "--later", same)
    assert code == 0
    assert "Fine: 200 later prompts do not surely drift from it." in out
    stories = [f"Write a short story about a lynx and {n} wrens." for n in range(300)]
    code, out, err = run(*at, "--later", write(tmp_path / "other.jsonl", stories))
    assert code == 3
    assert "Drift: clerk gets " in out
    assert "not 40.0% as it was tuned to" in out
    assert "Drift" not in err
    code, out, _ = run(*at, "--later", tmp_path / "other.jsonl", "--json")
    assert code == 3
    later = json.loads(out)["later"]
    assert later["prompts"] == 300
    assert "clerk gets " in later["drift"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Give one of --share, --cost-usd and --quality."),
        (["--share", "sage=0.3", "--quality", "0.5"], "Give one of --share, --cost-usd and"),
        (["--share", "sag=0.3"], "Model 'sag' is not in the pool; did you mean 'sage'?"),
        (["--share", "sage"], "--share is 'sage'; give MODEL=0.3."),
        (["--share", "sage=1.5"], "The share of sage is 1.5; give a number from 0 to 1"),
        (["--share", "sage=-0.5"], "The share of sage is -0.5"),
        (["--share", "sage=0.3", "--share", "sage=0.4"], "--share is given twice for sage"),
        (["--share", "sage=0.8", "--share", "poet=0.4"], "The shares are 1.2 together"),
        (["--share", "sage=0.3", "-w", "inf"], "willingness_to_pay is infinite"),
        (["--quality", "0.9", "-w", "1"], "--willingness-to-pay goes with --share only"),
        (["--quality", "90"], "The mean quality is 90.0; give a number from 0 to 1."),
        (["--quality", "1"], "a mean quality of at least 1 cannot be had. Even the best models"),
        (["--cost-usd", "-1"], "The mean cost is -1.0"),
        (["--cost-usd", "0"], "cannot be had. Even the cheapest models cost $"),
        (["--share", "sage=0.3", "--later", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    ],
)
def test_it_says_what_is_wrong(
    run: Run, file: Path, toy_folder: Path, options: list[str], said: str
) -> None:
    code, out, err = run("tune", file, "--checkpoint", toy_folder, *options)
    assert code == 1
    assert said in " ".join(err.split())
    assert not out


def test_a_file_without_prompts_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n", "utf-8")
    code, _, err = run("tune", tmp_path / "none.jsonl", "--share", "gpt-5.5=0.3")
    assert code == 1
    assert "none.jsonl: holds no prompt" in err


def test_a_share_that_cannot_be_had_is_an_error(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    alike = write(tmp_path / "alike.jsonl", ["What is 3 * 4?"] * 40)
    at = ("tune", alike, "--checkpoint", toy_folder)
    code, out, err = run(*at, "--share", "sage=0.3", "--json")
    assert code == 1
    assert not out
    said = " ".join(err.split())
    assert "30 % for sage cannot be had. sage gets 0.0% at the nearest, not 30.0%: prompts" in said
    assert "Ask for that, or give other candidates" in said
    assert run(*at, "--share", "sage=0")[0] == 0
