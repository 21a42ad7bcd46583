"""The commands `crossroute models ...`: what a folder of descriptors holds, and changes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli_common import AsJson, load_pool, out, print_json

models_app = typer.Typer(help="The models of a pool.", no_args_is_help=True)


@models_app.command(name="list")
def models_list(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of descriptors; the shipped ones if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models of a folder of descriptors."""
    pool = load_pool(folder)
    if as_json:
        print_json([model.model_dump(mode="json", exclude_none=True) for model in pool.values()])
        return
    table = Table(
        "model", "provider", "USD per 1M in", "out", "context", "learned from", title="Models"
    )
    for model in pool.values():
        price = model.price
        provider = model.provider.chat_model if model.provider else "-"
        table.add_row(
            escape(model.id),
            escape(provider + (f" (retired {model.retired})" if model.retired else "")),
            f"{price.input_usd_per_1m:g}" if price else "-",
            f"{price.output_usd_per_1m:g}" if price else "-",
            f"{model.context_window_tokens:,}" if model.context_window_tokens else "-",
            f"{model.learned.examples:,} answers" if model.learned else "-",
        )
    out.print(table)


@models_app.command(name="validate")
def models_validate(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of descriptors; the shipped ones if absent.")
    ] = None,
) -> None:
    """Check every descriptor of a folder; all that is wrong is said at once."""
    pool = load_pool(folder)
    unlearned = [model.id for model in pool.values() if model.learned is None]
    out.print(f"{len(pool)} descriptors are valid.")
    if unlearned:
        out.print(f"Without a learned embedding, so not yet routable: {', '.join(unlearned)}")
