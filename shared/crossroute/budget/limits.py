"""Queries are moved from models that got more than their limit, those that lose the least."""

from __future__ import annotations

import numpy as np

from crossroute.budget.problem import Choice, FloatArray, IntArray, Prices, Problem, chosen_by


def within_limits(problem: Problem, prices: Prices) -> Choice | None:
    """The choice by prices, with queries moved from models that got too many.

    Those move that lose the least. None if some query finds no place.
    """
    chosen = chosen_by(problem, prices)
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
    """Make room for queries of a model that has too many, along a chain of full models.

    The queries that leave a full model for one with room need not be those that have no other
    place: a shortest augmenting path of the bipartite graph of queries and models moves queries
    from each model on it to the next, as many as it bears. Changes `chosen` and `room`; says
    whether there was a path.
    """
    over = int(room.argmin())
    # For each model that is reached: the one before it, and the queries that may come from there.
    reached: dict[int, tuple[int, IntArray]] = {over: (over, np.empty(0, np.intp))}
    queue = [over]
    while queue:
        model = queue.pop(0)
        rows = np.flatnonzero(chosen == model)
        if not len(rows):
            continue
        value = problem.value_of(rows, *prices)
        regret = value[:, [model]] - value
        for other in np.argsort(regret.min(axis=0), kind="stable").tolist():
            order = np.argsort(regret[:, other], kind="stable")
            order = order[np.isfinite(regret[order, other])]
            if other in reached or not len(order):
                continue
            reached[other] = model, rows[order]
            if room[other] > 0:
                path = [other]
                while path[-1] != over:
                    path.append(reached[path[-1]][0])
                count = int(
                    min(-room[over], room[other], *(len(reached[to][1]) for to in path[:-1]))
                )
                for to in path[:-1]:
                    chosen[reached[to][1][:count]] = to
                room[other] -= count
                room[over] += count
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
