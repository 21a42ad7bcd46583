"""The command `crossroute tune`: the willingness to pay for shares, a mean cost or quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from crossroute.budget.tuned import SURE, Tuned, check_shares, prompts_for
from crossroute.cli.common import (
    AsJson,
    CheckpointOption,
    HeldOut,
    candidates_of,
    err,
    out,
    print_json,
    read_shares,
)
from crossroute.decision import usd
from crossroute.errors import ConstraintError
from crossroute.evaluation.comparison import load_prompts
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData

if TYPE_CHECKING:
    from crossroute.budget.drift import Drift

DRIFT = 3
"""Exit code of a drift, as that of an alarm of `crossroute monitor`."""
POINTS = 3.0
"""Within which a share is to be known."""
SHOWN_SHARES = 10


def tune_command(
    prompts_file: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help="A sample of your prompts: a text file, one a line, or JSON lines with `prompt`.",
        ),
    ],
    share: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=0.3: that share of the prompts; repeat it."),
    ] = None,
    cost_usd: Annotated[
        float | None, typer.Option(help="The most that a prompt is to cost in the mean.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option(help="The least mean predicted quality, such as 0.9.")
    ] = None,
    willingness_to_pay: Annotated[
        float | None,
        typer.Option("--willingness-to-pay", "-w", help="Keep to it, with surcharges; for shares."),
    ] = None,
    later: Annotated[
        Path | None,
        typer.Option(help="Later prompts: say whether they drift from the goal (exit code 3)."),
    ] = None,
    held_out: HeldOut = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A candidate; repeat it.")
    ] = None,
    checkpoint: CheckpointOption = None,
    as_json: AsJson = False,
) -> None:
    """Find the willingness to pay that gives a share, a mean cost or a mean quality.

    Exactly one of --share, --cost-usd and --quality. Nothing is asked: it goes by predictions.
    """
    if sum(one is not None for one in (share or None, cost_usd, quality)) != 1:
        raise ConstraintError("Give one of --share, --cost-usd and --quality.")
    if willingness_to_pay is not None and not share:
        raise ConstraintError("--willingness-to-pay goes with --share only: else it is found.")
    router = candidates_of(checkpoint, model)
    shares = check_shares(read_shares(share), router.pool) if share else {}
    prompts = _prompts(prompts_file)
    after = [] if later is None else _prompts(later)
    with err.status(f"Tuning on {len(prompts):,} prompts"):
        rows = RoutingData.load(held_out) if held_out else None
        if shares:
            found = router.at_share(
                prompts, shares, willingness_to_pay=willingness_to_pay, held_out=rows
            )
        elif cost_usd is not None:
            found = router.at_cost(prompts, cost_usd, held_out=rows)
        else:
            assert quality is not None  # noqa: S101  # For mypy: one is given.
            found = router.at_quality(prompts, quality, held_out=rows)
    if not found.reached:
        raise ConstraintError(
            f"{found.asked} cannot be had. {found.note}. Ask for that, or give other candidates."
        )
    watch = _later(found, after) if later is not None else None
    if as_json:
        print_json(found.to_dict() | ({"later": _facts(watch)} if watch else {}))
    else:
        _print(found)
        if watch:
            _print_later(watch)
    if watch and watch.alarm:
        raise typer.Exit(DRIFT)


def _prompts(path: Path) -> list[Any]:
    return [prompt for prompt, _ in load_prompts(path)]


def _later(found: Tuned[CrossRouter], prompts: list[Any]) -> Drift:
    # It is printed.
    watch = found.watch(warn=False)
    with err.status(f"Looking at {len(prompts):,} later prompts"):
        for decision in found.router.route_batch(prompts, found.willingness_to_pay):
            watch.seen(decision)
    return watch


def _print(found: Tuned[CrossRouter]) -> None:
    out.print(
        f"Willingness to pay: {found.willingness_to_pay!r} USD a unit of quality.",
        style="bold",
        highlight=False,
    )
    if found.note:
        out.print(f"[yellow]Note:[/] {escape(found.note)}.", highlight=False)
    out.print(escape(f"\n{_usage(found)}\n"), highlight=False)
    out.print(escape(f"Asked: {found.asked}."), highlight=False)
    out.print(f"Expected, by {found.prompts:,} prompts (95 %):", highlight=False)
    for model, part in list(found.shares.items())[:SHOWN_SHARES]:
        points = 100 * SURE * found.share_error(model)
        out.print(escape(f"  {model}: {part:.1%}, +- {points:.1f} points"), highlight=False)
    if (more := len(found.shares) - SHOWN_SHARES) > 0:
        out.print(f"  ... and {more} more")
    cost, quality = SURE * found.cost_error_usd, SURE * found.quality_error
    out.print(
        f"  a prompt: {usd(found.cost_usd)} +- {usd(cost)}, predicted quality "
        f"{found.quality:.3f} +- {quality:.3f}",
        highlight=False,
    )
    if found.checked is not None:
        out.print(escape(f"  {found.checked}"), highlight=False)
    needed = max((prompts_for(x, POINTS) for x in found.asked.shares.values()), default=0)
    if needed > found.prompts:
        out.print(
            f"[yellow]Note:[/] to be within {POINTS:g} points, give {needed:,} prompts.",
            highlight=False,
        )


def _usage(found: Tuned[CrossRouter]) -> str:
    """How to use it, in Python."""
    router = "router"
    if found.surcharge_usd:
        router = f"router.with_surcharges({dict(found.surcharge_usd)!r})"
    willingness = found.willingness_to_pay
    number = 'float("inf")' if willingness == float("inf") else repr(willingness)
    return f"{router}.route(prompt, {number})"


def _print_later(watch: Drift) -> None:
    if watch.alarm:
        out.print(f"[bold red]Drift:[/] {escape(watch.alarm)}", highlight=False)
    else:
        out.print(
            f"[bold green]Fine:[/] {watch.calls:,} later prompts do not surely drift from it.",
            highlight=False,
        )
    shown = ", ".join(f"{model} {part:.1%}" for model, part in list(watch.shares.items())[:5])
    out.print(
        escape(
            f"Later: {shown}; {usd(watch.cost_usd)} a prompt, predicted quality {watch.quality:.3f}"
        ),
        highlight=False,
    )


def _facts(watch: Drift) -> dict[str, Any]:
    return {
        "drift": watch.alarm,
        "prompts": watch.calls,
        "shares": watch.shares,
        "cost_usd": watch.cost_usd,
        "quality": watch.quality,
    }
