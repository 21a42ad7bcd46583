"""Checkpoints that would crash whoever loads them, or make their predictions no numbers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save

from crossroute import (
    CheckpointError,
    CrossRouter,
    DescriptorError,
    Learned,
)
from crossroute.network import checkpoint
from crossroute.network.checkpoint import Checkpoint
from crossroute.network.features import Features
from crossroute.network.predictor import LARGEST_WEIGHT, LEAST_SCALE, Network, Predictor

LARGEST_NUMBER = 100
SHARES = ("counted", "related", "topic_trust")


def write_network(folder: Path, content: bytes) -> None:
    """A network that is just what the manifest says."""
    (folder / "network.safetensors").write_bytes(content)
    path = folder / "checkpoint.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["network_sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest), "utf-8")


def tensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype: str, shape: list[int], data: bytes) -> bytes:
    return tensors({"ease": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}, data)


FILES = [
    one("BF16", [2, 2], bytes(8)),
    one("F16", [2, 2], bytes(8)),
    one("F64", [2, 2], bytes(32)),
    one("F8_E4M3", [2, 2], bytes(4)),
    one("F8_E5M2", [2, 2], bytes(4)),
    one("I64", [2, 2], bytes(32)),
    one("BOOL", [2, 2], bytes(4)),
    one("STRING", [2, 2], bytes(4)),
    one("F32", [2, 2], bytes(15)),
    one("F32", [-1], bytes(4)),
    one("F32", [0, 2**62], b""),
    one("F32", [2**63, 2**63], b""),
    one("F32", [1] * 1_000, bytes(4)),
    one("F32", [], bytes(4)),
    tensors({"ease": []}),
    tensors({"e" * 100_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    tensors({"ease": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**30]}}),
    tensors({"ease": {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 4]}}, bytes(4)),
    tensors(b"[" * 100_000),
    tensors(b"\xff\xfe"),
    tensors(b""),
    struct.pack("<Q", 2**63) + b"{}",
    b"",
    b"\0",
]


@pytest.mark.parametrize("content", FILES)
def test_a_file_that_is_no_network_is_refused(toy_folder: Path, content: bytes) -> None:
    write_network(toy_folder, content)
    with pytest.raises(CheckpointError, match=r"network\.safetensors: not a network") as caught:
        Checkpoint.load(toy_folder)
    assert len(str(caught.value)) < 1_000


AXES: dict[str, dict[str, int]] = {
    # The place of each axis, counted from the last one, in the arrays that have it.
    "heads": {"slot_weight": -3, "slot_bias": -2, "ease": -2}
    | {f"{name}_weight": -3 for name in ("attend", "quality", "cost")}
    | {f"{name}_bias": -2 for name in ("attend", "quality", "cost")},
    "inputs": {"input_mean": -1, "input_scale": -1, "slot_weight": -2},
    "slots": {"slot_weight": -1, "slot_bias": -1},
    "slot": {"ease": -1}
    | {f"{name}_weight": -1 for name in ("attend", "quality", "cost")}
    | {f"{name}_bias": -1 for name in ("attend", "quality", "cost")},
    "rank": {f"{name}_weight": -2 for name in ("attend", "quality", "cost")},
    "topic inputs": {"topic_mean": -1, "topic_scale": -1, "topic_weight": -2, "own_axes": -2},
    "topics": {"topic_weight": -1, "topic_bias": -1, "centre": -2}
    | dict.fromkeys(("form_mean", "form_reach", "topic_set"), -2)
    | {f"topic_{name}": -1 for name in ("ease", "reference", "trust", "input", "length", "asked")}
    | {"quality_marks": -2, "length_marks": -2},
    "vectors": {"centre": -1},
    "form": {"form_mean": -1, "form_reach": -1},
    "own": {"own_axes": -1},
    "data sets": {"topic_set": -1, "counted": -1, "related": -1},
    "quality marks": {"quality_marks": -1},
    "length marks": {"length_marks": -1},
}


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_of_nothing_is_refused(toy_router: CrossRouter, axis: str) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    for name, place in AXES[axis].items():
        arrays[name] = np.take(arrays[name], np.arange(0), axis=place)
    with pytest.raises(ValueError, match="is empty, its shape"):
        Network.from_arrays(arrays)


@pytest.mark.parametrize("number", [1e38, -1e38, 2 * LARGEST_WEIGHT, np.nan, np.inf])
def test_numbers_that_no_training_makes_are_refused(
    toy_router: CrossRouter, toy_folder: Path, number: float
) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    for name, array in arrays.items():
        wrong = array.copy()
        wrong.flat[-1] = number
        with pytest.raises(ValueError, match=f"{name} holds numbers not finite or beyond 10000"):
            Network.from_arrays(arrays | {name: wrong})
    write_network(toy_folder, save(arrays | {"ease": np.full_like(arrays["ease"], number)}))
    with pytest.raises(CheckpointError, match=r"network\.safetensors: .*ease holds.*Train again"):
        CrossRouter.load(toy_folder)


@pytest.mark.parametrize("name", ["input_scale", "topic_scale", "form_reach"])
@pytest.mark.parametrize("scale", [0, -1, 1e-45, 1e-7])
def test_a_scale_that_is_none_is_refused(toy_router: CrossRouter, name: str, scale: float) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    wrong = arrays[name].copy()
    wrong.flat[-1] = scale
    with pytest.raises(ValueError, match=f"{name} holds numbers below 1e-06"):
        Network.from_arrays(arrays | {name: wrong})


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("share", [-1e-3, 1.001, 2])
def test_a_share_that_is_none_is_refused(toy_router: CrossRouter, name: str, share: float) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    wrong = arrays[name].copy()
    wrong.flat[-1] = share
    with pytest.raises(ValueError, match=f"{name} holds numbers outside 0..1"):
        Network.from_arrays(arrays | {name: wrong})


@pytest.mark.parametrize("wrong", [0.0, 0.5, 2.0, -1.0])
def test_a_topic_of_no_data_set_or_half_of_one_is_refused(
    toy_router: CrossRouter, wrong: float
) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    topic_set = arrays["topic_set"].copy()
    topic_set[-1] = wrong
    with pytest.raises(ValueError, match="topic_set holds no single 1 for the data set of each"):
        Network.from_arrays(arrays | {"topic_set": topic_set})
    both = {"topic_set": np.ones((len(topic_set), 2), np.float32)}
    both |= {name: np.ones(2, np.float32) for name in ("counted", "related")}
    with pytest.raises(ValueError, match="topic_set holds no single 1 for the data set of each"):
        Network.from_arrays(arrays | both)


def hostile(network: Network, seed: int) -> Network:
    """A network of the same shapes, of the largest and strangest numbers that are accepted."""
    chance = np.random.default_rng(seed)
    extremes = [-LARGEST_WEIGHT, LARGEST_WEIGHT, 0, 1, -1, 1e-45, 1e-3]
    shapes = {name: array.shape for name, array in network.arrays().items()}
    arrays = {name: chance.choice(extremes, shape) for name, shape in shapes.items()}
    match seed % 4:
        case 0:
            arrays = {name: np.full(shape, LARGEST_WEIGHT) for name, shape in shapes.items()}
        case 1:
            arrays = {name: np.full(shape, -LARGEST_WEIGHT) for name, shape in shapes.items()}
    for name in ("input_scale", "topic_scale", "form_reach"):
        arrays[name] = chance.choice([LEAST_SCALE, 1, LARGEST_WEIGHT], shapes[name])
    for name in SHARES:
        arrays[name] = chance.choice([0, 1e-45, 0.5, 1], shapes[name])
        if seed % 3 == 0:
            arrays[name] = np.full(shapes[name], seed // 3 % 2)
    topics, datasets = shapes["topic_set"]
    arrays["topic_set"] = np.eye(datasets)[chance.integers(datasets, size=topics)]
    if seed % 2:
        # With which everything looks familiar.
        arrays |= {"near": np.full(2, -1.0), "form_reach": np.full_like(arrays["form_reach"], 1e4)}
        arrays["form_mean"] = np.zeros(shapes["form_mean"])
    return Network.from_arrays({name: np.float32(array) for name, array in arrays.items()})


def strange_features(network: Network, rows: int, chance: np.random.Generator) -> Features:
    """Features of queries: noise, nothing, and the largest numbers of a text."""
    topics = network.topics
    form = topics.form_mean.shape[1]
    vector = topics.centre.shape[1] // 2
    size = np.repeat([1.0, 0.0, 1e3, 1e6], -(-rows // 4))[:rows, None]
    kind, text = (chance.normal(size=(rows, vector)) * size for _ in range(2))
    return Features(
        kind=kind.astype(np.float32),
        text=text.astype(np.float32),
        form=np.float32(np.abs(chance.normal(size=(rows, form))) * size),
        asked=chance.choice([math.nan, 0.0, 5.0, 700.0, -700.0], rows),
        blank=chance.random(rows) < 0.2,
    )


@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_accepted_predicts_numbers(toy_router: CrossRouter, seed: int) -> None:
    chance = np.random.default_rng(seed)
    network = hostile(toy_router.checkpoint.network, seed)
    models = []
    for number, model in enumerate(toy_router.pool.values()):
        assert model.learned is not None
        embedding = chance.choice([-1, 0, 1], network.embedding_size) * LARGEST_NUMBER
        if seed % 3 == 0:
            embedding[:] = (-1, 1)[seed % 2] * LARGEST_NUMBER
        facts = {
            "embedding": embedding.tolist(),
            "cost_target": ("output_tokens", "usd")[number % 2],
            "quality_error": LARGEST_NUMBER,
        }
        price = {"input_usd_per_1m": 1e6, "output_usd_per_1m": 1e6 * (number % 2)}
        content = model.model_dump() | {
            "learned": model.learned.model_dump() | facts,
            "price": price | {"date": "2026-01-01", "source": "test"},
        }
        models.append(type(model).model_validate(content))
    features = strange_features(network, 40, chance)
    predictor = Predictor(network, models)
    found = predictor.predict(features, np.full(len(features), 1e7))
    assert np.isfinite(found.quality).all()
    assert np.isfinite(found.cost_usd).all()
    assert (found.cost_usd >= 0).all()
    # Every other model was learned from costs.
    assert (np.isfinite(found.output_tokens) == (np.arange(len(models)) % 2 == 0)).all()
    parts = predictor.parts(features)
    for part in (*parts.shares, *parts[1:], *predictor.marks(parts.shares)):
        assert np.isfinite(part).all()


@pytest.mark.parametrize("number", ["1e38", "-101", ".nan", ".inf", "1" + "0" * 400])
def test_an_embedding_that_no_training_makes_is_refused(toy_folder: Path, number: str) -> None:
    path = toy_folder / "models" / "poet.yaml"
    text = path.read_text("utf-8")
    path.write_text(re.sub(r"embedding: \[[^,]*", f"embedding: [{number}", text), "utf-8")
    with pytest.raises(DescriptorError, match=r"poet\.yaml.*(\n.*learned\.embedding|a number of)"):
        CrossRouter.load(toy_folder)


def test_an_error_of_quality_beyond_measure_is_refused(toy_router: CrossRouter) -> None:
    learned = toy_router.pool["poet"].learned
    assert learned is not None
    with pytest.raises(ValidationError, match="quality_error"):
        Learned.model_validate(learned.model_dump() | {"quality_error": 1e308})


def manifest(folder: Path, **changes: object) -> str:
    content = json.loads((folder / "checkpoint.json").read_text("utf-8"))
    for name, value in changes.items():
        if name in content["encoder"]:
            content["encoder"][name] = value
        else:
            content[name] = value
    return json.dumps(content)


CHANGES: list[dict[str, object]] = [
    {"format_version": 10**300},
    {"format_version": "x" * 100_000},
    {"format_version": [[[]]]},
    {"network_sha256": "x" * 100_000},
    {"network_sha256": 5},
    {"name": "x" * 100_000},
    {"dimension": 10**300},
    {"dimension": -1},
    {"dimension": 1e308},
    {"probe": [float("nan")]},
    {"probe": [1e999]},
    {"probe": [0.1] * 100_000},
    {"probe": []},
    {"encoder": []},
    {"training": 5},
    {"k" * 100_000: 1},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_manifest_with_other_values_is_refused(
    toy_folder: Path, changes: dict[str, object]
) -> None:
    (toy_folder / "checkpoint.json").write_text(manifest(toy_folder, **changes), "utf-8")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: (damaged|format)") as caught:
        CrossRouter.load(toy_folder)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"training":' * 100_000,
        '{"training": {"a": "\\ud800"}}',
        '{"format_version": 1' + "0" * 100_000 + "}",
        "\ufeff{}",
        "\0",
        "",
    ],
)
def test_a_manifest_that_is_no_json_is_refused(toy_folder: Path, text: str) -> None:
    (toy_folder / "checkpoint.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: (damaged|format version)"):
        CrossRouter.load(toy_folder)
    (toy_folder / "checkpoint.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: damaged"):
        CrossRouter.load(toy_folder)


@pytest.mark.parametrize("name", ["checkpoint.json", "network.safetensors"])
def test_a_pipe_or_a_folder_is_no_file(toy_folder: Path, name: str) -> None:
    (toy_folder / name).unlink()
    os.mkfifo(toy_folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read: it is no regular file"):
        Checkpoint.load(toy_folder)
    (toy_folder / name).unlink()
    (toy_folder / name).mkdir()
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read: it is no regular file"):
        Checkpoint.load(toy_folder)


def test_a_file_without_an_end_is_not_read(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 100_000)
    # A hole takes no room on the disk.
    with (toy_folder / "network.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        CheckpointError, match=r"network\.safetensors: cannot be read: it is larger than 100,000 b"
    ):
        Checkpoint.load(toy_folder)


def test_slots_that_would_take_the_memory_are_refused(toy_router: CrossRouter) -> None:
    arrays = toy_router.checkpoint.network.arrays()
    h, inputs, _ = arrays["slot_weight"].shape
    slots = 600 * arrays["ease"].shape[1]
    wide = {
        "slot_weight": np.zeros((h, inputs, slots), np.float32),
        "slot_bias": np.zeros((h, slots), np.float32),
    }
    with pytest.raises(ValueError, match="2 heads of 600 slots are more than 1000 slots"):
        Network.from_arrays(arrays | wide)


def test_what_ships_is_far_from_the_limits() -> None:
    router = CrossRouter.shipped()
    for array in router.checkpoint.network.arrays().values():
        assert np.abs(array).max() < LARGEST_WEIGHT / 100
    for model in router.pool.values():
        assert model.learned is not None
        assert np.abs(model.learned.embedding).max() < LARGEST_NUMBER / 5
