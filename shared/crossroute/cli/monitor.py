"""The command `crossroute monitor`: whether what happens is what was predicted and promised."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from crossroute.cli.common import err, out
from crossroute.cli.records import RecordFiles
from crossroute.decision import usd
from crossroute.errors import SHOWN_PROBLEMS, ConstraintError, DataError, shortened
from crossroute.files import replace_file
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import MODELS
from crossroute.onboarding.scores import FEW_SCORES
from crossroute.policy import Policy, read_policy
from crossroute.traffic.feedback import write_scores
from crossroute.traffic.monitor import ERROR, Figure, Monitored, Tolerances, monitor
from crossroute.traffic.records import CallRecord, read_records
from crossroute.traffic.windows import Width, Window

ALARM = 3
"""Exit code of an alarm; 1 is an error, and 2 a wrong command line."""
SHOWN_WINDOWS = 31
USUAL = Tolerances()


def monitor_command(
    files: RecordFiles,
    policy: Annotated[
        Path | None, typer.Option(help="The file of crossroute plan --write, with its promises.")
    ] = None,
    window: Annotated[
        str, typer.Option(metavar="day|hour|N", help="Of a day or an hour in UTC, or of N calls.")
    ] = "day",
    last: Annotated[
        int | None, typer.Option(min=1, help="Look at so many windows only, the latest.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="The source of feedback to go by; the mean of all if absent."),
    ] = None,
    share_off: Annotated[
        float, typer.Option(help="Share of the calls by which a model's may be off.")
    ] = USUAL.share,
    cost_off: Annotated[
        float, typer.Option(help="Share of the cost by which it may be higher.")
    ] = USUAL.cost,
    quality_off: Annotated[
        float, typer.Option(help="Mean score by which a model may be below what was predicted.")
    ] = USUAL.quality,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Mean score that may be lost of that promised; the policy's if absent."),
    ] = None,
    failures: Annotated[
        float, typer.Option(help="Share of a model's calls that may fail.")
    ] = USUAL.failures,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, too.")
    ] = None,
    scores_out: Annotated[
        Path | None,
        typer.Option(help="Write feedback as scores for crossroute models onboard: a folder."),
    ] = None,
) -> None:
    """Hold records against what was predicted and promised (docs/traffic/monitor.md).

    Exit code 0 is fine, 3 an alarm, 1 an error.
    """
    tolerances = Tolerances(share_off, cost_off, quality_off, max_loss, failures)
    promise = None if policy is None else read_policy(policy)
    broken: Counter[str] = Counter()
    examples: list[str] = []

    def tell(said: str) -> None:
        broken["records"] += 1
        if len(examples) < SHOWN_PROBLEMS:
            examples.append(said)

    found = monitor(
        _read(files, tell),
        promise,
        window=_width(window),
        last=last,
        source=source,
        tolerances=tolerances,
    )
    if broken and not found.windows:
        raise DataError(f"All {broken['records']:,} records are broken: {examples[0]}.")
    _print(found, promise)
    if broken:
        err.print(
            f"[bold yellow]Left out:[/] {broken['records']:,} broken records:\n"
            + escape("\n".join(f"  {said}" for said in examples))
        )
    if json_file is not None:
        content = {**summary(found), "broken": broken["records"]}
        replace_file(json_file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if scores_out is not None:
        _write_scores(files, scores_out, source, policy, promise)
    if found.alarms:
        raise typer.Exit(ALARM)


def _read(files: Sequence[Path], tell: Callable[[str], None]) -> Iterator[CallRecord]:
    return read_records(*files, skip_broken=True, on_broken=tell)


def _width(text: str) -> Width:
    if text == "day":
        return "day"
    if text == "hour":
        return "hour"
    try:
        return int(text)
    except ValueError:
        raise ConstraintError(
            f"--window is {shortened(text)}; give day, hour or a number of calls."
        ) from None


def _print(found: Monitored, policy: Policy | None) -> None:
    for alarm in found.alarms:
        out.print(f"[bold red]Alarm:[/] {escape(alarm.text)}", highlight=False)
    if found.figures and not found.alarms:
        out.print(
            "[bold green]Fine:[/] nothing is surely off by so much that it matters.",
            highlight=False,
        )
    for note in found.notes:
        out.print(f"[yellow]Note:[/] {escape(note)}", highlight=False)
    if not found.windows:
        return
    out.print(
        f"\n{'window (UTC)':<16}  {'calls':>7} {'failed':>7} {'passed on':>9} {'tokens in':>9} "
        f"{'out':>6} {'cost':>10} {'of predicted':>12} {'saved':>6} {'score':>6} {'of':>6} "
        f"{'p50':>7} {'p95':>7}  off",
        highlight=False,
    )
    shown = found.windows[-SHOWN_WINDOWS:]
    if len(shown) < len(found.windows):
        out.print(f"... {len(found.windows) - len(shown):,} windows before (--json has them)")
    for window in shown:
        _print_window(window, f"{window.start:%Y-%m-%d %H:%M}", found.figures)
    if len(found.windows) > 1:
        _print_window(found.together, "together", found.figures)
    out.print()
    promised = policy.first_asked() if policy is not None else {}
    first = "asked first in " if policy is not None and policy.strategies is not None else ""
    calls = found.together.chosen.total()
    for model in sorted({*found.together.chosen, *promised}):
        got = found.together.chosen[model] / calls if calls else 0.0
        told = f", promised {promised.get(model, 0.0):.0%}" if promised else ""
        out.print(escape(f"{model}: {first}{got:.0%} of the calls{told}."), highlight=False)


def _print_window(window: Window, name: str, figures: Sequence[Figure]) -> None:
    start = None if name == "together" else window.start
    off = [one for one in figures if one.start == start and one.alarms]
    marks = ", ".join(f"{one.kind} {one.model}" if one.model else one.kind for one in off)
    facts = facts_of(window)
    out.print(
        escape(
            f"{name:<16}  {facts['calls']:>7,} {facts['failed']:>7,} {facts['passed_on']:>9,} "
            f"{_told(facts['input_tokens'], ',.0f'):>9} {_told(facts['output_tokens'], ',.0f'):>6} "
            f"{_usd(facts['cost_usd']):>10} {_told(facts['cost_of_predicted'], '.0%'):>12} "
            f"{_told(facts['saving'], '.0%'):>6} {_told(facts['score'], '.3f'):>6} "
            f"{facts['scored']:>6,} {_told(facts['latency_p50_s'], '.1f'):>6}s "
            f"{_told(facts['latency_p95_s'], '.1f'):>6}s  {marks}"
        ).rstrip(),
        highlight=False,
    )


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _usd(value: float | None) -> str:
    return "-" if value is None else usd(value)


def facts_of(window: Window) -> dict[str, Any]:
    """What happened in a window, as plain JSON-ready values; None is not known."""
    counts, answered = window.counts, window.counts["answered"]
    paid = sum(one.realised for one in window.prices.values())
    predicted = sum(one.expected for one in window.prices.values())
    score = window.all_scores()
    return {
        "calls": counts["calls"],
        "answered": answered,
        "failed": counts["failed"],
        "left": counts["left"],
        "passed_on": counts["passed on"],
        "in_shadow": counts["in shadow"],
        "blank": counts["blank"],
        "input_tokens": counts["input tokens"] / answered if answered else None,
        "output_tokens": counts["output tokens"] / answered if answered else None,
        "cost_usd": window.usd / window.priced if window.priced else None,
        "cost_of_predicted": paid / predicted if predicted > 0 else None,
        "saving": 1 - window.saving.realised / window.base_usd if window.base_usd > 0 else None,
        "score": float(score.mean()) if len(score) else None,
        "scored": len(score),
        "latency_p50_s": _known(window.latency_s(0.5)),
        "latency_p95_s": _known(window.latency_s(0.95)),
        "shares": {
            model: count / window.chosen.total() for model, count in window.chosen.most_common()
        },
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def summary(found: Monitored) -> dict[str, Any]:
    """What a monitor found, as plain JSON-ready values."""
    return {
        "alarms": [
            {
                "kind": one.kind,
                "model": one.model,
                "since": one.since and one.since.isoformat(),
                "windows": one.windows,
                "text": one.text,
            }
            for one in found.alarms
        ],
        "error": ERROR,
        "notes": found.notes,
        "together": facts_of(found.together),
        "windows": [{"start": one.start.isoformat(), **facts_of(one)} for one in found.windows],
        "figures": [
            {**one._asdict(), "start": one.start and one.start.isoformat()} for one in found.figures
        ],
    }


def _write_scores(
    files: Sequence[Path],
    folder: Path,
    source: str | None,
    path: Path | None,
    policy: Policy | None,
) -> None:
    """Write feedback as scores, and say how to onboard with them."""
    written, rows = write_scores(_read(files, lambda _: None), folder, source=source)
    out.print(
        f"\nScores of {rows.used:,} of {rows.calls:,} calls are in {escape(str(folder))}."
        if written
        else f"\nNo call of {rows.calls:,} has feedback and its text: there are no scores.",
        highlight=False,
    )
    for reason, count in rows.skipped.most_common():
        out.print(f"  {count:,} {reason}", highlight=False)
    for model, (scores, count) in written.items():
        if count < FEW_SCORES:
            out.print(
                escape(f"{model}: {count} scores, too few to onboard it: {FEW_SCORES} at least."),
                highlight=False,
            )
            continue
        out.print(escape(f"{model}: {count:,} scores."), highlight=False)
        out.print(escape(f"  {_command(model, scores, folder, path, policy)}"), highlight=False)


def _command(
    model: str, scores: Path, folder: Path, path: Path | None, policy: Policy | None
) -> str:
    name = ModelDescriptor(id=model).file_name
    words = ["crossroute", "models", "onboard", name, "--scores", str(scores)]
    if path is not None and policy is not None:
        router = path.parent / policy.router
        words[3] = str(router / MODELS / name)
        words += ["--checkpoint", str(router)]
    return shlex.join([*words, "--to", str(folder / MODELS)])
