"""Any sentence-transformers model as encoder, behind the extra of that name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import CheckpointError, MissingExtraError
from crossroute.query import clip

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHARS_A_TOKEN = 3


class SentenceTransformersEncoder:
    """Wrap a sentence-transformers model; it is loaded when first used.

    Args:
        model: A name on the hub or a local folder, as `SentenceTransformer` takes it.
        device: Where it runs, such as `cpu` or `cuda`; chosen by the library if None.
    """

    kind = "sentence-transformers"

    def __init__(self, model: str, device: str | None = None) -> None:
        self._model_name = model
        self._device = device

    @property
    def name(self) -> str:
        """`sentence-transformers:NAME`."""
        return f"{self.kind}:{self._model_name}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise TypeError(f"{self._model_name} does not say the length of its vectors.")
        return dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode `texts` to unit vectors [n, dimension].

        The model sees a limited number of tokens, so a long text is cut in its middle first: its
        end holds the question.
        """
        limit = self._model.max_seq_length
        if limit:
            chars = int(limit) * CHARS_A_TOKEN
            texts = [clip(text, chars // 3, chars - chars // 3) for text in texts]
        vectors = self._model.encode(
            list(texts),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=len(texts) > 1_000,
        )
        return np.asarray(vectors, np.float32)

    @cached_property
    def _model(self) -> SentenceTransformer:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "sentence-transformers") from error
        try:
            return SentenceTransformer(self._model_name, device=self._device)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"The encoder {self.name!r} cannot be loaded: {error}") from error
