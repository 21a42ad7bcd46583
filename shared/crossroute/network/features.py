"""What the network reads of queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossroute.asked import LEAST_TOKENS
from crossroute.network.encoders import QueryEncoder
from crossroute.query import FORM_FEATURES, Query

FloatArray = NDArray[np.float32]

LARGEST_INPUT = 8.0
"""Standardised features are cut off here."""


@dataclass(frozen=True)
class Features:
    """Of n queries, with an encoder of dimension d.

    Attributes:
        kind: [n, d] the encoder's vector of what says the kind of task (`Query.kind`).
        text: [n, d] the encoder's vector of the text.
        form: [n, f] one number for each of `FORM_FEATURES`.
        asked: [n] log of the output tokens that are asked for, NaN where nothing is said.
        blank: [n] whether there is nothing to route by.
    """

    kind: FloatArray
    text: FloatArray
    form: FloatArray
    asked: NDArray[np.float64]
    blank: NDArray[np.bool_]

    @classmethod
    def of(cls, queries: Sequence[Query], encoder: QueryEncoder) -> Features:
        """Read queries."""
        # Of no text, an encoder need not know what to make.
        text = np.zeros((0, encoder.dimension), np.float32)
        if queries:
            text = encoder.encode([query.text for query in queries])
        # The vector of a short prompt, which is its own kind, is there already.
        other = [i for i, query in enumerate(queries) if query.kind != query.text]
        kind = text
        if other:
            kind = text.copy()
            kind[other] = encoder.encode([queries[i].kind for i in other])
        forms = [query.form for query in queries]
        asked = [_log_asked(query.asked) for query in queries]
        return cls(
            kind=kind,
            text=text,
            form=np.array(forms, np.float32).reshape(len(queries), len(FORM_FEATURES)),
            asked=np.array(asked, np.float64),
            blank=np.array([query.is_blank for query in queries], np.bool_),
        )

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Features:
        """Those of some of the queries."""
        return Features(
            self.kind[rows], self.text[rows], self.form[rows], self.asked[rows], self.blank[rows]
        )

    @staticmethod
    def concatenated(parts: Sequence[Features]) -> Features:
        """Those of several lists of queries, one after the other."""
        return Features(
            kind=np.concatenate([part.kind for part in parts]),
            text=np.concatenate([part.text for part in parts]),
            form=np.concatenate([part.form for part in parts]),
            asked=np.concatenate([part.asked for part in parts]),
            blank=np.concatenate([part.blank for part in parts]),
        )

    @property
    def of_instance(self) -> FloatArray:
        """[n, d + f]: text and form, which the attention reads."""
        return np.concatenate([self.text, self.form], axis=1)

    @property
    def of_all(self) -> FloatArray:
        """[n, 2 d + f]: kind, text and form, which tell the topic."""
        return np.concatenate([self.kind, self.text, self.form], axis=1)


def _log_asked(tokens: float | None) -> float:
    return math.nan if tokens is None else math.log(max(tokens, LEAST_TOKENS))


def standardise(features: FloatArray, mean: FloatArray, scale: FloatArray) -> NDArray[np.float64]:
    """Features as the network reads them: no stranger than anything it was trained on."""
    return clip(np.divide(features - mean, scale, dtype=np.float64), LARGEST_INPUT)


def standard(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and scale [D] of features [n, D] of which the last are the form's.

    The numbers of a vector have one scale in common: a scale of its own would blow up those of an
    encoder's directions that hardly vary.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    vectors = slice(0, features.shape[1] - len(FORM_FEATURES))
    deviation[vectors] = np.sqrt((deviation[vectors] ** 2).mean())
    return mean, np.maximum(deviation, 1e-3)


def clip(values: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Values cut off at plus and minus the limit."""
    # np.clip takes three times as long for the few numbers of one query.
    return np.asarray(np.minimum(np.maximum(values, -limit), limit))
