"""CrossRoute: a cost-aware LLM router.

from crossroute import CrossRouter

decision = CrossRouter.default().route("What is 17 * 23?", willingness_to_pay=0.01)
print(decision.explain())
"""

from __future__ import annotations

from crossroute.budget.pacer import BudgetPacer
from crossroute.constraints import Constraints, Stay
from crossroute.cooldown import Cooldown
from crossroute.decision import CandidateScore, Decision
from crossroute.errors import (
    BudgetSpentError,
    CheckpointError,
    ConstraintError,
    ContextError,
    CostLimitError,
    CrossRouteError,
    DailySpendError,
    DataError,
    DescriptorError,
    EncoderMismatchError,
    InfeasibleError,
    MissingExtraError,
    NoAnswerError,
    NoCandidateError,
    PoolError,
    QueryError,
    RestingError,
    StrategyError,
    UnfinishedAnswerError,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.models.descriptor import Learned, ModelDescriptor, Provider
from crossroute.models.followed_folder import FollowedFolder
from crossroute.models.pool import ModelPool
from crossroute.models.price import Price
from crossroute.network.encoders import QueryEncoder, SentenceTransformersEncoder, StaticEncoder
from crossroute.onboarding.scores import ScoredAnswer
from crossroute.query import Query
from crossroute.router import DEFAULT_WILLINGNESS_TO_PAY, CrossRouter
from crossroute.serving import Predictions
from crossroute.spend import DailySpend
from crossroute.topsis import Topsis

__all__ = [
    "DEFAULT_WILLINGNESS_TO_PAY",
    "BudgetPacer",
    "BudgetSpentError",
    "CandidateScore",
    "CheckpointError",
    "ConstraintError",
    "Constraints",
    "ContextError",
    "Cooldown",
    "CostLimitError",
    "CrossRouteError",
    "CrossRouter",
    "DailySpend",
    "DailySpendError",
    "DataError",
    "Decision",
    "DescriptorError",
    "EncoderMismatchError",
    "FollowedFolder",
    "InfeasibleError",
    "Learned",
    "MissingExtraError",
    "ModelDescriptor",
    "ModelPool",
    "NoAnswerError",
    "NoCandidateError",
    "PoolError",
    "Predictions",
    "Price",
    "Provider",
    "Query",
    "QueryEncoder",
    "QueryError",
    "RestingError",
    "ScoredAnswer",
    "SentenceTransformersEncoder",
    "StaticEncoder",
    "Stay",
    "StrategyError",
    "Topsis",
    "UnfinishedAnswerError",
    "UnknownModelError",
    "WillingnessToPayError",
]
