"""The benchmark's report as tables for a terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from crossroute.decision import usd
from crossroute.evaluation.benchmark import DatasetReport, Figures, Report
from crossroute.evaluation.evaluate import Evaluation, Result
from crossroute.evaluation.metrics import Interval

COLUMNS = (
    "router",
    "AIQ",
    "RouterBench AIQ",
    "best quality",
    "at cost",
    "PerfGain",
    "CostSave",
    "Brier",
    "ECE",
    "cost error",
    "cost total",
    "CrossRoute's gain in AIQ (95 %)",
)


def tables(report: Report) -> Iterable[Table]:
    """One table a data set, and one of the gains over all of them."""
    for dataset in report.datasets:
        table = Table(*COLUMNS, title=_title(dataset))
        for figures in dataset.figures:
            table.add_row(*map(escape, _cells(figures)))
        yield table
    table = Table("router", "CrossRoute's gain in AIQ (95 %)", title="Mean over the data sets")
    for name, gain in report.pooled.items():
        table.add_row(name, _interval(gain))
    yield table


def markdown(
    report: Report, unseen: Sequence[Evaluation], plots: Sequence[Path], command: str
) -> str:
    """The report as a page, with the plots beside it.

    Args:
        report: The benchmark.
        unseen: Data sets that were left out of training, if any.
        plots: PNG files in the folder that the page will be in.
        command: What made it.
    """
    lines = [
        "# Benchmark",
        "",
        f"Made by `{command}`; `benchmark.json` has every figure. {report.seeds} seeds, "
        "95 % intervals by paired bootstrap over the test prompts.",
        "",
        "AIQ is the mean height of a router's cost-quality hull over the range of the single "
        "models' mean costs; RouterBench's variant starts at the router's own lowest cost and is "
        "divided by the highest cost of all. PerfGain is the best quality relative to the best "
        "single model; CostSave the largest saving at no less than its quality. ECE is the "
        "calibration error of predicted quality, cost error the median relative error of predicted "
        "cost, cost total the predicted over the realised sum. Each baseline is fitted and tuned "
        "(eight settings, on valid) for each set by itself; CrossRoute is one network for all.",
        "",
        "## Mean over the data sets",
        "",
        *_table(
            ("router", "CrossRoute's gain in AIQ (95 %)"),
            [(name, _interval(gain)) for name, gain in report.pooled.items()],
        ),
    ]
    for dataset in report.datasets:
        lines += [
            "",
            f"## {_title(dataset)}",
            "",
            *_table(COLUMNS, [_cells(figures) for figures in dataset.figures]),
            "",
            f"Shuffled control (CrossRoute's own choices, permuted over the prompts): AIQ "
            f"{dataset.shuffled_aiq:.4f}.",
            "",
            "When the willingness to pay rises by 10 %: "
            + "; ".join(
                f"{item.reward} reward: {item.mix:.1%} of the prompts change their model, the "
                f"realised cost changes by {item.cost:.1%}"
                for item in dataset.stability
            )
            + ".",
        ]
    if unseen:
        lines += [
            "",
            "## Out of domain: data sets left out of training",
            "",
            "Trained on the other data sets; the models are onboarded from 100 training prompts.",
            "",
            *_table(
                ("data set", *(result.router.split(" (")[0] for result in unseen[0].results)),
                [(item.dataset, *map(_result, item.results)) for item in unseen],
            ),
            "",
            "AIQ, and in brackets the best quality.",
        ]
    lines += ["", *(f"![{path.stem}]({path.name})" for path in plots), ""]
    return "\n".join(lines)


def _title(dataset: DatasetReport) -> str:
    return f"{dataset.dataset}: {dataset.prompts:,} test prompts, {len(dataset.models)} models"


def _cells(figures: Figures) -> tuple[str, ...]:
    def number(value: float | None, form: str = ".4f") -> str:
        return "-" if value is None else format(value, form)

    return (
        figures.router,
        number(figures.aiq),
        number(figures.routerbench_aiq),
        number(figures.quality),
        "-" if figures.cost_usd is None else usd(figures.cost_usd),
        number(figures.perf_gain, "+.1%"),
        number(figures.cost_save, ".0%"),
        number(figures.brier),
        number(figures.calibration_error, ".3f"),
        number(figures.cost_error, ".1%"),
        number(figures.cost_total, ".2f"),
        "-" if figures.crossroute_gain is None else _interval(figures.crossroute_gain),
    )


def _result(result: Result) -> str:
    aiq = "-" if result.aiq is None else f"{result.aiq:.4f}"
    return f"{aiq} ({result.quality:.4f})"


def _interval(value: Interval) -> str:
    return f"{value.mean:+.4f} ({value.low:+.4f} to {value.high:+.4f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
