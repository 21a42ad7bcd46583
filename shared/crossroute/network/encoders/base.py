"""What an encoder is, and how a checkpoint knows its own again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from crossroute.errors import CheckpointError, EncoderMismatchError
from crossroute.network.encoders.sentence_transformers import SentenceTransformersEncoder
from crossroute.network.encoders.static import StaticEncoder

PROBE_TEXT = "Which of these models answers this question best, and what does it cost?"
PROBE_SIZE = 8
PROBE_TOLERANCE = 0.01


@runtime_checkable
class QueryEncoder(Protocol):
    """Anything that turns texts into vectors; implement these three to bring your own.

    Attributes:
        name: What the encoder is, such as `static` or `sentence-transformers:NAME`. A checkpoint
            stores it, so it must be the same wherever the encoder is the same.
        dimension: Length of its vectors.
    """

    @property
    def name(self) -> str:
        """What the encoder is."""
        ...

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode `texts` to unit vectors [n, dimension]."""
        ...


class EncoderSignature(BaseModel):
    """What a checkpoint remembers of its encoder: the name, and a vector that it made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(max_length=1_000)]
    dimension: Annotated[int, Field(gt=0, le=100_000)]
    probe: Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=PROBE_SIZE)]

    def check(self, encoder: QueryEncoder) -> None:
        """Refuse an encoder that does not make the vectors the checkpoint was trained on.

        Raises:
            EncoderMismatchError: If name, dimension or vectors differ.
        """
        found = sign(encoder)
        # The vectors decide, not the name: a model in a folder may have moved.
        same_size = (found.dimension, len(found.probe)) == (self.dimension, len(self.probe))
        if same_size and np.allclose(found.probe, self.probe, rtol=0, atol=PROBE_TOLERANCE):
            return
        if found.name != self.name:
            raise EncoderMismatchError(
                f"The checkpoint was trained on the encoder {self.name!r} "
                f"({self.dimension} dimensions), not on {found.name!r} ({found.dimension}). "
                "Load it with its own encoder, or train a checkpoint with this one."
            )
        raise EncoderMismatchError(
            f"The encoder {self.name!r} has the name of the checkpoint's encoder but makes other "
            "vectors: its weights are of another version. Install the version that the checkpoint "
            "was trained with, or train again."
        )


def sign(encoder: QueryEncoder) -> EncoderSignature:
    """The signature of an encoder, for a checkpoint to keep."""
    vector = encoder.encode([PROBE_TEXT])[0]
    return EncoderSignature(
        name=encoder.name,
        dimension=encoder.dimension,
        probe=tuple(round(float(x), 5) for x in vector[:PROBE_SIZE]),
    )


def load_encoder(name: str) -> QueryEncoder:
    """The encoder of that name: `static`, or `sentence-transformers:NAME_OR_FOLDER`.

    Raises:
        CheckpointError: If the name is of neither kind.
        MissingExtraError: If the encoder's package is not installed.
    """
    kind, _, model = name.partition(":")
    if name == StaticEncoder.name:
        return shared_encoder()
    if kind == SentenceTransformersEncoder.kind and model:
        return SentenceTransformersEncoder(model)
    raise CheckpointError(
        f"Unknown encoder {name!r}: use {StaticEncoder.name!r} or "
        f"'{SentenceTransformersEncoder.kind}:NAME', or pass your own object as encoder=."
    )


@lru_cache(maxsize=1)
def shared_encoder() -> StaticEncoder:
    """The static encoder, which never changes: all of a process share it."""
    return StaticEncoder()
