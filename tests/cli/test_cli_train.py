"""`crossroute train` into the place of another checkpoint."""

from __future__ import annotations

from pathlib import Path

from fakes_core import Run

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
