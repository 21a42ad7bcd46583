"""A router that is tuned to a goal on a sample of prompts: at_share, at_cost and at_quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import numpy as np

from crossroute.budget.held_out import Checked, HeldOutHalves
from crossroute.budget.share import (
    CLOSE,
    FloatArray,
    IntArray,
    Sample,
    Steps,
    Table,
    Target,
    crossings,
    nearest,
    steps,
    surcharges,
    tolerance,
)
from crossroute.decision import usd
from crossroute.errors import ConstraintError, UnknownModelError, shortened
from crossroute.ranking import RewardName, amount, check_willingness_to_pay, preference

if TYPE_CHECKING:
    from crossroute.budget.drift import Drift

SURE = 1.96
"""Standard errors to each side of a 95 % interval."""
SHOWN_OTHERS = 3
"""How many other values of the willingness to pay are named."""
ROUNDING = 1e-9


class Chargeable(Protocol):
    """What a router is here."""

    @property
    def surcharge_usd(self) -> Mapping[str, float]:
        """What is added to the cost of models, by their ids."""

    def with_surcharges(self, usd: Mapping[str, float]) -> Self:
        """The same router with other ones."""


Router = TypeVar("Router", bound=Chargeable)


@dataclass(frozen=True)
class Tuned(Generic[Router]):
    """A router with the willingness to pay that reaches a goal on a sample of prompts.

        tuned = router.at_share(prompts, {"gpt-5.5": 0.3})
        decision = tuned.router.route(prompt, tuned.willingness_to_pay)

    Attributes:
        router: The router, with surcharges where the willingness to pay alone does not do.
        willingness_to_pay: lambda, USD a unit of quality.
        asked: What it was tuned to.
        prompts: How many the sample has.
        shares: Share of the sample that each model gets, by its id; of those that get any, and of
            those that were asked for.
        cost_usd: Mean predicted cost of the sample, in USD a prompt; corrected, if scored answers
            were given.
        quality: Its mean predicted quality, likewise.
        reached: Whether that is what was asked.
        note: What is in the way, and what is nearest; what is worth knowing if nothing is.
        checked: How what was asked, predicted and realised compare on scored answers; None if none
            were given.
    """

    router: Router
    willingness_to_pay: float
    asked: Target
    prompts: int
    shares: Mapping[str, float]
    cost_usd: float
    quality: float
    reached: bool
    note: str
    sample: Sample = field(repr=False, compare=False)
    checked: Checked | None = None

    def checked_on(self, halves: HeldOutHalves, reward: RewardName) -> Tuned[Router]:
        """The same, with what its decisions come to on scored answers.

        Args:
            halves: The scored answers.
            reward: What orders the router's candidates.
        """
        extra = np.array([self.surcharge_usd.get(model, 0.0) for model in halves.models])

        def value(quality: FloatArray, cost_usd: FloatArray) -> FloatArray:
            return preference(reward, quality, cost_usd + extra, self.willingness_to_pay)

        checked = halves.checked(value, self.asked.quality, by_corrected=False)
        return replace(self, checked=checked)

    @property
    def surcharge_usd(self) -> Mapping[str, float]:
        """What calls of models count as dearer than they are, by their ids."""
        return self.router.surcharge_usd

    def share_error(self, model: str) -> float:
        """Standard error of a model's share on other prompts: that of a draw of so many."""
        share = self.shares.get(model, 0.0)
        return math.sqrt(share * (1 - share) / self.prompts)

    @property
    def cost_error_usd(self) -> float:
        """Standard error of the mean predicted cost on other prompts, in USD."""
        return self._error(self.sample.cost_usd)

    @property
    def quality_error(self) -> float:
        """Standard error of the mean predicted quality on other prompts."""
        return self._error(self.sample.quality)

    def _error(self, values: FloatArray) -> float:
        if len(values) < 2:
            return math.inf
        # Of equal values it is rounding.
        return float(values.std(ddof=1)) / math.sqrt(len(values)) if np.ptp(values) else 0.0

    def watch(
        self,
        *,
        share_off: float = 0.05,
        cost_off: float = 0.1,
        quality_off: float = 0.05,
        warn: bool = True,
    ) -> Drift:
        """What notices that later decisions drift from what was asked (`crossroute.budget.drift`).

        Args:
            share_off: Share of the calls by which a model's may be off without a warning.
            cost_off: Share of the mean cost by which that may be off.
            quality_off: By how much the mean quality may be off.
            warn: Whether to log a warning; the alarm is kept in any case.

        Raises:
            ConstraintError: If one of them is no number from 0 up.
        """
        from crossroute.budget.drift import Drift

        # That a share could not be had is no drift.
        shares = self.asked.shares if self.reached else self.shares
        return Drift(
            self.asked._replace(shares={model: shares[model] for model in self.asked.shares}),
            self.sample,
            share_off=_allowed("share_off", share_off),
            cost_off=_allowed("cost_off", cost_off),
            quality_off=_allowed("quality_off", quality_off),
            warn=warn,
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON-ready values (an infinite number becomes a string)."""
        willingness = self.willingness_to_pay
        return {
            "willingness_to_pay": willingness if math.isfinite(willingness) else str(willingness),
            "surcharge_usd": dict(self.surcharge_usd),
            "asked": {
                name: value
                for name, value in self.asked._asdict().items()
                if value not in (None, {})
            },
            "prompts": self.prompts,
            "reached": self.reached,
            "note": self.note,
            "shares": dict(self.shares),
            "share_errors": {model: self.share_error(model) for model in self.shares},
            "cost_usd": self.cost_usd,
            "cost_error_usd": _finite(self.cost_error_usd),
            "quality": self.quality,
            "quality_error": _finite(self.quality_error),
            "checked": None if self.checked is None else self.checked.to_dict(),
        }


def _allowed(name: str, value: object) -> float:
    off = amount(value)
    if off is None:
        raise ConstraintError(f"{name} is {shortened(value)}; give a number from 0 up.")
    return off


def check_shares(shares: object, pool: Mapping[str, object]) -> dict[str, float]:
    """Shares of models by their ids, as numbers.

    Raises:
        ConstraintError: If they are none, one is not from 0 to 1, or they are more than 1 together,
            or less although they are those of all models.
        UnknownModelError: If a model is not in the pool.
    """
    if not isinstance(shares, Mapping) or not shares:
        raise ConstraintError(
            f'shares is {shortened(shares)}; give shares by model ids, such as {{"gpt-5.5": 0.3}}.'
        )
    checked = {}
    for model, given in shares.items():
        if model not in pool:
            raise UnknownModelError(model, pool)
        share = amount(given)
        if share is None or share > 1:
            raise ConstraintError(
                f"The share of {model} is {shortened(given)}; give a number from 0 to 1, such as "
                "0.3 for 30 %."
            )
        checked[model] = share
    if (together := math.fsum(checked.values())) > 1 + ROUNDING:
        raise ConstraintError(
            f"The shares are {together:g} together ({', '.join(checked)}); they must be 1 at most."
        )
    if together < 1 - CLOSE and len(checked) == len(pool):
        raise ConstraintError(
            f"The shares are {together:g} together, and there is no other candidate than "
            f"{', '.join(checked)}; they must be 1, or leave a model out of them."
        )
    return checked


def tuned_to_shares(
    router: Router,
    table: Table,
    shares: Mapping[str, float],
    willingness_to_pay: float | None,
    usual: float,
) -> Tuned[Router]:
    """Tune a router to shares; see `CrossRouter.at_share`.

    Args:
        router: The router.
        table: What it predicts of the sample.
        shares: From `check_shares`.
        willingness_to_pay: At which it is to be; None is where it takes no surcharge, or the least.
        usual: The willingness to pay to prefer, where many are as good.
    """
    n = len(table.quality)
    columns = np.array([table.models.index(model) for model in shares])
    asked = np.array(list(shares.values()))
    lines = steps(table, columns)
    others: list[float] = []
    if willingness_to_pay is not None:
        willingness = willingness_to_pay
        points = [willingness] if _is_at(table, willingness, columns, asked) else []
    else:
        points = crossings(lines, asked, n)
        willingness = points[0] if points else nearest(lines, asked, usual)
        if math.isinf(willingness):
            # They are the same everywhere.
            willingness = usual
        others = [point for point in points[1:] if math.isfinite(point)]
    extra = np.zeros(len(table.models))
    if not points:
        by_column = dict(zip(columns.tolist(), asked.tolist(), strict=True))
        extra = surcharges(table, willingness, by_column)
    goal = Target(dict(shares))
    return _tuned(router, table, willingness, extra, goal, _other_points(lines, others))


def tuned_to_cost(router: Router, table: Table, cost_usd: float) -> Tuned[Router]:
    """Tune a router to a mean cost; see `CrossRouter.at_cost`."""
    lines = steps(table, np.zeros(0, np.intp))
    # With surcharges, or corrected, neither cost nor quality need grow from step to step.
    within = np.flatnonzero(lines.cost_usd <= cost_usd * (1 + ROUNDING))
    note = ""
    if len(within):
        step = _last_best(lines, within)
        if step == len(lines.low) - 1:
            note = "Even the best models cost no more: a larger budget buys nothing"
    else:
        step = _first_cheapest(lines, np.arange(len(lines.low)))
        note = (
            f"Even the cheapest models cost {_rounded_up(float(lines.cost_usd[step]))} a prompt in "
            "the mean, which is the nearest"
        )
    return _at_step(router, table, lines, step, Target({}, cost_usd=cost_usd), note)


def tuned_to_quality(router: Router, table: Table, quality: float) -> Tuned[Router]:
    """Tune a router to a mean quality; see `CrossRouter.at_quality`."""
    lines = steps(table, np.zeros(0, np.intp))
    enough = np.flatnonzero(lines.quality >= quality - ROUNDING)
    note = ""
    if len(enough):
        step = _first_cheapest(lines, enough)
        if step == 0:
            note = "The cheapest models do"
    else:
        step = _last_best(lines, np.arange(len(lines.low)))
        # Rounded down, so that it can be had.
        best = math.floor(float(lines.quality[step]) * 1e4) / 1e4
        note = f"Even the best models are predicted {best:.4f} in the mean, which is the nearest"
    return _at_step(router, table, lines, step, Target({}, quality=quality), note)


def _last_best(lines: Steps, among: IntArray) -> int:
    quality = lines.quality[among]
    return int(among[quality >= quality.max() - ROUNDING][-1])


def _first_cheapest(lines: Steps, among: IntArray) -> int:
    cost = lines.cost_usd[among]
    return int(among[cost <= cost.min() * (1 + ROUNDING)][0])


def _rounded_up(cost_usd: float) -> str:
    """As `usd`, but no less than it is."""
    told = usd(cost_usd)
    number, digits = float(told.removeprefix("$")), len(told.partition(".")[2])
    return told if number >= cost_usd else usd(number + 10.0**-digits)


def check_cost(cost_usd: object) -> float:
    """A mean cost in USD a prompt.

    Raises:
        ConstraintError: If it is no number from 0 up.
    """
    cost = amount(cost_usd)
    if cost is None:
        raise ConstraintError(
            f"The mean cost is {shortened(cost_usd)}; give USD a prompt, from 0 up."
        )
    return cost


def check_quality(quality: object) -> float:
    """A mean quality.

    Raises:
        ConstraintError: If it is no number from 0 to 1.
    """
    found = amount(quality)
    if found is None or found > 1:
        raise ConstraintError(
            f"The mean quality is {shortened(quality)}; give a number from 0 to 1."
        )
    return found


def check_finite(willingness_to_pay: float | None) -> float | None:
    """A willingness to pay at which costs count; None is none.

    Raises:
        WillingnessToPayError: If it is NaN, negative or no number.
        ConstraintError: If it is infinite.
    """
    if willingness_to_pay is None:
        return None
    found = check_willingness_to_pay(willingness_to_pay)
    if math.isinf(found):
        raise ConstraintError(
            "willingness_to_pay is infinite: no cost counts there, so that no surcharge can give a "
            "model another share. Give a finite one, or none."
        )
    return found


def prompts_for(share: float, points: float) -> int:
    """How many prompts tell a share within so many points in 95 of 100 samples.

    Args:
        share: 0..1.
        points: Such as 3.
    """
    return math.ceil(share * (1 - share) * (100 * SURE / points) ** 2)


def _is_at(table: Table, willingness: float, columns: IntArray, asked: FloatArray) -> bool:
    shares = table.shares(table.chosen(willingness))[columns]
    return bool(abs(shares - asked).max() <= tolerance(len(table.quality)))


def _other_points(lines: Steps, others: list[float]) -> str:
    """Where the same shares are to be had for another cost."""
    if not others:
        return ""
    told = [
        f"{usd(point)} (mean cost {usd(float(lines.cost_usd[lines.at(point)]))})"
        for point in others[:SHOWN_OTHERS]
    ]
    return f"The same shares, for less, at a willingness to pay of {' or '.join(told)}"


def _at_step(
    router: Router,
    table: Table,
    lines: Steps,
    step: int,
    asked: Target,
    note: str,
) -> Tuned[Router]:
    willingness = 0.0 if step == 0 else lines.middle(step)
    if step == len(lines.low) - 1:
        willingness = math.inf
    return _tuned(router, table, willingness, np.zeros(len(table.models)), asked, note)


def _tuned(
    router: Router,
    table: Table,
    willingness: float,
    extra: FloatArray,
    asked: Target,
    note: str,
) -> Tuned[Router]:
    chosen = table.chosen(willingness, extra)
    rows = np.arange(len(chosen))
    sample = Sample(chosen, table.cost_usd[rows, chosen], table.quality[rows, chosen])
    part = table.shares(chosen)
    shares = {
        model: float(part[j])
        for j, model in enumerate(table.models)
        if part[j] or model in asked.shares
    }
    if extra.any():
        router = router.with_surcharges(
            {
                model: float(value)
                for model, value in zip(table.models, table.surcharge_usd + extra, strict=True)
                if value
            }
        )
    quality, cost = (float(one[rows, chosen].mean()) for one in table.expected)
    n = len(chosen)
    reached = all(abs(shares[one] - x) <= tolerance(n) for one, x in asked.shares.items())
    if asked.cost_usd is not None:
        reached = cost <= asked.cost_usd * (1 + ROUNDING)
    if asked.quality is not None:
        reached = quality >= asked.quality - ROUNDING
    if asked.shares and not reached:
        note = _why_not(table, shares, asked)
    return Tuned(
        router,
        willingness,
        asked,
        n,
        dict(sorted(shares.items(), key=lambda item: -item[1])),
        cost,
        quality,
        reached,
        note,
        sample,
    )


def _why_not(table: Table, shares: Mapping[str, float], asked: Target) -> str:
    n = len(table.quality)
    told = []
    for model, share in asked.shares.items():
        got = shares[model]
        if abs(got - share) > tolerance(n):
            why = _in_the_way(table, model, asked.shares)
            told.append(f"{model} gets {got:.1%} at the nearest, not {share:.1%}: {why}")
    return "; ".join(told)


def _in_the_way(table: Table, model: str, asked: Mapping[str, float]) -> str:
    """Why a model does not get the share that was asked for it, beside those of others."""
    n, j = len(table.quality), table.models.index(model)
    available = table.available[:, j]
    may = int(available.sum())
    if may < asked[model] * n:
        return f"it may serve {may:,} of the {n:,} prompts (`removed` of a decision says why)"
    for group in ([model], list(asked)):
        others = [k for k, other in enumerate(table.models) if other not in group]
        must = int((~table.available[:, others].any(axis=1)).sum())
        if must > math.fsum(asked[one] for one in group) * n + 0.5:
            return f"nobody but {', '.join(group)} may serve {must:,} of the {n:,} prompts"
    for k, other in enumerate(table.models):
        both = available & table.available[:, k]
        predicted = (table.quality[both], table.cost_usd[both])
        if k != j and both.any() and all((one[:, j] == one[:, k]).all() for one in predicted):
            return f"it is predicted just as {other} is: leave one of them out"
    return "prompts that are predicted alike change together"


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
