"""What each model answered, read from files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from crossroute.errors import DataError
from crossroute.strategies.answers import choice
from crossroute.training.answers import NO_ANSWER, UNKNOWN, answer_codes, check_ids, load_answers
from crossroute.training.data import RoutingData, Row


def data(*ids: str | int | None) -> RoutingData:
    outputs = {name: {"score": 1.0, "cost_usd": 0.1} for name in "abc"}
    return RoutingData.from_rows(
        Row.model_validate({"id": row_id, "prompt": f"What is {i}?", "outputs": outputs})
        for i, row_id in enumerate(ids)
    )


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_files_are_found_by_name(tmp_path: Path, suffix: str) -> None:
    content = json.dumps({"1": {"a": "4"}}).encode()
    packed = gzip.compress(content) if suffix.endswith("gz") else content
    (tmp_path / f"sums{suffix}").write_bytes(packed)
    assert load_answers(tmp_path, ["other", "sums"]) == {"1": {"a": "4"}}


def test_the_same_answer_has_the_same_number() -> None:
    labels = {"a": "4 hours", "b": "The answer is 4.", "c": "5"}
    assert answer_codes(data("x"), {"x": labels}).tolist() == [[0, 0, 1]]


def test_an_empty_label_is_no_answer_and_none_is_unknown() -> None:
    codes = answer_codes(data("x", "y", None), {"x": {"a": "4", "b": ""}, "y": {"c": None}})
    assert codes.tolist() == [
        [0, NO_ANSWER, UNKNOWN],
        [UNKNOWN, UNKNOWN, NO_ANSWER],
        [UNKNOWN, UNKNOWN, UNKNOWN],
    ]


def test_a_label_in_which_nothing_is_found_is_an_answer_as_it_is() -> None:
    codes = answer_codes(data("x"), {"x": {"a": "otter", "b": "otter", "c": "(B)"}}, choice)
    assert codes.tolist() == [[0, 0, 1]]


def test_ids_may_be_numbers() -> None:
    assert answer_codes(data(7), {"7": {"a": "1", "b": "1", "c": "1"}}).tolist() == [[0, 0, 0]]


def test_other_ids_are_none() -> None:
    assert data(True, 1.5, None).ids == ("", "", "")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["[]", "{", '{"1": {"a": 4}}', '{"1": ["a"]}', '{"1": "a"}'])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "sums.json").write_text(content)
    with pytest.raises(DataError, match="row id") as raised:
        load_answers(tmp_path, ["sums"])
    assert "sums.json" in str(raised.value)


def test_a_folder_without_any_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no sums\.json and no sums\.json\.gz"):
        load_answers(tmp_path, ["sums"])


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"1": {"a": "4"}}')
    (tmp_path / "answers").mkdir()
    with pytest.raises(DataError, match="none of"):
        load_answers(tmp_path / "answers", ["../secret"])


def test_a_file_may_be_one_line_that_is_longer_than_a_row_may_be(tmp_path: Path) -> None:
    labels = {str(i): {"a": "word " * 200_000} for i in range(20)}
    (tmp_path / "sums.json").write_text(json.dumps(labels))
    assert load_answers(tmp_path, ["sums"]) == labels


def test_an_id_of_two_rows_is_refused_where_there_are_answers_to_it(tmp_path: Path) -> None:
    for name, label in (("sums", "4"), ("others", "5")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"1": {"a": label}, "x": {"a": "6"}}))
    with pytest.raises(DataError, match=r"others\.json: '1' is another row in .*sums\.json"):
        load_answers(tmp_path, ["sums", "others"])
    check_ids(data("x", "x"), {"y": {"a": "4"}})
    check_ids(data("x", "y", None, None), {"x": {"a": "4"}, "": {"a": "4"}})
    with pytest.raises(DataError, match="id 'x' is that of rows that ask different things"):
        check_ids(data("x", "x"), {"x": {"a": "4"}})


def test_a_file_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sums.json.gz").write_bytes(gzip.compress(b" \n" * 20_000_000))
    with pytest.raises(DataError, match="inflates"):
        load_answers(tmp_path, ["sums"])
