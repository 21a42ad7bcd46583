"""The routers that a plan compares, each measured on rows that it has not learned from."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import CrossRouteError, DataError, MissingExtraError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool
from crossroute.network.encoders.remembered import Remembered
from crossroute.network.predictor import HELD_BACK
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.query import Query
from crossroute.router import CrossRouter
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

SHIPPED, ONBOARDED, TRAINED = "as it ships", "onboarded", "trained"
"""How a router came to know the models, the simplest first."""

CAUTION = (0.0, 0.25, 0.5, 1.0)
"""In logits."""
FOLDS = 3
CALIBRATION = 0.5
"""Share of the rows that nothing is learned from."""
VALID = 0.2
"""Share of the rows to train on by which training chooses how far a query is believed."""
FEWEST_SCORES = 20
"""A model with fewer scores is not onboarded."""
FEWEST_TO_TRAIN = 100


class Parts(NamedTuple):
    """Which rows are for what; rows that ask the same are in one part.

    Attributes:
        calibration: [c] places of the rows that nothing is learned from, in random order.
        folds: Places of the other rows, in groups: what is said of one is learned from the others.
    """

    calibration: IntArray
    folds: tuple[IntArray, ...]

    @property
    def learning(self) -> IntArray:
        """[l] places of the rows that are learned from."""
        return np.sort(np.concatenate(self.folds))

    def among(self, kept: BoolArray) -> Parts:
        """The same parts where only some of the rows are left, [n] whether each is."""
        place = np.cumsum(kept) - 1
        calibration, *folds = (place[part[kept[part]]] for part in (self.calibration, *self.folds))
        return Parts(calibration, tuple(folds))

    @classmethod
    def of(cls, data: RoutingData, seed: int) -> Parts:
        """Divide rows at random."""
        group = data.question_numbers()
        rng = np.random.default_rng(seed)
        place = np.empty(group.max() + 1)
        place[rng.permutation(len(place))] = (np.arange(len(place)) + 0.5) / len(place)
        of_row = place[group]
        calibrating = of_row < CALIBRATION
        fold = ((of_row - CALIBRATION) / (1 - CALIBRATION) * FOLDS).astype(int)
        return cls(
            rng.permutation(np.flatnonzero(calibrating)),
            tuple(np.flatnonzero(~calibrating & (fold == number)) for number in range(FOLDS)),
        )


class Contender(NamedTuple):
    """A router, and what it says of all rows without having learned from them.

    Attributes:
        name: How it came to know the models.
        caution: By how many logits the quality of all models but the baseline is held back: a
            change of model has to promise more than it may.
        router: Learned from all learning rows, from no calibration row.
        quality: [n, m] predicted, NaN of a model that it does not know. Of calibration rows by
            `router`, of the others by one that learned from the other folds.
        cost_usd: [n, m] likewise.
    """

    name: str
    caution: float
    router: CrossRouter
    quality: FloatArray
    cost_usd: FloatArray


class Learn(Protocol):
    """Makes a router of rows."""

    def __call__(self, rows: IntArray) -> CrossRouter:
        """The router that learned from the rows at some places."""


def contenders(
    data: RoutingData,
    parts: Parts,
    base: CrossRouter,
    baseline: str,
    *,
    seed: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[list[Contender], list[str]]:
    """Every router that can be made for the models of some rows.

    Args:
        data: The rows.
        parts: Which of them are learned from.
        base: Knows some of the models, and what others are like.
        baseline: Id of the model that is not held back.
        seed: Of everything random.
        on_step: Called with what is being done.

    Returns:
        The routers, the simplest first, and why others could not be made.
    """
    found: list[Contender] = []
    missing = []
    # Each prompt is read once, whoever learns from it or predicts it.
    queries = [Query.of(prompt) for prompt in data.prompts]
    reading = CrossRouter(base.checkpoint, base.pool, encoder=Remembered(base.encoder))
    for name, learn in _ways(data, queries, reading, seed):
        try:
            measured = _measured(name, learn, data, queries, parts, baseline, on_step)
            found += [one._replace(router=_with_encoder(one.router, base)) for one in measured]
        except (CrossRouteError, MissingExtraError) as error:
            missing.append(f"The router {name} cannot be made: {error}")
    return found, missing


def _with_encoder(router: CrossRouter, other: CrossRouter) -> CrossRouter:
    """The router with the encoder of another one."""
    return CrossRouter(router.checkpoint, router.pool, encoder=other.encoder)


def _ways(
    data: RoutingData, queries: Sequence[Query], base: CrossRouter, seed: int
) -> Iterator[tuple[str, Learn]]:
    known = {model: _callable(base.pool[model]) for model in data.models if model in base.pool}
    learned = [model for model in known.values() if model.learned]
    if len(learned) > 1:
        shipped = base.over(ModelPool(learned))
        yield SHIPPED, lambda _: shipped
    yield ONBOARDED, lambda rows: _onboarded(data, queries, rows, base, known)
    # Rows with one answer each do not say which model is better on them.
    if (~np.isnan(data.score)).sum(axis=1).mean() > 1.5:
        yield TRAINED, lambda rows: _trained(taken(data, rows), known, base, seed)


def _callable(model: ModelDescriptor) -> ModelDescriptor:
    """A model that has answers: the rows say that it is served, whatever its descriptor says."""
    today = datetime.date.today()
    return model.model_copy(update={"retired": None}) if model.is_retired(today) else model


def _measured(
    name: str,
    learn: Learn,
    data: RoutingData,
    queries: Sequence[Query],
    parts: Parts,
    baseline: str,
    on_step: Callable[[str], None],
) -> list[Contender]:
    """One way to make a router, with each caution."""
    shape = (len(CAUTION), *data.score.shape)
    quality, cost = np.full(shape, np.nan), np.full(shape, np.nan)

    def predict(router: CrossRouter, rows: IntArray) -> list[CrossRouter]:
        routers = [_held_back(router, baseline, caution) for caution in CAUTION]
        asked = [queries[i] for i in rows]
        for k, one in enumerate(routers):
            found = one.predict(asked)
            columns = np.array([data.models.index(model) for model in found.models])
            quality[k][np.ix_(rows, columns)] = found.quality
            cost[k][np.ix_(rows, columns)] = found.cost_usd
        return routers

    for number, fold in enumerate(parts.folds, 1):
        others = np.setdiff1d(parts.learning, fold)
        if len(fold) and len(others):
            on_step(f"{name}, fold {number} of {len(parts.folds)}")
            predict(learn(others), fold)
    on_step(f"{name}, all learning rows")
    routers = predict(learn(parts.learning), parts.calibration)
    return [
        Contender(name, caution, router, quality[k], cost[k])
        for k, (caution, router) in enumerate(zip(CAUTION, routers, strict=True))
    ]


def _held_back(router: CrossRouter, baseline: str, caution: float) -> CrossRouter:
    """The same router, less sure of all models but one."""
    if not caution:
        return router
    models = []
    for model in router.pool.values():
        learned = model.learned
        if learned is not None and model.id != baseline:
            error = learned.quality_error + caution / HELD_BACK
            learned = learned.model_copy(update={"quality_error": error})
        models.append(model.model_copy(update={"learned": learned}))
    return router.over(ModelPool(models))


def taken(data: RoutingData, rows: Iterable[int]) -> RoutingData:
    """The rows at some places."""
    chosen = np.zeros(len(data), np.bool_)
    chosen[np.asarray(rows, np.intp)] = True
    return data.select(chosen)


def _onboarded(
    data: RoutingData,
    queries: Sequence[Query],
    rows: IntArray,
    base: CrossRouter,
    known: Mapping[str, ModelDescriptor],
) -> CrossRouter:
    """Each model's embedding from its scores alone, in the network that ships."""
    new = []
    answered = ~np.isnan(data.score + data.cost_usd)
    for j, model in enumerate(data.models):
        scores = [
            ScoredAnswer.model_construct(
                prompt=queries[i],
                score=float(data.score[i, j]),
                cost_usd=float(data.cost_usd[i, j]),
                output_tokens=_number(data.output_tokens[i, j]),
            )
            for i in rows[answered[rows, j]]
        ]
        if len(scores) >= FEWEST_SCORES:
            descriptor = known.get(model) or ModelDescriptor(id=model)
            new.append(onboard(base, descriptor, scores))
    return base.over(ModelPool(new))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _trained(
    data: RoutingData, known: Mapping[str, ModelDescriptor], base: CrossRouter, seed: int
) -> CrossRouter:
    """A network of its own, whose held-out rows say how far it is believed."""
    try:
        from crossroute.training.train import train
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    if len(data) < FEWEST_TO_TRAIN:
        raise DataError(f"{len(data)} rows are too few to train on; it takes {FEWEST_TO_TRAIN}.")
    group = data.question_numbers()
    held_out = np.random.default_rng(seed).random(group.max() + 1)[group] < VALID
    answers = (~np.isnan(data.score[~held_out])).sum(axis=0)
    kept = [model for model, n in zip(data.models, answers, strict=True) if n >= FEWEST_SCORES]
    rows = replace(data, split=np.where(held_out, "valid", "train")).of_models(kept)
    return train(rows, known=known, encoder=base.encoder, seed=seed)
