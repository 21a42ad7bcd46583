"""Ceilings on what is spent a day."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossroute.database import Database
from crossroute.decision import CandidateScore, usd
from crossroute.errors import ConstraintError, DailySpendError, DataError, shortened
from crossroute.forks import tell_of_forks
from crossroute.ranking import amount

logger = logging.getLogger(__name__)

MEND = "It goes on at 00:00 UTC; or raise the ceiling of daily_spend"

_TABLE = (
    "CREATE TABLE IF NOT EXISTS spend "
    "(day TEXT, model TEXT, usd REAL NOT NULL, PRIMARY KEY (day, model)) WITHOUT ROWID"
)
_READ = "SELECT model, usd FROM spend WHERE day = ?"
_ADD = (
    "INSERT INTO spend VALUES (?, ?, ?) "
    "ON CONFLICT (day, model) DO UPDATE SET usd = usd + excluded.usd"
)


def _now() -> datetime:
    return datetime.now(UTC)


class DailySpend:
    """What calls have cost today (UTC), and the ceilings that it is held under.

    A model that has reached its ceiling, or whose predicted cost is more than what is left of one,
    is no candidate of a call. Where none is left, the call is an error and nothing is asked. What
    is counted is what the bill of a call says when the call ends (where it does not know, the
    prediction): calls under way at once may together go over a ceiling, by what they cost.

    One object may be given to several routers, which then share it; so do all processes with one
    file.

    Args:
        usd: The most that all models may cost a day, in USD; None is no ceiling.
        by_model: The most that single models may cost a day, in USD, by their ids.
        file: An SQLite file, made if it is not there; None keeps the sums in memory, for this
            process and as long as it lives.
        clock: The time of now, with its time zone.

    Raises:
        ConstraintError: If a ceiling is no number from 0 up.
    """

    def __init__(
        self,
        usd: float | None = None,
        by_model: Mapping[str, float] | None = None,
        file: str | Path | None = None,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.usd = None if usd is None else _ceiling(usd, "usd")
        self.by_model = {
            model: _ceiling(most, f"by_model[{shortened(model)}]")
            for model, most in (by_model or {}).items()
        }
        self.file = None if file is None else Path(file)
        self._clock = clock
        self._held: dict[tuple[str, str], float] = {}
        self._database = Database(self.file, _TABLE)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        # What is not in the sums yet: by day and model, in USD.
        self._new: list[tuple[str, str, float]] = []
        if self.file is not None:
            # What could not be written to the file yet.
            self._held = {}
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Leave to the process that this one was forked from what is its own."""
        self._begin()

    def __repr__(self) -> str:
        return f"DailySpend(usd={self.usd}, by_model={self.by_model})"

    def __deepcopy__(self, memo: dict[int, Any]) -> DailySpend:
        # A ceiling that a copy had for itself would be twice as high.
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which shares the sums if there is a file, and else begins anew."""
        kept = {name: one for name, one in vars(self).items() if name not in ("_lock", "_new")}
        return {**kept, "_held": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @property
    def spent(self) -> dict[str, float]:
        """What each model has cost today, in USD, by its id.

        Raises:
            DataError: If the file cannot be read.
        """
        day = self._day()
        found: dict[str, float] = {}
        with self._lock:
            if self.file is not None:
                try:
                    with self._database.opened() as database:
                        found = dict(database.execute(_READ, (day,)).fetchall())
                except sqlite3.Error as error:
                    raise DataError(
                        f"{self.file}: what was spent today cannot be read: {error}. Name an "
                        "SQLite file, or one that is not there yet, in a folder that can be "
                        "written to."
                    ) from error
            held = [(*key, cost) for key, cost in self._held.items()]
            for of, model, cost in [*held, *self._new]:
                if of == day:
                    found[model] = found.get(model, 0.0) + cost
        self._write_new()
        return found

    def add(self, model: str, cost_usd: float) -> None:
        """Count what a call of a model has cost, in USD.

        What cannot be written to the file is kept, and written with the next call; a warning says
        so, since an answer is there by then.
        """
        if not cost_usd > 0:
            return
        self._new.append((self._day(), model, cost_usd))
        self._write_new()

    def _write_new(self) -> None:
        """Add what has come to the sums, unless a thread has the lock: then that does it."""
        # A stream may be collected, and so end, while its thread has the lock: it would wait for
        # itself.
        while self._new and self._lock.acquire(blocking=False):
            try:
                self._take_new()
                self._write()
            finally:
                self._lock.release()

    def _take_new(self) -> None:
        """Add what has come to the sums."""
        for _ in range(len(self._new)):
            day, model, cost_usd = self._new.pop(0)
            self._held[day, model] = self._held.get((day, model), 0.0) + cost_usd
        if self.file is None:
            # The day before stays: a clock that is set right at midnight may go back to it.
            kept = sorted({of for of, _ in self._held})[-2:]
            self._held = {key: cost for key, cost in self._held.items() if key[0] in kept}

    def _write(self) -> None:
        """Write to the file what is not there yet."""
        if self.file is None or not self._held:
            return
        try:
            with self._database.opened() as database:
                database.executemany(_ADD, [(*key, cost) for key, cost in self._held.items()])
                database.commit()
        except sqlite3.Error as error:
            logger.warning("%s: what was spent is kept in memory: %s", self.file, error)
        else:
            self._held.clear()

    def without_budget(
        self, candidates: Iterable[CandidateScore], of: Callable[[str], str] = str
    ) -> dict[str, str]:
        """Why candidates may not be asked today, by their ids.

        Args:
            candidates: Who would be asked.
            of: The id whose ceiling holds beside a candidate's own: that of its model, where it is
                one of its efforts.

        Raises:
            DailySpendError: If the ceiling on all models is reached.
            DataError: If the file cannot be read.
        """
        spent = self.spent
        total = sum(spent.values())
        if self.usd is not None and total >= self.usd:
            raise DailySpendError(
                f"Nothing was asked: {usd(total)} were spent today, of {usd(self.usd)} a day. "
                f"{MEND}."
            )
        found = {}
        for one in candidates:
            why = _over(
                "its", spent.get(one.model, 0.0), self.by_model.get(one.model), one.cost_usd
            )
            if (whole := of(one.model)) != one.model and whole in self.by_model:
                together = sum(cost for id_, cost in spent.items() if of(id_) == whole)
                why = why or _over(f"{whole}'s", together, self.by_model[whole], one.cost_usd)
            why = why or _over("the", total, self.usd, one.cost_usd)
            if why is not None:
                found[one.model] = why
        return found

    def _day(self) -> str:
        return self._clock().astimezone(UTC).date().isoformat()


def _over(whose: str, spent: float, most: float | None, cost_usd: float) -> str | None:
    """Why a call does not fit under a ceiling; None if it does."""
    if most is None:
        return None
    if spent >= most:
        return f"{usd(spent)} were spent today, of {whose} {usd(most)} a day"
    if cost_usd > most - spent:
        return (
            f"its predicted {usd(cost_usd)} are more than the {usd(most - spent)} that are left "
            f"today, of {whose} {usd(most)} a day"
        )
    return None


def _ceiling(value: object, name: str) -> float:
    found = amount(value)
    if found is None:
        raise ConstraintError(
            f"daily_spend: {name} is {shortened(value)}; give a number of USD from 0 up."
        )
    return found


def check_daily_spend(daily_spend: object) -> DailySpend | None:
    """See that something is a `DailySpend`, or None.

    Raises:
        ConstraintError: If it is neither.
    """
    if daily_spend is None or isinstance(daily_spend, DailySpend):
        return daily_spend
    raise ConstraintError(
        f"daily_spend is {shortened(daily_spend)}; give crossroute.DailySpend(usd=...)."
    )
