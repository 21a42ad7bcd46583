"""Candidates that rest after failures, and ceilings on what is spent a day."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import (
    ASKS,
    LARGE,
    MINI,
    QUESTION,
    SMALL,
    TEXT,
    WAYS,
    Make,
    StatusError,
    answer_of,
    asked,
    scripted,
    text_of,
)
from openai_server import OpenAIServer, Reply

from crossroute import (
    ConstraintError,
    Cooldown,
    CrossRouter,
    DailySpend,
    DailySpendError,
    UnknownModelError,
)
from llamaindex_crossroute import CrossRouteLLM, call_settings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing() -> dict[str, Any]:
    models = scripted()
    object.__setattr__(models[SMALL], "error", StatusError(429))
    return models


@pytest.mark.parametrize("way", WAYS)
async def test_who_fails_rests_and_is_tried_again(way: str) -> None:
    clock, models = Clock(), failing()
    cooldown = Cooldown(failures=2, rest_seconds=30, clock=clock)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, cooldown=cooldown)
    for _ in range(2):
        found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
        assert [one["model"] for one in found["attempts"]] == [SMALL]
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found["model"] == MINI
    assert "attempts" not in found
    assert found["removed"][SMALL] == "rests for 30 s more, as it has failed"
    assert len(models[SMALL]._asked) == 2
    clock.now += 30
    object.__setattr__(models[SMALL], "error", None)
    for _ in range(2):
        found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
        assert found["model"] == SMALL
        assert SMALL not in found["removed"]


@pytest.mark.parametrize("way", WAYS)
async def test_by_default_three_failures_make_it_rest(way: str) -> None:
    models = failing()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    for _ in range(5):
        await answer_of(way, llm)
    assert len(models[SMALL]._asked) == 3
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, cooldown=None)
    for _ in range(5):
        await answer_of(way, llm)
    assert len(models[SMALL]._asked) == 8


@pytest.mark.parametrize("way", ASKS)
async def test_a_server_says_when_to_ask_again(server: OpenAIServer, make: Make, way: str) -> None:
    server.answers[MINI] = Reply("too many", status=429, retry_after="120")
    clock = Clock()
    llm = make(cooldown=Cooldown(most_rest_seconds=300, clock=clock))
    for _ in range(2):
        answer = await answer_of(way, llm)
        assert text_of(answer) == TEXT
    assert asked(server) == [MINI, LARGE, LARGE]
    removed = answer.additional_kwargs["crossroute"]["removed"]
    assert removed[MINI] == "rests for 120 s more, as it has failed"
    clock.now += 120
    server.answers[MINI] = Reply(TEXT)
    await answer_of(way, llm)
    assert asked(server)[3:] == [MINI]


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_without_budget_is_no_candidate(way: str, router: CrossRouter) -> None:
    spend = DailySpend(by_model={SMALL: 0.1})
    models = scripted(raw={"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0}})
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, daily_spend=spend)
    assert (await answer_of(way, llm)).additional_kwargs["crossroute"]["model"] == SMALL
    price = router.pool[SMALL].price
    assert price is not None
    assert spend.spent == {SMALL: pytest.approx(price.cost_usd(1_000_000, 0))}
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found["model"] == MINI
    assert found["removed"][SMALL].endswith("were spent today, of its $0.10 a day")


@pytest.mark.parametrize("way", WAYS)
async def test_when_all_is_spent_nothing_is_asked(way: str, tmp_path: Path) -> None:
    spend = DailySpend(usd=1, file=tmp_path / "spend.sqlite")
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, daily_spend=spend)
    await answer_of(way, llm)
    DailySpend(file=tmp_path / "spend.sqlite").add(LARGE, 1)
    with pytest.raises(DailySpendError, match="Nothing was asked"):
        await answer_of(way, llm)
    assert [len(model._asked) for model in models.values()].count(0) == 2


@pytest.mark.parametrize("way", ["stream_complete", "astream_complete"])
async def test_a_stream_that_is_left_is_counted(way: str) -> None:
    spend = DailySpend(usd=1)
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0, daily_spend=spend)
    chunks: Any = getattr(llm, way)(QUESTION)
    if way.startswith("a"):
        chunks = await chunks
        await anext(chunks)
        await chunks.aclose()
    else:
        next(chunks)
        chunks.close()
    assert list(spend.spent) == [SMALL]
    assert 0 < spend.spent[SMALL] < 1e-4


async def test_a_forced_model_is_asked_though_it_rests() -> None:
    models = failing()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, cooldown=Cooldown(failures=1))
    llm.complete(QUESTION)
    object.__setattr__(models[SMALL], "error", None)
    with call_settings(model=SMALL):
        assert llm.complete(QUESTION).text == f"I am {SMALL}."
    assert llm.complete(QUESTION).text == f"I am {SMALL}."


def test_a_copy_keeps_the_ceiling_and_is_not_written_down() -> None:
    spend = DailySpend(usd=1)
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0, daily_spend=spend)
    again = copy.deepcopy(llm)
    spend.add(LARGE, 1)
    with pytest.raises(DailySpendError):
        again.complete(QUESTION)
    assert not {"cooldown", "daily_spend"} & llm.to_dict().keys()


def test_settings_that_make_no_sense() -> None:
    wrong: Any = 30
    with pytest.raises(ConstraintError, match="cooldown is 30"):
        CrossRouteLLM(models=scripted(), cooldown=wrong)
    with pytest.raises(ConstraintError, match="daily_spend is 30"):
        CrossRouteLLM(models=scripted(), daily_spend=wrong)
    with pytest.raises(UnknownModelError, match="nobody"):
        CrossRouteLLM(models=scripted(), daily_spend=DailySpend(by_model={"nobody": 1}))
