"""CrossRouteDecisionModel: CrossRoute as the classifier of LangChain's ModelRouterMiddleware."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import ConfigDict, Field, SkipValidation
from typing_extensions import override

from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    Constraints,
    CrossRouteError,
    CrossRouter,
    QueryError,
)
from crossroute.query import QueryLike
from langchain_crossroute.messages import to_query

try:
    from langchain_core.decisions import (  # type: ignore[import-not-found]
        BaseDecisionModel,
        Choice,
        ChoiceAnswer,
        ClassifierResponse,
    )
except ImportError as error:
    raise CrossRouteError(
        "CrossRouteDecisionModel needs langchain-core 1.8 or later, "
        f"{version('langchain-core')} is installed: pip install 'langchain-core>=1.8' "
        "'langchain>=1.5'. With an older one, use CrossRouteMiddleware."
    ) from error


class CrossRouteDecisionModel(BaseDecisionModel):  # type: ignore[misc]
    """Answers which of several models should serve, by predicted quality and cost.

    For LangChain's own `ModelRouterMiddleware`, whose choices are named by the ids of the pool:

        ModelRouterMiddleware(
            choices={
                "gpt-4o-2024-08-06": ModelChoice(model="openai:gpt-4o-2024-08-06", criteria=None),
                "gpt-4o-mini-2024-07-18": ModelChoice(model="openai:gpt-4o-mini", criteria=None),
            },
            instructions="Choose the model.",
            classifier=CrossRouteDecisionModel(willingness_to_pay=0.02),
        )

    It answers `Choice` questions; their instructions and criteria are not read, because the router
    knows the models. The choice is no draw: it has the probability 1, and the confidence is the
    predicted quality of the chosen model's answer.

    Args:
        router: Predicts quality and cost; the shipped router if None. Its pool may hold more models
            than the choices name.
        willingness_to_pay: lambda, USD a unit of quality.

    Raises:
        QueryError: If a question is no `Choice`, or the state is neither text nor messages.
        UnknownModelError: If a choice is not named by an id of the pool.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: str = "crossroute"
    router: CrossRouter = Field(default_factory=CrossRouter.default)
    willingness_to_pay: SkipValidation[float] = DEFAULT_WILLINGNESS_TO_PAY

    @property
    @override
    def _provider(self) -> str:
        return "crossroute"

    @override
    def _classify(self, state: Any, questions: dict[str, Any]) -> ClassifierResponse:
        query = to_query([state] if isinstance(state, BaseMessage) else state)
        answers = {name: self._answer(query, name, asked) for name, asked in questions.items()}
        return ClassifierResponse(model=self.model, answers=answers)

    def _answer(self, query: QueryLike, name: str, question: object) -> ChoiceAnswer:
        if not isinstance(question, Choice):
            raise QueryError(
                f"The question {name!r} is a {type(question).__name__}; CrossRoute answers Choice "
                "questions only, whose labels are ids of its models."
            )
        labels = list(question.criteria)
        decision = self.router.route(
            query, self.willingness_to_pay, constraints=Constraints(allowed=labels)
        )
        return ChoiceAnswer(
            type="choice",
            choice=decision.model,
            probabilities={label: float(label == decision.model) for label in labels},
            confidence=decision.quality,
        )
