"""`crossroute train` into the place of another checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes_core import Run, make_rows, write_rows

from crossroute import CrossRouter, ModelDescriptor, Price
from crossroute.models.descriptor import Likeness


def test_models_without_scores_stay_beside_the_trained_ones(
    run: Run, toy_file: Path, toy_folder: Path
) -> None:
    price = Price(input_usd_per_1m=1, output_usd_per_1m=2)
    new = ModelDescriptor(id="new", price=price, behaves_like=Likeness(model="sage"))
    for model in (new, new.model_copy(update={"id": "poet-like"})):
        model.save(toy_folder / "models")
    code, out, err = run("train", toy_file, "--out", toy_folder, "--seed", "3")
    assert code == 0, err
    assert "2 models without scores stay" in out
    assert ModelDescriptor.load(toy_folder / "models" / new.file_name) == new
    pool = CrossRouter.load(toy_folder).pool
    assert {"poet", "sage", "clerk", "new", "poet-like"} == set(pool)
    assert pool["sage"].learned
    assert pool["sage"].learned.source == "training"


def comparisons(count: int) -> list[dict[str, object]]:
    """Of two models that ship, on prompts of the toys; the first is better."""
    return [
        {"prompt": row["prompt"]}
        | {"model_a": "gpt-4.1-mini", "model_b": "claude-haiku-4-5"}
        | {"winner": ("a", "a", "tie", "b")[number % 4]}
        for number, row in enumerate(make_rows(count))
    ]


def test_comparisons_alone_make_a_checkpoint(run: Run, tmp_path: Path) -> None:
    pairs, folder = write_rows(tmp_path / "pairs.jsonl", comparisons(120)), tmp_path / "c"
    code, out, err = run("train", "--preferences", pairs, "--out", folder)
    assert code == 0, err
    assert "120 comparisons (25% ties) on 120 prompts, 2 models" in err
    assert "The answer that stands first wins" in out
    router = CrossRouter.load(folder)
    assert set(router.pool) == {"gpt-4.1-mini", "claude-haiku-4-5"}
    told = router.checkpoint.training["preferences"]
    assert told["pairs"] == 120
    assert told["ties"] == 0.25
    assert run("route", "hello", "--checkpoint", folder)[0] == 0


def test_comparisons_stand_beside_scores(run: Run, toy_file: Path, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", comparisons(60))
    code, _, err = run("train", toy_file, "--preferences", pairs, "--out", tmp_path / "c")
    assert code == 0, err
    assert "400 prompts, 3 models" in err
    assert "60 comparisons" in err
    router = CrossRouter.load(tmp_path / "c")
    assert len(router.pool) == 5
    assert set(router.checkpoint.training["rows"]) == {"pairs", "toy"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no usable row"),
        ([{"winner": "c"}], "pairs.jsonl:1: "),
        ([{"model_b": "gpt-4.1-mini"}], "compares gpt-4.1-mini with itself"),
        ([{"model_b": "unheard-of"}] * 60, "Nothing says what answers of unheard-of cost"),
        ([{}] * 20, "are too few"),
    ],
)
def test_comparisons_that_cannot_be_learned_from_stop_before_training(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, object]],
    said: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("crossroute.training.train.fit_attention", never)
    rows = [row | line for row, line in zip(comparisons(max(len(lines), 1)), lines, strict=False)]
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    code, out, err = run("train", "--preferences", path, "--out", tmp_path / "c")
    assert code == 1
    assert out == ""
    assert said in err
    assert not (tmp_path / "c").exists()


def test_strategies_are_not_learned_from_comparisons(run: Run, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", comparisons(60))
    code, _, err = run(
        "train", "--preferences", pairs, "--answers", tmp_path, "--out", tmp_path / "c"
    )
    assert code == 1
    assert "--answers needs the scores of what each model answered" in err


def test_training_on_nothing_says_what_to_give(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", "--out", tmp_path / "c")
    assert code == 1
    assert "Give FILES of scored answers, --preferences, or both." in err
