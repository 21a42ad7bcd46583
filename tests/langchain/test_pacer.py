"""A budget that every form of a call keeps to."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    LARGE,
    MINI,
    QUESTION,
    SMALL,
    WAYS,
    agent_of,
    answer_of,
    changed,
    decision_of,
    output_of,
    run_agent,
    scripted,
    tool_callers,
)
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelRateLimitError

from crossroute import (
    BudgetPacer,
    BudgetSpentError,
    ConstraintError,
    CrossRouter,
    UnknownModelError,
)
from crossroute.strategies import Ask, Flow, Task
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_the_budget_says_what_a_call_may_cost(kind: Any, way: str) -> None:
    much, little = BudgetPacer(1000, 2), BudgetPacer(1e-3, 1000)
    for pacer, model in ((much, LARGE), (little, SMALL)):
        chat = kind(models=scripted(), pacer=pacer)
        found = decision_of(await output_of(way, chat, QUESTION))
        best = max(found["candidates"], key=lambda one: one["quality"])["model"]
        assert found["model"] == (best if model == LARGE else SMALL)
        assert found["reward"] == "linear"
        assert "call_id" not in found
        report = pacer.report()
        assert (report.requests, report.under_way_usd) == (1, 0)
        assert report.spent_usd > 0
        assert report.by_model[found["model"]].calls == 1


@pytest.mark.parametrize("way", ["generate", "agenerate", "v3", "av3"])
async def test_so_do_the_other_ways(way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    answer = await answer_of(way, ChatCrossRoute(models=scripted(), pacer=pacer), QUESTION)
    assert answer.text == f"I am {SMALL}."
    assert pacer.report().spent_usd > 0


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_what_it_really_costs_is_spent(
    kind: Any, way: str, router: CrossRouter, tmp_path: Path
) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "total_tokens": 1_000_000}
    pacer = BudgetPacer(0.1, 10_000, file=tmp_path / "budget.sqlite")
    models = scripted(usage=usage)
    chat = kind(models=models, pacer=pacer)
    assert decision_of(await output_of(way, chat, QUESTION))["model"] == SMALL
    price = router.pool[SMALL].price
    assert price is not None
    # As another process sees it, with the same file.
    report = BudgetPacer(0.1, 10_000, file=tmp_path / "budget.sqlite").report()
    assert report.spent_usd == pytest.approx(price.cost_usd(1_000_000, 0))
    # One request too much, and nothing is asked any more.
    with pytest.raises(BudgetSpentError, match="Nothing was asked"):
        await output_of(way, chat, QUESTION)
    assert [len(model.asked) for model in models.values()].count(0) == 2


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_who_answers_in_the_place_of_another_is_paid(kind: Any, way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    chat = kind(models=changed({SMALL: {"error": ModelRateLimitError("busy")}}), pacer=pacer)
    found = decision_of(await output_of(way, chat, QUESTION))
    assert [one["model"] for one in found["attempts"]] == [SMALL]
    report = pacer.report()
    assert [m for m, one in report.by_model.items() if one.spent_usd] == [found["model"]]
    assert report.under_way_usd == 0


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_fails_leaves_nothing_set_aside(kind: Any, way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    error = ModelRateLimitError("busy")
    models = changed({model: {"error": error} for model in (SMALL, MINI, LARGE)})
    chat = kind(models=models, pacer=pacer)
    with pytest.raises(ModelRateLimitError):
        await output_of(way, chat, QUESTION)
    report = pacer.report()
    assert (report.requests, report.spent_usd, report.under_way_usd) == (1, 0, 0)


@BOTH
def test_a_call_that_is_not_made_leaves_nothing_set_aside(kind: Any) -> None:
    class Refusing(BaseCallbackHandler):
        raise_error = True

        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            raise KeyError(name)

    pacer = BudgetPacer(1e-3, 1000)
    chat = kind(models=scripted(), pacer=pacer)
    with pytest.raises(KeyError):
        chat.invoke(QUESTION, {"callbacks": [Refusing()]})
    # The error held the call.
    gc.collect()
    report = pacer.report()
    assert (report.requests, report.spent_usd, report.under_way_usd) == (1, 0, 0)


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_is_left_is_counted(kind: Any, way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    chat = kind(models=scripted(), pacer=pacer)
    if way == "stream":
        chunks = chat.stream(QUESTION)
        next(chunks)
        assert pacer.report().under_way_usd > 0
        chunks.close()
    else:
        parts = chat.astream(QUESTION)
        await anext(parts)
        assert pacer.report().under_way_usd > 0
        await parts.aclose()
    report = pacer.report()
    assert 0 < report.spent_usd < 1e-4
    assert report.under_way_usd == 0


@BOTH
@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_in_shadow_what_is_set_aside_is_for_who_answers(kind: Any, way: str) -> None:
    pacer = BudgetPacer(0.05, 1000)
    chat = kind(models=scripted(), pacer=pacer, shadow=LARGE)
    cost = {one.model: one.cost_usd for one in chat.router.route(QUESTION).candidates}
    if way == "stream":
        chunks = chat.stream(QUESTION)
        next(chunks)
        aside = pacer.report().under_way_usd
        chunks.close()
    else:
        parts = chat.astream(QUESTION)
        await anext(parts)
        aside = pacer.report().under_way_usd
        await parts.aclose()
    # Twice of it, in the beginning.
    assert aside == pytest.approx(2 * cost[LARGE])
    assert pacer.report().by_model[LARGE].calls == 1


class AskTwo:
    """Ask two models, and give the second one's answer."""

    def answer(self, task: Task) -> Flow:
        yield Ask(SMALL, role="draft")
        reply = yield Ask(LARGE)
        return reply


@pytest.mark.parametrize("way", WAYS)
async def test_all_that_a_strategy_asks_is_spent(way: str) -> None:
    pacer = BudgetPacer(10, 1000)
    chat = ChatCrossRoute(models=scripted(), strategy=AskTwo(), pacer=pacer)
    await output_of(way, chat, QUESTION)
    report = pacer.report()
    assert {m: one.calls for m, one in report.by_model.items()} == {SMALL: 1, LARGE: 1}
    assert report.requests == 1


async def test_a_strategy_is_told_what_the_budget_does_not_pay_for() -> None:
    pacer = BudgetPacer(10, 1000, by_model={SMALL: 0})
    chat = ChatCrossRoute(models=scripted(), strategy=AskTwo(), pacer=pacer)
    answer = chat.invoke(QUESTION)
    assert answer.text == f"I am {LARGE}."
    assert "that are left of its own budget of $0.00" in str(decision_of(answer)["removed"][SMALL])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_middleware_keeps_to_a_budget(way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    await run_agent(way, agent_of(tool_callers(), pacer=pacer))
    report = pacer.report()
    assert report.requests == sum(one.calls for one in report.by_model.values()) == 1
    assert report.under_way_usd == 0
    with pytest.raises(BudgetSpentError):
        await run_agent(way, agent_of(tool_callers(), pacer=BudgetPacer(0, 1)))


def test_routers_may_share_a_budget() -> None:
    pacer = BudgetPacer(1e-3, 1000)
    first = ChatCrossRoute(models=scripted(), pacer=pacer)
    for router in (
        first,
        CrossRouteRunnable(models=scripted(), pacer=pacer),
        copy.deepcopy(first),
        first.bind(stop=["x"]),
        first.with_config(tags=["a"]),
    ):
        router.invoke(QUESTION)
    assert pacer.report().requests == 5


@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware])
def test_settings_that_make_no_sense(kind: Any) -> None:
    with pytest.raises(ConstraintError, match=r"pacer is 20; give crossroute\.BudgetPacer"):
        kind(models=scripted(), pacer=20)
    with pytest.raises(UnknownModelError, match="nobody"):
        kind(models=scripted(), pacer=BudgetPacer(1, 10, by_model={"nobody": 1}))
