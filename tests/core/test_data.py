from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from fakes_core import SHARED_DATA, make_rows, write_rows

from crossroute import DataError
from crossroute.training.data import RoutingData, as_messages


def row(**changes: object) -> dict[str, object]:
    return {
        "prompt": "Why?",
        "outputs": {"a": {"score": 1, "cost_usd": 0.1}, "b": {"score": 0, "cost_usd": 0.2}},
    } | changes


def test_rows_become_arrays(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "set.jsonl",
        [
            row(split="train", input_tokens=7),
            row(split="test", outputs={"c": {"score": 0.5, "cost_usd": 1, "output_tokens": 3}}),
        ],
    )
    data = RoutingData.load([path])
    assert data.models == ("a", "b", "c")
    assert data.dataset.tolist() == ["set", "set"]
    assert np.isnan(data.score[0, 2])
    assert data.output_tokens[1, 2] == 3
    assert data.input_tokens[0].tolist() == pytest.approx([7, 7, math.nan], nan_ok=True)
    assert data.of_split("test").models == ("c",)


def test_one_id_in_two_files_is_one_model(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", [row()])
    two = write_rows(tmp_path / "two.jsonl", [row(outputs={"b": {"score": 1, "cost_usd": 0.3}})])
    data = RoutingData.load([one, two])
    assert data.models == ("a", "b")
    assert data.cost_usd[:, 1].tolist() == [0.2, 0.3]
    assert {name: len(part) for name, part in data.by_dataset()} == {"one": 1, "two": 1}


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps(row()) + "\n\n")
    assert len(RoutingData.load([path])) == 1


BROKEN = [
    ("{not json", "JSON"),
    (json.dumps(row(prompt=" ")), "prompt"),
    (json.dumps(row(outputs={})), "outputs"),
    (json.dumps(row(outputs={"a": {"score": 1.5, "cost_usd": 0}})), r"outputs\.a\.score"),
    (json.dumps(row(outputs={"a": {"score": 1, "cost_usd": -1}})), r"outputs\.a\.cost_usd"),
    ('{"prompt": "x", "outputs": {"a": {"score": NaN, "cost_usd": 0}}}', "score"),
    (json.dumps(row(split=" ")), "split"),
    ("[]", "object|dictionary|Object"),
    (json.dumps(row(outputs={"a": {"score": 1, "cost_usd": -7}})), "got -7"),
]


@pytest.mark.parametrize(("line", "said"), BROKEN)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "set.jsonl"
    good = json.dumps(row())
    path.write_text(f"{good}\n{line}\n{good}\n", "utf-8")
    with pytest.raises(DataError, match=rf"set\.jsonl:2: .*({said})") as caught:
        RoutingData.load([path])
    assert "1 of 3 rows" in str(caught.value)
    assert "--skip-broken" in str(caught.value)
    assert len(RoutingData.load([path], skip_broken=True)) == 2


def test_what_is_not_utf8_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    good = json.dumps(row()).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n" + good[:-1] + b"\xff}\n" + good)
    with pytest.raises(DataError, match=r"set\.jsonl:2: .*\n?"):
        RoutingData.load([path])
    assert len(RoutingData.load([path], skip_broken=True)) == 2


def test_a_name_with_dots_is_a_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "gpt-4.1.jsonl", [row()])
    assert RoutingData.load([path]).dataset.tolist() == ["gpt-4.1"]


def test_what_a_test_row_asks_is_not_trained_on() -> None:
    from crossroute.training.data import Row

    rows = [
        Row.model_validate(row(prompt=prompt, split=split, question=question))
        for prompt, split, question in (
            ("Why is the sky blue?", "test", None),
            ("WHY is the sky -- blue", "train", None),
            ("Answer in one word. Why is the sky blue?", "valid", "Why is the sky blue?"),
            ("Why is grass green?", "train", None),
        )
    ]
    assert RoutingData.from_rows(rows).without_test().prompts == ("Why is grass green?",)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.jsonl: cannot be read"):
        RoutingData.load([tmp_path / "missing.jsonl"])
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(DataError, match="no usable row"):
        RoutingData.load([empty])
    with pytest.raises(DataError, match="No data file"):
        RoutingData.load([])
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(row()).encode() * 100)[:-20])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: cannot be read"):
        RoutingData.load([cut])


def test_a_split_is_given_by_the_question_and_is_stable(tmp_path: Path) -> None:
    rows = [row(prompt=f"Prompt {n}") for n in range(500)]
    data = RoutingData.load([write_rows(tmp_path / "a.jsonl", rows)])
    again = RoutingData.load([write_rows(tmp_path / "b.jsonl", rows[::-1])])
    assert data.split.tolist() == again.split.tolist()[::-1]
    shares = [(data.split == name).mean() for name in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)


def test_a_missing_split_is_said() -> None:
    from crossroute.training.data import Row

    rows = [Row.model_validate(r) for r in make_rows(20)]
    train = RoutingData.from_rows([r for r in rows if r.split == "train"])
    with pytest.raises(DataError, match=r"'test'.*'train': 12"):
        train.of_split("test")


def test_complete_rows_have_every_model() -> None:
    from crossroute.training.data import Row

    rows = [
        Row.model_validate(row()),
        Row.model_validate(row(outputs={"b": {"score": 1, "cost_usd": 0.3}})),
    ]
    assert len(RoutingData.from_rows(rows).complete()) == 1
    apart = [Row.model_validate(row(outputs={x: {"score": 1, "cost_usd": 0}})) for x in "ab"]
    with pytest.raises(DataError, match="no prompt has a score and a cost of all"):
        RoutingData.from_rows(apart).complete()


@pytest.mark.parametrize(
    ("prompt", "question", "messages"),
    [
        (
            "You label tickets.\n\nIt broke. \n",
            " It broke.",
            ("You label tickets.\n\n", "It broke."),
        ),
        ("It broke.", "It broke.", None),
        (" \n It broke.", "It broke.", None),
        ("It broke. Label it.", "It broke.", None),
        ("You label tickets.", "", None),
        ("You label tickets.", " ", None),
    ],
)
def test_a_prompt_that_ends_with_its_question_is_two_messages(
    prompt: str, question: str, messages: tuple[str, str] | None
) -> None:
    expected = messages and [
        {"role": role, "content": content}
        for role, content in zip(("system", "user"), messages, strict=True)
    ]
    assert as_messages(prompt, question) == expected


def test_rows_are_read_as_conversations_where_they_can_be() -> None:
    from crossroute.training.data import Row

    messages = [{"role": "user", "content": "Label it. It broke."}]
    rows = [
        row(prompt="Label it. It broke.", question="It broke."),
        row(prompt="It broke."),
        row(prompt=messages, question="It broke."),
    ]
    data = RoutingData.from_rows([Row.model_validate(r) for r in rows])
    first, *others = data.conversations()
    assert first == as_messages("Label it. It broke.", "It broke.")
    assert others == [None, None]


def test_the_requests_of_a_product_are_all_conversations() -> None:
    file = SHARED_DATA / "today" / "zoonk.jsonl.gz"
    if not file.is_file():
        pytest.skip("the data sets of ../shared/data are not here")
    assert None not in RoutingData.load([file]).conversations()
