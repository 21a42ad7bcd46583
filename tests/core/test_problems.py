"""What pydantic finds, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossroute import DataError
from crossroute.errors import problems
from crossroute.training.data import RoutingData

KEY = "sk-very-secret-0123456789"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1)]
    name: str = ""


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    section: Section | None = None
    other: Section | str = ""
    number: int = 0


def said(content: object, **options: Any) -> str:  # noqa: ANN401
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(content)
    return problems(caught.value, Whole, **options)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"section": {"size": 0}},
            "section.size: Input should be greater than or equal to 1, got 0",
        ),
        ({"section": {}}, "section.size: missing; add it"),
        (
            {"section": {"size": 1, "nam": 1}},
            "section.nam: unknown field; did you mean 'name'? Known fields: size, name",
        ),
        (
            {"zzz": 1},
            "zzz: unknown field. Known fields: section, other, number",
        ),
        (
            {"section": {"size": 1, "name": False}},
            "section.name: is read as False, not as text; put it in quotes",
        ),
        (7, "Input should be a valid dictionary or instance of Whole, got 7"),
    ],
)
def test_a_problem_is_named_with_its_field_and_the_mend(content: object, expected: str) -> None:
    assert said(content) == expected


def test_a_field_of_one_of_several_kinds_has_no_known_ones() -> None:
    assert "other.Section.nam: unknown field. other.str: " in said({"other": {"size": 1, "nam": 1}})


def test_there_are_few_and_the_others_are_counted() -> None:
    many = {f"field_{number}": 1 for number in range(5000)}
    assert said(many, most=2, between=" | ").split(" | ")[1:] == [
        "field_1: unknown field. Known fields: section, other, number",
        "and 4998 more",
    ]


@pytest.mark.parametrize(
    "content",
    [
        {"number": KEY},
        {"number": [1, KEY]},
        {KEY: 1},
        {"section": {"size": "x" * 50 + f" Bearer {KEY}"}},
        {"number": {"a": KEY}},
        {"section": {"size": {KEY: 1}}},
    ],
)
def test_what_looks_like_a_secret_is_not_shown(content: object) -> None:
    assert "sk-" not in said(content)


def test_values_of_some_fields_are_not_shown_at_all() -> None:
    assert said({"number": "hunter2"}, unquoted=["number"]).endswith(
        "unable to parse string as an integer"
    )
    assert "hunter2" in said({"number": "hunter2"})


def test_nothing_steers_the_terminal_and_all_is_short() -> None:
    text = said({"\x1b[2J" + "n" * 10_000: 1, "number": "\x1b[1m" + "v" * 10_000})
    assert "\x1b" not in text
    assert len(text) < 500


def test_a_key_in_routing_data_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "outputs": {"m": KEY}}) + "\n", "utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: outputs\.m: ") as caught:
        RoutingData.load([path])
    assert KEY not in str(caught.value)
