"""A budget that lasts: for some number of requests, or for some time.

Each request goes to the model with the highest `quality - multiplier * cost`, at the multipliers
that `crossroute.budget.multipliers` learns from the latest requests, for what is left of the
budgets and of the requests to come: what was predicted wrongly, and what the traffic becomes, is
made up for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossroute.budget.books import Books, Standing
from crossroute.budget.multipliers import Multipliers, Recent, multipliers
from crossroute.budget.pacing import ModelPacing, Pacing
from crossroute.budget.terms import Terms, usd_from_0
from crossroute.constraints import ConstraintsLike, Stay
from crossroute.decision import Decision, usd
from crossroute.errors import BudgetSpentError, ConstraintError, UnknownModelError, shortened
from crossroute.exploration import new_call_id
from crossroute.query import QueryLike
from crossroute.ranking import preference, rank, reward
from crossroute.router import CrossRouter

EACH, EVERY = 50, 10
"""Multipliers are learned anew at each of the first requests, and at every tenth one after them."""


def _now() -> datetime:
    return datetime.now(UTC)


def as_it_is(decision: Decision) -> Decision:
    """The decision itself."""
    return decision


class _Learned(NamedTuple):
    """What was learned from the latest requests.

    Attributes:
        recent: The requests.
        seen: How many there were in all.
        multipliers: At which they would have kept to the pace.
        least_usd: What the cheapest model costs in the mean.
    """

    recent: Recent
    seen: int
    multipliers: Multipliers
    least_usd: float


class BudgetPacer:
    """Spends a budget over the requests that it is for, on those where it gains the most.

    What the router predicts for a request is ordered by `quality - multiplier * cost`, at the
    multiplier that spends what is left over what is to come; so the budget sets the willingness to
    pay of every call. Multipliers are learned from the latest requests, and so is what calls of a
    model really cost beside what was predicted. A model that is expected to cost more than what is
    left of a budget is no candidate; what calls under way may cost is set aside meanwhile, at the
    highest multiple of what was expected that calls have come to lately. So requests exceed no
    budget by more than one of them, but where several at once cost more than any did lately.

    After its horizon it begins another one of the same length, with what is left.

    Args:
        budget_usd: For all requests, in USD.
        horizon: How many requests it is for; or for how long from the first one on.
        by_model: The most of it that single models may cost, in USD, by their ids.
        window: The most that may be spent in each span of time, and the span: `(0.5,
            timedelta(hours=1))`. The first begins with the first request, the others follow.
        file: An SQLite file, made if it is not there, that holds the state for all processes that
            are given it; None holds it in memory, for this process: others, forked or sent a
            pickle, are refused.
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
        terms = Terms.of(budget_usd, horizon, by_model, window)
        self._begin(Books(None if file is None else Path(file), terms, clock), terms, clock)

    def _begin(self, books: Books, terms: Terms, clock: Callable[[], datetime]) -> None:
        self.budget_usd, self.horizon, self.by_model, self.window = terms
        self.file = books.file
        self._books = books
        self._clock = clock
        self._last: _Learned | None = None

    def __repr__(self) -> str:
        return f"BudgetPacer(budget_usd={self.budget_usd}, horizon={self.horizon!r})"

    def __copy__(self) -> BudgetPacer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BudgetPacer:
        # A budget that a copy had for itself would be twice as high.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # What was learned is of what the process has read.
        return {**vars(self), "_last": None}

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
            ConstraintError: If it is no number from 0 up, or no such call is under way.
        """
        call = decision.call_id
        if call is None or not self._books.is_under_way(call):
            raise ConstraintError(
                f"decision: no call of {decision.model} is under way that it is of: it was settled "
                "before, or a day ago at least, or this pacer has not decided it. Settle each "
                "decision of paced or route once."
            )
        cost = decision.cost_usd if cost_usd is None else usd_from_0(cost_usd, "cost_usd")
        self.end(call, decision, {decision.model: cost})

    def check(self, pool: Collection[str]) -> None:
        """See that the models with a budget of their own are in a pool.

        Raises:
            UnknownModelError: If one is not.
        """
        for model in self.by_model:
            if model not in pool:
                raise UnknownModelError(model, pool)

    def admit(
        self, decision: Decision, call: str, choose: Callable[[Decision], Decision] = as_it_is
    ) -> Decision:
        """`paced` for a call with an id of its own, which `end` is told.

        Args:
            decision: See `paced`.
            call: Its id.
            choose: What has the last word on whom to ask of its candidates.

        Raises:
            BudgetSpentError: If no candidate is expected to cost as little as what is left.
            DataError: If the file cannot be read or written.
        """
        now = self._clock().timestamp()
        with self._books.changing() as database:
            standing = self._books.read(database, now)
            expected = {one.model: standing.expected(one) for one in decision.candidates}
            over = {
                model: why
                for model, cost in expected.items()
                if (why := self._over(standing, model, cost)) is not None
            }
            if len(over) < len(expected):
                self._books.begun(database, standing, now, _choices(decision, over))
                decision = decision.without(over) if over else decision
                found = choose(self._ordered(decision, standing, now, expected))
                model = found.model
                self._books.set_aside(database, call, now, model, expected[model])
                return found
        raise BudgetSpentError(self._spent_text(standing, over))

    def end(self, call: str, decision: Decision, bill: Mapping[str, float]) -> None:
        """A call has ended, or was never made.

        What cannot be written to the file is kept, and written with the next call; a warning says
        so, since an answer is there by then.

        Args:
            call: Its id.
            decision: What `admit` gave.
            bill: What its asks have cost, in USD, by the ids of models.
        """
        self._books.ended(call, decision, bill)

    def report(self) -> Pacing:
        """What was asked, and what has come of it so far.

        Raises:
            DataError: If the file cannot be read.
        """
        now = self._clock().timestamp()
        with self._books.changing() as database:
            standing = self._books.read(database, now)
            calls = self._books.calls(database)
            seen = len(self._books.recent)
            total = self._learned(standing, now).multipliers.total if seen else 0.0
            spent = {**dict.fromkeys(self.by_model, 0.0), **standing.spent}
            return Pacing(
                budget_usd=self.budget_usd,
                spent_usd=standing.spent_usd,
                under_way_usd=sum(standing.aside.values()),
                horizon=self.horizon,
                requests=self._books.recent.seen,
                predicted_usd=standing.predicted_usd,
                willingness_to_pay=1 / total if total else math.inf,
                window=self.window,
                window_usd=standing.window_usd,
                by_model={
                    model: ModelPacing(calls.get(model, 0), cost, self.by_model.get(model))
                    for model, cost in spent.items()
                },
            )

    def save(self, file: str | Path) -> None:
        """Write the state to a file that `load` reads; one that is there is replaced.

        Raises:
            DataError: If that is not possible.
        """
        self._books.save(Path(file))

    @classmethod
    def load(cls, file: str | Path, *, clock: Callable[[], datetime] = _now) -> BudgetPacer:
        """A pacer in memory that goes on from what `save` wrote, with the same settings.

        Raises:
            DataError: If the file is no such state.
        """
        books, terms = Books.load(Path(file), clock)
        pacer = cls.__new__(cls)
        pacer._begin(books, terms, clock)
        return pacer

    def _over(self, standing: Standing, model: str, cost: float) -> str | None:
        """Why a call of a model does not fit into what is left; None if it does."""
        for whose, most, left in self._budgets(standing, model):
            if cost > max(left, 0.0):
                return (
                    f"its expected {usd(cost)} are more than the {usd(max(left, 0.0))} that are "
                    f"left of {whose} {usd(most)}"
                )
        return None

    def _budgets(self, standing: Standing, model: str) -> Iterator[tuple[str, float, float]]:
        """The budgets of a call of a model: their names, how large they are, what is left."""
        own = self.by_model.get(model)
        if own is not None:
            spent = standing.spent.get(model, 0.0) + standing.aside.get(model, 0.0)
            yield "its own budget of", own, own - spent
        aside = sum(standing.aside.values())
        if self.window is not None:
            most, span = self.window
            yield f"this span's ({span}) budget of", most, most - standing.window_usd - aside
        yield "the budget of", self.budget_usd, self.budget_usd - standing.spent_usd - aside

    def _spent_text(self, standing: Standing, over: Mapping[str, str]) -> str:
        why = "\n".join(f"  {model}: {reason}" for model, reason in over.items())
        aside = sum(standing.aside.values())
        return (
            f"Nothing was asked: {usd(standing.spent_usd)} of the budget of {usd(self.budget_usd)} "
            f"are spent, {usd(aside)} are set aside for calls under way, and no candidate is "
            f"expected to cost as little as what is left:\n{why}\n"
            "Raise budget_usd, by_model or window, or begin a new budget."
        )

    def _ordered(
        self, decision: Decision, standing: Standing, now: float, expected: Mapping[str, float]
    ) -> Decision:
        """The candidates in the order of what they are worth at the multipliers of now."""
        learned = self._learned(standing, now)
        columns = self._books.recent.models
        found = _at(decision, learned.multipliers, columns, expected)
        room = min(
            left - (to_come - 1) * learned.least_usd if learned.least_usd else left
            for left, to_come in self._plans(standing, now)
        )
        if expected[found.model] > room:
            # Else there would not be enough for the cheapest model for all that are to come.
            cheapest = learned.multipliers._replace(total=math.inf)
            found = _at(decision, cheapest, columns, expected)
        if decision.kept:
            found = replace(found.preferring(decision.model), kept=True)
        return found

    def _plans(self, standing: Standing, now: float) -> list[tuple[float, float]]:
        """What is left of the budgets of all models, and for how many requests with this one."""
        aside, before = sum(standing.aside.values()), max(self._books.recent.seen - 1, 0)
        elapsed = max(now - standing.began, 0.0)
        if isinstance(self.horizon, timedelta):
            span = self.horizon.total_seconds()
            # As long as no rate can be told, there is no end of them.
            rate = before / elapsed if elapsed else math.inf
            to_come = 1 + rate * (span - elapsed % span)
        else:
            to_come = self.horizon - before % self.horizon
        plans = [(self.budget_usd - standing.spent_usd - aside, float(to_come))]
        if self.window is not None:
            most, length = self.window
            seconds = length.total_seconds()
            ends = standing.began + (standing.window + 1) * seconds - now
            # By rounding it may have ended, which is no time for any number of requests.
            come = self._books.recent.rate(now) * ends if ends > 0 else 0.0
            plans.append((most - standing.window_usd - aside, 1 + come))
        return plans

    def _learned(self, standing: Standing, now: float) -> _Learned:
        """The multipliers of now: learned anew, where enough has come since."""
        recent, last, plans = self._books.recent, self._last, self._plans(standing, now)
        to_come = plans[0][1]
        often = recent.seen <= EACH or to_come <= EACH
        # What was read anew may have its models in other columns.
        enough = 1 if often else EVERY
        if last is not None and last.recent is recent and recent.seen - last.seen < enough:
            return last
        own = np.full(len(recent.models), math.inf)
        for model, most in self.by_model.items():
            if model in recent.models:
                spent = standing.spent.get(model, 0.0) + standing.aside.get(model, 0.0)
                own[recent.models[model]] = max(most - spent, 0.0) / to_come
        quality = recent.quality
        cost = recent.cost_usd * [standing.ratio.get(model, 1.0) for model in recent.models]
        pace = min(max(left, 0.0) / count for left, count in plans)
        least = float(np.where(np.isfinite(quality), cost, np.inf).min(axis=1).mean())
        self._last = _Learned(recent, recent.seen, multipliers(quality, cost, pace, own), least)
        return self._last


def _choices(decision: Decision, over: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Quality and cost in USD of those that a request is chosen among, by their ids.

    Where agents serve, no model is; models are where no budget has room for one of these agents.

    Args:
        decision: The router's.
        over: Why candidates do not fit into what is left, by their ids; not all of them.
    """
    choices = decision.peers
    if all(one.model in over for one in choices):
        choices = decision.without(over).peers
    return {one.model: (one.quality, one.cost_usd) for one in choices}


def _at(
    decision: Decision, by: Multipliers, columns: Mapping[str, int], expected: Mapping[str, float]
) -> Decision:
    """A decision at some multipliers, the inverse of its willingness to pay."""
    willingness = 1 / by.total if by.total else math.inf
    candidates = decision.candidates
    quality = np.array([one.quality for one in candidates])
    counted = np.array([expected[one.model] for one in candidates])
    if math.isfinite(willingness):
        # One that has come since they were learned, or stands in only, has none of its own.
        places = [columns.get(one.model, len(by.own)) for one in candidates]
        own = [by.own[j] if j < len(by.own) else 0.0 for j in places]
        counted *= 1 + willingness * np.array(own)
    counted += [decision.surcharge_usd.get(one.model, 0.0) for one in candidates]
    rewards = reward("linear", quality, counted, willingness).tolist()
    tiers = np.array(decision.tiers)
    liked = preference("linear", quality, counted, willingness)
    order = rank(liked, quality, counted, tiers).tolist()
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
        topsis=None,
        surcharge_usd={model: usd for model, usd in extra.items() if usd},
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
