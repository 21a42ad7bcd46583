"""at_share, at_cost and at_quality of a router, and the watch over what comes later."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from fakes_core import make_rows

from crossroute import (
    ConstraintError,
    CrossRouter,
    Decision,
    ModelPool,
    NoCandidateError,
    QueryError,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.budget.share import Sample
from crossroute.budget.tuned import Tuned, prompts_for
from crossroute.training.data import RoutingData, Row

STORY = "Write a short story about a lynx who lives by the marsh and meets a wren."
SUM = "What is 17 * 23?"


@pytest.fixture(scope="module")
def prompts(toy_data: RoutingData) -> list[str]:
    return [str(prompt) for prompt in toy_data.prompts[:200]]


def got(tuned: Tuned[CrossRouter], prompts: list[str]) -> dict[str, float]:
    found = [one.model for one in tuned.router.route_batch(prompts, tuned.willingness_to_pay)]
    return {model: found.count(model) / len(found) for model in tuned.router.pool}


@pytest.mark.parametrize("model", ["poet", "clerk", "sage"])
@pytest.mark.parametrize("share", [0.1, 0.35, 0.7])
def test_a_model_gets_its_share(
    model: str, share: float, toy_router: CrossRouter, prompts: list[str]
) -> None:
    tuned = toy_router.at_share(prompts, {model: share})
    assert tuned.reached, tuned.note
    assert tuned.shares[model] == pytest.approx(share, abs=0.006)
    shares = got(tuned, prompts)
    # The decisions are those that were counted.
    assert shares[model] == pytest.approx(tuned.shares[model])
    assert sum(tuned.shares.values()) == pytest.approx(1)
    assert set(tuned.surcharge_usd) <= {model}
    found = tuned.router.route_batch(prompts, tuned.willingness_to_pay)
    assert tuned.cost_usd == pytest.approx(np.mean([one.cost_usd for one in found]))
    assert tuned.quality == pytest.approx(np.mean([one.quality for one in found]))


def test_several_models_get_their_shares(toy_router: CrossRouter, prompts: list[str]) -> None:
    asked = {"poet": 0.25, "sage": 0.15}
    tuned = toy_router.at_share(prompts, asked, willingness_to_pay=0.002)
    assert tuned.willingness_to_pay == 0.002
    assert tuned.reached
    shares = got(tuned, prompts)
    for model, share in asked.items():
        assert shares[model] == pytest.approx(share, abs=0.006)


def test_shares_come_again_on_other_prompts(toy_router: CrossRouter, toy_data: RoutingData) -> None:
    every = [str(prompt) for prompt in toy_data.prompts]
    tuned = toy_router.at_share(every[::2], {"sage": 0.3})
    # Three standard errors of two draws of 200.
    assert got(tuned, every[1::2])["sage"] == pytest.approx(0.3, abs=0.14)


def test_surcharges_that_are_there_already_stay(
    toy_router: CrossRouter, prompts: list[str]
) -> None:
    charged = toy_router.with_surcharges({"clerk": 1.0})
    tuned = charged.at_share(prompts, {"sage": 0.3}, willingness_to_pay=0.01)
    assert tuned.surcharge_usd["clerk"] == 1.0
    shares = got(tuned, prompts)
    assert shares["sage"] == pytest.approx(0.3, abs=0.006)
    assert shares["clerk"] == 0


def test_constraints_and_capabilities_are_kept(toy_router: CrossRouter, prompts: list[str]) -> None:
    limits = {"excluded": ["poet"]}
    tuned = toy_router.at_share(prompts, {"sage": 0.3}, constraints=limits)
    assert tuned.reached
    assert "poet" not in tuned.shares
    found = tuned.router.route_batch(prompts, tuned.willingness_to_pay, constraints=limits)
    share = sum(one.model == "sage" for one in found) / len(found)
    assert share == pytest.approx(0.3, abs=0.006)
    none = toy_router.at_share(prompts, {"poet": 0.3}, constraints=limits)
    assert not none.reached
    assert none.shares["poet"] == 0
    assert "poet gets 0.0% at the nearest, not 30.0%" in none.note
    assert "it may serve 0 of the 200 prompts" in none.note
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    with pytest.raises(NoCandidateError, match="Query 1: "):
        toy_router.at_share([SUM, image], {"sage": 0.5})


def test_prompts_that_are_all_alike_cannot_be_shared_out(toy_router: CrossRouter) -> None:
    tuned = toy_router.at_share([SUM] * 50, {"sage": 0.4})
    assert not tuned.reached
    assert tuned.shares["sage"] in (0, 1)
    assert "prompts that are predicted alike change together" in tuned.note


def test_at_cost_is_the_best_quality_for_it(toy_router: CrossRouter, prompts: list[str]) -> None:
    least = toy_router.at_cost(prompts, 0)
    most = toy_router.at_cost(prompts, 1.0)
    assert not least.reached
    assert least.willingness_to_pay == 0
    assert "Even the cheapest models cost $" in least.note
    assert most.reached
    assert math.isinf(most.willingness_to_pay)
    assert "a larger budget buys nothing" in most.note
    budget = (least.cost_usd + most.cost_usd) / 2
    tuned = toy_router.at_cost(prompts, budget)
    assert tuned.reached
    # One prompt more would be too much.
    assert budget * 0.9 < tuned.cost_usd <= budget
    assert least.quality < tuned.quality < most.quality
    found = tuned.router.route_batch(prompts, tuned.willingness_to_pay)
    assert np.mean([one.cost_usd for one in found]) == pytest.approx(tuned.cost_usd)


def test_at_quality_is_the_least_cost_for_it(toy_router: CrossRouter, prompts: list[str]) -> None:
    most = toy_router.at_quality(prompts, 1.0)
    assert not most.reached
    assert f"{most.quality:.4f} in the mean, which is the nearest" in most.note
    least = toy_router.at_quality(prompts, 0.0)
    assert least.reached
    assert least.willingness_to_pay == 0
    asked = (least.quality + most.quality) / 2
    tuned = toy_router.at_quality(prompts, asked)
    assert tuned.reached
    assert asked <= tuned.quality < asked + 0.02
    assert least.cost_usd < tuned.cost_usd < most.cost_usd


@pytest.mark.parametrize("surcharge", [-0.01, 0.01])
def test_the_nearest_is_the_nearest_with_surcharges_too(
    surcharge: float, toy_router: CrossRouter, prompts: list[str]
) -> None:
    # Who is charged for is dearest where costs count most, or least.
    charged = toy_router.with_surcharges({"sage": surcharge, "clerk": -surcharge})
    levels = [0.0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1.0, math.inf]
    found = [charged.route_batch(prompts, level) for level in levels]
    least = min(float(np.mean([one.cost_usd for one in batch])) for batch in found)
    best = max(float(np.mean([one.quality for one in batch])) for batch in found)
    assert charged.at_cost(prompts, 0).cost_usd <= least * (1 + 1e-9)
    assert charged.at_quality(prompts, 1).quality >= best - 1e-9
    # The nearest can be had, as it is told.
    for quality in (False, True):
        nearest = charged.at_quality(prompts, 1) if quality else charged.at_cost(prompts, 0)
        number = float(re.findall(r"[0-9.]*[0-9]", nearest.note)[0])
        again = (charged.at_quality if quality else charged.at_cost)(prompts, number)
        assert again.reached
    # Of what is cheap enough, the best; of what is good enough, the cheapest.
    for batch in found:
        cost = float(np.mean([one.cost_usd for one in batch]))
        quality = float(np.mean([one.quality for one in batch]))
        assert charged.at_cost(prompts, cost * (1 + 1e-9)).quality >= quality - 1e-9
        assert charged.at_quality(prompts, quality - 1e-9).cost_usd <= cost * (1 + 1e-9)


@pytest.mark.parametrize(
    ("shares", "error", "said"),
    [
        ({"poett": 0.3}, UnknownModelError, "did you mean 'poet'"),
        ({"poet": -0.1}, ConstraintError, "The share of poet is -0.1; give a number from 0 to 1"),
        ({"poet": 30}, ConstraintError, "The share of poet is 30"),
        ({"poet": math.nan}, ConstraintError, "The share of poet is nan"),
        ({"poet": "half"}, ConstraintError, "The share of poet is 'half'"),
        ({"poet": True}, ConstraintError, "The share of poet is True"),
        ({"poet": 0.6, "sage": 0.5}, ConstraintError, r"The shares are 1.1 together"),
        ({}, ConstraintError, "give shares by model ids"),
        ([("poet", 0.3)], ConstraintError, "give shares by model ids"),
    ],
)
def test_what_is_no_share_is_refused_before_anything_is_predicted(
    shares: object,
    error: type[Exception],
    said: str,
    toy_router: CrossRouter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("predicted")

    monkeypatch.setattr(CrossRouter, "_predict", never)
    with pytest.raises(error, match=said):
        toy_router.at_share([SUM], shares)  # type: ignore[arg-type]


def test_shares_of_all_candidates_are_1_together(
    toy_router: CrossRouter, prompts: list[str]
) -> None:
    two = toy_router.subset(["poet", "sage"])
    with pytest.raises(
        ConstraintError, match=r"are 0\.6 together, and there is no other candidate"
    ):
        two.at_share(prompts, {"poet": 0.3, "sage": 0.3})
    # Rounded ones are near enough.
    assert two.at_share(prompts, {"poet": 0.333, "sage": 0.666}).reached


def test_it_says_what_is_in_the_way_of_a_share(toy_router: CrossRouter, prompts: list[str]) -> None:
    sage = toy_router.pool["sage"]
    twins = toy_router.over(
        ModelPool([*toy_router.pool.values(), sage.model_copy(update={"id": "sage-2"})])
    )
    tuned = twins.at_share(prompts, {"sage": 0.2, "sage-2": 0.1, "poet": 0.4})
    assert not tuned.reached
    # Nobody else is off for it.
    assert tuned.shares["sage-2"] == 0
    assert tuned.shares["sage"] == pytest.approx(0.2, abs=0.006)
    assert tuned.shares["poet"] == pytest.approx(0.4, abs=0.006)
    assert "it is predicted just as sage is: leave one of them out" in tuned.note
    small = sage.model_copy(update={"context_window_tokens": 50})
    long = [f"{prompt} {'and so on ' * 100}" for prompt in prompts]
    short = toy_router.subset(["poet", "sage"])
    short = short.over(ModelPool([toy_router.pool["poet"], small]))
    tuned = short.at_share(prompts[:50] + long[:150], {"poet": 0.3})
    assert not tuned.reached
    assert "nobody but poet may serve 150 of the 200 prompts" in tuned.note
    both = {"poet": 0.3, "sage": 0.3}
    tuned = toy_router.at_share(prompts, both, constraints={"excluded": ["clerk"]})
    assert not tuned.reached
    assert "nobody but poet, sage may serve 200 of the 200 prompts" in tuned.note


def test_what_is_no_goal_is_refused(toy_router: CrossRouter) -> None:
    for cost in (-1, math.nan, "1"):
        with pytest.raises(ConstraintError, match="The mean cost is"):
            toy_router.at_cost([SUM], cost)  # type: ignore[arg-type]
    for quality in (-0.1, 1.1, None):
        with pytest.raises(ConstraintError, match="The mean quality is"):
            toy_router.at_quality([SUM], quality)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="There are no prompts"):
        toy_router.at_share([], {"poet": 0.3})
    with pytest.raises(QueryError, match="Give a list of queries"):
        toy_router.at_cost(SUM, 0.1)
    with pytest.raises(ConstraintError, match="willingness_to_pay is infinite"):
        toy_router.at_share([SUM], {"poet": 0.3}, willingness_to_pay=math.inf)
    with pytest.raises(ConstraintError, match="share_off is -1"):
        toy_router.at_cost([SUM], 1).watch(share_off=-1)
    with pytest.raises(WillingnessToPayError):
        toy_router.at_share([SUM], {"poet": 0.3}, willingness_to_pay=-1)


def test_how_sure_it_is(toy_router: CrossRouter, prompts: list[str]) -> None:
    tuned = toy_router.at_share(prompts, {"sage": 0.3})
    assert tuned.share_error("sage") == pytest.approx(math.sqrt(0.3 * 0.7 / 200))
    assert tuned.share_error("nobody") == 0
    assert 0 < tuned.cost_error_usd < tuned.cost_usd
    assert prompts_for(0.3, 3) == 897
    plain = json.loads(json.dumps(tuned.to_dict()))
    assert plain["asked"] == {"shares": {"sage": 0.3}}
    # No rounding is left of what is the same everywhere.
    same = Sample(np.zeros(10, np.intp), np.full(10, 0.1), np.full(10, 0.1))
    assert replace(tuned, sample=same).cost_error_usd == 0
    assert replace(tuned, sample=same).quality_error == 0
    assert plain["shares"]["sage"] == pytest.approx(0.3, abs=0.006)
    one = json.loads(json.dumps(toy_router.at_cost([SUM], 1.0).to_dict()))
    assert (one["willingness_to_pay"], one["cost_error_usd"]) == ("inf", "inf")
    assert one["asked"] == {"cost_usd": 1.0}


# Drift


@pytest.fixture(scope="module")
def tuned(toy_router: CrossRouter, prompts: list[str]) -> Tuned[CrossRouter]:
    return toy_router.at_share(prompts, {"sage": 0.3})


@pytest.fixture(scope="module")
def to_sage(tuned: Tuned[CrossRouter]) -> Decision:
    return tuned.router.route(STORY, tuned.willingness_to_pay).preferring("sage")


@pytest.fixture(scope="module")
def to_poet(to_sage: Decision) -> Decision:
    return to_sage.preferring("poet")


def test_what_is_as_asked_is_no_drift(
    tuned: Tuned[CrossRouter],
    to_sage: Decision,
    to_poet: Decision,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = tuned.watch()
    rng = np.random.default_rng(0)
    for number in rng.uniform(size=3_000):
        watch.seen(to_sage if number < 0.3 else to_poet)
    assert watch.alarm is None
    assert watch.calls == 3_000
    assert watch.shares["sage"] == pytest.approx(0.3, abs=0.03)
    assert watch.cost_usd > 0
    assert 0 < watch.quality < 1
    assert not caplog.records


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_drift_is_told_once(
    share: float,
    tuned: Tuned[CrossRouter],
    to_sage: Decision,
    to_poet: Decision,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = tuned.watch()
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING, "crossroute"):
        for number in rng.uniform(size=1_000):
            watch.seen(to_sage if number < share else to_poet)
    (record,) = caplog.records
    assert record.getMessage() == watch.alarm
    assert "not 30.0% as it was tuned to" in record.getMessage()
    assert "other prompts come in than the 200 it was tuned on" in record.getMessage()
    assert "Tune again" in record.getMessage()
    assert watch.calls == 1_000


def test_what_the_sample_may_be_off_by_chance_is_no_drift(
    tuned: Tuned[CrossRouter], to_sage: Decision, to_poet: Decision
) -> None:
    # Of 200 prompts, two standard errors are 6.5 points.
    watch = tuned.watch(warn=False)
    rng = np.random.default_rng(1)
    for number in rng.uniform(size=3_000):
        watch.seen(to_sage if number < 0.365 else to_poet)
    assert watch.alarm is None


def test_a_small_sample_promises_little(toy_router: CrossRouter, to_sage: Decision) -> None:
    # Nobody knows from three prompts that it is never the other one.
    tuned = toy_router.at_share([SUM, STORY, SUM], {"sage": 0.0})
    watch = tuned.watch(warn=False)
    for number in range(300):
        watch.seen(to_sage if number % 4 == 0 else to_sage.preferring("poet"))
    assert watch.alarm is None
    for _ in range(300):
        watch.seen(to_sage)
    assert watch.alarm is not None


def test_in_shadow_it_is_the_routers_own_choice_that_counts(
    tuned: Tuned[CrossRouter], to_sage: Decision, to_poet: Decision
) -> None:
    watch = tuned.watch(warn=False)
    own = next(one for one in to_sage.candidates if one.model == "sage")
    watch.seen(replace(to_poet, shadow=own))
    assert watch.shares == {"sage": 1.0}


def test_cost_and_quality_are_watched(toy_router: CrossRouter, prompts: list[str]) -> None:
    most = toy_router.at_cost(prompts, 1.0).cost_usd
    stories = [prompt for prompt in prompts if prompt.startswith("Write")]
    sums = [prompt for prompt in prompts if prompt.startswith("What")]
    tuned = toy_router.at_cost(prompts, most / 2)
    for later, drifts in ((prompts, False), (stories, True), (sums, True)):
        watch = tuned.watch(warn=False)
        for decision in tuned.router.route_batch(later, tuned.willingness_to_pay) * 30:
            watch.seen(decision)
        assert (watch.alarm is not None) == drifts
    assert watch.alarm is not None
    assert "are predicted to cost $" in watch.alarm
    tuned = toy_router.at_quality(prompts, 0.8)
    watch = tuned.watch(warn=False)
    (decision,) = tuned.router.route_batch([SUM], tuned.willingness_to_pay)
    for _ in range(300):
        watch.seen(replace(decision, quality=0.2))
    assert watch.alarm is not None
    assert "are predicted a quality of 0.200 in the mean" in watch.alarm


def test_many_threads_may_tell_it(
    tuned: Tuned[CrossRouter], to_sage: Decision, to_poet: Decision
) -> None:
    watch = tuned.watch(warn=False)

    def tell() -> None:
        for _ in range(200):
            watch.seen(to_sage)
            watch.seen(to_poet)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.calls == 1_600
    assert watch.shares == {"sage": 0.5, "poet": 0.5}


def test_asked_and_realised_stand_side_by_side(toy_router: CrossRouter) -> None:
    rows = RoutingData.from_rows([Row.model_validate(row) for row in make_rows(400, seed=11)])
    prompts = [str(row["prompt"]) for row in make_rows(200, seed=7)]
    plain = toy_router.at_quality(prompts, 0.8)
    assert plain.checked is None
    dear = RoutingData(**{**vars(rows), "cost_usd": rows.cost_usd * 2})
    tuned = toy_router.at_quality(prompts, 0.8, held_out=dear)
    checked = tuned.checked
    assert checked is not None
    assert checked.asked_quality == 0.8
    assert checked.quality.mean == pytest.approx(checked.predicted_quality, abs=0.1)
    assert checked.cost_usd.mean == pytest.approx(checked.predicted_cost_usd, rel=0.25)
    # What is expected is corrected; what decides, and what a watch compares with, is not.
    alike = toy_router.at_cost(prompts, math.inf, held_out=dear)
    assert alike.cost_usd == pytest.approx(2 * alike.sample.cost_usd.mean(), rel=0.25)
    assert json.loads(json.dumps(tuned.to_dict()))["checked"]["rows"] == checked.rows
    worse = RoutingData(**{**vars(rows), "score": rows.score * 0.5})
    beyond = toy_router.at_quality(prompts, 0.8, held_out=worse)
    assert not beyond.reached
    assert beyond.checked is not None
    assert beyond.checked.floor_holds is False
    share = toy_router.at_share(prompts, {"sage": 0.4}, held_out=rows)
    assert share.checked is not None
    assert share.checked.asked_quality is None
