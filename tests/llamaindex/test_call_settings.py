"""Settings of a single call."""

# LlamaIndex's own signatures say Any.

import asyncio
import math
from typing import Any

import pytest
from fakes_llamaindex import (
    CHATS,
    COMPLETIONS,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    answer_of,
    core_decision,
    scripted,
)

from crossroute import ConstraintError, NoCandidateError, UnknownModelError, WillingnessToPayError
from llamaindex_crossroute import CrossRouteLLM, call_settings


@pytest.mark.parametrize("way", [*CHATS, *COMPLETIONS])
@pytest.mark.parametrize(
    ("settings_of_call", "expected"),
    [
        ({"willingness_to_pay": math.inf}, core_decision(willingness=math.inf).model),
        ({"model": MINI}, MINI),
        ({"allowed": {LARGE}}, LARGE),
        ({"excluded": [SMALL, LARGE]}, MINI),
        ({"max_cost_usd": 1e-3}, SMALL),
        ({}, SMALL),
    ],
)
async def test_settings_of_a_call(
    way: str, settings_of_call: dict[str, Any], expected: str
) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)
    with call_settings(**settings_of_call):
        answer = await answer_of(way, llm)
    assert answer.additional_kwargs["crossroute"]["model"] == expected
    assert (await answer_of(way, llm)).additional_kwargs["crossroute"]["model"] == SMALL


def test_settings_nest() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)

    def model() -> str:
        found: str = llm.complete(QUESTION).additional_kwargs["crossroute"]["model"]
        return found

    with call_settings(excluded=[SMALL]):
        assert model() == MINI
        with call_settings(willingness_to_pay=math.inf):
            assert model() == LARGE
        with call_settings(excluded=[MINI]):
            assert model() == SMALL
        assert model() == MINI
    assert model() == SMALL


async def test_settings_of_calls_at_the_same_time_do_not_mix() -> None:
    llm = CrossRouteLLM(models=scripted())

    async def model(forced: str) -> str:
        with call_settings(model=forced):
            await asyncio.sleep(0)
            return str(await llm.acomplete(QUESTION))

    found = await asyncio.gather(*(model(forced) for forced in MODELS * 3))
    assert found == [f"I am {forced}." for forced in MODELS * 3]


@pytest.mark.parametrize(
    ("settings_of_call", "error"),
    [
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"allowed": SMALL}, ConstraintError),
        ({"max_cost_usd": -1}, ConstraintError),
    ],
)
def test_settings_that_make_no_sense(
    settings_of_call: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error), call_settings(**settings_of_call):
        pytest.fail("The block must not be entered.")
    assert str(CrossRouteLLM(models=scripted()).complete(QUESTION)).startswith("I am ")


def test_settings_with_an_unknown_model() -> None:
    llm = CrossRouteLLM(models=scripted())
    with call_settings(model="no-such-model"), pytest.raises(UnknownModelError):
        llm.complete(QUESTION)


def test_settings_that_leave_nobody() -> None:
    llm = CrossRouteLLM(models=scripted())
    with call_settings(max_cost_usd=0), pytest.raises(NoCandidateError, match=r"limit is \$0.00"):
        llm.complete(QUESTION)
