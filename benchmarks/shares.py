"""How near a share that was asked for comes on fresh prompts.

    python benchmarks/shares.py FILE...

FILEs are routing data (docs/data.md). For each data set, and for the candidates that it has and
those of the shipped pool, a router is tuned to a share (10 to 70 %) of one model, or to shares of
three, on a sample. Its share is then taken on other rows: of `valid` and `test` shuffled together,
those that are not in the sample; and `test` after a sample of `valid` only. Told are the mean error
in points, the error that 95 of 100 stay below, and how many are within 3 points.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from crossroute import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter, Predictions
from crossroute.budget import share
from crossroute.budget.tuned import Tuned, tuned_to_shares
from crossroute.evaluation.metrics import sweep
from crossroute.training.data import RoutingData

DRAWS = 200
SAMPLES = (300, 900)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
POINTS = 0.03


def rows_of(found: Predictions, rows: NDArray[np.intp]) -> Predictions:
    parts = (found.quality, found.cost_usd, found.output_tokens, found.input_tokens)
    return Predictions(found.models, *(part[rows] for part in parts))


def tuned_to(
    router: CrossRouter, found: Predictions, shares: dict[str, float]
) -> Tuned[CrossRouter]:
    every = np.ones(found.quality.shape, np.bool_)
    none = np.zeros(len(found.models))
    table = share.Table(found.models, found.quality, found.cost_usd, every, router.reward, none)
    return tuned_to_shares(router, table, shares, None, DEFAULT_WILLINGNESS_TO_PAY)


def off(tuned: Tuned[CrossRouter], found: Predictions) -> float:
    """By how much the share that is furthest off is off on other prompts."""
    extra = np.array([tuned.surcharge_usd.get(model, 0.0) for model in found.models])
    at = (tuned.willingness_to_pay,)
    (chosen,) = sweep(found.quality, found.cost_usd + extra, tuned.router.reward, at)
    return max(
        abs(float((chosen == found.models.index(model)).mean()) - share)
        for model, share in tuned.asked.shares.items()
    )


def asked(rng: np.random.Generator, models: tuple[str, ...], several: bool) -> dict[str, float]:
    if not several:
        return {str(rng.choice(models)): float(rng.choice(SHARES))}
    names = rng.choice(models, 3, replace=False)
    return dict(zip(map(str, names), (0.9 * rng.dirichlet(np.ones(4))[:3]).tolist(), strict=True))


def told(found: list[float]) -> str:
    if not found:
        return "-"
    off = np.array(found)
    return (
        f"{100 * off.mean():.1f}, {100 * np.quantile(off, 0.95):.1f}, {(off <= POINTS).mean():.0%}"
    )


def main(files: list[str]) -> None:
    table = Table(
        *("data set", "candidates", "sample", "shares", "not reached", "surcharges"),
        *("shuffled: mean, 95 %, within 3", "valid to test"),
    )
    shipped, rng = CrossRouter.shipped(), np.random.default_rng(0)
    for name, data in RoutingData.load(files).by_dataset():
        own = shipped.subset([model for model in data.models if model in shipped.pool])
        for which, router in (("its own", own), ("shipped", CrossRouter.default())):
            valid, test = (
                router.predict(data.of_split(split).prompts) for split in ("valid", "test")
            )
            n, whole = (
                len(valid.quality),
                router.predict([*data.of_split("valid").prompts, *data.of_split("test").prompts]),
            )
            for size in SAMPLES:
                for several in (False, True):
                    fresh: list[float] = []
                    apart: list[float] = []
                    missed = extra = 0
                    for _ in range(DRAWS):
                        shares = asked(rng, whole.models, several)
                        order = rng.permutation(len(whole.quality))
                        if len(order) >= size + SAMPLES[0]:
                            tuned = tuned_to(router, rows_of(whole, order[:size]), shares)
                            fresh.append(off(tuned, rows_of(whole, order[size:])))
                            missed += not tuned.reached
                            extra += bool(tuned.surcharge_usd)
                        if n >= size:
                            order = rng.permutation(n)[:size]
                            apart.append(off(tuned_to(router, rows_of(valid, order), shares), test))
                    if not fresh and not apart:
                        continue
                    table.add_row(
                        *(name, which, str(size), "three" if several else "one"),
                        *(f"{missed / DRAWS:.0%}", f"{extra / DRAWS:.0%}"),
                        *(told(fresh), told(apart)),
                    )
    Console(width=140).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
