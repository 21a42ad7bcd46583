"""RouterBench's public release as routing data.

`withmartian/routerbench` on the Hugging Face hub is tables with one prompt a row: `prompt`,
`eval_name` and, for each model, `<model>` (score) and `<model>|total_cost` (USD). The columns
`sample_id`, `<model>|model_response` and `oracle_model_to_route_to` are not read. The tables are
pickles, which are not read here; `docs/data.md` says how one becomes a parquet file.
"""

from __future__ import annotations

import ast
import csv
import gzip
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from crossroute.errors import DataError, MissingExtraError
from crossroute.lines import MOST_LINE_BYTES, check_inflated, read_all_lines
from crossroute.training.data import MOST_MODELS, SHOWN_BROKEN_LINES, Output, Row

COST = "|total_cost"
READ_AT_ONCE = 16
"""Rows of a parquet file that are in memory at a time."""
MOST_PARTS = 1_000
"""Parts of a prompt; a longer list is the prompt itself."""
_PART = re.compile(r"""'(?:[^'\\\n]++|\\.)*+'|"(?:[^"\\\n]++|\\.)*+\"""")
_LIST = re.compile(rf"\[(?:(?:{_PART.pattern})(?:, *(?:{_PART.pattern}))*+)?\]")
_logger = logging.getLogger(__name__)

Cells = Mapping[str, object]


def import_routerbench(path: Path) -> list[Row]:
    """Read a RouterBench table; what is left out of it is counted in a logged warning.

    An answer is left out where its score is not within 0..1 or its cost is missing or negative, a
    row where it has no prompt or no answer. Rows have no split, so that their prompts decide it.

    Args:
        path: A `.csv`, `.csv.gz` or `.parquet` file.

    Raises:
        DataError: If the file cannot be read, lacks columns, or has no usable row.
        MissingExtraError: If pyarrow, which reads parquet, is not installed.
    """
    rows: list[Row] = []
    shown: list[str] = []
    number = lost = 0
    for number, cells in enumerate(_read(path), 1):
        models = [name for name in cells if name + COST in cells]
        answers = {model: _output(cells[model], cells[model + COST]) for model in models}
        outputs = {model: answer for model, answer in answers.items() if answer}
        lost += len(answers) - len(outputs)
        task = cells.get("eval_name")
        fields = {
            "prompt": _text(cells.get("prompt")),
            "outputs": outputs,
            "dataset": "routerbench",
            "task": task if isinstance(task, str) else None,
        }
        try:
            rows.append(Row.model_validate(fields))
        except ValidationError as error:
            if len(shown) <= SHOWN_BROKEN_LINES:
                shown.append(f"row {number} (no usable {error.errors()[0]['loc'][0]})")
    if len(shown) > SHOWN_BROKEN_LINES:
        shown[-1] = "..."
    if not rows:
        raise DataError(f"{path}: none of its {number} rows is usable. {', '.join(shown)}".rstrip())
    if lost or shown:
        _logger.warning(
            "%s: left out %d answers (no score within 0..1, or no cost) and %d of %d rows%s",
            *(path, lost, number - len(rows), number, f": {', '.join(shown)}" if shown else ""),
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


def _read(path: Path) -> Iterator[Cells]:
    """The rows of a table, of their columns those that are used."""
    name = path.name.lower()
    if name.endswith((".pkl", ".pickle")):
        raise DataError(
            f"{path} is a pickle, which can run code when it is read. Make parquet of it where you "
            f"trust it: pandas.read_pickle({path.name!r}).to_parquet({path.stem + '.parquet'!r})"
        )
    if name.endswith(".parquet"):
        return _read_parquet(path)
    if name.endswith((".csv", ".csv.gz")):
        return _read_csv(path)
    raise DataError(f"{path}: expected a .csv, .csv.gz or .parquet file.")


def _used(path: Path, columns: Sequence[str]) -> list[str]:
    """Of a table's columns those that are read."""
    names = set(columns)
    models = [name for name in columns if name + COST in names]
    if not models or not {"prompt", "eval_name"} <= names:
        raise DataError(
            f"{path}: not a RouterBench table. It needs the columns 'prompt', 'eval_name' and, for "
            f"each model, '<model>' (score) and '<model>{COST}' (USD). "
            "(routerbench_raw.pkl has one answer a row: take the 0shot or the 5shot file.)"
        )
    if len(models) > MOST_MODELS:
        raise DataError(f"{path}: has {len(models):,} models, of at most {MOST_MODELS:,}.")
    return ["prompt", "eval_name", *models, *(model + COST for model in models)]


def _read_csv(path: Path) -> Iterator[Cells]:
    # A prompt may be longer than csv's own limit, which is one for the whole process.
    limit = csv.field_size_limit(MOST_LINE_BYTES)
    try:
        # Strictly: a quote that is never closed would make the rest of the file one cell.
        table = csv.reader((line.decode() for _, line in read_all_lines(path)), strict=True)
        columns = next(table, [])
        place = {name: position for position, name in enumerate(columns)}
        used = [(name, place[name]) for name in _used(path, columns)]
        for cells in table:
            if cells:
                whole = len(cells) == len(columns)
                yield {name: cells[position] for name, position in used} if whole else {}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read after line {table.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _read_parquet(path: Path) -> Iterator[Cells]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("pyarrow", "benchmark") from error
    number = size = 0
    try:
        with parquet.ParquetFile(path) as file:
            used = _used(path, file.schema_arrow.names)
            for batch in file.iter_batches(READ_AT_ONCE, columns=used):
                for cells in batch.to_pylist():
                    number += 1
                    size += sum(len(x) if isinstance(x, str) else 8 for x in cells.values())
                    check_inflated(path, size, path.stat().st_size, number)
                    yield cells
    except DataError:
        raise
    # A column of another type than expected is made a value of by almost anything.
    except (ArrowException, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _output(score: object, cost: object) -> Output | None:
    if isinstance(score, str):
        score = {"True": 1, "False": 0}.get(score, score)
    try:
        return Output.model_validate({"score": score, "cost_usd": cost})
    except ValidationError:
        return None


def _text(cell: object) -> str:
    """A prompt's text: the release writes its parts (system, user, ...) as `str` of a list."""
    # Nothing but quoted strings, and few: the literal's syntax tree takes hundreds of times its
    # length in memory.
    if isinstance(cell, str) and _LIST.fullmatch(cell) and len(_PART.findall(cell)) <= MOST_PARTS:
        try:
            cell = ast.literal_eval(cell)
        except (ValueError, SyntaxError):
            return str(cell)
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):
        return "\n\n".join(cell)
    return cell if isinstance(cell, str) else ""
