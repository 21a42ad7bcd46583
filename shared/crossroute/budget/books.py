"""The state of a budget: what was spent, and what was predicted of late."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from crossroute.budget.multipliers import ROWS, Recent
from crossroute.budget.terms import Terms
from crossroute.database import Database
from crossroute.decision import CandidateScore, Decision
from crossroute.errors import ConstraintError, DataError
from crossroute.files import replacing
from crossroute.forks import tell_of_forks

logger = logging.getLogger(__name__)

SET_ASIDE_SECONDS = 900.0
"""After this a call is no longer waited for: its process may have died."""
KNOWN_SECONDS = 86_400.0
"""For so long what it has cost can still be said."""
AT_MOST, AT_FIRST = 10.0, 2.0
"""Times its expected cost that is set aside for a call under way: the highest that calls have
come to lately; at most, and before any has ended."""
FORGETS = 0.99
"""What a call before counts in the cost learned, beside the next one."""
CALLS = 10.0
"""How many calls as predicted the calls of a model weigh against, in the cost learned."""

_DAMAGED = (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError)
"""What reading raises where the content of a state is none."""

_TABLES = """
CREATE TABLE IF NOT EXISTS saved
    (one INTEGER PRIMARY KEY CHECK (one = 1), settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS request
    (number INTEGER PRIMARY KEY, at REAL NOT NULL, predicted TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS under_way
    (call TEXT PRIMARY KEY, at REAL NOT NULL, model TEXT NOT NULL, usd REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent
    (model TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS learned
    (model TEXT PRIMARY KEY, calls REAL NOT NULL, usd REAL NOT NULL, predicted_usd REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total
    (one INTEGER PRIMARY KEY CHECK (one = 1), began REAL NOT NULL, window INTEGER NOT NULL,
     window_usd REAL NOT NULL, predicted_usd REAL NOT NULL, most REAL NOT NULL)
"""
_SPEND = (
    "INSERT INTO spent VALUES (?, 1, ?) "
    "ON CONFLICT (model) DO UPDATE SET calls = calls + 1, usd = usd + excluded.usd"
)
_LEARN = (
    "INSERT INTO learned VALUES (?, 1, ?, ?) ON CONFLICT (model) DO UPDATE SET "
    "calls = calls * :f + 1, usd = usd * :f + excluded.usd, "
    "predicted_usd = predicted_usd * :f + excluded.predicted_usd"
).replace(":f", str(FORGETS))


class Standing(NamedTuple):
    """How things stand.

    Attributes:
        began: When the first request came, in seconds.
        spent: USD of each model.
        aside: USD set aside for calls under way, by the model that each was given to.
        window: Which span of time it is, from 0 up.
        window_usd: What was spent in it.
        predicted_usd: What was predicted for the calls that have ended.
        most: Times its expected cost that is set aside for a call.
        ratio: What calls of each model have cost, of what was predicted.
    """

    began: float
    spent: dict[str, float]
    aside: dict[str, float]
    window: int
    window_usd: float
    predicted_usd: float
    most: float
    ratio: dict[str, float]

    @property
    def spent_usd(self) -> float:
        """Of all models."""
        return sum(self.spent.values())

    def expected(self, one: CandidateScore) -> float:
        """What a candidate's call is expected to cost, by what others have cost."""
        return one.cost_usd * self.ratio.get(one.model, 1.0)

    def write(self, database: sqlite3.Connection) -> None:
        """Write down what stands in one row."""
        row = (self.began, self.window, self.window_usd, self.predicted_usd, self.most)
        database.execute("INSERT OR REPLACE INTO total VALUES (1, ?, ?, ?, ?, ?)", row)


class Books:
    """How a budget stands, for the threads and processes that share it.

    Args:
        file: An SQLite file, made if it is not there; None holds it in memory, for this process.
        terms: Of the budget.
        clock: The time of now, with its time zone.

    Attributes:
        recent: The latest requests, of all processes; another object where they are read anew.
    """

    def __init__(self, file: Path | None, terms: Terms, clock: Callable[[], datetime]) -> None:
        self.file = file
        self._terms = terms
        self._clock = clock
        self._database = Database(file, _TABLES)
        self._is_left = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.recent = Recent()
        # The connection that they were read from.
        self._source: sqlite3.Connection | None = None
        # Calls that have ended and are not written down yet.
        self._held: list[tuple[str, Decision, Mapping[str, float]]] = []
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Leave to the process that this one was forked from what is its own."""
        self._is_left = self.file is None
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which shares the file.

        Raises:
            ConstraintError: If there is none.
        """
        if self.file is None:
            raise ConstraintError(
                "A BudgetPacer in memory cannot be pickled: each process would spend its budget. "
                "Give it a file, which they share."
            )
        ours = ("_lock", "recent", "_source", "_held")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The state, for this thread of this process alone; kept if nothing is raised.

        Raises:
            DataError: If it cannot be read or written.
            ConstraintError: If it is in the memory of another process.
        """
        if self._is_left:
            raise ConstraintError(
                "A BudgetPacer in memory cannot be used in a process that was forked since it was "
                "made: each would spend its budget. Give it a file, which they share."
            )
        with self._lock, self._transaction() as database:
            yield database
        # Of those that have ended meanwhile, none has waited.
        self._write_held()

    def _write_held(self) -> None:
        """Write down which calls have ended, unless a thread has the lock: then that does it."""
        # A call may be collected in the midst of another one, which would wait for itself.
        while self._held and not self._is_left and self._lock.acquire(blocking=False):
            try:
                with self._transaction():
                    pass
            except DataError as error:
                logger.warning("What was spent is kept in memory: %s", error)
                return
            finally:
                self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # Others may come meanwhile.
        held = list(self._held)
        try:
            with self._database.opened() as database:
                if database is not self._source:
                    self.recent, self._source = Recent(), database
                database.execute("BEGIN IMMEDIATE")
                for ended in held:
                    self._note(database, *ended)
                yield database
                database.commit()
            del self._held[: len(held)]
        except BaseException as error:
            # What was added to it may not be in the database.
            self.recent = Recent()
            if isinstance(error, sqlite3.Error):
                raise DataError(
                    f"{self.file}: what is left of a budget cannot be read or written: {error}. "
                    "Name an SQLite file of a BudgetPacer, or one that is not there yet, in a "
                    "folder that can be written to."
                ) from error
            raise

    def read(self, database: sqlite3.Connection, now: float) -> Standing:
        """How things stand; the latest requests are those of all processes then."""
        try:
            rows = database.execute(
                "SELECT number, at, predicted FROM request WHERE number > ? ORDER BY number",
                (self.recent.seen,),
            )
            for number, at, predicted in rows:
                self.recent.add(number, at, json.loads(predicted))
            total = database.execute(
                "SELECT began, window, window_usd, predicted_usd, most FROM total"
            ).fetchone()
            began, window, window_usd, predicted_usd, most = total or (now, 0, 0.0, 0.0, AT_FIRST)
            if now < began:
                # The clock was set back.
                began, window = now, 0
            if self._terms.window is not None:
                here = int((now - began) / self._terms.window[1].total_seconds())
                # Where it was set back by a little, the span goes on.
                if here not in (window, window - 1):
                    window, window_usd = here, 0.0
            learned = database.execute("SELECT model, calls, usd, predicted_usd FROM learned")
            aside = database.execute(
                "SELECT model, SUM(usd) FROM under_way WHERE at > ? GROUP BY model",
                (now - SET_ASIDE_SECONDS,),
            )
            return Standing(
                began=float(began),
                spent={
                    model: float(cost)
                    for model, cost in database.execute("SELECT model, usd FROM spent")
                },
                aside={model: most * cost for model, cost in aside},
                window=int(window),
                window_usd=float(window_usd),
                predicted_usd=float(predicted_usd),
                most=float(most),
                ratio={
                    model: (calls * cost / predicted + CALLS) / (calls + CALLS)
                    for model, calls, cost, predicted in learned
                },
            )
        except _DAMAGED as error:
            raise DataError(
                f"{self.file}: this is no state of a budget: {error}. Begin another file."
            ) from error

    def begun(
        self,
        database: sqlite3.Connection,
        standing: Standing,
        now: float,
        predicted: Mapping[str, tuple[float, float]],
    ) -> None:
        """Add a request to the latest ones.

        Args:
            database: What `changing` gives.
            standing: What `read` gives.
            now: In seconds.
            predicted: Quality and cost in USD of its candidates, by their ids.
        """
        number = self.recent.seen + 1
        self.recent.add(number, now, predicted)
        row = (number, now, json.dumps(predicted))
        database.execute("INSERT INTO request VALUES (?, ?, ?)", row)
        database.execute("DELETE FROM request WHERE number <= ?", (number - ROWS,))
        database.execute("DELETE FROM under_way WHERE at <= ?", (now - KNOWN_SECONDS,))
        standing.write(database)

    def set_aside(
        self, database: sqlite3.Connection, call: str, now: float, model: str, usd: float
    ) -> None:
        """Note the call of a model, and what it is expected to cost."""
        row = (call, now, model, usd)
        database.execute("INSERT OR REPLACE INTO under_way VALUES (?, ?, ?, ?)", row)

    def ended(self, call: str, decision: Decision, bill: Mapping[str, float]) -> None:
        """Note what a call has cost; see `BudgetPacer.end`."""
        self._held.append((call, decision, dict(bill)))
        self._write_held()

    def is_under_way(self, call: str) -> bool:
        """Whether a call has begun, and has not ended; as far as that can be read."""
        try:
            with self.changing() as database:
                found = database.execute("SELECT 1 FROM under_way WHERE call = ?", (call,))
                return found.fetchone() is not None
        except DataError:
            # Its end is kept until it can be.
            return True

    def calls(self, database: sqlite3.Connection) -> dict[str, int]:
        """How many calls of each model have ended."""
        return dict(database.execute("SELECT model, calls FROM spent ORDER BY model"))

    def save(self, file: Path) -> None:
        """Write the state and its terms to a file that `load` reads.

        Raises:
            DataError: If that is not possible.
        """
        if self.file is not None and os.path.realpath(file) == os.path.realpath(self.file):
            raise DataError(f"{file}: the state of a budget is there already; name another file.")
        try:
            with self.changing() as database:
                row = (json.dumps(self._terms.to_dict()),)
                database.execute("INSERT OR REPLACE INTO saved VALUES (1, ?)", row)
            with self._lock, self._database.opened() as database, replacing(file) as new:
                copy = sqlite3.connect(new)
                try:
                    database.backup(copy)
                    # Such a file can be read where nothing can be written beside it.
                    copy.execute("PRAGMA journal_mode = DELETE")
                finally:
                    copy.close()
            self._write_held()
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{file}: the state of a budget cannot be written: {error}.") from error

    @classmethod
    def load(cls, file: Path, clock: Callable[[], datetime]) -> tuple[Self, Terms]:
        """The state in memory that `save` wrote, and its terms.

        Raises:
            DataError: If the file is no such state.
        """
        try:
            # Not made where it is missing, and not written to.
            saved = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
            with closing(saved):
                ((text,),) = saved.execute("SELECT settings FROM saved").fetchall()
                terms = Terms.from_dict(json.loads(text))
                books = cls(None, terms, clock)
                with books._database.opened() as database:
                    saved.backup(database)
            with books.changing() as database:
                books.read(database, clock().timestamp())
        except (OSError, sqlite3.Error, LookupError, *_DAMAGED) as error:
            raise DataError(
                f"{file}: no state of a budget that can be read: {error}. Name a file that "
                "BudgetPacer.save has written."
            ) from error
        return books, terms

    def _note(
        self,
        database: sqlite3.Connection,
        call: str,
        decision: Decision,
        bill: Mapping[str, float],
    ) -> None:
        """Write down what a call has cost, and learn from it."""
        standing = self.read(database, self._clock().timestamp())
        found = database.execute("SELECT usd FROM under_way WHERE call = ?", (call,)).fetchone()
        expected = decision.cost_usd if found is None else float(found[0])
        database.execute("DELETE FROM under_way WHERE call = ?", (call,))
        cost = sum(bill.values())
        if not cost > 0:
            return
        database.executemany(_SPEND, [one for one in bill.items() if one[1] > 0])
        # A strategy may have asked others in its place.
        is_chosen = decision.model in bill
        most = standing.most
        if is_chosen and expected > 0:
            most = max(1.0, 1 + (most - 1) * FORGETS, min(cost / expected, AT_MOST))
        standing._replace(
            window_usd=standing.window_usd + cost,
            predicted_usd=standing.predicted_usd + decision.cost_usd,
            most=most,
        ).write(database)
        if is_chosen and decision.cost_usd > 0:
            database.execute(_LEARN, (decision.model, cost, decision.cost_usd))
