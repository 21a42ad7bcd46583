"""CrossRouter: the one door to a routing decision."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crossroute.checkpoint import Checkpoint, check_fit, models_folder
from crossroute.decision import CandidateScore, Decision
from crossroute.encoders import QueryEncoder, load_encoder
from crossroute.errors import CheckpointError, CrossRouteError, PoolError, QueryError
from crossroute.pool import ModelPool
from crossroute.predictor import Predictor, query_features
from crossroute.query import FORM_FEATURES, Query, QueryLike
from crossroute.reward import RewardName, check_willingness_to_pay, preference, rank, reward

FloatArray = NDArray[np.float64]

DEFAULT_WILLINGNESS_TO_PAY = 0.01
"""One cent a unit of quality; `crossroute.reward` says what that unit is."""

CHUNK = 512
"""Queries predicted at a time, which bounds the memory of a large batch."""


@dataclass(frozen=True)
class Predictions:
    """What n queries would get from m models.

    Attributes:
        models: Ids of the m models.
        quality: [n, m] predicted quality, 0..1.
        cost_usd: [n, m] predicted cost in USD.
        output_tokens: [n, m] predicted output tokens; NaN for a model that was trained on costs
            without token counts.
        input_tokens: [n] estimated input tokens.
    """

    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    output_tokens: FloatArray
    input_tokens: FloatArray


class CrossRouter:
    """Predicts quality and cost of every model of a pool for a query, and picks one.

    Immutable, and safe to share between threads.

    Args:
        checkpoint: The trained network.
        pool: The candidates, at least two, with embeddings of that checkpoint.
        encoder: The encoder that the checkpoint was trained on; found by its name if None.
        reward: `exponential` or `linear`.

    Raises:
        PoolError: If there are fewer than two models, or one does not fit the checkpoint.
        EncoderMismatchError: If the encoder is not the checkpoint's.
        ValueError: If there is no such reward.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        pool: ModelPool,
        *,
        encoder: QueryEncoder | None = None,
        reward: RewardName = "exponential",
    ) -> None:
        if reward not in get_args(RewardName):
            raise ValueError(f"reward is {reward!r}; it must be one of {get_args(RewardName)}.")
        if len(pool) < 2:
            raise PoolError(
                f"A router needs at least two models to choose from, the pool has {len(pool)}"
                f"{': ' + next(iter(pool)) if pool else ''}. Add one."
            )
        check_fit(checkpoint, pool)
        if encoder is None:
            encoder = load_encoder(checkpoint.encoder.name)
        checkpoint.encoder.check(encoder)
        expected = encoder.dimension + len(FORM_FEATURES)
        if len(checkpoint.network.input_mean) != expected:
            raise CheckpointError(
                f"The checkpoint's network reads {len(checkpoint.network.input_mean)} numbers a "
                f"query, its encoder and the form give {expected}. Train it again."
            )
        self._checkpoint = checkpoint
        self._pool = pool
        self._encoder = encoder
        self._reward: RewardName = reward
        self._predictor = Predictor(checkpoint.network, list(pool.values()))

    @classmethod
    def default(cls) -> CrossRouter:
        """The router of the shipped checkpoint; loaded once a process."""
        return _default()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        models: str | Path | None = None,
        encoder: QueryEncoder | None = None,
        reward: RewardName = "exponential",
    ) -> CrossRouter:
        """Load a checkpoint folder.

        Args:
            folder: What `save` or `crossroute train` wrote.
            models: Another folder of descriptors, made for this checkpoint, to use as the pool.
            encoder: The encoder it was trained on, where its name alone does not find it.
            reward: `exponential` or `linear`.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another version.
            DescriptorError: If a descriptor is not valid.
            PoolError: If the pool cannot be routed over.
        """
        checkpoint = Checkpoint.load(folder)
        pool = ModelPool.load(models if models is not None else models_folder(folder))
        return cls(checkpoint, pool, encoder=encoder, reward=reward)

    def save(self, folder: str | Path) -> None:
        """Write checkpoint and pool to a folder that `load` reads."""
        self._checkpoint.save(folder, self._pool)

    def subset(self, models: Iterable[str]) -> CrossRouter:
        """The same router over only these models of its pool.

        Raises:
            UnknownModelError: If an id is not in the pool.
            PoolError: If fewer than two are left.
        """
        return self.over(self._pool.subset(models))

    def over(self, pool: ModelPool) -> CrossRouter:
        """The same router over another pool, whose embeddings are of its checkpoint.

        Raises:
            PoolError: If the pool has fewer than two models, or one does not fit the checkpoint.
        """
        return CrossRouter(self._checkpoint, pool, encoder=self._encoder, reward=self._reward)

    @property
    def pool(self) -> ModelPool:
        """The candidates."""
        return self._pool

    @property
    def encoder(self) -> QueryEncoder:
        """What turns queries into vectors."""
        return self._encoder

    @property
    def reward(self) -> RewardName:
        """Name of the reward that orders the candidates."""
        return self._reward

    @property
    def checkpoint(self) -> Checkpoint:
        """The trained network and how it was trained."""
        return self._checkpoint

    def route(
        self, query: QueryLike, willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY
    ) -> Decision:
        """Choose the model for one query.

        Args:
            query: A prompt, or a conversation as messages in OpenAI's dict form.
            willingness_to_pay: lambda, USD a unit of quality; 0 takes the cheapest model,
                `math.inf` the best one.

        Raises:
            QueryError: If the query is empty or has not that form.
            WillingnessToPayError: If the willingness to pay is NaN or negative.
        """
        return self._decide([Query.of(query)], willingness_to_pay)[0]

    async def aroute(
        self, query: QueryLike, willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY
    ) -> Decision:
        """`route` in a worker thread: the event loop is not held up, whatever the encoder."""
        return await asyncio.to_thread(self.route, query, willingness_to_pay)

    def route_batch(
        self,
        queries: Sequence[QueryLike],
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
    ) -> list[Decision]:
        """Choose a model for each of several queries; see `route`."""
        return self._decide(_read(queries), willingness_to_pay)

    def predict(self, queries: Sequence[QueryLike]) -> Predictions:
        """Predict quality and cost of every model for every query.

        Raises:
            QueryError: If a query is empty; it is named by its position.
        """
        return self._predict(_read(queries))

    def _predict(self, queries: Sequence[Query]) -> Predictions:
        tokens = np.array([query.input_tokens for query in queries], np.float64)
        shape = (len(queries), len(self._pool))
        quality, cost, output = np.empty(shape), np.empty(shape), np.empty(shape)
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            quality[part], cost[part], output[part] = self._predictor.predict(
                query_features(queries[part], self._encoder), tokens[part]
            )
        return Predictions(tuple(self._pool), quality, cost, output, tokens)

    def _decide(self, queries: Sequence[Query], willingness_to_pay: float) -> list[Decision]:
        willingness = check_willingness_to_pay(willingness_to_pay)
        found = self._predict(queries)
        order = preference(self._reward, found.quality, found.cost_usd, willingness)
        rewards = reward(self._reward, found.quality, found.cost_usd, willingness)
        ranking = rank(order, found.quality, found.cost_usd)
        decisions = []
        for i, query in enumerate(queries):
            columns = zip(
                found.quality[i].tolist(),
                found.cost_usd[i].tolist(),
                rewards[i].tolist(),
                strict=True,
            )
            scores = [
                CandidateScore(model, *numbers)
                for model, numbers in zip(found.models, columns, strict=True)
            ]
            candidates = tuple(scores[j] for j in ranking[i])
            best = candidates[0]
            decisions.append(
                Decision(
                    model=best.model,
                    quality=best.quality,
                    cost_usd=best.cost_usd,
                    candidates=candidates,
                    willingness_to_pay=willingness,
                    reward=self._reward,
                    input_tokens=query.input_tokens,
                )
            )
        return decisions


@lru_cache(maxsize=1)
def _default() -> CrossRouter:
    with as_file(files("crossroute") / "assets" / "default") as folder:
        return CrossRouter.load(folder)


def _read(queries: Sequence[QueryLike]) -> list[Query]:
    if isinstance(queries, str):
        raise QueryError("Give a list of queries, not one string: [query].")
    read = []
    for position, query in enumerate(queries):
        try:
            read.append(Query.of(query))
        except CrossRouteError as error:
            raise QueryError(f"Query {position}: {error}") from error
    return read
