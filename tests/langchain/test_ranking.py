"""What orders the candidates: one setting of every class that decides."""

# ruff: noqa: ANN401  # The classes share no type.

from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import LARGE, MINI, QUESTION, ScriptedChatModel

from crossroute import ConstraintError, CrossRouter, Provider, Topsis
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable

EACH = pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable])


def models() -> dict[str, ScriptedChatModel]:
    return {model: ScriptedChatModel(model_name=model) for model in (MINI, LARGE)}


@EACH
def test_a_ranking_takes_the_place_of_the_routers(kind: Any) -> None:
    linear = CrossRouter.shipped().with_ranking("linear")
    assert kind(models=models(), router=linear).router.ranking == "linear"
    assert kind(models=models(), router=linear, ranking="topsis").router.ranking == Topsis()
    with pytest.raises(ConstraintError, match="ranking is 'topsi'"):
        kind(models=models(), ranking="topsi")


def test_calls_are_ordered_by_it() -> None:
    chosen = [
        ChatCrossRoute(models=models(), ranking=Topsis(*weights), willingness_to_pay=0.01)
        .invoke(QUESTION)
        .response_metadata["crossroute"]
        for weights in ((1, 0, 0), (0, 1, 0))
    ]
    assert [one["model"] for one in chosen] == [LARGE, MINI]
    assert chosen[0]["topsis"] == {"quality": 1.0, "cost": 0.0, "latency": 0.0}


@EACH
@pytest.mark.parametrize("follow", [False, True])
def test_a_folder_is_ordered_by_it(kind: Any, follow: bool, tmp_path: Path) -> None:
    server = {"base_url": "http://127.0.0.1:1", "api_key_env": "KEY_OF_X"}
    provider = Provider(chat_model="openai:x", **server)
    for model in (MINI, LARGE):
        descriptor = CrossRouter.shipped().pool[model]
        descriptor.model_copy(update={"provider": provider, "retired": None}).save(tmp_path)
    one = kind.from_yaml(tmp_path, follow=follow, ranking="linear")
    assert one.router.ranking == "linear"
    if follow:
        assert one.live.current.router.ranking == "linear"


@EACH
def test_a_policy_has_its_own(kind: Any, toy_policy: Path) -> None:
    scripted = {id_: ScriptedChatModel(model_name=id_) for id_ in ("poet", "clerk", "sage")}
    with pytest.raises(ConstraintError, match="does not hold beside ranking"):
        kind(models=scripted, policy=toy_policy, ranking="linear")
