"""The routers that CrossRoute is compared with: published recipes, by scikit-learn if it can.

Each learns from one data set's `train` rows, is tuned on its `valid` rows over a grid of eight
settings, and reads the same features as CrossRoute. A baseline without a cost model of its own gets
one ridge regression of log cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import MissingExtraError
from crossroute.ranking import RewardName

try:
    from sklearn.cluster import KMeans
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVR
except ImportError as error:
    raise MissingExtraError("scikit-learn", "benchmark") from error

FloatArray = NDArray[np.float64]
Predict = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""Features [n, D] to predicted quality [n, m] and cost in USD [n, m]."""


@dataclass(frozen=True)
class Training:
    """What a baseline learns from: features [n, D], score and cost_usd [n, m], no gaps."""

    features: FloatArray
    score: FloatArray
    cost_usd: FloatArray
    seed: int


@dataclass(frozen=True)
class Baseline:
    """A recipe and the settings it may be tuned over.

    Attributes:
        name: As it stands in tables.
        fit: Learns from training data with one of the settings.
        grid: The settings; `form` says whether it reads the query's form beside its vector.
        reward: What it decides by.
        random: Whether the seed matters.
    """

    name: str
    fit: Callable[..., Predict]
    grid: tuple[Mapping[str, Any], ...]
    reward: RewardName = "exponential"
    random: bool = False


def _knn(data: Training, neighbours: int) -> Predict:
    model = KNeighborsRegressor(min(neighbours, len(data.features)), algorithm="brute")
    return _halves(model.fit(data.features, np.hstack([data.score, data.cost_usd])))


def _cluster(data: Training, clusters: int) -> Predict:
    """Means of score and cost in the query's cluster, after Avengers-Pro (arXiv 2508.12631)."""
    clusters = min(clusters, len(data.features))
    k_means = KMeans(clusters, n_init=3, random_state=data.seed).fit(data.features)
    targets = np.hstack([data.score, data.cost_usd])
    members = [targets[k_means.labels_ == k] for k in range(clusters)]
    # Of rows that are all alike, fewer clusters are made.
    means = np.stack([own.mean(axis=0) if len(own) else targets.mean(axis=0) for own in members])

    def predict(features: FloatArray) -> tuple[FloatArray, FloatArray]:
        found = means[k_means.predict(features)]
        quality, cost = np.hsplit(found, 2)
        return quality, cost

    return predict


def _ridge(data: Training, alpha: float) -> Predict:
    model = Ridge(alpha).fit(data.features, data.score)
    return _with_cost(data, model.predict)


def _mlp(data: Training, alpha: float) -> Predict:
    model = MLPRegressor(
        hidden_layer_sizes=(64,),
        alpha=alpha,
        early_stopping=True,
        max_iter=60,
        random_state=data.seed,
    )
    return _with_cost(data, model.fit(data.features, data.score).predict)


def _svm(data: Training, c: float) -> Predict:
    """Support vector regression a model, on a Nystroem map of the RBF kernel."""
    model = make_pipeline(
        Nystroem(n_components=min(300, len(data.features)), random_state=data.seed),
        MultiOutputRegressor(LinearSVR(C=c, loss="squared_epsilon_insensitive", dual=False)),
    )
    return _with_cost(data, model.fit(data.features, data.score).predict)


def _factorisation(data: Training, rank: int) -> Predict:
    from crossroute.training.factorisation import fit_factorisation

    return _with_cost(
        data,
        fit_factorisation(data.features, data.score, rank=rank, seed=data.seed),
    )


def _grid(**values: tuple[Any, ...]) -> tuple[Mapping[str, Any], ...]:
    """Every combination, each with and without the query's form among the features."""
    values["form"] = (False, True)
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


_NEIGHBOURS = _grid(neighbours=(10, 40, 160, 640))

BASELINES = (
    Baseline("kNN (k = 10)", _knn, ({"neighbours": 10, "form": False},)),
    Baseline("kNN", _knn, _NEIGHBOURS),
    Baseline("k-means cluster", _cluster, _grid(clusters=(8, 16, 32, 64)), random=True),
    Baseline("ridge", _ridge, _grid(alpha=(1e3, 1e4, 3e4, 1e5))),
    Baseline("MLP", _mlp, _grid(alpha=(1e-2, 1.0, 10.0, 100.0)), random=True),
    Baseline("SVM", _svm, _grid(c=(1e-3, 1e-2, 0.1, 1.0)), random=True),
    Baseline("matrix factorisation", _factorisation, _grid(rank=(2, 4, 8, 16)), random=True),
    Baseline("CARROT-like", _knn, _NEIGHBOURS, reward="linear"),
)


def _with_cost(data: Training, quality: Callable[[FloatArray], Any]) -> Predict:
    log_cost = np.log(np.maximum(data.cost_usd, 1e-9))
    model = Ridge(1.0).fit(data.features, log_cost)
    # The mean of exp(residual) makes the prediction a mean, not a median (Duan's smearing).
    smear = np.exp(log_cost - model.predict(data.features)).mean(axis=0)

    def predict(features: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.asarray(quality(features)), np.exp(model.predict(features)) * smear

    return predict


def _halves(model: Any) -> Predict:  # noqa: ANN401  (scikit-learn has no types)
    def predict(features: FloatArray) -> tuple[FloatArray, FloatArray]:
        quality, cost = np.hsplit(np.asarray(model.predict(features)), 2)
        return quality, cost

    return predict
