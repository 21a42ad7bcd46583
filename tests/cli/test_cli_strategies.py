"""`crossroute train --answers` and `crossroute evaluate --answers`."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from fakes_core import QUICK, SHARED_DATA, Run, write_rows

from crossroute import CrossRouter
from crossroute.evaluation.metrics import Hull
from crossroute.evaluation.strategies import compare_strategies
from crossroute.strategies import Panels
from crossroute.training import strategies
from crossroute.training.answers import load_answers
from crossroute.training.data import RoutingData
from crossroute.training.strategies import choose_strategies

LEVELS = {"left": 0.7, "right": 0.7, "middle": 0.75, "best": 0.85}
USD = {"left": 0.001, "right": 0.0012, "middle": 0.004, "best": 0.03}


def world(folder: Path, count: int = 600, name: str = "sums") -> tuple[Path, Path]:
    """Rows of models that err apart, and the folder of what they answered."""
    chance = random.Random(0)
    rows, answers = [], {}
    for number in range(count):
        a, b = chance.randint(10, 999), chance.randint(10, 999)
        truth = str(a * b)
        labels = {
            model: truth if chance.random() < level else str(a * b + chance.randint(1, 9))
            for model, level in LEVELS.items()
        }
        rows.append(
            {
                "id": f"{name}/{number}",
                "prompt": f"What is {a} * {b}? ({number})",
                "dataset": name,
                "split": ("train", "train", "train", "valid", "holdout")[number % 5],
                "outputs": {
                    model: {
                        "score": float(labels[model] == truth),
                        "cost_usd": USD[model] * chance.uniform(0.8, 1.2),
                    }
                    for model in LEVELS
                },
            }
        )
        answers[f"{name}/{number}"] = labels
    (folder / "answers").mkdir()
    (folder / "answers" / f"{name}.json").write_text(json.dumps(answers))
    return write_rows(folder / f"{name}.jsonl", rows), folder / "answers"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A file of rows, what was answered, and a checkpoint that was trained on them."""
    from crossroute.training.train import train

    folder = tmp_path_factory.mktemp("strategies")
    file, answers = world(folder)
    train(RoutingData.load([file]), settings=QUICK).save(folder / "checkpoint")
    return file, answers, folder / "checkpoint"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, whatever trains it."""
    monkeypatch.setattr("crossroute.training.train.Settings", lambda: QUICK)


def test_strategies_are_measured_beside_routing_alone(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    file, answers, checkpoint = trained
    arguments = ("--checkpoint", checkpoint, "--answers", answers, "--split", "holdout")
    code, out, err = run("evaluate", file, *arguments, "--json", tmp_path / "out.json")
    assert code == 0, err
    assert "with strategies" in out
    content = json.loads((tmp_path / "out.json").read_text())
    assert list(content) == ["sums"]
    found = content["sums"]
    for name in ("routing", "strategies"):
        assert set(found[name]) == {"aiq", "best_quality", "cost_at_best_single", "points"}
        costs, qualities = np.array(found[name]["points"]).T
        assert (np.diff(costs) >= 0).all()
        assert qualities.max() == pytest.approx(found[name]["best_quality"])
        hull = Hull.of(costs, qualities)
        singles = RoutingData.load([file]).of_split("holdout").cost_usd.mean(axis=0)
        assert hull.aiq(singles.min(), singles.max()) == pytest.approx(found[name]["aiq"])
    assert found["results"][0]["aiq"] == pytest.approx(found["routing"]["aiq"])
    assert found["strategies"]["best_quality"] > found["routing"]["best_quality"] + 0.03
    assert found["gain"]["low"] > 0
    assert found["panels"]
    assert found["answered"] == found["prompts"] == 120


def test_nothing_is_chosen_on_the_rows_that_are_measured(
    run: Run, trained: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RoutingData] = []

    def choose(router: CrossRouter, data: RoutingData, *_: Any, **__: Any) -> dict[str, Any]:  # noqa: ANN401
        seen.append(data)
        return {}

    monkeypatch.setattr("crossroute.evaluation.strategies.choose_strategies", choose)
    file, answers, checkpoint = trained
    for split, others in (("holdout", {"train", "valid"}), ("valid", {"train"})):
        arguments = ("--checkpoint", checkpoint, "--answers", answers, "--split", split)
        code, _, err = run("evaluate", file, *arguments)
        assert code == 0, err
        assert set(seen.pop().split) == others


def test_each_row_is_predicted_by_a_router_that_has_not_learned_from_it(
    trained: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, answers, checkpoint = trained
    router, data = CrossRouter.load(checkpoint), RoutingData.load([file])
    learned: list[set[str]] = []
    predicted: list[tuple[int, set[str]]] = []

    def train(data: RoutingData, **_: Any) -> CrossRouter:  # noqa: ANN401
        learned.append({str(prompt) for prompt in data.prompts})
        # Other objects, so that it is seen which of them predicts.
        return router.over(router.pool)

    def predict(routers: Any, data: RoutingData) -> Any:  # noqa: ANN401
        predicted.extend(
            (half, {str(prompt)})
            for half, prompt in zip(strategies._halves(data), data.prompts, strict=True)
        )
        return original(routers, data)

    original = strategies._predicted
    monkeypatch.setattr("crossroute.training.train.train", train)
    monkeypatch.setattr(strategies, "_predicted", predict)
    rows = data.select(data.split != "holdout")
    choose_strategies(router, rows, load_answers(answers, ["sums"]))
    assert len(learned) == 2
    assert len(predicted) == len(rows)
    assert all(not learned[half] & prompts for half, prompts in predicted)


@pytest.mark.usefixtures("quick")
def test_training_writes_the_strategies_and_evaluation_reads_them(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    file, answers, _ = trained
    folder = tmp_path / "checkpoint"
    code, out, err = run("train", file, "--answers", answers, "--out", folder)
    assert code == 0, err
    assert "Strategies for sums: " in out
    panels = Panels.load(folder / "strategies.json")
    assert panels.panels
    assert panels.checkpoint == CrossRouter.load(folder).checkpoint.id
    arguments = ("--checkpoint", folder, "--answers", answers, "--split", "holdout")
    code, out, err = run("evaluate", file, *arguments)
    assert code == 0, err
    assert "Chosen: When the checkpoint was trained." in out
    assert " then ".join(panels.panels[0].models).replace(" then", ", then") in out

    damaged = panels.model_copy(update={"checkpoint": "0123456789ab"})
    damaged.save(folder / "strategies.json")
    code, _, err = run("evaluate", file, *arguments)
    assert code != 0
    assert "0123456789ab" in err
    assert "train with --answers again" in err


@pytest.mark.usefixtures("quick")
def test_training_without_answers_removes_what_an_older_checkpoint_had(
    run: Run, toy_file: Path, toy_folder: Path
) -> None:
    (toy_folder / "strategies.json").write_text("{}")
    code, _, err = run("train", toy_file, "--out", toy_folder)
    assert code == 0, err
    assert not (toy_folder / "strategies.json").exists()


def test_a_folder_without_answers_is_said_before_anything_is_trained(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    code, _, err = run("train", trained[0], "--answers", tmp_path, "--out", tmp_path / "new")
    assert code != 0
    assert "has answers to none of sums" in err
    assert not (tmp_path / "new").exists()


def test_where_figures_cannot_be_written_is_said_before_the_work(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    code, out, err = run("evaluate", trained[0], "--json", tmp_path / "new" / "out.json")
    assert code != 0
    assert not out
    assert "make the folder" in " ".join(err.split())


def test_a_split_without_rows_is_said(run: Run, trained: tuple[Path, Path, Path]) -> None:
    file, answers, checkpoint = trained
    arguments = ("--checkpoint", checkpoint, "--answers", answers, "--split", "dev")
    code, _, err = run("evaluate", file, *arguments)
    assert code != 0
    assert "'dev'" in err


def test_without_rows_to_choose_on_there_are_none(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    file, answers, checkpoint = trained
    held = [json.loads(line) for line in file.read_text().splitlines()]
    held = [row for row in held if row["split"] == "holdout"]
    only = write_rows(tmp_path / "sums.jsonl", held)
    arguments = ("--checkpoint", checkpoint, "--answers", answers, "--split", "holdout")
    code, out, err = run("evaluate", only, *arguments, "--json", tmp_path / "out.json")
    assert code == 0, err
    assert "No strategies" in out
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())["sums"]
    assert found["strategies"] == found["routing"]
    assert found["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the routing data is not here")
def test_the_labels_of_real_rows_are_read() -> None:
    data = RoutingData.load([SHARED_DATA / "zeroeval.jsonl.gz"])
    answers = load_answers(SHARED_DATA / "answers", ["zeroeval"])
    assert 2_000 < sum(row_id in answers for row_id in data.ids) < len(data)


def test_a_question_that_is_measured_on_is_not_chosen_on(
    trained: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder, checkpoint = trained
    flat = {"intercept": 2, "slopes": [0, 0]}
    panel = {
        "models": ["left", "right"],
        "jury": {
            "jurors": {name: {"weight": 1, "slope": 1} for name in ("left", "right")},
            "doubt": 0,
            "doubt_by_number": 0,
            "doubt_by_quality": 0,
        },
        "stops": [{"at": 0.9, "quality": flat, "asked": [flat]}],
        "dataset": "sums",
    }
    chosen = Panels.model_validate({"panels": [panel]})
    data, answers = RoutingData.load([file]), load_answers(folder, ["sums"])
    questions = list(data.questions)
    for here, there in (("train", "holdout"), ("train", "valid")):
        place, other = (int(np.flatnonzero(data.split == one)[0]) for one in (here, there))
        questions[place] = questions[other]
        choose = Mock(return_value={})
        monkeypatch.setattr("crossroute.evaluation.strategies.choose_strategies", choose)
        repeated = replace(data, questions=tuple(questions))
        # Panels that were chosen on the rows of `valid` are none to measure on these.
        given = chosen if there == "valid" else None
        router = CrossRouter.load(checkpoint)
        (found,) = compare_strategies(router, repeated, answers, there, panels=given)
        assert not found.panels
        rows = choose.call_args.args[1]
        assert there not in rows.split
        assert "holdout" not in rows.split
        assert data.ids[place] not in rows.ids


def test_names_are_shown_as_they_are(
    run: Run, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    file, _, checkpoint = trained
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row | {"dataset": "a[/b]"} for row in rows if row["split"] == "holdout"]
    (tmp_path / "rows.json").write_text("{}")
    arguments = ("--checkpoint", checkpoint, "--answers", tmp_path, "--split", "holdout")
    code, out, err = run("evaluate", write_rows(tmp_path / "rows.jsonl", rows), *arguments)
    assert code == 0, err
    assert out.count("a[/b]: 120 prompts (holdout)") == 2
