"""A model that lists its reasoning efforts: each is a candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes_core import QUICK

from crossroute import (
    Cooldown,
    CrossRouter,
    DailySpend,
    DescriptorError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Query,
    UnknownModelError,
)
from crossroute.candidates import with_arms
from crossroute.guard import Guard
from crossroute.models.efforts import Arm, arm_of
from crossroute.models.followed_folder import FollowedFolder
from crossroute.models.provider_arguments import effort_in, without_effort
from crossroute.onboarding.guess import EFFORT_ERROR, GUESS_ERROR, LONGER, MORE_QUALITY
from crossroute.strategies import Ask, PickOne, Reply, Task, charge
from crossroute.strategies.going_on import going_on
from crossroute.traffic.records import RecordedAsk
from crossroute.training.data import RoutingData
from crossroute.training.train import train

PRICE = {
    "input_usd_per_1m": 1.0,
    "output_usd_per_1m": 8.0,
    "date": "2026-01-01",
    "source": "a test",
}


def descriptor(**fields: object) -> ModelDescriptor:
    usual = {"id": "acme", "efforts": ("low", "medium", "high"), "price": PRICE, "family": "gpt"}
    return ModelDescriptor.model_validate(usual | fields)


def parts(model: ModelDescriptor) -> tuple[float, float]:
    """Level and length of an embedding."""
    assert model.learned is not None
    level, _, length, *_ = model.learned.embedding
    return level, length


def test_a_router_chooses_between_the_efforts(router: CrossRouter) -> None:
    provider = {"chat_model": "openrouter:acme/one", "arguments": {"reasoning": {"exclude": True}}}
    routed = router.over(ModelPool([descriptor(provider=provider)]))
    assert list(routed.pool) == ["acme@high", "acme@low", "acme@medium"]
    for model in routed.pool.values():
        arm = arm_of(model)
        assert arm is not None
        assert arm.id == model.id
        assert model.provider is not None
        # Beside what stood there.
        told = {"exclude": True, "effort": arm.effort}
        assert model.provider.arguments == {"reasoning": told}
        # What is written of it is a descriptor.
        assert ModelDescriptor.parse(yaml.safe_dump(model.model_dump(mode="json")), Path()) == model
    question = "Prove that the sum of the first n odd numbers is a square."
    cheap, best = (routed.route(question, pay) for pay in (0.0, math.inf))
    assert (cheap.model, best.model) == ("acme@low", "acme@medium")


def test_the_id_of_a_model_limits_all_its_efforts(router: CrossRouter) -> None:
    other = "gpt-4o-mini-2024-07-18"
    routed = router.over(ModelPool([descriptor(), CrossRouter.shipped().pool[other]]))

    def candidates(**limits: object) -> set[str]:
        return {one.model for one in routed.route("Hello", constraints=limits).candidates}

    arms = {"acme@high", "acme@low", "acme@medium"}
    assert candidates(model="acme") == candidates(allowed=["acme"]) == arms
    assert candidates(model="acme", allowed=["acme@low", other]) == {"acme@low"}
    assert candidates(excluded=["acme"]) == {other}
    assert candidates(excluded=["acme@low", other]) == arms - {"acme@low"}
    with pytest.raises(UnknownModelError, match="acmee"):
        candidates(allowed=["acme", "acmee"])
    # A name that is empty is none that is left open.
    with pytest.raises(UnknownModelError, match="''"):
        candidates(model="")


def test_a_file_keeps_what_it_lists_and_one_of_its_own_is_the_arm(
    tmp_path: Path, router: CrossRouter
) -> None:
    known = router.pool["gpt-5-mini@high"].learned
    own = descriptor(id="acme@high", efforts=(), effort="high", learned=known)
    pool = ModelPool([descriptor(), own])
    pool.save(tmp_path)
    assert ModelPool.load(tmp_path) == pool
    assert ModelPool.load(tmp_path)["acme"].efforts == ("low", "medium", "high")
    assert pool.expanded()["acme@high"] is own
    for routed in (router.over(pool), FollowedFolder(tmp_path, router.over).current):
        assert list(routed.pool) == ["acme@high", "acme@low", "acme@medium"]
        assert routed.pool["acme@high"].learned == known
    # A router is saved with what it chooses from.
    router.over(pool).save(tmp_path / "router")
    saved = CrossRouter.load(tmp_path / "router")
    assert list(saved.pool) == ["acme@high", "acme@low", "acme@medium"]
    assert saved.pool.arms("acme") == [*saved.pool]
    assert (saved.pool.arms("acme@low"), saved.pool.arms("other")) == (["acme@low"], [])


def test_a_guess_tells_efforts_apart(router: CrossRouter) -> None:
    known = router.pool["gpt-5-mini@high"].learned
    assert known is not None
    own = descriptor(id="acme@high", efforts=(), effort="high", learned=known)
    bare = router.over(ModelPool([descriptor(efforts=("minimal", "high", "max", "odd"))])).pool
    beside = router.over(ModelPool([descriptor(efforts=("low", "medium", "high")), own])).pool
    based = router.over(ModelPool([descriptor(learned=known)])).pool
    for pool, start, here, there in (
        (beside, "acme@high", "low", 2),
        (bare, "acme@odd", "max", 1),
        (bare, "acme@high", "minimal", 2),
    ):
        (level, length), (level_here, length_here) = parts(pool[start]), parts(pool[f"acme@{here}"])
        step = {"low": 0, "minimal": 0, "max": 4}[here]
        gain = -MORE_QUALITY if step == 0 else 0.0
        assert level_here - level == pytest.approx(gain, abs=1e-3)
        assert length_here - length == pytest.approx(LONGER * (step - there), abs=1e-3)
    # What was measured without an effort is taken to be at the usual one.
    assert parts(based["acme@medium"]) == pytest.approx(parts(own), abs=1e-3)
    errors = [pool["acme@low"].learned for pool in (beside, based)]
    assert [one and one.quality_error for one in errors] == [EFFORT_ERROR, EFFORT_ERROR]
    assert (bare["acme@high"].learned or known).quality_error == GUESS_ERROR
    # Of a model that ships at an effort, the nearest one says the most: that itself.
    shipped = router.over(ModelPool([descriptor(id="gpt-5-mini", efforts=("low", "high"))])).pool
    assert parts(shipped["gpt-5-mini@high"]) == parts(router.pool["gpt-5-mini@high"])


def test_a_model_that_is_trained_without_an_effort_is_a_candidate(toy_data: RoutingData) -> None:
    name = toy_data.models[0]
    trained = train(toy_data, settings=QUICK, known={name: descriptor(id=name)})
    assert list(trained.pool) == list(toy_data.models)


@pytest.mark.parametrize(
    ("chat_model", "beside", "expected"),
    [
        (
            "openai:acme",
            {"reasoning": {"summary": "auto"}},
            {"reasoning": {"summary": "auto", "effort": "low"}},
        ),
        ("openai:acme", {"seed": 1}, {"seed": 1, "reasoning_effort": "low"}),
        ("google_genai:acme", {"thinking_budget": 9}, {"reasoning_effort": "low"}),
    ],
)
def test_an_arm_has_one_effort_in_its_arguments(
    chat_model: str, beside: dict[str, object], expected: dict[str, object]
) -> None:
    provider = {"chat_model": chat_model, "arguments": beside}
    (arm,) = ModelPool([descriptor(efforts=("low",), provider=provider)]).expanded().values()
    assert arm.provider is not None
    assert arm.provider.arguments == expected
    assert arm_of(arm) == Arm("acme", "low")


@pytest.mark.parametrize(
    ("id_", "effort", "arguments", "arm"),
    [
        ("acme@high", "high", None, Arm("acme", "high")),
        ("acme@high", None, {"reasoning_effort": "high"}, Arm("acme", "high")),
        ("acme@high", None, {"reasoning_effort": "low"}, None),
        ("acme@20250101", None, {}, None),
        ("acme@high", None, None, None),
        ("acme", None, {"reasoning_effort": "high"}, None),
    ],
)
def test_what_is_an_arm(
    id_: str, effort: str | None, arguments: dict[str, str] | None, arm: Arm | None
) -> None:
    provider = None
    if arguments is not None:
        provider = {"chat_model": "openai:acme", "arguments": arguments}
    assert arm_of(descriptor(id=id_, efforts=(), effort=effort, provider=provider)) == arm


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("efforts: [low]\nprovider: {chat_model: 'mistralai:x'}", "mistralai takes no reasoning"),
        (
            "efforts: [low]\n"
            "provider: {chat_model: 'openai:x', arguments: {reasoning_effort: low}}",
            "stands beside the effort low in provider.arguments",
        ),
        ("effort: low", "the id must end with @low"),
        ("id: acme@low\neffort: low\nefforts: [low, high]", "efforts stands beside the effort low"),
        (f"id: {'a' * 196}\nefforts: [high]", "ids of more than 200 characters; shorten id"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    text = text if text.startswith("id:") else f"id: acme\n{text}"
    with pytest.raises(DescriptorError, match=said):
        ModelDescriptor.parse(text, Path("acme.yaml"))


def test_one_client_may_be_that_of_all_arms(router: CrossRouter) -> None:
    pool = router.over(ModelPool([descriptor()])).pool
    one, other = object(), object()
    found = with_arms({"acme": one, "acme@low": other}, pool, lambda _: True)
    assert found == {"acme@high": one, "acme@medium": one, "acme@low": other}
    exact = {"acme@low": one, "acme@high": other}
    assert with_arms(exact, pool, lambda _: False) is exact
    with pytest.raises(PoolError, match="'acme' means acme@high, acme@low, acme@medium, but"):
        with_arms({"acme": one}, pool, lambda _: False)


def test_what_hits_a_model_hits_its_efforts(router: CrossRouter) -> None:
    other = "gpt-4o-mini-2024-07-18"
    pool = router.over(ModelPool([descriptor(), router.pool[other]])).pool
    arms = ["acme@medium", "acme@high", "acme@low"]
    decision = router.over(pool).route("Hello", math.inf)
    scores = {one.model: one for one in decision.candidates}
    decision = replace(decision, candidates=tuple(scores[one] for one in [*arms, other]))
    guard = Guard(Cooldown(failures=2), None, {})

    def turns() -> Iterator[str]:
        """Whom a call asks of which each fails; its pool has come since."""
        decided, watch = guard.admit(decision, pool=pool)
        flow = PickOne(attempts=3).answer(
            Task(decided, Query.of("Hello"), [], watch=watch, pool=pool)
        )
        ask: Any = next(flow)
        while True:
            yield ask.model
            watch.begin(ask.model)
            watch.failed(ask.model, TimeoutError("slow"))
            try:
                ask = flow.send(Reply(ask.model, error=TimeoutError("slow"), done=True))
            except StopIteration:
                return

    assert list(turns()) == ["acme@medium", other, "acme@high"]
    # Two of its efforts have failed, so that it rests at any.
    assert list(turns()) == [other]
    task = Task(decision, Query.of("Hello"), [], pool=pool)
    flow = going_on(task, decision, "Once", "", attempts=2, pass_refusals=False)
    first: Any = next(flow)
    second: Any = flow.send(Reply(first.model, error=TimeoutError("slow"), done=True))
    assert [first.model, second.model] == ["acme@medium", other]


def test_a_ceiling_of_a_model_is_that_of_its_efforts(router: CrossRouter) -> None:
    other = "gpt-4o-mini-2024-07-18"
    pool = router.over(ModelPool([descriptor(), router.pool[other]])).pool
    decision = router.over(pool).route("Hello")
    spend = DailySpend(by_model={"acme": 2.0, "acme@low": 0.5})

    def out(guard: Guard | None = None) -> set[str]:
        guard = guard or Guard(None, spend, pool)
        return set(guard.admit(decision, pool=pool).decision.removed)

    spend.add("acme@low", 0.7)
    assert out() == {"acme@low"}
    spend.add("acme", 0.7)
    spend.add(other, 5.0)
    assert out() == {"acme@low"}
    spend.add("acme@high", 0.7)
    assert out() == {"acme@high", "acme@low", "acme@medium"}
    # A folder may begin to list efforts while it is followed.
    before = ModelPool([descriptor(efforts=()), router.pool[other]])
    followed = Guard(None, DailySpend(by_model={"acme": 0}), before)
    assert out(followed) == {"acme@high", "acme@low", "acme@medium"}
    with pytest.raises(UnknownModelError, match="acme@max"):
        Guard(None, DailySpend(by_model={"acme@max": 1.0}), pool)


def test_an_effort_is_found_and_taken_out() -> None:
    for told in (
        {"reasoning_effort": "low"},
        {"thinking_level": "low"},
        {"reasoning": {"effort": "low", "summary": "auto"}},
        {"output_config": {"effort": "low"}},
    ):
        assert effort_in(told) == "low"
        assert effort_in(without_effort({**told, "seed": 1})) is None
        assert without_effort({**told, "seed": 1})["seed"] == 1
    assert without_effort({"reasoning": {"effort": "low", "summary": "auto"}}) == {
        "reasoning": {"summary": "auto"}
    }


def test_the_bill_and_the_record_say_the_effort_of_an_ask() -> None:
    plain, low = (
        charge(Ask("acme@high", effort=effort), Reply("acme@high"), None, Query.of("Hello"))
        for effort in (None, "low")
    )
    assert "effort" not in plain
    assert (low["model"], low.get("effort")) == ("acme@high", "low")
    recorded = [RecordedAsk.model_validate(one).effort for one in (plain, low)]
    assert recorded == [None, "low"]
