"""What each part of the network is worth: cross-validated on the rows that may be tuned on.

    python benchmarks/ablation.py FILE...

The rows of the splits train and valid are divided in three by their questions; each third is held
out once. Test rows, and rows that ask what a test row asks, are not touched.

Prints a row of a Markdown table a variant: gains in AIQ over the Zero router, the mean over folds,
and the Brier score of predicted quality, the mean over data sets. Some two minutes a variant on 2
cores.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import numpy as np

from crossroute import CrossRouter, ModelPool
from crossroute.evaluation.evaluate import evaluate
from crossroute.evaluation.metrics import brier
from crossroute.training.data import RoutingData, normalised
from crossroute.training.fit import Settings
from crossroute.training.train import train

FOLDS = 3
SHIPPED = Settings()
VARIANTS = {
    "as shipped": SHIPPED,
    "no ranking loss": replace(SHIPPED, ranking=0.0),
    "one slot: no attention": replace(SHIPPED, slots=1, slot_size=256),
    "one head instead of four": replace(SHIPPED, heads=1),
    "no task loss": replace(SHIPPED, task=0.0),
    "no dropout": replace(SHIPPED, dropout=0.0),
    "no prior": replace(SHIPPED, prior_share=0.0),
    "prior alone": replace(SHIPPED, prior_share=1.0),
    "eight heads instead of four": replace(SHIPPED, heads=8),
}


def main(files: list[str]) -> None:
    data = RoutingData.load(files).without_test()
    folds = np.array(
        [int(hashlib.sha256(normalised(q).encode()).hexdigest()[:8], 16) for q in data.questions]
    )
    names = [name for name, _ in data.by_dataset()]
    print("| variant |", " | ".join(f"gain on {n}" for n in names), "| mean gain | mean Brier |")
    print("|---" * (len(names) + 3) + "|")
    for variant, settings in VARIANTS.items():
        routers = []
        for k in range(FOLDS):
            held = folds % FOLDS == k
            part = replace(data, split=np.where(held, "test", data.split))
            routers.append((train(part, known=ModelPool.shipped(), settings=settings), part))
        print(f"| {variant} |", " | ".join(measure(routers, names)), "|", flush=True)


def measure(routers: list[tuple[CrossRouter, RoutingData]], names: list[str]) -> list[str]:
    gains: dict[str, list[float]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    for router, part in routers:
        held = part.of_split("test")
        for evaluation in evaluate(router, held):
            ours, zero = (result.aiq or 0.0 for result in evaluation.results[:2])
            gains[evaluation.dataset].append(ours - zero)
        for name, rows in held.by_dataset():
            rows = rows.complete()
            found = router.subset(rows.models).predict(rows.prompts)
            columns = [found.models.index(model) for model in rows.models]
            errors[name].append(brier(found.quality[:, columns], rows.score))
    means = [float(np.mean(gains[name])) for name in names]
    error = np.mean([np.mean(errors[name]) for name in names])
    return [*(f"{mean:+.4f}" for mean in means), f"{np.mean(means):+.4f}", f"{error:.4f}"]


if __name__ == "__main__":
    main(sys.argv[1:])
