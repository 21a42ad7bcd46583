"""The command `crossroute allocate`: many prompts, one budget."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from crossroute.budget.allocation import Allocation, Asked
from crossroute.cli.common import CheckpointOption, HeldOut, candidates_of, err, out, read_shares
from crossroute.decision import Decision
from crossroute.errors import ConstraintError, InfeasibleError
from crossroute.evaluation.comparison import load_prompts
from crossroute.files import replacing
from crossroute.training.data import RoutingData


def allocate_command(
    prompts_file: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help="A text file, one prompt a line, or JSON lines with `prompt`.",
        ),
    ],
    result: Annotated[
        Path, typer.Option("--out", help="The decisions, in the order of the prompts: *.jsonl.")
    ],
    budget_usd: Annotated[
        float | None, typer.Option(help="The most that all prompts may cost together.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="In place of a budget: their least mean quality, 0..1.")
    ] = None,
    max_share: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=0.3: at most that share of the prompts; repeat it."),
    ] = None,
    max_concurrent: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=50: at most so many of the prompts; repeat it."),
    ] = None,
    held_out: HeldOut = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A candidate; repeat it.")
    ] = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Choose the models of many prompts together: the best quality for a budget.

    Exactly one of --budget-usd and --min-quality. Nothing is asked: it goes by predictions.
    """
    if (budget_usd is None) == (min_quality is None):
        raise ConstraintError("Give one of --budget-usd and --min-quality.")
    # What would end a long run at its end is looked at before.
    asked = Asked(
        budget_usd,
        min_quality,
        read_shares(max_share or [], "--max-share"),
        _counts(max_concurrent or []),
    )
    if not result.parent.is_dir():
        raise ConstraintError(f"{result} cannot be written: make the folder {result.parent} first.")
    if result.exists() and not result.is_file():
        # A device that is replaced is gone for everybody.
        raise ConstraintError(f"{result} is a folder or a device; give the name of a file.")
    if not os.access(result.parent, os.W_OK):
        raise ConstraintError(f"{result} cannot be written: the folder {result.parent} is closed.")
    router = candidates_of(checkpoint, model)
    asked.most(tuple(router.pool), 0)
    with err.status("Reading") as status:
        rows = RoutingData.load(held_out) if held_out else None
        prompts = [one.prompt for one in load_prompts(prompts_file)]

        def on_step(text: str) -> None:
            status.update(f"Allocating {len(prompts):,} prompts: {text}")

        allocation = router.allocate(
            prompts,
            budget_usd=asked.budget_usd,
            min_quality=asked.min_quality,
            max_share=asked.max_share,
            max_concurrent=asked.max_concurrent,
            held_out=rows,
            on_step=on_step,
        )
        if not allocation.feasible:
            raise InfeasibleError(_infeasible(allocation))
        status.update(f"Writing {result}")
        with replacing(result.resolve()) as path:
            _write(path, allocation.decisions)
    out.print(escape(str(allocation)), highlight=False)
    out.print(f"Wrote {len(allocation):,} decisions: {escape(str(result))}", highlight=False)


def _write(path: Path, decisions: Iterable[Decision]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for position, one in enumerate(decisions):
            line = {
                "position": position,
                "model": one.model,
                "quality": one.quality,
                "cost_usd": one.cost_usd,
            }
            file.write(json.dumps(line) + "\n")


def _infeasible(allocation: Allocation) -> str:
    """Why nothing was written, in the words of the options."""
    said, _, _ = allocation.infeasible.rpartition(". ")
    option = "--budget-usd" if allocation.asked.budget_usd is not None else "--min-quality"
    return f"{said}. Nothing was written; change {option}, or give other candidates."


def _counts(given: list[str]) -> dict[str, int]:
    """The values of `--max-concurrent MODEL=50`, by their models."""
    counts: dict[str, int] = {}
    for text in given:
        model, _, number = text.rpartition("=")
        if not model or not number.isdecimal():
            raise ConstraintError(f"--max-concurrent is {text!r}; give MODEL=50.")
        if model in counts:
            raise ConstraintError(f"--max-concurrent is given twice for {model}; give one.")
        counts[model] = int(number)
    return counts
