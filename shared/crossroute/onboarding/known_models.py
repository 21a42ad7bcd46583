"""What onboarding compares a new model with: the models that were measured."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError
from crossroute.models.descriptor import Learned, ModelDescriptor, rounded
from crossroute.models.pool import ModelPool
from crossroute.network.checkpoint import Checkpoint, fits
from crossroute.network.embeddings import Embeddings
from crossroute.network.encoders import QueryEncoder

FloatArray = NDArray[np.float64]

SHORTEST_ANSWER = 10
"""Known models with fewer output tokens in the mean were not measured on whole answers."""


class Trained(Protocol):
    """What onboarding needs of a router: `CrossRouter` has it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The trained network."""

    @property
    def pool(self) -> ModelPool:
        """The candidates."""

    @property
    def encoder(self) -> QueryEncoder:
        """What turns queries into vectors."""


CostTarget = Literal["output_tokens", "usd"]


class CostOffset(NamedTuple):
    """The length in an embedding, and what it is the logarithm of."""

    target: CostTarget
    offset: float


class KnownModels(NamedTuple):
    """The known models of a router: only what was measured says what a new model is like."""

    models: list[ModelDescriptor]
    of: Embeddings
    """The parts of their embeddings."""
    in_tokens: NDArray[np.bool_]
    """[k] whether cost is learned in output tokens."""

    @classmethod
    def of_router(cls, router: Trained, *, without: str) -> KnownModels:
        """Those that the router's network knows, the shipped ones among them.

        Args:
            router: The router.
            without: Id of the new model.

        Raises:
            DataError: If there is none.
        """
        # The shipped models are known, too, whichever of them are candidates.
        found = [
            (model, model.learned)
            for model in {**ModelPool.shipped(), **router.pool}.values()
            if model.learned
            and model.learned.source != "guess"
            and model.id != without
            and fits(router.checkpoint, model)
        ]
        if not found:
            raise DataError(f"{without}: the pool has no other measured model to compare it with.")
        embeddings = np.array([learned.embedding for _, learned in found], np.float64)
        return cls(
            models=[model for model, _ in found],
            of=router.checkpoint.network.layout.split(embeddings),
            in_tokens=np.array([learned.cost_target == "output_tokens" for _, learned in found]),
        )

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [model.id for model in self.models]

    def mean(self, weights: FloatArray) -> Embeddings:
        """The mean of the models by weight, as the embedding [1, ...] of one model.

        What it knows is what most of them, by weight, know.
        """
        share = weights / weights.sum()
        mean = Embeddings(*(np.asarray(share @ part)[None] for part in self.of))
        return mean._replace(knows=np.asarray(mean.knows >= 0.5, np.float64))

    def cost_like(self, descriptor: ModelDescriptor, weights: FloatArray) -> CostOffset:
        """What a model costs that is like these, by weight: its own price for as many tokens.

        Without a price, or where no like model was learned in tokens, it costs what they cost.
        """
        target: CostTarget = "usd"
        if descriptor.price is not None and weights[self.in_tokens].any():
            target = "output_tokens"
        among = self.in_tokens == (target == "output_tokens")
        # Models that were measured on answers of one letter say nothing of how long answers are.
        whole = among & (self.of.length >= math.log(SHORTEST_ANSWER))
        if target == "output_tokens" and weights[whole].any():
            among = whole
        if not weights[among].any():
            raise DataError(
                f"{descriptor.id}: nothing says what its answers cost: add a price to its "
                "descriptor, or cost_usd to its scores."
            )
        order = np.argsort(self.of.length[among])
        reached = np.cumsum(weights[among][order]) >= weights[among].sum() / 2
        return CostOffset(target, float(self.of.length[among][order][reached][0]))


def with_embedding(
    descriptor: ModelDescriptor, router: Trained, embedding: Embeddings, **facts: object
) -> ModelDescriptor:
    """The descriptor with an embedding [1, ...] for the router's checkpoint, and facts."""
    numbers = router.checkpoint.network.layout.join(embedding)[0]
    learned = Learned.model_validate(
        {"cost_target": "usd", "examples": 0, **facts}
        | {"checkpoint": router.checkpoint.id, "embedding": rounded(numbers.tolist())}
    )
    return descriptor.model_copy(update={"learned": learned})
