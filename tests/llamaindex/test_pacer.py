"""A budget that every form of a call keeps to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import LARGE, QUESTION, SMALL, WAYS, StatusError, answer_of, scripted

from crossroute import (
    BudgetPacer,
    BudgetSpentError,
    ConstraintError,
    CrossRouter,
    UnknownModelError,
)
from llamaindex_crossroute import CrossRouteLLM


@pytest.mark.parametrize("way", WAYS)
async def test_the_budget_says_what_a_call_may_cost(way: str) -> None:
    much, little = BudgetPacer(1000, 2), BudgetPacer(1e-3, 1000)
    for pacer, model in ((much, LARGE), (little, SMALL)):
        llm = CrossRouteLLM(models=scripted(), pacer=pacer)
        found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
        best = max(found["candidates"], key=lambda one: one["quality"])["model"]
        assert found["model"] == (best if model == LARGE else SMALL)
        report = pacer.report()
        assert (report.requests, report.under_way_usd) == (1, 0)
        assert report.by_model[found["model"]].spent_usd > 0


@pytest.mark.parametrize("way", WAYS)
async def test_what_it_really_costs_is_spent(way: str, router: CrossRouter, tmp_path: Path) -> None:
    pacer = BudgetPacer(0.1, 10_000, file=tmp_path / "budget.sqlite")
    models = scripted(raw={"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0}})
    llm = CrossRouteLLM(models=models, pacer=pacer)
    assert (await answer_of(way, llm)).additional_kwargs["crossroute"]["model"] == SMALL
    price = router.pool[SMALL].price
    assert price is not None
    report = BudgetPacer(0.1, 10_000, file=tmp_path / "budget.sqlite").report()
    assert report.spent_usd == pytest.approx(price.cost_usd(1_000_000, 0))
    with pytest.raises(BudgetSpentError, match="Nothing was asked"):
        await answer_of(way, llm)
    assert [len(model._asked) for model in models.values()].count(0) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_fails_leaves_nothing_set_aside(way: str) -> None:
    pacer, models = BudgetPacer(1e-3, 1000), scripted()
    for model in models.values():
        object.__setattr__(model, "error", StatusError(429))
    llm = CrossRouteLLM(models=models, pacer=pacer)
    with pytest.raises(StatusError):
        await answer_of(way, llm)
    report = pacer.report()
    assert (report.requests, report.spent_usd, report.under_way_usd) == (1, 0, 0)


@pytest.mark.parametrize("way", ["stream_complete", "astream_complete"])
async def test_a_stream_that_is_left_is_counted(way: str) -> None:
    pacer = BudgetPacer(1e-3, 1000)
    llm = CrossRouteLLM(models=scripted(), pacer=pacer)
    chunks: Any = getattr(llm, way)(QUESTION)
    if way.startswith("a"):
        chunks = await chunks
        await anext(chunks)
        await chunks.aclose()
    else:
        next(chunks)
        chunks.close()
    report = pacer.report()
    assert 0 < report.spent_usd < 1e-4
    assert report.under_way_usd == 0


def test_a_copy_shares_the_budget_and_it_is_not_written_down() -> None:
    pacer = BudgetPacer(1e-3, 1000)
    llm = CrossRouteLLM(models=scripted(), pacer=pacer)
    copy.deepcopy(llm).complete(QUESTION)
    llm.complete(QUESTION)
    assert pacer.report().requests == 2
    assert "pacer" not in llm.to_dict()


def test_settings_that_make_no_sense() -> None:
    wrong: Any = 20
    with pytest.raises(ConstraintError, match="pacer is 20"):
        CrossRouteLLM(models=scripted(), pacer=wrong)
    with pytest.raises(UnknownModelError, match="nobody"):
        CrossRouteLLM(models=scripted(), pacer=BudgetPacer(1, 10, by_model={"nobody": 1}))
