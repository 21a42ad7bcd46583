"""Data files that would take the memory or the time of whoever reads them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from crossroute import CrossRouter, DataError
from crossroute.evaluation.comparison import TopicPrompt, compare, load_prompts
from crossroute.onboarding.scores import load_scores
from crossroute.training import data
from crossroute.training.data import RoutingData, Row


def line(prompt: str = "Why?", model: str = "a", **fields: object) -> bytes:
    row = {"prompt": prompt, "outputs": {model: {"score": 1, "cost_usd": 0.1}}} | fields
    return json.dumps(row).encode() + b"\n"


READERS: list[Callable[[Path], Sequence[object]]] = [
    lambda path: RoutingData.load([path]).prompts,
    lambda path: RoutingData.load([path], skip_broken=True).prompts,
    lambda path: load_scores(path, "a"),
    load_prompts,
]
every_reader = pytest.mark.parametrize("read", READERS, ids=["load", "skip", "scores", "prompts"])


@every_reader
@pytest.mark.parametrize(
    "content", [line() * 100_000, b"x\n" * 3_000_000, b"\n" * 4_500_000], ids=["row", "x", ""]
)
def test_a_small_file_that_inflates_to_a_large_one_is_refused_early(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(content, 9))
    assert path.stat().st_size < 30_000
    with pytest.raises(DataError, match=r"bomb\.jsonl\.gz.*(inflates to more|broken|not a)"):
        read(path)


def test_the_whole_of_a_file_may_inflate_as_data_does(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 10**9, 40_000)
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(line(str(number)) for number in digits)))
    assert len(RoutingData.load([path])) == 40_000


@every_reader
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_without_an_end_is_refused(
    tmp_path: Path, read: Callable[[Path], object], suffix: str
) -> None:
    path = tmp_path / f"long{suffix}"
    content = line() + b'{"prompt": "' + b"a" * 30_000_000
    path.write_bytes(gzip.compress(content) if suffix == ".jsonl.gz" else content)
    with pytest.raises(DataError, match=rf"long{suffix}:2: the line is longer than 16,777,216"):
        read(path)


def test_a_long_prompt_is_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(line("word " * 1_000_000))
    assert len(RoutingData.load([path]).prompts[0]) == 5_000_000


@pytest.mark.parametrize("field", ["model", "dataset", "task"])
def test_a_long_name_is_refused_in_few_words(tmp_path: Path, field: str) -> None:
    path = tmp_path / "names.jsonl"
    path.write_bytes(line(**{field: "x" * 100_000}) * 20)
    with pytest.raises(DataError, match=r"names\.jsonl:1: .*String should have at most") as caught:
        RoutingData.load([path])
    assert len(str(caught.value)) < 5_000


def test_a_new_model_a_row_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "models.jsonl"
    path.write_bytes(b"".join(line(model=f"m{number}") for number in range(20_000)))
    with pytest.raises(DataError, match=r"models\.jsonl:4473: .*all but empty. Keep to the models"):
        RoutingData.load([path])


def test_few_answers_of_many_models_are_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "FREE_CELLS", 0)
    rows = [
        Row.model_validate_json(line(model=f"m{number % models}"))
        for models in (50, 51)
        for number in range(1_000)
    ]
    assert RoutingData.from_rows(rows[:1_000]).score.shape == (1_000, 50)
    with pytest.raises(DataError, match=r"Row 51: 51 prompts and 51 models, but only 51 answers"):
        RoutingData.from_rows(rows[1_000:])


@pytest.mark.parametrize("output", ["{}", '{"score":1,"cost_usd":0}'])
def test_a_row_of_a_million_models_is_one_error(tmp_path: Path, output: str) -> None:
    path = tmp_path / "models.jsonl"
    outputs = ",".join(f'"{number}":{output}' for number in range(400_000))
    path.write_text(f'{{"prompt":"a","outputs":{{{outputs}}}}}')
    with pytest.raises(DataError, match="has 400,000 models, of at most 10,000") as caught:
        RoutingData.load([path])
    assert len(str(caught.value)) < 1_000


def test_too_many_models_and_data_sets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MOST_MODELS", 3)
    monkeypatch.setattr(data, "MOST_DATASETS", 3)
    path = tmp_path / "many.jsonl"
    path.write_bytes(b"".join(line(model=str(number)) for number in range(9)))
    with pytest.raises(DataError, match=r"many\.jsonl:4: this is the 4th model, of at most 3"):
        RoutingData.load([path])
    path.write_bytes(b"".join(line(dataset=str(number)) for number in range(9)))
    with pytest.raises(DataError, match=r"many\.jsonl:4: this is the 4th data set.*as task"):
        RoutingData.load([path])


def test_broken_lines_beyond_measure_end_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MOST_BROKEN_LINES", 30)
    path = tmp_path / "broken.jsonl"
    path.write_bytes(line() * 5 + b"x\n" * 1_000)
    for skip_broken in (False, True):
        with pytest.raises(DataError, match=r"36 of 41 rows are broken") as caught:
            RoutingData.load([path], skip_broken=skip_broken)
        assert "whether this is a file of routing data" in str(caught.value)
        assert "... and 26 more" in str(caught.value)
    path.write_bytes(line() * 5 + b"x\n" * 35)
    assert len(RoutingData.load([path], skip_broken=True)) == 5


NUMBERS = ["1" + "0" * 400, "-1" + "0" * 5000, "1e999", "-Infinity", "NaN", "1e308", "[]"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["score", "cost_usd", "output_tokens"])
def test_a_number_that_is_none_is_named(tmp_path: Path, field: str, number: str) -> None:
    values = {"score": "1", "cost_usd": "0.1", "output_tokens": "5"} | {field: number}
    output = ",".join(f'"{name}":{value}' for name, value in values.items())
    path = tmp_path / "numbers.jsonl"
    path.write_text(f'{{"prompt":"a","outputs":{{"a":{{{output}}}}}}}\n')
    for read in (READERS[0], READERS[2]):
        with pytest.raises(DataError, match=r"numbers\.jsonl(:1:|, line 1:) .*"):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"prompt":' * 100_000,
        f'{{"prompt":"a","outputs":{"[" * 5000}{"]" * 5000}}}',
        '{"prompt":"\\ud800","score":1,"outputs":{"a":{"score":1,"cost_usd":0}}}',
        '{"prompt":"a","score":1,"outputs":{"\\udfff":{"score":1,"cost_usd":0}}}',
        '{"prompt":"\udcff","score":1}',
    ],
    ids=["list", "mapping", "outputs", "surrogate", "key", "bytes"],
)
@every_reader
def test_json_that_python_chokes_on_is_a_broken_line(
    tmp_path: Path, read: Callable[[Path], object], text: str
) -> None:
    path = tmp_path / "json.jsonl"
    path.write_text(text + "\n", "utf-8", "surrogateescape")
    with pytest.raises(DataError, match=r"json\.jsonl"):
        read(path)


def test_a_nul_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "nul.jsonl"
    path.write_bytes(line("a\0b"))
    for read in READERS:
        assert len(read(path)) == 1


def test_scores_with_fields_beyond_measure_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "fields.jsonl"
    fields = ",".join(f'"{number}":0' for number in range(500_000))
    path.write_text(f'{{"prompt":"a","score":1,{fields}}}')
    with pytest.raises(DataError, match="line 1: not a scored answer: has 500,002 fields"):
        load_scores(path, "a")


@pytest.mark.parametrize("text", ["[]", "0", '""', "null", "false"])
def test_a_line_of_scores_that_says_nothing_is_broken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "nothing.jsonl"
    path.write_text('{"prompt":"a","score":1}\n' + text)
    with pytest.raises(DataError, match=r"nothing\.jsonl, line 2: not a scored answer"):
        load_scores(path, "a")


def test_gzipped_prompts_are_json_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt":"Why?","topic":7}\n'))
    assert load_prompts(path) == [TopicPrompt("Why?", "7")]
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"Why?\n\xe9t\xe9\n")
    with pytest.raises(DataError, match=r"latin\.txt, line 2: not text in UTF-8"):
        load_prompts(latin)


def test_a_path_that_no_system_has_is_named() -> None:
    for read in READERS:
        with pytest.raises(DataError, match="cannot be read"):
            read(Path("a\0b.jsonl"))
        with pytest.raises(DataError, match="cannot be read"):
            read(Path(__file__).parent)


def test_every_topic_has_its_prompts(router: CrossRouter) -> None:
    prompts = [TopicPrompt("Why?", f"topic {number % 150}") for number in range(300)]
    found = compare(router, "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", prompts)
    assert [one.topic for one in found[:2]] == [None, "topic 0"]
    assert [one.prompts for one in found] == [300, *[2] * 150]
