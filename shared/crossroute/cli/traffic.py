"""The command `crossroute traffic`: the prompts of an application's own traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from crossroute.cli.common import err, out
from crossroute.traffic.imports import import_traffic


def traffic_import(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Logs: LangSmith runs, OpenAI requests, OpenTelemetry spans, or plain prompts "
            "(docs/traffic/import.md); .gz too.",
        ),
    ],
    out_file: Annotated[Path, typer.Option("--out", help="Where to write: .jsonl or .jsonl.gz.")],
    sample: Annotated[
        int | None, typer.Option(min=1, help="Take a random sample of so many prompts.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    score: Annotated[
        str, typer.Option(help="Name of the feedback, from 0 to 1, that is an answer's score.")
    ] = "score",
) -> None:
    """Make a file of prompts of the logs of your application; duplicates are dropped."""
    found = import_traffic(files, out_file, sample=sample, seed=seed, score=score)
    formats = ", ".join(f"{count:,} in {name}" for name, count in found.formats.most_common())
    sampled = f", a sample of {found.distinct:,}" if found.written < found.distinct else ""
    out.print(
        escape(
            f"{out_file}: {found.written:,} prompts{sampled} (read: {formats}; "
            f"{found.duplicates:,} duplicates dropped)."
        )
    )
    if found.masked:
        out.print(
            f"In {found.masked:,} prompts something looked like a key or a password: it is ***."
        )
    if found.skipped:
        err.print("Not read:")
        for reason in found.reasons():
            err.print(escape(f"  {reason}"))
