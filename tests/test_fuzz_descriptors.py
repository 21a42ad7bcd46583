"""Whatever a file holds, it is read or refused by a CrossRouteError."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crossroute import CrossRouteError, ModelDescriptor
from crossroute.models.provider_arguments import allowed
from crossroute.onboarding.anchors import load_anchors

Read = TypeVar("Read")

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "descriptor.md").read_text("utf-8")
LEARNED = """\
learned:
  checkpoint: abc
  cost_target: output_tokens
  examples: 12
  source: scores
  scores_file: x.jsonl
  quality_error: 0.5
  embedding: [0.5, -1.25, 3.0]
"""
DESCRIPTOR = PAGE.partition("```yaml\n")[2].partition("```")[0] + LEARNED
ANCHORS = """\
- {topic: a, prompt: p, check: {kind: choice, answer: B}, reference: "B", wrong: [A]}
- {topic: a, prompt: q, check: {kind: number, answer: 2, tolerance: 0.1}, reference: "2"}
- {topic: a, prompt: r, check: {kind: exact, answers: [east]}, reference: East.}
- {topic: a, prompt: s, check: {kind: contains, all: [x], any: [y, z]}, reference: x y}
- {topic: a, prompt: t, check: {kind: regex, pattern: '^a+$'}, reference: aa}
- {topic: a, prompt: u, check: {kind: json, equals: {a: [1]}}, reference: '{"a": [1]}'}
"""

# Signs of YAML, values that its constructors stumble over, names of fields, and keys.
PIECES = [
    *"[]{}:,-?&*!|>%@`#'\"~=\\/.+0\n\t\r\0 ",
    *(": ", "- ", "\n  ", "\n", "---\n", "...\n", "&a ", "*a", "<<: ", "<<: *a", "? ", "!!"),
    *("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!map ", "!!seq ", "!!str ", "!!null "),
    *("!!binary ", "!!set ", "!!omap ", "!x ", "%TAG ! x:\n", "%YAML 1.1\n", "0x", "1:59", ".inf"),
    *(".nan", "1e999", "1.0e+999", "1_", "0b", "2026-13-45", "2026-01-01 25:00:00", "9" * 120),
    *("\ud800", "\ufeff", "\u2028", "\x85", "\x1b[31m", '"\\ud800"', '"\\0"', "\u6a21", "no"),
    *re.findall(r"\w+(?=:)", DESCRIPTOR + ANCHORS),
    *("sk-very-secret-0123456789", "https://u:p@h/", "$ref", "x" * 300),
]
TEXTS = st.one_of(
    st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**99), 10**99),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(PIECES),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=9),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(SCALARS, inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value in a nested one."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def with_another_value(text: str) -> st.SearchStrategy[str]:
    """A valid file with something else in one place, or with a field more."""
    content = yaml.safe_load(text)

    def put(place: tuple[Any, ...], value: object, key: object) -> str:
        new = [copy.deepcopy(content)]
        target: Any = new
        for step in (last := (0, *place))[:-1]:
            target = target[step]
        if key is not None and isinstance(target[last[-1]], dict):
            target[last[-1]][key] = value
        else:
            target[last[-1]] = value
        return written(new[0])

    return st.builds(put, st.sampled_from(places(content)), VALUES, st.none() | SCALARS)


def written(value: object) -> str:
    try:
        return yaml.safe_dump(value)
    except (yaml.YAMLError, UnicodeError):
        return str(value)


def cut(text: str) -> st.SearchStrategy[str]:
    """A valid file with something else in place of a part of its text."""
    ends = st.integers(0, len(text))
    return st.builds(
        lambda a, b, piece: text[: min(a, b)] + piece + text[max(a, min(b, a + 20)) :],
        ends,
        ends,
        TEXTS,
    )


def hostile(valid: str) -> st.SearchStrategy[str]:
    return st.one_of(TEXTS, VALUES.map(written), with_another_value(valid), cut(valid))


def wide(text: str) -> bytes:
    return text.encode("utf-16", "surrogatepass")


def read(of: Callable[[], Read]) -> Read | None:
    """What is read, or None if it is refused; an error of any other kind fails the test."""
    try:
        return of()
    except CrossRouteError as error:
        said = str(error)
    # It can be printed, anywhere.
    assert said.replace("\n", "").isprintable()
    return None


@given(hostile(DESCRIPTOR))
def test_any_text_is_a_descriptor_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    model = read(lambda: ModelDescriptor.parse(text, Path("x.yaml")))
    if model is not None:
        assert ModelDescriptor.load(model.save(tmp_path_factory.getbasetemp())) == model


@given(st.binary(max_size=300) | hostile(DESCRIPTOR).map(wide))
def test_any_bytes_are_a_descriptor_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    read(lambda: ModelDescriptor.load(path))


IDS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=40)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(0, 1e300, exclude_min=True)
PRICES = st.floats(0, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | NUMBERS | LINES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LINES, inner, max_size=3),
    max_leaves=8,
)
PROVIDER = st.fixed_dictionaries(
    {"chat_model": IDS.map("openai:{}".format)},
    optional={"arguments": st.dictionaries(st.sampled_from(allowed("openai")), JSON, max_size=4)},
)
PRICE = st.fixed_dictionaries(
    {
        "input_usd_per_1m": PRICES,
        "output_usd_per_1m": PRICES,
        "date": st.dates(),
        "source": LINES,
    }
)
LEARNING = st.fixed_dictionaries(
    {
        "checkpoint": LINES,
        "cost_target": st.sampled_from(["output_tokens", "usd"]),
        "examples": st.integers(0, 10**14),
        "embedding": st.lists(st.floats(-100, 100), min_size=1, max_size=9),
    },
    optional={"scores_file": LINES, "quality_error": st.floats(0, 100)},
)
MODELS = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "description": LINES,
        "note": LINES,
        "provider": PROVIDER,
        "retired": st.dates(),
        "disabled": st.booleans(),
        "price": PRICE,
        "context_window_tokens": st.integers(1, 10**14),
        "languages": st.lists(st.from_regex(r"[a-z]{2,3}(-[A-Z]{2})?", fullmatch=True), max_size=3),
        "region": st.from_regex(r"[A-Za-z0-9-]{1,9}", fullmatch=True),
        "family": LINES,
        "expected_latency_seconds": POSITIVE,
        "behaves_like": st.fixed_dictionaries({"model": IDS}),
        "learned": LEARNING,
    },
)


@given(MODELS)
def test_what_is_valid_is_the_same_when_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    try:
        model = ModelDescriptor.model_validate(content)
    except ValidationError:
        return  # Not printable, blank, or by chance like a key.
    assert ModelDescriptor.load(model.save(tmp_path_factory.getbasetemp())) == model


@given(hostile(ANCHORS))
def test_any_text_is_anchors_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "anchors.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read(lambda: load_anchors(path))


def test_the_valid_files_are_valid(tmp_path: Path) -> None:
    assert ModelDescriptor.parse(DESCRIPTOR, Path("x.yaml")).learned is not None
    path = tmp_path / "anchors.yaml"
    path.write_text(ANCHORS, "utf-8")
    assert len(load_anchors(path)) == 6
    assert len(load_anchors()) > 50
