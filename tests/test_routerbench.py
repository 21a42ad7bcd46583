from __future__ import annotations

import gzip
import io
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossroute import DataError, MissingExtraError
from crossroute.data import RoutingData, Row
from crossroute.evaluation.routerbench import _TableUnpickler, import_routerbench, write_rows

pandas = pytest.importorskip("pandas")

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
# The pickle imports that the hub lists for routerbench_0shot.pkl and routerbench_5shot.pkl.
RELEASE = [
    "builtins.slice",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "numpy.ndarray",
    "pandas._libs.internals._unpickle_block",
    "pandas.core.frame.DataFrame",
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.base._new_Index",
    "pandas.core.indexes.range.RangeIndex",
    "pandas.core.internals.managers.BlockManager",
]


def save(path: Path, **changes: object) -> Path:
    """Write the table, its columns changed (by name; None drops one), as the suffix says."""
    columns = {name: cells for name, cells in (COLUMNS | changes).items() if cells is not None}
    # The release holds objects, and so does its index of columns; pandas 3 would make it strings.
    table = pandas.DataFrame(columns, dtype=object)
    table.columns = pandas.Index(columns, dtype=object)
    if path.name.endswith(".parquet"):
        table.infer_objects().to_parquet(path)
    elif path.suffix == ".pkl":
        table.to_pickle(path)
    else:
        table.to_csv(path, index=False)
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "bench.csv"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".pkl"])
def test_a_table_becomes_rows(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = save(tmp_path / f"routerbench_0shot{suffix}")
    rows = import_routerbench(path, allow_pickle=suffix == ".pkl")
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
    (np.array(["One", "two"], dtype=object), "One\n\ntwo"),
    ("['One', 'two']", "One\n\ntwo"),
    ("plain", "plain"),
    ("[1, 2]", "[1, 2]"),
    ("[not a list]", "[not a list]"),
    ("['a'] or ['b'", "['a'] or ['b'"),
    ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
    ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
]


@pytest.mark.parametrize(("cell", "prompt"), PARTS)
def test_a_prompt_is_text_or_a_list_of_its_parts(tmp_path: Path, cell: object, prompt: str) -> None:
    path = save(tmp_path / "bench.pkl", prompt=[cell, "b", "c"])
    assert import_routerbench(path, allow_pickle=True)[0].prompt == prompt


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


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    whole = gzip.compress(b"prompt,eval_name\na,b\n" * 99)
    for name, content in [
        ("empty.csv", b""),
        ("latin.csv", b"prompt\n\xff\xfe"),
        ("cut.csv.gz", whole[:-20]),
        ("damaged.csv.gz", whole[:12] + b"\xff" * 20),
        ("no.parquet", b"PAR1 or not"),
        ("cut.pkl", pickle.dumps(["a"])[:-3]),
        ("list.pkl", pickle.dumps(["a"])),
        ("no.pickle", b"prompt,eval_name"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            import_routerbench(path, allow_pickle=True)
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read"):
        import_routerbench(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"bench\.xlsx: expected a \.csv"):
        import_routerbench(tmp_path / "bench.xlsx")


def test_a_pickle_needs_consent(tmp_path: Path) -> None:
    path = save(tmp_path / "bench.pkl")
    with pytest.raises(DataError, match=r"run code.*--allow-pickle.*parquet"):
        import_routerbench(path)


class Evil:
    def __init__(self, call: Callable[..., object], argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return self.call, (self.argument,)


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("call", [os.system, eval, pandas.read_pickle, pandas.eval, np.load])
def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, call: Callable[..., object], protocol: int
) -> None:
    victim = tmp_path / "victim"
    code = f"touch {victim}" if call is os.system else f"open({str(victim)!r}, 'w')"
    path = tmp_path / "evil.pkl"
    # The table is as it should be but for one cell.
    table = pandas.DataFrame({"prompt": [Evil(call, code)]}, dtype=object)
    path.write_bytes(pickle.dumps(table, protocol=protocol))
    with pytest.raises(DataError, match=r"evil\.pkl: cannot be read: it asks for .* no table"):
        import_routerbench(path, allow_pickle=True)
    path.write_bytes(pickle.dumps(Evil(call, code), protocol=protocol))
    with pytest.raises(DataError, match=rf"it asks for \S+\.{call.__name__}, which no table"):
        import_routerbench(path, allow_pickle=True)
    assert not victim.exists()


@pytest.mark.parametrize("name", RELEASE)
def test_the_release_can_be_unpickled(name: str) -> None:
    module, _, part = name.rpartition(".")
    assert callable(_TableUnpickler(io.BytesIO()).find_class(module, part))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core._multiarray_umath", "_reconstruct"),
        ("pandas.core.frame", "DataFrame.to_pickle"),
        ("builtins", "getattr"),
    ],
)
def test_no_other_global_can_be_unpickled(module: str, name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no table needs"):
        _TableUnpickler(io.BytesIO()).find_class(module, name)


@pytest.mark.parametrize(
    ("name", "package"), [("a.csv", "pandas"), ("a.parquet", "pyarrow"), ("a.pkl", "pandas")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*crossroute\[benchmark\]"):
        import_routerbench(tmp_path / name, allow_pickle=True)
