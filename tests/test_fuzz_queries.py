"""Whatever a request holds, it is read or refused by a CrossRouteError."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroute import CrossRouteError, CrossRouter
from crossroute.query import FORM_FEATURES, HEAD_CHARS, TAIL_CHARS, Query

WORDS = ["role", "content", "user", "assistant", "system", "tool", "tool_calls", "type", "text"]
WORDS += ["image_url", "input_audio", "file", "", " ", "\ud800", "\0", "\u202e", "yes", "?" * 9000]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([400, 5000]).map(lambda digits: -(10**digits)),
    st.floats(),
    st.text(max_size=50),
    st.text(st.characters(), max_size=50),
    st.sampled_from(WORDS),
    st.binary(max_size=9),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=9), inner, max_size=4),
    ),
    max_leaves=10,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS) | VALUES}, optional={"text": SCALARS, "image_url": VALUES}
)
CONTENTS = st.one_of(st.sampled_from(WORDS), st.text(), st.lists(PARTS | SCALARS), VALUES)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(WORDS) | VALUES, "content": CONTENTS},
        optional={"tool_calls": VALUES, "name": VALUES},
    ),
    max_size=5,
)
QUERIES = st.one_of(st.text(), st.sampled_from(WORDS), MESSAGES, VALUES)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def check(query: object, needs: Sequence[object], limit: object) -> None:
    try:
        read = Query.of(query, needs=needs, output_tokens=limit)  # type: ignore[arg-type]
    except CrossRouteError as error:
        said = str(error)
    else:
        said = ""
        assert len(read.text) <= HEAD_CHARS + TAIL_CHARS + 1
        assert read.text.encode() is not None
        assert len(read.form) == len(FORM_FEATURES)
        assert all(math.isfinite(number) for number in (*read.form, read.input_tokens))
        assert 0 <= read.past_tokens <= read.input_tokens
    assert len(said) < 1000


@given(QUERIES, st.lists(SCALARS, max_size=2), st.none() | SCALARS)
def test_any_request_is_read_or_refused(query: object, needs: list[object], limit: object) -> None:
    check(query, needs, limit)


UNPRINTABLE = [
    ([{"role": "user", "content": "x", "tool_calls": [-(10**5000)]}], [], None),
    ([{"role": "user", "content": "x", "tool_calls": nested(5000)}], [], None),
    ([{"role": nested(5000), "content": nested(5000)}], [], None),
    ([10**5000, nested(5000)], [], None),
    ("x", [10**5000], None),
    ("x", [["tools"]], None),
    ("x", [nested(5000)], None),
    ("x", [], 10**5000),
    ("x", [], -(10**5000)),
    ("x", [], nested(5000)),
]


@pytest.mark.parametrize(
    ("query", "needs", "limit"), UNPRINTABLE, ids=map(str, range(len(UNPRINTABLE)))
)
def test_what_cannot_be_printed_is_read_or_refused(
    query: object, needs: list[object], limit: object
) -> None:
    check(query, needs, limit)


@given(QUERIES)
def test_any_request_is_routed_or_refused(router: CrossRouter, query: object) -> None:
    try:
        decision = router.route(query)  # type: ignore[arg-type]
    except CrossRouteError:
        return
    assert decision.model in router.pool


@pytest.mark.parametrize("text", ["\ud800", "\0", "\u202e", "a" * 100_000, "\U0001f600" * 50_000])
def test_odd_texts_are_routed(router: CrossRouter, text: str) -> None:
    assert router.route(text).model in router.pool
