"""The command `crossroute plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fakes_core import Run, make_rows, write_rows
from fakes_plan import answered_rows

from crossroute import CrossRouter
from crossroute.policy import read_policy
from crossroute.traffic import contenders


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("plan") / "scored.jsonl", make_rows(400, seed=1))


@pytest.fixture
def _without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not what is tested: it takes long."""
    monkeypatch.setattr(contenders, "FEWEST_TO_TRAIN", 10**6)


GOAL = ("--baseline", "sage", "--max-loss", 0.08, "--confidence", 0.9)


def test_it_says_what_to_do_and_writes_it(run: Run, file: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        *("plan", file, *GOAL, "--calls-per-month", 100_000),
        *("--json", tmp_path / "plan.json", "--write", tmp_path / "policy.yaml"),
        *("--out", tmp_path / "report.html"),
    )
    assert code == 0
    assert "Route at a willingness to pay of $" in out
    for model in ("sage", "poet", "clerk"):
        assert model in out
    assert "100,000 calls a month: $" in out
    assert "Who gets the calls" in out
    # The models of the rows are nobody's.
    assert "nothing says how" in out
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["verdict"] == "route"
    assert content["loss_high"] <= 0.08
    assert content["usd_a_month"] < content["baseline_usd_a_month"]
    assert content["saving_low"] <= content["saving"] <= content["saving_high"]
    assert sum(content["shares"].values()) == pytest.approx(1)
    assert {one["router"] for one in content["routers"]} >= {"fixed order", "onboarded"}
    policy = yaml.safe_load((tmp_path / "policy.yaml").read_text())
    assert policy["willingness_to_pay"] == content["willingness_to_pay"]
    assert policy["promised"]["baseline"] == "sage"
    assert policy["data"]["files"] == ["scored.jsonl"]
    # No descriptor says where these models are.
    assert "can be reached: give clients beside the policy" in " ".join(out.split())
    router = CrossRouter.load(tmp_path / policy["router"], reward=policy["reward"])
    assert set(router.pool) == set(policy["models"])
    # No prompt goes into the files that are meant to be kept and shown.
    written = (tmp_path / "policy.yaml").read_text() + (tmp_path / "plan.json").read_text()
    assert "Write a short story" not in written
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.usefixtures("_without_training")
def test_quality_at_least_is_of_the_baselines(run: Run, file: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        *("plan", file, "--baseline", "sage", "--quality-at-least", 0.9, "--confidence", 0.9),
        *("--json", tmp_path / "plan.json"),
    )
    assert code == 0
    content = json.loads((tmp_path / "plan.json").read_text())
    assert (content["kept"], content["max_loss"]) == (0.9, 0)
    assert content["verdict"] == "route"
    assert "90 % of that of sage" in out
    # What may be lost is a tenth of the baseline's mean score.
    assert content["loss_high"] <= 0.1


@pytest.mark.usefixtures("_without_training")
def test_a_budget_buys_the_best_quality_for_it(run: Run, file: Path, tmp_path: Path) -> None:
    code, _, _ = run(
        *("plan", file, "--max-loss", 0.3, "--confidence", 0.9),
        *("--budget-usd-per-month", 300, "--calls-per-month", 1_000_000),
        *("--json", tmp_path / "plan.json"),
    )
    assert code == 0
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["usd_a_month"] <= 300
    # The baseline is the best single model that the budget affords.
    assert content["baseline"] in ("poet", "clerk")


@pytest.mark.usefixtures("_without_training")
def test_a_share_is_kept(run: Run, file: Path, tmp_path: Path) -> None:
    code, _, _ = run(
        *("plan", file, *GOAL, "--share", "poet=0.3", "--json", tmp_path / "plan.json")
    )
    assert code == 0
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["shares"].get("poet", 0) <= 0.3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--baseline", "saga"), "did you mean 'sage'"),
        (("--max-loss", 0.1, "--quality-at-least", 0.9), "one of --max-loss and --quality"),
        (("--budget-usd-per-month", 5), "needs --calls-per-month"),
        (("--share", "poet"), "give MODEL=0.3"),
        (("--share", "poet=much"), "give MODEL=0.3"),
        (("--share", "prose=0.3"), "prose"),
        (("--share", "poet=1.5"), "give a number from 0 to 1"),
        (("--confidence", 1.0), "confidence is 1.0"),
        (("--max-loss", 0), "max_loss is 0"),
    ],
)
def test_bad_options_say_what_to_give(
    run: Run, file: Path, options: tuple[object, ...], said: str
) -> None:
    code, _, err = run("plan", file, *options)
    assert code == 1
    assert said in err


def test_a_log_says_what_to_collect_and_writes_no_policy(run: Run, tmp_path: Path) -> None:
    rows = make_rows(100)
    for row in rows:
        row["outputs"] = {"sage": row["outputs"]["sage"]}  # type: ignore[index]
    log = write_rows(tmp_path / "log.jsonl", rows)
    code, out, err = run("plan", log, "--write", tmp_path / "policy.yaml")
    assert code == 1
    assert "collect" in out
    assert "nothing to write" in err
    assert not (tmp_path / "policy.yaml").exists()


@pytest.mark.parametrize("option", ["--write", "--out", "--json"])
def test_a_folder_that_is_not_there_is_said_before_the_work(
    run: Run, file: Path, tmp_path: Path, option: str
) -> None:
    code, out, err = run("plan", file, *GOAL, option, tmp_path / "missing" / "file")
    assert code == 1
    assert "make the folder" in err
    assert not out


@pytest.mark.usefixtures("_without_training")
def test_answers_let_models_be_asked_in_turn(run: Run, tmp_path: Path) -> None:
    rows, answers = answered_rows(500, seed=1)
    file = write_rows(tmp_path / "scored.jsonl", rows)
    goal = ("--baseline", "sage", "--max-loss", 0.1, "--confidence", 0.9)
    code, _, error = run("plan", file, *goal, "--answers", tmp_path)
    assert code == 1
    assert "has answers to none of scored" in " ".join(error.split())
    (tmp_path / "scored.json").write_text(json.dumps(answers), "utf-8")
    code, out, _ = run(
        *("plan", file, *goal, "--answers", tmp_path),
        *("--write", tmp_path / "policy.yaml", "--json", tmp_path / "plan.json"),
    )
    assert code == 0
    said = " ".join(out.split())
    assert "Route among single models and strategies" in said
    assert "is a strategy: " in said
    content = json.loads((tmp_path / "plan.json").read_text())
    assert any(", then " in name for name in content["shares"])
    assert all(set(models) <= {"clerk", "poet", "sage"} for models in content["strategies"])
    assert "onboarded, with strategies" in {one["router"] for one in content["routers"]}
    policy = read_policy(tmp_path / "policy.yaml")
    panels = policy.load_strategy(tmp_path / "policy.yaml").panels.panels
    assert [list(panel.models) for panel in panels] == content["strategies"]
    # No prompt goes into the file that is meant to be kept.
    assert "Which of the options" not in (tmp_path / "policy.strategies.json").read_text("utf-8")
