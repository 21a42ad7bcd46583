"""What a forked process leaves to the one that it was forked from: locks and open databases."""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import Protocol


class Forked(Protocol):
    """What is told in a process that was just forked."""

    def after_fork(self) -> None:
        """Leave to the other process what is its own."""
        ...


_FORKED: weakref.WeakSet[Forked] = weakref.WeakSet()
_UNCLOSED: list[sqlite3.Connection] = []
"""Those of a process that this one was forked from; to close one would end the other's locks."""


def tell_of_forks(one: Forked) -> None:
    """Call `after_fork` of an object in each process that is forked from now on."""
    _FORKED.add(one)


def leave(connection: sqlite3.Connection | None) -> None:
    """Never use a connection again, and never close it, either."""
    if connection is not None:
        _UNCLOSED.append(connection)


def close(connection: sqlite3.Connection, process: int) -> None:
    """Close a connection in the process that has opened it; in others, `leave` it."""
    if process == os.getpid():
        connection.close()
    else:
        leave(connection)


def _after_fork() -> None:
    for one in list(_FORKED):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
