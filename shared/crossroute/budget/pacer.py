"""A budget that lasts: for some number of requests, or for some time.

Each request goes to the model with the highest `quality - price * cost`, at the prices that
`crossroute.budget.prices` learns from the latest requests, for what is left of the budgets and of
the requests to come: what was predicted wrongly, and what the traffic becomes, is made up for.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossroute.budget.prices import ROWS, Prices, Recent, prices
from crossroute.constraints import ConstraintsLike, Stay
from crossroute.database import Database
from crossroute.decision import CandidateScore, Decision, usd
from crossroute.errors import (
    BudgetSpentError,
    ConstraintError,
    DataError,
    UnknownModelError,
    shortened,
)
from crossroute.exploration import new_call_id
from crossroute.files import replacing
from crossroute.query import QueryLike
from crossroute.ranking import amount, preference, rank, reward
from crossroute.router import CrossRouter

logger = logging.getLogger(__name__)

EACH, EVERY = 50, 10
"""Prices are learned anew at each of the first requests, and at every tenth one after them."""
SET_ASIDE_SECONDS = 900.0
"""After this a call is no longer waited for: its process may have died."""
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


def _now() -> datetime:
    return datetime.now(UTC)


class BudgetPacer:
    """Spends a budget over the requests that it is for, on those where it gains the most.

    What the router predicts for a request is ordered by `quality - price * cost`, at the price that
    spends what is left over what is to come; so the budget sets the willingness to pay of every
    call. Prices are learned from the latest requests, and so is what calls of a model really cost
    beside what was predicted. A model that is expected to cost more than what is left of a budget
    is no candidate; what calls under way may cost is set aside meanwhile, at the highest multiple
    of what was expected that calls have come to lately. So requests exceed no budget by more than
    one of them, but where several at once cost more than any did lately.

    After its horizon it begins another one of the same length, with what is left.

    Args:
        budget_usd: For all requests, in USD.
        horizon: How many requests it is for; or for how long from the first one on.
        by_model: The most of it that single models may cost, in USD, by their ids.
        window: The most that may be spent in each span of time, and the span: `(0.5,
            timedelta(hours=1))`. The first begins with the first request, the others follow.
        file: An SQLite file, made if it is not there, that holds the state for all processes that
            are given it; None holds it in memory, for this process.
        clock: The time of now, with its time zone.

    Raises:
        ConstraintError: If a budget is no number from 0 up, or a horizon or a window is none.
    """

    def __init__(
        self,
        budget_usd: float,
        horizon: int | timedelta,
        *,
        by_model: Mapping[str, float] | None = None,
        window: tuple[float, timedelta] | None = None,
        file: str | Path | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.budget_usd = _budget(budget_usd, "budget_usd")
        self.horizon = _horizon(horizon)
        self.by_model = {
            model: _budget(most, f"by_model[{shortened(model)}]")
            for model, most in (by_model or {}).items()
        }
        self.window = None if window is None else _window(window)
        self.file = None if file is None else Path(file)
        self._clock = clock
        self._database = Database(self.file, _TABLES)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        # The thread that has it.
        self._held_by: int | None = None
        self._recent = Recent()
        self._prices, self._learned_at, self._least_usd = Prices(0.0, np.zeros(0)), 0, 0.0
        # Ends of calls that are not written down yet.
        self._held: list[tuple[str, Decision, Mapping[str, float]]] = []

    def __repr__(self) -> str:
        return f"BudgetPacer(budget_usd={self.budget_usd}, horizon={self.horizon!r})"

    def __copy__(self) -> BudgetPacer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BudgetPacer:
        # A budget that a copy had for itself would be twice as high.
        return self

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
        ours = ("_lock", "_held_by", "_recent", "_prices", "_learned_at", "_least_usd", "_held")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def route(
        self,
        router: CrossRouter,
        query: QueryLike,
        *,
        constraints: ConstraintsLike = None,
        stay: Stay | None = None,
    ) -> Decision:
        """Choose the model for one query, and set aside what it may cost until `settle` is called.

        Args:
            router: Predicts.
            query: See `CrossRouter.route`.
            constraints: See there.
            stay: See there.

        Raises:
            BudgetSpentError: If no candidate is expected to cost as little as what is left.
            UnknownModelError: If there is a budget for a model that is not in the pool.
            DataError: If the file cannot be read or written.
            CrossRouteError: What `CrossRouter.route` raises.
        """
        self.check(router.pool)
        return self.paced(router.route(query, constraints=constraints, stay=stay))

    def paced(self, decision: Decision) -> Decision:
        """A router's decision at the willingness to pay that the budgets set now.

        It has a `call_id`, by which `settle` knows it.

        Raises:
            BudgetSpentError: If no candidate is expected to cost as little as what is left.
            DataError: If the file cannot be read or written.
        """
        call = decision.call_id or new_call_id()
        return replace(self.admit(decision, call), call_id=call)

    def settle(self, decision: Decision, cost_usd: float | None) -> None:
        """Say what the call of a decision of `paced` or `route` has cost.

        Args:
            decision: The decision.
            cost_usd: In USD; 0 if the call came to nothing, None if it is not known: then it counts
                as was predicted.

        Raises:
            ConstraintError: If it is no number from 0 up.
        """
        cost = decision.cost_usd if cost_usd is None else _budget(cost_usd, "cost_usd")
        self.end(decision.call_id or "", decision, {decision.model: cost})

    def check(self, pool: Collection[str]) -> None:
        """See that the models with a budget of their own are in a pool.

        Raises:
            UnknownModelError: If one is not.
        """
        for model in self.by_model:
            if model not in pool:
                raise UnknownModelError(model, pool)

    def admit(self, decision: Decision, call: str) -> Decision:
        """`paced` for a call with an id of its own, which `end` is told."""
        now = self._clock().timestamp()
        predicted = {one.model: (one.quality, one.cost_usd) for one in decision.candidates}
        with self._changing() as database:
            books = self._read(database, now)
            expected = {one.model: books.expected(one) for one in decision.candidates}
            over = {
                model: why
                for model, cost in expected.items()
                if (why := self._over(books, model, cost)) is not None
            }
            if len(over) == len(expected):
                raise BudgetSpentError(self._spent_text(books, over))
            self._add(database, books, now, predicted)
            decision = decision.without(over) if over else decision
            found = self._ordered(decision, books, now, expected)
            row = (call, now, found.model, expected[found.model])
            database.execute("INSERT OR REPLACE INTO under_way VALUES (?, ?, ?, ?)", row)
        return found

    def end(self, call: str, decision: Decision, bill: Mapping[str, float]) -> None:
        """A call has ended, or was never made.

        What cannot be written to the file is kept, and written with the next call; a warning says
        so, since an answer is there by then.

        Args:
            call: Its id.
            decision: What `admit` gave.
            bill: What its asks have cost, in USD, by the ids of models.
        """
        self._held.append((call, decision, dict(bill)))
        if self._held_by == threading.get_ident():
            # A collected call, in the midst of another one: that will not wait for itself.
            return
        try:
            with self._changing():
                pass
        except DataError as error:
            logger.warning("What was spent is kept in memory: %s", error)

    def report(self) -> Pacing:
        """What was asked, and what has come of it so far.

        Raises:
            DataError: If the file cannot be read.
        """
        now = self._clock().timestamp()
        with self._changing() as database:
            books = self._read(database, now)
            calls = dict(database.execute("SELECT model, calls FROM spent ORDER BY model"))
            price = self._learned(books, now).total if len(self._recent) else 0.0
            return Pacing(
                budget_usd=self.budget_usd,
                spent_usd=books.spent_usd,
                under_way_usd=sum(books.aside.values()),
                horizon=self.horizon,
                requests=self._recent.seen,
                predicted_usd=books.predicted_usd,
                willingness_to_pay=1 / price if price else math.inf,
                window=self.window,
                window_usd=books.window_usd,
                by_model={
                    model: ModelPacing(calls.get(model, 0), spent, self.by_model.get(model))
                    for model, spent in {**dict.fromkeys(self.by_model, 0.0), **books.spent}.items()
                },
            )

    def save(self, file: str | Path) -> None:
        """Write the state to a file that `load` reads; one that is there is replaced.

        Raises:
            DataError: If that is not possible.
        """
        try:
            with self._changing() as database:
                row = (json.dumps(self._settings()),)
                database.execute("INSERT OR REPLACE INTO saved VALUES (1, ?)", row)
            with self._lock, self._database.opened() as database, replacing(Path(file)) as new:
                copy = sqlite3.connect(new)
                try:
                    database.backup(copy)
                    # Such a file can be read where nothing can be written beside it.
                    copy.execute("PRAGMA journal_mode = DELETE")
                finally:
                    copy.close()
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{file}: the state of a budget cannot be written: {error}.") from error

    @classmethod
    def load(cls, file: str | Path, *, clock: Callable[[], datetime] = _now) -> BudgetPacer:
        """A pacer in memory that goes on from what `save` wrote, with the same settings.

        Raises:
            DataError: If the file is no such state.
        """
        path = Path(file)
        try:
            # Not made where it is missing, and not written to.
            saved = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            with closing(saved):
                ((text,),) = saved.execute("SELECT settings FROM saved").fetchall()
                settings = json.loads(text)
                horizon, window = settings["horizon"], settings["window"]
                pacer = cls(
                    settings["budget_usd"],
                    timedelta(seconds=horizon["seconds"]) if isinstance(horizon, dict) else horizon,
                    by_model=settings["by_model"],
                    window=window and (window[0], timedelta(seconds=window[1])),
                    clock=clock,
                )
                with pacer._database.opened() as database:
                    saved.backup(database)
                pacer.report()
        except (OSError, sqlite3.Error, LookupError, *_DAMAGED) as error:
            raise DataError(
                f"{file}: no state of a budget that can be read: {error}. Name a file that "
                "BudgetPacer.save has written."
            ) from error
        return pacer

    def _settings(self) -> dict[str, Any]:
        """As `load` reads them."""
        horizon, window = self.horizon, self.window
        lasts = {"seconds": horizon.total_seconds()} if isinstance(horizon, timedelta) else horizon
        return {
            "budget_usd": self.budget_usd,
            "horizon": lasts,
            "by_model": self.by_model,
            "window": window and [window[0], window[1].total_seconds()],
        }

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """The state, for this thread of this process alone; kept if nothing is raised."""
        with self._lock:
            self._held_by = threading.get_ident()
            # Others may come meanwhile.
            held = list(self._held)
            try:
                with self._database.opened() as database:
                    database.execute("BEGIN IMMEDIATE")
                    for ended in held:
                        self._note(database, *ended)
                    yield database
                    database.commit()
                del self._held[: len(held)]
            except BudgetSpentError:
                # Raised before anything was changed.
                raise
            except BaseException as error:
                # What was added to it may not be in the database.
                self._recent, self._learned_at = Recent(), 0
                if isinstance(error, sqlite3.Error):
                    raise DataError(
                        f"{self.file}: what is left of a budget cannot be read or written: "
                        f"{error}. Name an SQLite file of a BudgetPacer, or one that is not there "
                        "yet, in a folder that can be written to."
                    ) from error
                raise
            finally:
                self._held_by = None

    def _read(self, database: sqlite3.Connection, now: float) -> _Books:
        """How things stand; the latest requests are those of all processes then."""
        try:
            rows = database.execute(
                "SELECT number, at, predicted FROM request WHERE number > ? ORDER BY number",
                (self._recent.seen,),
            )
            for number, at, predicted in rows:
                self._recent.add(number, at, json.loads(predicted))
            total = database.execute(
                "SELECT began, window, window_usd, predicted_usd, most FROM total"
            ).fetchone()
            began, window, window_usd, predicted_usd, most = total or (now, 0, 0.0, 0.0, AT_FIRST)
            if self.window is not None:
                # The span before stays where a clock is set back.
                here = max(int(max(now - began, 0) / self.window[1].total_seconds()), window)
                window, window_usd = here, window_usd if here == window else 0.0
            learned = database.execute("SELECT model, calls, usd, predicted_usd FROM learned")
            aside = database.execute(
                "SELECT model, SUM(usd) FROM under_way WHERE at > ? GROUP BY model",
                (now - SET_ASIDE_SECONDS,),
            )
            return _Books(
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

    def _add(
        self,
        database: sqlite3.Connection,
        books: _Books,
        now: float,
        predicted: Mapping[str, tuple[float, float]],
    ) -> None:
        """Add a request to the latest ones."""
        number = self._recent.seen + 1
        self._recent.add(number, now, predicted)
        row = (number, now, json.dumps(predicted))
        database.execute("INSERT INTO request VALUES (?, ?, ?)", row)
        database.execute("DELETE FROM request WHERE number <= ?", (number - ROWS,))
        database.execute("DELETE FROM under_way WHERE at <= ?", (now - SET_ASIDE_SECONDS,))
        books.write(database)

    def _note(
        self,
        database: sqlite3.Connection,
        call: str,
        decision: Decision,
        bill: Mapping[str, float],
    ) -> None:
        """Write down what a call has cost, and learn from it."""
        books = self._read(database, self._clock().timestamp())
        found = database.execute("SELECT usd FROM under_way WHERE call = ?", (call,)).fetchone()
        expected = decision.cost_usd if found is None else float(found[0])
        database.execute("DELETE FROM under_way WHERE call = ?", (call,))
        cost = sum(bill.values())
        if not cost > 0:
            return
        database.executemany(_SPEND, [one for one in bill.items() if one[1] > 0])
        # Another one may have been asked in its place, as in shadow.
        is_chosen = decision.model in bill
        most = books.most
        if is_chosen and expected > 0:
            most = max(1.0, 1 + (most - 1) * FORGETS, min(cost / expected, AT_MOST))
        books._replace(
            window_usd=books.window_usd + cost,
            predicted_usd=books.predicted_usd + decision.cost_usd,
            most=most,
        ).write(database)
        if is_chosen and decision.cost_usd > 0:
            database.execute(_LEARN, (decision.model, cost, decision.cost_usd))

    def _over(self, books: _Books, model: str, cost: float) -> str | None:
        """Why a call of a model does not fit into what is left; None if it does."""
        for whose, most, left in self._budgets(books, model):
            if cost > max(left, 0.0):
                return (
                    f"its expected {usd(cost)} are more than the {usd(max(left, 0.0))} that are "
                    f"left of {whose} {usd(most)}"
                )
        return None

    def _budgets(self, books: _Books, model: str) -> Iterator[tuple[str, float, float]]:
        """The budgets of a call of a model: their names, how large they are, what is left."""
        own = self.by_model.get(model)
        if own is not None:
            spent = books.spent.get(model, 0.0) + books.aside.get(model, 0.0)
            yield "its own budget of", own, own - spent
        aside = sum(books.aside.values())
        if self.window is not None:
            most, span = self.window
            yield f"this span's ({span}) budget of", most, most - books.window_usd - aside
        yield "the budget of", self.budget_usd, self.budget_usd - books.spent_usd - aside

    def _spent_text(self, books: _Books, over: Mapping[str, str]) -> str:
        why = "\n".join(f"  {model}: {reason}" for model, reason in over.items())
        aside = sum(books.aside.values())
        return (
            f"Nothing was asked: {usd(books.spent_usd)} of the budget of {usd(self.budget_usd)} "
            f"are spent, {usd(aside)} are set aside for calls under way, and no candidate is "
            f"expected to cost as little as what is left:\n{why}\n"
            "Raise budget_usd, by_model or window, or begin a new budget."
        )

    def _ordered(
        self, decision: Decision, books: _Books, now: float, expected: Mapping[str, float]
    ) -> Decision:
        """The candidates in the order of what they are worth at the prices of now."""
        price = self._learned(books, now)
        found = _at(decision, price, self._recent.models, expected)
        room = min(
            left - (to_come - 1) * self._least_usd if self._least_usd else left
            for left, to_come in self._plans(books, now)
        )
        if expected[found.model] > room:
            # Else there would not be enough for the cheapest model for all that are to come.
            found = _at(decision, Prices(math.inf, price.own), self._recent.models, expected)
        if decision.kept:
            found = replace(found.preferring(decision.model), kept=True)
        return found

    def _plans(self, books: _Books, now: float) -> list[tuple[float, float]]:
        """What is left of the budgets of all models, and for how many requests with this one."""
        aside, before = sum(books.aside.values()), max(self._recent.seen - 1, 0)
        elapsed = max(now - books.began, 0.0)
        if isinstance(self.horizon, timedelta):
            span = self.horizon.total_seconds()
            # As long as no rate can be told, there is no end of them.
            rate = before / elapsed if elapsed else math.inf
            to_come = 1 + rate * (span - elapsed % span)
        else:
            to_come = self.horizon - before % self.horizon
        plans = [(self.budget_usd - books.spent_usd - aside, float(to_come))]
        if self.window is not None:
            most, length = self.window
            seconds = length.total_seconds()
            ends = books.began + (books.window + 1) * seconds - now
            # By rounding it may have ended, which is no time for any number of requests.
            come = self._recent.rate(now) * ends if ends > 0 else 0.0
            plans.append((most - books.window_usd - aside, 1 + come))
        return plans

    def _learned(self, books: _Books, now: float) -> Prices:
        """The prices of now: learned anew, where enough has come since."""
        recent, plans = self._recent, self._plans(books, now)
        to_come = plans[0][1]
        often = recent.seen <= EACH or to_come <= EACH
        if self._learned_at and recent.seen - self._learned_at < (1 if often else EVERY):
            return self._prices
        own = np.full(len(recent.models), math.inf)
        for model, most in self.by_model.items():
            if model in recent.models:
                spent = books.spent.get(model, 0.0) + books.aside.get(model, 0.0)
                own[recent.models[model]] = max(most - spent, 0.0) / to_come
        quality = recent.quality
        cost = recent.cost_usd * [books.ratio.get(model, 1.0) for model in recent.models]
        pace = min(max(left, 0.0) / count for left, count in plans)
        self._prices = prices(quality, cost, pace, own)
        self._least_usd = float(np.where(np.isfinite(quality), cost, np.inf).min(axis=1).mean())
        self._learned_at = recent.seen
        return self._prices


class ModelPacing(NamedTuple):
    """What one model has been asked.

    Attributes:
        calls: Of it.
        spent_usd: What they have cost.
        budget_usd: The most that they may cost; None if there is no budget of its own.
    """

    calls: int
    spent_usd: float
    budget_usd: float | None


class Pacing(NamedTuple):
    """What was asked of a budget, and what has come of it so far.

    Attributes:
        budget_usd: For all requests.
        spent_usd: What calls that have ended have cost.
        under_way_usd: What is set aside for those that have not.
        horizon: How many requests the budget is for, or how long.
        requests: How many there were.
        predicted_usd: What the router had predicted for the calls that have ended.
        willingness_to_pay: At which the budgets are kept to now, USD a unit of quality.
        window: The most that may be spent in each span of time, and the span.
        window_usd: What was spent in this one.
        by_model: What each model was asked, by its id.
    """

    budget_usd: float
    spent_usd: float
    under_way_usd: float
    horizon: int | timedelta
    requests: int
    predicted_usd: float
    willingness_to_pay: float
    window: tuple[float, timedelta] | None
    window_usd: float
    by_model: Mapping[str, ModelPacing]

    def __str__(self) -> str:
        lines = [
            f"asked:    {usd(self.budget_usd)} for {_span(self.horizon)}",
            f"realised: {usd(self.spent_usd)} for {self.requests} requests "
            f"({usd(self.under_way_usd)} set aside for calls under way)",
            f"predicted {usd(self.predicted_usd)} for the calls that have ended",
            f"willingness to pay now: {usd(self.willingness_to_pay)} a unit of quality",
        ]
        if self.window is not None:
            most, span = self.window
            lines.append(f"this span ({span}): {usd(self.window_usd)} of {usd(most)}")
        for model, one in self.by_model.items():
            of = "" if one.budget_usd is None else f" of {usd(one.budget_usd)}"
            lines.append(f"  {model}: {one.calls} calls, {usd(one.spent_usd)}{of}")
        return "\n".join(lines)


class _Books(NamedTuple):
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


def _at(
    decision: Decision, price: Prices, columns: Mapping[str, int], expected: Mapping[str, float]
) -> Decision:
    """A decision at some prices, which are the inverse of its willingness to pay."""
    willingness = 1 / price.total if price.total else math.inf
    candidates = decision.candidates
    quality = np.array([one.quality for one in candidates])
    counted = np.array([expected[one.model] for one in candidates])
    if math.isfinite(willingness):
        # One that has come since the prices were learned has none of its own yet.
        own = [
            price.own[j] if (j := columns[one.model]) < len(price.own) else 0.0
            for one in candidates
        ]
        counted *= 1 + willingness * np.array(own)
    counted += [decision.surcharge_usd.get(one.model, 0.0) for one in candidates]
    rewards = reward("linear", quality, counted, willingness).tolist()
    order = rank(preference("linear", quality, counted, willingness), quality, counted).tolist()
    extra = {one.model: float(counted[j]) - one.cost_usd for j, one in enumerate(candidates)}
    ordered = tuple([candidates[j]._replace(reward=rewards[j]) for j in order])
    return replace(
        decision,
        model=ordered[0].model,
        quality=ordered[0].quality,
        cost_usd=ordered[0].cost_usd,
        candidates=ordered,
        willingness_to_pay=willingness,
        reward="linear",
        surcharge_usd={model: usd for model, usd in extra.items() if usd},
    )


def _span(horizon: int | timedelta) -> str:
    return str(horizon) if isinstance(horizon, timedelta) else f"{horizon} requests"


def _budget(value: object, name: str) -> float:
    found = amount(value)
    if found is None or math.isinf(found):
        raise ConstraintError(f"{name} is {shortened(value)}; give a number of USD from 0 up.")
    return found


def _horizon(value: object) -> int | timedelta:
    if isinstance(value, timedelta) and value > timedelta(0):
        return value
    if isinstance(value, (int, np.integer)) and value is not True and 0 < value <= sys.maxsize:
        return int(value)
    raise ConstraintError(
        f"horizon is {shortened(value)}; give the number of requests that the budget is for, from "
        "1 up, or a datetime.timedelta above 0."
    )


def _window(value: object) -> tuple[float, timedelta]:
    if isinstance(value, tuple) and len(value) == 2:
        most, span = value
        if isinstance(span, timedelta) and span > timedelta(0):
            return _budget(most, "window"), span
    raise ConstraintError(
        f"window is {shortened(value)}; give the USD and the span of time that they are for, such "
        "as (0.5, timedelta(hours=1))."
    )


def check_pacer(pacer: object, pool: Collection[str]) -> BudgetPacer | None:
    """See that something is a `BudgetPacer` for a pool, or None.

    Raises:
        ConstraintError: If it is neither.
        UnknownModelError: If a model with a budget of its own is not in the pool.
    """
    if pacer is None:
        return None
    if not isinstance(pacer, BudgetPacer):
        raise ConstraintError(
            f"pacer is {shortened(pacer)}; give crossroute.BudgetPacer(budget_usd, horizon)."
        )
    pacer.check(pool)
    return pacer
