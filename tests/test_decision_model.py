"""CrossRouteDecisionModel under LangChain's ModelRouterMiddleware, and without it."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import importlib
import importlib.util
import math
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from crossroute import CrossRouteError, CrossRouter, QueryError, UnknownModelError

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MEDIUM]
QUESTION = "Prove that there are infinitely many primes, and explain every step."
PRESENT = importlib.util.find_spec("langchain_core.decisions") is not None

needs_decisions = pytest.mark.skipif(
    not PRESENT, reason="langchain_core.decisions is there from langchain-core 1.8 on"
)


@pytest.mark.skipif(PRESENT, reason="langchain_core.decisions is installed")
def test_without_decisions_it_says_which_version_is_needed() -> None:
    with pytest.raises(CrossRouteError, match=r"langchain-core 1\.8 or later, .* is installed"):
        importlib.import_module("langchain_crossroute.decision_model")


def ask(classifier: Any, state: Any = QUESTION, **criteria: Any) -> Any:
    from langchain_core.decisions import Choice  # type: ignore[import-not-found]

    question = Choice(instructions="Which?", criteria=criteria or dict.fromkeys(MODELS))
    return classifier.invoke({"state": state, "questions": {"model": question}}).choices["model"]


@pytest.fixture
def classifier() -> Any:
    from langchain_crossroute.decision_model import CrossRouteDecisionModel

    return CrossRouteDecisionModel


@needs_decisions
@pytest.mark.parametrize("willingness", [0, math.inf])
@pytest.mark.parametrize("state", [QUESTION, HumanMessage(QUESTION), [HumanMessage(QUESTION)]])
def test_the_choice_is_the_routers(
    state: Any, willingness: float, classifier: Any, router: CrossRouter
) -> None:
    expected = router.subset(MODELS).route(QUESTION, willingness)
    answer = ask(classifier(willingness_to_pay=willingness), state)
    assert answer.choice == expected.model
    assert answer.confidence == pytest.approx(expected.quality)
    assert answer.probabilities == {model: float(model == expected.model) for model in MODELS}


@needs_decisions
async def test_the_choice_async(classifier: Any, router: CrossRouter) -> None:
    from langchain_core.decisions import Choice

    question = Choice(instructions="Which?", criteria=dict.fromkeys(MODELS))
    request = {"state": QUESTION, "questions": {"model": question}}
    answer = (await classifier(willingness_to_pay=0).ainvoke(request)).choices["model"]
    assert answer.choice == router.subset(MODELS).route(QUESTION, 0).model


@needs_decisions
def test_a_choice_that_is_no_model(classifier: Any) -> None:
    with pytest.raises(UnknownModelError, match="'fast' is not in the pool"):
        ask(classifier(), fast="Simple tasks.", powerful="Hard ones.")


@needs_decisions
def test_other_questions_and_states_are_refused(classifier: Any) -> None:
    from langchain_core.decisions import Noul

    questions = {"urgent": Noul(instructions="Is it urgent?")}
    with pytest.raises(QueryError, match="'urgent' is a Noul"):
        classifier().invoke({"state": QUESTION, "questions": questions})
    with pytest.raises(QueryError, match="type dict"):
        ask(classifier(), {"question": QUESTION})


@needs_decisions
@pytest.mark.filterwarnings("ignore:.*in beta")
@pytest.mark.parametrize("willingness", [0, math.inf])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_in_langchains_model_router_middleware(
    way: str, willingness: float, classifier: Any, router: CrossRouter
) -> None:
    from langchain.agents import create_agent
    from langchain.agents.middleware import (  # type: ignore[attr-defined]
        ModelChoice,
        ModelRouterMiddleware,
    )

    models = {model: FakeListChatModel(responses=[f"I am {model}."]) for model in MODELS}
    middleware = ModelRouterMiddleware(
        choices={id_: ModelChoice(model=model, criteria=None) for id_, model in models.items()},
        instructions="Choose the model.",
        classifier=classifier(willingness_to_pay=willingness),
    )
    agent: Any = create_agent(models[MEDIUM], middleware=[middleware])
    value = {"messages": [HumanMessage(QUESTION)]}
    state = agent.invoke(value) if way == "invoke" else await agent.ainvoke(value)
    expected = router.subset(MODELS).route(QUESTION, willingness).model
    assert state["messages"][-1].text == f"I am {expected}."
    assert state["model_route"].choice == expected
