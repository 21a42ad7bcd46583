"""Shares, cost and quality as goals: the willingness to pay, and the surcharges, that reach them.

Every candidate of a prompt is a line `lambda * worth - cost` over the willingness to pay (lambda),
and the highest one is chosen. So what a prompt gets changes at a few points only, which are found
exactly: the sample's shares, mean cost and mean quality are steps between them.

A model's share need not grow with lambda: dearer ones take over again. Where no lambda gives it,
a surcharge on the model does, which is added to its cost in the comparison (below 0 it is a
discount): its share is the part of the prompts for which it leads by more. For several models,
surcharges are the prices of a transport problem. They minimise its dual, which is L-natural convex
(Murota, Discrete Convex Analysis): it is at its least where moving no set of models together makes
it less. So one set after the other is moved to where it has its share exactly; one model after the
other alone, two that both have too little would outbid each other on and on.

A value is taken from the middle between the points that bound it, so that prompts which differ a
little from those of the sample do not all change at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.decision import usd
from crossroute.ranking import QUALITY_FLOOR, RewardName, first, preference, utility

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

CLOSE = 0.005
"""A share this near is reached: half a point."""
ROUNDS = 100
"""Of cuts over all sets of models, at most."""
FEW_MODELS = 6
"""Of so many, all sets are moved together."""
ALIKE = 1e-9
"""Leads that differ by less, as a share of them, are equal: no rounding decides between them."""


class Target(NamedTuple):
    """What a router was tuned to: one of these.

    Attributes:
        shares: Share of the prompts of some models, 0..1, by their ids.
        cost_usd: The most that a prompt is to cost in the mean, in USD.
        quality: The least mean quality, 0..1.
    """

    shares: Mapping[str, float]
    cost_usd: float | None = None
    quality: float | None = None

    def __str__(self) -> str:
        if self.cost_usd is not None:
            return f"a mean cost of at most {usd(self.cost_usd)} a prompt"
        if self.quality is not None:
            return f"a mean quality of at least {self.quality:g}"
        return " and ".join(f"{100 * x:g} % for {model}" for model, x in self.shares.items())


class Sample(NamedTuple):
    """What n prompts of a sample get.

    Attributes:
        chosen: [n] position of the model in the pool.
        cost_usd: [n] its predicted cost in USD.
        quality: [n] its predicted quality.
    """

    chosen: IntArray
    cost_usd: FloatArray
    quality: FloatArray


@dataclass(frozen=True)
class Table:
    """What n prompts would get from m models, and which of these may serve them.

    Attributes:
        models: Ids of the m models.
        quality: [n, m] predicted, 0..1.
        cost_usd: [n, m] predicted, in USD.
        available: [n, m] whether a model may serve a prompt, at least one does.
        reward: What orders the candidates.
        surcharge_usd: [m] what is added to their cost already.
        corrected: Quality and cost [n, m] as scored answers correct what is predicted, by which it
            is decided all the same; None is no correction.
    """

    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    available: NDArray[np.bool_]
    reward: RewardName
    surcharge_usd: FloatArray
    corrected: tuple[FloatArray, FloatArray] | None = None

    @property
    def expected(self) -> tuple[FloatArray, FloatArray]:
        """Quality and cost in USD [n, m] that are to be expected."""
        return (self.quality, self.cost_usd) if self.corrected is None else self.corrected

    def chosen(
        self, willingness_to_pay: float, surcharge_usd: FloatArray | float = 0.0
    ) -> IntArray:
        """The model of each prompt: [n].

        Args:
            willingness_to_pay: lambda.
            surcharge_usd: [m] beside those that are there already.
        """
        quality = np.where(self.available, self.quality, 0.0)
        cost = np.where(self.available, self._counted(surcharge_usd), np.inf)
        return first(preference(self.reward, quality, cost, willingness_to_pay), quality, cost)

    def shares(self, chosen: IntArray) -> FloatArray:
        """The share of each model among choices [n]: [m]."""
        n, m = self.quality.shape
        return np.asarray(np.bincount(chosen, minlength=m) / n)

    def _counted(self, surcharge_usd: FloatArray | float = 0.0) -> FloatArray:
        return self.cost_usd + self.surcharge_usd + surcharge_usd


@dataclass(frozen=True)
class Steps:
    """What a sample gets at every willingness to pay.

    Attributes:
        low: [k] where each step begins, from 0 on.
        high: [k] where it ends, infinite for the last one.
        shares: [k, a] of the models that were asked for.
        cost_usd: [k] mean predicted cost.
        quality: [k] mean predicted quality.
    """

    low: FloatArray
    high: FloatArray
    shares: FloatArray
    cost_usd: FloatArray
    quality: FloatArray

    def middle(self, first_step: int, last_step: int | None = None) -> float:
        """A willingness to pay in the middle of a step, or of several."""
        low = float(self.low[first_step])
        high = float(self.high[first_step if last_step is None else last_step])
        if math.isinf(high):
            return 2 * low if low > 0 else high
        return math.sqrt(low) * math.sqrt(high) if low > 0 else high / 2

    def at(self, willingness_to_pay: float) -> int:
        """The step of a willingness to pay."""
        return int(np.searchsorted(self.low, willingness_to_pay, side="right")) - 1


def steps(table: Table, models: IntArray) -> Steps:
    """The steps of a table.

    Args:
        table: Of a sample.
        models: [a] of which models the shares are wanted.
    """
    n = len(table.quality)
    worth = np.where(table.available, utility(table.reward, table.quality), -np.inf)
    cost = np.where(table.available, table._counted(), np.inf)
    # At a willingness to pay of 0; then from each to the one that overtakes it first.
    now = first(-cost, np.where(table.available, table.quality, -1.0), cost)
    begun = now.copy()
    rows = np.arange(n)
    events: list[tuple[FloatArray, IntArray, IntArray, IntArray]] = []
    while len(rows):
        held = now[rows]
        gain = worth[rows] - worth[rows, held][:, None]
        extra = cost[rows] - cost[rows, held][:, None]
        with np.errstate(all="ignore"):
            point = np.where(gain > 0, extra / gain, np.inf)
        at = point.min(axis=1)
        moves = np.isfinite(at)
        # Of those that overtake it at once, the best.
        after = np.where(point <= at[:, None], gain, -np.inf).argmax(axis=1)
        rows, held, after = rows[moves], held[moves], after[moves]
        events.append((at[moves], rows, held, after))
        now[rows] = after
    at, rows, before, after = (np.concatenate(parts) for parts in zip(*events, strict=True))
    order = np.argsort(at, kind="stable")
    at, rows, before, after = at[order], rows[order], before[order], after[order]
    quality, cost_usd = table.expected
    change = np.column_stack(
        [
            (after[:, None] == models).astype(float) - (before[:, None] == models),
            cost_usd[rows, after] - cost_usd[rows, before],
            quality[rows, after] - quality[rows, before],
        ]
    )
    every = np.arange(n)
    start = np.concatenate(
        [
            (begun[:, None] == models).sum(axis=0),
            [cost_usd[every, begun].sum(), quality[every, begun].sum()],
        ]
    )
    figures = np.vstack([start, start + np.cumsum(change, axis=0)]) / n
    # Where several change at one point, but for rounding, what is after all of them.
    last = np.append(np.diff(at) > ALIKE * at[:-1], True) if len(at) else np.zeros(0, bool)
    points = at[last]
    figures = figures[np.concatenate([[True], last])]
    return Steps(
        np.append(0.0, points),
        np.append(points, np.inf),
        figures[:, :-2],
        figures[:, -2],
        figures[:, -1],
    )


def tolerance(prompts: int) -> float:
    """How far from the asked share is still it: half a point, or half a prompt."""
    return max(CLOSE, 0.5 / prompts) + 1e-9


def crossings(found: Steps, asked: FloatArray, prompts: int) -> list[float]:
    """Where the willingness to pay alone gives shares, the best quality first.

    Steps at which the shares are right are of one crossing for as long as none between them is
    wrong by more than a standard error.

    Args:
        found: From `steps`.
        asked: [a] the shares.
        prompts: How many the sample has.
    """
    off = abs(found.shares - asked).max(axis=1)
    close = tolerance(prompts)
    apart = max(float(np.sqrt(asked * (1 - asked) / prompts).max()), close)
    right = np.flatnonzero(off <= close)
    points = []
    while len(right):
        wrong = np.flatnonzero(off[: right[-1]] > apart)
        begin = int(wrong[-1]) if len(wrong) else -1
        group = right[right > begin]
        middle = found.middle(int(group[0]), int(group[-1]))
        # Of the steps that are right, the one nearest to the middle of all.
        at = found.at(middle)
        points.append(middle if at in group else found.middle(int(group[abs(group - at).argmin()])))
        right = right[right <= begin]
    return points


def nearest(found: Steps, asked: FloatArray, usual: float) -> float:
    """Where the willingness to pay alone comes nearest to shares; of equals, nearest to the usual.

    Args:
        found: From `steps`.
        asked: [a] the shares.
        usual: A willingness to pay.
    """
    off = abs(found.shares - asked).sum(axis=1)
    best = np.flatnonzero(off <= off.min() + 1e-9)
    at = found.at(usual)
    if at in best:
        return usual
    step = int(best[abs(best - at).argmin()])
    point = found.middle(step)
    # A surcharge does not count where no cost does.
    return point if math.isfinite(point) else usual


def surcharges(table: Table, willingness_to_pay: float, asked: Mapping[int, float]) -> FloatArray:
    """Surcharges in USD that give models shares of the sample: [m], beside those in the table.

    Args:
        table: Of the sample.
        willingness_to_pay: lambda, finite.
        asked: Share of each model, by its column.
    """
    n, m = table.quality.shape
    worth = utility(table.reward, table.quality)
    value = np.where(table.available, willingness_to_pay * worth - table._counted(), -np.inf)
    # Nothing leads or trails by so much, on other prompts either.
    spread = -math.log(QUALITY_FLOOR) if table.reward == "exponential" else 1.0
    seen = abs(value[table.available]).max()
    bound = willingness_to_pay * spread + 4 * float(seen)
    solved = {j: share for j, share in asked.items() if table.available[:, j].any()}
    is_all = sum(asked.values()) > 1 - 1e-9
    if is_all and len(solved) == m:
        # What the others leave is its own.
        del solved[max(solved, key=lambda j: solved[j])]
    if not solved:
        return np.zeros(m)
    models = list(solved)
    goal = np.array(list(solved.values()))
    # The others count by the best of them only.
    rest = np.full((n, 1), -np.inf)
    if others := [j for j in range(m) if j not in solved]:
        rest = value[:, others].max(axis=1, keepdims=True)
    # Where nothing is left for them, they are out of reach.
    apart = 2 * bound if is_all and len(asked) < m else 0.0
    found = np.zeros(m)
    found[models] = _balanced(value[:, models] + apart, rest[:, 0], goal, bound) - apart
    return found


def _balanced(own: FloatArray, rest: FloatArray, asked: FloatArray, bound: float) -> FloatArray:
    """What to take off a models' values [n, a] so that they are the highest in the asked shares.

    Args:
        own: Their values.
        rest: [n] the highest of the values of all other models.
        asked: [a] the shares.
        bound: No value is so far from another.
    """
    n, a = own.shape
    found = np.zeros(a)
    best, least = found, math.inf
    draws = np.random.default_rng(0)
    for _ in range(ROUNDS):
        net = own - found
        top = net.argmax(axis=1)
        shares = np.bincount(top[net.max(axis=1) > rest], minlength=a) / n
        off = abs(shares - asked)
        # Of two that cannot both have theirs, no other one is to suffer.
        if off.sum() < least:
            best, least = found.copy(), float(off.sum())
        if (off <= 0.5 / n).all():
            break
        before = found.copy()
        for group in _groups(a, draws):
            net = own - found
            lead = net[:, group].max(axis=1)
            others = np.maximum(rest, net[:, ~group].max(axis=1, initial=-np.inf))
            with np.errstate(invalid="ignore"):
                # Whom nobody of the group may serve it cannot lead in.
                lead = np.where(np.isneginf(lead), -np.inf, lead - others)
            found[group] += _cut(lead, float(asked[group].sum()), bound)
        if np.array_equal(before, found):
            break
    return best


def _groups(a: int, draws: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Sets of a models that are moved together, large ones first: all, or some at random."""
    if a <= FEW_MODELS:
        sets = (np.arange(1, 2**a)[:, None] >> np.arange(a) & 1).astype(bool)
    else:
        drawn = draws.random((2**FEW_MODELS, a)) < draws.random((2**FEW_MODELS, 1))
        sets = np.vstack([drawn[drawn.any(axis=1)], np.eye(a, dtype=bool)])
    return list(sets[np.argsort(-sets.sum(axis=1), kind="stable")])


def _cut(lead: FloatArray, share: float, bound: float) -> float:
    """What a share of leads [n] is above, in the middle between two of them."""
    # Whom only they may serve, they lead in without end; whom they may not, they trail in.
    forced, possible = int(np.isposinf(lead).sum()), len(lead) - int(np.isneginf(lead).sum())
    ordered = np.sort(lead)[::-1]
    count = min(max(round(share * len(lead)), forced), possible)
    if forced < count < possible:
        # Those that are alike stay together, on the side that is nearer.
        same = np.flatnonzero(np.isclose(ordered, ordered[count - 1], rtol=ALIKE, atol=0.0))
        if same[-1] >= count:
            over, under = count - same[0], same[-1] + 1 - count
            count = int(same[0] if over <= under else same[-1] + 1)
    high = float(ordered[count - 1]) if count > forced else math.inf
    low = float(ordered[count]) if count < possible else -math.inf
    if math.isinf(high) and math.isinf(low):
        return 0.0
    if math.isinf(high):
        high = max(low, 0.0) + bound
    elif math.isinf(low):
        low = min(high, 0.0) - bound
    return (low + high) / 2
