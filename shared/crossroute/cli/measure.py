"""The command `crossroute models measure`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from crossroute.cli.common import AsJson, SkipBroken, out, print_json
from crossroute.decision import usd
from crossroute.traffic.measured_agents import (
    FIELDS,
    LEAST_CALLS,
    Figure,
    MeasuredAgent,
    measure_agents,
    write_measured,
)
from crossroute.traffic.records import read_records


def models_measure(
    folder: Annotated[Path, typer.Argument(help="Folder of descriptors.")],
    records: Annotated[
        list[Path],
        typer.Option(help="Records: .jsonl, .jsonl.gz, .db, .sqlite; may be given several times."),
    ],
    least: Annotated[
        int, typer.Option(help="A figure of fewer calls is left out.", min=2)
    ] = LEAST_CALLS,
    source: Annotated[
        str | None,
        typer.Option(help="The source of feedback to go by; the mean of all if absent."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the figures into the descriptors.")
    ] = False,
    skip_broken: SkipBroken = False,
    as_json: AsJson = False,
) -> None:
    """Measure what agents, chains, retrievers and tools cost, take and score, from records.

    Models are left alone. With --write, only those fields of a descriptor change.
    """
    found = measure_agents(
        folder, read_records(*records, skip_broken=skip_broken), least=least, source=source
    )
    changed = [one.agent.id for one in found if write and write_measured(one)]
    if as_json:
        print_json([_facts(one, changed) for one in found])
        return
    table = Table(
        Column("agent", no_wrap=True),
        Column("calls", justify="right"),
        "cost a call",
        "median latency",
        "quality",
        title="Measured, with 95 % intervals",
    )
    for one in found:
        cost, latency, quality = (one.figures.get(name) for name in FIELDS)
        table.add_row(
            escape(one.agent.id),
            f"{one.calls:,}",
            _shown(cost, usd),
            _shown(latency, lambda value: f"{value:.3g} s"),
            _shown(quality, lambda value: f"{value:.3f}"),
        )
    out.print(table)
    out.print(f"A figure needs {least} calls, and quality needs feedback on them.")
    for one in found:
        if one.stated:
            out.print(escape(_stated(one)))
    if write:
        out.print(escape(f"Changed: {', '.join(changed) or 'nothing'}."))
    else:
        out.print("Nothing was written: --write writes the figures into the descriptors.")


def _stated(one: MeasuredAgent) -> str:
    which = "" if one.stated == one.calls else f" of {one.stated:,} of its {one.calls:,} calls"
    cost = f"its cost in records{which} is what its descriptor says: nothing measured."
    said = f"{one.agent.id}: {cost}"
    if one.agent.kind in ("agent", "chain"):
        said += " With a price in its descriptor, the tokens that its models count are its cost."
    return said


def _shown(figure: Figure | None, form: Callable[[float], str]) -> str:
    if figure is None:
        return "-"
    return f"{form(figure.value)} ({form(figure.low)} to {form(figure.high)}, {figure.calls:,})"


def _facts(one: MeasuredAgent, changed: list[str]) -> dict[str, object]:
    return {
        "agent": one.agent.id,
        "file": str(one.path),
        "calls": one.calls,
        "stated_costs": one.stated,
        "figures": {name: figure._asdict() for name, figure in one.figures.items()},
        "written": one.agent.id in changed,
    }
