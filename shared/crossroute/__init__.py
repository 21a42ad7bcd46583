"""CrossRoute: a cost-aware LLM router.

from crossroute import CrossRouter

decision = CrossRouter.default().route("What is 17 * 23?", willingness_to_pay=0.01)
print(decision.explain())
"""

from __future__ import annotations

from crossroute.decision import CandidateScore, Decision
from crossroute.descriptor import Learned, ModelDescriptor, Price, Provider
from crossroute.encoders import QueryEncoder, SentenceTransformersEncoder, StaticEncoder
from crossroute.errors import (
    CheckpointError,
    CrossRouteError,
    DataError,
    DescriptorError,
    EncoderMismatchError,
    MissingExtraError,
    PoolError,
    QueryError,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.pool import ModelPool
from crossroute.query import Query
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter, Predictions

__all__ = [
    "DEFAULT_WILLINGNESS_TO_PAY",
    "CandidateScore",
    "CheckpointError",
    "CrossRouteError",
    "CrossRouter",
    "DataError",
    "Decision",
    "DescriptorError",
    "EncoderMismatchError",
    "Learned",
    "MissingExtraError",
    "ModelDescriptor",
    "ModelPool",
    "PoolError",
    "Predictions",
    "Price",
    "Provider",
    "Query",
    "QueryEncoder",
    "QueryError",
    "SentenceTransformersEncoder",
    "StaticEncoder",
    "UnknownModelError",
    "WillingnessToPayError",
]
