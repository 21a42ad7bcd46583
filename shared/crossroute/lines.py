"""Reading the lines of a file that anybody may have written: one by one, and of bounded size."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from crossroute.errors import DataError
from crossroute.files import check_regular

MOST_LINE_BYTES = 16 * 2**20
"""Of a line: four million tokens and more."""
MOST_INFLATION = 100
"""How many times its length a gzipped file may inflate to. Routing data does to 4 to 20 times."""
FREE_BYTES = 4 * 2**20
"""A small file may inflate to this, whatever its own length."""


def read_lines(
    path: Path, *, on_long: Callable[[int], None] | None = None
) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers; otherwise `read_all_lines`."""
    return ((number, line) for number, line in read_all_lines(path, on_long) if line.strip())


def read_all_lines(
    path: Path, on_long: Callable[[int], None] | None = None, *, in_pieces: bool = False
) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, of a `.gz` file too, with their numbers from 1; no byte order mark.

    Args:
        path: The file.
        on_long: Called with the number of a line that is too long, which is left out then.
        in_pieces: Whether a long line is no error, and comes in pieces, each with a number.

    Raises:
        DataError: If the file cannot be read, or a line or what it inflates to is too long.
    """
    try:
        check_regular(path)
        # Bytes, so that a line that is not UTF-8 is one broken row and not the end of the file.
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: no system has such a path.
        raise DataError(f"{path}: cannot be read: {error}") from error
    number = size = 0
    with file:
        lines = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        while line := _next(lines, path, number):
            number += 1
            size += len(line)
            is_long = len(line) > MOST_LINE_BYTES and not in_pieces
            if is_long and on_long is None:
                raise DataError(
                    f"{path}:{number}: the line is longer than {MOST_LINE_BYTES:,} bytes; write "
                    "one row a line, and shorten its prompt."
                )
            while is_long and not line.endswith(b"\n") and (line := _next(lines, path, number)):
                size += len(line)
                if lines is not file:
                    check_inflated(path, size, file.tell(), number)
            if size > FREE_BYTES and lines is not file:
                check_inflated(path, size, file.tell(), number)
            if is_long and on_long is not None:
                on_long(number)
                continue
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _next(lines: BinaryIO | gzip.GzipFile, path: Path, number: int) -> bytes:
    try:
        return lines.readline(MOST_LINE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def check_inflated(path: Path, size: int, read: int, number: int) -> None:
    """Refuse a compressed file that inflates to more than data does.

    Args:
        path: The file.
        size: Bytes that were inflated.
        read: Bytes that they were inflated from.
        number: The line or row that was read last.

    Raises:
        DataError: If they are too many.
    """
    if size > max(FREE_BYTES, MOST_INFLATION * read):
        raise DataError(
            f"{path}:{number}: inflates to more than {MOST_INFLATION} times its length, as no "
            "routing data does. If you trust the file, decompress it yourself and give the result."
        )


def mend_last_line(path: Path) -> None:
    """Drop a last line of JSON that a break left half written; end a whole one with a line break.

    A file that is not there is left so.

    Raises:
        OSError: If it cannot be read or written.
    """
    if not path.exists():
        return
    check_regular(path)
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_LINE_BYTES - 1))
        last = file.read().rpartition(b"\n")[2]
        if not last:
            return
        try:
            json.loads(last)
        except ValueError:
            file.truncate(size - len(last))
        else:
            file.write(b"\n")
