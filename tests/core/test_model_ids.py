"""Whatever a model is called, it is refused, or saved so that it is found again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes_core import Run
from hypothesis import example, given
from hypothesis import strategies as st

from crossroute import DescriptorError, ModelDescriptor, ModelPool, PoolError
from crossroute.errors import CrossRouteError

FILE = Path("file.yaml")


@pytest.mark.parametrize(
    "written",
    [
        r'"a\e[31mb"',
        r'"a\rb"',
        r'"a\nb"',
        r'"a\tb"',
        r'"a\0b"',
        r'"a\x7fb"',
        r'"a\x85b"',
        r'"a\u202eb"',
        r'"a\u2066b"',
        r'"a\u200bb"',
        r'"a\u2028b"',
        r'"a\ufeffb"',
        r'"a\U000e0041b"',
        "x" * 201,
        '" "',
        "''",
        "1",
        "~",
        "[a]",
    ],
)
@pytest.mark.parametrize("field", ["id: {}", "id: x\nbehaves_like: {{model: {}}}"])
def test_an_id_that_cannot_be_read_is_refused(written: str, field: str) -> None:
    with pytest.raises(DescriptorError, match=r"id: |behaves_like\.model: ") as caught:
        ModelDescriptor.parse(field.format(written), FILE)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06.yaml"),
        ("acme/small", "acme_small.yaml"),
        ("meta-llama/Llama-3.1-8B:free", "meta-llama_Llama-3.1-8B_free.yaml"),
        (".hidden", "_hidden.yaml"),
        (".", "_.yaml"),
        ("..", "_..yaml"),
        ("../../etc/passwd", "_._.._etc_passwd.yaml"),
        ("C:\\x", "C__x.yaml"),
        ("con", "_con.yaml"),
        ("NUL.1", "_NUL.1.yaml"),
        ("Com1", "_Com1.yaml"),
        ("console", "console.yaml"),
        ("\u6a21\u578b", "\u6a21\u578b.yaml"),
        ("x" * 200, "x" * 200 + ".yaml"),
    ],
)
def test_the_file_of_a_model(model: str, file: str) -> None:
    assert ModelDescriptor(id=model).file_name == file


def test_long_ids_have_short_files_of_their_own(tmp_path: Path) -> None:
    first, second = (ModelDescriptor(id="\u6a21" * 199 + end) for end in "ab")
    assert first.file_name != second.file_name
    assert re.fullmatch("\u6a21+-[0-9a-f]{12}\\.yaml", first.file_name)
    pool = ModelPool([first, second])
    pool.save(tmp_path)
    assert ModelPool.load(tmp_path) == pool


IDS = st.one_of(
    st.text(min_size=1, max_size=200),
    st.text("./\\:~ _-aA\u00e9\u6a21\U0001f600", min_size=1, max_size=200),
    st.sampled_from([".hidden", "..", "...", "con", "a/b", "a_b", "A_B", "no", "1e3", "- x", "#"]),
)


def made(model: str) -> ModelDescriptor | None:
    try:
        return ModelDescriptor(id=model)
    except ValueError:
        return None


@given(st.lists(IDS, min_size=1, max_size=4))
@example([".hidden", "..", "\u6a21" * 200, "\U0001f600" * 200])
def test_a_pool_that_is_saved_and_loaded_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, models: list[str]
) -> None:
    descriptors = [descriptor for model in models if (descriptor := made(model))]
    try:
        pool = ModelPool(descriptors)
    except PoolError:
        return  # Two of one id, or of ids that share a file.
    folder = tmp_path_factory.mktemp("pool")
    pool.save(folder)
    assert len(list(folder.iterdir())) == len(pool)
    if pool:
        assert ModelPool.load(folder) == pool
    for descriptor in pool.values():
        path = folder / descriptor.file_name
        assert path.parent == folder
        assert path.is_file()


def test_a_model_that_is_added_is_there(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    for model in (".hidden", "..", "\u6a21" * 200):
        path.write_text(f"id: {model}\nbehaves_like: {{model: poet}}\n", "utf-8")
        code, _, err = run("models", "add", path, "--to", toy_folder)
        assert code == 0, err
        assert model in ModelPool.load(toy_folder / "models")
        code, _, err = run("models", "remove", model, "--from", toy_folder)
        assert code == 0, err
        assert model not in ModelPool.load(toy_folder / "models")


def test_an_id_is_refused_by_a_typed_error_only() -> None:
    for model in ("a\ud800", "\x1b[31m"):
        with pytest.raises(CrossRouteError):
            ModelDescriptor.parse(f"id: '{model}'\n", FILE)
