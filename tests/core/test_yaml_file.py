"""Hostile YAML: one typed error with the place, at once, and without a word of the file."""

from __future__ import annotations

import os
import re
import threading
import traceback
from pathlib import Path

import pytest
import yaml

from crossroute import CrossRouteError, DescriptorError, ModelDescriptor, ModelPool, PoolError
from crossroute.errors import DataError
from crossroute.onboarding.anchors import load_anchors
from crossroute.yaml_file import MOST_BY_ALIAS, MOST_BYTES, MOST_NODES, parse_yaml

FILE = Path("file.yaml")


def bomb(first: str, item: str, around: str) -> str:
    """Nine levels, each of nine aliases of the one before: 9 ** 8 values in 400 bytes."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, 9):
        aliases = ", ".join(item.format(n=n, alias=f"*a{level - 1}") for n in range(9))
        lines.append(f"a{level}: &a{level} {around.format(aliases)}")
    return "\n".join(lines) + "\n"


LISTS = bomb("[x]", "{alias}", "[{}]")
MAPPINGS = bomb("{x: y}", "k{n}: {alias}", "{{{}}}")
MERGED = bomb("{x: y}", "{alias}", "{{<<: [{}], z: 1}}")


@pytest.mark.parametrize(
    "text",
    [
        LISTS + "id: *a8\n",
        LISTS + "id: x\nlanguages: [*a8]\n",
        LISTS + "id: x\n*a8 : y\n",
        MAPPINGS + "id: x\nprovider: {chat_model: 'openai:x', arguments: *a8}\n",
        MERGED + "id: x\n<<: *a8\n",
        "id: &a [" + "x, " * MOST_BY_ALIAS + "]\nnote: *a\n",
    ],
)
def test_a_bomb_of_aliases_does_not_go_off(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DescriptorError, match=r"line \d+, column \d+: .* by alias") as caught:
        ModelDescriptor.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    path.write_text(
        "- topic: x\n  bomb:\n" + re.sub("^", "    ", text, flags=re.MULTILINE), "utf-8"
    )
    with pytest.raises(DataError, match=r"x\.yaml: .* by alias"):
        load_anchors(path)


@pytest.mark.parametrize("text", ["&a {x: *a}", "&a [*a]", "&a {<<: *a}", "x: &a {y: [1, *a]}"])
def test_an_alias_within_itself_is_refused(text: str) -> None:
    with pytest.raises(DescriptorError, match=r"line 1, column \d+: an alias within"):
        parse_yaml(text, FILE, DescriptorError)


def test_a_few_aliases_and_merge_keys_are_read() -> None:
    text = """\
id: x
price: &p {input_usd_per_1m: 1, output_usd_per_1m: 2, date: 2026-01-01, source: &s list}
note: *s
"""
    model = ModelDescriptor.parse(text, FILE)
    assert model.note == "list"
    merged = "base: &b {x: 1, y: 2}\nmiddle: &m {<<: *b, x: 3}\nlast: {<<: *m}\n"
    same = {"x": 3, "y": 2}
    assert parse_yaml(merged, FILE, DataError) == yaml.safe_load(merged)
    assert parse_yaml(merged, FILE, DataError) == {"base": {"x": 1, "y": 2}} | dict.fromkeys(
        ("middle", "last"), same
    )


@pytest.mark.parametrize(
    "value",
    [
        "!!bool foo",
        "!!bool ''",
        "!!timestamp foo",
        "!!int ''",
        "!!int 0x",
        "!!float ''",
        "!!float .",
        "!!map [a]",
        "!!seq {a: b}",
        "!!str [a]",
        "!!binary aGVsbG8=",
        "!!set {a}",
        "!!python/name:os.system",
        "!own x",
        "2024-13-45",
        "=",
        "<<",
        "{[a]: b}",
        "{{a: b}: c}",
        "? [a]\n  : b",
        "0x" + "f" * 200,
        "1" + "0" * 5000,
        "1" + ":59" * 5000,
        "1" + ":59" * 5000 + ".5",
        "[" * 50,
        "- " * 50,
        '"\\ud800"',
        "a\0b",
        "a\ud800b",
        "*nobody",
        "@x",
        "\n---\nid: y",
    ],
)
def test_what_is_no_plain_value_is_refused_with_its_place(value: str) -> None:
    text = f"id: x\nsk-very-secret:\n  {value}\n"
    with pytest.raises(DescriptorError, match=r"^file\.yaml: not valid YAML: line [1-5], col") as e:
        ModelDescriptor.parse(text, FILE)
    assert "sk-very-secret" not in str(e.value)
    shown = "".join(traceback.format_exception(e.value))
    assert value not in shown or len(value) < 3


@pytest.mark.parametrize(
    "content",
    [
        "id: x\n".encode("utf-16"),
        b"id: \xff\n",
        b"\x00\x01\x02",
        b"id: x\nnote: " + b"a" * MOST_BYTES,
        b"id: x\nnote: " + "\u6a21".encode() * (MOST_BYTES // 3),
        b"id: x\nlanguages: [" + b"a," * MOST_NODES + b"]",
        b"[" * MOST_BYTES,
    ],
    ids=["utf-16", "latin-1", "binary", "large", "large and wide", "many values", "deep"],
)
def test_what_is_no_small_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(DescriptorError, match=r"x\.yaml: (cannot be read|not valid YAML): "):
        ModelDescriptor.load(path)
    with pytest.raises(DataError, match=r"x\.yaml: (cannot be read|not valid YAML): "):
        load_anchors(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "broken link", "endless name"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "broken link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path = tmp_path / ("x" * 5000 + ".yaml")
    # A pipe would hold up the test, too: it is read beside it.
    errors: list[BaseException] = []

    def load() -> None:
        for read in (ModelDescriptor.load, load_anchors):
            try:
                read(path)
            except CrossRouteError as error:
                errors.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(20)
    assert [type(error) for error in errors] == [DescriptorError, DataError]
    assert all(str(error).startswith(f"{path}: cannot be read: ") for error in errors)
    if kind != "endless name":
        with pytest.raises(PoolError, match="holds no model descriptor"):
            ModelPool.load(tmp_path)


def test_a_path_that_no_system_has_is_refused() -> None:
    with pytest.raises(DescriptorError, match="cannot be read"):
        ModelDescriptor.load("a\0b.yaml")


def test_long_errors_are_cut(tmp_path: Path) -> None:
    text = "id: x\n" + "".join(f"field_{n}: 1\n" for n in range(5000)) + "y" * 900 + ": 1\n"
    with pytest.raises(DescriptorError, match=r"and 4981 more\.$") as caught:
        ModelDescriptor.parse(text, FILE)
    assert len(str(caught.value).splitlines()) == 22
    path = tmp_path / "anchors.yaml"
    start = "- topic: t\n  prompt: p\n  check: {kind: contains, any: [a]}\n  reference: "
    path.write_text(start + "b" * 100_000, "utf-8")
    with pytest.raises(DataError, match="does not accept its reference 'bbb") as too:
        load_anchors(path)
    assert len(str(too.value)) < 1000


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = '"\\e[31mred": 1\nid: "a\\e[2J"\nregion: "\\e[1m"\n'
    with pytest.raises(DescriptorError) as caught:
        ModelDescriptor.parse(text, FILE)
    assert "\x1b" not in str(caught.value)
