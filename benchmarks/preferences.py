"""What comparisons teach beside the scores that they were made of.

    python benchmarks/preferences.py ../shared/data/*.jsonl.gz --pairs all
    python benchmarks/preferences.py ../shared/data/*.jsonl.gz --pairs 1 --seeds 5

Of the answers to each prompt of the splits train and valid pairs are drawn, each with the two in
random order; the higher score wins, equal ones tie. A router is trained on lines of prompt, models
and winner alone, another on the scores, and their AIQ is compared on the test split. Prints it by
both rewards, and the difference in percent with its 95 % interval by paired bootstrap over the
prompts, in the mean over the draws. With --tasks the lines say the task of a prompt as the scored
rows do; with --bias a judge decides by sigmoid(3 (score - score) + bias) for the first answer.
About half a minute a set and draw on 2 cores.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crossroute import CrossRouter, ModelPool
from crossroute.evaluation.metrics import Hull, resamples, sweep
from crossroute.evaluation.references import cost_range, predicted, zero
from crossroute.ranking import RewardName
from crossroute.training.data import RoutingData
from crossroute.training.preferences import Preference, Preferences
from crossroute.training.train import train

RESAMPLES = 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="+", help="routing data")
    parser.add_argument("--pairs", default="all", help="of a prompt: all, or how many")
    parser.add_argument("--bias", type=float, default=0.0, help="of the judge, in logits")
    parser.add_argument("--tasks", action="store_true", help="say the tasks of prompts")
    parser.add_argument("--split", default="test", help="to compare on")
    parser.add_argument("--seeds", type=int, default=1, help="draws of pairs")
    arguments = parser.parse_args()
    shipped = ModelPool.shipped()
    print("| data | pairs | reward | Zero | scores | pairs | difference |")
    print("|---|---|---|---|---|---|---|")
    for file in arguments.files:
        data = RoutingData.load([file])
        test = data.of_split(arguments.split).complete(file.name)
        learned = data.without_test()
        on_scores = train(data, known=shipped)
        on_pairs, counts = [], []
        for seed in range(arguments.seeds):
            drawn = Preferences.from_rows(
                drawn_pairs(learned, arguments.pairs, arguments.bias, seed, tasks=arguments.tasks)
            )
            counts.append(len(drawn.pairs.row))
            on_pairs.append(train(preferences=drawn, known=shipped))
        rewards: tuple[RewardName, ...] = get_args(RewardName)
        single = aiq(zero(test.score), test)[0]
        for reward in rewards:
            scored = aiq(choices(on_scores, reward, test), test)
            paired = np.mean([aiq(choices(one, reward, test), test) for one in on_pairs], axis=0)
            low, high = 100 * np.quantile(paired[1:] / scored[1:] - 1, [0.025, 0.975])
            difference = 100 * (paired[0] / scored[0] - 1)
            print(
                f"| {data.names[0]} | {round(np.mean(counts)):,} | {reward} | {single:.4f} "
                f"| {scored[0]:.4f} | {paired[0]:.4f} "
                f"| {difference:+.2f} % ({low:+.2f} to {high:+.2f}) |",
                flush=True,
            )


def drawn_pairs(
    data: RoutingData, count: str, bias: float, seed: int, *, tasks: bool
) -> Iterator[Preference]:
    chance = random.Random(seed)  # noqa: S311
    for i in range(len(data)):
        answers = np.flatnonzero(~np.isnan(data.score[i])).tolist()
        pairs = list(itertools.combinations(answers, 2))
        if count != "all":
            pairs = chance.sample(pairs, min(int(count), len(pairs)))
        for pair in pairs:
            a, b = chance.sample(pair, 2)
            difference = float(data.score[i, a] - data.score[i, b])
            if bias and difference:
                wins = 1 / (1 + math.exp(-3 * difference - bias))
                difference = 1 if chance.random() < wins else -1
            yield Preference(
                prompt=data.prompts[i],
                model_a=data.models[a],
                model_b=data.models[b],
                winner="a" if difference > 0 else "b" if difference < 0 else "tie",
                dataset="pairs",
                task=str(data.task[i]) if tasks else None,
            )


def choices(router: CrossRouter, reward: RewardName, test: RoutingData) -> NDArray[np.intp]:
    return sweep(*predicted(router, test), reward)


def aiq(chosen: NDArray[np.intp], test: RoutingData) -> NDArray[np.float64]:
    """AIQ of choices [w, n] on all rows, then on each resample of them."""
    n = len(test)
    weights = np.concatenate([np.full((1, n), 1 / n), resamples(n, RESAMPLES) / n])
    # Neighbouring willingnesses to pay often choose alike: the hull needs each choice once.
    chosen, rows = np.unique(chosen, axis=0), np.arange(n)
    cost, score = test.cost_usd[rows, chosen], test.score[rows, chosen]
    return np.array(
        [
            Hull.of(cost @ weight, score @ weight).aiq(*cost_range(test.cost_usd, weight))
            for weight in weights
        ]
    )


if __name__ == "__main__":
    main()
