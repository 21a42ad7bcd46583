"""The command `crossroute traces`: what recorded calls teach."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from crossroute.cli.common import SkipBroken, err, out
from crossroute.cli.records import RecordFiles, tell_lone
from crossroute.errors import DataError, shortened
from crossroute.files import replace_file
from crossroute.traces import export as exporting
from crossroute.traces.personal_data import PersonalData
from crossroute.traces.rank import TOKEN_PRICE, Ranked, Ranking, rank
from crossroute.traffic.records import read_records

SHOWN = 3
"""Of the best and of the worst traces."""

TokenPrice = Annotated[
    float,
    typer.Option(
        help="What the longest trace of a prompt pays for its tokens, in units of quality."
    ),
]
Readability = Annotated[
    float, typer.Option(help="Weight of the ease of reading, of English (needs the extra traces).")
]
Source = Annotated[
    str | None, typer.Option(help="The source of feedback to go by; the mean of all if absent.")
]

traces_app = typer.Typer(help="What recorded traces teach (docs/traces.md).", no_args_is_help=True)


@traces_app.command("rank")
def traces_rank(
    files: RecordFiles,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Where to write every trace: .jsonl.")
    ] = None,
    token_price: TokenPrice = TOKEN_PRICE,
    readability: Readability = 0.0,
    source: Source = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Rank traces by their quality less a price on tokens."""
    _check_out(out_file, files)
    found = _ranking(files, token_price, readability, source, skip_broken=skip_broken)
    if out_file is not None:
        lines = (json.dumps(_told(one), ensure_ascii=False) + "\n" for one in found.traces)
        replace_file(out_file, "".join(lines))
    paths: dict[str, list[Ranked]] = {}
    for one in found.traces:
        paths.setdefault(one.path, []).append(one)
    table = Table(title=f"{len(found.traces):,} traces of {found.calls:,} calls")
    table.add_column("asked", overflow="fold")
    for name in ("traces", "quality", "tokens", "reward"):
        table.add_column(name, justify="right")
    for path, ones in sorted(paths.items(), key=lambda one: -_mean_reward(one[1])):
        quality, tokens = fmean(one.quality for one in ones), fmean(one.tokens for one in ones)
        cells = (f"{len(ones):,}", f"{quality:.3f}", f"{tokens:,.0f}", f"{_mean_reward(ones):.3f}")
        table.add_row(escape(path), *cells)
    out.print(table)
    # Where there are few, half of them are the best ones.
    half = min(SHOWN, (len(found.traces) + 1) // 2)
    worst = found.traces[half:][: -SHOWN - 1 : -1]
    for title, ones in (("Best", found.traces[:half]), ("Worst", worst)):
        if not ones:
            continue
        out.print(f"\n{title}:")
        for one in ones:
            out.print(
                escape(
                    f"  {one.reward:6.3f}  quality {one.quality:.3f}, {one.tokens:,.0f} tokens  "
                    f"{one.record.id}"
                ),
                highlight=False,
            )
    if out_file is not None:
        out.print(escape(f"\n{out_file}: {len(found.traces):,} traces."))
    _tell_skipped(found.skipped, f"of {found.calls:,} calls")


@traces_app.command("export")
def traces_export(
    files: RecordFiles,
    format_: Annotated[
        str, typer.Option("--format", help="sft (to imitate) or dpo (to prefer one of two).")
    ],
    out_file: Annotated[Path, typer.Option("--out", help="Where to write: .jsonl.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="best (by reward), or sater (the shortest right answer, against the longest wrong "
            "one)."
        ),
    ] = "best",
    least_reward: Annotated[
        float, typer.Option(help="best: of what is to be imitated or preferred.")
    ] = 0.6,
    margin: Annotated[
        float, typer.Option(help="best: by which the rewards of a pair differ at least.")
    ] = 0.2,
    right_at: Annotated[
        float, typer.Option(help="sater: quality from which an answer is right.")
    ] = 0.5,
    most_a_prompt: Annotated[int, typer.Option(help="Examples, or pairs, of the same prompt.")] = 1,
    near_duplicates: Annotated[
        float,
        typer.Option(help="Similarity from which an example is left out; 1 are equal ones."),
    ] = 0.9,
    roles: Annotated[
        list[str] | None,
        typer.Option(
            "--roles",
            help="Whose asks are learned from: answer (the whole call, which it is if absent), "
            "draft, judge, control... Repeat it.",
        ),
    ] = None,
    keep_personal_data: Annotated[
        bool,
        typer.Option(
            "--keep-personal-data", help="Do not mask e-mail addresses, phone numbers and the like."
        ),
    ] = False,
    phone_regions: Annotated[
        list[str] | None,
        typer.Option(
            "--phone-region",
            help="Where phone numbers without a country code are of: US, which it is if absent, DE "
            "... Repeat it.",
        ),
    ] = None,
    token_price: TokenPrice = TOKEN_PRICE,
    readability: Readability = 0.0,
    source: Source = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Write what TRL trains on: rows of prompt and completion, or of chosen and rejected."""
    _check_out(out_file, files)
    selection = exporting.Selection(
        format_,  # type: ignore[arg-type]  # It is checked there.
        recipe,  # type: ignore[arg-type]
        least_reward,
        margin,
        right_at,
        most_a_prompt,
        near_duplicates,
        frozenset(roles or ["answer"]),
    )
    personal_data = None if keep_personal_data else PersonalData(phone_regions or ["US"])
    ranking = _ranking(files, token_price, readability, source, skip_broken=skip_broken)
    found = exporting.export(ranking, selection, personal_data)
    if not found.rows:
        _tell_skipped(found.skipped, f"of {found.examples:,} examples")
        raise DataError(f"None of {found.examples:,} examples makes a row of {format_}.")
    exporting.write_rows(found.rows, out_file)
    masked = "kept" if keep_personal_data else "masked where it was found (docs/traces.md)"
    out.print(
        escape(
            f"{out_file}: {len(found.rows):,} rows of {found.examples:,} examples in "
            f"{len(ranking.traces):,} traces. Personal data is {masked}."
        )
    )
    _tell_skipped(ranking.skipped, f"of {ranking.calls:,} calls")
    _tell_skipped(
        found.skipped, f"of {found.examples:,} examples, {found.used:,} of which are in the rows"
    )


def _check_out(path: Path | None, files: Sequence[Path]) -> None:
    if path is None:
        return
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: name a file that ends in .jsonl.")
    if path.resolve() in {file.resolve() for file in files}:
        raise DataError(f"{path}: holds the records; name another file to write to.")


def _ranking(
    files: Sequence[Path],
    token_price: float,
    readability: float,
    source: str | None,
    *,
    skip_broken: bool,
) -> Ranking:
    records = read_records(*files, skip_broken=skip_broken, on_lone=tell_lone)
    found = rank(records, token_price=token_price, readability=readability, source=source)
    if not found.traces:
        _tell_skipped(found.skipped, f"of {found.calls:,} calls")
        said = f"None of {found.calls:,} calls is a trace with feedback"
        if source is not None and source not in found.sources:
            there_are = ", ".join(sorted(found.sources)) or "none"
            said += f" of the source {shortened(source)}. Sources there are: {there_are}"
        raise DataError(f"{said}.")
    return found


def _told(one: Ranked) -> dict[str, object]:
    """A trace as a row without its texts."""
    return {
        "id": one.record.id,
        "asked": one.path,
        "model": one.record.model,
        "quality": one.quality,
        "output_tokens": one.tokens,
        "token_share": one.share,
        "readability": one.readability,
        "reward": one.reward,
    }


def _mean_reward(ones: Sequence[Ranked]) -> float:
    return fmean(one.reward for one in ones)


def _tell_skipped(skipped: Counter[str], of: str) -> None:
    if skipped:
        lines = "".join(f"\n  {count:,} {reason}" for reason, count in skipped.most_common())
        err.print(escape(f"Left out, {of}:{lines}"))
