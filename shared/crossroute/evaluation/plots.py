"""Plots of the benchmark: cost-quality curves, reliability diagram, who gets which query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossroute.errors import MissingExtraError
from crossroute.evaluation.benchmark import DatasetReport, Report
from crossroute.evaluation.metrics import SWEEP, calibration
from crossroute.evaluation.references import CROSSROUTE, ORACLE, ZERO

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("matplotlib", "benchmark") from error

STRONG = {CROSSROUTE: "tab:red", ZERO: "black", ORACLE: "tab:green"}


def plot(report: Report, folder: Path) -> list[Path]:
    """Write the plots as PNG files into `folder`; returns them."""
    return [
        _grid(report, folder / "curves.png", _curves),
        _grid(report, folder / "reliability.png", _reliability),
        _grid(report, folder / "mix.png", _mix),
    ]


def _grid(report: Report, path: Path, draw: Any) -> Path:  # noqa: ANN401
    """One panel a data set, two in a row."""
    rows = -(-len(report.datasets) // 2)
    figure = Figure(figsize=(12, 4.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for panel, dataset in zip(panels, report.datasets, strict=False):
        draw(panel, dataset)
        panel.set_title(dataset.dataset)
    for panel in panels[len(report.datasets) :]:
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
