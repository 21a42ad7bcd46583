from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from fakes_core import Letters
from safetensors.numpy import load_file, save

from crossroute import (
    CheckpointError,
    CrossRouter,
    DescriptorError,
    ModelPool,
    PoolError,
)
from crossroute.network.checkpoint import Checkpoint
from crossroute.network.encoders import sign

PROMPTS = ["What is 12 * 30?", "Write a story about a heron."]


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def assert_same(router: CrossRouter, other: CrossRouter) -> None:
    """Two routers predict the same, to the last digit."""
    one, two = router.predict(PROMPTS), other.predict(PROMPTS)
    assert one.models == two.models
    assert (one.quality == two.quality).all()
    assert (one.cost_usd == two.cost_usd).all()


def test_a_saved_router_predicts_the_same(toy_router: CrossRouter, toy_folder: Path) -> None:
    assert_same(CrossRouter.load(toy_folder), toy_router)


def test_only_plain_files_are_written(toy_folder: Path) -> None:
    files = {str(path.relative_to(toy_folder)) for path in toy_folder.rglob("*") if path.is_file()}
    assert files == {
        "checkpoint.json",
        "network.safetensors",
        "models/clerk.yaml",
        "models/poet.yaml",
        "models/sage.yaml",
    }


def test_saving_replaces_an_older_checkpoint_and_nothing_else(
    toy_router: CrossRouter, toy_folder: Path, tmp_path: Path
) -> None:
    (toy_folder / "models" / "stale.yaml").write_text("id: stale\n", "utf-8")
    (toy_folder / "notes.txt").write_text("mine", "utf-8")
    toy_router.save(toy_folder)
    assert "stale" not in CrossRouter.load(toy_folder).pool
    assert (toy_folder / "notes.txt").read_text("utf-8") == "mine"
    assert not [path for path in toy_folder.iterdir() if path.name.startswith(".")]

    other = tmp_path / "work"
    other.mkdir()
    (other / "thesis.txt").write_text("precious", "utf-8")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        toy_router.save(other)
    assert (other / "thesis.txt").read_text("utf-8") == "precious"
    with pytest.raises(CheckpointError, match="is a file"):
        toy_router.save(other / "thesis.txt")


def test_a_checkpoint_of_another_version_is_saved_as_it_is(
    toy_router: CrossRouter, toy_folder: Path
) -> None:
    path = toy_folder / "network.safetensors"
    arrays = load_file(path)
    # Written by another version: the same arrays in other bytes.
    content = save(arrays, metadata={"written": "elsewhere"})
    path.write_bytes(content)
    edit_manifest(toy_folder, network_sha256=hashlib.sha256(content).hexdigest())
    for model in (toy_folder / "models").iterdir():
        text = model.read_text("utf-8")
        old = next(line for line in text.splitlines() if "checkpoint:" in line)
        new = f"  checkpoint: '{hashlib.sha256(content).hexdigest()[:12]}'"
        model.write_text(text.replace(old, new), "utf-8")
    CrossRouter.load(toy_folder).save(toy_folder)
    assert path.read_bytes() == content
    assert_same(CrossRouter.load(toy_folder), toy_router)


def test_saving_here_is_saving(
    toy_router: CrossRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy_router.save(".")
    assert_same(CrossRouter.load(tmp_path), toy_router)
    assert_same(CrossRouter.load("."), toy_router)


def test_a_network_for_another_encoder_is_refused(toy_router: CrossRouter) -> None:
    encoder = Letters()
    wrong = Checkpoint(toy_router.checkpoint.network, sign(encoder), {})
    with pytest.raises(CheckpointError, match="numbers a query"):
        CrossRouter(wrong, toy_router.pool, encoder=encoder)


def test_a_folder_without_a_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="crossroute train"):
        CrossRouter.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 100, -1])
def test_a_truncated_network_is_refused(toy_folder: Path, keep: int) -> None:
    path = toy_folder / "network.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"network\.safetensors: damaged or truncated"):
        CrossRouter.load(toy_folder)


def test_a_changed_byte_is_noticed(toy_folder: Path) -> None:
    path = toy_folder / "network.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        CrossRouter.load(toy_folder)


def test_a_network_that_is_missing_or_of_other_arrays_is_refused(toy_folder: Path) -> None:
    path = toy_folder / "network.safetensors"
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        CrossRouter.load(toy_folder)
    for content, said in (
        (save({"other": np.zeros(3, np.float32)}), "it has no attend_bias"),
        (b"not safetensors at all", "not a network"),
    ):
        path.write_bytes(content)
        edit_manifest(toy_folder, network_sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(CheckpointError, match=said):
            CrossRouter.load(toy_folder)


@pytest.mark.parametrize("version", [0, 1, 3, "2.0", None])
def test_another_format_version_is_refused(toy_folder: Path, version: object) -> None:
    edit_manifest(toy_folder, format_version=version)
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.json: format version .* reads version 2"
    ):
        CrossRouter.load(toy_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2}'])
def test_a_damaged_manifest_is_refused(toy_folder: Path, text: str) -> None:
    (toy_folder / "checkpoint.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: damaged"):
        CrossRouter.load(toy_folder)


def test_a_broken_descriptor_in_a_checkpoint_is_named(toy_folder: Path) -> None:
    (toy_folder / "models" / "poet.yaml").write_text("id: poet\nprise: {}\n", "utf-8")
    with pytest.raises(DescriptorError, match=r"poet\.yaml.*\n.*prise: unknown field"):
        CrossRouter.load(toy_folder)


@pytest.mark.parametrize("left", [0, 1])
def test_a_pool_of_one_model_or_none_is_refused(toy_folder: Path, left: int) -> None:
    for path in sorted((toy_folder / "models").iterdir())[left:]:
        path.unlink()
    said = "at least two models" if left else "holds no model descriptor"
    with pytest.raises(PoolError, match=said):
        CrossRouter.load(toy_folder)


def test_models_must_fit_the_checkpoint(
    toy_folder: Path, router: CrossRouter, tmp_path: Path
) -> None:
    (toy_folder / "models" / "new.yaml").write_text("id: new\n", "utf-8")
    with pytest.raises(PoolError, match="'new' has no learned embedding"):
        CrossRouter.load(toy_folder)
    router.pool.subset(["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]).save(tmp_path / "others")
    with pytest.raises(PoolError, match="was made for checkpoint"):
        CrossRouter.load(toy_folder, models=tmp_path / "others")


def test_another_folder_may_be_the_pool(toy_folder: Path, tmp_path: Path) -> None:
    ModelPool.load(toy_folder / "models").subset(["poet", "sage"]).save(tmp_path / "pool")
    assert list(CrossRouter.load(toy_folder, models=tmp_path / "pool").pool) == ["poet", "sage"]
