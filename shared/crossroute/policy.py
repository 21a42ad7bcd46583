"""The file that switches routing on: what a plan decided, what it promised, and on which data.

models: [gpt-5.5, gpt-5.4-mini]
router: policy.router          # the folder beside it, as CrossRouter.load reads it
strategies: policy.strategies.json  # only where panels of models are asked, too
reward: exponential
willingness_to_pay: 0.012      # or `model: gpt-5.5`, where one model answers everything
promised: {baseline: gpt-5.5, saving: 0.41, ...}
data: {prompts: 2000, calibration: 1000, planned: 2026-11-29}

`crossroute.traffic.policy` writes it; to use it, nothing of planning is loaded.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from crossroute.candidates import LazyClient, check, with_arms
from crossroute.errors import ConstraintError, DataError, PoolError, problems, shortened
from crossroute.exploration import Exploration
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.fields import ModelId, PositiveCount, Strict, Text, printable
from crossroute.models.pool import ModelPool
from crossroute.ranking import RewardName, check_willingness_to_pay
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter, Ranking
from crossroute.strategies.arms import Arms
from crossroute.strategies.base import Strategy
from crossroute.strategies.panel import Panels
from crossroute.yaml_file import read_yaml

logger = logging.getLogger(__name__)

EVERYTHING = 0.99
"""A model that gets this share of the calls gets everything."""

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Usd = Annotated[FiniteFloat, Field(ge=0)]
Answering = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000),
    AfterValidator(printable),
]
"""Id of a model, or what a strategy asks: `a, then b (until 0.87)`."""
THEN = ", then "
"""Between the models of a strategy."""


class Promised(Strict):
    """What the plan measured, on prompts from which nothing was learned."""

    baseline: ModelId
    """Whom it is compared with."""
    saving: FiniteFloat
    """Share of the baseline's cost that is saved."""
    saving_low: FiniteFloat
    saving_high: FiniteFloat
    """Between these it is on as many fresh prompts, with the confidence."""
    loss: FiniteFloat
    """Mean score below the baseline's."""
    loss_high: FiniteFloat
    """It is at most this, with the confidence."""
    max_loss: FiniteFloat
    """What was asked for."""
    confidence: Share
    quality: FiniteFloat
    """Mean score."""
    cost_usd: Usd
    """Mean cost of a prompt."""
    shares: dict[Answering, Share]
    """Which share of the prompts each model gets, and each strategy."""


class Source(Strict):
    """What a plan was made of."""

    prompts: PositiveCount
    """How many were compared."""
    calibration: PositiveCount
    """How many of these the promises were measured on."""
    files: tuple[Text, ...] = ()
    """Names of the files."""
    planned: datetime.date


class Policy(Strict):
    """Whom to ask for which prompt, and what that promises."""

    models: Annotated[tuple[ModelId, ...], Field(min_length=2)]
    """The candidates."""
    router: Text
    """The folder of their router, seen from the policy's own folder."""
    strategies: Text | None = None
    """The file of the panels that are asked in turn beside single models, seen from there, too."""
    reward: RewardName = "exponential"
    willingness_to_pay: Annotated[float, Field(ge=0)] | None = None
    """USD a unit of quality, at which to route."""
    model: ModelId | None = None
    """The one that answers everything, where it is not routed."""
    promised: Promised
    data: Source

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.model is None) == (self.willingness_to_pay is None):
            raise ValueError("takes one of willingness_to_pay (to route) and model (for all)")
        if self.willingness_to_pay is not None and math.isnan(self.willingness_to_pay):
            raise ValueError("willingness_to_pay is no number")
        if self.model is not None and self.model not in self.models:
            raise ValueError(f"model {self.model!r} is none of models")
        if self.model is not None and self.strategies is not None:
            raise ValueError("strategies are for routing; leave them out beside model (for all)")
        return self

    @property
    def favourite(self) -> tuple[str, float]:
        """The model, or strategy, that was to get most of the calls, and its share."""
        return max(self.promised.shares.items(), key=lambda one: one[1], default=("", 0.0))

    def first_asked(self) -> dict[str, float]:
        """Which share of the prompts each model is asked first for, by the promise."""
        shares: dict[str, float] = {}
        for name, share in self.promised.shares.items():
            # An id may begin as another one does.
            begins = [one for one in self.models if name.startswith(f"{one}{THEN}")]
            first = name if name in self.models else max(begins, key=len, default=name)
            shares[first] = shares.get(first, 0.0) + share
        return shares

    def load_strategy(self, path: Path, router: CrossRouter | None = None) -> Arms:
        """How calls are answered by the policy that was read from a path.

        Args:
            path: Of the policy.
            router: Of the policy; None loads it.

        Raises:
            DataError: If the policy has no strategies, their file is not there or damaged, or it is
                of another router or has other models.
            PoolError: If the router has to be loaded and is not there; see `load_router`.
        """
        if self.strategies is None:
            raise DataError(f"{path}: strategies: there are none; its router answers alone.")
        router = self.load_router(path) if router is None else router
        file = path.parent / self.strategies
        if not file.is_file():
            raise DataError(
                f"{path}: strategies: there is no file {file}; it was written beside the policy, "
                "move both together."
            )
        panels, mend = Panels.load(file), "Write all again with crossroute plan FILE --write."
        if panels.checkpoint != router.checkpoint.id:
            raise DataError(
                f"{file}: checkpoint: it is of {panels.checkpoint}, and the router of {path} is "
                f"{router.checkpoint.id}. {mend}"
            )
        asked = dict.fromkeys(model for panel in panels.panels for model in panel.models)
        if unknown := [model for model in asked if model not in self.models]:
            raise DataError(
                f"{file}: panels: they ask {_named(unknown)}, none of the models of {path}. {mend}"
            )
        if not asked:
            raise DataError(f"{file}: panels: there is none. {mend}")
        return Arms(panels)

    def load_router(self, path: Path) -> CrossRouter:
        """The router of the policy that was read from a path.

        Raises:
            PoolError: If its folder is not there, or lacks one of the models.
            CheckpointError: If the folder is damaged.
            DescriptorError: If a descriptor in it is not valid.
        """
        folder = path.parent / self.router
        if not folder.is_dir():
            raise PoolError(
                f"{path}: router: there is no folder {folder}; it was written beside the policy, "
                "move both together."
            )
        router = CrossRouter.load(folder, reward=self.reward)
        if unknown := [model for model in self.models if model not in router.pool]:
            raise PoolError(
                f"{path}: models: the router in {folder} does not know {_named(unknown)}. Write "
                "both again with crossroute plan FILE --write."
            )
        return router.subset(self.models)


def read_policy(path: str | Path) -> Policy:
    """Read a policy.

    Raises:
        DataError: If the file cannot be read, or is none.
    """
    path = Path(path)
    content = read_yaml(path, DataError)
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        raise DataError(
            f"{path}: not a policy: {problems(error, Policy)}. Write one with crossroute plan "
            "FILE --write policy.yaml."
        ) from None


class Usual(float):
    """A number that nobody gave: that of a policy takes its place."""


USUAL_WILLINGNESS_TO_PAY = Usual(DEFAULT_WILLINGNESS_TO_PAY)


class Settled(NamedTuple):
    """What a router that asks models goes by, of a policy or of its own arguments.

    Attributes:
        models: A client for each candidate's id.
        router: Predicts quality and cost of them.
        willingness_to_pay: USD a unit of quality, as it was given where there is no policy.
        exploration: Whom to ask beside the router's choice: the one model of a policy for all.
        policy: What is promised.
        strategy: How calls are answered, as it was given where there is no policy; None asks one
            candidate, and where it fails the next one.
    """

    models: Mapping[str, Any]
    router: CrossRouter
    willingness_to_pay: float
    exploration: Exploration
    policy: Policy | None
    strategy: Strategy | None = None


def settle(
    policy: str | Path | Policy | None,
    lazy: Callable[[ModelDescriptor], LazyClient[Any]],
    *,
    sets_effort: Callable[[Any], bool] = lambda _: False,
    models: Mapping[str, Any] | None,
    router: CrossRouter | None,
    willingness_to_pay: float,
    shadow: str | None,
    ranking: Ranking | None = None,
    explore: float = 0.0,
    random: Random | None = None,
    attempts: int = 3,
    pass_refusals: bool = False,
    strategy: Strategy | None = None,
    live: object = None,
    pacer: object = None,
) -> Settled:
    """What a router that asks models goes by, with what a policy decides in its place.

    Args:
        policy: Path of its file. Where a router is made again with the settings of another one,
            as LangChain's `configurable_fields` do, the policy itself; `router`, `models` and
            `strategy` are then those that came of its file. None is none.
        lazy: Makes a lazy client of a descriptor, as `LazyClient.of`.
        sets_effort: Whether a client can be asked with one reasoning effort or another, so that one
            may be shared by all efforts of a model.
        models: A client for each of the policy's models; None makes them of its descriptors. One
            client may be that of all arms of a model, by the model's id (`with_arms`).
        router: Only where there is no policy; the shipped one if None.
        willingness_to_pay: Likewise; `USUAL_WILLINGNESS_TO_PAY` where it is not given.
        shadow: Likewise.
        ranking: By what the router is to order candidates; None leaves it as it is. Only where
            there is no policy.
        explore: See `Exploration`.
        random: Likewise.
        attempts: Of the strategy that a policy has; see `Arms`.
        pass_refusals: Likewise.
        strategy: Only where there is no policy, and nothing is explored.
        live: Only where there is no policy.
        pacer: Likewise.

    Raises:
        DataError: If the file cannot be read, or is no policy, or that of its strategies is none.
        ConstraintError: If a setting beside the policy would break what it promises, or `explore`
            makes no sense.
        UnknownModelError: If the shadow model is no candidate.
        PoolError: If there are no models, or not exactly those of the policy.
        CheckpointError: If the folder of its router is damaged.
        DescriptorError: If a descriptor in it is not valid.
    """

    def settled(
        models: Mapping[str, Any],
        router: CrossRouter,
        found: Policy | None,
        strategy: Strategy | None,
    ) -> Settled:
        only = shadow if found is None else found.model
        return Settled(
            models,
            router,
            willingness_to_pay if found is None else _willingness(found),
            Exploration.of(models, shadow=only, explore=explore, random=random, strategy=strategy),
            found,
            strategy,
        )

    def arms(found: Strategy | None) -> Strategy | None:
        if not isinstance(found, Arms):
            return None
        return replace(found, attempts=attempts, pass_refusals=pass_refusals)

    if policy is None:
        if models is None:
            raise PoolError(
                "There is nothing to route between: give models={...} with a client for each id, "
                "policy='policy.yaml', or call from_yaml(folder)."
            )
        own_or_shipped = CrossRouter.shipped() if router is None else router
        # Of a wrong type, the class itself says so.
        if isinstance(own_or_shipped, CrossRouter):
            if ranking is not None:
                own_or_shipped = own_or_shipped.with_ranking(ranking)
            if isinstance(models, Mapping):
                models = with_arms(models, own_or_shipped.pool, sets_effort)
        return settled(models, own_or_shipped, None, strategy)
    if isinstance(policy, Policy):
        if router is None or models is None:
            raise ConstraintError("policy is one that was read already; give the path of its file.")
        own = policy.strategies is not None and isinstance(strategy, Arms)
        _check_beside(
            policy,
            willingness_to_pay,
            shadow,
            strategy=None if own else strategy,
            live=live,
            pacer=pacer,
            ranking=ranking,
        )
        if policy.strategies is not None and not own:
            raise ConstraintError(
                "policy is one that was read already, without its strategies; give the path of "
                "its file."
            )
        return settled(models, router, policy, arms(strategy))
    if not isinstance(policy, (str, Path)):
        raise ConstraintError(f"policy is {shortened(policy)}; give the path of its file.")
    path, policy = Path(policy), read_policy(policy)
    if router is not None:
        raise ConstraintError(
            f"{path} has a router of its own, for which its promise holds: leave out router (and "
            "from_yaml: policy goes into the constructor), or policy."
        )
    _check_beside(
        policy,
        willingness_to_pay,
        shadow,
        strategy=strategy,
        live=live,
        pacer=pacer,
        ranking=ranking,
    )
    router = policy.load_router(path)
    if models is not None:
        models = with_arms(models, router.pool, sets_effort)
    models = _clients(path, policy, router, models, lazy)
    strategy = None if policy.strategies is None else policy.load_strategy(path, router)
    _warn(path, policy, router, models)
    return settled(models, router, policy, arms(strategy))


def _willingness(policy: Policy) -> float:
    """At which the router decides; of one model for all, what it would have done."""
    found = policy.willingness_to_pay
    return DEFAULT_WILLINGNESS_TO_PAY if found is None else found


def _check_beside(policy: Policy, willingness: float, shadow: str | None, **others: object) -> None:
    """See that no setting decides otherwise than the policy."""
    way = (
        f"routes at {policy.willingness_to_pay} USD a unit of quality"
        if policy.model is None
        else f"has {policy.model!r} answer everything"
    )
    broken = []
    if not isinstance(willingness, Usual) and (
        check_willingness_to_pay(willingness) != _willingness(policy)
    ):
        broken.append("willingness_to_pay")
    if shadow not in (None, policy.model):
        broken.append("shadow")
    broken += [name for name, value in others.items() if value is not None]
    if broken:
        raise ConstraintError(
            f"The policy {way}; what it promises does not hold beside {' and '.join(broken)}: "
            f"leave out {' and '.join(broken)}, or policy."
        )


def _clients(
    path: Path,
    policy: Policy,
    router: CrossRouter,
    models: Mapping[str, Any] | None,
    lazy: Callable[[ModelDescriptor], LazyClient[Any]],
) -> Mapping[str, Any]:
    """A client for each model of a policy."""
    if models is None:
        descriptors = [router.pool[model] for model in policy.models]
        if without := [one.id for one in descriptors if one.provider is None]:
            raise PoolError(
                f"{path}: nothing says how {_named(without)} can be reached: give models={{...}} "
                f"with a client for each of {_named(policy.models)}, or write a provider into the "
                f"descriptors in {path.parent / policy.router}."
            )
        # Retired ones too: the router takes them out of each decision, and says why.
        return {one.id: lazy(one) for one in descriptors}
    if missing := [model for model in policy.models if model not in models]:
        raise PoolError(f"{path}: models lacks {_named(missing)}; give a client for each.")
    if extra := [model for model in models if model not in policy.models]:
        raise PoolError(
            f"{path}: models has {_named(extra)}, with which it was not planned: plan again with "
            "scored answers of every model, or leave out what is too much."
        )
    return models


def _warn(path: Path, policy: Policy, router: CrossRouter, models: Mapping[str, Any]) -> None:
    """Warn of what is known before the first call."""
    favourite, share = policy.favourite
    if favourite in policy.models and policy.model is None and share >= EVERYTHING:
        logger.warning(
            "%s: at its willingness to pay, %s gets everything (%.1f %%): asking it alone is the "
            "same and simpler",
            path,
            favourite,
            100 * share,
        )
    lazy = {model: one for model, one in models.items() if isinstance(one, LazyClient)}
    today = datetime.date.today()
    retired = [model for model in lazy if _is_retired(router.pool[model], today)]
    if retired:
        logger.warning(
            "%s: their providers have retired %s, so that its promise does not hold any more: "
            "plan again",
            path,
            _named(retired),
        )
    check(
        client
        for model, client in lazy.items()
        if model not in retired and not router.pool[model].disabled
    )


def _is_retired(model: ModelDescriptor, today: datetime.date) -> bool:
    """Whether a model has retired, by its descriptor or by what ships for the same provider."""
    shipped = ModelPool.shipped().get(model.id)
    return model.is_retired(today) or (
        shipped is not None and shipped.provider == model.provider and shipped.is_retired(today)
    )


def _named(models: Iterable[str]) -> str:
    return ", ".join(map(repr, models))
