"""What a router keeps of its calls for later ones: who rests, and what was spent."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import NamedTuple

from crossroute.budget.pacer import BudgetPacer, as_it_is, check_pacer
from crossroute.cooldown import Cooldown, Rests
from crossroute.decision import Decision
from crossroute.errors import (
    BudgetSpentError,
    ConstraintError,
    CrossRouteError,
    DailySpendError,
    RestingError,
    UnknownModelError,
    shortened,
)
from crossroute.exploration import new_call_id
from crossroute.failures import retry_after_seconds
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.efforts import model_of
from crossroute.spend import MEND, DailySpend, check_daily_spend


class Guard:
    """Keeps calls from models that rest, under the ceilings of a day, and to a budget.

    Args:
        cooldown: When models that fail rest; None is never.
        daily_spend: The ceilings; None is none.
        pool: The candidates by their ids.
        pacer: The budget; None is none.

    Raises:
        ConstraintError: If an argument is of another kind.
        UnknownModelError: If there is a ceiling or a budget for a model that is no candidate.
    """

    def __init__(
        self,
        cooldown: Cooldown | None,
        daily_spend: DailySpend | None,
        pool: Mapping[str, ModelDescriptor],
        pacer: BudgetPacer | None = None,
    ) -> None:
        if cooldown is not None and not isinstance(cooldown, Cooldown):
            raise ConstraintError(
                f"cooldown is {shortened(cooldown)}; give crossroute.Cooldown(...) or None."
            )
        self.daily_spend = check_daily_spend(daily_spend)
        self.rests = None if cooldown is None else Rests(cooldown)
        for model in daily_spend.by_model if daily_spend else ():
            if model not in pool and model not in map(model_of, pool.values()):
                raise UnknownModelError(model, pool)
        self.pacer = check_pacer(pacer, pool)
        self._pool = pool

    def admit(
        self,
        decision: Decision,
        choose: Callable[[Decision], Decision] = as_it_is,
        pool: Mapping[str, ModelDescriptor] | None = None,
    ) -> Admitted:
        """A decision between the candidates that may be asked now; it says why others may not.

        Where all of them rest, the order is as if none did.

        Args:
            decision: The router's.
            choose: What has the last word on whom to ask first (`Exploration.chosen`).
            pool: The candidates of this call, where they may have changed.

        Raises:
            DailySpendError: If no candidate may be asked today.
            BudgetSpentError: If what is left of the budget pays for none.
            DataError: If a file with what was spent cannot be read.
        """
        watch = Watch(self, decision, self._pool if pool is None else pool)
        if self.daily_spend is not None:
            over = self.daily_spend.without_budget(decision.candidates, watch.whole)
            if len(over) == len(decision.candidates):
                why = "\n".join(f"  {model}: {reason}" for model, reason in over.items())
                raise DailySpendError(
                    f"Nothing was asked: no candidate may be asked today (UTC):\n{why}\n{MEND}."
                )
            for model, reason in over.items():
                watch.removed[model] = DailySpendError(f"{model} was not asked: {reason}.")
            if over:
                decision = decision.without(over)
        if self.rests is not None:
            resting = {
                one.model: why_not
                for one in decision.candidates
                if (why_not := self.rests.why_not(watch.rested(one.model))) is not None
            }
            watch.asks_all = len(resting) == len(decision.candidates)
            if resting and not watch.asks_all:
                for model, reason in resting.items():
                    watch.removed[model] = RestingError(f"{model} was not asked: it {reason}.")
                decision = decision.without(resting)
        if self.pacer is None:
            return Admitted(choose(decision), watch)
        return Admitted(watch.begin_paced(self.pacer, decision, choose), watch)


class Watch:
    """What becomes of one call, noted for the calls after it.

    Args:
        guard: Of the router.
        decision: As it was before candidates were taken out.
        pool: The candidates by their ids.

    Attributes:
        decision: The same.
        removed: What a strategy is told that asks for a candidate which was taken out.
        asks_all: Whether all candidates rest, so that all may be asked.
    """

    def __init__(
        self, guard: Guard, decision: Decision, pool: Mapping[str, ModelDescriptor]
    ) -> None:
        self._rests = guard.rests
        self._daily_spend = guard.daily_spend
        self._pool = pool
        self._tries: set[str] = set()
        self.decision = decision
        self.removed: dict[str, CrossRouteError] = {}
        self.asks_all = False
        self._end: weakref.finalize[..., Watch] | None = None
        self._bill: dict[str, float] = {}

    def begin_paced(
        self, pacer: BudgetPacer, decision: Decision, choose: Callable[[Decision], Decision]
    ) -> Decision:
        """The decision at the prices of a budget, which is told what the call has cost."""
        call = new_call_id()
        paced = pacer.admit(decision, call, choose)
        for one in decision.candidates:
            reason = paced.removed.get(one.model)
            if reason is not None:
                self.removed[one.model] = BudgetSpentError(f"{one.model} was not asked: {reason}.")
        # A call that is given up before it is driven has ended, too.
        self._end = weakref.finalize(self, pacer.end, call, paced, self._bill)
        self._end.atexit = False
        return paced

    def rested(self, model: str) -> str:
        """The id by which a candidate rests: all efforts of a model do together."""
        return model_of(self._pool[model]) if model in self._pool else model

    def whole(self, model: str) -> str:
        """The id that stands for all efforts of a candidate's model, if that is no candidate."""
        whole = self.rested(model)
        return model if whole in self._pool else whole

    def begin(self, model: str) -> RestingError | None:
        """Begin to ask a model; why it may not be asked, if another call tries it after a rest."""
        rested = self.rested(model)
        if self._rests is None or rested in self._tries:
            return None
        tries = self._rests.begin(rested)
        if tries is None and not self.asks_all:
            return RestingError(
                f"{model} was not asked: it has rested as it failed, and another call is trying it."
            )
        if tries:
            self._tries.add(rested)
        return None

    def failed(self, model: str, error: BaseException) -> None:
        """A model has failed in a way that others may not."""
        if self._rests is not None:
            rested = self.rested(model)
            trial = rested in self._tries
            self._tries.discard(rested)
            self._rests.failed(rested, retry_after_seconds(error), trial=trial)

    def ended(self, model: str, *, answered: bool, cost_usd: float | None) -> None:
        """An ask of a model has ended.

        Args:
            model: Id of the model.
            answered: Whether something of an answer came, and no failure.
            cost_usd: What it cost, in USD; None if it is not known.
        """
        # Of a model without a price; who has not answered is taken to be free, as on the bill.
        if cost_usd is None and answered:
            cost_usd = next(c.cost_usd for c in self.decision.candidates if c.model == model)
        if self._daily_spend is not None:
            self._daily_spend.add(model, cost_usd or 0.0)
        self._bill[model] = self._bill.get(model, 0.0) + (cost_usd or 0.0)
        if self._rests is None:
            return
        rested = self.rested(model)
        if answered:
            self._rests.succeeded(rested, trial=self.asks_all or rested in self._tries)
        elif rested in self._tries:
            self._rests.released(rested)
        self._tries.discard(rested)

    def over(self) -> None:
        """The call has ended, and so have all its asks."""
        if self._end is not None:
            self._end()


class Admitted(NamedTuple):
    """A decision between those that may be asked, and what watches the call."""

    decision: Decision
    watch: Watch
