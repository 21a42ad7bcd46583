from __future__ import annotations

import contextlib
import csv as csv_module
import gzip
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes_core import Run

from crossroute import DataError, MissingExtraError
from crossroute.evaluation.routerbench import import_routerbench, write_rows
from crossroute.training.data import RoutingData, Row

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

DEAR, CHEAP = "gpt-4-1106-preview", "mistralai/mistral-7b-chat"
COLUMNS: dict[str, list[object]] = {
    "sample_id": ["mmlu-law.val.1", "abstract2title.dev.0", "grade-school-math.dev.7"],
    # As in the release: the `str` of a list of parts, with either quote. The last is plain.
    "prompt": [
        str(['What\'s a "tort"?\nA) x']),
        str(["Write a title.", "路由 is"]),
        "[2] + [3] = ?",
    ],
    "eval_name": ["mmlu-law", "abstract2title", "grade-school-math"],
    DEAR: [1.0, 0.75, 1.0],
    CHEAP: [0.0, 1.0, 0.25],
    f"{DEAR}|model_response": ["['A']", "['Routes']", "['5']"],
    f"{CHEAP}|model_response": ["['B']", "['On routes']", "['6']"],
    f"{DEAR}|total_cost": [0.00973, 0.01077, 0.002],
    f"{CHEAP}|total_cost": [6.22e-05, 4.96e-05, 5e-05],
    "oracle_model_to_route_to": [DEAR, CHEAP, DEAR],
    "notes|total_cost": [1, 2, 3],
    "Unnamed: 0": [0, 1, 2],
}
PROMPTS = ['What\'s a "tort"?\nA) x', "Write a title.\n\n路由 is", "[2] + [3] = ?"]
DOCS = Path(__file__).parents[2] / "docs"


def save(path: Path, **changes: object) -> Path:
    """Write the table, its columns changed (by name; None drops one), as the suffix says."""
    columns: dict[str, Any] = {
        name: cells for name, cells in (COLUMNS | changes).items() if cells is not None
    }
    if path.name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        table = csv_module.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "bench.csv"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_table_becomes_rows(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = import_routerbench(save(tmp_path / f"routerbench_0shot{suffix}"))
    assert [row.prompt for row in rows] == PROMPTS
    assert {row.dataset for row in rows} == {"routerbench"}
    assert {(row.split, row.question, row.input_tokens) for row in rows} == {(None, None, None)}
    assert [set(row.outputs) for row in rows] == [{DEAR, CHEAP}] * 3
    assert [row.outputs[DEAR].score for row in rows] == COLUMNS[DEAR]
    costs = [row.outputs[CHEAP].cost_usd for row in rows]
    assert costs == pytest.approx(COLUMNS[f"{CHEAP}|total_cost"])
    if "task" in Row.model_fields:
        assert [row.model_dump()["task"] for row in rows] == COLUMNS["eval_name"]
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_rows_are_written_as_routing_data(tmp_path: Path, csv: Path, suffix: str) -> None:
    rows = import_routerbench(save(csv))
    path = tmp_path / f"routerbench{suffix}"
    write_rows(rows, path)
    data = RoutingData.load([path])
    assert data.prompts == tuple(PROMPTS)
    assert data.models == (DEAR, CHEAP)
    assert set(data.dataset) == {"routerbench"}
    assert data.score[:, 0].tolist() == COLUMNS[DEAR]
    assert data.cost_usd[:, 1] == pytest.approx(COLUMNS[f"{CHEAP}|total_cost"])
    assert data.split.tolist() == RoutingData.from_rows(rows).split.tolist()


def test_rows_are_only_written_to_data_files(tmp_path: Path, csv: Path) -> None:
    rows = import_routerbench(save(csv))
    with pytest.raises(DataError, match=r"out\.json: .*\.jsonl"):
        write_rows(rows, tmp_path / "out.json")
    with pytest.raises(DataError, match=r"out\.jsonl: cannot be written"):
        write_rows(rows, tmp_path / "missing" / "out.jsonl")


PARTS = [
    (["One", "two"], "One\n\ntwo"),
    ("['One', 'two']", "One\n\ntwo"),
    ("plain", "plain"),
    ("[1, 2]", "[1, 2]"),
    ("[not a list]", "[not a list]"),
    ("['a'] or ['b'", "['a'] or ['b'"),
    ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
    ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
    ("""['it\\'s', "it's"]""", "it's\n\nit's"),
    # As a syntax tree of Python, some GB.
    ("[" + "''," * 300_000 + "'']", "[" + "''," * 300_000 + "'']"),
    ("[" + "1," * 300_000 + "1]", "[" + "1," * 300_000 + "1]"),
    ("['" + "x" * 200_000 + "']", "x" * 200_000),
]


@pytest.mark.parametrize(("cell", "prompt"), PARTS)
def test_a_prompt_is_text_or_a_list_of_its_parts(tmp_path: Path, cell: object, prompt: str) -> None:
    rest: list[object] = [["b"], ["c"]] if isinstance(cell, list) else ["b", "c"]
    path = save(tmp_path / "bench.parquet", prompt=[cell, *rest])
    assert [row.prompt for row in import_routerbench(path)] == [prompt, "b", "c"]
    if isinstance(cell, str):
        path = save(tmp_path / "bench.csv", prompt=[cell, "b", "c"])
        assert import_routerbench(path)[0].prompt == prompt


def test_answers_without_a_score_or_cost_are_left_out(
    csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {DEAR: [1.5, None, "x"], f"{CHEAP}|total_cost": [0.1, -0.1, 0]}
    rows = import_routerbench(save(csv, **changes))
    assert [list(row.outputs) for row in rows] == [[CHEAP], [CHEAP]]
    assert rows[1].outputs[CHEAP].cost_usd == 0
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "left out 4 answers" in record.message
    assert "1 of 3 rows: row 2 (no usable outputs)" in record.message


@pytest.mark.parametrize("blank", [None, " ", "[]", "['']"])
def test_rows_without_a_prompt_are_left_out(
    csv: Path, blank: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(import_routerbench(save(csv, prompt=["Why?", "How?", blank]))) == 2
    assert "1 of 3 rows: row 3 (no usable prompt)" in caplog.text


def test_a_table_without_a_usable_row_is_refused(csv: Path) -> None:
    changes = {DEAR: [None] * 3, CHEAP: [2, 2, 2]}
    with pytest.raises(DataError, match=r"bench\.csv: none of its 3 rows .*row 1 .*row 2 .*row 3"):
        import_routerbench(save(csv, **changes))
    with pytest.raises(DataError, match=r"none of its 0 rows is usable\.$"):
        import_routerbench(save(csv, **{name: [] for name in COLUMNS}))


LONG = {DEAR: None, CHEAP: None, "model_name": [DEAR] * 3, "performance": [1, 0, 1]}


@pytest.mark.parametrize("changes", [{"prompt": None}, {"eval_name": None}, LONG])
def test_another_table_is_told_which_columns_are_expected(
    csv: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"'prompt', 'eval_name'.*'<model>'.*'<model>\|total_cost'"):
        import_routerbench(save(csv, **changes))


def test_flags_are_scores(tmp_path: Path) -> None:
    flags = [True, False, True]
    for name in ("bench.csv", "bench.parquet"):
        rows = import_routerbench(save(tmp_path / name, **{DEAR: flags}))
        assert [row.outputs[DEAR].score for row in rows] == [1, 0, 1]


def test_a_row_with_cells_too_many_or_too_few_is_left_out(
    csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with save(csv).open("a") as file:
        file.write("too,few\n\n")
    assert len(import_routerbench(csv)) == 3
    assert "1 of 4 rows: row 4" in caplog.text


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"prompt,eval_name\na,b\n" * 99)
    header = ",".join(COLUMNS).encode()
    for name, content in [
        ("latin.csv", header + b"\n\xff\xfe"),
        ("quote.csv", header + b'\n"never closed\n' * 3),
        ("cut.csv.gz", whole[:-20]),
        ("damaged.csv.gz", whole[:12] + b"\xff" * 20),
        ("no.parquet", b"PAR1 or not"),
        ("cut.parquet", save(tmp_path / "whole.parquet").read_bytes()[:-9]),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: (cannot be read|not a RouterBench table)"):
            import_routerbench(path)
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read"):
        import_routerbench(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"gone\.parquet: cannot be read"):
        import_routerbench(tmp_path / "gone.parquet")
    with pytest.raises(DataError, match=r"bench\.xlsx: expected a \.csv"):
        import_routerbench(tmp_path / "bench.xlsx")


def test_a_column_of_another_type_is_no_traceback(tmp_path: Path) -> None:
    for column in ("prompt", DEAR, f"{CHEAP}|total_cost"):
        for cells in ([b"x"] * 3, [{"a": 1}] * 3, [[[1]]] * 3):
            path = save(tmp_path / "bench.parquet", **{column: cells})
            with contextlib.suppress(DataError):
                assert import_routerbench(path)


def test_a_table_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    long = "x" * 200_000
    changes = {name: [cells[0]] * 500 for name, cells in COLUMNS.items()} | {"prompt": [long] * 500}
    for name in ("bench.parquet", "bench.csv.gz"):
        path = save(tmp_path / name, **changes)
        with pytest.raises(DataError, match=rf"{name}:\d+: inflates to more than 100 times"):
            import_routerbench(path)


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "routerbench_0shot.PICKLE"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    # Not even there: nothing of it is looked at.
    with pytest.raises(DataError, match=r"can run code.*read_pickle\('.*to_parquet\('.*parquet'\)"):
        import_routerbench(tmp_path / name)


def test_the_documented_line_makes_parquet_of_the_release(tmp_path: Path) -> None:
    """The release's pickle holds an object column for everything."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(COLUMNS, dtype=object)
    table.columns = pandas.Index(COLUMNS, dtype=object)
    table.to_pickle(tmp_path / "routerbench_0shot.pkl")
    [line] = re.findall(r"^ +python -c (.*)$", (DOCS / "data.md").read_text("utf-8"), re.MULTILINE)
    assert line[0] == line[-1] == '"'
    subprocess.run([sys.executable, "-c", line[1:-1]], cwd=tmp_path, check=True)
    rows = import_routerbench(tmp_path / "routerbench_0shot.parquet")
    assert [row.prompt for row in rows] == PROMPTS
    assert [row.outputs[DEAR].score for row in rows] == COLUMNS[DEAR]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"'pyarrow'.*crossroute\[benchmark\]"):
        import_routerbench(tmp_path / "a.parquet")


def test_the_command_makes_routing_data_of_a_table(tmp_path: Path, run: Run) -> None:
    path = save(tmp_path / "bench.csv")
    code, out, _ = run("import-routerbench", path, "--out", tmp_path / "bench.jsonl")
    assert code == 0
    assert "3 prompts, 2 models" in out
    assert len(RoutingData.load([tmp_path / "bench.jsonl"])) == 3
    code, _, err = run("import-routerbench", tmp_path / "b.pkl", "--out", tmp_path / "b.jsonl")
    assert code == 1
    assert "to_parquet('b.parquet')" in err
    code, _, err = run("import-routerbench", path, "--out", path, "--allow-pickle")
    assert code == 2
