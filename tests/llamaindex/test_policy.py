"""CrossRouteLLM with the policy of a plan."""

# LlamaIndex's own signatures say Any.

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes_core import fixed, make_rows, rewritten, with_providers, with_strategies
from fakes_llamaindex import ASKS, ScriptedLLM, ask, multiply
from llama_index.core import Settings
from openai_server import OpenAIServer, Reply

from crossroute import ConstraintError, CrossRouter, DataError, PoolError
from crossroute.policy import read_policy
from crossroute.strategies import PickOne
from llamaindex_crossroute import CrossRouteLLM, call_settings
from llamaindex_crossroute.lazy import LazyLLM

NAMES = ("clerk", "poet", "sage")
STORY = "Write a short story about a heron who lives by the river and meets 7 voles."
SUM = "What is 4711 * 12 + 3?"
PROMPTS = [str(row["prompt"]) for row in make_rows(80, seed=1)]


def clients(**changes: dict[str, Any]) -> dict[str, Any]:
    return {name: ScriptedLLM(name=name, **changes.get(name, {})) for name in NAMES}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def provided(toy_policy: Path, tmp_path: Path, server: OpenAIServer) -> Path:
    """A policy whose models are reached at a server on this machine."""
    server.answers = {name: Reply(f"I am {name}.") for name in NAMES}
    common = {"base_url": server.url, "arguments": {"max_retries": 0}}
    return with_providers(
        toy_policy,
        tmp_path,
        clerk={"chat_model": "openai:clerk", "api_key_env": "KEY_OF_CLERK"} | common,
        poet={"chat_model": "openai:poet", "api_key_env": "KEY_OF_POET"} | common,
        sage={"chat_model": "openai:sage", "api_key_env": "KEY_OF_SAGE"} | common,
    )


@pytest.fixture
def keys(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_CLERK", "sk-SECRET-of-clerk")
    monkeypatch.setenv("KEY_OF_POET", "sk-SECRET-of-poet")
    monkeypatch.delenv("KEY_OF_SAGE", raising=False)


# To route


def test_the_shares_of_fresh_prompts_are_near_those_promised(toy_policy: Path) -> None:
    llm = CrossRouteLLM(policy=toy_policy, models=clients())
    assert llm.policy is not None
    promised = llm.policy.promised.shares
    found = [llm.complete(prompt).additional_kwargs["crossroute"] for prompt in PROMPTS]
    answers = Counter(decision["model"] for decision in found)
    for name in NAMES:
        assert answers[name] / len(PROMPTS) == pytest.approx(promised.get(name, 0), abs=0.2)
    assert len([name for name in NAMES if answers[name] > 10]) > 1


@pytest.mark.parametrize("way", ASKS)
async def test_each_way_of_a_call_decides_by_it(way: str, toy_policy: Path) -> None:
    llm = CrossRouteLLM(policy=str(toy_policy), models=clients())
    _, story = await ask(way, llm, STORY)
    _, calculation = await ask(way, llm, SUM)
    assert (story["model"], calculation["model"]) == ("poet", "clerk")
    assert story["willingness_to_pay"] == read_policy(toy_policy).willingness_to_pay
    assert story.get("shadow") is None


@pytest.mark.usefixtures("settings")
def test_it_can_be_read_afterwards(toy_policy: Path) -> None:
    Settings.llm = CrossRouteLLM(policy=toy_policy, models=clients())
    llm = Settings.llm
    assert isinstance(llm, CrossRouteLLM)
    assert llm.policy == read_policy(toy_policy)
    assert set(llm.router.pool) == set(NAMES)
    assert CrossRouteLLM(models=clients(), router=llm.router).policy is None


def test_a_call_may_say_otherwise(toy_policy: Path) -> None:
    llm = CrossRouteLLM(policy=toy_policy, models=clients())
    with call_settings(model="sage"):
        assert llm.complete(STORY).text == "I am sage."


def test_tools_go_by_it(toy_policy: Path, tmp_path: Path) -> None:
    # A descriptor that planning made says nothing of what its model can take: the LLM does.
    llm = CrossRouteLLM(policy=toy_policy, models=clients())
    response = llm.chat_with_tools([multiply], STORY)
    assert response.additional_kwargs["crossroute"]["model"] in NAMES
    assert llm.get_tool_calls_from_response(response)


# One model for all


@pytest.mark.parametrize("way", ASKS)
async def test_one_model_answers_everything(way: str, toy_policy: Path, tmp_path: Path) -> None:
    llm = CrossRouteLLM(policy=fixed(toy_policy, tmp_path), models=clients())
    for prompt, own in ((STORY, "poet"), (SUM, "clerk")):
        text, decision = await ask(way, llm, prompt)
        assert (text, decision["model"]) == ("I am sage.", "sage")
        # What the router would have done.
        assert decision["shadow"]["model"] in {own, "sage"}


def test_where_it_fails_another_one_answers(toy_policy: Path, tmp_path: Path) -> None:
    models = clients(sage={"error": TimeoutError("slow")})
    response = CrossRouteLLM(policy=fixed(toy_policy, tmp_path), models=models).complete(STORY)
    assert response.text in {"I am poet.", "I am clerk."}
    attempts = response.additional_kwargs["crossroute"]["attempts"]
    assert [one["model"] for one in attempts] == ["sage"]


# Clients of descriptors


@pytest.mark.usefixtures("keys")
def test_clients_are_made_when_they_are_chosen(
    provided: Path, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    llm = CrossRouteLLM(policy=provided)
    lazy = {name: model for name, model in llm.models.items() if isinstance(model, LazyLLM)}
    assert [model.built for model in lazy.values()] == [None, None, None]
    (warning,) = told(caplog)
    assert "'sage' cannot be built" in warning
    assert "KEY_OF_SAGE is not set" in warning
    assert llm.complete(STORY).text == "I am poet."
    assert [name for name in NAMES if lazy[name].built] == ["poet"]
    assert server.requests[0].authorization == "Bearer sk-SECRET-of-poet"
    assert "SECRET" not in f"{llm!r} {llm.policy!r} {llm.to_dict()} {llm.model_dump_json()}"


def test_descriptors_without_providers_need_clients(toy_policy: Path) -> None:
    with pytest.raises(PoolError, match=r"'clerk', 'poet', 'sage' can be reached: give models="):
        CrossRouteLLM(policy=toy_policy)


# Copies and dumps


@pytest.mark.parametrize("one_for_all", [False, True])
def test_copies_have_it(
    one_for_all: bool, toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fixed(toy_policy, tmp_path) if one_for_all else toy_policy
    llm = CrossRouteLLM(policy=path, models=clients())
    for one in (llm.model_copy(), copy.copy(llm), copy.deepcopy(llm)):
        assert one.policy == read_policy(path)
        assert one.complete(STORY).text == ("I am sage." if one_for_all else "I am poet.")
    assert not told(caplog)


@pytest.mark.usefixtures("keys")
def test_it_goes_to_another_process(provided: Path) -> None:
    llm = pickle.loads(pickle.dumps(CrossRouteLLM(policy=provided)))
    assert llm.policy == read_policy(provided)
    assert llm.complete(STORY).text == "I am poet."


def test_dumps_are_json(toy_policy: Path) -> None:
    llm = CrossRouteLLM(policy=toy_policy, models=clients())
    dumped = json.loads(llm.to_json())
    assert dumped["willingness_to_pay"] == read_policy(toy_policy).willingness_to_pay


# What is told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"willingness_to_pay": 0.5}, "leave out willingness_to_pay, or policy"),
        ({"shadow": "poet"}, "leave out shadow, or policy"),
        ({"strategy": PickOne()}, "leave out strategy, or policy"),
    ],
)
def test_nothing_beside_it_breaks_what_it_promises(
    settings: dict[str, Any], message: str, toy_policy: Path, tmp_path: Path
) -> None:
    for path in (toy_policy, fixed(toy_policy, tmp_path)):
        with pytest.raises(ConstraintError, match=message):
            CrossRouteLLM(policy=path, models=clients(), **settings)


def test_it_has_a_router_of_its_own(toy_policy: Path, provided: Path) -> None:
    with pytest.raises(ConstraintError, match="leave out router"):
        CrossRouteLLM(policy=toy_policy, models=clients(), router=CrossRouter.default())
    with pytest.raises(ConstraintError, match="policy goes into the constructor"):
        CrossRouteLLM.from_yaml(provided.parent / "policy.router", policy=provided)


def test_its_models_are_those_that_are_given(toy_policy: Path) -> None:
    few, many = clients(), clients()
    del few["sage"]
    many["bard"] = many["sage"]
    with pytest.raises(PoolError, match="models lacks 'sage'"):
        CrossRouteLLM(policy=toy_policy, models=few)
    with pytest.raises(PoolError, match="models has 'bard'"):
        CrossRouteLLM(policy=toy_policy, models=many)
    with pytest.raises(PoolError, match="give models="):
        CrossRouteLLM()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(DataError, match=r"policy\.yaml: cannot be read"):
        CrossRouteLLM(policy=path, models=clients())
    path.write_text("models: [a, b]\n", "utf-8")
    with pytest.raises(DataError, match="not a policy: router: missing"):
        CrossRouteLLM(policy=path, models=clients())


def test_one_that_gets_everything_is_told_once(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promised = read_policy(toy_policy).promised.model_dump() | {"shares": {"poet": 1.0}}
    CrossRouteLLM(policy=rewritten(toy_policy, tmp_path, promised=promised), models=clients())
    (warning,) = told(caplog)
    assert "poet gets everything (100.0 %): asking it alone is the same and simpler" in warning


# Strategies


class Saying(ScriptedLLM):
    """Says that something is the answer."""

    says: str = ""

    @property
    def text(self) -> str:
        return f"The answer is {self.says}."


def saying(**words: str) -> dict[str, Any]:
    return {name: Saying(name=name, says=word) for name, word in words.items()}


@pytest.mark.parametrize("way", ASKS)
async def test_models_are_asked_in_turn_up_to_one_that_agrees(
    way: str, toy_policy: Path, tmp_path: Path
) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    for sages_are_needed, words in (
        (False, {"clerk": "7", "poet": "7", "sage": "8"}),
        (True, {"clerk": "7", "poet": "8", "sage": "8"}),
    ):
        models = saying(**words)
        llm = CrossRouteLLM(policy=path, models=models)
        text, decision = await ask(way, llm, STORY)
        assert [len(models[name]._asked) for name in NAMES] == [1, 1, int(sages_are_needed)]
        assert text == f"The answer is {8 if sages_are_needed else 7}."
        assert decision["model"] == ("poet" if sages_are_needed else "clerk")


def test_copies_ask_them_in_turn(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    llm = CrossRouteLLM(policy=path, models=saying(clerk="7", poet="7", sage="8"))
    for one in (llm, copy.copy(llm), llm.model_copy(), copy.deepcopy(llm)):
        assert one.complete(STORY).text == "The answer is 7."
        assert one.policy == read_policy(path)


def test_a_call_with_tools_goes_to_one_model(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    models = clients()
    response = CrossRouteLLM(policy=path, models=models).chat_with_tools([multiply], STORY)
    asked = [name for name in NAMES if models[name]._asked]
    assert asked == [response.additional_kwargs["crossroute"]["model"]]


def test_strategies_of_ones_own_are_refused_beside_it(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    with pytest.raises(ConstraintError, match="leave out strategy, or policy"):
        CrossRouteLLM(policy=path, models=clients(), strategy=PickOne())
    (tmp_path / "policy.strategies.json").unlink()
    with pytest.raises(DataError, match="there is no file"):
        CrossRouteLLM(policy=path, models=clients())
