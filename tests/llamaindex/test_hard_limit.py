"""`hard_max_cost_usd`: what a call may cost at all, over HTTP and with fakes."""

# LlamaIndex's own signatures say Any.

from typing import Any

import pytest
from fakes_llamaindex import (
    CHATS,
    COMPLETIONS,
    LARGE,
    MINI,
    QUESTION,
    TOOL_CHATS,
    Make,
    Person,
    ScriptedLLM,
    ask,
    asked,
    multiply,
    native,
    responses,
    scripted,
)
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply
from pydantic import Field, PrivateAttr

from crossroute import ConstraintError, CrossRouter, NoCandidateError, Query
from crossroute.ceiling import Ceiling
from llamaindex_crossroute import CrossRouteLLM, call_settings
from llamaindex_crossroute.limits import within

USD = 0.002


def buys(router: CrossRouter, model: str, **spent: float) -> int:
    found = Ceiling(USD, router.pool, Query.of(QUESTION)).longest_answer(model, **spent)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_the_client_sends_what_the_limit_buys(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    with call_settings(hard_max_cost_usd=USD):
        _, decision = await ask(way, make())
    (request,) = server.requests
    assert request.body["max_tokens"] == decision["max_tokens"] == buys(router, MINI)


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_without_a_limit_nothing_is_sent(way: str, make: Make, server: OpenAIServer) -> None:
    _, decision = await ask(way, make())
    assert "max_tokens" not in server.requests[0].body
    assert "max_tokens" not in decision


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
async def test_the_next_candidate_gets_what_it_buys_there(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(status=503)
    with call_settings(hard_max_cost_usd=USD):
        await ask(way, make())
    assert asked(server) == [MINI, LARGE]
    assert [request.body["max_tokens"] for request in server.requests] == [
        buys(router, MINI),
        buys(router, LARGE),
    ]


@pytest.mark.parametrize("way", CHATS + COMPLETIONS)
@pytest.mark.parametrize("own", [77, 16_000])
async def test_the_candidates_own_limit(
    own: int, way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    # LlamaIndex's OpenAI prefers its own to that of a call.
    with call_settings(hard_max_cost_usd=USD):
        await ask(way, make(mini={"max_tokens": own}))
    assert server.requests[0].body["max_tokens"] == min(own, buys(router, MINI))


@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_with_tools(way: str) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    with call_settings(hard_max_cost_usd=USD):
        await responses(way, llm, [multiply], QUESTION)
    (given,) = [given for model in models.values() for given in model._given]
    assert 0 < given["max_tokens"] < 3_400


@pytest.mark.parametrize("names", [{}, {"max_tokens": 77}, {"max_completion_tokens": 77}])
def test_the_calls_own_limit(names: dict[str, int], router: CrossRouter) -> None:
    models = scripted(num_output=-1)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    with call_settings(hard_max_cost_usd=USD):
        llm.complete(QUESTION, **names)
    ((model, given),) = [(name, m._given[0]) for name, m in models.items() if m._given]
    assert given["max_tokens"] == (77 if names else buys(router, model))
    assert "max_completion_tokens" not in given


def test_a_prompt_that_takes_no_settings(make: Make, server: OpenAIServer) -> None:
    with call_settings(hard_max_cost_usd=USD):
        make().predict(PromptTemplate("What is {what}?"), what="the sea")
    assert 0 < server.requests[0].body["max_tokens"] < 3_400


def test_a_prompt_with_a_schema() -> None:
    models = native()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    with call_settings(hard_max_cost_usd=USD):
        llm.structured_predict(Person, PromptTemplate("Who is {who}?"), who="Ada")
    (given,) = [given for model in models.values() for given in model._given]
    assert 0 < given["max_tokens"] <= 1000
    # Its own way with a prompt takes no settings, and it has no limit of its own.
    with (
        call_settings(hard_max_cost_usd=USD),
        pytest.raises(ConstraintError, match="no way to limit"),
    ):
        llm.predict(PromptTemplate("Who is {who}?"), who="Ada")


def test_nobody_can_keep_it(make: Make, server: OpenAIServer) -> None:
    with (
        call_settings(hard_max_cost_usd=1e-7),
        pytest.raises(NoCandidateError, match="raise hard_max_cost_usd"),
    ):
        make().complete(QUESTION)
    assert not server.requests


# In the words of a provider


class Limited(ScriptedLLM):
    max_tokens: int = 512


class Ollama(ScriptedLLM):
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        return "Ollama_llm"


class Google(ScriptedLLM):
    _generation_config: dict[str, Any] = PrivateAttr(
        default_factory=lambda: {"max_output_tokens": 8000, "temperature": 0}
    )


def test_a_field_of_its_own() -> None:
    model = Limited(name="any")
    assert within(model, {"temperature": 0}, 300)[1] == {"temperature": 0, "max_tokens": 300}
    found: Any = within(model, None, 300)[0]
    assert (found.max_tokens, model.max_tokens) == (300, 512)
    assert within(model, {"max_tokens": 9000}, 900) == (model, {"max_tokens": 512})


def test_a_limit_that_a_strategy_sets_takes_the_place_of_others() -> None:
    model = Limited(name="any")
    found: Any
    given = {"max_tokens": 16, "max_completion_tokens": 500}
    found, settings = within(model, given, 16, exactly=True)
    assert (found.max_tokens, settings) == (16, {"max_tokens": 16})
    found, settings = within(model, {"max_tokens": 900}, 900, exactly=True)
    assert (found.max_tokens, settings, model.max_tokens) == (900, {"max_tokens": 900}, 512)


def test_ollama() -> None:
    model = Ollama(name="any", additional_kwargs={"seed": 1})
    found: Any
    found, settings = within(model, {"max_tokens": 500}, 300)
    assert (found.additional_kwargs, settings) == ({"seed": 1, "num_predict": 300}, {})
    assert model.additional_kwargs == {"seed": 1}
    short = Ollama(name="any", additional_kwargs={"num_predict": 50})
    found = within(short, None, 300)[0]
    assert found.additional_kwargs == {"num_predict": 50}


def test_google() -> None:
    model = Google(name="any")
    found: Any
    found, settings = within(model, {"max_tokens": 500}, 300)
    assert (found._generation_config, settings) == (
        {"max_output_tokens": 300, "temperature": 0},
        {},
    )
    assert model._generation_config["max_output_tokens"] == 8000


def test_openais_other_name() -> None:
    extra = {"max_completion_tokens": 9000}
    model = OpenAILike(model="any", additional_kwargs=extra, is_chat_model=True)
    found: Any
    found, settings = within(model, {}, 300)
    sent = found._get_model_kwargs(**(settings or {}))
    assert (sent["max_completion_tokens"], sent["max_tokens"]) == (300, 300)
