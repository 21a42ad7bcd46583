"""The command `crossroute route`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from crossroute.cli.common import AsJson, CheckpointOption, candidates_of, out, print_json
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY


def route(
    text: Annotated[str, typer.Argument(help="The prompt to route.")],
    willingness_to_pay: Annotated[
        float,
        typer.Option(
            "--willingness-to-pay", "-w", help="USD a unit of quality; 0: cheapest, inf: best."
        ),
    ] = DEFAULT_WILLINGNESS_TO_PAY,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A candidate; repeat it.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="All models of the checkpoint that are not retired."),
    ] = False,
    checkpoint: CheckpointOption = None,
    as_json: AsJson = False,
) -> None:
    """Say which model would answer TEXT, and why.

    Candidates are the models that can be reached today (a provider, and not retired), or all where
    none can, unless --model names them or --all takes those without a provider, too.
    """
    router = candidates_of(checkpoint, model, every=every)
    decision = router.route(text, willingness_to_pay)
    if as_json:
        print_json(decision.to_dict())
    else:
        out.print(escape(decision.explain()), highlight=False)
