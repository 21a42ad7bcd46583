"""Many queries decided together: `CrossRouter.allocate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from crossroute.budget.assignment import Assignment, with_budget, with_floor
from crossroute.budget.held_out import Checked, HeldOutHalves
from crossroute.budget.problem import Prices, Problem
from crossroute.decision import CandidateScore, Decision, usd
from crossroute.errors import (
    ConstraintError,
    InfeasibleError,
    QueryError,
    UnknownModelError,
    explained,
    shortened,
)
from crossroute.ranking import amount, preference, rank, reward
from crossroute.serving import Serving

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

SHOWN_MODELS = 8
"""How many models a summary lists."""


@dataclass(frozen=True)
class Asked:
    """What many queries together are held to.

    Attributes:
        budget_usd: The most that all of them may cost, in USD; None where a quality is asked for.
        min_quality: The least mean quality, 0..1; None where there is a budget.
        max_share: The largest share of the queries that a model may get, by its id.
        max_concurrent: The largest number of them, by its id: they may be sent all at once.

    Raises:
        ConstraintError: If not one of budget and quality is given, or a number makes no sense.
    """

    budget_usd: float | None = None
    min_quality: float | None = None
    max_share: Mapping[str, float] = field(default_factory=dict)
    max_concurrent: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.budget_usd is None) == (self.min_quality is None):
            raise ConstraintError(
                "Give one of budget_usd (the most that all queries may cost) and min_quality "
                "(their least mean quality, 0..1)."
            )
        if self.budget_usd is not None:
            budget = amount(self.budget_usd)
            if budget is None:
                raise ConstraintError(
                    f"budget_usd is {shortened(self.budget_usd)}; give a number of USD from 0 up."
                )
            object.__setattr__(self, "budget_usd", budget)
        if self.min_quality is not None:
            quality = amount(self.min_quality)
            if quality is None or quality > 1:
                raise ConstraintError(
                    f"min_quality is {shortened(self.min_quality)}; give a mean quality in 0..1."
                )
            object.__setattr__(self, "min_quality", quality)
        for name in ("max_share", "max_concurrent"):
            limits = getattr(self, name)
            if not isinstance(limits, Mapping):
                raise ConstraintError(
                    f"{name} is {shortened(limits)}; give a mapping of model ids to numbers."
                )
        for model, share in self.max_share.items():
            found = amount(share)
            if found is None or found > 1:
                raise ConstraintError(
                    f"max_share of {model} is {shortened(share)}; give a share in 0..1."
                )
        for model, most in self.max_concurrent.items():
            if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 0:
                raise ConstraintError(
                    f"max_concurrent of {model} is {shortened(most)}; give a whole number of "
                    "queries from 0 up."
                )

    def most(self, models: Sequence[str], queries: int) -> FloatArray:
        """[m] how many of some queries each model may get; infinite is any number.

        Raises:
            UnknownModelError: If a limited model is none of these.
        """
        found = np.full(len(models), np.inf)
        for model in (*self.max_share, *self.max_concurrent):
            if model not in models:
                raise UnknownModelError(model, models)
        for model, share in self.max_share.items():
            # A share of 0.3 of ten queries is three, also where 0.3 * 10 is a little less.
            found[models.index(model)] = math.floor(share * queries + 1e-9)
        for model, most in self.max_concurrent.items():
            found[models.index(model)] = min(found[models.index(model)], most)
        return found

    def __str__(self) -> str:
        goal = (
            f"at most {usd(self.budget_usd)} in all"
            if self.budget_usd is not None
            else f"a mean quality of {self.min_quality:g} at least"
        )
        limits = [f"{model} at most {100 * share:g}%" for model, share in self.max_share.items()]
        limits += [f"{model} at most {n} at once" for model, n in self.max_concurrent.items()]
        return ", ".join([goal, *limits])


class Expected(NamedTuple):
    """What is predicted of all queries together.

    Attributes:
        cost_usd: The sum, in USD.
        quality: The mean, 0..1.
        share: The share of the queries that each model gets, the largest first; models without any
            are left out.
    """

    cost_usd: float
    quality: float
    share: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Allocation(Sequence[Decision]):
    """A model for each of many queries, chosen together.

    Attributes:
        asked: What they are held to.
        expected: What is predicted of them.
        feasible: Whether what was asked can be had, by the predictions.
        nearest: The nearest that can be, where it cannot; else None.
        willingness_to_pay: lambda at which the decisions were taken, USD a unit of quality, by the
            linear reward.
        surcharge_usd: What a call of a model that is at its limit counts beside its cost: the price
            of a place, in USD. Later queries are decided alike by
            `router.with_reward("linear").with_surcharges(surcharge_usd)`, if nothing was corrected.
        exact: Whether the integer program was solved; if not, the decisions are those of a
            Lagrangian, whose distance from the best is a few queries' worth.
        checked: How what was asked, predicted and realised compare on scored answers; None if none
            were given.
    """

    asked: Asked
    expected: Expected
    feasible: bool
    nearest: Allocation | None
    willingness_to_pay: float
    surcharge_usd: Mapping[str, float]
    exact: bool
    checked: Checked | None
    _table: _Table = field(repr=False)

    @property
    def decisions(self) -> Sequence[Decision]:
        """The decisions, in the order of the queries; each is made when it is looked at.

        Raises:
            InfeasibleError: If what was asked cannot be had.
        """
        self._check()
        return self

    @property
    def models(self) -> list[str]:
        """The model of each query, in order.

        Raises:
            InfeasibleError: If what was asked cannot be had.
        """
        self._check()
        names = self._table.serving.predictions.models
        return [names[j] for j in self._table.assignment.choice.chosen.tolist()]

    def __len__(self) -> int:
        return len(self._table.serving.queries)

    @overload
    def __getitem__(self, position: int) -> Decision: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Decision]: ...
    def __getitem__(self, position: int | slice) -> Decision | Sequence[Decision]:
        self._check()
        if isinstance(position, slice):
            return [self._table.decision(i) for i in range(*position.indices(len(self)))]
        return self._table.decision(range(len(self))[position])

    def __iter__(self) -> Iterator[Decision]:
        self._check()
        return (self._table.decision(i) for i in range(len(self)))

    def _check(self) -> None:
        if self.nearest is not None:
            raise InfeasibleError(self.infeasible)

    @property
    def infeasible(self) -> str:
        """Why what was asked cannot be had; empty where it can."""
        if self.nearest is None:
            return ""
        found, n = self.nearest.expected, len(self)
        is_limited = self.asked.max_share or self.asked.max_concurrent
        limits = " within the limits on models" if is_limited else ""
        if self.asked.budget_usd is not None:
            return (
                f"A budget of {usd(self.asked.budget_usd)} does not pay for {n} queries: the least "
                f"that they are predicted to cost{limits} is {usd(found.cost_usd)}. Raise "
                "budget_usd, or take `nearest`, which costs that."
            )
        return (
            f"A mean quality of {self.asked.min_quality:g} is not predicted for {n} queries: the "
            f"best{limits} is {found.quality:.4f}. Lower min_quality, or take `nearest`, which has "
            "that."
        )

    def __str__(self) -> str:
        """What was asked, what is expected, and the prices, for people to read."""
        lines = [f"{len(self)} queries: {self.asked}"]
        if self.nearest is not None:
            return "\n".join([*lines, self.infeasible])
        found = self.expected
        lines.append(
            f"predicted: {usd(found.cost_usd)} in all, "
            f"{usd(found.cost_usd / len(self))} a query, mean quality {found.quality:.4f}"
        )
        shown = list(found.share.items())[:SHOWN_MODELS]
        lines.append(", ".join(f"{model} {share:.1%}" for model, share in shown))
        if (more := len(found.share) - len(shown)) > 0:
            lines[-1] += f" and {more} more"
        lines.append(
            f"willingness to pay: {usd(self.willingness_to_pay)} a unit of quality (linear reward)"
        )
        lines += [
            f"a place at {model} is worth {usd(price)} a call"
            for model, price in self.surcharge_usd.items()
        ]
        lines.append("realised: not checked" if self.checked is None else str(self.checked))
        return "\n".join(lines)


class _Table(NamedTuple):
    """What decisions are made of."""

    serving: Serving
    quality: FloatArray
    cost_usd: FloatArray
    assignment: Assignment

    def decision(self, i: int) -> Decision:
        """That of one query."""
        models, query = self.serving.predictions.models, self.serving.queries[i]
        prices = self.assignment.prices
        quality, cost = self.quality[i], self.cost_usd[i]
        counted = cost + prices.surcharge_usd
        willingness = prices.willingness_to_pay
        preferences = preference("linear", quality, counted, willingness)
        tiers = None if self.serving.tiers is None else self.serving.tiers[i]
        order = rank(preferences, quality, counted, tiers).tolist()
        values = reward("linear", quality, counted, willingness).tolist()
        reasons = self.serving.removed[i]
        candidates = [
            CandidateScore(models[j], float(quality[j]), float(cost[j]), values[j])
            for j in order
            if models[j] not in reasons
        ]
        best = candidates[0]
        decision = Decision(
            model=best.model,
            quality=best.quality,
            cost_usd=best.cost_usd,
            candidates=tuple(candidates),
            willingness_to_pay=willingness,
            reward="linear",
            input_tokens=query.input_tokens,
            removed={model: explained(why) for model, why in reasons.items()},
            blank=query.is_blank,
            shortened=self.serving.shortened[i],
            surcharge_usd=_named(models, prices),
            fit=self.serving.fits[i] if self.serving.fits else {},
            margin=self.serving.margin,
            unknown_cost=self.serving.unknown_cost,
        )
        chosen = models[int(self.assignment.choice.chosen[i])]
        return decision if chosen == best.model else decision.preferring(chosen)


def allocate(
    serving: Serving,
    asked: Asked,
    halves: HeldOutHalves | None = None,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Allocation:
    """Decide many queries together.

    Args:
        serving: What is predicted for the queries, and who may serve them.
        asked: What they are held to.
        halves: Scored answers that the router has not learned from: one half corrects what is
            predicted, the other half says what is realised.
        on_step: Called now and then, with what is being done.

    Raises:
        QueryError: If there are no queries.
        UnknownModelError: If a limited model is not in the pool.
        ConstraintError: If the limits leave some query without a model.
    """
    n = len(serving.queries)
    if not n:
        raise QueryError("Give one query at least to allocate.")
    models = serving.predictions.models
    most = asked.most(models, n)
    quality, cost = serving.predictions.quality, serving.predictions.cost_usd
    if halves is not None:
        quality, cost = halves.corrected(models, quality, cost)
    problem = Problem(quality, cost, serving.allowed, most)
    passes = count(1)

    def on_pass() -> None:
        on_step(f"sharing out, pass {next(passes)}")

    found = (
        with_floor(problem, asked.min_quality, on_pass)
        if asked.min_quality is not None
        else with_budget(problem, asked.budget_usd or 0.0, on_pass)
    )
    if found is None:
        raise ConstraintError(
            f"The limits of max_share and max_concurrent leave no model for some of the {n} "
            "queries. Raise them, or limit fewer models."
        )

    def made(asked: Asked, nearest: Allocation | None) -> Allocation:
        share = np.bincount(found.choice.chosen, minlength=len(models)) / n
        order = np.argsort(-share, kind="stable").tolist()
        expected = Expected(
            found.choice.cost_usd,
            found.choice.quality / n,
            {models[j]: float(share[j]) for j in order if share[j] > 0},
        )
        return Allocation(
            asked=asked,
            expected=expected,
            feasible=nearest is None,
            nearest=nearest,
            willingness_to_pay=found.prices.willingness_to_pay,
            surcharge_usd=_named(models, found.prices),
            exact=found.exact,
            checked=None if halves is None else _checked(halves, models, found.prices, asked),
            _table=_Table(serving, quality, cost, found),
        )

    if found.feasible:
        return made(asked, None)
    possible = (
        replace(asked, budget_usd=found.choice.cost_usd)
        if asked.budget_usd is not None
        else replace(asked, min_quality=min(found.choice.quality / n, 1.0))
    )
    return made(asked, made(possible, None))


def _checked(halves: HeldOutHalves, models: Sequence[str], prices: Prices, asked: Asked) -> Checked:
    """What the prices come to on scored answers."""
    extra = np.array([prices.surcharge_usd[models.index(model)] for model in halves.models])

    def value(quality: FloatArray, cost_usd: FloatArray) -> FloatArray:
        return preference("linear", quality, cost_usd + extra, prices.willingness_to_pay)

    return halves.checked(value, asked.min_quality, by_corrected=True)


def _named(models: Sequence[str], prices: Prices) -> dict[str, float]:
    """Surcharges that are any, by the ids of models."""
    return {
        model: price
        for model, price in zip(models, prices.surcharge_usd.tolist(), strict=True)
        if price > 0
    }
