"""The encoder that ships: static token embeddings distilled from all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FOLDER = files("crossroute") / "assets" / "encoder"


class StaticEncoder:
    """The mean of static token embeddings, as a unit vector; no network, no torch.

    The token embeddings are distilled by model2vec and stored as 8-bit integers with one scale a
    token (`scripts/distill_encoder.py` makes the files).
    """

    name = "static"

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        tensors = load_file(str(FOLDER / "embeddings.safetensors"))
        self._embeddings: NDArray[np.int8] = tensors["embeddings"]
        self._scales: NDArray[np.float32] = tensors["scales"]

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._embeddings.shape[1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode `texts` to unit vectors [n, dimension]; a text without known tokens is zero."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for vector, encoding in zip(vectors, encodings, strict=True):
            if encoding.ids:
                # One matrix product: the mean of the rows, each times its scale.
                scales = self._scales[encoding.ids]
                vector[:] = scales @ self._embeddings[encoding.ids].astype(np.float32)
                vector /= max(float(np.linalg.norm(vector)), 1e-9)
        return vectors
