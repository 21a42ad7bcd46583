"""LangChain's classes with the policy of a plan."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import copy
import logging
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes_core import fixed, make_rows, rewritten, with_providers, with_strategies
from fakes_langchain import (
    ALL_WAYS,
    BOTH,
    INVOKES,
    ScriptedChatModel,
    ToolCaller,
    agent_of,
    answer_of,
    decision_of,
    run_agent,
    weather,
)
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField
from openai_server import OpenAIServer, Reply

from crossroute import ConstraintError, CrossRouter, DataError, PoolError
from crossroute.policy import Policy, read_policy
from crossroute.strategies import PickOne
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

ROUTERS = [ChatCrossRoute, CrossRouteRunnable, CrossRouteMiddleware]
ALL = pytest.mark.parametrize("kind", ROUTERS)
NAMES = ("clerk", "poet", "sage")
STORY = "Write a short story about a heron who lives by the river and meets 7 voles."
SUM = "What is 4711 * 12 + 3?"
PROMPTS = [str(row["prompt"]) for row in make_rows(80, seed=1)]

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


def clients(**changes: dict[str, Any]) -> dict[str, Any]:
    return {name: ScriptedChatModel(model_name=name, **changes.get(name, {})) for name in NAMES}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def provided(toy_policy: Path, tmp_path: Path, running: OpenAIServer) -> Path:
    """A policy whose models are reached at a server on this machine; the key of sage is not set."""
    running.answers = {name: Reply(f"I am {name}.") for name in NAMES}
    running.requests.clear()
    common = {"base_url": running.url, "arguments": {"max_retries": 0}}
    return with_providers(
        toy_policy,
        tmp_path,
        clerk={"chat_model": "openai:clerk", "api_key_env": "KEY_OF_CLERK"} | common,
        poet={"chat_model": "openai:poet", "api_key_env": "KEY_OF_POET"} | common,
        sage={"chat_model": "openai:sage", "api_key_env": "KEY_OF_SAGE"} | common,
    )


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_CLERK", "sk-SECRET-of-clerk")
    monkeypatch.setenv("KEY_OF_POET", "sk-SECRET-of-poet")
    monkeypatch.delenv("KEY_OF_SAGE", raising=False)


# To route


@BOTH
def test_the_shares_of_fresh_prompts_are_near_those_promised(
    kind: type[Any], toy_policy: Path
) -> None:
    routed = kind(policy=toy_policy, models=clients())
    promised = routed.policy.promised.shares
    answers = Counter(decision_of(one)["model"] for one in routed.batch(PROMPTS))
    for name in NAMES:
        assert answers[name] / len(PROMPTS) == pytest.approx(promised.get(name, 0), abs=0.2)
    assert len([name for name in NAMES if answers[name] > 10]) > 1


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_each_way_of_a_call_decides_by_it(way: str, toy_policy: Path) -> None:
    chat = ChatCrossRoute(policy=str(toy_policy), models=clients())
    story = decision_of(await answer_of(way, chat, STORY))
    calculation = decision_of(await answer_of(way, chat, SUM))
    assert (story["model"], calculation["model"]) == ("poet", "clerk")
    assert story["willingness_to_pay"] == read_policy(toy_policy).willingness_to_pay
    assert story.get("shadow") is None


@pytest.mark.parametrize("way", INVOKES)
async def test_an_agent_is_routed_by_it(way: str, toy_policy: Path) -> None:
    models = {name: ToolCaller(model_name=name) for name in NAMES}
    state = await run_agent(way, agent_of(models, policy=toy_policy), STORY)
    assert state["crossroute"]["model"] == "poet"
    willingness = read_policy(toy_policy).willingness_to_pay
    assert state["crossroute"]["willingness_to_pay"] == willingness
    assert [name for name in NAMES if models[name].asked] == ["poet"]


@ALL
def test_it_can_be_read_afterwards(kind: type[Any], toy_policy: Path) -> None:
    routed = kind(policy=toy_policy, models=clients())
    assert routed.policy == read_policy(toy_policy)
    assert set(routed.router.pool) == set(NAMES)
    assert kind(models=clients(), router=routed.router).policy is None


def test_a_call_may_say_otherwise(toy_policy: Path) -> None:
    """It is one call, and its decision says at what it was made."""
    chat = ChatCrossRoute(policy=toy_policy, models=clients())
    config: Any = {"configurable": {"crossroute_model": "sage"}}
    assert chat.invoke(STORY, config).text == "I am sage."
    config = {"configurable": {"willingness_to_pay": 100}}
    assert decision_of(chat.invoke(STORY, config))["willingness_to_pay"] == 100


# One model for all


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_one_model_answers_everything(way: str, toy_policy: Path, tmp_path: Path) -> None:
    chat = ChatCrossRoute(policy=fixed(toy_policy, tmp_path), models=clients())
    for prompt, own in ((STORY, "poet"), (SUM, "clerk")):
        decision = decision_of(await answer_of(way, chat, prompt))
        assert decision["model"] == "sage"
        # What the router would have done.
        assert decision["shadow"]["model"] in {own, "sage"}


@BOTH
def test_where_it_fails_another_one_answers(
    kind: type[Any], toy_policy: Path, tmp_path: Path
) -> None:
    models = clients(sage={"error": TimeoutError("slow")})
    answer = kind(policy=fixed(toy_policy, tmp_path), models=models).invoke(STORY)
    assert answer.text in {"I am poet.", "I am clerk."}
    assert [one["model"] for one in decision_of(answer)["attempts"]] == ["sage"]


@BOTH
@pytest.mark.usefixtures("keys")
def test_where_it_has_retired_another_one_answers(
    kind: type[Any], provided: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "one").mkdir()
    path = fixed(provided, tmp_path / "one", "clerk")
    file = tmp_path / "one" / "policy.router" / "models" / "clerk.yaml"
    file.write_text(file.read_text("utf-8") + "\nretired: 2026-01-01\n", "utf-8")
    routed = kind(policy=path)
    assert sum("have retired 'clerk'" in warning for warning in told(caplog)) == 1
    decision = decision_of(routed.invoke(STORY))
    assert decision["model"] == "poet"
    assert decision["removed"]["clerk"] == "retired 2026-01-01"


async def test_one_model_answers_an_agent(toy_policy: Path, tmp_path: Path) -> None:
    models = {name: ToolCaller(model_name=name) for name in NAMES}
    await run_agent("ainvoke", agent_of(models, policy=fixed(toy_policy, tmp_path)), STORY)
    assert [name for name in NAMES if models[name].asked] == ["sage"]


# Clients of descriptors


@BOTH
@pytest.mark.usefixtures("keys")
def test_clients_are_made_when_they_are_chosen(
    kind: type[Any], provided: Path, running: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    routed = kind(policy=provided)
    assert [model.built for model in routed.models.values()] == [None, None, None]
    (warning,) = told(caplog)
    assert "'sage' cannot be built" in warning
    assert "KEY_OF_SAGE is not set" in warning
    assert routed.invoke(STORY).text == "I am poet."
    assert [name for name in NAMES if routed.models[name].built] == ["poet"]
    assert running.requests[0].authorization == "Bearer sk-SECRET-of-poet"
    assert "SECRET" not in f"{routed!r} {routed.policy!r} {dumps(routed)}"


@ALL
def test_descriptors_without_providers_need_clients(kind: type[Any], toy_policy: Path) -> None:
    with pytest.raises(PoolError, match=r"'clerk', 'poet', 'sage' can be reached: give models="):
        kind(policy=toy_policy)


# Copies


def with_the_weather(chat: ChatCrossRoute) -> Any:
    return chat.bind_tools([weather])


def configured(chat: ChatCrossRoute) -> Any:
    return chat.with_config(tags=["mine"])


def with_fallbacks(chat: ChatCrossRoute) -> Any:
    return chat.with_fallbacks([ScriptedChatModel(model_name="other")])


@pytest.mark.parametrize("wrapped", [with_the_weather, configured, with_fallbacks])
def test_it_holds_within_what_langchain_makes_of_it(
    wrapped: Any, toy_policy: Path, tmp_path: Path
) -> None:
    models = {name: ToolCaller(model_name=name) for name in NAMES}
    # A descriptor that planning made says nothing of what its model can take.
    can = {"chat_model": "openai:any", "changes": {"capabilities": ["tools"]}}
    path = with_providers(toy_policy, tmp_path, **{name: dict(can) for name in NAMES})
    decision = decision_of(wrapped(ChatCrossRoute(policy=path, models=models)).invoke(STORY))
    assert decision["model"] == "poet"
    assert decision["willingness_to_pay"] == read_policy(toy_policy).willingness_to_pay


@BOTH
@pytest.mark.parametrize("one_for_all", [False, True])
def test_copies_have_it(
    one_for_all: bool,
    kind: type[Any],
    toy_policy: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = fixed(toy_policy, tmp_path) if one_for_all else toy_policy
    routed = kind(policy=path, models=clients())
    for one in (routed.model_copy(), copy.copy(routed), copy.deepcopy(routed)):
        assert one.policy == read_policy(path)
        assert one.invoke(STORY).text == ("I am sage." if one_for_all else "I am poet.")
    assert not told(caplog)


@BOTH
@pytest.mark.usefixtures("keys")
def test_it_goes_to_another_process(kind: type[Any], provided: Path) -> None:
    routed = pickle.loads(pickle.dumps(kind(policy=provided)))
    assert routed.policy == read_policy(provided)
    assert routed.invoke(STORY).text == "I am poet."


def test_its_settings_can_be_made_configurable(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """LangChain then makes the chat model again with each call."""
    for path, answer in ((toy_policy, "poet"), (fixed(toy_policy, tmp_path), "sage")):
        chat = ChatCrossRoute(policy=path, models=clients())
        hot: Any = chat.configurable_fields(
            temperature=ConfigurableField(id="heat"), shadow=ConfigurableField(id="shadow")
        )
        assert hot.invoke(STORY, {"configurable": {"heat": 0.5}}).text == f"I am {answer}."
        assert chat.models[answer].given[-1]["temperature"] == 0.5
        with pytest.raises(ConstraintError, match="leave out shadow"):
            hot.invoke(STORY, {"configurable": {"shadow": "clerk"}})
    assert not told(caplog)


# What is told


@ALL
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"willingness_to_pay": 0.5}, "leave out willingness_to_pay, or policy"),
        ({"shadow": "poet"}, "leave out shadow, or policy"),
        ({"strategy": PickOne()}, "leave out strategy, or policy"),
    ],
)
def test_nothing_beside_it_breaks_what_it_promises(
    settings: dict[str, Any], message: str, kind: type[Any], toy_policy: Path, tmp_path: Path
) -> None:
    for path in (toy_policy, fixed(toy_policy, tmp_path)):
        with pytest.raises(ConstraintError, match=message):
            kind(policy=path, models=clients(), **settings)


@ALL
def test_it_has_a_router_of_its_own(kind: type[Any], toy_policy: Path, provided: Path) -> None:
    with pytest.raises(ConstraintError, match="leave out router"):
        kind(policy=toy_policy, models=clients(), router=CrossRouter.default())
    with pytest.raises(ConstraintError, match="policy goes into the constructor"):
        kind.from_yaml(provided.parent / "policy.router", policy=provided)


@ALL
def test_its_models_are_those_that_are_given(kind: type[Any], toy_policy: Path) -> None:
    few, many = clients(), clients()
    del few["sage"]
    many["bard"] = many["sage"]
    with pytest.raises(PoolError, match="models lacks 'sage'"):
        kind(policy=toy_policy, models=few)
    with pytest.raises(PoolError, match="models has 'bard'"):
        kind(policy=toy_policy, models=many)
    with pytest.raises(PoolError, match="give models="):
        kind()


@ALL
def test_a_file_that_is_none(kind: type[Any], tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(DataError, match=r"policy\.yaml: cannot be read"):
        kind(policy=path, models=clients())
    path.write_text("models: [a, b]\n", "utf-8")
    with pytest.raises(DataError, match="not a policy: router: missing"):
        kind(policy=path, models=clients())


@ALL
def test_one_that_gets_everything_is_told_once(
    kind: type[Any], toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promised = read_policy(toy_policy).promised.model_dump() | {"shares": {"poet": 1.0}}
    routed = kind(policy=rewritten(toy_policy, tmp_path, promised=promised), models=clients())
    assert isinstance(routed.policy, Policy)
    (warning,) = told(caplog)
    assert "poet gets everything (100.0 %): asking it alone is the same and simpler" in warning


# Strategies


class Saying(ScriptedChatModel):
    """Says that something is the answer."""

    says: str = ""

    @property
    def text(self) -> str:
        return f"The answer is {self.says}."


def saying(**words: str) -> dict[str, Any]:
    return {name: Saying(model_name=name, says=word) for name, word in words.items()}


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_models_are_asked_in_turn_up_to_one_that_agrees(
    way: str, toy_policy: Path, tmp_path: Path
) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    for sages_are_needed, words in (
        (False, {"clerk": "7", "poet": "7", "sage": "8"}),
        (True, {"clerk": "7", "poet": "8", "sage": "8"}),
    ):
        models = saying(**words)
        answer = await answer_of(way, ChatCrossRoute(policy=path, models=models), STORY)
        assert [len(models[name].asked) for name in NAMES] == [1, 1, int(sages_are_needed)]
        assert answer.text == f"The answer is {8 if sages_are_needed else 7}."
        decision = decision_of(answer)
        assert decision["model"] == ("poet" if sages_are_needed else "clerk")


@BOTH
def test_both_ask_them_in_turn(kind: type[Any], toy_policy: Path, tmp_path: Path) -> None:
    models = saying(clerk="7", poet="7", sage="8")
    routed = kind(
        policy=with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage"), models=models
    )
    for one in (routed, copy.deepcopy(routed), pickle.loads(pickle.dumps(routed))):
        assert one.invoke(STORY).text == "The answer is 7."
        assert one.policy.strategies == "policy.strategies.json"
    assert not models["sage"].asked


@pytest.mark.parametrize("way", INVOKES)
async def test_a_call_with_tools_goes_to_one_model(
    way: str, toy_policy: Path, tmp_path: Path
) -> None:
    able, beside = tmp_path / "able", tmp_path / "beside"
    able.mkdir()
    beside.mkdir()
    can = {"chat_model": "openai:any", "changes": {"capabilities": ["tools"]}}
    with_tools = with_providers(toy_policy, able, **{name: dict(can) for name in NAMES})
    path = with_strategies(with_tools, beside, "clerk", "poet", "sage")
    models = {name: ToolCaller(model_name=name) for name in NAMES}
    state = await run_agent(way, agent_of(models, [weather], policy=path), STORY)
    assert [name for name in NAMES if models[name].asked] == [state["crossroute"]["model"]]
    free = {name: ToolCaller(model_name=name) for name in NAMES}
    await run_agent(way, agent_of(free, policy=path), STORY)
    # Each says something else, so that all are asked.
    assert all(free[name].asked for name in NAMES)


def test_it_is_made_again_with_its_strategies(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    models = saying(clerk="7", poet="7", sage="8")
    chat = ChatCrossRoute(policy=path, models=models)
    hot: Any = chat.configurable_fields(temperature=ConfigurableField(id="heat"))
    assert hot.invoke(STORY, {"configurable": {"heat": 0.5}}).text == "The answer is 7."
    assert models["poet"].given[-1]["temperature"] == 0.5


@ALL
def test_strategies_of_ones_own_are_refused_beside_it(
    kind: type[Any], toy_policy: Path, tmp_path: Path
) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    with pytest.raises(ConstraintError, match="leave out strategy, or policy"):
        kind(policy=path, models=clients(), strategy=PickOne())
    (tmp_path / "policy.strategies.json").unlink()
    with pytest.raises(DataError, match="there is no file"):
        kind(policy=path, models=clients())
