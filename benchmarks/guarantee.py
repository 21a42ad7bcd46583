"""Whether plans keep what they promise: over many random splits of scored answers.

    python benchmarks/guarantee.py ../shared/data/mmlu-pro.jsonl.gz --rows 1500 --splits 20

Each split plans with some of the rows and follows the plan on all others. Printed are the
verdicts, how often the mean loss on the fresh rows exceeds what was allowed, how often the saving
on them lies in its interval, and how often the plan is worth less than the best single model of the
fresh rows: in utility, score - cost / willingness to pay, at its own willingness to pay.

The shipped router has learned from these sets. `--checkpoint` names one that has not; train it with
`crossroute train` on the other files.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossroute import CrossRouter
from crossroute.evaluation.metrics import sweep
from crossroute.traffic import Plan, plan
from crossroute.training.data import RoutingData


class Followed(NamedTuple):
    """What came of a plan on fresh rows.

    Attributes:
        loss: Mean score below the baseline's, and its standard error.
        saving: Share of the baseline's cost that was saved.
        gain: Utility above the best single model's, and its standard error; of "route" alone.
    """

    loss: tuple[float, float]
    saving: float
    gain: tuple[float, float] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=1500, help="to plan with")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--max-loss", type=float, default=0.02)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--baseline")
    parser.add_argument("--checkpoint", type=Path)
    chosen = parser.parse_args()
    router = CrossRouter.load(chosen.checkpoint) if chosen.checkpoint else CrossRouter.shipped()
    print(
        "| set | rows | route, fixed, more data | loss above | saving inside | mean saving |"
        " below best single by 2 s.e. | s a plan |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for file in chosen.files:
        data = RoutingData.load([file]).priced(router.pool)
        plans, followed, seconds = [], [], 0.0
        for seed in range(chosen.splits):
            order = np.random.default_rng(seed).permutation(len(data))
            start = time.perf_counter()
            found = plan(
                rows_of(data, order[: chosen.rows]),
                chosen.baseline,
                chosen.max_loss,
                chosen.confidence,
                seed,
                router=router,
            )
            seconds += time.perf_counter() - start
            plans.append(found)
            followed.append(follow(found, rows_of(data, order[chosen.rows :])))
        print(row(file.name.split(".")[0], chosen, plans, followed, seconds / chosen.splits))


def rows_of(data: RoutingData, places: np.ndarray) -> RoutingData:
    mask = np.zeros(len(data), bool)
    mask[places] = True
    return data.select(mask)


def follow(found: Plan, fresh: RoutingData) -> Followed:
    """Choose on fresh rows as the plan says, among the answers that a row has."""
    known = ~np.isnan(fresh.score + fresh.cost_usd)
    base = fresh.models.index(found.baseline)
    fresh = fresh.select(known[:, base] & (known.sum(axis=1) > 1))
    known = ~np.isnan(fresh.score + fresh.cost_usd)
    base, rows = fresh.models.index(found.baseline), np.arange(len(fresh))

    def alone(column: int) -> np.ndarray:
        return np.where(known[:, column], column, base)

    chosen = alone(base)
    if found.verdict == "route":
        predicted = found.router.predict(fresh.prompts)
        columns = [predicted.models.index(m) if m in predicted.models else -1 for m in fresh.models]
        missing = np.array(columns) < 0
        available = known & ~missing
        best = sweep(
            predicted.quality[:, columns],
            predicted.cost_usd[:, columns],
            found.router.reward,
            [found.willingness_to_pay],
            available=available,
        )[0]
        chosen = np.where(available.any(axis=1), best, base)
    elif found.model in fresh.models:
        chosen = alone(fresh.models.index(found.model))
    score, cost = fresh.score[rows, chosen], fresh.cost_usd[rows, chosen]
    lost = fresh.score[rows, base] - score
    saving = 1 - cost.sum() / fresh.cost_usd[rows, base].sum()
    gain = None
    if found.verdict == "route":
        at = min(found.willingness_to_pay, 1e6)
        single = [alone(j) for j in range(len(fresh.models))]
        worth = [at * fresh.score[rows, one] - fresh.cost_usd[rows, one] for one in single]
        best = max(worth, key=lambda values: values.mean())
        gain = mean_and_error((at * score - cost - best) / at)
    return Followed(mean_and_error(lost), float(saving), gain)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def row(
    name: str,
    chosen: argparse.Namespace,
    plans: list[Plan],
    followed: list[Followed],
    seconds: float,
) -> str:
    verdicts = Counter(found.verdict for found in plans)
    acted = [(a, b) for a, b in zip(plans, followed, strict=True) if a.figures.saving]
    above = sum(b.loss[0] > chosen.max_loss for _, b in acted)
    inside = sum(a.saving_low <= b.saving <= a.saving_high for a, b in acted)
    gains = [b.gain for _, b in acted if b.gain is not None]
    below = sum(mean < -2 * error for mean, error in gains)
    saved = np.mean([found.saving for found in plans])
    cells = [
        name,
        f"{chosen.rows:,}",
        ", ".join(str(verdicts[one]) for one in ("route", "fixed", "more data")),
        f"{above} of {len(plans)}",
        f"{inside} of {len(acted)}",
        f"{100 * saved:.0f} %",
        f"{below} of {len(gains)}",
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
