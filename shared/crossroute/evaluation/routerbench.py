"""RouterBench's public release as routing data.

`withmartian/routerbench` on the Hugging Face hub is tables with one prompt a row: `prompt`,
`eval_name` and, for each model, `<model>` (score) and `<model>|total_cost` (USD). The columns
`sample_id`, `<model>|model_response` and `oracle_model_to_route_to` are not read. The tables are
pickles; people also pass them on as CSV or parquet.
"""

from __future__ import annotations

import ast
import gzip
import logging
import pickle
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from crossroute.data import SHOWN_BROKEN_LINES, Output, Row
from crossroute.errors import DataError, MissingExtraError

COST = "|total_cost"
_logger = logging.getLogger(__name__)
_NUMPY_CORE = "numpy.core." if np.__version__.startswith("1.") else "numpy._core."
# All that the release's pickles name, by the hub's scan of them, and pandas 3's shorter names for
# the same. None of these runs code of the file's choosing.
_TABLE_PARTS = {
    "builtins.slice",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer",
    "pandas._libs.internals._unpickle_block",
    "pandas.core.frame.DataFrame",
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.base._new_Index",
    "pandas.core.indexes.range.RangeIndex",
    "pandas.core.internals.managers.BlockManager",
    "pandas.DataFrame",
    "pandas.Index",
    "pandas.RangeIndex",
}
# What reading a damaged file raises; unpickling may raise almost anything.
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError)


def import_routerbench(path: Path, *, allow_pickle: bool = False) -> list[Row]:
    """Read a RouterBench table; what is left out of it is counted in a logged warning.

    An answer is left out where its score is not within 0..1 or its cost is missing or negative, a
    row where it has no prompt or no answer. Rows have no split, so that their prompts decide it.

    Args:
        path: A `.csv`, `.csv.gz`, `.parquet`, `.pkl` or `.pickle` file.
        allow_pickle: Read a pickle. Even then, nothing but a plain table is built from it.

    Raises:
        DataError: If the file cannot be read, lacks columns, or has no usable row.
        MissingExtraError: If pandas, or pyarrow for a parquet file, is not installed.
    """
    table = _read(path, allow_pickle=allow_pickle)
    models = [str(name) for name in table.columns if f"{name}{COST}" in table.columns]
    if not models or not {"prompt", "eval_name"} <= set(table.columns):
        raise DataError(
            f"{path}: not a RouterBench table. It needs the columns 'prompt', 'eval_name' and, for "
            f"each model, '<model>' (score) and '<model>{COST}' (USD). "
            "(routerbench_raw.pkl has one answer a row: take the 0shot or the 5shot file.)"
        )
    rows: list[Row] = []
    broken: list[str] = []
    lost = 0
    for number, cells in enumerate(table.to_dict("records"), 1):
        answers = {model: _output(cells[model], cells[model + COST]) for model in models}
        outputs = {model: answer for model, answer in answers.items() if answer}
        lost += len(answers) - len(outputs)
        fields = {"prompt": _text(cells["prompt"]), "outputs": outputs, "dataset": "routerbench"}
        task = cells["eval_name"] if isinstance(cells["eval_name"], str) else None
        try:
            rows.append(Row.model_validate(fields | {"task": task}))
        except ValidationError as error:
            broken.append(f"row {number} (no usable {error.errors()[0]['loc'][0]})")
    shown = ", ".join(broken[:SHOWN_BROKEN_LINES]) + ", ..." * (len(broken) > SHOWN_BROKEN_LINES)
    if not rows:
        raise DataError(f"{path}: none of its {len(table)} rows is usable. {shown}".rstrip())
    if lost or broken:
        _logger.warning(
            "%s: left out %d answers (no score within 0..1, or no cost) and %d of %d rows%s",
            *(path, lost, len(broken), len(table), f": {shown}" if broken else ""),
        )
    return rows


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSON lines, gzipped if the name ends in `.gz`.

    Raises:
        DataError: If the name is not that of a data file, or the file cannot be written.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{path}: routing data is written to a .jsonl or .jsonl.gz file.")
    lines = "".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows).encode()
    try:
        path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error


class _TableUnpickler(pickle.Unpickler):
    """Builds pandas tables of plain values, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as pickle has it
        module = module.replace("numpy.core.", "numpy._core.")
        if f"{module}.{name}" not in _TABLE_PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table needs")
        # The release says numpy.core, at which numpy 2 warns.
        return super().find_class(module.replace("numpy._core.", _NUMPY_CORE), name)


def _read(path: Path, *, allow_pickle: bool) -> Any:  # noqa: ANN401 - pandas has no types
    name = path.name.lower()
    pickled = name.endswith((".pkl", ".pickle"))
    if not pickled and not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise DataError(f"{path}: expected a .csv, .csv.gz, .parquet, .pkl or .pickle file.")
    if pickled and not allow_pickle:
        raise DataError(
            f"{path} is a pickle, and reading a pickle can run code. If you trust its source, pass "
            "--allow-pickle (allow_pickle=True); else convert it to parquet or CSV."
        )
    try:
        import pandas  # type: ignore[import-untyped]

        if name.endswith(".parquet"):
            import pyarrow  # type: ignore[import-untyped]  # noqa: F401 - pandas needs it
    except ImportError as error:
        raise MissingExtraError(error.name or "pandas", "benchmark") from error
    try:
        if name.endswith(".parquet"):
            return pandas.read_parquet(path, engine="pyarrow")
        if not pickled:
            return pandas.read_csv(path, low_memory=False)
        with path.open("rb") as file:
            table = _TableUnpickler(file).load()
        if not isinstance(table, pandas.DataFrame):
            raise TypeError("it holds no table")
    except (*_DAMAGED, pickle.UnpicklingError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return table


def _output(score: object, cost: object) -> Output | None:
    try:
        return Output.model_validate({"score": score, "cost_usd": cost})
    except ValidationError:
        return None


def _text(cell: object) -> str:
    """A prompt's text: the release writes its parts (system, user, ...) as `str` of a list."""
    parts = cell
    if isinstance(cell, str) and cell.startswith("[") and cell.endswith("]"):
        try:
            parts = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return cell
    if isinstance(parts, list | tuple | np.ndarray) and all(isinstance(x, str) for x in parts):
        return "\n\n".join(parts)
    return cell if isinstance(cell, str) else ""
