"""Where records are kept: JSON lines or SQLite, written by many threads and processes at once."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from crossroute.errors import DataError
from crossroute.files import check_regular
from crossroute.forks import close, leave, tell_of_forks
from crossroute.lines import MOST_LINE_BYTES, read_lines

if sys.platform != "win32":
    import fcntl

PATIENCE_SECONDS = 5.0
"""For so long a writer waits for the others; it may be within the call of an application."""

JSON_LINES = (".jsonl", ".jsonl.gz")
SQLITE = (".db", ".sqlite", ".sqlite3")

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL
)
"""
_WRITING = threading.Lock()
"""On Windows, which knows no such locks of files."""


class Sink(Protocol):
    """Keeps records; safe to use in many threads, and with other processes on the same file."""

    def write(self, kind: str, id_: str, record: str) -> None:
        """Keep a record, a JSON object without line breaks.

        Args:
            kind: `call` or `feedback`.
            id_: Id of the call.
            record: The JSON.

        Raises:
            OSError: If it cannot be written.
            sqlite3.Error: The same.
        """
        ...


def sink_of(path: Path) -> Sink:
    """What writes to a file, by the end of its name.

    Raises:
        DataError: If it is no such name, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.name.endswith(SQLITE):
        return Sqlite(path)
    if path.name.endswith(".jsonl"):
        return JsonLines(path)
    raise DataError(f"{path}: records are kept in a file .jsonl, or {', '.join(SQLITE)} (SQLite).")


class JsonLines:
    """Appends lines to a file, which others may move away or cut in the meantime.

    Args:
        path: The file, which is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kind: str, id_: str, record: str) -> None:  # noqa: ARG002  # They stand in it.
        """Append a record; see `Sink`."""
        # Opened each time: for locks, threads and forked processes must not share what is open.
        opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            with _alone(opened):
                size = os.fstat(opened).st_size
                # After a line that somebody has left half written.
                torn = size > 0 and not _ends_a_line(opened, size)
                line = ("\n" if torn else "").encode() + record.encode() + b"\n"
                if os.write(opened, line) < len(line):
                    os.ftruncate(opened, size)
                    raise OSError("no space is left for a whole line")
        finally:
            os.close(opened)


class Sqlite:
    """Inserts into the table `records` of a database.

    Args:
        path: The database, which is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self.after_fork()
        tell_of_forks(self)

    def write(self, kind: str, id_: str, record: str) -> None:
        """Insert a record; see `Sink`."""
        with self._lock:
            if self._connection is None:
                self._connection = _connect(self._path)
                weakref.finalize(self, close, self._connection, os.getpid())
            self._connection.execute(
                "INSERT INTO records (kind, id, record) VALUES (?, ?, ?)", (kind, id_, record)
            )

    def after_fork(self) -> None:
        """Leave to the process that this one was forked from what is its own."""
        self._lock = threading.Lock()
        leave(self._connection)
        self._connection = None


def stored(path: Path) -> Iterator[tuple[str, str | None, bytes]]:
    """What a file of records holds, in the order in which it was written.

    Returns:
        Where each record is, its kind where that is known without reading it, and its JSON.

    Raises:
        DataError: If the file cannot be read, or a record is too long.
    """
    if path.name.endswith(SQLITE):
        yield from _selected(path)
    elif path.name.endswith(JSON_LINES):
        for number, line in read_lines(path):
            # A prompt may say that, too.
            kind = None if b'"feedback"' in line else "call"
            yield f"{path}:{number}", kind, line
    else:
        raise DataError(
            f"{path}: records are in a file {', '.join(JSON_LINES)}, or {', '.join(SQLITE)} "
            "(SQLite)."
        )


def _selected(path: Path) -> Iterator[tuple[str, str | None, bytes]]:
    try:
        check_regular(path)
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE_SECONDS)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_LINE_BYTES)
            made = connection.execute(
                "SELECT type FROM sqlite_master WHERE name = 'records'"
            ).fetchall()
            if made != [("table",)]:
                raise DataError(f"{path}: has no table of records; name a file of a recorder.")
            found = connection.execute(
                "SELECT position, kind, record FROM records ORDER BY position"
            )
            for position, kind, record in found:
                if not isinstance(record, str):
                    raise DataError(f"{path}: record {position} is no text.")
                yield f"{path}, record {position}", str(kind), record.encode()
    except (OSError, ValueError, sqlite3.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from error


@contextmanager
def _alone(opened: int) -> Iterator[None]:
    """Wait until nobody else writes to an open file: no thread and, but on Windows, no process.

    Raises:
        TimeoutError: If that takes too long.
    """
    if sys.platform == "win32":
        with _WRITING:
            yield
        return
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            # Until the file is closed.
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"others write to it for {PATIENCE_SECONDS:g} s") from None
            # At random, so that those that wait do not come at once again.
            time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311
        except OSError:
            # Some network file systems have no locks.
            break
    yield


def _ends_a_line(opened: int, size: int) -> bool:
    os.lseek(opened, size - 1, os.SEEK_SET)
    return os.read(opened, 1) == b"\n"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            # Readers do not wait for writers then; a crash of the machine may lose the last ones.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
        except sqlite3.OperationalError as error:
            # While others do the same, SQLite does not wait by itself.
            if "locked" not in str(error) or time.monotonic() > end:
                connection.close()
                raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311
        except BaseException:
            connection.close()
            raise
        else:
            return connection
