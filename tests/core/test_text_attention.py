"""TextAttention: what CrossRouteTextSelector and contexts compare texts by."""

from __future__ import annotations

import numpy as np
import pytest

from crossroute import StaticEncoder
from crossroute.network.text_attention import TextAttention

TEXTS = ["Holidays and sick leave.", "Salaries, bonuses and taxes.", "", "税金"]


def test_scores_are_the_likeness_times_the_root_of_the_dimension() -> None:
    attention = TextAttention()
    likeness = attention.likeness("Why is my salary taxed?", TEXTS)
    scores = attention.scores("Why is my salary taxed?", TEXTS)
    assert scores == pytest.approx(likeness * np.sqrt(StaticEncoder().dimension))
    assert likeness.argmax() == 1
    assert (abs(likeness) <= 1 + 1e-9).all()


def test_vectors_of_another_encoder_are_compared_as_they_are() -> None:
    encoder = StaticEncoder()
    vectors = encoder.encode([*TEXTS, "taxes"]).astype(np.float64)
    assert TextAttention(encoder).likeness("taxes", TEXTS) == pytest.approx(
        vectors[:-1] @ vectors[-1], abs=1e-5
    )


def test_nothing_to_compare() -> None:
    assert TextAttention().scores("Why?", []).shape == (0,)
