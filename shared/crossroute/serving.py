"""What is predicted for queries, and which models may serve them."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.ceiling import Ceiling
from crossroute.constraints import UNLIMITED, Constraints, retirement, shortcomings, tightest
from crossroute.decision import usd
from crossroute.errors import Reason
from crossroute.models.pool import ModelPool, tell_retired
from crossroute.query import Query

FloatArray = NDArray[np.float64]

NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True)
class Predictions:
    """What n queries would get from m models.

    Attributes:
        models: Ids of the m models.
        quality: [n, m] predicted quality, 0..1.
        cost_usd: [n, m] predicted cost in USD.
        output_tokens: [n, m] predicted output tokens; NaN for a model that was trained on costs
            without token counts, and for an agent of which nothing was learned.
        input_tokens: [n] estimated input tokens.
    """

    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    output_tokens: FloatArray
    input_tokens: FloatArray


class Serving(NamedTuple):
    """What is predicted for n queries, and who may serve them.

    Attributes:
        queries: The n queries.
        predictions: Of all models of the pool.
        removed: Why models may not serve a query, for each query by their ids.
        shortened: To how many input tokens a query is shortened for models that have no room for
            more, for each query by their ids.
        fits: How well agents fit a query, for each query by their ids; empty without agents.
        tiers: [n, m] of each candidate: those of a lower number go before it
            (`crossroute.decision.Decision.tiers`); None where all are of one.
        margin: The least fit of an agent that serves; None without agents.
        unknown_cost: Ids of the agents whose cost is a stand-in for one that nobody knows.
    """

    queries: Sequence[Query]
    predictions: Predictions
    removed: Sequence[Mapping[str, list[Reason]]]
    shortened: Sequence[Mapping[str, int]]
    fits: Sequence[Mapping[str, float]] = ()
    tiers: NDArray[np.intp] | None = None
    margin: float | None = None
    unknown_cost: frozenset[str] = frozenset()

    @property
    def models(self) -> list[str]:
        """Those that may serve one of the queries at least."""
        allowed = self.allowed
        models = self.predictions.models
        if allowed is None:
            return list(models)
        return [model for j, model in enumerate(models) if allowed[:, j].any()]

    @property
    def allowed(self) -> NDArray[np.bool_] | None:
        """[n, m] whether a model may serve a query, one at least; None is every model.

        Where agents serve a query, no other may.
        """
        if not any(self.removed) and self.tiers is None:
            return None
        found = np.ones(self.predictions.quality.shape, np.bool_)
        column = {model: j for j, model in enumerate(self.predictions.models)}
        for i, reasons in enumerate(self.removed):
            found[i, [column[model] for model in reasons]] = False
        if self.tiers is not None:
            tiers = np.where(found, self.tiers, np.iinfo(self.tiers.dtype).max)
            found &= tiers == tiers.min(axis=1, keepdims=True)
        return found

    def would_precede(self, i: int, preferences: FloatArray, model: str, other: int) -> bool:
        """Whether a model would go before another one, were none kept.

        Args:
            i: Place of the query.
            preferences: [m], of that query.
            model: Id of the one.
            other: Column of the other one.
        """
        column = self.predictions.models.index(model)
        if self.tiers is not None and self.tiers[i, column] != self.tiers[i, other]:
            return bool(self.tiers[i, column] < self.tiers[i, other])
        return bool(preferences[column] > preferences[other])


class Eligibility:
    """Which models of a pool may serve a query.

    Args:
        pool: The models.
        of_unknown_cost: Ids of those whose predicted cost is a stand-in for one that nobody knows.
    """

    def __init__(self, pool: ModelPool, of_unknown_cost: Collection[str] = ()) -> None:
        self._pool = pool
        self._of_unknown_cost = of_unknown_cost
        self._tightest = tightest(pool.values())
        self._retired: tuple[datetime.date | None, dict[str, Reason]] = (None, {})

    def removed(
        self,
        query: Query,
        limits: Constraints,
        cost_usd: Sequence[float],
        shortened: Mapping[str, int] = NOTHING,
    ) -> dict[str, list[Reason]]:
        """Why models may not serve a query, by their ids.

        Args:
            query: The query.
            limits: What the call demands beside it.
            cost_usd: [m] what it is predicted to cost, in the order of the pool.
            shortened: To how many input tokens it is shortened for models, by their ids.
        """
        most, limited = limits.max_cost_usd, limits != UNLIMITED
        removed = {model: [reason] for model, reason in self._retired_today().items()}
        ceiling = Ceiling.of(limits, self._pool, query)
        if not limited and not shortcomings(self._tightest, query):
            return removed
        for (model, descriptor), cost in zip(self._pool.items(), cost_usd, strict=True):
            sent = query
            if model in shortened:
                sent = replace(query, input_tokens=float(shortened[model]))
            reasons = [*removed.get(model, ()), *shortcomings(descriptor, sent)]
            if limited:
                if forbidden := limits.forbids(model):
                    # Whatever else is in its way, nobody asked for it.
                    removed[model] = [forbidden]
                    continue
                reasons += limits.unmet(descriptor)
            if most is not None and model in self._of_unknown_cost:
                text = f"its cost a call is not known, the call's limit is {usd(most)}"
                reasons.append(
                    Reason(text, "write cost_usd_a_call into the descriptor of an agent")
                )
            elif most is not None and cost > most:
                text = f"predicted to cost {usd(cost)}, the call's limit is {usd(most)}"
                reasons.append(Reason(text, "raise max_cost_usd"))
            if ceiling is not None:
                found = ceiling.longest_answer(model)
                reasons += [found] if isinstance(found, Reason) else []
            if reasons:
                removed[model] = reasons
        return removed

    def _retired_today(self) -> Mapping[str, Reason]:
        """The models whose providers no longer serve them, looked up once a day."""
        today = datetime.date.today()
        if self._retired[0] != today:
            gone = {id_: one for id_, one in self._pool.items() if one.is_retired(today)}
            for descriptor in gone.values():
                tell_retired(descriptor)
            self._retired = today, {id_: retirement(one) for id_, one in gone.items()}
        return self._retired[1]
