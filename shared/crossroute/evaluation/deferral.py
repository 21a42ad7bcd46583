"""The deferral curve: which part of the way from a weak to a strong model a router goes.

The metrics of RouteLLM (arXiv 2406.18665), for any number of models. The weak one is the cheapest
single model by its mean cost, the strong one the best single model by its mean score. At x, the
share of the queries that go to the strong model, the performance gap recovered is

    PGR(x) = (quality(x) - quality of weak) / (quality of strong - quality of weak)

where `quality(x)` is the mean score. APGR is the mean of PGR over x from 0 to 1, and CPT(p) the
least x where PGR is p. With more than two models, x is the share of the way from the weak one's
mean cost to the strong one's: with two of constant costs, that is the same.

The curve is that of the router itself, not its hull, which would hide what is worse than sending
queries to the weak and the strong model at random: there PGR(x) = x, and APGR is 0.5. A router that
knows both models' answers goes beyond 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossroute.evaluation.metrics import FloatArray, Hull, IntArray, realised

SHOWN = tuple(np.linspace(0, 1, 51).tolist())
"""Where a curve is kept, to be drawn."""


@dataclass(frozen=True)
class Deferral:
    """How a router gets from the weak model's quality to the strong one's.

    Attributes:
        apgr: Mean of PGR over x from 0 to 1; 0.5 is a random mix of the two.
        cpt_50: Least x at which half of the gap is recovered; None where it never is.
        cpt_80: Likewise for 80 %.
        pgr: At each x of `SHOWN`.
    """

    apgr: float
    cpt_50: float | None
    cpt_80: float | None
    pgr: tuple[float, ...]

    @classmethod
    def of(cls, x: FloatArray, pgr: FloatArray) -> Deferral:
        """The deferral of a curve, straight between its points.

        Args:
            x: [k] of the points, in any order; of equal ones, the mean counts.
            pgr: [k] at these.
        """
        at, place = np.unique(x, return_inverse=True)
        value = np.bincount(place, pgr) / np.bincount(place)
        if at[0] > 0:
            # Who wants to spend less than the router can takes the weak model.
            at, value = np.append(0.0, at), np.append(0.0, value)
        inner = at[(at > 0) & (at < 1)]
        ends = np.concatenate([[0.0], inner, [1.0]])
        heights = np.interp(ends, at, value)
        return cls(
            float(np.trapezoid(heights, ends)),
            _first(ends, heights, 0.5),
            _first(ends, heights, 0.8),
            tuple(np.interp(SHOWN, at, value).tolist()),
        )


@dataclass(frozen=True)
class Gap:
    """Between which two single models a deferral curve is drawn.

    Attributes:
        weak: Id of the cheapest by its mean cost; of equals, the better.
        strong: Id of the best by its mean score; of equals, the cheaper.
        undefined: Why there is no curve between them; None where there is one.
    """

    weak: str | None
    strong: str | None
    undefined: str | None = None


def gap(models: Sequence[str], score: FloatArray, cost_usd: FloatArray) -> Gap:
    """The weak and the strong one of some models.

    Args:
        models: Ids of m models.
        score: [n, m] of the answers; NaN where a model did not answer.
        cost_usd: [n, m] likewise.
    """
    if np.isnan(score).any():
        return Gap(None, None, "not every model answered every prompt")
    quality, cost = score.mean(axis=0), cost_usd.mean(axis=0)
    weak = int(np.lexsort((-quality, cost))[0])
    strong = int(np.lexsort((cost, -quality))[0])
    why = f"the cheapest model, {models[weak]}, is the best" if weak == strong else None
    if why is None and not quality[strong] > quality[weak]:
        # Of equal quality, the cheaper one is the strong one, so that this is by equal costs.
        why = f"{models[strong]}, the best model, is no better than {models[weak]}, the cheapest"
    if why is None and not cost[strong] > cost[weak]:
        why = f"{models[strong]}, the best model, costs no more than {models[weak]}"
    return Gap(models[weak], models[strong], why)


def deferral(
    found: Gap,
    models: Sequence[str],
    chosen: IntArray,
    score: FloatArray,
    cost_usd: FloatArray,
    *,
    mixed: bool = False,
) -> Deferral | None:
    """The deferral curve of choices.

    Args:
        found: From `gap`, of the same answers.
        models: Ids of m models.
        chosen: [w, n] of a router, from `sweep`.
        score: [n, m] of the answers.
        cost_usd: [n, m] of the answers.
        mixed: Whether the router mixes its choices at random, so that its curve is their hull.

    Returns:
        None where there is no gap.
    """
    if found.undefined is not None or found.weak is None or found.strong is None:
        return None
    weak, strong = models.index(found.weak), models.index(found.strong)
    cost, quality = realised(chosen, score, cost_usd)
    means, levels = cost_usd.mean(axis=0), score.mean(axis=0)
    if len(models) == 2:
        x = (chosen == strong).mean(axis=1)
    else:
        x = (cost - means[weak]) / (means[strong] - means[weak])
    pgr = (quality - levels[weak]) / (levels[strong] - levels[weak])
    if mixed:
        hull = Hull.of(x, pgr)
        x, pgr = hull.cost_usd, hull.quality
    return Deferral.of(x, pgr)


def _first(x: FloatArray, value: FloatArray, height: float) -> float | None:
    """Where a curve first reaches a height; None where it never does."""
    # Rounding must not decide whether the end of the curve is reached.
    reached = np.flatnonzero(value >= height - 1e-9)
    if not len(reached):
        return None
    k = int(reached[0])
    if k == 0:
        return float(x[0])
    part = (height - value[k - 1]) / (value[k] - value[k - 1])
    return float(x[k - 1] + min(part, 1.0) * (x[k] - x[k - 1]))
