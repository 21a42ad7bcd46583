"""TaughtEncoder: what tells which agent a query is for."""

from __future__ import annotations

import numpy as np

from crossroute import QueryEncoder, StaticEncoder
from crossroute.network.encoders.taught import taught_encoder


def test_vectors_are_of_length_one_whatever_else_is_encoded() -> None:
    encoder = taught_encoder()
    assert isinstance(encoder, QueryEncoder)
    texts = ["Rents cars.", "Where do you keep the keys?", "税金"]
    vectors = encoder.encode([*texts, ""])
    assert vectors.shape == (4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(vectors[1], encoder.encode(texts[1:2])[0])
    np.testing.assert_allclose(np.linalg.norm(encoder.prompts, axis=1), 1)


def test_it_hears_the_telling_word_among_others() -> None:
    pair = ["Could you please tell me what to do about a mortgage?", "Mortgages"]
    plain, taught = (
        float(np.prod(encoder.encode(pair), axis=0).sum())
        for encoder in (StaticEncoder(), taught_encoder())
    )
    assert taught > plain + 0.15
