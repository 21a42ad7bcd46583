"""The command `crossroute models prices`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import AsJson, load_pool, out, print_json
from crossroute.models.pool import descriptor_folder
from crossroute.models.prices import PER_TOKEN, PriceCheck, check_prices, write_price


def models_prices(
    folder: Annotated[Path, typer.Argument(help="Folder of descriptors.")],
    price_file: Annotated[
        Path, typer.Option("--from", help="Price file in LiteLLM's or tokencost's format.")
    ],
    write: Annotated[
        bool, typer.Option("--write", help="Write what changed into the descriptors.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the price tables of a folder with a price file, and write what changed.

    Only the lines of the price change; a model that is not found for sure is left alone.
    """
    load_pool(folder)
    checks = check_prices(descriptor_folder(folder), price_file)
    changed = [check for check in checks if check.changes]
    for check in changed if write else ():
        write_price(check)
    if as_json:
        print_json([_price_facts(check, write) for check in checks])
        return
    if changed:
        table = Table(
            "model", "listed as", *(name.removesuffix("_usd_per_1m") for name in PER_TOKEN)
        )
        table.title = "Changed prices, USD per 1M tokens"
        for check in changed:
            cells = (check.changes.get(name) for name in PER_TOKEN)
            table.add_row(
                escape(check.model),
                escape(check.listed_as or ""),
                *(
                    "" if cell is None else f"{_number(cell[0])} -> {_number(cell[1])}"
                    for cell in cells
                ),
            )
        out.print(table)
    for check in checks:
        if check.problem:
            out.print(escape(f"Not compared: {check.model}: {check.problem}"))
    same = sum(1 for check in checks if check.after is not None and not check.changes)
    done = "written" if write else "not written; --write does"
    out.print(f"{same} unchanged, {len(changed)} changed{f' ({done})' if changed else ''}.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _price_facts(check: PriceCheck, write: bool) -> dict[str, object]:
    status = "not compared" if check.after is None else "changed" if check.changes else "unchanged"
    return {
        "model": check.model,
        "file": str(check.path),
        "status": status,
        "listed_as": check.listed_as,
        "problem": check.problem,
        "changes": {
            name: {"before": old, "after": new} for name, (old, new) in check.changes.items()
        },
        "written": write and bool(check.changes),
    }
