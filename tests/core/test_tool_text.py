"""The argument of a tool that gets the text."""

from collections.abc import Mapping
from typing import Any

import pytest

from crossroute import PoolError
from crossroute.tool_text import text_argument

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"text": TEXT}},
        {"properties": {"text": TEXT, "limit": NUMBER}, "required": ["text"]},
        {"properties": {"text": {"type": ["null", "string"]}}},
        {"properties": {"text": {"anyOf": [NUMBER, TEXT]}}},
        {"properties": {"text": {"title": "Anything"}}},
        {"properties": {"text": True}},
    ],
)
def test_a_text_goes_to_the_only_argument_that_takes_one(schema: Mapping[str, Any]) -> None:
    assert text_argument("search", schema) == "text"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "takes the arguments none"),
        ({"properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]}, "a: string, b: string"),
        ({"properties": {"a": NUMBER}}, "a: integer"),
        ({"properties": {"a": {"anyOf": [NUMBER, {"type": "null"}]}}}, "a: any"),
        ({"properties": {"a": {"$ref": "#/$defs/City"}}}, "a: any"),
        ({"properties": {"a": {"type": "string", "enum": ["x", "y"]}}}, r"a: one of \['x', 'y'\]"),
        ({"properties": {"a": {"const": "x"}}}, r"a: one of \['x'\]"),
    ],
)
def test_others_are_refused(schema: Mapping[str, Any], says: str) -> None:
    with pytest.raises(PoolError, match=says):
        text_argument("search", schema)
