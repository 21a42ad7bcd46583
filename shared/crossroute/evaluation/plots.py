"""Plots: cost-quality curves, reliability diagram, who gets which query, deferral curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crossroute.errors import MissingExtraError
from crossroute.evaluation.deferral import SHOWN
from crossroute.evaluation.evaluate import Evaluation
from crossroute.evaluation.metrics import SWEEP, calibration
from crossroute.evaluation.references import CROSSROUTE, ORACLE, ZERO

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("matplotlib", "benchmark") from error

if TYPE_CHECKING:
    from crossroute.evaluation.benchmark import DatasetReport, Report

Drawn = TypeVar("Drawn", "DatasetReport", Evaluation)

STRONG = {CROSSROUTE: "tab:red", ZERO: "black", ORACLE: "tab:green"}


def plot(report: Report, folder: Path) -> list[Path]:
    """Write the plots as PNG files into `folder`; returns them."""
    return [
        _grid(report.datasets, folder / "curves.png", _curves),
        _grid(report.datasets, folder / "reliability.png", _reliability),
        _grid(report.datasets, folder / "mix.png", _mix),
    ]


def plot_deferral(evaluations: Sequence[Evaluation], path: Path) -> bool:
    """Write the deferral curves of evaluations as a PNG file; False where none has any."""
    drawn = [one for one in evaluations if one.gap.undefined is None]
    if drawn:
        _grid(drawn, path, _deferral)
    return bool(drawn)


def _grid(datasets: Sequence[Drawn], path: Path, draw: Callable[[Any, Drawn], None]) -> Path:
    """One panel a data set, two in a row."""
    columns = min(len(datasets), 2)
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(6 * columns, 4.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, dataset in zip(panels, datasets, strict=False):
        draw(panel, dataset)
        panel.set_title(dataset.dataset)
    for panel in panels[len(datasets) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=110)
    return path


def _curves(panel: Any, dataset: DatasetReport) -> None:  # noqa: ANN401
    highest = max(float(hull.cost_usd[-1]) for hull in dataset.curves.values())
    for name, hull in dataset.curves.items():
        strong = name in STRONG
        panel.plot(
            [*hull.cost_usd, max(highest, hull.cost_usd[-1])],
            [*hull.quality, hull.quality[-1]],
            label=name,
            color=STRONG.get(name),
            linewidth=2 if strong else 0.9,
            zorder=3 if strong else 2,
        )
    panel.set_xscale("log")
    panel.set_xlabel("mean cost a query (USD)")
    panel.set_ylabel("mean quality")
    panel.legend(fontsize=7, loc="lower right")


def _deferral(panel: Any, evaluation: Evaluation) -> None:  # noqa: ANN401
    panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--", label="random mix")
    for result in evaluation.results:
        if result.deferral is None:
            continue
        strong = result.router in STRONG
        panel.plot(
            SHOWN,
            result.deferral.pgr,
            label=f"{result.router}: APGR {result.deferral.apgr:.3f}",
            color=STRONG.get(result.router),
            linewidth=2 if strong else 0.9,
            zorder=3 if strong else 2,
        )
    two = len(evaluation.models) == 2
    way = "share of the queries" if two else "share of the way in cost"
    panel.set_xlabel(f"{way}, from {evaluation.gap.weak} to {evaluation.gap.strong}", fontsize=8)
    panel.set_ylabel("performance gap recovered (PGR)")
    panel.legend(fontsize=7)


def _reliability(panel: Any, dataset: DatasetReport) -> None:  # noqa: ANN401
    share, predicted, observed = calibration(*dataset.reliability)
    panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    panel.scatter(predicted, observed, s=20 + 600 * share, color=STRONG[CROSSROUTE], alpha=0.7)
    panel.set_xlabel("predicted quality (area: share of the predictions)")
    panel.set_ylabel("mean score")


def _mix(panel: Any, dataset: DatasetReport) -> None:  # noqa: ANN401
    inner = np.isfinite(SWEEP) & (np.array(SWEEP) > 0)
    panel.stackplot(
        np.array(SWEEP)[inner], dataset.mix[inner].T, labels=dataset.models, linewidth=0
    )
    panel.set_xscale("log")
    panel.set_xlim(1e-6, 10)
    panel.set_ylim(0, 1)
    panel.set_xlabel("willingness to pay (USD a unit of quality)")
    panel.set_ylabel("share of the queries")
    panel.legend(fontsize=6, loc="center left")
