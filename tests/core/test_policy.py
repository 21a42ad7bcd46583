"""A policy: written by a plan, read again, and put to use."""

# ruff: noqa: ANN401  # Settings are whatever a class takes.

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from fakes_core import fixed, make_rows, rewritten, with_providers, with_strategies

from crossroute import (
    DEFAULT_WILLINGNESS_TO_PAY,
    CheckpointError,
    ConstraintError,
    CrossRouter,
    DataError,
    PoolError,
    WillingnessToPayError,
)
from crossroute.candidates import LazyClient
from crossroute.exploration import Exploration
from crossroute.models.pool import ModelPool
from crossroute.policy import USUAL_WILLINGNESS_TO_PAY, Policy, Settled, read_policy, settle
from crossroute.strategies import Arms, PickOne
from crossroute.traffic import Plan
from crossroute.traffic.policy import write_policy

CLIENTS = dict.fromkeys(("clerk", "poet", "sage"), "a client")
YESTERDAY = datetime.date.today() - datetime.timedelta(days=1)
PROMPTS = [str(row["prompt"]) for row in make_rows(100, seed=1)]


class Named(LazyClient[str]):
    """Its client is the name of what it was built for."""

    packages: ClassVar = {"there": "json"}

    def _build(self) -> str:
        return self.provider.chat_model


def settled(policy: str | Path | Policy | None, **settings: Any) -> Settled:
    given: dict[str, Any] = {
        "models": CLIENTS,
        "router": None,
        "willingness_to_pay": USUAL_WILLINGNESS_TO_PAY,
        "shadow": None,
    }
    return settle(policy, Named.of, **given | settings)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# Written and read


def test_what_is_written_is_read(toy_plan: Plan, toy_policy: Path) -> None:
    assert toy_plan.verdict == "route"
    policy = read_policy(toy_policy)
    assert policy.models == ("clerk", "poet", "sage")
    assert policy.willingness_to_pay == toy_plan.willingness_to_pay
    assert (policy.model, policy.reward) == (None, toy_plan.router and toy_plan.router.reward)
    promised = policy.promised
    assert promised.saving == pytest.approx(toy_plan.saving, abs=1e-4)
    assert promised.saving_low <= promised.saving <= promised.saving_high
    assert promised.loss_high == pytest.approx(toy_plan.loss_high, abs=1e-4)
    assert (promised.baseline, promised.max_loss, promised.confidence) == ("sage", 0.1, 0.9)
    assert sum(promised.shares.values()) == pytest.approx(1, abs=1e-3)
    assert policy.data.files == ("scored.jsonl",)
    assert (policy.data.prompts, policy.data.calibration) == (180, toy_plan.calibration)
    assert policy.data.planned <= datetime.date.today()
    # Whoever opens the file sees what it is for.
    assert "ChatCrossRoute(policy=...)" in toy_policy.read_text("utf-8").splitlines()[0]


def test_its_router_decides_as_the_one_of_the_plan(toy_plan: Plan, toy_policy: Path) -> None:
    policy, own = read_policy(toy_policy), toy_plan.router
    assert own is not None
    assert policy.willingness_to_pay is not None
    read = policy.load_router(toy_policy)
    asked = [
        [one.model for one in router.route_batch(PROMPTS, policy.willingness_to_pay)]
        for router in (read, own)
    ]
    # Files hold fewer digits.
    assert np.mean([a == b for a, b in zip(*asked, strict=True)]) > 0.95
    assert read.reward == own.reward


def test_the_shares_of_fresh_prompts_are_near_those_promised(toy_policy: Path) -> None:
    found = settled(toy_policy)
    assert found.policy is not None
    decisions = found.router.route_batch(PROMPTS, found.willingness_to_pay)
    for model in CLIENTS:
        share = np.mean([decision.model == model for decision in decisions])
        assert share == pytest.approx(found.policy.promised.shares.get(model, 0), abs=0.2)


def test_a_policy_is_planned_again_in_its_place(
    toy_plan: Plan, toy_router: CrossRouter, tmp_path: Path
) -> None:
    """By another network, and with a model less."""
    path = tmp_path / "policy.yaml"
    write_policy(toy_plan, path)
    write_policy(replace(toy_plan, router=toy_router.subset(["clerk", "poet"])), path)
    policy = read_policy(path)
    assert policy.models == ("clerk", "poet")
    assert set(policy.load_router(path).pool) == {"clerk", "poet"}
    assert policy.load_router(path).checkpoint.id == toy_router.checkpoint.id


def test_one_model_for_all_is_written(toy_plan: Plan, tmp_path: Path) -> None:
    one = replace(toy_plan, verdict="fixed", model="poet", willingness_to_pay=None)
    write_policy(one, tmp_path / "policy.yaml")
    policy = read_policy(tmp_path / "policy.yaml")
    assert (policy.model, policy.willingness_to_pay) == ("poet", None)
    assert "willingness_to_pay" not in (tmp_path / "policy.yaml").read_text("utf-8")


def test_nothing_is_written_of_a_plan_that_found_nothing(toy_plan: Plan, tmp_path: Path) -> None:
    for empty in (replace(toy_plan, router=None), replace(toy_plan, evidence=None)):
        with pytest.raises(DataError, match="there is nothing to write"):
            write_policy(empty, tmp_path / "policy.yaml")
    strange = replace(toy_plan, verdict="fixed", model="bard", willingness_to_pay=None)
    with pytest.raises(DataError, match="does not know 'bard'"):
        write_policy(strange, tmp_path / "policy.yaml")
    assert not [*tmp_path.iterdir()]


# Broken files


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"models": None}, "models: missing; add it"),
    ({"router": None}, "router: missing; add it"),
    ({"promised": None}, "promised: missing; add it"),
    ({"data": None}, "data: missing; add it"),
    ({"willingness_to_pay": None}, "takes one of willingness_to_pay .* and model"),
    ({"model": "sage"}, "takes one of willingness_to_pay .* and model"),
    ({"willingness_to_pay": None, "model": "bard"}, "model 'bard' is none of models"),
    ({"willingness_to_pay": -1}, "willingness_to_pay: .*greater than or equal to 0"),
    ({"willingness_to_pay": math.nan}, "willingness_to_pay"),
    ({"willingness_to_pay": "much"}, "willingness_to_pay: .*valid number"),
    ({"models": ["sage"]}, "models: .*at least 2"),
    (
        {"willingness_to_pay": None, "model": "sage", "strategies": "some.json"},
        "strategies are for routing",
    ),
    ({"models": ["sage", 1]}, "models.1: is read as 1, not as text"),
    ({"reward": "large"}, "reward: "),
    ({"rewards": "linear"}, "rewards: unknown field; did you mean 'reward'"),
    ({"promised": {"saving": 1}}, "promised.baseline: missing"),
    ({"data": {"prompts": 0}}, "data.prompts: "),
    ({"router": "sk-" + "a1B2" * 12}, "router looks like a secret"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_broken_policy_is_refused(
    changes: dict[str, Any], message: str, toy_policy: Path, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    content = yaml.safe_load(toy_policy.read_text("utf-8")) | changes
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept), "utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_policy(path)
    assert str(path) in str(error.value)
    assert "crossroute plan FILE --write" in str(error.value)
    assert "a1B2" not in str(error.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "content",
    [b"", b"- a\n", b"models: [", b"\xff\xfe", b"models: !!python/name:os.system\n", BOMB.encode()],
    ids=["empty", "list", "cut", "no text", "tag", "aliases"],
)
def test_what_is_no_policy_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"policy\.yaml: "):
        read_policy(path)


@pytest.mark.parametrize("path", ["missing.yaml", ".", "a\0b"])
def test_a_file_that_is_not_there(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_policy(tmp_path / path)


def test_a_router_that_is_not_beside_it(toy_policy: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(toy_policy.read_bytes())
    with pytest.raises(PoolError, match=r"router: there is no folder .*move both together"):
        read_policy(path).load_router(path)
    (tmp_path / "policy.router").mkdir()
    with pytest.raises(CheckpointError):
        read_policy(path).load_router(path)


def test_a_router_that_does_not_know_a_model(toy_policy: Path, tmp_path: Path) -> None:
    path = rewritten(toy_policy, tmp_path, models=["clerk", "bard", "skald"])
    with pytest.raises(PoolError, match="does not know 'bard', 'skald'"):
        read_policy(path).load_router(path)


def test_a_router_that_is_damaged(toy_policy: Path, tmp_path: Path) -> None:
    path = rewritten(toy_policy, tmp_path)
    network = tmp_path / "policy.router" / "network.safetensors"
    network.write_bytes(network.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        settled(path)


# Put to use


def test_it_says_all_that_is_needed(toy_policy: Path) -> None:
    for path in (toy_policy, str(toy_policy)):
        found = settled(path)
        assert found.policy == read_policy(toy_policy)
        assert found.willingness_to_pay == found.policy.willingness_to_pay
        assert found.exploration.shadow is None
        assert found.models is CLIENTS
        assert set(found.router.pool) == set(CLIENTS)


def test_one_model_for_all_is_asked_in_the_place_of_the_router(
    toy_policy: Path, tmp_path: Path
) -> None:
    found = settled(fixed(toy_policy, tmp_path))
    assert (found.exploration.shadow, found.willingness_to_pay) == (
        "sage",
        DEFAULT_WILLINGNESS_TO_PAY,
    )


def test_without_a_policy_nothing_changes() -> None:
    found = settled(None, models=CLIENTS, willingness_to_pay=0.3, shadow="poet")
    assert found == Settled(CLIENTS, CrossRouter.shipped(), 0.3, Exploration(shadow="poet"), None)
    with pytest.raises(PoolError, match=r"give models=.*, policy='policy.yaml', or call from_yaml"):
        settled(None, models=None)


BESIDE: list[tuple[dict[str, Any], str]] = [
    ({"willingness_to_pay": 0.5}, "leave out willingness_to_pay, or policy"),
    ({"willingness_to_pay": DEFAULT_WILLINGNESS_TO_PAY}, "leave out willingness_to_pay"),
    ({"shadow": "poet"}, "leave out shadow, or policy"),
    ({"strategy": object()}, "leave out strategy, or policy"),
    ({"live": object()}, "leave out live, or policy"),
    ({"pacer": object()}, "leave out pacer, or policy"),
    ({"willingness_to_pay": 0, "shadow": "poet"}, "leave out willingness_to_pay and shadow"),
    ({"router": CrossRouter.default}, "leave out router"),
]


@pytest.mark.parametrize(("settings", "message"), BESIDE)
def test_nothing_beside_it_breaks_what_it_promises(
    settings: dict[str, Any], message: str, toy_policy: Path
) -> None:
    if "router" in settings:
        settings = {"router": settings["router"]()}
    with pytest.raises(ConstraintError, match=message):
        settled(toy_policy, **settings)


def test_what_no_number_is_stays_an_error(toy_policy: Path) -> None:
    with pytest.raises(WillingnessToPayError):
        settled(toy_policy, willingness_to_pay="0.1")


@pytest.mark.parametrize("policy", [1, b"policy.yaml", {"models": []}])
def test_it_is_a_path(policy: Any) -> None:
    with pytest.raises(ConstraintError, match=r"policy is .*; give the path of its file"):
        settled(policy)


def test_a_router_is_made_again_of_a_policy_that_was_read(
    toy_policy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = settled(toy_policy)
    fields = first._asdict()
    fields["shadow"] = fields.pop("exploration").shadow
    assert settled(fields.pop("policy"), **fields) == first
    with pytest.raises(ConstraintError, match="leave out willingness_to_pay"):
        settled(first.policy, router=first.router, willingness_to_pay=0.4)
    with pytest.raises(ConstraintError, match="give the path of its file"):
        settled(first.policy)
    assert not told(caplog)


# Clients


def test_a_model_without_a_client_is_named(toy_policy: Path) -> None:
    with pytest.raises(PoolError, match="models lacks 'clerk', 'sage'; give a client"):
        settled(toy_policy, models={"poet": "a client"})


def test_a_client_too_many_is_named(toy_policy: Path) -> None:
    with pytest.raises(PoolError, match="models has 'bard', with which it was not planned"):
        settled(toy_policy, models={**CLIENTS, "bard": "a client"})


def test_clients_are_made_of_descriptors(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_providers(
        toy_policy,
        tmp_path,
        poet={"chat_model": "there:poet"},
        clerk={"chat_model": "there:clerk", "api_key_env": "NO_KEY_OF_CLERK"},
        sage={"chat_model": "there:sage", "api_key_env": "NO_KEY_OF_SAGE"},
    )
    found = settled(path, models=None)
    assert [*found.models] == ["clerk", "poet", "sage"]
    assert all(client.built is None for client in found.models.values())
    assert found.models["poet"].load() == "there:poet"
    assert len(told(caplog)) == 2
    assert "'clerk' cannot be built" in told(caplog)[0]
    assert "NO_KEY_OF_SAGE is not set" in told(caplog)[1]


def test_descriptors_that_nobody_reaches(toy_policy: Path, tmp_path: Path) -> None:
    path = with_providers(toy_policy, tmp_path, poet={"chat_model": "there:poet"})
    with pytest.raises(PoolError, match=r"'clerk', 'sage' can be reached: give models=\{...\}"):
        settled(path, models=None)


# Warnings


def test_a_willingness_to_pay_at_which_one_gets_everything_is_told(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promised = yaml.safe_load(toy_policy.read_text("utf-8"))["promised"]
    few, most = (tmp_path / "few", tmp_path / "most")
    settled(rewritten(toy_policy, few, promised=promised | {"shares": {"poet": 0.98}}))
    assert not told(caplog)
    path = rewritten(toy_policy, most, promised=promised | {"shares": {"poet": 0.995}})
    settled(path)
    (warning,) = told(caplog)
    assert warning == (
        f"{path}: at its willingness to pay, poet gets everything (99.5 %): asking it alone is "
        "the same and simpler"
    )


def test_one_model_for_all_is_no_surprise(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promised = yaml.safe_load(toy_policy.read_text("utf-8"))["promised"] | {"shares": {"sage": 1}}
    path = rewritten(toy_policy, tmp_path, promised=promised, model="sage", willingness_to_pay=None)
    settled(path)
    assert not told(caplog)


def test_a_model_that_has_retired_is_told(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("clerk", "poet", "sage")
    providers: dict[str, dict[str, object]] = {
        name: {"chat_model": f"there:{name}"} for name in names
    }
    providers["clerk"] |= {"changes": {"retired": YESTERDAY}, "api_key_env": "NO_KEY_OF_CLERK"}
    path = with_providers(toy_policy, tmp_path, **providers)
    found = settled(path, models=None)
    (warning,) = told(caplog)
    assert "have retired 'clerk'" in warning
    assert "plan again" in warning
    # The others answer, and the decision says why.
    decision = found.router.route(PROMPTS[0], found.willingness_to_pay)
    assert decision.removed == {"clerk": f"retired {YESTERDAY}"}
    # Who brings a client says that it is served.
    caplog.clear()
    settled(path)
    assert not told(caplog)


def test_a_model_that_what_ships_knows_to_have_retired_is_told(
    toy_policy: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("clerk", "poet", "sage")
    path = with_providers(
        toy_policy, tmp_path, **{name: {"chat_model": f"there:{name}"} for name in names}
    )
    pool = read_policy(path).load_router(path).pool

    def shipping(**changes: Any) -> Callable[[], ModelPool]:
        return lambda: ModelPool([pool["sage"].model_copy(update=changes)])

    monkeypatch.setattr("crossroute.models.pool._shipped", shipping(retired=YESTERDAY))
    settled(path, models=None)
    assert len(told(caplog)) == 1
    # Another provider may serve it still.
    caplog.clear()
    monkeypatch.setattr(
        "crossroute.models.pool._shipped", shipping(retired=YESTERDAY, provider=None)
    )
    settled(path, models=None)
    assert not told(caplog)


# Strategies


def test_its_strategies_are_settled_with_it(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet", "sage")
    found = settled(path, attempts=2, pass_refusals=True)
    assert isinstance(found.strategy, Arms)
    assert [panel.models for panel in found.strategy.panels.panels] == [("clerk", "poet", "sage")]
    # What a router may set beside a policy holds for them, too.
    assert (found.strategy.attempts, found.strategy.pass_refusals) == (2, True)
    assert found.exploration == Exploration()
    assert settled(toy_policy).strategy is None
    own = PickOne()
    assert settled(None, router=found.router, strategy=own).strategy is own


def test_nothing_beside_its_strategies_breaks_what_it_promises(
    toy_policy: Path, tmp_path: Path
) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    with pytest.raises(ConstraintError, match="leave out strategy, or policy"):
        settled(path, strategy=PickOne())
    with pytest.raises(ConstraintError, match="leave out strategy, or policy"):
        settled(path, strategy=settled(path).strategy)
    with pytest.raises(ConstraintError, match="shadow and explore have one model answer"):
        settled(path, explore=0.1)


def test_a_router_with_strategies_is_made_again(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    found = settled(path)
    again = settled(found.policy, router=found.router, strategy=found.strategy)
    assert again.strategy == found.strategy
    with pytest.raises(ConstraintError, match="without its strategies; give the path"):
        settled(found.policy, router=found.router)
    with pytest.raises(ConstraintError, match="leave out strategy"):
        settled(found.policy, router=found.router, strategy=PickOne())
    plain = settled(toy_policy)
    with pytest.raises(ConstraintError, match="leave out strategy"):
        settled(plain.policy, router=plain.router, strategy=found.strategy)


def test_strategies_that_are_not_beside_it_or_damaged(toy_policy: Path, tmp_path: Path) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    file = tmp_path / "policy.strategies.json"
    whole = file.read_text("utf-8")
    for content, message in (
        (whole[: len(whole) // 2], "no strategies can be read"),
        ("[]", "no strategies can be read"),
        (whole.replace('"poet"', '"bard"'), "they ask 'bard', none of the models"),
        ('{"checkpoint": "other", "panels": []}', "it is of other, and the router of"),
    ):
        file.write_text(content, "utf-8")
        with pytest.raises(DataError, match=message) as error:
            settled(path)
        assert str(file) in str(error.value)
        assert "crossroute plan FILE" in str(error.value)
    checkpoint = read_policy(path).load_router(path).checkpoint.id
    file.write_text(f'{{"checkpoint": "{checkpoint}", "panels": []}}', "utf-8")
    with pytest.raises(DataError, match="panels: there is none"):
        settled(path)
    file.unlink()
    with pytest.raises(DataError, match=r"there is no file .*move both together"):
        settled(path)


def test_a_strategy_that_gets_everything_is_no_single_model(
    toy_policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_strategies(toy_policy, tmp_path, "clerk", "poet")
    content = yaml.safe_load(path.read_text("utf-8"))
    content["promised"]["shares"] = {"clerk, then poet (until 0.9)": 1.0}
    path.write_text(yaml.safe_dump(content), "utf-8")
    found = settled(path)
    assert not told(caplog)
    assert found.policy is not None
    assert found.policy.first_asked() == {"clerk": 1.0}


def test_the_model_that_is_asked_first_has_the_longest_name_that_fits(toy_policy: Path) -> None:
    policy = read_policy(toy_policy)
    shares = {"a, then b (until 0.5)": 0.25, "a, then b, then c (until 0.5)": 0.25, "c": 0.5}
    promised = policy.promised.model_copy(update={"shares": shares})
    changes: dict[str, Any] = {"models": ("a", "a, then b", "c"), "promised": promised}
    assert policy.model_copy(update=changes).first_asked() == {
        "a": 0.25,
        "a, then b": 0.25,
        "c": 0.5,
    }
