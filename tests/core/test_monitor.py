"""Records are held against what was predicted and promised: what alarms, and what does not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from fakes_monitor import (
    BEGIN,
    CHEAP,
    DEAR,
    USUAL,
    World,
    days,
    policy,
    policy_in_turn,
    records,
    records_in_turn,
    write_records,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crossroute.cli.monitor import summary
from crossroute.errors import ConstraintError, DataError
from crossroute.onboarding.scores import load_scores
from crossroute.traffic import surprise, windows
from crossroute.traffic.feedback import write_scores
from crossroute.traffic.monitor import LEAST_CALLS, Monitored, Tolerances, monitor
from crossroute.traffic.records import CallRecord, Feedback, Prediction, read_records

HOURS = (-12, 0, 14)
SOME = list(records([USUAL], 80))
SOME_POLICY = policy()


def shifted(**changes: float) -> list[World]:
    """Three days as planned, and three that are not."""
    return [USUAL] * 3 + [replace(USUAL, **changes)] * 3


def kinds(found: Monitored) -> set[tuple[str, str | None]]:
    return {(alarm.kind, alarm.model) for alarm in found.alarms}


# P-values


@pytest.mark.parametrize(
    "counts", [(3, 40, 0, 200), (10, 30, 100, 300), (0, 50, 30, 100), (500, 900, 450, 1000)]
)
def test_a_share_is_tested_exactly(counts: tuple[int, int, int, int]) -> None:
    count, calls, promised, rows = counts
    tables = [[count, calls - count], [promised, rows - promised]]
    one_sided = [stats.fisher_exact(tables, side).pvalue for side in ("less", "greater")]
    assert surprise.other_share(*counts) == pytest.approx(min(1, 2 * min(one_sided)), rel=1e-6)


def test_shares_of_many_calls_are_tested_in_bounded_steps() -> None:
    assert surprise.other_share(300_000, 1_000_000, 600, 2_000) > 0.9
    assert surprise.other_share(400_000, 1_000_000, 600, 2_000) < 1e-15


@pytest.mark.parametrize("calls", [30, 100, 5_000])
@pytest.mark.parametrize("t", [-1.0, 0.5, 3.0, 6.0])
def test_a_mean_is_tested_by_t(calls: int, t: float) -> None:
    assert surprise.higher_mean(t, 1.0, calls) == pytest.approx(stats.t.sf(t, calls - 1), rel=0.05)


def test_equal_differences_have_no_chance_in_them() -> None:
    assert surprise.higher_mean(0.1, 0.0, 30) == 0
    assert surprise.higher_mean(0.0, 0.0, 30) == 1


def test_a_rate_is_bounded() -> None:
    for count in (4, 8, 12, 30):
        exact = stats.binom.sf(count - 1, 100, 0.05)
        bound = surprise.higher_rate(count, 100, 0.05)
        assert exact <= bound * (1 + 1e-9)
    assert surprise.higher_rate(30, 100, 0.05) < 1e-9
    assert surprise.higher_rate(0, 100, 0.05) == 1


def test_the_lowest_mean_is_below_all_likely_ones() -> None:
    low = surprise.lowest_mean(0.9, 500, 0.001)
    assert 0.82 < low < 0.9
    assert stats.binom.sf(449, 500, low) <= 0.001
    assert surprise.lowest_mean(0.9, 10**9, 0.001) == pytest.approx(0.9, abs=1e-3)
    assert surprise.lowest_mean(0.0, 10, 0.001) == 0


def test_scores_are_seldom_said_to_be_lower_than_they_are() -> None:
    rng = np.random.default_rng(0)
    expected = np.full(200, 0.8)
    false = [
        surprise.lower_score((rng.random(200) < 0.8).astype(float), expected, 0.1) <= 0.1
        for _ in range(400)
    ]
    # 40 are allowed, and six more standard deviations.
    assert sum(false) <= 76
    assert surprise.lower_score(np.zeros(50), np.full(50, 0.5), 1e-4) < 1e-4


# Alarms


def test_matching_traffic_seldom_alarms() -> None:
    """The chance in what was promised on few rows is taken into account, too."""
    alarms = [
        bool(monitor(records([USUAL] * 3, 300, seed), policy(seed=seed, rows=60)).alarms)
        for seed in range(60)
    ]
    # 1 % is allowed, and the chance of more than 4 of 60 is less than one in a thousand then.
    assert sum(alarms) <= 4


def test_models_that_are_asked_in_turn_as_planned_seldom_alarm() -> None:
    """Who answers in the end is the share of nobody, and says nothing of a model's quality."""
    found = [
        monitor(records_in_turn([USUAL] * 3, 300, seed), policy_in_turn(rows=200, seed=seed))
        for seed in range(30)
    ]
    assert sum(bool(one.alarms) for one in found) <= 3
    tested = {(one.kind, one.model) for one in found[0].figures}
    assert {("share", DEAR), ("share", CHEAP), ("quality", DEAR), ("score", None)} <= tested
    assert {one.model for one in found[0].figures if one.kind == "share"} == {DEAR, CHEAP}
    assert found[0].together.chosen[DEAR] / found[0].together.chosen.total() < 0.5
    # By who answers, as without strategies, they would.
    plain = policy_in_turn().model_copy(update={"strategies": None})
    assert ("share", DEAR) in kinds(monitor(records_in_turn([USUAL] * 3), plain))


def test_shares_of_models_that_are_asked_first_alarm() -> None:
    found = monitor(records_in_turn(shifted(share=0.65)), policy_in_turn())
    assert {("share", DEAR), ("share", CHEAP)} <= kinds(found)
    alarm = next(one for one in found.alarms if one.model == DEAR and one.kind == "share")
    assert f"{DEAR} is asked first in 6" in alarm.text


def test_worse_answers_of_one_model_alone_still_alarm() -> None:
    worse = (
        one.model_copy(update={"feedback": {}})
        if one.model != DEAR or one.asks[0].role == "draft" or not one.feedback
        else one.model_copy(
            update={"feedback": {"user": one.feedback["user"].model_copy(update={"score": 0.0})}}
        )
        for one in records_in_turn([USUAL] * 3)
    )
    assert ("quality", DEAR) in kinds(monitor(worse, policy_in_turn()))


def test_costs_with_a_long_tail_seldom_alarm() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        paid = windows.Paired()
        for cost in rng.lognormal(-1.125, 1.5, 60):
            paid.add(float(cost), 1.0)
        error = paid.deviation / math.sqrt(paid.calls)
        # The mean is 1.
        alarms += surprise.higher_mean(paid.excess, error, paid.calls) <= 0.01
    assert alarms <= 12


def test_shifted_shares_alarm() -> None:
    found = monitor(records(shifted(share=0.65)), policy())
    assert {("share", DEAR), ("share", CHEAP)} <= kinds(found)
    alarm = next(one for one in found.alarms if one.model == DEAR and one.kind == "share")
    assert (alarm.since, alarm.windows) == (BEGIN + timedelta(days=3), 3)
    assert f"{DEAR} gets 6" in alarm.text
    assert "since 2026-11-04 00:00, in 3 of 6 windows)" in alarm.text
    assert "plan again" in alarm.text


def test_dearer_answers_alarm() -> None:
    found = monitor(records(shifted(dearer=1.5)), policy())
    assert {("price", DEAR), ("price", CHEAP)} <= kinds(found)
    assert {("cost", None), ("saving", None)} & kinds(found)
    assert not kinds(found) & {("share", DEAR), ("score", None), ("failed", None)}
    alarm = next(one for one in found.alarms if one.kind == "price")
    assert "more than predicted" in alarm.text
    assert alarm.figure.realised > 1.1 * alarm.figure.expected
    # That matters only if it is said to.
    tolerant = Tolerances(cost=0.9)
    assert not monitor(records(shifted(dearer=1.5)), policy(), tolerances=tolerant).alarms


def test_cheaper_answers_do_not_alarm() -> None:
    assert not monitor(records(shifted(dearer=0.5)), policy()).alarms


def test_worse_feedback_alarms() -> None:
    found = monitor(records(shifted(worse=0.4)), policy())
    assert {("quality", CHEAP), ("score", None)} <= kinds(found)
    assert ("quality", DEAR) not in kinds(found)
    texts = {one.kind: one.text for one in found.alarms}
    assert "below that predicted" in texts["quality"]
    assert "onboard it" in texts["quality"]
    assert f"until then {DEAR} is the safe choice" in texts["score"]
    # Of another source there is none.
    other = monitor(records(shifted(worse=0.4)), policy(), source="judge")
    assert not kinds(other) & {("quality", CHEAP), ("score", None)}
    assert any("0 answers with feedback are too few" in note for note in other.notes)


def test_a_failing_provider_alarms() -> None:
    found = monitor(records(shifted(failing=0.25)), policy())
    assert ("failures", CHEAP) in kinds(found)
    assert not {("failures", DEAR), ("failed", None)} & kinds(found)
    text = next(one.text for one in found.alarms if one.kind == "failures")
    assert "RateLimitError" in text
    assert "look at the provider" in text


def test_failed_calls_alarm_and_refusals_do_not() -> None:
    broken = [
        one.model_copy(update={"outcome": "failed", "model": None, "asks": ()})
        if number % 5 == 0
        else one
        for number, one in enumerate(records([USUAL], 500))
    ]
    found = monitor(broken)
    assert kinds(found) == {("failed", None)}
    assert "20.0% of the calls fail" in found.alarms[0].text

    def refused() -> Iterator[CallRecord]:
        for one in records([replace(USUAL, failing=0.5)], 500):
            asks = tuple(
                ask.model_copy(update={"error": ask.error and "refused"}) for ask in one.asks
            )
            yield one.model_copy(update={"asks": asks})

    found = monitor(refused())
    assert not kinds(found)
    assert found.together.counts["passed on"] > 100


def test_without_a_policy_predictions_are_all_there_is() -> None:
    found = monitor(records(shifted(share=0.65, dearer=1.5)))
    assert {kind for kind, _ in kinds(found)} == {"price"}
    assert any("--policy" in note for note in found.notes)


def test_calls_in_shadow_are_held_against_shares_only() -> None:
    def in_shadow(dearer: float) -> Iterator[CallRecord]:
        for one in records([replace(USUAL, dearer=dearer, worse=0.6)], 600):
            decision = one.decision
            dear = next(c for c in decision.candidates if c.model == DEAR)
            own = Prediction(**decision.candidates[0].model_dump())
            update = {"model": DEAR, "shadow": own, "cost_usd": dear.cost_usd}
            asks = (one.asks[0].model_copy(update={"model": DEAR, "cost_usd": dear.cost_usd}),)
            yield one.model_copy(
                update={
                    "model": DEAR,
                    "decision": decision.model_copy(update=update),
                    "asks": asks,
                    "cost_usd": dear.cost_usd,
                }
            )

    found = monitor(in_shadow(2.0), policy())
    assert not kinds(found) & {("share", DEAR), ("cost", None), ("saving", None), ("score", None)}
    assert any("in shadow" in note for note in found.notes)
    assert {one.kind for one in found.figures} == {
        "failed",
        "failures",
        "price",
        "quality",
        "share",
    }


def test_drawn_calls_are_no_shadow() -> None:
    def drawn() -> Iterator[CallRecord]:
        for number, one in enumerate(records([USUAL], 600)):
            first, second = one.decision.candidates
            update: dict[str, object] = {"shadow": first, "probability": 0.95}
            if number % 20 == 0:
                update = {"shadow": first, "probability": 0.05, "model": second.model}
            yield one.model_copy(update={"decision": one.decision.model_copy(update=update)})

    found = monitor(drawn(), policy())
    assert not found.alarms
    assert {"cost", "saving", "score"} <= {one.kind for one in found.figures}
    # Those that were drawn are not the router's.
    assert found.together.cost.calls == 570


def test_a_policy_for_one_model_is_not_held_against_the_routers_choice() -> None:
    promise = policy()
    shares = promise.promised.model_copy(update={"shares": {DEAR: 1.0}, "saving": 0.0})
    promise = promise.model_copy(
        update={"willingness_to_pay": None, "model": DEAR, "promised": shares}
    )

    def answered(passed_on: int) -> Iterator[CallRecord]:
        """All by the dear model; of 10 calls, so many by the other one after a failure."""
        for number, one in enumerate(records([USUAL], 600)):
            cost = {c.model: c.cost_usd for c in one.decision.candidates}
            model = CHEAP if number % 10 < passed_on else DEAR
            own = one.decision.candidates[0]
            decision = one.decision.model_copy(update={"model": DEAR, "shadow": own})
            asks = (one.asks[0].model_copy(update={"model": model, "cost_usd": cost[model]}),)
            update = {"model": model, "cost_usd": cost[model], "decision": decision, "asks": asks}
            yield one.model_copy(update=update)

    found = monitor(answered(0), promise)
    assert found.together.chosen == {DEAR: 600}
    assert found.together.counts["in shadow"] == 0
    assert not [alarm.text for alarm in found.alarms if alarm.kind == "share"]
    assert "cost" in {one.kind for one in found.figures}
    assert ("share", DEAR) in kinds(monitor(answered(3), promise))


# Windows


def test_too_few_calls_say_nothing() -> None:
    found = monitor(records([replace(USUAL, dearer=9.0)], LEAST_CALLS - 1), policy())
    assert (found.alarms, found.figures) == ([], [])
    assert found.notes == ["29 calls are too few to say anything: 30 at least."]
    nothing = monitor([], policy())
    assert (nothing.windows, nothing.alarms) == ([], [])


def test_windows_of_hours_and_of_calls() -> None:
    hours = monitor(records([USUAL], 240), window="hour")
    assert [one.counts["calls"] for one in hours.windows] == [10] * 24
    assert hours.windows[1].start == BEGIN + timedelta(hours=1)
    # Each says nothing, and all of them together do.
    assert {one.start for one in hours.figures} == {None}
    calls = monitor(records([USUAL], 240), window=100)
    assert [one.counts["calls"] for one in calls.windows] == [100, 100, 40]
    with pytest.raises(ConstraintError, match="29 calls"):
        monitor([], window=29)


def test_the_last_windows_alone() -> None:
    found = monitor(records([*shifted(share=0.9), USUAL]), policy(), last=1)
    assert (len(found.windows), found.alarms) == (1, [])
    again = monitor(records([*shifted(share=0.9), USUAL]), policy())
    assert all("not in the latest" in alarm.text for alarm in again.alarms if alarm.since)
    assert again.alarms


def test_records_in_any_order() -> None:
    ordered = list(records([USUAL] * 3, 100))
    mixed = [ordered[place] for place in np.random.default_rng(0).permutation(len(ordered))]
    some = [(w.start, w.counts) for w in windows.windows_of(mixed, "day", last=2)]
    assert some == [(w.start, w.counts) for w in windows.windows_of(ordered, "day", last=2)]
    assert len(some) == 2


def test_sums_are_those_of_the_calls() -> None:
    found = list(records([USUAL], 400))
    (window,) = windows.windows_of(found, "day")
    assert window.usd == pytest.approx(sum(one.cost_usd or 0 for one in found))
    paid = window.prices[DEAR]
    off = np.array(
        [
            (one.cost_usd or 0) - one.predicted.cost_usd
            for one in found
            if one.model == DEAR and one.predicted
        ]
    )
    assert paid.excess == pytest.approx(off.mean())
    assert paid.deviation == pytest.approx(off.std(ddof=1))
    latency = [one.latency_s for one in found]
    for share in (0.5, 0.95):
        assert window.latency_s(share) == pytest.approx(np.quantile(latency, share), rel=0.08)
    scores = [one.score() for one in found if one.score() is not None]
    assert window.all_scores().sum() == pytest.approx(sum(filter(None, scores)))


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST_WINDOWS", 2)
    with pytest.raises(DataError, match="more than 2 windows"):
        monitor(records([USUAL] * 3, 40))
    assert len(monitor(records([USUAL] * 3, 40), last=2).windows) == 2
    monkeypatch.setattr(windows, "MOST_NAMES", 3)
    with pytest.raises(DataError, match="more than 3 models"):
        monitor(records([USUAL], 40))


@pytest.mark.parametrize(
    "wrong", [{"share": -0.1}, {"quality": 1.0}, {"failures": 0.0}, {"cost": math.nan}]
)
def test_tolerances_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConstraintError, match=next(iter(wrong))):
        Tolerances(**wrong)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(
            st.datetimes(timezones=st.sampled_from([timezone(timedelta(hours=h)) for h in HOURS])),
            st.floats(0, 1e6),
            NUMBERS,
            NUMBERS,
            st.floats(0, 1),
            st.floats(0, 1e9),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_records_that_hold_any_numbers(
    found: list[tuple[datetime, float, float, float, float, float]],
) -> None:
    def any_records() -> Iterator[CallRecord]:
        for number, one in enumerate(SOME):
            at, cost, predicted, quality, score, latency = found[number % len(found)]
            candidates = tuple(
                c.model_copy(update={"cost_usd": predicted, "quality": quality})
                for c in one.decision.candidates
            )
            asks = tuple(ask.model_copy(update={"cost_usd": cost}) for ask in one.asks)
            yield one.model_copy(
                update={
                    "at": at,
                    "cost_usd": cost,
                    "latency_s": latency,
                    "asks": asks,
                    "decision": one.decision.model_copy(update={"candidates": candidates}),
                    "feedback": {"user": Feedback(id=one.id, at=one.at, score=score)},
                }
            )

    seen = monitor(any_records(), SOME_POLICY, window=40)
    json.dumps(summary(seen), allow_nan=False)
    monitor(any_records(), SOME_POLICY)


# Files


@pytest.mark.parametrize("suffix", [".jsonl", ".db"])
def test_both_kinds_of_files(suffix: str, tmp_path: Path) -> None:
    path = write_records(tmp_path / f"records{suffix}", shifted(worse=0.4))
    found = monitor(read_records(path), policy())
    again = monitor(records(shifted(worse=0.4)), policy())
    assert found.alarms == again.alarms
    assert found.alarms


def test_broken_records_are_told(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", [USUAL], 40)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"kind": "call", "id": "tor')
    told: list[str] = []
    found = monitor(read_records(path, skip_broken=True, on_broken=told.append))
    assert found.together.counts["calls"] == 40
    (said,) = told
    assert said.startswith(f"{path}:")


def test_feedback_becomes_scores(tmp_path: Path) -> None:
    found, rows = write_scores(records([USUAL], 100), tmp_path / "scores")
    scored = [call for call in days([USUAL], 100, 0) if call["score"] is not None]
    assert rows.used == len(scored)
    for model in (DEAR, CHEAP):
        path, count = found[model]
        assert path.name == f"acme_{model.split('/')[1]}.jsonl"
        answers = load_scores(path, model)
        assert len(answers) == count
        mine = {call["query"]: call for call in scored if call["model"] == model}
        assert {one.prompt for one in answers} == set(mine)
        for one in answers:
            call = mine[one.prompt]
            assert (one.score, one.output_tokens) == (call["score"], 100)
            assert one.cost_usd == pytest.approx(call["cost_usd"])


def test_models_with_the_same_file(tmp_path: Path) -> None:
    def renamed() -> Iterator[CallRecord]:
        for one, name in zip(
            records([World(share=1.0, rated=1.0)], 2), ("a/b", "A_b"), strict=True
        ):
            assert isinstance(one.feedback["user"], Feedback)
            asks = (one.asks[0].model_copy(update={"model": name}),)
            yield one.model_copy(update={"model": name, "asks": asks})

    with pytest.raises(DataError, match="would both go there"):
        write_scores(renamed(), tmp_path)
    assert not list(tmp_path.iterdir())
