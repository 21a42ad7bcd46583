"""CrossRouteSelector: of the tools of a router query engine, the one whose model is worth it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from textwrap import shorten
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata
from pydantic import field_serializer

from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    Constraints,
    CrossRouter,
    Decision,
    FollowedFolder,
    ModelPool,
    NoCandidateError,
    PoolError,
    UnknownModelError,
)
from crossroute.decision import usd
from crossroute.ranking import check_willingness_to_pay
from crossroute.router import Ranking
from llamaindex_crossroute.events import CrossRouteDecisionEvent, dispatcher
from llamaindex_crossroute.settings import current_settings


class CrossRouteSelectorResult(SelectorResult):
    """A selection, and the decision behind it.

    A `RouterQueryEngine` puts it in `response.metadata["selector_result"]`. `model_dump()` gives
    JSON-ready values, and `model_validate` makes the result of them again.

    Attributes:
        selections: Exactly one selection.
        decision: The model chosen and what it was chosen from, with every number.
    """

    decision: Decision

    @field_serializer("decision")
    def _plain(self, decision: Decision) -> dict[str, Any]:
        # JSON has no infinity, and a willingness to pay may be infinite.
        return decision.to_dict()


class CrossRouteSelector(BaseSelector):
    """Select the one tool whose model has the best predicted trade-off of quality and cost.

    Stands as `selector` in a `RouterQueryEngine` or a `RouterRetriever`. No LLM is asked, and no
    description is read: each tool is tied to a model of the router's pool, and the query decides
    between these models; for tools that differ by their data there is `CrossRouteTextSelector`.
    Models that have no room for the query are left out, and `call_settings` limits the models of
    single calls. Each selection dispatches a `CrossRouteDecisionEvent`.

    Args:
        router: Predicts quality and cost; the shipped router if None. `CrossRouter.follow(folder)`
            is followed: each selection is by the router of its time.
        models: How tools are tied to models: a mapping from tool name to model id, or one model id
            a choice in the order of the choices. If None, the name of a tool is the id of its
            model. Tools that are offered together must be tied to different models.
        willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model, `math.inf`
            the best one.
        ranking: By what models are ordered: `exponential`, `linear`, `topsis` or a
            `crossroute.Topsis` (`docs/agents.md`); None is as the router has it.

    Raises:
        PoolError: If `models` has another form; when selecting, if a tool is tied to no model, or
            two tools to the same one.
        UnknownModelError: If an id is not in the pool. For ids that are the names of tools, this
            shows when selecting.
        WillingnessToPayError: If the willingness to pay is NaN or negative.
        NoCandidateError: When selecting, if no tool's model may serve the query.

    Example:
        >>> from llama_index.core.tools import ToolMetadata
        >>> from llamaindex_crossroute import CrossRouteSelector
        >>> selector = CrossRouteSelector(
        ...     models={"quick": "gpt-4o-mini-2024-07-18", "thorough": "gpt-4o-2024-08-06"},
        ...     willingness_to_pay=0,
        ... )
        >>> tools = [
        ...     ToolMetadata(name="quick", description="Short answers"),
        ...     ToolMetadata(name="thorough", description="Long answers"),
        ... ]
        >>> result = selector.select(tools, "What is 17 * 23?")
        >>> result.ind, result.decision.model
        (0, 'gpt-4o-mini-2024-07-18')
    """

    def __init__(
        self,
        router: CrossRouter | FollowedFolder[CrossRouter] | None = None,
        models: Mapping[str, str] | Sequence[str] | None = None,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        ranking: Ranking | None = None,
    ) -> None:
        self._willingness_to_pay = check_willingness_to_pay(willingness_to_pay)
        self._router = CrossRouter.default() if router is None else router
        self._ranking = ranking
        # Once for each state of a folder that is followed.
        self._ranked: Callable[[CrossRouter], CrossRouter] = lru_cache(maxsize=1)(self._by_ranking)
        pool = self._now().pool
        self._models = None if models is None else _checked(models, pool)
        # Narrowing takes about as long as routing, and an engine offers the same tools every time.
        self._narrow = lru_cache(maxsize=32)(CrossRouter.subset)

    def _select(
        self, choices: Sequence[ToolMetadata], query: QueryBundle
    ) -> CrossRouteSelectorResult:
        now = self._now()
        models, router = self._tie(choices, now)
        willingness, limits = self._settings(models, now.pool)
        with _about(models):
            decision = router.route(query.query_str, willingness, constraints=limits)
        return _result(models, decision)

    async def _aselect(
        self, choices: Sequence[ToolMetadata], query: QueryBundle
    ) -> CrossRouteSelectorResult:
        now = self._router
        if isinstance(now, FollowedFolder):
            now = await now.acurrent()
        now = self._ranked(now)
        models, router = self._tie(choices, now)
        willingness, limits = self._settings(models, now.pool)
        with _about(models):
            decision = await router.aroute(query.query_str, willingness, constraints=limits)
        return _result(models, decision)

    def _by_ranking(self, now: CrossRouter) -> CrossRouter:
        return now if self._ranking is None else now.with_ranking(self._ranking)

    def _now(self) -> CrossRouter:
        now = self._router
        return self._ranked(now.current if isinstance(now, FollowedFolder) else now)

    def _settings(self, models: Sequence[str], pool: ModelPool) -> tuple[float, Constraints]:
        """The settings of the call, for a router over these models or more."""
        willingness, limits = current_settings(self._willingness_to_pay)
        # They may name models of the pool that are not offered this time.
        limits = limits.over(pool)
        if limits.model is not None and limits.model not in models:
            found = {model: limits.forbids(model) for model in models}
            raise NoCandidateError({model: [why] for model, why in found.items() if why})
        allowed = models if limits.allowed is None else limits.allowed
        return willingness, replace(
            limits,
            allowed=[model for model in models if model in allowed],
            excluded=[model for model in models if model in limits.excluded],
        )

    def _tie(
        self, choices: Sequence[ToolMetadata], now: CrossRouter
    ) -> tuple[list[str], CrossRouter]:
        """The model of each choice, and a router over these models."""
        if not choices:
            raise PoolError("There is nothing to select from: offer at least one tool.")
        if isinstance(self._models, tuple) and len(self._models) != len(choices):
            raise PoolError(
                f"models has {len(self._models)} ids for {len(choices)} choices; give one for each."
            )
        models: list[str] = []
        for position, choice in enumerate(choices):
            model = self._model_of(position, choice, now.pool)
            if model in models:
                twin = models.index(model)
                raise PoolError(
                    f"{_label(twin, choices[twin])} and {_label(position, choice)} are both tied "
                    f"to {model!r}, and CrossRoute chooses between models. Tie them to different "
                    "models, or offer one of them only."
                )
            models.append(model)
        # No router has fewer than two models: a single one is predicted with the whole pool.
        return models, self._narrow(now, frozenset(models)) if len(models) > 1 else now

    def _model_of(self, position: int, choice: ToolMetadata, pool: ModelPool) -> str:
        if isinstance(self._models, tuple):
            return self._models[position]
        if choice.name is None:
            raise PoolError(
                f"{_label(position, choice)} has no name and is tied to no model. Give "
                "models=[...] with one model id a choice, in the order of the choices."
            )
        if self._models is not None:
            if choice.name not in self._models:
                raise PoolError(
                    f"{_label(position, choice)} is tied to no model. Add its name to models, "
                    f"which has: {', '.join(self._models) or 'none'}."
                )
            return self._models[choice.name]
        try:
            return pool[choice.name].id
        except UnknownModelError as error:
            error.add_note(
                f"{_label(position, choice)} has no other tie to a model than its name. If that "
                f"is not a model id, give models={{{choice.name!r}: <model id>, ...}}."
            )
            raise

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """There is no prompt to update: no LLM is asked."""


@contextmanager
def _about(models: Sequence[str]) -> Iterator[None]:
    """An error that no model may serve the query speaks of the offered ones only."""
    try:
        yield
    except NoCandidateError as error:
        raise NoCandidateError({model: error.reasons[model] for model in models}) from None


def _result(models: Sequence[str], decision: Decision) -> CrossRouteSelectorResult:
    removed = {model: why for model, why in decision.removed.items() if model in models}
    decision = replace(decision, removed=removed)
    dispatcher.event(CrossRouteDecisionEvent(decision=decision.to_dict()))
    selection = SingleSelection(index=models.index(decision.model), reason=_reason(decision))
    return CrossRouteSelectorResult(selections=[selection], decision=decision)


def _reason(decision: Decision) -> str:
    """Why, in one line without a full stop: LlamaIndex logs it with one after it."""
    chosen, *others = (
        f"{c.model} (predicted quality {c.quality:.3f} for {usd(c.cost_usd)})"
        for c in decision.candidates[:2]
    )
    rest = f"the runner-up is {others[0]}" if others else "there is no other choice"
    removed = "".join(f"; {model} was removed: {why}" for model, why in decision.removed.items())
    willingness = usd(decision.willingness_to_pay)
    fit = ""
    if decision.model in decision.fit:
        fit = f"; the query fits it by {decision.fit[decision.model]:.2f}"
    blank = "; the query has no text, so the models are as in the mean" if decision.blank else ""
    return (
        f"{chosen} at a willingness to pay of {willingness} a unit of quality; "
        f"{rest}{fit}{removed}{blank}"
    )


def _checked(
    models: Mapping[str, str] | Sequence[str], pool: ModelPool
) -> dict[str, str] | tuple[str, ...]:
    """A copy, in which every id is in the pool: a typo shows before the first query."""
    if isinstance(models, Mapping):
        return {name: pool[model].id for name, model in models.items()}
    # A string is a sequence too.
    if isinstance(models, Sequence) and not isinstance(models, str):
        return tuple(pool[model].id for model in models)
    raise PoolError(
        "models is a mapping {tool name: model id} or a list of model ids in the order of the "
        f"choices, got {models!r:.60}."
    )


def _label(position: int, choice: ToolMetadata) -> str:
    text = choice.name if choice.name is not None else shorten(choice.description, 60)
    return f"Choice {position} ({text!r})"
