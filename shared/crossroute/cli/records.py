"""The command `crossroute records`: what a recorder has written."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from crossroute.cli.common import AsJson, SkipBroken, err, out, print_json
from crossroute.decision import usd
from crossroute.errors import DataError
from crossroute.files import replace_file
from crossroute.traffic.recorder import Recorder
from crossroute.traffic.records import read_records, records_to_rows
from crossroute.traffic.summary import Summary

RecordFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Records: .jsonl, .jsonl.gz, .db, .sqlite (docs/traffic/recorder.md).",
    ),
]


def tell_lone(count: int) -> None:
    """Say how much feedback there is on calls that are in none of the files."""
    if count:
        err.print(f"Feedback on calls that are not in these files (mistyped ids?): {count:,}.")


records_app = typer.Typer(help="The calls that a recorder has written.", no_args_is_help=True)


@records_app.command("rows")
def records_rows(
    files: RecordFiles,
    out_file: Annotated[Path, typer.Option("--out", help="Where to write: .jsonl.")],
    source: Annotated[
        str | None,
        typer.Option(help="The source of feedback to go by; the mean of all if absent."),
    ] = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Make routing data of the calls that have got feedback.

    Each row has the answers to one prompt; a call whose model was drawn is a row of its own, with
    the probability of its model.
    """
    if out_file.suffix != ".jsonl":
        raise DataError(f"{out_file}: name a file that ends in .jsonl.")
    found = records_to_rows(read_records(*files, skip_broken=skip_broken), source=source)
    skipped = "".join(f"\n  {count:,} {reason}" for reason, count in found.skipped.most_common())
    if not found.rows:
        raise DataError(f"No call of {found.calls:,} makes a row:{skipped or ' there is none.'}")
    replace_file(
        out_file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    )
    answers = Counter(model for row in found.rows for model in row["outputs"])
    models = ", ".join(f"{model} {count:,}" for model, count in answers.most_common())
    drawn = sum("probability" in one for row in found.rows for one in row["outputs"].values())
    told = (
        f"{out_file}: {len(found.rows):,} rows of {found.used:,} calls, of which {drawn:,} were "
        f"drawn with a known probability. Answers: {models}."
    )
    out.print(escape(told))
    if found.apart:
        err.print(
            f"{found.apart:,} more were drawn among other candidates than usual, as where a model "
            "rests or may not serve the call: they are in the rows without a probability."
        )
    if skipped:
        err.print(escape(f"Not in the rows, of {found.calls:,} calls:{skipped}"))


@records_app.command("show")
def records_show(
    files: RecordFiles, skip_broken: SkipBroken = False, as_json: AsJson = False
) -> None:
    """Say who answered, what it cost beside what was predicted, and how good it was."""
    lone: list[int] = []
    found = Summary.of(read_records(*files, skip_broken=skip_broken, on_lone=lone.append))
    if as_json:
        times = {"first": found.first, "last": found.last}
        told = {**asdict(found), **{n: at and at.isoformat() for n, at in times.items()}}
        print_json({**told, "feedback_on_no_call": sum(lone)})
        return
    tell_lone(sum(lone))
    if found.first is None or found.last is None:
        out.print("There are no calls.")
        return
    out.print(
        f"{found.calls:,} calls from {found.first:%Y-%m-%d %H:%M} to {found.last:%Y-%m-%d %H:%M} "
        f"(UTC): {found.failed:,} failed, {found.left:,} were left, {found.passed_on:,} were "
        "answered by another model after a failure or a refusal."
    )
    out.print(
        f"\n{'model':<34} {'calls':>7} {'share':>6} {'cost':>11} {'predicted':>11} {'score':>7} "
        f"{'predicted':>9} {'scored':>7}",
        highlight=False,
    )
    answered = sum(row.calls for row in found.models.values())
    for model, row in sorted(found.models.items(), key=lambda one: -one[1].calls):
        cost = [usd(row.cost_usd), usd(row.predicted_usd)] if row.priced else ["?", "?"]
        score = (
            [f"{value / row.scored:.3f}" for value in (row.score, row.predicted_quality)]
            if (row.scored)
            else ["-", "-"]
        )
        out.print(
            escape(
                f"{model:<34} {row.calls:>7,} {row.calls / answered:>6.0%} {cost[0]:>11} "
                f"{cost[1]:>11} {score[0]:>7} {score[1]:>9} {row.scored:>7,}"
            ),
            highlight=False,
        )
    unknown = sum(row.calls - row.priced for row in found.models.values())
    if unknown:
        out.print(f"\nCalls whose cost is not known, NOT in the sums: {unknown:,}.")
    if found.shadowed:
        out.print(
            f"\nNot left to the router alone: {found.shadowed:,} calls, of which "
            f"{found.agreed:,} went to its own choice ({found.agreed / found.shadowed:.0%}); "
            f"{found.drawn:,} were drawn with a known probability."
        )


@records_app.command("feedback")
def records_feedback(
    file: Annotated[Path, typer.Argument(help="Records: .jsonl, .db, .sqlite.")],
    call_id: Annotated[str, typer.Argument(help="What stands on the answer as call_id.")],
    score: Annotated[float, typer.Argument(help="How good the answer was, from 0 to 1.")],
    source: Annotated[str, typer.Option(help="Who says so.")] = "user",
) -> None:
    """Add feedback on a call to a file of records."""
    if not file.exists():
        # A recorder would make it, and whoever mistypes a name would lose the feedback.
        raise DataError(f"{file}: there is no such file; name the records that hold the call.")
    recorder = Recorder(file)
    recorder.feedback(call_id, score, source=source)
    if recorder.lost:
        raise typer.Exit(1)
