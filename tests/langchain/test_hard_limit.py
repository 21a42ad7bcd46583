"""`crossroute_hard_max_cost_usd`: what a call may cost at all, over HTTP and with fakes."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from typing import Any

import pytest
from fakes_langchain import (
    CALLS,
    LARGE,
    MINI,
    QUESTION,
    ROUTERS,
    TEXT,
    WAYS,
    Capital,
    Make,
    Person,
    ToolCaller,
    agent_of,
    answer_of,
    asked,
    decision_of,
    output_of,
    person,
    run_agent,
    scripted,
    tool_callers,
    weather,
    with_the_tool,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel

from crossroute import ConstraintError, CrossRouter, NoCandidateError, Query
from crossroute.ceiling import Ceiling
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.limits import within

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

USD = 0.002
LIMITED = {"configurable": {"crossroute_hard_max_cost_usd": USD}}
SENT = "max_completion_tokens"
"""What OpenAI calls it."""


def buys(router: CrossRouter, model: str, usd: float = USD, spent: float = 0.0) -> int:
    found = Ceiling(usd, router.pool, Query.of(QUESTION)).longest_answer(model, spent_usd=spent)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", CALLS)
async def test_the_client_sends_what_the_limit_buys(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    answer = await output_of(way, make(kind), QUESTION, LIMITED)
    (request,) = server.requests
    assert request.body[SENT] == decision_of(answer)["max_tokens"] == buys(router, MINI)
    assert "max_tokens" not in request.body
    price = router.pool[MINI].price
    assert price is not None
    assert price.cost_usd(50, request.body[SENT]) <= USD


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("way", ["batch", "abatch"])
async def test_in_a_batch(
    way: str, kind: type[Any], make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    await output_of(way, make(kind), QUESTION, LIMITED)
    assert [request.body[SENT] for request in server.requests] == [buys(router, MINI)]


@pytest.mark.parametrize("way", CALLS)
async def test_without_a_limit_nothing_is_sent(way: str, make: Make, server: OpenAIServer) -> None:
    answer = await output_of(way, make(), QUESTION)
    assert not {SENT, "max_tokens"} & server.requests[0].body.keys()
    assert "max_tokens" not in decision_of(answer)


@pytest.mark.parametrize("way", CALLS)
async def test_the_next_candidate_gets_what_it_buys_there(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply(status=503)
    answer = await output_of(way, make(), QUESTION, LIMITED)
    assert asked(server) == [MINI, LARGE]
    assert [request.body[SENT] for request in server.requests] == [
        buys(router, MINI),
        buys(router, LARGE),
    ]
    assert decision_of(answer)["max_tokens"] == buys(router, LARGE)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_refused_answer_was_paid_for(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    server.answers[MINI] = Reply("", refusal="I will not.", input_tokens=20, output_tokens=1000)
    answer = await output_of(way, make(pass_refusals=True), QUESTION, LIMITED)
    price = router.pool[MINI].price
    assert price is not None
    first, second = (request.body[SENT] for request in server.requests)
    assert first == buys(router, MINI)
    assert second == buys(router, LARGE, spent=float(price.cost_usd(20, 1000)))
    assert decision_of(answer)["bill"]["cost_usd"] <= USD


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize(
    "make_smaller",
    [
        lambda make: (make(mini={"max_tokens": 77}), {}),
        lambda make: (make(max_tokens=77), {}),
        lambda make: (make(), {"max_tokens": 77}),
        lambda make: (make(), {"max_completion_tokens": 77}),
    ],
    ids=["the candidate's", "the router's", "the call's", "the call's in OpenAI's words"],
)
async def test_a_smaller_limit_stays(
    make_smaller: Any, way: str, make: Make, server: OpenAIServer
) -> None:
    routed, kwargs = make_smaller(make)
    await output_of(way, routed, QUESTION, LIMITED, **kwargs)
    assert server.requests[0].body[SENT] == 77
    assert "max_tokens" not in server.requests[0].body


@pytest.mark.parametrize("way", CALLS)
async def test_a_larger_limit_does_not(
    way: str, make: Make, server: OpenAIServer, router: CrossRouter
) -> None:
    routed = make(mini={"max_tokens": 16_000})
    await output_of(way, routed, QUESTION, LIMITED, max_tokens=15_000)
    assert server.requests[0].body[SENT] == buys(router, MINI)


@pytest.mark.parametrize("way", CALLS)
async def test_with_tools(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    answer = await output_of(way, make().bind_tools([weather]), QUESTION, LIMITED)
    assert answer.tool_calls
    sent = server.requests[0].body
    assert sent["tools"]
    assert sent[SENT] == decision_of(answer)["max_tokens"]


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_with_a_schema(way: str, include_raw: bool, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = person
    routed = make().with_structured_output(Person, include_raw=include_raw)
    assert await output_of(way, routed, QUESTION, LIMITED)
    assert 0 < server.requests[0].body[SENT] < 3_400


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_in_an_agent(way: str) -> None:
    models = tool_callers()
    agent = agent_of(models, [weather], willingness_to_pay=0)
    state = await run_agent(way, agent, config=LIMITED)
    given = [settings for model in models.values() for settings in model.settings]
    assert len(given) == 2
    assert given[-1]["max_tokens"] == state["crossroute"]["max_tokens"]


# LangChain gives `generate` no config.
@pytest.mark.parametrize("way", [*WAYS, "v3", "av3"])
async def test_in_every_way(way: str, router: CrossRouter) -> None:
    models = scripted()
    chat = ChatCrossRoute(models=models, willingness_to_pay=0)
    await answer_of(way, chat, QUESTION, LIMITED)
    (given,) = [given for model in models.values() for given in model.given]
    (model,) = [name for name, model in models.items() if model.given]
    assert given["max_tokens"] == buys(router, model)


def test_nobody_can_keep_it(make: Make, server: OpenAIServer) -> None:
    config = {"configurable": {"crossroute_hard_max_cost_usd": 1e-7}}
    with pytest.raises(NoCandidateError, match="raise hard_max_cost_usd"):
        make().invoke(QUESTION, config)
    assert not server.requests


def test_a_candidate_that_is_no_chat_model_cannot_be_limited() -> None:
    models = {
        name: ChatPromptTemplate.from_template("{question}") | model
        for name, model in scripted().items()
    }
    routed = CrossRouteRunnable(models=models, query=lambda value: value["question"])
    with pytest.raises(ConstraintError, match="ChatPromptTemplate, whose answers it cannot limit"):
        routed.invoke({"question": QUESTION}, LIMITED)


# In the words of a provider


class Named(ToolCaller):
    kind: str
    max_output_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return self.kind


class OllamaLike(Named):
    kind: str = "chat-ollama"
    num_predict: int | None = None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("anthropic-chat", "max_tokens"),
        ("mistralai-chat", "max_tokens"),
        ("chat-google-generative-ai", "max_output_tokens"),
        ("vertexai", "max_output_tokens"),
    ],
)
def test_the_names_of_providers(kind: str, name: str) -> None:
    model = Named(model_name="any", kind=kind)
    given = {"max_tokens": 500, "temperature": 0}
    assert within(model, given, 300) == (model, {"temperature": 0, name: 300})
    assert within(model, {"max_output_tokens": 200}, 300) == (model, {name: 200})
    own = Named(model_name="any", kind=kind, max_output_tokens=100)
    assert within(own, given, 300)[1] == {"temperature": 0, name: 100}


def test_ollama_takes_its_own_field() -> None:
    model = OllamaLike(model_name="any")
    found, settings = within(model.bind(stop=["x"]), {"max_tokens": 500}, 300)
    assert (found.bound.num_predict, found.kwargs, settings) == (300, {"stop": ["x"]}, {})
    assert model.num_predict is None
    assert within(model.model_copy(update={"num_predict": 50}), {}, 300)[0].num_predict == 50


def test_a_limit_that_a_strategy_sets_takes_the_place_of_others() -> None:
    ollama = OllamaLike(model_name="any", num_predict=50)
    found, settings = within(ollama, {"max_tokens": 500}, 300, exactly=True)
    assert (found.num_predict, settings) == (300, {})
    named = Named(model_name="any", kind="vertexai", max_output_tokens=100)
    given = {"max_tokens": 16, "max_output_tokens": 500}
    assert within(named, given, 16, exactly=True) == (named, {"max_output_tokens": 16})
    chain = ChatPromptTemplate.from_template("{question}") | named
    assert within(chain, {"max_tokens": 16}, 16, exactly=True) == (chain, {"max_tokens": 16})


@pytest.mark.parametrize("bound", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("azure", [False, True])
def test_openai_gets_one_limit_whatever_is_bound(azure: bool, responses: bool, bound: str) -> None:
    kind: Any = AzureChatOpenAI if azure else ChatOpenAI
    where = {"azure_endpoint": "http://localhost", "api_version": "1"} if azure else {}
    client = kind(
        model="gpt-5", api_key="no key", max_tokens=900, use_responses_api=responses, **where
    )
    found, settings = within(client.bind(**{bound: 800}), {}, 300)
    sent = client._get_request_payload(QUESTION, **{**found.kwargs, **settings})
    limits = {name: sent[name] for name in sent if "max_" in name and "tokens" in name}
    if azure and bound == "max_tokens" and not responses:
        # That client sends what is bound to it as it is, be it wrong.
        limits.pop("max_tokens")
    assert set(limits.values()) == {300}
    assert len(limits) == 1


def test_what_is_returned_is_of_the_right_form(make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = Reply('{"city": "Paris"}')
    found: Any = (
        make().with_structured_output(Capital, method="json_schema").invoke(QUESTION, LIMITED)
    )
    assert isinstance(found, BaseModel)
    assert TEXT
