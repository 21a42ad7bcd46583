"""CrossRouteLLM where an LLM stands: who answers, what the answer carries, what it takes."""

# LlamaIndex's own signatures say Any.

import asyncio
import json
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
    SECRET,
    SMALL,
    STREAMS,
    TOOL_CHATS,
    WAYS,
    Author,
    Recorder,
    answer_of,
    answers_of,
    core_decision,
    scripted,
    user,
)
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from pydantic import ValidationError

from crossroute import ConstraintError, PoolError, UnknownModelError, WillingnessToPayError
from llamaindex_crossroute import CrossRouteLLM


@pytest.mark.parametrize("way", [*CHATS, *COMPLETIONS])
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_the_model_that_the_core_chooses_answers(way: str, willingness: float) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=willingness)
    answer = await answer_of(way, llm, temperature=0.5)

    expected = core_decision(willingness=willingness)
    assert str(answer).endswith(f"I am {expected.model}.")
    [asked] = models[expected.model]._asked
    assert asked == (QUESTION if way in COMPLETIONS else user(QUESTION))
    assert models[expected.model]._given[0]["temperature"] == 0.5
    assert sum(len(model._asked) for model in models.values()) == 1


def test_the_ends_of_the_scale_choose_different_models() -> None:
    assert core_decision(willingness=0).model != core_decision(willingness=math.inf).model


@pytest.mark.parametrize("way", WAYS)
async def test_the_answer_carries_decision_and_realised_cost(way: str) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=math.inf)
    found = dict((await answer_of(way, llm)).additional_kwargs["crossroute"])

    price = llm.router.pool[found["model"]].price
    realised = {
        "input_tokens": 50,
        "output_tokens": 70,
        "cached_tokens": 0,
        "cost_usd": pytest.approx(price.cost_usd(50, 70)),
    }
    assert found.pop("realised") == realised
    assert found.pop("bill") == {
        "asks": [{"model": found["model"], "role": "answer", **realised, "estimated": False}],
        "cost_usd": realised["cost_usd"],
        "estimated": False,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    if way not in TOOL_CHATS:
        assert found == core_decision(willingness=math.inf).to_dict()


@pytest.mark.parametrize("way", STREAMS)
async def test_each_chunk_of_a_stream_carries_the_decision(way: str) -> None:
    chunks = await answers_of(way, CrossRouteLLM(models=scripted()))
    assert len(chunks) > 3
    found = [chunk.additional_kwargs["crossroute"] for chunk in chunks]
    assert len({decision["model"] for decision in found}) == 1
    assert ["realised" in decision for decision in found] == [False] * (len(found) - 1) + [True]
    if way not in TOOL_CHATS:
        assert "".join(chunk.delta for chunk in chunks).startswith("I am ")


def test_a_stream_passes_tokens_when_they_are_made() -> None:
    models = scripted()
    stream = CrossRouteLLM(models=models, willingness_to_pay=0).stream_chat(user(QUESTION))
    next(stream)
    [model] = [model for model in models.values() if model._asked]
    assert not model._closed
    stream.close()
    assert model._closed == [True]


async def test_an_async_stream_that_is_left_is_closed() -> None:
    models = scripted()
    stream = await CrossRouteLLM(models=models, willingness_to_pay=0).astream_chat(user(QUESTION))
    await anext(stream)
    [model] = [model for model in models.values() if model._asked]
    assert not model._closed
    await stream.aclose()
    await asyncio.sleep(0.01)  # The loop closes what is left.
    assert model._closed == [True]


async def test_async_calls_run_beside_each_other() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0.001)
    questions = [QUESTION, "What is the capital of France?", "Write a haiku about rain."] * 5
    answers = await asyncio.gather(*(llm.achat(user(question)) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        model = answer.additional_kwargs["crossroute"]["model"]
        assert model == core_decision(question, 0.001).model
        assert answer.message.content == f"I am {model}."


def test_the_response_of_the_candidate_is_not_touched(events: Recorder) -> None:
    answer = CrossRouteLLM(models=scripted()).chat(user(QUESTION))
    [end] = events.of(LLMChatEndEvent)
    assert "crossroute" in answer.additional_kwargs
    assert end.response.additional_kwargs == {}


def test_predict_and_a_system_prompt() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, system_prompt="Be brief.")
    prompt = PromptTemplate("Translate: {text}")
    assert llm.predict(prompt, text="Guten Tag") == f"I am {SMALL}."
    assert asyncio.run(llm.apredict(prompt, text="Guten Tag")) == f"I am {SMALL}."
    assert "".join(llm.stream(prompt, text="Guten Tag")) == f"I am {SMALL}."
    for messages in models[SMALL]._asked:
        assert [message.content for message in messages] == ["Be brief.", "Translate: Guten Tag"]


def test_candidates_that_only_complete() -> None:
    models = scripted(is_chat_model=False)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.predict(PromptTemplate("Translate: {text}"), text="Guten Tag") == f"I am {SMALL}."
    assert models[SMALL]._asked == ["Translate: Guten Tag"]
    assert models[SMALL]._given == [{"formatted": True}]


# Metadata, dumps, arguments


def test_metadata_is_the_intersection() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models)
    assert llm.metadata == LLMMetadata(
        context_window=128_000,  # of the descriptors; the models say 200,000
        num_output=1000,
        is_chat_model=True,
        is_function_calling_model=True,
        model_name="crossroute",
    )
    object.__setattr__(models[SMALL], "window", 5000)
    object.__setattr__(models[SMALL], "is_chat_model", False)
    object.__setattr__(models[LARGE], "num_output", 300)
    object.__setattr__(models[MINI], "num_output", -1)
    object.__setattr__(models[MINI], "calls_functions", False)
    assert llm.metadata == LLMMetadata(context_window=5000, num_output=300, model_name="crossroute")
    plain = {**models, LARGE: MockLLM(is_chat_model=True)}
    assert not CrossRouteLLM(models=plain).metadata.is_function_calling_model


def test_nothing_secret_is_shown() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0.5)
    texts = [
        repr(llm),
        str(llm),
        llm.to_json(),
        llm.model_dump_json(),
        str(llm.to_dict()),
        str(llm.to_payload()),
        repr(llm.as_structured_llm(Author)),
    ]
    for text in texts:
        assert SECRET not in text
    assert repr(llm) == f"CrossRouteLLM(models={MODELS!r}, willingness_to_pay=0.5)"
    assert llm.to_dict()["class_name"] == "CrossRouteLLM"
    with pytest.raises(ValidationError) as caught:
        CrossRouteLLM(models={SMALL: SECRET, LARGE: SECRET})
    assert SECRET not in str(caught.value)


def test_typos_in_arguments_are_errors() -> None:
    with pytest.raises(ValidationError, match="willingnes_to_pay"):
        CrossRouteLLM(models=scripted(), willingnes_to_pay=0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"willingness_to_pay": math.nan}, WillingnessToPayError),
        ({"willingness_to_pay": "a lot"}, WillingnessToPayError),
        ({"attempts": 0}, ConstraintError),
        ({"stay_margin": -0.1}, ConstraintError),
        ({"models": {LARGE: MockLLM()}}, PoolError),
        ({"models": {LARGE: MockLLM(), "no-such-model": MockLLM()}}, UnknownModelError),
        ({"rate_limiter": TokenBucketRateLimiter(requests_per_minute=1)}, ValueError),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        CrossRouteLLM(**{"models": scripted(), **arguments})
    assert type(caught.value) is error


def test_models_are_copied() -> None:
    models: dict[str, LLM] = dict(scripted())
    llm = CrossRouteLLM(models=models)
    models.clear()
    assert str(llm.complete(QUESTION)).startswith("I am ")
