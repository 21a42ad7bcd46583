"""Query encoders: text to vectors."""

from __future__ import annotations

from crossroute.network.encoders.base import (
    EncoderSignature,
    QueryEncoder,
    load_encoder,
    shared_encoder,
    sign,
)
from crossroute.network.encoders.sentence_transformers import SentenceTransformersEncoder
from crossroute.network.encoders.static import StaticEncoder

__all__ = [
    "EncoderSignature",
    "QueryEncoder",
    "SentenceTransformersEncoder",
    "StaticEncoder",
    "load_encoder",
    "shared_encoder",
    "sign",
]
