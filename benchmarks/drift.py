"""How often the watch of a tuned router warns, and after how many calls.

    python benchmarks/drift.py FILE...

FILEs are routing data (docs/data.md). The shipped router is tuned to a share (10 to 70 %) of one
model on 300 rows of one data set, out of `valid` and `test`. Later calls are drawn, 2,000 of them,
from the other rows of the same set, where a warning is false but for how far off the sample was by
chance, or from the rows of another set.
"""

from __future__ import annotations

import itertools
import logging
import sys

import numpy as np
from rich.console import Console
from rich.table import Table
from shares import SHARES, rows_of, tuned_to

from crossroute import CrossRouter, Decision, Predictions
from crossroute.budget.tuned import Tuned
from crossroute.evaluation.metrics import sweep
from crossroute.training.data import RoutingData

DRAWS, SAMPLE, CALLS = 100, 300, 2_000


def warned_after(
    tuned: Tuned[CrossRouter], later: Predictions, rng: np.random.Generator
) -> tuple[int | None, float]:
    """After how many calls it warned, and how far off the share of all later rows is."""
    extra = np.array([tuned.surcharge_usd.get(model, 0.0) for model in later.models])
    at = (tuned.willingness_to_pay,)
    (chosen,) = sweep(later.quality, later.cost_usd + extra, tuned.router.reward, at)
    watch = tuned.watch()
    after = None
    for i in rng.integers(len(chosen), size=CALLS):
        j = chosen[i]
        cost, quality = float(later.cost_usd[i, j]), float(later.quality[i, j])
        watch.seen(Decision(later.models[j], quality, cost, (), at[0], "exponential", 1.0))
        if watch.alarm is not None:
            after = watch.calls
            break
    ((model, share),) = tuned.asked.shares.items()
    return after, abs(float((chosen == later.models.index(model)).mean()) - share)


def main(files: list[str]) -> None:
    logging.disable(logging.WARNING)
    router, rng = CrossRouter.default(), np.random.default_rng(0)
    found = {
        name: router.predict([*data.of_split("valid").prompts, *data.of_split("test").prompts])
        for name, data in RoutingData.load(files).by_dataset()
    }
    table = Table(
        "later calls are", "off by, points", "draws", "warned", "calls until then, median"
    )
    seen: dict[tuple[str, str], list[int | None]] = {}
    for (name, rows), (other, later) in itertools.product(found.items(), repeat=2):
        for _ in range(DRAWS // (1 if name == other else len(found) - 1)):
            order = rng.permutation(len(rows.quality))
            shares = {str(rng.choice(rows.models)): float(rng.choice(SHARES))}
            tuned = tuned_to(router, rows_of(rows, order[:SAMPLE]), shares)
            fresh = rows_of(rows, order[SAMPLE:]) if name == other else later
            after, off = warned_after(tuned, fresh, rng)
            edges = (0, 5, 10, 20, 101)
            k = int(np.searchsorted(edges, 100 * off, side="right"))
            which = "of the same set" if name == other else "of another set"
            points = f"{edges[k - 1]} to {min(edges[k], 100)}"
            seen.setdefault((which, points), []).append(after)
    order_of = sorted(seen, key=lambda key: (key[0] != "of the same set", int(key[1].split()[0])))
    for which, points in order_of:
        ends = seen[which, points]
        warned = [one for one in ends if one is not None]
        median = f"{np.median(warned):.0f}" if warned else "-"
        table.add_row(which, points, str(len(ends)), f"{len(warned) / len(ends):.0%}", median)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
