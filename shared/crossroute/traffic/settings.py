"""The ways to answer among which a plan chooses: one model, or a router at a willingness to pay.

A router chooses among single models, or among these and the arms that were found for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crossroute.evaluation.metrics import SWEEP, sweep
from crossroute.ranking import RewardName
from crossroute.router import CrossRouter
from crossroute.strategies.panel import Panels
from crossroute.traffic.arms import WITH_STRATEGIES, Beside, PlannedArm
from crossroute.traffic.contenders import Contender
from crossroute.traffic.outcomes import Outcomes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Columns = NDArray[np.int16]
"""Of models, of which there are at most 10,000, and behind them of arms."""

REWARDS: tuple[RewardName, ...] = get_args(RewardName)


@dataclass(frozen=True)
class Family:
    """Settings that differ in one number alone.

    Attributes:
        name: Of the router.
        contender: The router; None for single models.
        reward: That it orders its candidates by.
        willingness: [s] willingness to pay of each setting, falling; NaN for single models.
        chosen: [s, n] the column of the model, or the arm, that each setting takes for each row.
        panels: Whose arms it chooses among beside single models; none where it does not.
    """

    name: str
    contender: Contender | None
    reward: RewardName
    willingness: FloatArray
    chosen: Columns
    panels: Panels = field(default_factory=Panels)

    @property
    def router(self) -> CrossRouter | None:
        """The router with this reward; None for single models."""
        return None if self.contender is None else self.contender.router.with_reward(self.reward)

    def only(self, place: int) -> Family:
        """One of its settings."""
        return replace(self, willingness=self.willingness[[place]], chosen=self.chosen[[place]])


@dataclass(frozen=True)
class Measured:
    """What the settings of a family score and cost on some rows, beside the baseline.

    Attributes:
        score: [s, k].
        cost_usd: [s, k].
        base_score: [k] of the baseline.
        base_cost: [k] of the baseline in USD.
        kept: Share of the baseline's quality that counts: a loss is `kept * base_score - score`.
        question: [k] number of the question that a row asks, None where each row asks another.
    """

    score: FloatArray
    cost_usd: FloatArray
    base_score: FloatArray
    base_cost: FloatArray
    kept: float = 1.0
    question: IntArray | None = None

    @classmethod
    def of(cls, problem: Problem, family: Family, rows: IntArray, kept: float) -> Measured:
        """What they are on the rows at some places."""
        outcomes, baseline = problem.outcomes, problem.baseline
        score, cost = outcomes.of(family.chosen[:, rows], rows)
        return cls(
            score,
            cost,
            outcomes.score[rows, baseline],
            outcomes.cost_usd[rows, baseline],
            kept,
            None if problem.question is None else problem.question[rows],
        )

    @cached_property
    def loss(self) -> FloatArray:
        """[s, k] quality lost against the baseline."""
        return np.asarray(self.kept * self.base_score - self.score)

    @cached_property
    def mean_loss(self) -> FloatArray:
        """[s]."""
        return np.asarray(self.loss.mean(axis=1))

    @property
    def least_loss(self) -> float:
        """The loss of what is as good as the baseline."""
        return (self.kept - 1) * float(self.base_score.mean())

    @cached_property
    def moment(self) -> FloatArray:
        """[s] mean square of the loss; rows that ask the same count as one large loss."""
        return np.asarray((self.by_question(self.loss) ** 2).sum(axis=1) / self.loss.shape[1])

    @cached_property
    def rows_a_question(self) -> FloatArray:
        """[q] how many rows ask each question, in the order of `by_question`."""
        return np.asarray(self.by_question(np.ones((1, len(self.base_score))))[0])

    def by_question(self, values: FloatArray) -> FloatArray:
        """Sums [s, q] of values [s, k] over the rows that ask the same.

        Questions are independent of each other, rows that ask the same are not. Their order is
        random: neither their texts nor how often they are asked have a say in it.
        """
        if self.question is None:
            return values
        numbers, place = np.unique(self.question, return_inverse=True)
        place = np.random.default_rng(0).permutation(len(numbers))[place]
        sums = np.zeros((len(numbers), len(values)))
        np.add.at(sums, place, values.T)
        return sums.T

    @cached_property
    def mean_cost(self) -> FloatArray:
        """[s] in USD a prompt."""
        return np.asarray(self.cost_usd.mean(axis=1))

    @cached_property
    def saving(self) -> FloatArray:
        """[s] share of the baseline's cost that is saved; 0 where the baseline costs nothing."""
        base = float(self.base_cost.mean())
        return np.zeros(len(self.mean_cost)) if base <= 0 else 1 - self.mean_cost / base

    @cached_property
    def mean_score(self) -> FloatArray:
        """[s]."""
        return np.asarray(self.score.mean(axis=1))


@dataclass(frozen=True)
class Problem:
    """The rows that settings are compared on.

    Attributes:
        models: Ids of the m models.
        outcomes: Scores and costs of n rows, by models and then arms.
        baseline: Column of the model that is compared with.
        learning: [l] places of the rows that routers learned from.
        calibration: [c] places of the rows that nothing was learned from.
        question: [n] number of the question that a row asks; rows of one are either all learned
            from or none. None where each row asks another.
        arms: What the columns behind those of the models are; those of one router are no choice of
            another one.
    """

    models: tuple[str, ...]
    outcomes: Outcomes
    baseline: int
    learning: IntArray
    calibration: IntArray
    question: IntArray | None = None
    arms: tuple[PlannedArm, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the columns are, for people to read."""
        return (*self.models, *(arm.name for arm in self.arms))

    def beside(self, found: Sequence[Beside]) -> Problem:
        """The same with the arms that were found for some routers."""
        outcomes = self.outcomes
        for one in found:
            outcomes = outcomes.beside(one.outcome.score, one.outcome.paid_usd)
        arms = tuple(arm for one in found for arm in one.arms)
        return replace(self, outcomes=outcomes, arms=arms)

    def asking(self, model: str) -> list[int]:
        """The columns of all that may ask a model."""
        m = len(self.models)
        arms = (m + place for place, arm in enumerate(self.arms) if model in arm.models)
        return [self.models.index(model), *arms]

    @property
    def everything(self) -> IntArray:
        """[n] places of all rows."""
        return np.arange(len(self.outcomes.score))

    @property
    def worst(self) -> float:
        """No loss is further from 0, of all rows together that ask the same."""
        most = 1 if self.question is None else int(np.bincount(self.question).max())
        return most * self.outcomes.worst

    @cached_property
    def singles(self) -> Family:
        """Each model for all rows; where it has no answer, the baseline's."""
        known = self.outcomes.known[:, : len(self.models)]
        chosen = np.where(known.T, np.arange(len(self.models))[:, None], self.baseline)
        none = np.full(len(self.models), np.nan)
        return Family("single models", None, "linear", none, chosen.astype(np.int16))

    def routed(self, contender: Contender, reward: RewardName) -> Family:
        """A router at each willingness to pay that changes something."""
        found = self.by_predictions(contender.name, contender.quality, contender.cost_usd, reward)
        return replace(found, contender=contender)

    def with_strategies(self, beside: Beside, reward: RewardName) -> Family:
        """A router among single models and the arms that were found for it."""
        contender, arms = beside.contender, beside.outcome
        found = self.by_predictions(
            WITH_STRATEGIES.format(contender.name),
            # Of equals a single model is taken, so these come first.
            np.concatenate([contender.quality, arms.quality], axis=1),
            np.concatenate([contender.cost_usd, arms.cost_usd], axis=1),
            reward,
            np.concatenate([np.arange(len(self.models)), beside.columns]),
        )
        return replace(found, contender=contender, panels=beside.panels)

    def by_predictions(
        self,
        name: str,
        quality: FloatArray,
        cost_usd: FloatArray,
        reward: RewardName,
        columns: IntArray | None = None,
    ) -> Family:
        """The choices by predictions [n, k], NaN where there is none, among the answers of a row.

        Where there is nothing to choose from, it is the baseline's. `columns` [k] says of which
        columns the predictions are; None is of the models.
        """
        columns = np.arange(len(self.models)) if columns is None else columns
        available = self.outcomes.known[:, columns] & ~np.isnan(quality)
        chosen = sweep(quality, cost_usd, reward, SWEEP, available=available)
        chosen = np.where(available.any(axis=1), columns[chosen], self.baseline)
        # In the middle of a range over which it chooses alike, where no rounding decides.
        starts = np.flatnonzero((chosen[1:] != chosen[:-1]).any(axis=1)) + 1
        ranges = np.split(np.arange(len(SWEEP)), starts)
        places = [int(np.median(part)) for part in reversed(ranges)]
        taken = chosen[places].astype(np.int16)
        return Family(name, None, reward, np.array(SWEEP)[places], taken)
