"""The command `crossroute plan`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from crossroute.cli.common import (
    Files,
    SkipBroken,
    err,
    load_router,
    out,
    read_shares,
)
from crossroute.cli.strategies import answers_to
from crossroute.decision import usd
from crossroute.errors import ConstraintError
from crossroute.evaluation.metrics import Interval
from crossroute.traffic.goal import CONFIDENCE, MAX_LOSS, Goal
from crossroute.traffic.planning import Evidence, Plan, plan
from crossroute.traffic.policy import write_policy
from crossroute.traffic.report import write_report
from crossroute.traffic.standings import routers, single_models
from crossroute.traffic.wording import meaning, verdict, warnings
from crossroute.training.data import RoutingData


def plan_command(
    files: Files,
    baseline: Annotated[
        str | None,
        typer.Option(help="Model that would answer everything; the best one if absent."),
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="Mean score that may be lost, such as 0.01.")
    ] = None,
    quality_at_least: Annotated[
        float | None,
        typer.Option(help="Share of the baseline's mean score to keep, such as 0.97."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="With which that is to hold.")] = CONFIDENCE,
    budget: Annotated[
        float | None,
        typer.Option("--budget-usd-per-month", help="The best quality for it; with --calls."),
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls-per-month", min=1, help="For sums a month.")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=0.3: at most that share of the calls; repeat it."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--models",
            "--checkpoint",
            help="Folder of descriptors (prices, providers, capabilities), or of a checkpoint; the "
            "shipped one if absent.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what the models answered (NAME.json of NAME.jsonl): compare panels of "
            "models that are asked in turn, too."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")] = 0,
    write: Annotated[
        Path | None, typer.Option(help="Write the decision for ChatCrossRoute(policy=...).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--out", help="Write a page to look at: report.html.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, too.")
    ] = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Decide by scored answers whether to route, and at which willingness to pay."""
    goal = Goal(
        max_loss=_allowed(max_loss, quality_at_least),
        kept=1.0 if quality_at_least is None else quality_at_least,
        confidence=confidence,
        usd_a_prompt=_a_prompt(budget, calls),
        shares=read_shares(share or []),
    )
    for file in (write, report, json_file):
        # Before the work: nothing else is lost for it.
        if file is not None and not file.parent.is_dir():
            raise ConstraintError(f"{file} cannot be written: make the folder {file.parent} first.")
    data = RoutingData.load(files, skip_broken=skip_broken)
    known = None if answers is None else answers_to(answers, files, data)
    with err.status("Planning") as status:
        found = plan(
            data,
            baseline,
            goal=goal,
            seed=seed,
            router=load_router(checkpoint),
            answers=known,
            on_step=lambda step: status.update(escape(f"Planning: {step}")),
        )
    _print(found, calls)
    if json_file is not None:
        json_file.write_text(json.dumps(summary(found, calls), indent=2) + "\n", "utf-8")
    if report is not None:
        write_report(found, report, calls)
        out.print(f"Written: {escape(str(report))}", highlight=False)
    if write is not None:
        write_policy(found, write, tuple(path.name for path in files))
        out.print(f"Written: {escape(str(write))}", highlight=False)
        _tell_unreachable(found)


def _tell_unreachable(found: Plan) -> None:
    """Say of which models a policy cannot make clients."""
    pool = found.router.pool.values() if found.router else ()
    if without := [model.id for model in pool if model.provider is None]:
        out.print(
            f"[yellow]Note:[/] nothing says how {escape(', '.join(without))} can be reached: give "
            "clients beside the policy (models={...}), or plan with --models, a folder of "
            "descriptors with providers.",
            highlight=False,
        )


def _allowed(max_loss: float | None, quality_at_least: float | None) -> float:
    if max_loss is None:
        return MAX_LOSS if quality_at_least is None else 0.0
    if quality_at_least is not None:
        raise ConstraintError("Give one of --max-loss and --quality-at-least, not both.")
    return max_loss


def _a_prompt(budget: float | None, calls: int | None) -> float | None:
    if budget is None:
        return None
    if calls is None:
        raise ConstraintError("--budget-usd-per-month needs --calls-per-month beside it.")
    return budget / calls


def _print(found: Plan, calls: int | None) -> None:
    out.print(escape(verdict(found)), style="bold", highlight=False)
    for line in warnings(found):
        out.print(f"[yellow]Note:[/] {escape(line)}", highlight=False)
    if found.evidence is None:
        return
    out.print(_singles(found, found.evidence, calls))
    out.print(_routers(found, found.evidence))
    if calls is not None:
        cost, base = found.costs()
        out.print(
            f"{calls:,} calls a month: {usd(cost * calls)} instead of {usd(base * calls)}.",
            highlight=False,
        )
    shared = ", ".join(f"{model} {100 * part:.0f} %" for model, part in found.shares().items())
    out.print(f"Who gets the calls: {escape(shared)}.", highlight=False)
    if said := meaning(found):
        out.print(escape(said), highlight=False)


def _singles(found: Plan, evidence: Evidence, calls: int | None) -> Table:
    table = Table(
        Column("single model", overflow="fold"),
        "answers",
        "quality",
        f"less than {escape(found.baseline)}",
        "cost a prompt",
        *(["a month"] if calls else []),
        title=f"{found.prompts:,} prompts",
    )
    for one in single_models(evidence):
        table.add_row(
            escape(one.model),
            f"{one.answers:,}",
            f"{one.quality:.3f}",
            "-" if one.loss is None else f"{one.loss:+.3f}",
            usd(one.cost_usd),
            *([usd(one.cost_usd * calls)] if calls else []),
        )
    return table


def _routers(found: Plan, evidence: Evidence) -> Table:
    table = Table(
        "router",
        "reward",
        "saves at equal quality (95 %)",
        "better at equal cost (95 %)",
        title=f"Beside {escape(found.baseline)}, on rows that each did not learn from",
    )
    for one in routers(evidence):
        saved = "-" if one.saving is None else _interval(one.saving, "{:.0f} %", 100)
        gain = "-" if one.gain is None else _interval(one.gain, "{:+.3f}", 1)
        table.add_row(one.name, one.reward, saved, gain)
    return table


def _interval(found: Interval, form: str, times: float) -> str:
    mean, low, high = (
        form.format(times * number) for number in (found.mean, found.low, found.high)
    )
    return f"{mean} ({low} to {high})"


def summary(found: Plan, calls: int | None = None) -> dict[str, Any]:
    """A plan as plain JSON-ready values."""
    cost, base = found.costs()
    content: dict[str, Any] = {
        "verdict": found.verdict,
        "said": verdict(found),
        "warnings": warnings(found),
        "model": found.model,
        "willingness_to_pay": _finite(found.willingness_to_pay),
        "reward": found.router.reward if found.router else None,
        "baseline": found.baseline,
        "max_loss": found.goal.max_loss,
        "kept": found.goal.kept,
        "confidence": found.goal.confidence,
        "prompts": found.prompts,
        "calibration_prompts": found.calibration,
        "rows_needed": found.rows_needed,
        **found.figures._asdict(),
    }
    if found.evidence is not None:
        content |= {
            "cost_usd": cost,
            "baseline_cost_usd": base,
            "quality": found.quality,
            "shares": found.shares(),
            "strategies": [list(panel.models) for panel in found.panels.panels],
            "single_models": [one._asdict() for one in single_models(found.evidence)],
            "routers": [
                {
                    "router": one.name,
                    "reward": one.reward,
                    "saving": one.saving.__dict__ if one.saving else None,
                    "gain": one.gain.__dict__ if one.gain else None,
                }
                for one in routers(found.evidence)
            ],
        }
        if calls is not None:
            content |= {"usd_a_month": cost * calls, "baseline_usd_a_month": base * calls}
    return content


def _finite(value: float | None) -> float | str | None:
    """A number as JSON can have it."""
    return "inf" if value is not None and math.isinf(value) else value
