"""Writing the policy that a plan decided."""

from __future__ import annotations

import datetime
from pathlib import Path

import yaml

from crossroute.errors import DataError
from crossroute.files import replace_file
from crossroute.policy import Policy, Promised, Source, read_policy
from crossroute.traffic.planning import Plan

__all__ = ["Policy", "read_policy", "write_policy"]

ROUTER = ".router"
"""What the folder of a policy's router ends with."""
STRATEGIES = ".strategies.json"
"""What the file of a policy's strategies ends with."""
HEAD = """\
# What `crossroute plan` decided; ChatCrossRoute(policy=...) and CrossRouteLLM(policy=...) take it.
# `crossroute monitor` holds what happens against `promised`.
"""


def write_policy(plan: Plan, path: str | Path, files: tuple[str, ...] = ()) -> Policy:
    """Write what a plan decided, and its router and its strategies beside it.

    Args:
        plan: What `crossroute.traffic.plan` decided.
        path: The file; its router goes into the folder of the same name that ends with `.router`,
            and strategies, where it has some, into the file that ends with `.strategies.json`.
        files: Names of the files that the plan was made of.

    Raises:
        DataError: If the plan knows nothing that could be done, or its router not the one model.
        CheckpointError: If the folder holds something else, or cannot be written.
        OSError: If another file cannot be written.
    """
    path = Path(path)
    setting, router = plan.setting, plan.router
    if plan.evidence is None or setting is None or router is None:
        raise DataError(
            f"{path}: there is nothing to write: the rows made no router. See what the plan says."
        )
    if plan.model is not None and plan.model not in router.pool:
        raise DataError(
            f"{path}: the router that was found does not know {plan.model!r}, which has too few "
            "scores to tell when another may answer. Collect more of it, or use it alone."
        )
    cost, _ = plan.costs()
    policy = Policy(
        models=tuple(router.pool),
        router=f"{path.stem}{ROUTER}",
        strategies=f"{path.stem}{STRATEGIES}" if plan.panels.panels else None,
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
    if policy.strategies is not None:
        plan.panels.save(path.parent / policy.strategies)
    content = yaml.safe_dump(
        policy.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )
    replace_file(path, HEAD + content)
    return policy
