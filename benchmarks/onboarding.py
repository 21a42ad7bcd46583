"""What a model is worth that was onboarded from n scored answers, beside one that was trained.

    python benchmarks/onboarding.py zeroeval.jsonl.gz

The models are divided in four groups by a fixed permutation. Each group in turn is held out: a
router is trained on the answers of the others, then every held-out model is onboarded from its
answers to n training prompts, drawn at random some times (a draw is one for the whole group). All
is measured on the test rows: the quality of the whole pool (AIQ over the cost range of all its
models, relative to that of a router trained on everything), and the Brier score of the held-out
models' predicted quality.

- k-means: the held-out models' quality is that of UniRoute's profiles, their mean score in each of
  16 clusters of the training prompts (the overall mean where a cluster has none), their cost ours.
- without: the pool of the other models only.
- guess: no score; price and family are all that is known.

Prints a Markdown table: the mean over groups and draws, and in brackets the range of the middle
95 % of them. Under half an hour on 2 busy cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from crossroute import CrossRouter, ModelDescriptor, ModelPool, StaticEncoder
from crossroute.evaluation.metrics import Hull, brier, realised, sweep
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.guess import guess
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.training.data import RoutingData
from crossroute.training.train import train

FloatArray = NDArray[np.float64]

GROUPS = 4
SCORES = (20, 50, 100, 200, 500)
CLUSTERS = 16
HEADINGS = (
    "n",
    "onboarded, of (a)",
    "k-means (b), of (a)",
    "without (c), of (a)",
    "Brier: onboarded",
    "mean of n",
    "trained (a)",
    "share of models below their mean",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--split", default="test", help="rows to measure on")
    arguments = parser.parse_args()
    if not arguments.file.is_file():
        print(f"Skipped: there is no file {arguments.file}; give the path of zeroeval.jsonl.gz.")
        return
    data = RoutingData.load([arguments.file])
    groups = np.array_split(np.random.default_rng(0).permutation(data.models), GROUPS)
    _say("training on all models")
    bench = Bench(data, arguments.split)
    found: dict[str, list[Row]] = {}
    for number, group in enumerate(groups):
        held = [str(model) for model in group]
        _say(f"training without {', '.join(held)}")
        rest = [model for model in data.models if model not in held]
        router = train(data.of_models(rest), known=ModelPool.shipped())
        found.setdefault("guess", []).append(bench.measure(router, held, None))
        for n in SCORES:
            for draw in range(arguments.draws):
                order = np.random.default_rng([number, draw]).permutation(len(bench.past))
                row = bench.measure(router, held, order[:n])
                found.setdefault(str(n), []).append(row)
    print("|", " | ".join(HEADINGS), "|")
    print("|---" * len(HEADINGS) + "|")
    for n, rows in found.items():
        print("|", n, "|", " | ".join(map(_cell, np.array(rows).T)), "|")


Row = tuple[float, ...]
"""One number a heading after the first; NaN where there is none."""


class Bench:
    """The rows to measure on, and a router that was trained on everything."""

    def __init__(self, data: RoutingData, split: str) -> None:
        self.rows = data.of_split(split).complete()
        self.past = data.without_test().of_split("train").complete()
        self.known = ModelPool.shipped()
        self.full = train(data, known=self.known)
        means = self.rows.cost_usd.mean(axis=0)
        self.range = float(means.min()), float(means.max())
        self.trained, cost = self._predict(self.full)
        self.full_aiq = self._aiq(self.trained, cost)
        encoder = StaticEncoder()
        clusters = KMeans(CLUSTERS, n_init=3, random_state=0)
        self.past_cluster = clusters.fit_predict(encoder.encode(self.past.prompts))
        self.cluster = clusters.predict(encoder.encode(self.rows.prompts))

    def measure(
        self, router: CrossRouter, held: Sequence[str], chosen: NDArray[np.intp] | None
    ) -> Row:
        """Onboard the models `held` from the chosen past rows, or by a guess if None."""
        others = list(router.pool.values())
        new = [
            guess(router, self._bare(model))
            if chosen is None
            else onboard(router, self._bare(model), self._answers(model, chosen))
            for model in held
        ]
        quality, cost = self._predict(router.over(ModelPool([*others, *new])))
        columns = [self.rows.models.index(model) for model in held]
        kept = [j for j in range(len(self.rows.models)) if j not in columns]
        score = self.rows.score[:, columns]
        ours = self._aiq(quality, cost)
        without = self._aiq(quality[:, kept], cost[:, kept], kept)
        errors = ((quality[:, columns] - score) ** 2).mean(axis=0)
        clustered, mean, below = np.nan, np.nan, np.nan
        if chosen is not None:
            profiled = quality.copy()
            profiled[:, columns] = np.stack([self._profile(m, chosen) for m in held], axis=1)
            clustered = self._aiq(profiled, cost)
            means = self._scores(held, chosen).mean(axis=0)
            mean = brier(np.broadcast_to(means, score.shape), score)
            below = float((errors < ((means - score) ** 2).mean(axis=0)).mean())
        relative = [aiq / self.full_aiq for aiq in (ours, clustered, without)]
        trained = brier(self.trained[:, columns], score)
        return (*relative, float(errors.mean()), mean, trained, below)

    def _bare(self, model: str) -> ModelDescriptor:
        return self.known[model].model_copy(update={"learned": None})

    def _answers(self, model: str, chosen: NDArray[np.intp]) -> list[ScoredAnswer]:
        j = self.past.models.index(model)
        return [
            ScoredAnswer(
                prompt=self.past.prompts[i],
                score=self.past.score[i, j],
                cost_usd=self.past.cost_usd[i, j],
            )
            for i in chosen.tolist()
        ]

    def _scores(self, models: Sequence[str], chosen: NDArray[np.intp]) -> FloatArray:
        return self.past.score[np.ix_(chosen, [self.past.models.index(m) for m in models])]

    def _profile(self, model: str, chosen: NDArray[np.intp]) -> FloatArray:
        """UniRoute's prediction of a model's quality: its mean score in the query's cluster."""
        score, cluster = self._scores([model], chosen)[:, 0], self.past_cluster[chosen]
        quality = np.full(CLUSTERS, score.mean())
        for k in np.unique(cluster):
            quality[k] = score[cluster == k].mean()
        return np.asarray(quality[self.cluster])

    def _predict(self, router: CrossRouter) -> tuple[FloatArray, FloatArray]:
        """Quality and cost, in the order of the rows' models."""
        found = router.predict(self.rows.prompts)
        columns = [found.models.index(model) for model in self.rows.models]
        return found.quality[:, columns], found.cost_usd[:, columns]

    def _aiq(
        self, quality: FloatArray, cost: FloatArray, columns: Sequence[int] | None = None
    ) -> float:
        rows = self.rows
        score, paid = rows.score, rows.cost_usd
        if columns is not None:
            score, paid = score[:, columns], paid[:, columns]
        return Hull.of(*realised(sweep(quality, cost), score, paid)).aiq(*self.range)


def _cell(values: FloatArray) -> str:
    if np.isnan(values).all():
        return "-"
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{values.mean():.4f} ({low:.3f} to {high:.3f})"


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
