"""The integer program of an assignment, solved by HiGHS (scipy)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from crossroute.budget.problem import Problem

LEAST = 1e-300
"""What is less is not divided by."""


def solve(
    problem: Problem, budget_usd: float, quality: float, nodes: int, gap: float
) -> NDArray[np.intp] | None:
    """The model of each query: the best quality for a budget, or the least cost for a quality.

    Args:
        problem: What is to be shared out.
        budget_usd: The most that all queries may cost; infinite is no budget.
        quality: The least sum of qualities: then it is the cost that is minimised; minus infinity
            is none.
        nodes: How many branches it may look at; no time, which differs from machine to machine.
        gap: Relative distance to the best that is good enough.

    Returns:
        [n] indices of models, or None if none were found.
    """
    n, m = problem.quality.shape
    worth, cost = problem.quality.ravel(), problem.cost_usd.ravel()
    one_each = csr_matrix(
        (np.ones(n * m), (np.repeat(np.arange(n), m), np.arange(n * m))), (n, n * m)
    )
    constraints = [LinearConstraint(one_each, 1, 1)]
    allowed = np.ones(n * m) if problem.allowed is None else problem.allowed.ravel().astype(float)
    if math.isfinite(budget_usd):
        # Costs are far below 1, where a solver's tolerances would swallow them.
        allowed[cost > budget_usd] = 0
        scale = max(budget_usd, LEAST)
        parts = np.where(cost > budget_usd, 0.0, cost) / scale
        constraints.append(LinearConstraint(csr_matrix(parts), ub=budget_usd / scale))
    has_floor = math.isfinite(quality)
    if has_floor:
        constraints.append(LinearConstraint(csr_matrix(worth), lb=quality))
    for model in problem.limited:
        column = np.zeros((n, m))
        column[:, model] = 1
        constraints.append(
            LinearConstraint(csr_matrix(column.ravel()), ub=math.floor(problem.most[model] + 1e-9))
        )
    goal = cost / max(float(cost.mean()), LEAST) if has_floor else -worth
    found = milp(
        goal,
        constraints=constraints,
        integrality=np.ones(n * m),
        bounds=Bounds(0, allowed),
        options={"node_limit": nodes, "mip_rel_gap": gap},
    )
    if found.x is None:
        return None
    return np.asarray(found.x.reshape(n, m).argmax(axis=1))
