"""The encoder that ships: static token embeddings distilled from all-MiniLM-L6-v2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

FOLDER = files("crossroute") / "assets" / "encoder"

_PLAIN = re.compile(r"[\t\n\r -~]*")
"""Text in which the tokenizer changes nothing but capitals before it splits it into words."""

_WORD = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
"""What the tokenizer splits such a text into: words, and each mark of punctuation by itself."""


COMMON_LENGTH = 3.3
"""Of a token's vector, which is learned: those of `what` and `please` are shorter, those of `York`
and `price` are not."""


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
        self._vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        self._model = self._tokenizer.model
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._added = [token.content for token in added]
        tensors = load_file(str(FOLDER / "embeddings.safetensors"))
        self._embeddings: NDArray[np.int8] = tensors["embeddings"]
        self._scales: NDArray[np.float32] = tensors["scales"]

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._embeddings.shape[1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode `texts` to unit vectors [n, dimension]; a text without known tokens is zero."""
        return unit(self.sums(texts)).astype(np.float32)

    def sums(
        self, texts: Sequence[str], weights: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """The sum of the token embeddings of each text, [n, dimension].

        Args:
            texts: What to encode.
            weights: What each token counts, [vocabulary]; 1 if None.
        """
        vectors = np.zeros((len(texts), self.dimension))
        for vector, text in zip(vectors, texts, strict=True):
            tokens = np.array(self.token_ids(text), np.intp)
            if tokens.size:
                # One matrix product: the sum of the rows, each times its scale.
                # In double precision: the last digits of single precision are the processor's.
                rows = self._embeddings.take(tokens, axis=0).astype(np.float64)
                scales = self._scales.take(tokens)
                vector[:] = (scales if weights is None else scales * weights.take(tokens)) @ rows
        return vectors

    def is_common(self, word: str) -> bool:
        """Whether a word is one token that says next to nothing of what a text is about."""
        tokens = self.token_ids(word)
        if len(tokens) != 1:
            return False
        vector = self._embeddings[tokens[0]] * self._scales[tokens[0]]
        return bool(np.linalg.norm(vector) < COMMON_LENGTH)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, as its tokenizer file says.

        Most words are tokens, and looking those up takes a fifth of the time that the tokenizer
        takes: it gets only the words that are not plain.
        """
        parts = [text]
        if not text.isascii():
            words = text.split(" ")
            parts = [" ".join(run) for _, run in groupby(words, key=str.isascii)]
        return [token for part in parts for token in self._tokens(part)]

    def _tokens(self, text: str) -> list[int]:
        if not _PLAIN.fullmatch(text) or any(token in text for token in self._added):
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        known, pieces = self._vocabulary, self._model.tokenize
        tokens: list[int] = []
        for word in _WORD.findall(text.lower()):
            if word in known:
                tokens.append(known[word])
            else:
                tokens += [piece.id for piece in pieces(word)]
        return tokens


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [n, d] divided by their length; one of no length stays."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))
