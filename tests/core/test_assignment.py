from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, vstack

from crossroute.budget import assignment, surcharges
from crossroute.budget.assignment import Assignment, with_budget, with_floor
from crossroute.budget.limits import _displaced, within_limits
from crossroute.budget.problem import Prices, Problem

LIMITS = ("none", "two", "all", "exactly all", "who may")


def world(n: int, m: int, limits: str = "none", seed: int = 0, *, alike: bool = False) -> Problem:
    """Models of which better ones are mostly dearer, and queries of several difficulties."""
    chance = np.random.default_rng(seed)
    skill, hard = chance.normal(0, 1, m), chance.normal(0, 1.5, (n, 1))
    own = 0.0 if alike else chance.normal(0, 0.3, (n, m))
    quality = 1 / (1 + np.exp(-(skill + hard + own)))
    cost = np.exp(-8 + 1.2 * skill + chance.normal(0, 0.3, m) + (0.0 if alike else own))
    cost = np.broadcast_to(cost, (n, m)).copy()
    most, allowed = np.full(m, np.inf), None
    if limits == "two":
        most[:2] = n // 8
    elif limits == "all":
        most[:] = np.ceil(n / m * 1.3)
    elif limits == "exactly all":
        most[:] = np.ceil(n / m)
    elif limits == "who may":
        most[:] = np.ceil(n / m * 1.5)
        allowed = chance.random((n, m)) < 0.7
        allowed[np.arange(n), chance.integers(0, m, n)] = True
    return Problem(quality, cost, allowed, most)


def between(problem: Problem, share: float) -> tuple[float, float]:
    """A budget and a floor between the least and the most."""
    least, most = with_budget(problem, 0.0), with_floor(problem, 1.0)
    assert least is not None
    assert most is not None
    budget = least.choice.cost_usd * (1 - share) + most.choice.cost_usd * share
    return budget, (least.choice.quality * (1 - share) + most.choice.quality * share) / len(problem)


def relaxed(problem: Problem, *, budget: float | None = None, floor: float | None = None) -> float:
    """The best sum of qualities for a budget, or the least cost for a floor, by HiGHS.

    Queries may be divided between models in it: no assignment is better.
    """
    n, m = problem.quality.shape
    each = csr_matrix((np.ones(n * m), (np.repeat(np.arange(n), m), np.arange(n * m))))
    rows: list[Any] = []
    bounds: list[float] = []
    if budget is not None:
        rows.append(csr_matrix(problem.cost_usd.ravel() / budget))
        bounds.append(1.0)
    if floor is not None:
        rows.append(csr_matrix(-problem.quality.ravel()))
        bounds.append(-floor * n)
    for model in problem.limited:
        column = np.zeros((n, m))
        column[:, model] = 1
        rows.append(csr_matrix(column.ravel()))
        bounds.append(problem.most[model])
    scale = problem.cost_usd.mean()
    goal = problem.cost_usd.ravel() / scale if budget is None else -problem.quality.ravel()
    may = np.ones(n * m) if problem.allowed is None else problem.allowed.ravel()
    found = linprog(
        goal,
        A_ub=vstack(rows),
        b_ub=bounds,
        A_eq=each,
        b_eq=np.ones(n),
        bounds=np.stack([np.zeros(n * m), may], axis=1),
    )
    assert found.status == 0, found.message
    return float(-found.fun if floor is None else found.fun * scale)


def check_limits(problem: Problem, found: Assignment | None) -> Assignment:
    assert found is not None
    chosen = found.choice.chosen
    rows = np.arange(len(problem))
    assert (np.bincount(chosen, minlength=len(problem.most)) <= problem.most).all()
    assert problem.allowed is None or problem.allowed[rows, chosen].all()
    assert found.choice.cost_usd == pytest.approx(problem.cost_usd[rows, chosen].sum())
    assert found.choice.quality == pytest.approx(problem.quality[rows, chosen].sum())
    return found


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_lagrangian_is_within_a_thousandth_of_the_linear_program(
    monkeypatch: pytest.MonkeyPatch, limits: str, share: float
) -> None:
    monkeypatch.setattr(assignment, "EXACT_CELLS", 0)
    problem = world(1_500, 8, limits)
    budget, floor = between(problem, share)
    by_budget = check_limits(problem, with_budget(problem, budget))
    assert by_budget.feasible
    assert not by_budget.exact
    assert by_budget.choice.cost_usd <= budget * (1 + 1e-9)
    assert by_budget.choice.quality >= relaxed(problem, budget=budget) * 0.999
    by_floor = check_limits(problem, with_floor(problem, floor))
    assert by_floor.feasible
    assert by_floor.choice.quality >= floor * len(problem) * (1 - 1e-9)
    assert by_floor.choice.cost_usd <= relaxed(problem, floor=floor) * 1.001


@pytest.mark.parametrize("limits", LIMITS)
def test_few_queries_are_solved_as_an_integer_program(limits: str) -> None:
    problem = world(40, 4, limits, seed=2)
    budget, _ = between(problem, 0.4)
    found = check_limits(problem, with_budget(problem, budget))
    best = relaxed(problem, budget=budget)
    assert found.choice.cost_usd <= budget * (1 + 1e-9)
    # A query is a fortieth of all: the best whole assignment is a little below the linear program.
    assert best * 0.97 <= found.choice.quality <= best * (1 + 1e-9)


def test_a_handful_is_decided_as_trying_everything_would(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = world(5, 3, seed=4)
    every = np.stack(np.meshgrid(*[range(3)] * 5, indexing="ij"), axis=-1).reshape(-1, 5)
    rows = np.arange(5)
    costs = problem.cost_usd[rows, every].sum(axis=1)
    qualities = problem.quality[rows, every].sum(axis=1)
    for budget in np.quantile(costs, [0.1, 0.4, 0.8]):
        found = check_limits(problem, with_budget(problem, float(budget)))
        best = qualities[costs <= budget].max()
        assert found.choice.quality == pytest.approx(best, rel=2e-4)


def test_without_scipy_it_is_the_lagrangian(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = world(40, 4, seed=2)
    budget, _ = between(problem, 0.4)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "crossroute.budget.integer_program", None)
    found = check_limits(problem, with_budget(problem, budget))
    assert not found.exact
    assert found.choice.cost_usd <= budget


def test_prices_alone_decide_nearly_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "EXACT_CELLS", 0)
    for limits in ("none", "two", "all"):
        problem = world(3_000, 6, limits)
        budget, _ = between(problem, 0.3)
        found = check_limits(problem, with_budget(problem, budget))
        (value,) = (v for _, v in problem.values(*found.prices))
        assert (value.argmax(axis=1) == found.choice.chosen).mean() > 0.98
        full = np.bincount(found.choice.chosen, minlength=6) >= problem.most * 0.98
        # The price of a place that is left over is nothing.
        assert (found.prices.surcharge_usd[~full] == 0).all()
        assert limits == "none" or (found.prices.surcharge_usd[full] > 0).any()


def test_many_queries_are_priced_by_a_sample_first(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = world(4_000, 5, "all", seed=3)
    budget, floor = between(problem, 0.5)
    monkeypatch.setattr(assignment, "EXACT_CELLS", 0)
    whole = check_limits(problem, with_budget(problem, budget))
    monkeypatch.setattr(surcharges, "SAMPLE", 400)
    monkeypatch.setattr("crossroute.budget.problem.CHUNK", 300)
    sampled = check_limits(problem, with_budget(problem, budget))
    assert sampled.choice.cost_usd <= budget * (1 + 1e-9)
    assert sampled.choice.quality >= whole.choice.quality * 0.999
    cheapest = check_limits(problem, with_floor(problem, floor))
    assert cheapest.choice.quality >= floor * len(problem) * (1 - 1e-9)


def test_queries_that_are_all_alike_share_a_budget() -> None:
    quality = np.tile([0.5, 0.9], (100, 1))
    cost = np.tile([0.001, 0.01], (100, 1))
    problem = Problem(quality, cost, None, np.full(2, np.inf))
    found = check_limits(problem, with_budget(problem, 0.1 + 30 * 0.009))
    assert np.bincount(found.choice.chosen).tolist() == [70, 30]
    found = check_limits(problem, with_floor(problem, 0.7))
    assert np.bincount(found.choice.chosen).tolist() == [50, 50]


def test_the_nearest_is_found_where_nothing_suffices() -> None:
    problem = world(200, 4, "two")
    least = with_budget(problem, 0.0)
    assert least is not None
    assert not least.feasible
    again = check_limits(problem, with_budget(problem, least.choice.cost_usd * (1 + 1e-6)))
    assert again.feasible
    best = with_floor(problem, 1.0)
    assert best is not None
    assert not best.feasible
    floor = best.choice.quality / len(problem) * (1 - 1e-6)
    assert check_limits(problem, with_floor(problem, floor)).feasible


@pytest.mark.parametrize(
    ("limits", "n", "m", "seed"),
    [
        ("exactly all", 40, 4, 4),
        ("exactly all", 40, 4, 5),
        ("exactly all", 200, 4, 1),
        ("who may", 40, 4, 3),
        ("who may", 60, 3, 3),
        ("who may", 200, 4, 2),
        ("two", 20, 3, 1),
        ("two", 200, 4, 3),
    ],
)
def test_the_nearest_can_be_asked_for(limits: str, n: int, m: int, seed: int) -> None:
    problem = world(n, m, limits, seed)
    least, best = with_budget(problem, 0.0), with_floor(problem, 1.0)
    assert least is not None
    assert best is not None
    assert check_limits(problem, with_budget(problem, least.choice.cost_usd)).feasible
    assert check_limits(problem, with_floor(problem, best.choice.quality / n)).feasible
    assert check_limits(problem, with_budget(problem, 1e9)).feasible


def test_a_budget_that_is_not_used_up_buys_the_best_for_as_little_as_it_costs() -> None:
    quality = np.tile([0.5, 0.9, 0.9], (20, 1))
    cost = np.tile([0.001, 0.01, 0.02], (20, 1))
    found = check_limits(
        problem := Problem(quality, cost, None, np.full(3, np.inf)), with_budget(problem, 10.0)
    )
    assert (found.choice.chosen == 1).all()
    assert found.prices.willingness_to_pay < 1


def test_limits_that_leave_a_query_without_a_model_have_no_solution() -> None:
    quality, cost = np.full((10, 2), 0.5), np.full((10, 2), 0.001)
    assert with_budget(Problem(quality, cost, None, np.array([4.0, 5.0])), 1.0) is None
    only_first: NDArray[np.bool_] = np.tile([True, False], (10, 1))
    assert with_budget(Problem(quality, cost, only_first, np.array([9.0, 10.0])), 1.0) is None


def test_room_is_made_along_a_chain_of_full_models() -> None:
    # The first model's queries fit only there and in the second, which is full of queries that fit
    # into the third.
    allowed = np.zeros((9, 3), np.bool_)
    allowed[:6, :2] = True
    allowed[6:, 1:] = True
    quality = np.where(allowed, 0.5, 0.0)
    quality[:6, 0], quality[6:, 1] = 0.9, 0.9
    problem = Problem(quality, np.full((9, 3), 0.001), allowed, np.array([3.0, 3.0, 3.0]))
    found = check_limits(problem, with_floor(problem, 0.0))
    assert np.bincount(found.choice.chosen).tolist() == [3, 3, 3]


def test_many_that_need_room_are_moved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without surcharges, all start at the first two models, and 300 have to go on to the third.
    allowed = np.zeros((900, 3), np.bool_)
    allowed[:600, :2] = True
    allowed[600:, 1:] = True
    cost = np.tile([0.001, 0.002, 0.004], (900, 1))
    problem = Problem(np.full((900, 3), 0.5), cost, allowed, np.array([300.0, 300.0, 300.0]))
    paths = []

    def counted(*at: Any) -> bool:  # noqa: ANN401  # Whatever it takes.
        paths.append(at)
        return _displaced(*at)

    monkeypatch.setattr("crossroute.budget.limits._displaced", counted)
    found = within_limits(problem, Prices(0.0, np.zeros(3)))
    assert found is not None
    assert np.bincount(found.chosen).tolist() == [300, 300, 300]
    assert len(paths) < 10


def test_costs_of_nothing_and_a_budget_of_nothing() -> None:
    problem = Problem(
        np.tile([0.5, 0.9], (4, 1)), np.tile([0.0, 0.01], (4, 1)), None, np.full(2, np.inf)
    )
    found = check_limits(problem, with_budget(problem, 0.0))
    assert found.feasible
    assert (found.choice.chosen == 0).all()
    tiny = check_limits(problem, with_budget(problem, 5e-324))
    assert (tiny.choice.chosen == 0).all()
    free = Problem(np.tile([0.5, 0.9], (4, 1)), np.zeros((4, 2)), None, np.full(2, np.inf))
    assert (check_limits(free, with_budget(free, 0.0)).choice.chosen == 1).all()


@pytest.mark.parametrize("seed", range(150))
def test_whatever_the_world_few_queries_are_decided_as_trying_everything_would(seed: int) -> None:
    chance = np.random.default_rng(seed)
    n, m = int(chance.integers(1, 6)), int(chance.integers(2, 4))
    shape = (n, m)
    qualities = [chance.random(shape), chance.random(shape).round(1), np.full(shape, 0.5)]
    costs = [chance.random(shape) * 10.0**k for k in (-12, -3, 6)]
    costs += [np.zeros(shape), chance.random(shape).round(1)]
    quality, cost = qualities[chance.integers(3)], costs[chance.integers(5)]
    allowed = None
    if chance.random() < 0.4:
        allowed = chance.random(shape) < 0.6
        allowed[np.arange(n), chance.integers(0, m, n)] = True
    most = np.full(m, np.inf)
    if chance.random() < 0.5:
        most = chance.integers(0, n + 1, m).astype(float)
    problem = Problem(quality, cost, allowed, most)

    rows = np.arange(n)
    every = np.stack(np.meshgrid(*[range(m)] * n, indexing="ij"), axis=-1).reshape(-1, n)
    within = np.array([(np.bincount(one, minlength=m) <= most).all() for one in every])
    if allowed is not None:
        within &= allowed[rows, every].all(axis=1)
    sums = cost[rows, every].sum(axis=1), quality[rows, every].sum(axis=1)
    spent, gained = (one[within] for one in sums)
    for budget in (0.0, float(sums[0].max() * chance.random()), float(sums[0].max() * 2)):
        found = with_budget(problem, budget)
        assert (found is not None) is bool(within.any())
        if found is not None:
            check_limits(problem, found)
            kept = spent <= budget * (1 + 1e-12)
            assert found.feasible is bool(kept.any())
            best = gained[kept].max() if kept.any() else None
            assert best is None or found.choice.quality == pytest.approx(best, rel=2e-4)
            assert kept.any() or found.choice.cost_usd == pytest.approx(spent.min(), rel=2e-4)
    for floor in (0.0, float(chance.random()), 1.0):
        found = with_floor(problem, floor)
        assert (found is not None) is bool(within.any())
        if found is not None:
            kept = gained >= floor * n * (1 - 1e-12)
            assert found.feasible is bool(kept.any())
            least = spent[kept].min() if kept.any() else None
            assert least is None or found.choice.cost_usd == pytest.approx(least, rel=2e-4)
