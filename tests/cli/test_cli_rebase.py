"""`crossroute models rebase`: embeddings for another checkpoint."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_core import QUICK, Run, write_scores

from crossroute import CrossRouter, ModelDescriptor, PoolError
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData
from crossroute.training.train import train


@pytest.fixture(scope="module")
def retrained(toy_data: RoutingData) -> CrossRouter:
    return train(toy_data.of_models(["clerk", "sage"]), settings=replace(QUICK, epochs=2))


def test_rebase_makes_embeddings_again(
    run: Run,
    tmp_path: Path,
    toy_folder: Path,
    toy_router: CrossRouter,
    retrained: CrossRouter,
    toy_data: RoutingData,
) -> None:
    folder, old = tmp_path / "mine", toy_router.pool
    folder.mkdir()
    scores = write_scores(folder / "scores.jsonl", toy_data, "poet")
    (folder / "scored.yaml").write_text("id: scored\nnote: Mine.  # really\n", "utf-8")
    given = ("--scores", scores, "--checkpoint", toy_folder)
    assert run("models", "onboard", folder / "scored.yaml", *given)[0] == 0
    like = {"model": "sage", "quality_offset": -0.1}
    bare = ModelDescriptor.model_validate({"id": "guessed", "behaves_like": like})
    toy_router.add_model(bare).pool["guessed"].save(folder)
    ModelDescriptor(id="bare").save(folder)
    for model in ("poet", "sage"):
        old[model].save(folder)
    retrained.save(tmp_path / "retrained")

    # As it is, the folder is refused, and the command that mends it is named.
    with pytest.raises(PoolError, match="crossroute models rebase"):
        CrossRouter.load(tmp_path / "retrained", models=folder)

    command = ("models", "rebase", folder, "--checkpoint", tmp_path / "retrained", "--yes")
    code, out, err = run(*command, "--json")
    assert code == 1
    assert "Not mended: poet" in err
    content = json.loads(out)
    assert content["checkpoint"] == retrained.checkpoint.id
    assert {x["model"]: x["embedding"] for x in content["models"]} == {
        "bare": "none",
        "guessed": "guessed again",
        "poet": "not mended",
        "sage": "trained",
        "scored": "from its scores",
    }
    (note,) = [x["note"] for x in content["models"] if x["model"] == "poet"]
    assert "crossroute models onboard" in note
    assert (folder / "poet.yaml").read_text("utf-8")  # left as it was
    assert ModelDescriptor.load(folder / "poet.yaml") == old["poet"]

    (folder / "poet.yaml").unlink()
    (folder / "bare.yaml").unlink()
    router = CrossRouter.load(tmp_path / "retrained", models=folder)
    assert set(router.pool) == {"guessed", "sage", "scored"}
    scored, guessed = router.pool["scored"], router.pool["guessed"]
    assert scored.learned is not None
    assert guessed.learned is not None
    assert scored.learned.scores_file == "scores.jsonl"
    assert (scored.note, scored.learned.examples) == ("Mine.", 60)
    assert "note: Mine.  # really" in (folder / "scored.yaml").read_text("utf-8")
    assert guessed.learned.source == "guess"
    assert guessed.behaves_like == bare.behaves_like
    assert router.pool["sage"].learned == retrained.pool["sage"].learned

    code, out, _ = run(*command)
    assert code == 0
    assert out.count("fits") == 3
    assert "left as it is" in out


def test_rebase_takes_a_checkpoint_folder_with_strangers_in_it(
    run: Run, tmp_path: Path, toy_router: CrossRouter, retrained: CrossRouter, toy_data: RoutingData
) -> None:
    folder = tmp_path / "retrained"
    retrained.save(folder)
    scores = write_scores(tmp_path / "scores.jsonl", toy_data, "poet")
    scored = onboard(toy_router, ModelDescriptor(id="new"), load_scores(scores, "new"))
    assert scored.learned is not None
    learned = scored.learned.model_copy(update={"scores_file": "../../scores.jsonl"})
    scored.model_copy(update={"learned": learned}).save(folder / "models")
    with pytest.raises(PoolError, match="crossroute models rebase"):
        CrossRouter.load(folder)
    code, _, err = run("models", "rebase", folder, "--yes")
    assert code == 0, err
    assert set(CrossRouter.load(folder).pool) == {"clerk", "new", "sage"}


def test_lost_scores_are_named(
    run: Run, tmp_path: Path, toy_folder: Path, retrained: CrossRouter, toy_data: RoutingData
) -> None:
    retrained.save(tmp_path / "retrained")
    path = tmp_path / "mine" / "new.yaml"
    path.parent.mkdir()
    path.write_text("id: new\n", "utf-8")
    scores = write_scores(tmp_path / "scores.jsonl", toy_data, "poet")
    given = ("--scores", scores, "--checkpoint", toy_folder)
    assert run("models", "onboard", path, *given)[0] == 0
    scores.unlink()
    text = path.read_text("utf-8")
    command = ("models", "rebase", path.parent, "--checkpoint", tmp_path / "retrained", "--json")
    code, out, _ = run(*command)
    assert code == 1
    assert "scores.jsonl: cannot be read" in json.loads(out)["models"][0]["note"]
    assert path.read_text("utf-8") == text


def test_nothing_is_rebased_where_a_file_is_broken(
    run: Run, tmp_path: Path, toy_router: CrossRouter
) -> None:
    toy_router.pool.save(tmp_path)
    (tmp_path / "z.yaml").write_text("id: z\nprovidr: x\n", "utf-8")
    before = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    code, _, err = run("models", "rebase", tmp_path)
    assert code == 1
    assert "z.yaml" in err
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == before


@pytest.fixture
def outdated(tmp_path: Path, toy_router: CrossRouter, retrained: CrossRouter) -> Path:
    """Two trained models and a guess, none of which fits the checkpoint beside them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    guessed = ModelDescriptor.model_validate({"id": "guessed", "behaves_like": {"model": "sage"}})
    toy_router.add_model(guessed).pool["guessed"].save(folder)
    for model in ("clerk", "sage"):
        toy_router.pool[model].save(folder)
    retrained.save(tmp_path / "retrained")
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("typed", ["n\n", "\n", ""], ids=["no", "nothing", "nobody"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_is_written_without_a_yes(
    run: Run, outdated: Path, monkeypatch: pytest.MonkeyPatch, typed: str, options: list[str]
) -> None:
    before = content_of(outdated)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    command = ("models", "rebase", outdated, "--checkpoint", outdated.parent / "retrained")
    code, out, err = run(*command, *options)
    assert code == 1
    assert content_of(outdated) == before
    said = " ".join(err.split())
    assert f"Write 3 of 3 files in {outdated}?" in said
    assert ("give --yes" if not typed else "Nothing was written.") in said
    # What would be written was shown.
    assert ("guessed again" in out) is not options


def test_after_a_yes_it_is_written(
    run: Run, outdated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    checkpoint = outdated.parent / "retrained"
    code, out, _ = run("models", "rebase", outdated, "--checkpoint", checkpoint)
    assert code == 0
    assert f"Wrote 3 of 3 files in {outdated}." in " ".join(out.split())
    assert set(CrossRouter.load(checkpoint, models=outdated).pool) == {"clerk", "guessed", "sage"}
    # Nothing is left to ask about.
    code, out, _ = run("models", "rebase", outdated, "--checkpoint", checkpoint)
    assert code == 0
    assert "Wrote" not in out


def test_a_trained_embedding_is_worth_more_than_scores(
    run: Run, tmp_path: Path, toy_folder: Path, retrained: CrossRouter, toy_data: RoutingData
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    scores = write_scores(folder / "scores.jsonl", toy_data, "sage")
    (folder / "sage.yaml").write_text("id: sage\n", "utf-8")
    given = ("--scores", scores, "--checkpoint", toy_folder)
    assert run("models", "onboard", folder / "sage.yaml", *given)[0] == 0
    retrained.save(tmp_path / "retrained")
    command = ("models", "rebase", folder, "--checkpoint", tmp_path / "retrained", "--yes")
    code, out, _ = run(*command, "--json")
    assert code == 0
    assert [one["embedding"] for one in json.loads(out)["models"]] == ["trained"]
    learned, trained = ModelDescriptor.load(folder / "sage.yaml").learned, retrained.pool["sage"]
    assert learned is not None
    assert trained.learned is not None
    # The scores are kept for a checkpoint that does not know the model.
    assert learned == trained.learned.model_copy(update={"scores_file": "scores.jsonl"})
