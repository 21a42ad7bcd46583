"""A budget for a whole batch: who answers which call is decided for all of them together."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import asyncio
import math
from operator import itemgetter
from typing import Any

import pytest
from fakes_langchain import BOTH, LARGE, MODELS, SMALL, SYSTEM, changed, decision_of, scripted
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from crossroute import BudgetPacer, ConstraintError, CrossRouter, InfeasibleError
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable

QUESTIONS = [
    f"Prove that there are infinitely many primes of the form {n}k + {r}, and explain every step."
    for n in (3, 4, 6, 8)
    for r in (1, 5)
]


def config(budget: float | None, **more: Any) -> dict[str, Any]:
    return {"configurable": {"crossroute_budget_usd": budget, **more}}


@pytest.fixture
def router(router: CrossRouter) -> CrossRouter:
    return CrossRouter.shipped().subset(MODELS)


def budgets(router: CrossRouter) -> tuple[float, float]:
    """One that just suffices, and the middle between that and the best that money buys."""
    cost = router.predict(QUESTIONS).cost_usd
    least, most = float(cost.min(axis=1).sum()), float(cost.max(axis=1).sum())
    return least * 1.001, (least + most) / 2


def run(router: Any, inputs: list[Any], settings: Any, way: str, **kwargs: Any) -> list[Any]:
    if way == "batch":
        return list(router.batch(inputs, settings, **kwargs))
    return list(asyncio.run(router.abatch(inputs, settings, **kwargs)))


@BOTH
@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_a_batch_keeps_to_its_budget(kind: Any, way: str, router: CrossRouter) -> None:
    least, middle = budgets(router)
    chat = kind(models=scripted(), router=router)
    poor, rich = (run(chat, QUESTIONS, config(usd), way) for usd in (least, middle))
    for answers, budget in ((poor, least), (rich, middle)):
        decisions = [decision_of(answer) for answer in answers]
        assert [f"I am {one['model']}." for one in decisions] == [one.text for one in answers]
        assert sum(one["cost_usd"] for one in decisions) <= budget
    assert {decision_of(answer)["model"] for answer in poor} == {SMALL}
    assert len({decision_of(answer)["model"] for answer in rich}) > 1


@BOTH
def test_every_call_of_a_batch_is_decided_as_allocate_does(kind: Any, router: CrossRouter) -> None:
    _, middle = budgets(router)
    expected = router.allocate(
        [[{"role": "user", "content": text}] for text in QUESTIONS], budget_usd=middle
    )
    answers = kind(models=scripted(), router=router).batch(QUESTIONS, config(middle))
    assert [decision_of(answer)["model"] for answer in answers] == expected.models


def test_a_chain_hands_the_budget_on(router: CrossRouter) -> None:
    least, _ = budgets(router)
    prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])
    chain = prompt | ChatCrossRoute(models=scripted(), router=router) | StrOutputParser()
    inputs = [{"question": text} for text in QUESTIONS]
    # With the system prompt, each call is a little longer.
    assert chain.batch(inputs, config(least * 1.5))


@BOTH
@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_a_budget_that_does_not_suffice_is_an_error_and_nothing_is_asked(
    kind: Any, way: str, router: CrossRouter
) -> None:
    models = scripted()
    with pytest.raises(InfeasibleError, match="does not pay for 8 queries"):
        run(kind(models=models, router=router), QUESTIONS, config(1e-9), way)
    assert not any(model.asked for model in models.values())


@BOTH
def test_what_is_no_budget_is_refused(kind: Any, router: CrossRouter) -> None:
    chat = kind(models=scripted(), router=router)
    with pytest.raises(ConstraintError, match="budget_usd is -1"):
        chat.batch(QUESTIONS, config(-1))
    with pytest.raises(ConstraintError, match="budget_usd is nan"):
        chat.batch(QUESTIONS, config(math.nan))
    with pytest.raises(ConstraintError, match="differs within one batch"):
        chat.batch(QUESTIONS[:2], [config(1.0), config(2.0)])
    with pytest.raises(ConstraintError, match="is the budget of a batch"):
        chat.invoke(QUESTIONS[0], config(1.0))
    with pytest.raises(ConstraintError, match="did you mean 'crossroute_budget_usd'"):
        chat.batch(QUESTIONS, {"configurable": {"crossroute_budget": 1.0}})
    assert chat.batch([], config(1.0)) == []
    assert len(chat.batch(QUESTIONS[:2], config(None))) == 2


@BOTH
def test_a_pacer_decides_alone(kind: Any, router: CrossRouter) -> None:
    chat = kind(models=scripted(), router=router, pacer=BudgetPacer(1.0, 100))
    with pytest.raises(ConstraintError, match="would both decide who answers"):
        chat.batch(QUESTIONS, config(1.0))
    assert len(chat.batch(QUESTIONS)) == len(QUESTIONS)


@BOTH
def test_other_settings_of_its_calls_hold(kind: Any, router: CrossRouter) -> None:
    chat = kind(models=scripted(), router=router)
    answers = chat.batch(QUESTIONS, config(1.0, crossroute_excluded=[LARGE]))
    assert LARGE not in {decision_of(answer)["model"] for answer in answers}
    each: Any = [config(1.0, crossroute_model=model) for model in MODELS]
    answers = chat.batch(QUESTIONS[:3], each)
    assert [decision_of(answer)["model"] for answer in answers] == MODELS


@BOTH
def test_who_fails_is_followed_by_another(kind: Any, router: CrossRouter) -> None:
    _, middle = budgets(router)
    models = changed({SMALL: {"error": ConnectionError("down")}})
    answers = kind(models=models, router=router).batch(QUESTIONS, config(middle))
    assert all(answer.text.startswith("I am ") for answer in answers)
    assert f"I am {SMALL}." not in [answer.text for answer in answers]


@BOTH
@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_an_input_that_cannot_be_routed_fails_alone(
    kind: Any, way: str, router: CrossRouter
) -> None:
    chat = kind(models=scripted(), router=router)
    inputs = [QUESTIONS[0], object(), QUESTIONS[1]]
    first, broken, last = run(chat, inputs, config(1.0), way, return_exceptions=True)
    assert isinstance(broken, Exception)
    assert first.text.startswith("I am ")
    assert last.text.startswith("I am ")
    for wrong, said in (([], "No model of the pool"), (["nobody"], "'nobody' is not in the pool")):
        each = [config(1.0), config(1.0, crossroute_allowed=wrong), config(1.0)]
        first, broken, last = run(chat, QUESTIONS[:3], each, way, return_exceptions=True)
        assert said in str(broken)
        assert last.text.startswith("I am ")


@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_an_input_that_cannot_be_read_fails_alone(way: str, router: CrossRouter) -> None:
    chat = CrossRouteRunnable(
        models={model: RunnableLambda(lambda value: value) for model in MODELS},
        router=router,
        query=itemgetter("question"),
    )
    inputs = [{"question": QUESTIONS[0]}, {}, {"question": QUESTIONS[1]}]
    first, broken, last = run(chat, inputs, config(1.0), way, return_exceptions=True)
    assert isinstance(broken, KeyError)
    assert (first, last) == (inputs[0], inputs[2])


def test_inputs_that_no_model_may_serve_do_not_take_long(
    router: CrossRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ChatCrossRoute(models=scripted(), router=router)
    each: Any = [config(1.0, crossroute_allowed=None if i % 2 else []) for i in range(8)]
    counts = []
    allocate = CrossRouter.allocate

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts.append(len(args[1]))
        return allocate(*args, **kwargs)

    monkeypatch.setattr(CrossRouter, "allocate", counted)
    answers = chat.batch(QUESTIONS, each, return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers] == [True, False] * 4
    assert counts == [8, 4]


def test_the_decision_of_a_call_is_not_that_of_a_router_within_it(router: CrossRouter) -> None:
    least, _ = budgets(router)
    dearest = ChatCrossRoute(models=scripted(), router=router, willingness_to_pay=math.inf)
    inner = []

    def query(value: Any) -> Any:
        inner.append(decision_of(dearest.invoke(value))["model"])
        return value

    CrossRouteRunnable(models=scripted(), router=router, query=query).batch(
        QUESTIONS, config(least * 1.01)
    )
    best = decision_of(dearest.invoke(QUESTIONS[0]))["model"]
    assert best != SMALL
    assert SMALL not in inner
