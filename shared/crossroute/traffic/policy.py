"""The file that switches routing on: what a plan decided, what it promised, and on which data.

models: [gpt-5.5, gpt-5.4-mini]
router: policy.router          # the folder beside it, as CrossRouter.load reads it
reward: exponential
willingness_to_pay: 0.012      # or `model: gpt-5.5`, where one model answers everything
promised: {baseline: gpt-5.5, saving: 0.41, ...}
data: {prompts: 2000, models: 6, planned: 2026-11-29}
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from crossroute.errors import DataError, problems
from crossroute.files import replace_file
from crossroute.models.fields import ModelId, PositiveCount, Strict, Text
from crossroute.ranking import RewardName
from crossroute.router import CrossRouter
from crossroute.traffic.planning import Plan
from crossroute.yaml_file import read_yaml

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Usd = Annotated[FiniteFloat, Field(ge=0)]

ROUTER = ".router"
"""What the folder of a policy's router ends with."""
HEAD = """\
# What `crossroute plan` decided; ChatCrossRoute(policy=...) and CrossRouteLLM(policy=...) take it.
# `crossroute monitor` holds what happens against `promised`.
"""


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
    shares: dict[ModelId, Share]
    """Which share of the prompts each model gets."""


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
        return self

    @property
    def favourite(self) -> tuple[str, float]:
        """The model that was to get most of the calls, and its share."""
        return max(self.promised.shares.items(), key=lambda one: one[1], default=("", 0.0))

    def load_router(self, path: Path) -> CrossRouter:
        """The router of the policy that was read from a path.

        Raises:
            PoolError: If its folder is not there, or lacks one of the models.
            CheckpointError: If the folder is damaged.
        """
        router = CrossRouter.load(path.parent / self.router, reward=self.reward)
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


def write_policy(plan: Plan, path: str | Path, files: tuple[str, ...] = ()) -> Policy:
    """Write what a plan decided, and its router into a folder beside it.

    Args:
        plan: What `crossroute.traffic.plan` decided.
        path: The file; its router goes into the folder of the same name that ends with `.router`.
        files: Names of the files that the plan was made of.

    Raises:
        DataError: If the plan knows nothing that could be done.
        CheckpointError: If the folder holds something else, or cannot be written.
    """
    path = Path(path)
    setting, router = plan.setting, plan.router
    if plan.evidence is None or setting is None or router is None:
        raise DataError(
            f"{path}: there is nothing to write: the rows made no router. See what the plan says."
        )
    cost, _ = plan.costs()
    policy = Policy(
        models=tuple(router.pool),
        router=f"{path.stem}{ROUTER}",
        reward=router.reward,
        willingness_to_pay=plan.willingness_to_pay,
        model=plan.model,
        promised=Promised(
            baseline=plan.baseline,
            saving=round(plan.saving, 4),
            saving_low=round(plan.saving_low, 4),
            saving_high=round(plan.saving_high, 4),
            loss=round(plan.loss, 4),
            loss_high=round(plan.loss_high, 4),
            max_loss=plan.goal.max_loss,
            confidence=plan.goal.confidence,
            quality=round(plan.quality, 4),
            cost_usd=float(f"{cost:.4g}"),
            shares={model: round(share, 4) for model, share in plan.shares().items()},
        ),
        data=Source(
            prompts=plan.prompts,
            calibration=plan.calibration,
            files=files,
            planned=datetime.date.today(),
        ),
    )
    router.save(path.parent / policy.router)
    content = yaml.safe_dump(
        policy.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )
    replace_file(path, HEAD + content)
    return policy
