"""Whether onboarded models are ever routed to worse than by the fixed order of the same scores.

    python benchmarks/onboarding_fixed_order.py ../shared/data zeroeval

The data set is left out: a router is trained on all others, and the left-out set's models are
onboarded from n scored prompts, drawn at random some times. On the set's test rows it is compared
with the fixed order that these n prompts show: each model's level and mean cost, nothing of a
query. Prints the difference in utility, score - cost / lambda, in the mean over the draws, with the
standard error of that mean in brackets. Some minutes on 2 cores, most of them for the training.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.evaluation.metrics import sweep
from crossroute.evaluation.references import fixed_order, predicted
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.ranking import RewardName
from crossroute.training.data import RoutingData
from crossroute.training.train import train

WILLINGNESS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
DRAWS = {20: 8, 60: 8, 260: 4}
"""How often so many scored prompts are drawn."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of the routing data")
    parser.add_argument("dataset", help="the one that is left out")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.rglob("*.jsonl.gz"))
    (left_out,) = (file for file in files if file.name == f"{arguments.dataset}.jsonl.gz")
    shipped = ModelPool.shipped()
    others = RoutingData.load([file for file in files if file != left_out])
    router = train(others, known=shipped)
    data = RoutingData.load([left_out]).priced(shipped)
    past, test = data.of_split("train"), data.of_split("test")
    rewards: tuple[RewardName, ...] = get_args(RewardName)
    print("| scores | reward |", *(f"{value:g} |" for value in WILLINGNESS))
    print("|---|---|", "---|" * len(WILLINGNESS), sep="")
    for count, draws in DRAWS.items():
        gains = [_gain(router, past, test, count, seed) for seed in range(draws)]
        for reward, part in zip(rewards, np.swapaxes(gains, 0, 1), strict=True):
            error = part.std(axis=0) / np.sqrt(draws)
            cells = zip(part.mean(axis=0), error, strict=True)
            print(f"| {count} | {reward} |", *(f"{x:+.4f} ({y:.4f}) |" for x, y in cells))


def _gain(
    router: CrossRouter, past: RoutingData, test: RoutingData, count: int, seed: int
) -> NDArray[np.float64]:
    """Utility less that of the fixed order, by reward and willingness to pay: [2, w]."""
    drawn = np.zeros(len(past), np.bool_)
    drawn[np.random.default_rng(seed).permutation(len(past))[:count]] = True
    scored = past.select(drawn)
    test = test.of_models(scored.models)
    new = [_onboarded(router, scored, j) for j in range(len(scored.models))]
    pairs = predicted(router.over(ModelPool(new)), test), fixed_order(scored, test.models)
    here = ~np.isnan(test.score + test.cost_usd)
    rows = here.sum(axis=1) > 1
    score, cost, here = test.score[rows], test.cost_usd[rows], here[rows]
    number = np.arange(len(score))
    worth = []
    for reward in get_args(RewardName):
        utility = []
        for quality, cost_usd in pairs:
            found = (np.broadcast_to(x, test.score.shape)[rows] for x in (quality, cost_usd))
            chosen = sweep(*found, reward, WILLINGNESS, available=here)
            spent = cost[number, chosen] / np.array(WILLINGNESS)[:, None]
            utility.append((score[number, chosen] - spent).mean(axis=1))
        worth.append(utility[0] - utility[1])
    return np.array(worth)


def _onboarded(router: CrossRouter, scored: RoutingData, j: int) -> ModelDescriptor:
    model = scored.models[j]
    known = ModelPool.shipped().get(model) or ModelDescriptor(id=model)
    answers = [
        ScoredAnswer(
            prompt=scored.prompts[i],
            score=float(scored.score[i, j]),
            cost_usd=float(scored.cost_usd[i, j]),
        )
        for i in np.flatnonzero(~np.isnan(scored.score[:, j] + scored.cost_usd[:, j]))
    ]
    return onboard(router, known.model_copy(update={"learned": None}), answers)


if __name__ == "__main__":
    main()
