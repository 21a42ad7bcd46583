"""What happened in a window of time: sums of bounded size over its calls."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError
from crossroute.failures import REFUSED
from crossroute.policy import Promised
from crossroute.traffic.records import CallRecord

FloatArray = NDArray[np.float64]
Width = Literal["day", "hour"] | int
"""Of a window: of time, in UTC, or so many calls."""

MOST_WINDOWS = 10_000
MOST_NAMES = 1_000
"""Of models and errors in a window."""
MOST_USD = 1e6
"""Of an answer; more is no prediction."""
NOT_ASKED = (REFUSED, "RestingError", "CostLimitError", "DailySpendError", "BudgetSpentError")
"""What ended an ask and is no failure of the provider."""
STEP = 1.05
"""Latencies are told apart in such steps."""
FASTEST_S = 0.001
FIELDS = 4
"""That are kept of an answer with feedback."""


@dataclass(slots=True)
class Paired:
    """Sums over calls: what happened beside what was expected of each.

    Attributes:
        calls: How many.
        realised: Sum of what happened.
        expected: Sum of what was expected.
        squares: Sum of the squared differences.
    """

    calls: int = 0
    realised: float = 0.0
    expected: float = 0.0
    squares: float = 0.0

    def add(self, realised: float, expected: float) -> None:
        """Add a call."""
        self.calls += 1
        self.realised += realised
        self.expected += expected
        off = realised - expected
        # A power would raise an error where a product is infinite.
        self.squares += off * off

    def merge(self, other: Paired) -> None:
        """Add all calls of another one."""
        self.calls += other.calls
        self.realised += other.realised
        self.expected += other.expected
        self.squares += other.squares

    @property
    def ratio(self) -> float:
        """What happened as a share of what was expected."""
        return self.realised / self.expected if self.expected > 0 else math.nan

    @property
    def excess(self) -> float:
        """Mean difference."""
        return (self.realised - self.expected) / self.calls

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences."""
        spread = self.squares - self.calls * self.excess**2
        return math.sqrt(max(spread, 0.0) / max(self.calls - 1, 1))


@dataclass(slots=True)
class Window:
    """What happened in a window.

    Answers that their callers left half read are in `counts` only.

    Attributes:
        start: When it begins.
        counts: `calls`, `answered`, `failed`, `left`, `passed on` (another model answered after a
            failure or a refusal), `blank` (without words to route by), `in shadow` (not left to the
            router), `unpriced` (answered at a cost that is not known), `input tokens` and `output
            tokens`.
        chosen: Calls by the model that answered, or that the router by itself, or a plan for one
            model, would have asked; by the model that was asked first, of a plan with strategies.
        asks: How often each model was asked.
        failures: How often each one failed.
        errors: Failures by model and type of the error.
        latency: Answers by the step of their latency.
        prices: By model, cost in USD of its answer beside that predicted.
        cost: Cost in USD of a call that was left to the router, beside that promised of a prompt.
        saving: The same, beside what is left of the predicted cost of the baseline by the promise.
        usd: What all answers of known cost have cost.
        base_usd: Sum of the predicted cost of the baseline over those calls.
    """

    start: datetime
    counts: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    asks: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    prices: dict[str, Paired] = field(default_factory=dict)
    cost: Paired = field(default_factory=Paired)
    saving: Paired = field(default_factory=Paired)
    usd: float = 0.0
    base_usd: float = 0.0
    _scores: dict[str, array[float]] = field(default_factory=dict)

    def add(
        self,
        record: CallRecord,
        promised: Promised | None,
        source: str | None,
        fixed: str | None = None,
        *,
        in_turn: bool = False,
    ) -> None:
        """Add a call.

        Args:
            record: The call.
            promised: What a plan promised of calls.
            source: The source of feedback to go by; None is the mean over the sources of a call.
            fixed: Id of the one model that a plan has answer everything; None where it routes.
            in_turn: Whether a plan has models asked in turn: who answers in the end is then no
                choice of the router.
        """
        decision = record.decision
        own = None if decision.shadow is None else decision.shadow.model
        if own is not None and fixed is not None:
            # What the router would have done was not promised.
            own = None if decision.model == fixed else fixed
        self.counts["calls"] += 1
        self.counts[record.outcome] += 1
        self.counts["blank"] += decision.blank
        # Where it draws, the usual one is the router's own, so that what is drawn is rare.
        self.counts["in shadow"] += (
            own is not None
            and own != decision.model
            and (decision.probability is None or decision.probability > 0.5)
        )
        for ask in record.asks:
            failed = ask.error is not None and ask.error not in NOT_ASKED
            self.asks[ask.model] += ask.error is None or failed
            if failed and ask.error is not None:
                self.failures[ask.model] += 1
                self.errors[ask.model, ask.error] += 1
        if record.outcome != "answered" or record.model is None:
            return
        self.counts["passed on"] += any(ask.error is not None for ask in record.asks)
        self.counts["input tokens"] += round(record.input_tokens)
        self.counts["output tokens"] += round(record.output_tokens)
        self.latency[_step(record.latency_s)] += 1
        taken = record.first_asked if in_turn else record.model
        self.chosen[own or taken or record.model] += 1
        self.counts["unpriced"] += record.cost_usd is None
        self.usd += record.cost_usd or 0.0
        predicted, asked = record.predicted, record.answering
        if predicted is not None and asked is not None and asked.cost_usd is not None:
            prices = self.prices.setdefault(record.model, Paired())
            prices.add(asked.cost_usd, _within(predicted.cost_usd, MOST_USD))
        followed = own is None or own == decision.model
        if promised is not None and followed and record.cost_usd is not None:
            self.cost.add(record.cost_usd, promised.cost_usd)
            for one in decision.candidates:
                if one.model == promised.baseline:
                    base = _within(one.cost_usd, MOST_USD)
                    self.saving.add(record.cost_usd, (1 - promised.saving) * base)
                    self.base_usd += base
        score = record.score(source)
        if score is not None and predicted is not None:
            kept = self._scores.setdefault(record.model, array("d"))
            # What several asks came to says nothing of one model: it is asked further where they
            # disagree, and those are the hard ones.
            alone = all(one.role == "answer" for one in record.asks)
            kept.extend((score, _within(predicted.quality, 1.0), followed, alone))

    def merge(self, other: Window) -> None:
        """Add all calls of another one."""
        for name in ("counts", "chosen", "asks", "failures", "errors", "latency"):
            getattr(self, name).update(getattr(other, name))
        for model, prices in other.prices.items():
            self.prices.setdefault(model, Paired()).merge(prices)
        self.cost.merge(other.cost)
        self.saving.merge(other.saving)
        self.usd += other.usd
        self.base_usd += other.base_usd
        for model, scores in other._scores.items():
            self._scores.setdefault(model, array("d")).extend(scores)

    @property
    def priced(self) -> int:
        """Answers whose cost is known."""
        return self.counts["answered"] - self.counts["unpriced"]

    @property
    def scored(self) -> tuple[str, ...]:
        """Models of whose answers there is feedback."""
        return tuple(self._scores)

    def _rows(self, model: str) -> FloatArray:
        """Score, predicted quality, whether left to the router, whether asked alone: [n, 4]."""
        return np.array(self._scores[model]).reshape(-1, FIELDS)

    def scores(self, model: str | None = None) -> tuple[FloatArray, FloatArray]:
        """Scores [n] and predicted quality [n] of answers with feedback.

        Args:
            model: Whose, of the calls in which nobody else gave a draft; None is all that were left
                to the router.
        """
        if model is not None:
            found = self._rows(model)
            found = found[found[:, 3] > 0]
            return found[:, 0], found[:, 1]
        found = np.concatenate([np.zeros((0, FIELDS)), *map(self._rows, self._scores)])
        found = found[found[:, 2] > 0]
        return found[:, 0], found[:, 1]

    def all_scores(self) -> FloatArray:
        """Scores [n] of all answers with feedback."""
        return np.concatenate([np.zeros((0, FIELDS)), *map(self._rows, self._scores)])[:, 0]

    def latency_s(self, share: float) -> float:
        """Within which time that share of the answers ended, true within 5 %; NaN of none."""
        left = share * self.latency.total()
        for step in sorted(self.latency):
            left -= self.latency[step]
            if left <= 1e-9:
                return float(FASTEST_S * STEP**step)
        return math.nan


def _within(value: float, most: float) -> float:
    """A prediction as what is predicted can be, whatever a file says."""
    return min(max(value, 0.0), most)


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        # In the first or the last hours of all years.
        return at.replace(tzinfo=UTC)


def _step(latency_s: float) -> int:
    return math.ceil(math.log(max(latency_s, FASTEST_S) / FASTEST_S, STEP))


def windows_of(
    records: Iterable[CallRecord],
    width: Width,
    *,
    last: int | None = None,
    promised: Promised | None = None,
    source: str | None = None,
    fixed: str | None = None,
    in_turn: bool = False,
) -> list[Window]:
    """The windows of records, by time.

    Args:
        records: In any order; in the order of time where a window is a number of calls.
        width: Of a window.
        last: How many windows to keep, the latest; None is all.
        promised: What a plan promised of calls.
        source: The source of feedback to go by; None is the mean over the sources of a call.
        fixed: Id of the one model that a plan has answer everything; None where it routes.
        in_turn: Whether a plan has models asked in turn.

    Raises:
        DataError: If there are too many windows or models.
    """
    windows: dict[float, Window] = {}
    for number, record in enumerate(records):
        start = _utc(record.at)
        if isinstance(width, int):
            place: float = number // width
        else:
            start = start.replace(minute=0, second=0, microsecond=0)
            start = start.replace(hour=0) if width == "day" else start
            place = start.timestamp()
        window = windows.setdefault(place, Window(start))
        window.add(record, promised, source, fixed, in_turn=in_turn)
        if len(window.chosen) + len(window.asks) + len(window.errors) > MOST_NAMES:
            raise DataError(
                f"The records of {start:%Y-%m-%d} name more than {MOST_NAMES:,} models and errors; "
                "give those of one router."
            )
        if last is not None and len(windows) > last:
            del windows[min(windows)]
        if len(windows) > MOST_WINDOWS:
            raise DataError(
                f"The records make more than {MOST_WINDOWS:,} windows; give a wider --window, or "
                "--last N to look at the latest only."
            )
    return [windows[place] for place in sorted(windows)]
