"""Many queries, one budget: which model answers which query.

    maximise sum_i q_i,a(i)   so that   sum_i c_i,a(i) <= budget,   |{i: a(i) = j}| <= most_j

or, with a floor, the least cost whose mean quality is no lower. Both have the same Lagrangian: at a
willingness to pay lambda and a surcharge s_j for each model that is full, query i gets

    a(i) = argmax_j lambda q_ij - c_ij - s_j

(reconstructed from OmniRouter, arXiv 2502.20576, which publishes no optimiser). Cost and quality of
that answer grow with lambda, so lambda is found by bisection; the surcharges at a lambda minimise
the dual, smoothed by a softmax, by Newton's method on a sample of the queries and at last on all.
What the limits still lack is made up by moving the queries that lose the least. Where there are few
queries and scipy is installed, HiGHS solves the integer program itself.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.ranking import first

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

CHUNK = 16_384
"""Queries looked at together, which bounds the memory beside the two tables."""
SAMPLE = 10_000
"""Queries on which prices are sought first."""
EXACT_CELLS = 5_000
"""Queries times models up to which the integer program is solved itself."""
EXACT_NODES, EXACT_GAP = 50, 1e-4
"""Branches that are looked at, and the relative distance from the best that is good enough."""
BISECTIONS = 60
NARROW, ROUGH = 1e-7, 1e-4
"""Relative width at which a bracket of lambda is narrow enough: the last queries are moved one by
one. With limits on models the surcharges at each lambda are not that sure."""
STEP, LEAST = 1.02, 1e-16
"""By which a bracket is widened at first; the least lambda, relative to quality alone, but 0."""
POLISHES = 3
NEWTON_STEPS, FULL_STEPS, HALVINGS = 40, 4, 30
SMOOTHING = (0.1, 0.02, 0.005)
"""Of the softmax, in deviations of the queries' values from model to model."""
BALANCED = 1e-3
"""Share of the queries by which a load may miss its limit before a step of Newton's is worth it."""
RIDGE = 1e-9
ALONE = 1e7
"""Times the highest cost, lambda is quality alone: qualities differ by 1e-6 at least."""


@dataclass(frozen=True)
class Problem:
    """What is to be shared out between n queries.

    Attributes:
        quality: [n, m] predicted quality, 0..1.
        cost_usd: [n, m] predicted cost in USD.
        allowed: [n, m] whether a model may answer a query, one at least; None is every model.
        most: [m] how many queries a model may get; infinite is any number.
    """

    quality: FloatArray
    cost_usd: FloatArray
    allowed: BoolArray | None
    most: FloatArray

    def __len__(self) -> int:
        return len(self.quality)

    @cached_property
    def limited(self) -> IntArray:
        """Models that may get fewer queries than there are."""
        return np.flatnonzero(self.most < len(self))

    def take(self, rows: IntArray) -> Problem:
        """Some of the queries, with limits in proportion."""
        return Problem(
            self.quality[rows],
            self.cost_usd[rows],
            None if self.allowed is None else self.allowed[rows],
            self.most * (len(rows) / len(self)),
        )

    def room(self, chosen: IntArray) -> FloatArray:
        """[m] how many queries more each model may get; below 0, it has too many."""
        load = np.bincount(chosen, minlength=len(self.most))
        return np.floor(self.most + 1e-9) - load

    def values(
        self, willingness_to_pay: float, surcharge: FloatArray
    ) -> Iterator[tuple[int, FloatArray]]:
        """The first query of each chunk, and `value_of` its queries."""
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            yield start, self.value_of(part, willingness_to_pay, surcharge)

    def value_of(
        self, rows: IntArray | slice, willingness_to_pay: float, surcharge: FloatArray
    ) -> FloatArray:
        """`lambda q - c - s` of some queries, minus infinity where a model may not answer."""
        value = willingness_to_pay * self.quality[rows].astype(np.float64, copy=False)
        value -= self.cost_usd[rows]
        value -= surcharge
        if self.allowed is not None:
            value[~self.allowed[rows]] = -np.inf
        return value


class Prices(NamedTuple):
    """By which queries are shared out.

    Attributes:
        willingness_to_pay: lambda, USD a unit of quality.
        surcharge_usd: [m] what a call of each model counts beside its cost.
    """

    willingness_to_pay: float
    surcharge_usd: FloatArray


class Choice(NamedTuple):
    """A model for each query, with what that is predicted to cost and to be worth.

    Attributes:
        chosen: [n] indices of models.
        cost_usd: The sum.
        quality: The sum.
    """

    chosen: IntArray
    cost_usd: float
    quality: float

    @classmethod
    def of(cls, problem: Problem, chosen: IntArray) -> Choice:
        """What a choice comes to."""
        rows = np.arange(len(problem))
        cost, quality = problem.cost_usd[rows, chosen], problem.quality[rows, chosen]
        return cls(chosen, float(cost.sum(dtype=float)), float(quality.sum(dtype=float)))


class Assignment(NamedTuple):
    """The solution of a problem.

    Attributes:
        choice: The models.
        prices: By which they are chosen; a few queries have other models than by prices alone, so
            that no limit is broken and nothing is left over.
        feasible: Whether it keeps to what was asked; if not, it is the nearest that there is.
        exact: Whether an integer program was solved.
    """

    choice: Choice
    prices: Prices
    feasible: bool
    exact: bool


def with_budget(
    problem: Problem, budget_usd: float, on_step: Callable[[], None] = lambda: None
) -> Assignment | None:
    """The best quality for a budget; where it does not suffice, the least cost.

    Args:
        problem: What is to be shared out.
        budget_usd: The most that all queries may cost.
        on_step: Called now and then.

    Returns:
        None if the limits leave some query without a model.
    """
    return _solve(problem, _Goal(budget_usd=budget_usd), on_step)


def with_floor(
    problem: Problem, quality: float, on_step: Callable[[], None] = lambda: None
) -> Assignment | None:
    """The least cost for a mean quality; where that cannot be had, the best quality.

    Args:
        problem: What is to be shared out.
        quality: The least mean quality, 0..1.
        on_step: Called now and then.

    Returns:
        None if the limits leave some query without a model.
    """
    return _solve(problem, _Goal(quality=quality * len(problem)), on_step)


@dataclass(frozen=True)
class _Goal:
    """A budget on the sum of costs, or a floor under the sum of qualities."""

    budget_usd: float = math.inf
    quality: float = -math.inf

    @property
    def is_budget(self) -> bool:
        return self.quality == -math.inf

    def of(self, share: float) -> _Goal:
        return _Goal(self.budget_usd * share, self.quality * share)

    def is_kept(self, choice: Choice) -> bool:
        """Whether a choice keeps to it, but for rounding."""
        return bool(
            choice.cost_usd <= self.budget_usd * (1 + 1e-12)
            and choice.quality >= self.quality - 1e-12 * abs(self.quality)
        )

    def is_passed(self, choice: Choice) -> bool:
        """Whether a lower lambda would do, or is needed."""
        return not self.is_kept(choice) if self.is_budget else self.is_kept(choice)

    def better(self, one: Assignment | None, other: Assignment) -> Assignment | None:
        """The better of two, of those that keep to it."""
        if not self.is_kept(other.choice):
            return one
        if one is None:
            return other
        if self.is_budget:
            return max(one, other, key=lambda found: found.choice.quality)
        return min(one, other, key=lambda found: found.choice.cost_usd)


def _solve(problem: Problem, goal: _Goal, on_step: Callable[[], None]) -> Assignment | None:
    dearest = float(problem.cost_usd.max())
    extreme = ALONE * (dearest or 1.0)
    # Where even the end of lambda does not suffice, that is the nearest.
    end = 0.0 if goal.is_budget else extreme
    nearest = _at_end(problem, end, on_step)
    if nearest is None:
        return None
    if not goal.is_kept(nearest.choice):
        return _exact(problem, goal, nearest._replace(feasible=False))
    furthest = _at_end(problem, extreme - end, on_step)
    if furthest is not None and goal.is_kept(furthest.choice):
        # A budget that is not used up: the best quality, for as little as it costs.
        best = _Goal(quality=furthest.choice.quality)
        return _between(problem, best, extreme, on_step) if goal.is_budget else furthest
    return _exact(problem, goal, _between(problem, goal, extreme, on_step))


def _at_end(
    problem: Problem, willingness_to_pay: float, on_step: Callable[[], None]
) -> Assignment | None:
    """The least cost, or the best quality; None if some query finds no model."""
    on_step()
    prices = _Search(problem, on_step).at(willingness_to_pay)
    choice = _repaired(problem, prices)
    return None if choice is None else Assignment(choice, prices, feasible=True, exact=False)


def _between(
    problem: Problem, goal: _Goal, extreme: float, on_step: Callable[[], None]
) -> Assignment:
    """The solution where lambda is neither 0 nor infinite."""
    search = _Search(problem, on_step)
    best: Assignment | None = None

    def at(willingness: float) -> Choice:
        nonlocal best
        on_step()
        prices = search.at(willingness)
        choice = _repaired(problem, prices)
        assert choice is not None  # noqa: S101  # For mypy: with these limits there is one.
        best = goal.better(best, Assignment(choice, prices, feasible=True, exact=False))
        return choice

    low = high = search.sought(goal, extreme)
    cheap = dear = at(low)
    step = STEP
    while goal.is_passed(cheap) and low > 0:
        low, step = (low / step if low > extreme * LEAST else 0.0), step**2
        cheap = at(low)
    step = STEP
    while not goal.is_passed(dear) and high < extreme:
        high, step = min(high * step, extreme), step**2
        dear = at(high)
    for _ in range(BISECTIONS):
        if high - low <= (ROUGH if len(problem.limited) else NARROW) * high:
            break
        middle = (low + high) / 2
        choice = at(middle)
        if goal.is_passed(choice):
            high, dear = middle, choice
        else:
            low, cheap = middle, choice
    prices = search.at(low if goal.is_budget else high)
    mixed = _mixed(problem, goal, cheap, dear)
    best = goal.better(best, Assignment(mixed, prices, feasible=True, exact=False))
    assert best is not None  # noqa: S101  # For mypy: one end keeps to the goal.
    return _polished(problem, goal, best)


class _Search:
    """The prices at a willingness to pay: by a sample of the queries, then by all of them."""

    def __init__(self, problem: Problem, on_step: Callable[[], None]) -> None:
        self._problem, self._on_step = problem, on_step
        n, m = problem.quality.shape
        self._sample = problem
        if n > SAMPLE:
            rows = np.random.default_rng(0).choice(n, SAMPLE, replace=False)
            self._sample = problem.take(np.sort(rows))
        self._surcharge, self._beyond = np.zeros(m), np.zeros(m)
        self._is_finished = self._sample is problem

    def at(self, willingness_to_pay: float) -> Prices:
        """The prices at a willingness to pay.

        By how much those of all queries are beyond those of the sample is found at the first one.
        """
        if not len(self._problem.limited):
            return Prices(willingness_to_pay, self._surcharge)
        self._settle(willingness_to_pay)
        if not self._is_finished:
            full = _newton(
                self._problem, willingness_to_pay, self._surcharge, SMOOTHING[-1], FULL_STEPS
            )
            self._beyond, self._is_finished = full - self._surcharge, True
        return Prices(willingness_to_pay, np.maximum(self._surcharge + self._beyond, 0.0))

    def sought(self, goal: _Goal, extreme: float) -> float:
        """The willingness to pay at which the sample just keeps to a goal."""
        goal = goal.of(len(self._sample) / len(self._problem))
        low, high = extreme * LEAST, extreme
        while high > low * STEP**0.1:
            middle = math.sqrt(low * high)
            self._settle(middle)
            choice = Choice.of(self._sample, _chosen(self._sample, Prices(middle, self._surcharge)))
            low, high = (low, middle) if goal.is_passed(choice) else (middle, high)
            self._on_step()
        return high

    def _settle(self, willingness_to_pay: float) -> None:
        """Bring the surcharges to where the sample's loads keep to their limits."""
        if not len(self._problem.limited):
            return
        for smoothing in SMOOTHING:
            self._surcharge = _newton(
                self._sample, willingness_to_pay, self._surcharge, smoothing, NEWTON_STEPS
            )


class _Dual(NamedTuple):
    """The smoothed dual at some surcharges: [k] and [k, k] are of the limited models."""

    value: float
    gradient: FloatArray
    curvature: FloatArray


def _newton(
    problem: Problem,
    willingness_to_pay: float,
    surcharge: FloatArray,
    smoothing: float,
    steps: int,
) -> FloatArray:
    """Surcharges [m], none below 0, that minimise the smoothed dual."""
    limited, n = problem.limited, len(problem)
    deviation = _deviation(problem, willingness_to_pay)
    temperature = smoothing * deviation
    here = _dual(problem, willingness_to_pay, surcharge, temperature)
    for _ in range(steps):
        now = surcharge[limited]
        free = (now > 0) | (here.gradient < 0)
        if not (np.abs(here.gradient[free]) > BALANCED * n).any():
            break
        matrix = here.curvature[np.ix_(free, free)]
        ridge = RIDGE * max(float(np.trace(matrix)), 1e-300)
        step = np.zeros(len(limited))
        step[free] = np.linalg.solve(matrix + ridge * np.eye(len(matrix)), -here.gradient[free])
        # A load that hardly changes asks for a step without end.
        step = np.clip(step, -20 * deviation, 20 * deviation)
        for halving in range(HALVINGS):
            tried = surcharge.copy()
            tried[limited] = np.maximum(now + step * 0.5**halving, 0.0)
            there = _dual(problem, willingness_to_pay, tried, temperature)
            if there.value < here.value:
                break
        else:
            break
        surcharge, here = tried, there
    return surcharge


def _deviation(problem: Problem, willingness_to_pay: float) -> float:
    """By how much the values of a query differ from model to model, in USD."""
    rows = np.arange(0, len(problem), max(len(problem) // 1_000, 1))
    value = willingness_to_pay * problem.quality[rows] - problem.cost_usd[rows]
    return max(float(np.mean(value.std(axis=1))), 1e-12)


def _dual(
    problem: Problem, willingness_to_pay: float, surcharge: FloatArray, temperature: float
) -> _Dual:
    limited = problem.limited
    most = problem.most[limited]
    value = float(surcharge[limited] @ most)
    load, square = np.zeros(len(limited)), np.zeros((len(limited), len(limited)))
    for _, part in problem.values(willingness_to_pay, surcharge):
        top = part.max(axis=1, keepdims=True)
        weight = np.exp((part - top) / temperature)
        total = weight.sum(axis=1, keepdims=True)
        value += float((top + temperature * np.log(total)).sum())
        share = (weight / total)[:, limited]
        load += share.sum(axis=0)
        square += share.T @ share
    return _Dual(value, most - load, (np.diag(load) - square) / temperature)


def _chosen(problem: Problem, prices: Prices) -> IntArray:
    """The model of each query by prices alone; of equals the cheaper, then the better."""
    chosen = np.empty(len(problem), np.intp)
    for start, value in problem.values(*prices):
        part = slice(start, start + len(value))
        chosen[part] = first(value, problem.quality[part], problem.cost_usd[part])
    return chosen


def _repaired(problem: Problem, prices: Prices) -> Choice | None:
    """The choice by prices, with queries moved from models that got too many.

    Those move that lose the least. None if some query finds no place.
    """
    chosen = _chosen(problem, prices)
    room = problem.room(chosen)
    while (room < 0).any():
        full = room <= 0
        over = int(room.argmin())
        rows = np.flatnonzero(chosen == over)
        value = problem.value_of(rows, *prices)
        here = value[:, over].copy()
        value[:, full] = -np.inf
        target = value.argmax(axis=1)
        loss = here - value[np.arange(len(rows)), target]
        order = np.argsort(loss, kind="stable")[: int(-room[over])]
        order = order[np.isfinite(loss[order])]
        if not len(order):
            moved = _displaced(problem, prices, chosen, room)
            if not moved:
                return None
            continue
        # No model takes more than it has room for; who finds none left looks again.
        place = _rank_within(target[order])
        order = order[place < room[target[order]]]
        chosen[rows[order]] = target[order]
        room[over] += len(order)
        room -= np.bincount(target[order], minlength=len(room))
    return Choice.of(problem, chosen)


def _displaced(problem: Problem, prices: Prices, chosen: IntArray, room: FloatArray) -> bool:
    """Make room for a query of a model that has too many, along a chain of full models.

    The queries that leave a full model for one with room need not be those that have no other
    place: a shortest augmenting path of the bipartite graph of queries and models moves one query
    from each model on it to the next. Changes `chosen` and `room`; says whether there was a path.
    """
    over = int(room.argmin())
    models = len(room)
    before = np.full(models, -1)
    by = np.full(models, -1)
    seen, queue = {over}, [over]
    while queue:
        model = queue.pop(0)
        rows = np.flatnonzero(chosen == model)
        if not len(rows):
            continue
        value = problem.value_of(rows, *prices)
        regret = value[:, [model]] - value
        for other in np.argsort(regret.min(axis=0), kind="stable").tolist():
            if other in seen or not np.isfinite(regret[:, other]).any():
                continue
            seen.add(other)
            before[other], by[other] = model, int(rows[regret[:, other].argmin()])
            if room[other] > 0:
                while other != over:
                    chosen[by[other]] = other
                    room[other] -= 1
                    other = int(before[other])
                    room[other] += 1
                return True
            queue.append(other)
    return False


def _rank_within(group: IntArray) -> IntArray:
    """The how-manieth of its group each one is, in order: [k]."""
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], group[order], side="left")
    place = np.empty(len(group), np.intp)
    place[order] = np.arange(len(group)) - start
    return place


def _mixed(problem: Problem, goal: _Goal, cheap: Choice, dear: Choice) -> Choice:
    """The cheap choice, with as much of the dear one as the goal needs or bears.

    Both are at the same prices, nearly, so hardly anything is lost by either.
    """
    rows = np.flatnonzero(cheap.chosen != dear.chosen)
    return _moved(problem, goal, cheap, rows, dear.chosen[rows])


def _polished(problem: Problem, goal: _Goal, found: Assignment) -> Assignment:
    """What single moves still gain: a budget that is not used up, a quality beyond its floor."""
    for _ in range(POLISHES):
        chosen = found.choice.chosen
        room = problem.room(chosen)
        target = chosen.copy()
        for start, value in problem.values(*found.prices):
            part = slice(start, start + len(value))
            rows = np.arange(len(value))
            here = chosen[part]
            # Only where it is better in the one, and worse in the other.
            gain = problem.quality[part] - problem.quality[part][rows, here][:, None]
            extra = problem.cost_usd[part] - problem.cost_usd[part][rows, here][:, None]
            is_better = (gain > 0) if goal.is_budget else (extra < 0)
            value = np.where(is_better & (room > 0), value, -np.inf)
            best = value.argmax(axis=1)
            target[part] = np.where(np.isfinite(value[rows, best]), best, here)
        rows = np.flatnonzero(target != chosen)
        choice = _moved(problem, goal, found.choice, rows, target[rows])
        if not goal.is_kept(choice) or (choice.chosen == chosen).all():
            break
        found = found._replace(choice=choice)
    return found


def _moved(
    problem: Problem, goal: _Goal, choice: Choice, rows: IntArray, target: IntArray
) -> Choice:
    """A choice with some queries moved, those first that gain the most for what they cost.

    With a budget kept to: to what is better, as far as it goes; with a floor kept to: to what is
    cheaper, as far as it bears; with a floor that is not: to what is better, until it is.
    """
    old = choice.chosen[rows]
    gain = problem.quality[rows, target] - problem.quality[rows, old]
    extra = problem.cost_usd[rows, target] - problem.cost_usd[rows, old]
    saves = not goal.is_budget and goal.is_kept(choice)
    with np.errstate(divide="ignore", invalid="ignore"):
        if saves:
            worth = np.where(gain < 0, -extra / -gain, np.inf)
            useful = extra < 0
        else:
            worth = np.where(extra > 0, gain / extra, np.inf)
            useful = gain > 0
    room = problem.room(choice.chosen)
    chosen, cost, quality = choice.chosen.copy(), choice.cost_usd, choice.quality
    for k in np.argsort(-worth, kind="stable").tolist():
        if not useful[k] or room[target[k]] <= 0:
            continue
        if goal.is_budget and cost + extra[k] > goal.budget_usd:
            continue
        if saves and quality + gain[k] < goal.quality:
            continue
        if not goal.is_budget and not saves and quality >= goal.quality:
            break
        chosen[rows[k]] = target[k]
        room[target[k]] -= 1
        room[old[k]] += 1
        cost, quality = cost + extra[k], quality + gain[k]
    return Choice.of(problem, chosen)


def _exact(problem: Problem, goal: _Goal, found: Assignment) -> Assignment:
    """The same by the integer program, where that is small, solved, and better."""
    n, m = problem.quality.shape
    if n * m > EXACT_CELLS or importlib.util.find_spec("scipy") is None:
        return found
    from crossroute.budget.integer_program import solve

    if not found.feasible:
        # The nearest: the least cost, or the best quality.
        goal = _Goal(budget_usd=math.inf) if not goal.is_budget else _Goal(quality=0.0)
    chosen = solve(problem, goal.budget_usd, goal.quality, EXACT_NODES, EXACT_GAP)
    if chosen is None:
        return found
    exact = found._replace(choice=Choice.of(problem, chosen), exact=True)
    return goal.better(found, exact) or found
