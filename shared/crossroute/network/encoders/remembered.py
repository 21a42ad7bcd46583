"""An encoder that reads each text once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossroute.network.encoders.base import QueryEncoder


class Remembered:
    """Another encoder, whose vectors are kept: for texts that are read again and again.

    Args:
        encoder: What makes the vectors.
    """

    def __init__(self, encoder: QueryEncoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """That of the other encoder."""
        return self._encoder.name

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn texts into vectors [n, dimension]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._encoder.encode(new), strict=True))
        return np.array([self._vectors[text] for text in texts], np.float32).reshape(
            len(texts), self.dimension
        )
