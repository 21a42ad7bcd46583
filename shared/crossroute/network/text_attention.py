"""How much a question attends to each of several texts: no training, no labels.

Scaled dot-product attention of the question over the texts, with vectors of length sqrt(d) that are
projected so that what all texts share weighs less (`scripts/fit_text_attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from crossroute.network.encoders import QueryEncoder, shared_encoder

# The last digits of a sum depend on the processor and on the order of the texts: with float32 they
# would show in what is made of the scores.
FloatArray = NDArray[np.float64]

FILE = files("crossroute") / "assets" / "text_attention.safetensors"

CACHED_TEXTS = 4096


class TextAttention:
    """Compares texts with a question, by an encoder; each text is encoded once.

    Args:
        encoder: Makes the vectors; the static encoder that ships if None, which is fast and knows
            words, not sentences. Vectors of another encoder are compared as they are.
    """

    def __init__(self, encoder: QueryEncoder | None = None) -> None:
        self._projected = encoder is None
        self._encoder: QueryEncoder = shared_encoder() if encoder is None else encoder
        self._key = lru_cache(CACHED_TEXTS)(self._vector)

    def __reduce__(self) -> tuple[type[TextAttention], tuple[QueryEncoder | None]]:
        # What remembers vectors cannot be pickled, and with it no router that has agents.
        return TextAttention, (None if self._projected else self._encoder,)

    def scores(self, question: str, texts: Sequence[str]) -> FloatArray:
        """How well each text fits the question, [n]; a share of attention is the softmax of it."""
        return self.scores_of(question, self.keys(texts))

    def scores_of(self, question: str, keys: FloatArray) -> FloatArray:
        """`scores` of texts whose vectors are at hand, [n]."""
        return np.asarray(keys @ self._vector(question) / np.sqrt(keys.shape[1]))

    def likeness(self, question: str, texts: Sequence[str]) -> FloatArray:
        """The cosine of the question with each text, [n], from -1 to 1."""
        keys = self.keys(texts)
        return np.asarray(keys @ self._vector(question) / keys.shape[1])

    def keys(self, texts: Sequence[str]) -> FloatArray:
        """The vectors of texts, [n, d]."""
        return np.array([self._key(text) for text in texts]).reshape(
            len(texts), self._encoder.dimension
        )

    def _vector(self, text: str) -> FloatArray:
        """The vector of a text, [d], of length sqrt(d)."""
        vector = self._encoder.encode([text])[0].astype(np.float64)
        if self._projected:
            mean, projection = _projection()
            vector = (vector - mean) @ projection
        norm = max(float(np.linalg.norm(vector)), 1e-9)
        return np.asarray(vector * (np.sqrt(vector.size) / norm))


@cache
def _projection() -> tuple[FloatArray, FloatArray]:
    """Mean [d] and projection [d, d] of the static encoder's vectors."""
    tensors = load(FILE.read_bytes())
    return tensors["mean"].astype(np.float64), tensors["projection"].astype(np.float64)
