"""The static encoder, taught by all-MiniLM-L6-v2 which texts are alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from crossroute.network.encoders.base import shared_encoder
from crossroute.network.encoders.static import unit

FILE = files("crossroute") / "assets" / "taught.safetensors"


class TaughtEncoder:
    """The static token embeddings E_t of a text x, weighed and projected.

        z(x) = (u - m) P,    u = sum_t a_t E_t / |sum_t a_t E_t|

    a, m and P are fitted so that the vectors are like one another as those of a sentence encoder
    are (`scripts/fit_taught_encoder.py`; distillation as in arXiv 1503.02531). No torch is needed.

    Attributes:
        prompts: Centres of the vectors of prompts that models were trained to route,
            [32, dimension], unit vectors.
    """

    name = "static-taught"

    def __init__(self) -> None:
        tensors = load(FILE.read_bytes())
        self._static = shared_encoder()
        self._weights = tensors["weights"].astype(np.float32)
        self._mean = tensors["mean"].astype(np.float64)
        self._projection = tensors["projection"].astype(np.float64)
        self.prompts: NDArray[np.float64] = unit(tensors["prompts"].astype(np.float64))

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._projection.shape[1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode `texts` to unit vectors [n, dimension]; a text without known tokens is zero."""
        sums = unit(self._static.sums(texts, self._weights))
        known = sums.any(axis=1, keepdims=True)
        return unit((sums - self._mean * known) @ self._projection).astype(np.float32)


@cache
def taught_encoder() -> TaughtEncoder:
    """The one that ships; its file is read once, when it is first asked for."""
    return TaughtEncoder()
