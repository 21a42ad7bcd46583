"""Prompts out of the logs of an application: many formats in, JSON lines out."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from pydantic_core import from_json

from crossroute.errors import DataError, QueryError
from crossroute.files import check_regular, replacing
from crossroute.lines import MOST_LINE_BYTES, read_all_lines, read_lines
from crossroute.query import Query
from crossroute.secret_text import SECRET_NAME, mask_secrets
from crossroute.traffic.log_formats import Call, Unread, format_of
from crossroute.traffic.log_messages import LogError

SHOWN_PLACES = 3
"""How many places a reason names."""

MOST_DOCUMENT_BYTES = 256 * 2**20
"""Of a file that is one JSON document, which is read as a whole."""

MOST_HELD = 20_000
"""Chains whose model calls may still come in the files: they are held in memory."""

MOST_TOPIC = 100
"""Characters of a topic, as of the `task` that it becomes in routing data."""

PLAIN_TEXT = "lines of text"
TOO_DEEP = "lists in lists, too deep to be read"

_JSON = (".json", ".jsonl", ".ndjson")
_TABLES = {
    ".parquet": "COPY (SELECT * FROM 'FILE.parquet') TO 'FILE.jsonl' in DuckDB",
    ".csv": "COPY (SELECT * FROM 'FILE.csv') TO 'FILE.jsonl' in DuckDB",
}


@dataclass
class Skipped:
    """What was not read for one reason: how often, and the first places."""

    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """What an import found.

    Attributes:
        written: Prompts in the file that was written.
        distinct: Distinct prompts, of which a sample may have been taken.
        duplicates: Prompts that were left out because they had been there before.
        masked: Prompts in which something that looks like a secret was masked.
        formats: Prompts by the format that they were in, duplicates too.
        skipped: What was not read, by reason.
    """

    written: int = 0
    distinct: int = 0
    duplicates: int = 0
    masked: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, Skipped] = field(default_factory=dict)

    def skip(self, reason: str, place: str) -> None:
        """Note that something was not read."""
        skipped = self.skipped.setdefault(reason, Skipped())
        skipped.count += 1
        if len(skipped.places) < SHOWN_PLACES:
            skipped.places.append(place)

    def reasons(self) -> Iterator[str]:
        """What was not read in lines of text, the most frequent first."""
        for reason, one in sorted(self.skipped.items(), key=lambda item: -item[1].count):
            more = ", ..." if one.count > len(one.places) else ""
            yield f"{one.count:,} x {reason}: {', '.join(one.places)}{more}"


def import_traffic(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    sample: int | None = None,
    seed: int = 0,
    score: str = "score",
) -> Imported:
    """Write the prompts of logs as JSON lines: `prompt` and what else is known of the call.

    The files are read as they stream by: what is kept of them is a hash of each distinct prompt.
    Prompts that differ in white space only are one, of which the first stays.

    Args:
        files: The logs (`docs/traffic/import.md`); `.gz` too.
        out: `.jsonl` or `.jsonl.gz`; replaced as a whole in the end.
        sample: Write a random sample of so many prompts; None writes all.
        seed: Of the sample.
        score: Name of the feedback that is the score of an answer, where it is between 0 and 1.

    Raises:
        DataError: If nothing at all can be read, or `out` cannot be written or is one of `files`.
    """
    paths, out = [Path(file) for file in files], Path(out)
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{out}: prompts are written to a .jsonl or .jsonl.gz file.")
    if sample is not None and sample < 1:
        raise DataError(f"The sample is {sample}; give a number of prompts from 1 up.")
    if any(path.exists() and out.exists() and path.samefile(out) for path in paths):
        raise DataError(f"{out} is one of the files to read; name another one for --out.")
    found = Imported()
    rows = _rows(_calls(paths, found), found, score)
    try:
        with replacing(out) as new, new.open("wb") as file, _written_to(file, out) as lines:
            for row in rows if sample is None else _sampled(rows, sample, seed):
                found.written += 1
                lines.write(row)
            if not found.written:
                # Within the block, so that an old file stays.
                raise DataError(_nothing(paths, found))
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    return found


def _nothing(paths: Sequence[Path], found: Imported) -> str:
    why = "\n".join(f"  {reason}" for reason in found.reasons()) or "  they are empty"
    return f"No prompt could be read in {', '.join(map(str, paths))}:\n{why}"


def _written_to(file: BinaryIO, out: Path) -> AbstractContextManager[BinaryIO | gzip.GzipFile]:
    if out.suffix == ".gz":
        return gzip.GzipFile("", "wb", fileobj=file, mtime=0)
    return nullcontext(file)


def _calls(paths: Iterable[Path], found: Imported) -> Iterator[tuple[Call, str]]:
    """The calls in the files; the input of a chain only where its model calls are not in them."""
    chains: list[tuple[Call, str]] = []
    traces: set[str] = set()
    for path in paths:
        for call, place in _calls_of(path, found):
            if call.chain_of is None:
                if call.trace is not None:
                    traces.add(call.trace)
                yield call, place
            elif len(chains) < MOST_HELD:
                chains.append((call, place))
            else:
                found.skip(f"a chain after the first {MOST_HELD:,}; export the model calls", place)
    for call, place in chains:
        if call.chain_of in traces:
            found.skip("a chain whose model calls are there", place)
        else:
            yield call, place


def _calls_of(path: Path, found: Imported) -> Iterator[tuple[Call, str]]:
    try:
        for place, record in _records(path):
            if isinstance(record, Unread):
                found.skip(record.reason, place)
            elif isinstance(record, str):
                found.formats[PLAIN_TEXT] += 1
                yield Call(record), place
            elif (of := format_of(record)) is None:
                found.skip("a record of no known format", place)
            else:
                try:
                    for one in of.read(record):
                        if isinstance(one, Unread):
                            found.skip(one.reason, place)
                        else:
                            found.formats[of.name] += 1
                            yield one, place
                except LogError as error:
                    found.skip(str(error), place)
                except RecursionError:
                    found.skip(TOO_DEEP, place)
    except DataError as error:
        found.skip(str(error).removeprefix(f"{path}: "), str(path))


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | str | Unread]]:
    """The records of a file with their places; a line of text stands for itself."""
    name = path.name.lower().removesuffix(".gz")
    for ending, mend in _TABLES.items():
        if name.endswith(ending):
            raise DataError(f"{path}: a table is not read; make JSON lines of it: {mend}.")
    if name.endswith(".json") and (document := _document(path)) is not None:
        yield from document
        return
    is_json = name.endswith(_JSON)
    long: list[int] = []
    for number, line in read_lines(path, on_long=long.append):
        yield from _too_long(path, long)
        place = f"{path}:{number}"
        if is_json:
            yield from _unfolded(_parsed(line), place)
            continue
        # A log that is not named as JSON may hold it.
        value = _parsed(line) if line.lstrip().startswith(b"{") else None
        if isinstance(value, dict) and format_of(value):
            yield place, value
            continue
        if b"\0" in line:
            # As of UTF-16, which PowerShell writes.
            yield place, Unread("not text in UTF-8")
            continue
        try:
            yield place, line.decode().strip()
        except UnicodeDecodeError:
            yield place, Unread("not text in UTF-8")
    yield from _too_long(path, long)


def _too_long(path: Path, long: list[int]) -> Iterator[tuple[str, Unread]]:
    """Tell of the lines that were left out since the last time."""
    for number in long:
        yield f"{path}:{number}", Unread(f"a line of more than {MOST_LINE_BYTES:,} bytes")
    long.clear()


def _document(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | str | Unread]] | None:
    """The records of one JSON document, or of several one after the other.

    None if each line is one, whatever the file's name is.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if size > MOST_DOCUMENT_BYTES:
        return None
    if path.suffix == ".gz":
        content = b"".join(line for _, line in read_all_lines(path))
    else:
        content = path.read_bytes()
    first, _, rest = content.lstrip().partition(b"\n")
    if rest.strip() and not isinstance(_parsed(first), Unread):
        return None
    return _documents(path, content)


def _documents(
    path: Path, content: bytes
) -> Iterator[tuple[str, Mapping[str, Any] | str | Unread]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield str(path), Unread("not text in UTF-8")
        return
    decoder = json.JSONDecoder(parse_constant=_no_number)
    at, line, seen = 0, 1, 0
    while (at := _next(text, at)) < len(text):
        line, seen = line + text.count("\n", seen, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield f"{path}:{line}", Unread("not JSON, from here to the end of the file")
            return
        yield from _unfolded(value, f"{path}:{line}")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


def _parsed(line: bytes) -> object:
    try:
        return cast("object", from_json(line, allow_inf_nan=False))
    except ValueError:
        return Unread("not JSON")


def _unfolded(value: object, place: str) -> Iterator[tuple[str, Mapping[str, Any] | str | Unread]]:
    """The records in a JSON value: itself, or those in a list of them."""
    if isinstance(value, Unread):
        yield place, value
    elif isinstance(value, str):
        yield place, {"prompt": value}
    elif isinstance(value, list):
        if value and all(isinstance(one, dict) and "role" in one for one in value):
            yield place, {"prompt": value}
            return
        for number, one in enumerate(value):
            yield from _unfolded(one, f"{place}[{number}]")
    elif isinstance(value, dict):
        for name in ("runs", "data", "items"):
            inner = value.get(name)
            # Not of the messages of one conversation, which are lists under such names, too.
            if isinstance(inner, list) and inner and _is_record(inner[0]):
                yield from _unfolded(inner, f"{place}.{name}")
                return
        yield place, value
    else:
        yield place, Unread("neither an object nor a text")


def _is_record(value: object) -> bool:
    return isinstance(value, dict) and format_of(value) is not None


def _rows(calls: Iterable[tuple[Call, str]], found: Imported, score: str) -> Iterator[bytes]:
    """The distinct prompts as lines of JSON."""
    seen: set[bytes] = set()
    for call, place in calls:
        try:
            is_blank = Query.of(call.prompt).is_blank
        except QueryError:
            found.skip("messages that cannot be read", place)
            continue
        if is_blank:
            found.skip("a prompt without text", place)
            continue
        try:
            key, prompt = _key(call.prompt), _masked(call.prompt)
            # Nobody could read it again.
            is_deep = isinstance(_parsed(_line(prompt)), Unread)
        except RecursionError:
            is_deep = True
        if is_deep:
            found.skip(TOO_DEEP, place)
            continue
        if key in seen:
            found.duplicates += 1
            continue
        seen.add(key)
        found.distinct += 1
        found.masked += prompt != call.prompt
        row = {
            "prompt": prompt,
            "topic": call.topic and mask_secrets(call.topic)[:MOST_TOPIC],
            "model": call.model,
            "input_tokens": call.input_tokens,
            "output_tokens": call.output_tokens,
            "cost_usd": call.cost_usd,
            "score": _score(call.feedback.get(score)),
            "feedback": {name: one for name, one in call.feedback.items() if name != score},
            "needs": sorted(call.needs),
        }
        kept = {name: value for name, value in row.items() if value not in (None, {}, [])}
        yield _line(kept)


def _line(value: object) -> bytes:
    # What is left of a broken character is a question mark.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _score(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= 1 else None


def _key(prompt: object) -> bytes:
    """A hash of a prompt, equal for those that differ in white space only."""
    text = json.dumps(_squeezed(prompt), sort_keys=True)
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _squeezed(value: object) -> object:
    return _each_text(value, lambda text: " ".join(text.split()))


def _masked(value: object) -> object:
    # What is encoded in an address, as images are, is no text.
    return _each_text(
        value,
        lambda text: text if text.startswith("data:") else mask_secrets(text),
        is_hidden=lambda name: SECRET_NAME.search(name) is not None,
    )


def _each_text(
    value: object,
    change: Callable[[str], str],
    is_hidden: Callable[[str], bool] = lambda _: False,
) -> object:
    """A value with the texts in it changed, and `***` for those whose names say it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            name: "***"
            if isinstance(inner, str) and is_hidden(str(name))
            else _each_text(inner, change, is_hidden)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_each_text(inner, change, is_hidden) for inner in value]
    return value


def _sampled(rows: Iterable[bytes], count: int, seed: int) -> Iterator[bytes]:
    """A random sample of the rows, in their order (reservoir sampling)."""
    chance = np.random.default_rng(seed)
    kept: list[tuple[int, bytes]] = []
    for number, row in enumerate(rows):
        if number < count:
            kept.append((number, row))
        elif (place := int(chance.integers(number + 1))) < count:
            kept[place] = (number, row)
    yield from (row for _, row in sorted(kept))
