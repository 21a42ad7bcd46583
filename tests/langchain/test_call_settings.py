"""Settings of a single call: the willingness to pay, and who may answer."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import math
from collections.abc import Callable
from typing import Any

import pytest
from fakes_langchain import (
    ALL_WAYS,
    BOTH,
    INVOKES,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    SYSTEM,
    WAYS,
    agent_of,
    answer_of,
    cheap,
    decision_of,
    output_of,
    run_agent,
    scripted,
    tool_callers,
)
from fakes_langchain_providers import providers
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField

from crossroute import (
    ConstraintError,
    CrossRouter,
    ModelPool,
    NoCandidateError,
    UnknownModelError,
    WillingnessToPayError,
)
from langchain_crossroute import CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])
CALL_SETTINGS = [
    "crossroute_allowed",
    "crossroute_budget_usd",
    "crossroute_excluded",
    "crossroute_hard_max_cost_usd",
    "crossroute_languages",
    "crossroute_max_cost_usd",
    "crossroute_max_data_retention_days",
    "crossroute_max_latency_seconds",
    "crossroute_model",
    "crossroute_regions",
    "crossroute_shorten",
    "willingness_to_pay",
]


@pytest.mark.parametrize("way", WAYS)
async def test_the_config_sets_the_willingness_to_pay(
    way: str, expected: Callable[[float], str]
) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    for willingness in (math.inf, 0, None):
        config = {"configurable": {"willingness_to_pay": willingness}}
        answer = await output_of(way, chain, {"question": QUESTION}, config)
        decision = answer.response_metadata["crossroute"]
        assert decision["model"] == expected(willingness or 0)
        assert float(decision["willingness_to_pay"]) == (willingness or 0)


def test_each_of_a_batch_has_its_own_willingness_to_pay(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted()) | StrOutputParser()
    configs: list[Any] = [{"configurable": {"willingness_to_pay": w}} for w in (0, math.inf)]
    assert chain.batch([{"question": QUESTION}] * 2, configs) == [
        f"I am {expected(0)}.",
        f"I am {expected(math.inf)}.",
    ]


def test_with_config_sets_the_willingness_to_pay(expected: Callable[[float], str]) -> None:
    chain = PROMPT | CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    dear = chain.with_config(configurable={"willingness_to_pay": math.inf})
    assert dear.invoke({"question": QUESTION}).text == f"I am {expected(math.inf)}."


def test_fields_may_be_configurable(expected: Callable[[float], str]) -> None:
    routed = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    chain = PROMPT | routed.configurable_fields(willingness_to_pay=ConfigurableField(id="wtp"))
    assert chain.invoke({"question": QUESTION}).text == f"I am {expected(0)}."
    dear = chain.invoke({"question": QUESTION}, {"configurable": {"wtp": math.inf}})
    assert dear.text == f"I am {expected(math.inf)}."


def test_the_willingness_to_pay_is_declared() -> None:
    one = CrossRouteRunnable(models=scripted(), willingness_to_pay=0)
    two = CrossRouteRunnable(models=scripted(), willingness_to_pay=1)
    chain = one | StrOutputParser() | two
    assert sorted(spec.id for spec in chain.config_specs) == CALL_SETTINGS
    configurable = chain.get_config_jsonschema()["$defs"]["Configurable"]
    assert sorted(configurable["properties"]) == CALL_SETTINGS


@pytest.mark.parametrize(
    "setting",
    [
        {"crossroute_regions": ["eu"]},
        {"crossroute_max_data_retention_days": 0},
        {"crossroute_max_latency_seconds": 2.0},
    ],
)
def test_a_call_may_demand_what_the_descriptor_says(
    setting: dict[str, Any], router: CrossRouter
) -> None:
    facts = {"region": "eu", "data_retention_days": 0, "expected_latency_seconds": 1.0}
    pool = ModelPool(
        router.pool[model].model_copy(update=facts if model == LARGE else {}) for model in MODELS
    )
    routed = CrossRouteRunnable(router=router.over(pool), models=scripted(), willingness_to_pay=0)
    answer = routed.invoke(QUESTION, {"configurable": setting})
    assert answer.text == f"I am {LARGE}."
    assert set(answer.response_metadata["crossroute"]["removed"]) == {SMALL, MINI}


def test_fields_of_the_models_are_declared() -> None:
    voice = scripted()[LARGE].configurable_fields(model_name=ConfigurableField(id="voice"))
    routed = CrossRouteRunnable(models=dict.fromkeys(MODELS, voice))
    assert {spec.id for spec in routed.config_specs} == {*CALL_SETTINGS, "voice"}
    answer = routed.invoke(QUESTION, {"configurable": {"voice": "another"}})
    assert answer.text == "I am another."


@pytest.mark.parametrize("wrong", [-1, math.nan, "0.1", True])
def test_a_wrong_willingness_to_pay_in_the_config(wrong: Any) -> None:
    routed = CrossRouteRunnable(models=scripted())
    with pytest.raises(WillingnessToPayError):
        routed.invoke(QUESTION, {"configurable": {"willingness_to_pay": wrong}})


@BOTH
@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_controlled_by_its_config(kind: Any, way: str) -> None:
    chat = kind(models=scripted(), willingness_to_pay=0)
    for settings, expected in (
        ({"crossroute_model": LARGE}, LARGE),
        ({"crossroute_allowed": [LARGE, MINI]}, MINI),
        ({"crossroute_excluded": [SMALL]}, MINI),
        ({"crossroute_excluded": [SMALL], "willingness_to_pay": 1e9}, LARGE),
        ({"crossroute_max_cost_usd": 0.001, "willingness_to_pay": 1e9}, MINI),
        ({"crossroute_model": None, "crossroute_excluded": None}, SMALL),
    ):
        answer = await output_of(way, chat, QUESTION, {"configurable": settings})
        assert decision_of(answer)["model"] == expected, settings


@BOTH
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"crossroute_model": "nobody"}, UnknownModelError),
        ({"crossroute_allowed": [LARGE, "nobody"]}, UnknownModelError),
        ({"crossroute_allowed": LARGE}, ConstraintError),
        ({"crossroute_max_cost_usd": "1"}, ConstraintError),
        ({"crossroute_excluded": MODELS}, NoCandidateError),
        ({"willingness_to_pay": -1}, WillingnessToPayError),
    ],
)
def test_wrong_settings_of_a_call(kind: Any, settings: Any, error: type[Exception]) -> None:
    models = scripted()
    with pytest.raises(error):
        kind(models=models).invoke(QUESTION, {"configurable": settings})
    assert not any(model.asked for model in models.values())


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_the_argument_model_asks_another_candidate(way: str) -> None:
    answer = await answer_of(way, cheap(scripted()), QUESTION, model=LARGE)
    assert decision_of(answer)["model"] == LARGE
    with pytest.raises(UnknownModelError, match="nobody"):
        await answer_of(way, cheap(scripted()), QUESTION, model="nobody")


def test_fields_of_the_chat_model_may_be_configurable() -> None:
    chat = cheap(scripted()).configurable_fields(
        willingness_to_pay=ConfigurableField(id="wtp"), temperature=ConfigurableField(id="heat")
    )
    config: Any = {"configurable": {"wtp": math.inf, "heat": 1.0}}
    assert decision_of(chat.invoke(QUESTION, config))["model"] != SMALL
    assert decision_of(chat.invoke(QUESTION))["model"] == SMALL


def test_a_misspelt_setting_is_refused() -> None:
    chat = cheap(providers())
    with pytest.raises(ConstraintError, match="did you mean 'crossroute_regions'"):
        chat.invoke(QUESTION, {"configurable": {"crossroute_region": ["eu"]}})


@pytest.mark.parametrize("way", INVOKES)
async def test_settings_of_a_call_of_an_agent(
    way: str, expected: Callable[[float], str], router: CrossRouter
) -> None:
    cheap, best = expected(0), expected(math.inf)
    agent = agent_of(tool_callers(), willingness_to_pay=0)

    async def model(**settings: Any) -> str:
        state = await run_agent(way, agent, config={"configurable": settings})
        return str(state["crossroute"]["model"])

    assert await model() == cheap
    assert await model(willingness_to_pay=math.inf) == best
    assert await model(crossroute_model=best) == best
    assert await model(crossroute_allowed=[best]) == best
    assert await model(crossroute_excluded=[cheap]) != cheap
    limit = router.subset(MODELS).route(QUESTION, math.inf).cost_usd / 2
    assert await model(willingness_to_pay=math.inf, crossroute_max_cost_usd=limit) != best


@pytest.mark.parametrize("way", INVOKES)
async def test_wrong_settings_of_a_call_of_an_agent(way: str) -> None:
    agent = agent_of(tool_callers())
    for settings, error in (
        ({"willingness_to_pay": -1}, WillingnessToPayError),
        ({"crossroute_model": "nobody"}, UnknownModelError),
        ({"crossroute_max_cost_usd": 0}, NoCandidateError),
    ):
        with pytest.raises(error):
            await run_agent(way, agent, config={"configurable": settings})
