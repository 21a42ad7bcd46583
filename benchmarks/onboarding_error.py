"""How often a model's mean quality is within the standard error that onboarding states of it.

python benchmarks/onboarding_error.py zeroeval.jsonl.gz ...

Each shipped model is onboarded anew from n of its answers to test prompts, and predicted on the
others, whose mean has an error of its own. A standard error would hold in 68 % of the draws.
"""

from __future__ import annotations

import sys

import numpy as np

from crossroute import CrossRouter, ModelPool, ScoredAnswer
from crossroute.onboarding.embedding import error_in_points, onboard
from crossroute.training.data import RoutingData

COUNTS = (2, 5, 20, 66, 200)
DRAWS = 3


def draws(router: CrossRouter, data: RoutingData, count: int) -> list[tuple[float, float]]:
    """The stated error and the real one of each model and draw, in points of 100."""
    chance = np.random.default_rng(0)
    found = []
    for j, model in enumerate(data.models):
        for _ in range(DRAWS):
            order = chance.permutation(len(data))
            rows, others = order[:count], order[count:]
            scores = [
                ScoredAnswer(
                    prompt=data.prompts[i], score=data.score[i, j], cost_usd=data.cost_usd[i, j]
                )
                for i in rows
            ]
            new = onboard(router, router.pool[model].model_copy(update={"learned": None}), scores)
            assert new.learned is not None  # noqa: S101  # Onboarding makes one.
            # As it is estimated, not held back by its error.
            sure = new.model_copy(
                update={"learned": new.learned.model_copy(update={"quality_error": 0.0})}
            )
            pair = [sure, next(known for known in router.pool.values() if known.id != model)]
            predicted = router.over(ModelPool(pair)).predict([data.prompts[i] for i in others])
            quality = predicted.quality[:, predicted.models.index(model)].mean()
            found.append(
                (error_in_points(new.learned), 100 * (data.score[others, j].mean() - quality))
            )
    return found


def main() -> None:
    router = CrossRouter.shipped()
    print("| set | n | stated (mean) | real (root mean square) | within |\n|---|---|---|---|---|")
    for name, data in RoutingData.load(sys.argv[1:]).of_split("test").by_dataset():
        for count in COUNTS:
            stated, real = np.array(draws(router, data.complete(name), count)).T
            print(
                f"| {name} | {count} | {stated.mean():.1f} | {np.sqrt((real**2).mean()):.1f} | "
                f"{(abs(real) <= stated).mean():.0%} |"
            )


if __name__ == "__main__":
    main()
