"""The command `crossroute models prices`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from crossroute.cli.common import AsJson, FolderArgument, load_pool, out, print_json
from crossroute.errors import PoolError
from crossroute.models.pool import descriptor_folder, shipped_folder
from crossroute.models.price import Price
from crossroute.models.prices import PriceCheck, check_prices, write_price


def models_prices(
    folder: FolderArgument = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the listed numbers into tables that differ.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the price tables of a folder with what genai-prices lists.

    A descriptor without a table of its own has the listed price; one with a table keeps it,
    whatever is listed, until --write. Only the lines of the price change.
    """
    if folder is None and write:
        raise PoolError("The shipped descriptors are not written to; name a folder of your own.")
    load_pool(folder)
    with shipped_folder() as shipped:
        checks = check_prices(shipped if folder is None else descriptor_folder(folder))
    different = [check for check in checks if check.differs]
    for check in different if write else ():
        write_price(check)
    if as_json:
        print_json([_facts(check, write) for check in checks])
        return
    table = Table(
        Column("model", no_wrap=True),
        "own in, out",
        "listed in, out",
        "",
        title="USD per 1M tokens: the own table counts, else the listed price",
    )
    for check in checks:
        table.add_row(
            escape(check.model.id),
            _numbers(check.own),
            _numbers(check.listed),
            "differs" if check.differs else "",
        )
    out.print(table)
    listed = sum(1 for check in checks if check.own is None and check.listed)
    without = [check.model.id for check in checks if check.model.price is None]
    done = " (written)" if write else " (--write writes what is listed)"
    out.print(
        f"{len(checks)} models: {listed} at the listed price, "
        f"{len(checks) - listed - len(without)} at a table of their own"
        f"{f', of which {len(different)} differ{done}' if different else ''}."
    )
    if without:
        out.print(escape(f"Without any price: {', '.join(without)}"))


def _numbers(price: Price | None) -> str:
    if price is None:
        return "-"
    return (
        f"{price.input_usd_per_1m:g}, {price.output_usd_per_1m:g}{' +tiers' if price.tiers else ''}"
    )


def _facts(check: PriceCheck, write: bool) -> dict[str, object]:
    return {
        "model": check.model.id,
        "file": str(check.path),
        "own": _table(check.own),
        "listed": _table(check.listed),
        "differs": check.differs,
        "changes": {
            name: {"own": old, "listed": new} for name, (old, new) in check.changes.items()
        },
        "written": write and check.differs,
    }


def _table(price: Price | None) -> dict[str, object] | None:
    return None if price is None else price.model_dump(mode="json", exclude_none=True)
