"""An SQLite database that threads and processes share."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crossroute.forks import close, leave, tell_of_forks

LOCK_SECONDS = 5.0
"""How long a file is waited for that another process is writing to."""


class Database:
    """A connection for each process; of its threads, the caller lets in one at a time.

    Args:
        file: Made if it is not there; None is a database in memory, of this process.
        tables: The statement that makes the tables, if they are not there.
    """

    def __init__(self, file: Path | None, tables: str) -> None:
        self.file = file
        self._tables = tables
        self._connection: sqlite3.Connection | None = None
        self._close: weakref.finalize[..., Database] | None = None
        self._opened: tuple[int, int] | None = None
        tell_of_forks(self)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file itself."""
        return {**vars(self), "_connection": None, "_close": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Leave the connection to the process that this one was forked from."""
        if self._close is not None:
            self._close.detach()
        leave(self._connection)
        self._connection = self._close = None

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The connection; what is not committed when the block ends is taken back.

        It is another one where the file was deleted, or replaced, since the last time.

        Raises:
            sqlite3.Error: If the file cannot be opened, or is no database.
        """
        if self._connection is not None and self._opened != _identity(self.file):
            self._shut()
        if self._connection is None:
            self._connection = self._open()
            self._close = weakref.finalize(self, close, self._connection, os.getpid())
            self._opened = _identity(self.file)
        connection = self._connection
        try:
            yield connection
        except sqlite3.Error:
            # What is in memory would be lost with it.
            if self.file is not None:
                # Closed alone, it would keep its lock as long as something reads from it.
                with suppress(sqlite3.Error):
                    connection.rollback()
                self._shut()
            raise
        finally:
            if self._connection is not None and connection.in_transaction:
                connection.rollback()

    def _shut(self) -> None:
        if self._close is not None:
            self._close()
        self._connection = self._close = None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.file or ":memory:", timeout=LOCK_SECONDS, check_same_thread=False
        )
        try:
            if self.file is not None:
                # Readers do not wait for writers, and a write does not wait for the disk.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            for table in self._tables.split(";"):
                connection.execute(table)
        except BaseException:
            connection.close()
            raise
        return connection


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Which file a path leads to now; None if to none."""
    try:
        found = file and file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None
