"""Whatever checkpoints and data files hold, they are read or refused by a CrossRouteError."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from crossroute import CrossRouteError, CrossRouter
from crossroute.evaluation.comparison import load_prompts
from crossroute.evaluation.routerbench import import_routerbench
from crossroute.network.predictor import LARGEST_WEIGHT, LEAST_SCALE
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData
from crossroute.training.preferences import Preferences

PIECES = [
    *(b"", b"\0", b"\n", b"\r\n", b"\xff", b"\xef\xbb\xbf", b" ", b'"', b"'", b"\\", b"{}", b"[]"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"Infinity", b"-", b"1e999"),
    *(b"0", b"-1", b"1e-320", b"1e308", b"9" * 400, b"9" * 5000, b"[" * 300, b'{"a":' * 300),
    *(b"\\ud800", b"\\u0000", b"x" * 300, b'"prompt":', b'"outputs":', b'"score":', b"\x1f\x8b"),
    *(b"F16", b"BF16", b"F8_E4M3", b"F64", b'"shape":[0]', b"\x00\x00\x80\x7f", b"\xff" * 8),
]
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 1e308, 5e-324, -0.0])
)
# Halves of surrogate pairs, too.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=9,
)


@st.composite
def spoilt(draw: st.DrawFn, content: bytes | Path, head: int | None = None) -> bytes:
    """A file's content with a few pieces of it replaced, most of them in its head."""
    found = bytearray(content if isinstance(content, bytes) else content.read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        end = len(found) if head is None or draw(st.integers(0, 3)) == 0 else min(head, len(found))
        start = draw(st.integers(0, end))
        length = draw(st.integers(0, 30))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=9)))
        found[start : start + length] = piece
    cut = draw(st.integers(0, 5)) == 0
    return bytes(found[: draw(st.integers(0, len(found)))] if cut else found)


def places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value in a nested one."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


@st.composite
def changed(draw: st.DrawFn, content: str) -> bytes:
    """A JSON value with one of the values in it, or its name, replaced."""
    value = json.loads(content)
    *way, last = draw(st.sampled_from([place for place in places(value) if place]))
    inner = value
    for key in way:
        inner = inner[key]
    old = inner[last]
    if isinstance(inner, dict) and draw(st.integers(0, 4)) == 0:
        inner[draw(TEXTS)] = inner.pop(last)
    else:
        inner[last] = draw(st.one_of(VALUES, st.just(old).map(lambda x: [x] * 3)))
    # JSON as Python writes it: NaN, Infinity and lone surrogates, too.
    return json.dumps(value).encode()


ROW = json.dumps(
    {
        "prompt": "Why is the sky blue?",
        "dataset": "set",
        "split": "train",
        "input_tokens": 7,
        "task": "physics",
        "question": "Why?",
        "outputs": {
            "a": {"score": 1.0, "cost_usd": 0.001, "output_tokens": 12},
            "b": {"score": 0.5, "cost_usd": 0},
        },
    }
)
SCORE = json.dumps({"prompt": "Why?", "score": 0.5, "cost_usd": 0.001, "output_tokens": 12})
MESSAGES = json.dumps(
    {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}], "score": 1}
)
PAIR = json.dumps(
    {"prompt": "Why?", "model_a": "a", "model_b": "b", "winner": "tie", "cost_usd_a": 0.001}
)
PROMPT = json.dumps({"prompt": "Why?", "topic": "physics", "task": "why"})


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Lines of a file, some of them whole."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        whole = draw(st.sampled_from([ROW, SCORE, MESSAGES, PAIR, PROMPT]))
        as_it_is = st.just(whole.encode())
        line = st.one_of(as_it_is, as_it_is, spoilt(whole.encode()), changed(whole))
        found.append(draw(line))
    return draw(st.sampled_from([b"\n", b"\r\n", b"\n\n"])).join(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(
    content=lines(), name=st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.txt"]), skip=st.booleans()
)
def test_data_is_read_or_refused(folder: Path, content: bytes, name: str, skip: bool) -> None:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with suppress(CrossRouteError):
        data = RoutingData.load([path], skip_broken=skip)
        assert data.score.shape == (len(data.prompts), len(data.models))
        known = ~np.isnan(data.score)
        assert known.any(axis=0).all()
        assert known.any(axis=1).all()
        assert ((data.score[known] >= 0) & (data.score[known] <= 1)).all()
        assert np.isfinite(data.cost_usd[known]).all()
        data.without_test()
    with suppress(CrossRouteError):
        told = Preferences.load([path], skip_broken=skip)
        assert (told.pairs.first != told.pairs.second).all()
        compared = ~np.isnan(told.data.score)
        assert compared.any(axis=0).all()
        assert compared.any(axis=1).all()
        assert np.isfinite(told.data.score[compared]).all()
    with suppress(CrossRouteError):
        assert all(0 <= answer.score <= 1 for answer in load_scores(path, "a"))
    with suppress(CrossRouteError):
        assert all(isinstance(prompt, (str, list)) for prompt, _ in load_prompts(path))


@given(content=spoilt(gzip.compress(f"{ROW}\n{ROW}\n".encode() * 20, mtime=0)))
def test_gzip_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "x.jsonl.gz"
    path.write_bytes(content)
    readers: list[Callable[[], object]] = [
        lambda: RoutingData.load([path]),
        lambda: Preferences.load([path]),
        lambda: load_scores(path, "a"),
        lambda: load_prompts(path),
    ]
    for read in readers:
        with suppress(CrossRouteError):
            read()


@given(content=st.one_of(lines(), spoilt(f"{SCORE}\n{MESSAGES}\n".encode())))
def test_scores_onboard_a_model_or_are_refused(
    folder: Path, toy_router: CrossRouter, content: bytes
) -> None:
    path = folder / "scores.jsonl"
    path.write_bytes(content)
    poet = toy_router.pool["poet"].model_copy(update={"id": "new"})
    with suppress(CrossRouteError):
        router = toy_router.add_model(poet, load_scores(path, "a"))
        assert np.isfinite(router.predict(["What is 2 + 2?"]).quality).all()


def table() -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["prompt", "eval_name", "a", "a|total_cost", "b", "b|total_cost"])
    rows.writerow(["['One', \"it's\"]", "set", "1.0", "0.001", "0.5", "0"])
    rows.writerow(['Two\n\n"lines"', "set", "True", "1e-3", "", ""])
    return text.getvalue().encode()


@given(content=spoilt(table()))
def test_tables_are_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "x.csv"
    path.write_bytes(content)
    with suppress(CrossRouteError):
        assert all(row.outputs for row in import_routerbench(path))


@pytest.fixture(scope="module")
def saved(toy_router: CrossRouter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "checkpoint"
    toy_router.save(folder)
    return folder


@given(data=st.data())
def test_a_manifest_is_read_or_refused(saved: Path, folder: Path, data: st.DataObject) -> None:
    whole = (saved / "checkpoint.json").read_text("utf-8")
    content = data.draw(st.one_of(spoilt(whole.encode()), changed(whole)))
    spoilt_folder = folder / "manifest"
    shutil.copytree(saved, spoilt_folder, dirs_exist_ok=True)
    (spoilt_folder / "checkpoint.json").write_bytes(content)
    with suppress(CrossRouteError):
        CrossRouter.load(spoilt_folder).route("What is 2 + 2?")


@st.composite
def renumbered(draw: st.DrawFn, path: Path) -> bytes:
    """A network with a few numbers, or all numbers of an array, replaced."""
    found = {name: array.copy() for name, array in load_file(path).items()}
    number = st.one_of(
        st.floats(-LARGEST_WEIGHT, LARGEST_WEIGHT, width=32),
        st.floats(width=32),
        st.sampled_from([LARGEST_WEIGHT, -LARGEST_WEIGHT, LEAST_SCALE, 0.0, -0.0]),
    )
    for _ in range(draw(st.integers(1, 5))):
        array = found[draw(st.sampled_from(sorted(found)))]
        if draw(st.booleans()):
            array[...] = draw(number)
        else:
            array.flat[draw(st.integers(0, array.size - 1))] = draw(number)
    return save(found)


@given(data=st.data())
def test_a_network_predicts_numbers_or_is_refused(
    saved: Path, folder: Path, data: st.DataObject
) -> None:
    whole = saved / "network.safetensors"
    content = data.draw(st.one_of(spoilt(whole, head=2_000), renumbered(whole)))
    spoilt_folder = folder / "network"
    shutil.copytree(saved, spoilt_folder, dirs_exist_ok=True)
    (spoilt_folder / "network.safetensors").write_bytes(content)
    # As who made it would: the manifest and the models say that it is theirs.
    digest = hashlib.sha256(content).hexdigest()
    manifest = json.loads((saved / "checkpoint.json").read_text("utf-8"))
    manifest["network_sha256"] = digest
    (spoilt_folder / "checkpoint.json").write_text(json.dumps(manifest), "utf-8")
    for path in (spoilt_folder / "models").iterdir():
        text = re.sub("checkpoint: .*", f"checkpoint: '{digest[:12]}'", path.read_text("utf-8"))
        path.write_text(text, "utf-8")
    with suppress(CrossRouteError):
        found = CrossRouter.load(spoilt_folder).predict(["What is 2 + 2?", "Write a poem."])
        assert np.isfinite(found.quality).all()
        assert np.isfinite(found.cost_usd).all()
