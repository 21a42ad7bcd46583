"""What routing would save on scored answers to one's own prompts, and whether to switch it on."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from crossroute.errors import DataError, did_you_mean, problems
from crossroute.models.pool import ModelPool
from crossroute.router import CrossRouter
from crossroute.strategies.panel import Panels
from crossroute.traffic.arms import Beside, strategies_beside
from crossroute.traffic.choice import Choice, Setting, choose
from crossroute.traffic.contenders import (
    CALIBRATION,
    ONBOARDED,
    Contender,
    Parts,
    contenders,
    taken,
)
from crossroute.traffic.figures import NOTHING, Figures, figures_of
from crossroute.traffic.goal import CONFIDENCE, MAX_LOSS, Goal
from crossroute.traffic.outcomes import Outcomes
from crossroute.traffic.settings import REWARDS, Family, Measured, Problem
from crossroute.training.answers import Answers
from crossroute.training.data import RoutingData, Row
from crossroute.training.levels import FixedOrder

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

Verdict = Literal["route", "fixed", "more data"]
Rows = RoutingData | Iterable[Row | Mapping[str, Any]]

FEWEST_ROWS = 60
"""Prompts that can be compared; with fewer, nothing is."""
MOST_NAMED = 10
"""Models that are named in a note."""
LEAST_ANSWERED = 0.5
"""Share of the prompts: a model that answered fewer is not compared."""
MOST_MORE = 20
"""Times the rows at hand: what only more rows than that could show is not waited for."""
WAITED_FOR = 5_000
"""Rows that are waited for, however few there are."""


class Evidence(NamedTuple):
    """What a plan rests on.

    Attributes:
        data: The rows that were compared.
        problem: What is known of them, and what each was used for.
        families: The settings: of single models, then of each router by each reward, then of those
            that choose among strategies, too.
        choice: What came of the tests.
    """

    data: RoutingData
    problem: Problem
    families: tuple[Family, ...]
    choice: Choice


@dataclass(frozen=True)
class Plan:
    """Whether to route, and how.

    Attributes:
        verdict: `route`, `fixed` (one model for all) or `more data`.
        model: Whom to ask without a router: the best fixed choice of `fixed`, the baseline of
            `more data`, None of `route`.
        willingness_to_pay: At which to route, in USD a unit of quality; None but for `route`.
        router: What to route with; learned from half of the rows, not from those that the figures
            are of. Of another verdict the best router that was found, None where there is none.
        figures: Against the baseline, on the calibration rows.
        baseline: Id of the model that is compared with.
        goal: What was asked for.
        prompts: How many were compared.
        rows_needed: About how many more prompts would tell, of `more data`.
        notes: What else to know.
        evidence: What it rests on; None where nothing could be compared.
    """

    verdict: Verdict
    model: str | None
    willingness_to_pay: float | None
    router: CrossRouter | None
    figures: Figures
    baseline: str
    goal: Goal
    prompts: int
    rows_needed: int | None = None
    notes: tuple[str, ...] = ()
    evidence: Evidence | None = field(default=None, repr=False)

    @property
    def saving(self) -> float:
        """Share of the baseline's cost that is saved, on the calibration rows."""
        return self.figures.saving

    @property
    def saving_low(self) -> float:
        """On as many fresh prompts, the saving is above this and below `saving_high`.

        With the confidence of the goal.
        """
        return self.figures.saving_low

    @property
    def saving_high(self) -> float:
        """See `saving_low`."""
        return self.figures.saving_high

    @property
    def loss(self) -> float:
        """Mean score lost against the baseline, on the calibration rows."""
        return self.figures.loss

    @property
    def loss_high(self) -> float:
        """The mean loss is at most this, with the confidence of the goal."""
        return self.figures.loss_high

    @property
    def calibration(self) -> int:
        """How many prompts the figures are of."""
        return 0 if self.evidence is None else len(self.evidence.problem.calibration)

    @property
    def setting(self) -> Setting | None:
        """What is recommended; the baseline where nothing else is; None where nothing is known."""
        if self.evidence is None:
            return None
        problem = self.evidence.problem
        return self.evidence.choice.setting or Setting(problem.singles, problem.baseline)

    @property
    def panels(self) -> Panels:
        """The panels among whose arms the router chooses beside single models; mostly none."""
        if self.verdict != "route" or self.setting is None:
            return Panels()
        return self.setting.family.panels

    @property
    def passed_is_baseline(self) -> bool:
        """Whether the baseline is what is best within a budget, not what is kept for want of it."""
        return (
            self.evidence is not None
            and self.evidence.choice.setting is not None
            and self.model == self.baseline
        )

    def shares(self) -> dict[str, float]:
        """Which share of the calibration prompts each model or arm gets, the largest first."""
        if self.evidence is None or self.setting is None:
            return {}
        family, place = self.setting
        asked = family.chosen[place][self.evidence.problem.calibration]
        models, counts = np.unique(asked, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        names = self.evidence.problem.names
        return {names[models[i]]: counts[i] / len(asked) for i in order}

    def costs(self) -> tuple[float, float]:
        """Mean cost in USD of a calibration prompt: of what is recommended, and of the baseline."""
        if (measured := self._measured) is None:
            return math.nan, math.nan
        return float(measured.mean_cost[0]), float(measured.base_cost.mean())

    @property
    def quality(self) -> float:
        """Mean score of what is recommended, on the calibration prompts."""
        return math.nan if self._measured is None else float(self._measured.mean_score[0])

    @property
    def _measured(self) -> Measured | None:
        if self.evidence is None or self.setting is None:
            return None
        family, place = self.setting
        problem = self.evidence.problem
        return Measured.of(problem, family.only(place), problem.calibration, 1.0)

    @property
    def retired(self) -> list[str]:
        """Models of the rows that can no longer be called, by the descriptors that are known."""
        models = () if self.evidence is None else self.evidence.data.models
        today, known = datetime.date.today(), ModelPool.shipped()
        return [model for model in models if model in known and known[model].is_retired(today)]


def plan(
    rows: Rows,
    baseline: str | None = None,
    max_loss: float = MAX_LOSS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    *,
    goal: Goal | None = None,
    router: CrossRouter | None = None,
    answers: Answers | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Decide whether to route, by scored answers.

    Half of the rows are learned from: there routers are made, and compared by cross-fitting. The
    other half, from which nothing was learned, tests what was chosen: with the confidence asked
    for, the mean score is at most `max_loss` below the baseline's (`crossroute.traffic.guarantee`).

    Args:
        rows: Routing data, or its rows (`docs/data.md`): prompts with the scored answers of
            several models, or of one each, with the `probability` with which it was asked.
        baseline: Id of the model that would be asked without routing; the best one if None.
        max_loss: Mean score that may be lost against it.
        confidence: With which that is to hold.
        seed: Of everything random.
        goal: What is wanted, in all its terms; in place of `max_loss` and `confidence`.
        router: Knows the models, or models like them; the shipped one if None.
        answers: What the models answered, from `crossroute.training.answers.load_answers`: panels
            of models that are asked in turn are compared, too. None compares single models only.
        on_step: Called with what is being done.

    Raises:
        DataError: If a row is broken, or the baseline or a model of `goal.shares` has no answers.
        ConstraintError: If a number of the goal makes no sense.
        MissingExtraError: If there are `answers`, and what learns from them is not installed.
    """
    goal = goal or Goal(max_loss=max_loss, confidence=confidence)
    base = router or CrossRouter.shipped()
    data = _read(rows).priced(base.pool)
    data, agents = _without_agents(data, base.pool)
    unpriced = _unpriced(data)
    if agents:
        unpriced.append(
            f"Answers of agents were left out: {', '.join(agents)}. Their texts say which queries "
            "are theirs, whatever a plan says."
        )
    for model in (*goal.shares, *([] if baseline is None else [baseline])):
        if model in agents:
            raise DataError(f"{model!r} is an agent, and a plan is of models. Name a model.")
        if model not in data.models:
            raise DataError(f"No row has an answer of {model!r}{did_you_mean(model, data.models)}")
    answered = ~np.isnan(data.score + data.cost_usd)
    compared = answered.sum(axis=1) > 1
    explored = (answered & ~np.isnan(data.probability)).any(axis=1)
    is_log = int(compared.sum()) < min(FEWEST_ROWS, int(explored.sum()))
    data = data.select(np.asarray(explored if is_log else compared))
    # The same prompt again is no other prompt.
    if (prompts := _distinct(data)) < FEWEST_ROWS:
        return _too_few(prompts, baseline, goal, unpriced)
    if baseline is not None and baseline not in data.models:
        # All its answers are in rows that compare nothing.
        return _too_few(0, baseline, goal, unpriced)
    parts = Parts.of(data, seed)
    name = baseline or _best_single(data, parts, goal)
    if not is_log:
        # Only where the baseline answered, too, others can be compared with it.
        kept = ~np.isnan(data.score + data.cost_usd)[:, data.models.index(name)]
        data, parts = data.select(kept), parts.among(kept)
        if (prompts := _distinct(data)) < FEWEST_ROWS:
            return _too_few(prompts, name, goal, unpriced)
        data, rare = _without_rare(data)
        unpriced += rare
        if len(data.models) == 1:
            return _too_few(0, name, goal, unpriced)
    made, notes = contenders(data, parts, base, name, seed=seed, on_step=on_step)
    problem = Problem(
        data.models,
        outcomes_of(data, parts, made, is_log=is_log),
        data.models.index(name),
        parts.learning,
        parts.calibration,
        _repeated(data),
    )
    beside: list[Beside] = []
    if answers is not None:
        beside, more = strategies_beside(data, parts, made, answers, seed=seed, on_step=on_step)
        problem, notes = problem.beside(beside), [*notes, *more]
    families = (
        problem.singles,
        *(problem.routed(contender, reward) for contender in made for reward in REWARDS),
        *(problem.with_strategies(one, reward) for one in beside for reward in REWARDS),
    )
    choice = choose(problem, families, goal)
    return _plan(Evidence(data, problem, families, choice), goal, (*unpriced, *notes), seed)


def _read(rows: Rows) -> RoutingData:
    if isinstance(rows, RoutingData):
        return rows
    read = []
    for number, row in enumerate(rows, 1):
        try:
            read.append(row if isinstance(row, Row) else Row.model_validate(row))
        except ValidationError as error:
            raise DataError(f"Row {number} is broken: {problems(error, Row)}") from None
    if not read:
        raise DataError("There are no rows; give prompts with the scored answers of models.")
    return RoutingData.from_rows(read)


def _without_agents(data: RoutingData, pool: ModelPool) -> tuple[RoutingData, list[str]]:
    """The answers of models, and the ids of agents, which are not chosen by predictions alone."""
    agents = [one for one in data.models if one in pool and pool[one].kind != "model"]
    if len(agents) == len(data.models):
        raise DataError(f"All answers are of agents: {', '.join(agents)}. Give those of models.")
    if not agents:
        return data, []
    return data.of_models([one for one in data.models if one not in agents]), agents


def _best_single(data: RoutingData, parts: Parts, goal: Goal) -> str:
    """The best single model of the learning rows, among those that the budget affords.

    And among those with many answers: only rows that it answered can be compared.
    """
    past = taken(data, parts.learning)
    order = FixedOrder.of(past.score, past.cost_usd)
    answers = (~np.isnan(past.score + past.cost_usd)).sum(axis=0)
    possible = answers >= answers.max() / 2
    affordable = possible & (order.cost_usd <= (goal.usd_a_prompt or math.inf))
    if not affordable.any():
        affordable = possible & (order.cost_usd <= order.cost_usd[possible].min())
    # Of equals the cheaper.
    return past.models[int(np.lexsort((order.cost_usd, -order.level, ~affordable))[0])]


def _unpriced(data: RoutingData) -> list[str]:
    """What to say of answers that have a score but no cost."""
    without = (~np.isnan(data.score) & np.isnan(data.cost_usd)).sum(axis=0)
    if not without.any():
        return []
    return [
        f"Scored answers without a cost were left out: {_counted(data.models, without)}. Give "
        "outputs.*.cost_usd, or tokens and a model with a known price."
    ]


def _without_rare(data: RoutingData) -> tuple[RoutingData, list[str]]:
    """The rows without models of too few answers to say what they would do on the others."""
    answers = (~np.isnan(data.score + data.cost_usd)).sum(axis=0)
    rare = answers < LEAST_ANSWERED * len(data)
    if not rare.any():
        return data, []
    note = (
        f"Models that answered less than {100 * LEAST_ANSWERED:g} % of the {len(data):,} prompts "
        f"were left out: {_counted(data.models, np.where(rare, answers, 0))}."
    )
    kept = [model for model, few in zip(data.models, rare, strict=True) if not few]
    return data.of_models(kept), [note]


def _counted(models: Iterable[str], counts: NDArray[np.integer[Any]]) -> str:
    """Models with their counts, but for those of 0, and not too many of them."""
    found = [f"{model} ({n:,})" for model, n in zip(models, counts, strict=True) if n]
    more = len(found) - MOST_NAMED
    return ", ".join(found[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def outcomes_of(
    data: RoutingData, parts: Parts, made: list[Contender], *, is_log: bool
) -> Outcomes:
    """What answers scored and cost; where a prompt lacks some, what they would have.

    To leave a prompt out wherever the answer that a router asks for is missing, or to take the
    baseline's for it, would show the loss of only those that are there. So an answer is missing as
    it is in a log that explored: it was asked for with the probability with which it is there.
    """
    answered = ~np.isnan(data.score + data.cost_usd)
    if is_log:
        return _estimated(data, parts, made)
    if answered.all():
        return Outcomes(data.score, data.cost_usd)
    probability = np.where(answered, answered.mean(axis=0), np.nan)
    return _estimated(replace(data, probability=probability), parts, made)


def _distinct(data: RoutingData) -> int:
    """How many different prompts there are."""
    return len(np.unique(data.question_numbers())) if len(data) else 0


def _repeated(data: RoutingData) -> IntArray | None:
    """[n] the number of what each row asks; None where none asks what another does."""
    return data.question_numbers() if _distinct(data) < len(data) else None


def _estimated(data: RoutingData, parts: Parts, made: list[Contender]) -> Outcomes:
    """Doubly robust estimates, by the predictions of a router, or by the models' means."""
    past = taken(data, parts.learning)
    order = FixedOrder.of(past.score, past.cost_usd)
    quality, cost = np.full(data.score.shape, order.usual), np.full(data.score.shape, np.nan)
    for j, model in enumerate(past.models):
        column = data.models.index(model)
        quality[:, column], cost[:, column] = order.level[j], order.cost_usd[j]
    cost[np.isnan(cost)] = np.median(order.cost_usd)
    known = next((one for one in made if one.name == ONBOARDED), None)
    if known is not None:
        quality = np.where(np.isnan(known.quality), quality, known.quality)
        cost = np.where(np.isnan(known.cost_usd), cost, known.cost_usd)
    return Outcomes.estimated(data, quality, cost)


def _plan(evidence: Evidence, goal: Goal, notes: tuple[str, ...], seed: int) -> Plan:
    data, problem, _, choice = evidence
    base = data.models[problem.baseline]
    if choice.setting is None:
        more = _more(choice.needed, len(data))
        return Plan(
            verdict="fixed" if more is None else "more data",
            model=base,
            willingness_to_pay=None,
            router=_router_with(evidence, base),
            figures=NOTHING,
            baseline=base,
            goal=goal,
            prompts=len(data),
            rows_needed=more,
            notes=notes,
            evidence=evidence,
        )
    family, place = choice.setting
    asked = np.unique(family.chosen[place])
    alone: str | None = None
    if family.contender is None:
        alone = data.models[place]
    elif len(asked) == 1 and asked[0] < len(data.models):
        # A router that asks one model for everything is that model.
        alone = data.models[asked[0]]
    return Plan(
        verdict="route" if alone is None else "fixed",
        model=alone,
        willingness_to_pay=float(family.willingness[place]) if alone is None else None,
        router=family.router if alone is None else _router_with(evidence, alone),
        figures=figures_of(problem, choice.setting, goal, choice.error, seed),
        baseline=base,
        goal=goal,
        prompts=len(data),
        notes=notes,
        evidence=evidence,
    )


def _router_with(evidence: Evidence, model: str) -> CrossRouter | None:
    """The router that was tested, if it knows a model, else another one that does."""
    tested = [evidence.choice.routing.family] if evidence.choice.routing else []
    for family in (*tested, *evidence.families):
        if family.contender is not None and model in family.contender.router.pool:
            return family.router
    return None


def _more(needed: float, prompts: int) -> int | None:
    """About how many more prompts would tell; None where that is too many to wait for."""
    if not math.isfinite(needed):
        return None
    more = max(math.ceil(needed / CALIBRATION) - prompts, prompts // 2)
    return more if more <= max(MOST_MORE * prompts, WAITED_FOR) else None


def _too_few(prompts: int, baseline: str | None, goal: Goal, notes: Iterable[str]) -> Plan:
    return Plan(
        verdict="more data",
        model=baseline,
        willingness_to_pay=None,
        router=None,
        figures=NOTHING,
        baseline=baseline or "",
        goal=goal,
        prompts=prompts,
        rows_needed=FEWEST_ROWS - prompts,
        notes=tuple(notes),
    )
