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
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crossroute.budget.limits import within_limits
from crossroute.budget.problem import Choice, IntArray, Prices, Problem, chosen_by
from crossroute.budget.surcharges import Surcharges

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
ALONE = 1e7
"""Times the highest cost, lambda is quality alone: qualities differ by 1e-6 at least."""


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

    def better(self, one: Assignment, other: Assignment) -> Assignment:
        """The better of two, of which the first keeps to it; of equals the second."""
        if not self.is_kept(other.choice):
            return one
        if self.is_budget:
            return other if other.choice.quality >= one.choice.quality else one
        return other if other.choice.cost_usd <= one.choice.cost_usd else one


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
        furthest = _exact(problem, goal, furthest)
        if not goal.is_budget:
            return furthest
        # A budget that is not used up: the best quality, for as little as it costs.
        best = _Goal(quality=furthest.choice.quality)
        return _exact(problem, best, _between(problem, best, extreme, furthest, on_step))
    return _exact(problem, goal, _between(problem, goal, extreme, nearest, on_step))


def _at_end(
    problem: Problem, willingness_to_pay: float, on_step: Callable[[], None]
) -> Assignment | None:
    """The least cost, or the best quality; None if some query finds no model."""
    on_step()
    prices = Surcharges(problem).at(willingness_to_pay)
    choice = within_limits(problem, prices)
    return None if choice is None else Assignment(choice, prices, feasible=True, exact=False)


def _between(
    problem: Problem, goal: _Goal, extreme: float, best: Assignment, on_step: Callable[[], None]
) -> Assignment:
    """The solution where lambda is neither 0 nor infinite; `best` keeps to the goal."""
    surcharges = Surcharges(problem)

    def at(willingness: float) -> Choice:
        nonlocal best
        on_step()
        prices = surcharges.at(willingness)
        choice = within_limits(problem, prices)
        assert choice is not None  # noqa: S101  # For mypy: with these limits there is one.
        best = goal.better(best, Assignment(choice, prices, feasible=True, exact=False))
        return choice

    low = high = _sought(surcharges, goal.of(len(surcharges.sample) / len(problem)), extreme)
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
    prices = surcharges.at(low if goal.is_budget else high)
    mixed = _mixed(problem, goal, cheap, dear)
    best = goal.better(best, Assignment(mixed, prices, feasible=True, exact=False))
    return _polished(problem, goal, best)


def _sought(surcharges: Surcharges, goal: _Goal, extreme: float) -> float:
    """The willingness to pay at which the sample just keeps to its share of a goal."""
    low, high = extreme * LEAST, extreme
    while high > low * STEP**0.1:
        middle = math.sqrt(low * high)
        chosen = chosen_by(surcharges.sample, surcharges.of_sample(middle))
        is_passed = goal.is_passed(Choice.of(surcharges.sample, chosen))
        low, high = (low, middle) if is_passed else (middle, high)
    return high


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
    """The same by the integer program, where that is small, solved, and no worse."""
    n, m = problem.quality.shape
    if n * m > EXACT_CELLS or importlib.util.find_spec("scipy") is None:
        return found
    if not found.feasible:
        # The nearest: the least cost, or the best quality. It may be as near as was asked.
        found = _solved(problem, _Goal(quality=0.0) if goal.is_budget else _Goal(), found)
        if not goal.is_kept(found.choice):
            return found
        found = found._replace(feasible=True)
    return _solved(problem, goal, found)


def _solved(problem: Problem, goal: _Goal, found: Assignment) -> Assignment:
    """What HiGHS finds, if it is no worse."""
    from crossroute.budget.integer_program import solve

    chosen = solve(problem, goal.budget_usd, goal.quality, EXACT_NODES, EXACT_GAP)
    if chosen is None:
        return found
    return goal.better(found, found._replace(choice=Choice.of(problem, chosen), exact=True))
