"""An SQLite database that threads and processes share."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens the file itself."""
        return {**vars(self), "_connection": None}

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The connection; what is not committed when the block ends is taken back.

        Raises:
            sqlite3.Error: If the file cannot be opened, or is no database.
        """
        in_file = self.file is not None
        if self._connection is None or (in_file and self._process != os.getpid()):
            # What a fork has left in a child is not used there.
            self._connection, self._process = self._open(), os.getpid()
            weakref.finalize(self, self._connection.close)
        connection = self._connection
        try:
            yield connection
        except sqlite3.Error:
            # What is in memory would be lost with it.
            if in_file:
                # Closed alone, it would keep its lock as long as something reads from it.
                with suppress(sqlite3.Error):
                    connection.rollback()
                connection.close()
                self._connection = None
            raise
        finally:
            if self._connection is not None and connection.in_transaction:
                connection.rollback()

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
