"""Many queries under one budget: how near the best, how near the budget, how fast.

    python benchmarks/allocation.py FILE...
    python benchmarks/allocation.py --many 1000000 --models 30

With files: the predictions of the shipped checkpoint for the rows of a split, its models taken as
served. At five budgets, evenly spaced in the logarithm from the least predicted cost to that of the
best quality: the sum of predicted qualities over that of the linear program (HiGHS), the realised
cost over the budget, and the predicted and realised mean quality.

With --many: simulated predictions. Seconds and peak memory, and how far the result is at most from
the best there is: the bound is the Lagrangian's own.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from crossroute import CrossRouter, ModelPool
from crossroute.budget.assignment import Assignment, with_budget
from crossroute.budget.problem import Problem
from crossroute.training.data import RoutingData

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
BLOCK = 50_000
console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="routing data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--many", type=int, help="so many simulated queries")
    parser.add_argument("--models", type=int, default=30)
    options = parser.parse_args()
    if options.files:
        near_the_budget(options.files, options.split)
    if options.many:
        many(options.many, options.models)


def near_the_budget(files: list[Path], split: str) -> None:
    table = Table(
        "data", "budget", "of the LP", "realised / budget", "quality: predicted, realised"
    )
    for file in files:
        data = RoutingData.load([file]).of_split(split).complete()
        pool = CrossRouter.shipped().subset(data.models).pool
        # What was served then is asked for again, in thought.
        served = ModelPool(one.model_copy(update={"retired": None}) for one in pool.values())
        router = CrossRouter.shipped().over(served)
        column = {model: j for j, model in enumerate(data.models)}
        found = router.predict(data.prompts)
        least = router.allocate(data.prompts, min_quality=0.0).expected.cost_usd
        most = router.allocate(data.prompts, budget_usd=1e9).expected.cost_usd
        for share in SHARES:
            budget = least ** (1 - share) * most**share
            allocation = router.allocate(data.prompts, budget_usd=budget)
            chosen = [column[model] for model in allocation.models]
            rows = np.arange(len(chosen))
            best = program(found.quality, found.cost_usd, budget)
            table.add_row(
                file.name.partition(".")[0],
                f"${budget:.4f}",
                f"{allocation.expected.quality * len(rows) / best:.5f}",
                f"{data.cost_usd[rows, chosen].sum() / budget:.3f}",
                f"{allocation.expected.quality:.4f}, {data.score[rows, chosen].mean():.4f}",
            )
    console.print(table)


def program(quality: NDArray[np.float64], cost: NDArray[np.float64], budget: float) -> float:
    n, m = quality.shape
    each = csr_matrix((np.ones(n * m), (np.repeat(np.arange(n), m), np.arange(n * m))))
    found = linprog(
        -quality.ravel(),
        A_ub=csr_matrix(cost.ravel() / budget),
        b_ub=[1.0],
        A_eq=each,
        b_eq=np.ones(n),
    )
    return float(-found.fun)


def many(queries: int, models: int) -> None:
    chance = np.random.default_rng(0)
    skill = chance.normal(0, 1, models)
    quality, cost = np.empty((queries, models)), np.empty((queries, models))
    for start in range(0, queries, BLOCK):
        part = slice(start, min(start + BLOCK, queries))
        shape = quality[part].shape
        hard = chance.normal(0, 1.5, (shape[0], 1))
        quality[part] = 1 / (1 + np.exp(-(skill + hard + chance.normal(0, 0.3, shape))))
        long = chance.normal(-8, 0.5, (shape[0], 1))
        cost[part] = np.exp(long + 1.2 * skill + chance.normal(0, 0.3, shape))
    held = peak_mb()
    budget = 3e-4 * queries
    table = Table("limits on models", "seconds", "MB beside the tables", "at most below the best")
    for name, most in (
        ("none", np.full(models, np.inf)),
        ("three", np.where(np.arange(models) % 10 == 3, queries * 0.01, np.inf)),
        ("all", np.full(models, np.ceil(queries / models * 1.3))),
    ):
        problem = Problem(quality, cost, None, most)
        began = time.perf_counter()
        found = with_budget(problem, budget)
        seconds = time.perf_counter() - began
        if found is None:
            raise SystemExit("The limits leave some query without a model.")
        gap = 1 - found.choice.quality / bound(problem, found, budget)
        table.add_row(name, f"{seconds:.1f}", f"{peak_mb() - held:.0f}", f"{gap:.1e}")
    console.print(f"{queries:,} queries, {models} models; the tables take {held:.0f} MB.")
    console.print(table)


def bound(problem: Problem, found: Assignment, budget: float) -> float:
    """No assignment has more quality than this."""
    willingness, surcharge = found.prices
    limited = problem.limited
    free = sum(float(value.max(axis=1).sum()) for _, value in problem.values(*found.prices))
    return (free + budget + float(surcharge[limited] @ problem.most[limited])) / willingness


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
