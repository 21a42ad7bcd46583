"""How each single model and each router does on the rows of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossroute.evaluation.metrics import Interval
from crossroute.evaluation.references import FIXED
from crossroute.evaluation.saving import quality_gain, saving
from crossroute.traffic.contenders import taken
from crossroute.traffic.planning import Evidence
from crossroute.traffic.settings import Family
from crossroute.training.levels import FixedOrder


class Single(NamedTuple):
    """A single model.

    Attributes:
        model: Its id.
        answers: How many of its answers the rows have.
        quality: Mean score of these, or the estimate of it.
        cost_usd: Mean cost in USD.
        loss: How much worse it is than the baseline where both answered; None where nothing says.
    """

    model: str
    answers: int
    quality: float
    cost_usd: float
    loss: float | None


class Router(NamedTuple):
    """A router over all its settings, measured on rows that it did not learn from.

    Attributes:
        name: How it came to know the models.
        reward: That it orders candidates by.
        saving: Share of the baseline's cost that it saves at the baseline's quality, with its 95 %
            interval; None where the baseline costs nothing.
        gain: How much better it is at the baseline's cost, in units of quality.
    """

    name: str
    reward: str
    saving: Interval | None
    gain: Interval | None


def single_models(evidence: Evidence) -> list[Single]:
    """The single models, the best first."""
    outcomes, baseline = evidence.problem.outcomes, evidence.problem.baseline
    known = outcomes.known
    found = []
    for j, model in enumerate(evidence.data.models):
        rows = known[:, j]
        if not rows.any():
            continue
        both = rows & known[:, baseline]
        lost = outcomes.score[both, baseline] - outcomes.score[both, j]
        found.append(
            Single(
                model,
                int((~np.isnan(evidence.data.score[:, j])).sum()),
                float(outcomes.score[rows, j].mean()),
                float(outcomes.cost_usd[rows, j].mean()),
                float(lost.mean()) if both.any() else None,
            )
        )
    return sorted(found, key=lambda one: (-one.quality, one.cost_usd))


def routers(evidence: Evidence) -> list[Router]:
    """The fixed order, then each router by each reward, without caution."""
    routed = [
        family
        for family in evidence.families
        if family.contender is not None and not family.contender.caution
    ]
    return [_standing(evidence, family) for family in (_fixed(evidence), *routed)]


def _standing(evidence: Evidence, family: Family) -> Router:
    problem = evidence.problem
    base = np.full(len(evidence.data), problem.baseline)
    score, cost = problem.outcomes.score, problem.outcomes.cost_usd
    name = evidence.data.models[problem.baseline]
    chosen = family.chosen.astype(np.intp)
    found = saving({name: base}, chosen, score, cost)
    gain = quality_gain(base, chosen, score, cost)
    return Router(family.name, family.reward, None if found is None else found.share, gain)


def _fixed(evidence: Evidence) -> Family:
    """The fixed order of the models by what the other part of the rows says of them."""
    data, problem = evidence.data, evidence.problem
    quality, cost = np.full(data.score.shape, np.nan), np.full(data.score.shape, np.nan)
    halves: Sequence[np.ndarray] = (problem.learning, problem.calibration)
    for past, rows in (halves, reversed(halves)):
        other = taken(data, past)
        order = FixedOrder.of(other.score, other.cost_usd)
        columns = np.array([data.models.index(model) for model in other.models])
        quality[np.ix_(rows, columns)] = order.level
        cost[np.ix_(rows, columns)] = order.cost_usd
    return problem.by_predictions(FIXED, quality, cost, "linear")
