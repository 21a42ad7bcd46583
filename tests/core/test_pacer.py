"""A budget that lasts, by hand: what it chooses, what it keeps, and who shares it."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossroute import (
    BudgetPacer,
    BudgetSpentError,
    CandidateScore,
    ConstraintError,
    CrossRouter,
    DataError,
    Decision,
    UnknownModelError,
)
from crossroute.budget import books
from crossroute.budget.multipliers import ROWS, Recent, multipliers

DEAR, CHEAP = "dear", "cheap"
QUESTION = "What is 4711 * 12 + 99?"


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 29, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["memory", "file"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "budget.sqlite" if request.param == "file" else None


def between(gain: float, cost: float = 0.1, cheap: float = 0.001) -> Decision:
    """A decision between a dear model and a cheap one, which is worse by a gain."""
    best = CandidateScore(DEAR, 0.5 + gain, cost, 0.0)
    return Decision(
        model=best.model,
        quality=best.quality,
        cost_usd=best.cost_usd,
        candidates=(best, CandidateScore(CHEAP, 0.5, cheap, 0.0)),
        willingness_to_pay=0.01,
        reward="exponential",
        input_tokens=10.0,
    )


def gains(count: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).uniform(-0.1, 0.5, count).tolist()


def answered(pacer: BudgetPacer, decision: Decision, times: float = 1.0) -> Decision:
    """The paced decision of a call that came to some times what was predicted."""
    found = pacer.paced(decision)
    pacer.settle(found, found.cost_usd * times)
    return found


def test_what_is_spent_goes_where_it_gains_the_most(file: Path | None) -> None:
    pacer, stream = BudgetPacer(20, 400, file=file), gains(400)
    found = [answered(pacer, between(gain)) for gain in stream]
    report = pacer.report()
    assert report.requests == 400
    assert 0.98 * 20 < report.spent_usd <= 20
    assert report.by_model[DEAR].calls + report.by_model[CHEAP].calls == 400
    got = sum(one.quality - 0.5 for one in found)
    # About two hundred calls of the dear model are paid for.
    best = sum(sorted(stream)[-200:])
    assert got > 0.97 * best
    assert {one.reward for one in found} == {"linear"}


def test_a_decision_says_at_what_willingness_to_pay_it_is_made() -> None:
    pacer = BudgetPacer(20, 400)
    for gain in gains(100):
        found = answered(pacer, between(gain))
    worth = {one.model: one for one in found.candidates}
    assert found.candidates[0].model == found.model
    for one in found.candidates:
        cost = one.cost_usd + found.surcharge_usd.get(one.model, 0.0)
        assert one.reward == pytest.approx(one.quality - cost / found.willingness_to_pay)
    assert worth[found.model].reward == max(one.reward for one in found.candidates)
    assert "linear reward" in found.explain()


def test_more_than_enough_is_quality_alone() -> None:
    pacer = BudgetPacer(1000, 50)
    for gain in gains(50):
        found = answered(pacer, between(gain))
        assert found.willingness_to_pay == math.inf
        assert found.model == (DEAR if gain > 0 else CHEAP)


def test_too_little_is_the_cheapest_as_far_as_it_goes() -> None:
    pacer = BudgetPacer(0.0305, 100)
    for gain in gains(30):
        assert answered(pacer, between(gain)).model == CHEAP
    with pytest.raises(BudgetSpentError, match=r"Nothing was asked: \$0\.030 of the budget"):
        pacer.paced(between(0.2))
    # The one that was not asked is none of the thirty.
    assert pacer.report().requests == 30


def test_it_follows_a_drift() -> None:
    pacer = BudgetPacer(20, 400)
    early = [answered(pacer, between(gain)) for gain in gains(200)]
    # Now the dear model costs four times as much.
    late = [answered(pacer, between(gain, cost=0.4)) for gain in gains(200, 1)]
    assert 0.95 * 20 < pacer.report().spent_usd <= 20
    assert sum(one.model == DEAR for one in late) < sum(one.model == DEAR for one in early)


def test_costs_that_were_predicted_wrongly_are_learned() -> None:
    pacer, spent, extra = BudgetPacer(20, 400), 0.0, []
    for gain in gains(400):
        found = pacer.paced(between(gain))
        extra.append(found.surcharge_usd.get(DEAR))
        cost = found.cost_usd * (3.0 if found.model == DEAR else 1.0)
        pacer.settle(found, cost)
        spent += cost
    assert 0.95 * 20 < spent <= 20.3
    # A call of the dear model counts as what it costs.
    assert extra[300] == pytest.approx(0.2, abs=0.05)
    report = pacer.report()
    assert report.spent_usd == pytest.approx(spent)
    assert report.predicted_usd < spent / 2


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_exceeded_by_less_than_one_request(seed: int) -> None:
    random = np.random.default_rng(seed)
    pacer, spent, costs = BudgetPacer(1, 100), 0.0, []
    for gain in gains(300, seed):
        try:
            found = pacer.paced(between(gain, *random.lognormal(-4, 1, 2)))
        except BudgetSpentError:
            continue
        costs.append(found.cost_usd * random.lognormal(0, 1))
        pacer.settle(found, costs[-1])
        spent += costs[-1]
        assert spent - costs[-1] <= 1
    assert spent <= 1 + max(costs)


def test_a_model_may_have_a_budget_of_its_own(file: Path | None) -> None:
    pacer = BudgetPacer(20, 400, by_model={DEAR: 5}, file=file)
    found = [answered(pacer, between(gain)) for gain in gains(400)]
    spent = pacer.report().by_model[DEAR]
    assert 0.95 * 5 < spent.spent_usd <= 5
    assert spent.budget_usd == 5
    # It is spent over all of them, where the gain is high.
    asked = [one.quality - 0.5 for one in found if one.model == DEAR]
    assert sum(asked) > 0.9 * sum(sorted(gains(400))[-50:])
    assert any(one.model == DEAR for one in found[300:])


def test_what_its_own_budget_does_not_pay_for_is_no_candidate() -> None:
    pacer = BudgetPacer(20, 10, by_model={DEAR: 0.15})
    answered(pacer, replace(between(0.3), candidates=between(0.3).candidates[:1]))
    found = pacer.paced(between(0.3))
    assert [one.model for one in found.candidates] == [CHEAP]
    assert found.removed[DEAR] == (
        "its expected $0.10 are more than the $0.050 that are left of its own budget of $0.15"
    )


def test_a_span_of_time_has_a_budget(file: Path | None) -> None:
    clock = Clock()
    hour = timedelta(hours=1)
    pacer = BudgetPacer(100, 400, window=(2, hour), file=file, clock=clock)
    by_hour = [0.0, 0.0, 0.0, 0.0]
    for k, gain in enumerate(gains(400)):
        clock.now = Clock.now + k * timedelta(seconds=36)
        by_hour[k // 100] += answered(pacer, between(gain)).cost_usd
    assert all(1.6 < spent <= 2 for spent in by_hour[1:])
    assert by_hour[0] <= 2
    assert pacer.report().window_usd == pytest.approx(by_hour[3])


def test_a_burst_does_not_break_the_budget_of_a_span() -> None:
    clock = Clock()
    pacer = BudgetPacer(100, 1000, window=(0.5, timedelta(hours=1)), clock=clock)
    refused = 0
    for gain in gains(600):
        clock.now += timedelta(milliseconds=5)
        try:
            answered(pacer, between(gain))
        except BudgetSpentError as error:
            refused += "this span's (1:00:00) budget of $0.50" in str(error)
    assert pacer.report().spent_usd <= 0.5
    assert refused
    clock.now += timedelta(hours=1)
    answered(pacer, between(0.2))
    assert pacer.report().window_usd < 0.2


def test_a_budget_may_be_for_some_time() -> None:
    clock = Clock()
    pacer = BudgetPacer(20, timedelta(hours=4), clock=clock)
    halves = [0.0, 0.0]
    for k, gain in enumerate(gains(400)):
        clock.now = Clock.now + k * timedelta(seconds=36)
        halves[k // 200] += answered(pacer, between(gain)).cost_usd
    assert 0.95 * 20 < sum(halves) <= 20
    assert halves[0] == pytest.approx(halves[1], rel=0.3)


def test_after_its_horizon_it_goes_on_with_what_is_left() -> None:
    pacer = BudgetPacer(1, 10)
    for _ in range(10):
        answered(pacer, between(-0.1))
    left = 1 - pacer.report().spent_usd
    found = [answered(pacer, between(0.1)) for _ in range(10)]
    # For ten more it is enough to ask the dear model nine times.
    assert sum(one.model == DEAR for one in found) == pytest.approx(9, abs=1)
    assert sum(one.cost_usd for one in found) <= left


def test_what_calls_under_way_may_cost_is_set_aside(file: Path | None) -> None:
    pacer = BudgetPacer(0.3, 1, file=file)
    first = pacer.paced(between(0.3))
    assert first.model == DEAR
    # Twice its cost, as long as nothing is known of it.
    assert pacer.report().under_way_usd == pytest.approx(0.2)
    second = pacer.paced(between(0.3))
    with pytest.raises(BudgetSpentError, match="set aside for calls under way"):
        pacer.paced(between(0.3, cheap=0.099))
    pacer.settle(first, 0.0)
    pacer.settle(second, None)
    report = pacer.report()
    assert report.under_way_usd == 0
    assert report.spent_usd == pytest.approx(second.cost_usd)


def test_a_call_that_never_ends_is_not_waited_for_for_ever(file: Path | None) -> None:
    clock = Clock()
    pacer = BudgetPacer(0.15, 1, file=file, clock=clock)
    lost = pacer.paced(between(0.3))
    assert lost.model == DEAR
    with pytest.raises(BudgetSpentError):
        pacer.paced(between(0.3))
    clock.now += timedelta(hours=1)
    assert pacer.paced(between(0.3)).model == DEAR
    # If it has only been slow, it counts.
    pacer.settle(lost, 0.1)
    assert pacer.report().spent_usd == pytest.approx(0.1)


def test_a_free_model_is_asked_though_all_is_spent() -> None:
    pacer = BudgetPacer(0, 100)
    found = answered(pacer, between(0.3, cheap=0.0))
    assert (found.model, list(found.removed)) == (CHEAP, [DEAR])


def test_a_conversation_that_stays_with_its_model_stays() -> None:
    pacer = BudgetPacer(0.01, 100)
    found = pacer.paced(replace(between(0.3, cost=0.002), kept=True))
    assert (found.model, found.kept) == (DEAR, True)
    found = pacer.paced(replace(between(0.3, cost=0.002)))
    assert (found.model, found.kept) == (CHEAP, False)


def test_what_a_router_adds_to_costs_counts() -> None:
    pacer = BudgetPacer(20, 10)
    charged = replace(between(0.3), surcharge_usd={DEAR: 1e12})
    assert pacer.paced(charged).surcharge_usd[DEAR] == pytest.approx(1e12)


def test_a_router_is_paced(toy_router: CrossRouter) -> None:
    costs = toy_router.predict([QUESTION]).cost_usd[0]
    pacer = BudgetPacer(10 * float(costs.min()) * 1.0001, 10)
    cheapest = toy_router.route(QUESTION, 0).model
    for _ in range(10):
        decision = pacer.route(toy_router, QUESTION)
        assert decision.model == cheapest
        pacer.settle(decision, decision.cost_usd)
    with pytest.raises(BudgetSpentError):
        pacer.route(toy_router, QUESTION)
    with pytest.raises(UnknownModelError, match=r"sgae.*did you mean 'sage'"):
        BudgetPacer(1, 10, by_model={"sgae": 1}).route(toy_router, QUESTION)


def test_models_come_and_go() -> None:
    pacer = BudgetPacer(20, 400, by_model={"late": 1})
    for k, gain in enumerate(gains(400)):
        decision = between(gain)
        if k >= 200:
            late = CandidateScore("late", 0.9, 0.05, 0.0)
            decision = replace(decision, candidates=(late, *decision.candidates))
        answered(pacer, decision)
    assert 0.9 < pacer.report().by_model["late"].spent_usd <= 1


def test_asked_and_realised_stand_side_by_side() -> None:
    pacer = BudgetPacer(20, 400, by_model={DEAR: 5}, window=(2, timedelta(hours=1)))
    assert pacer.report().requests == 0
    assert "asked:    $20.00 for 400 requests" in str(pacer.report())
    for gain in gains(40):
        answered(pacer, between(gain), 1.5)
    text = str(pacer.report())
    assert "for 40 requests" in text
    assert f"  {DEAR}: " in text
    assert " of $5.00" in text
    assert "this span (1:00:00): " in text


def test_a_call_that_is_collected_in_the_midst_of_another_waits_for_none() -> None:
    pacer = BudgetPacer(1, 10)
    lost = pacer.paced(between(0.3))
    with pacer._books.changing():
        pacer.end(str(lost.call_id), lost, {})
    assert pacer.report().under_way_usd == 0


def test_a_call_that_is_collected_while_a_state_is_saved_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacer = BudgetPacer(1, 10)
    lost = pacer.paced(between(0.3))
    real = books.replacing

    def replacing(path: Path) -> AbstractContextManager[Path]:
        # In a thread of its own, so that a test that fails ends.
        ending = threading.Thread(
            target=pacer.end, args=(lost.call_id, lost, {DEAR: 0.5}), daemon=True
        )
        ending.start()
        ending.join(5)
        waited.append(ending.is_alive())
        return real(path)

    waited: list[bool] = []
    monkeypatch.setattr(books, "replacing", replacing)
    pacer.save(tmp_path / "saved.sqlite")
    assert waited == [False]
    assert pacer._books._held == []
    assert pacer.report().spent_usd == 0.5


def test_what_ends_while_another_call_is_decided_is_written_with_it(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10, file=file)
    lost = pacer.paced(between(0.3))
    with pacer._books.changing():
        pacer.end(str(lost.call_id), lost, {DEAR: 0.5})
    assert BudgetPacer(1, 10, file=file).report().spent_usd == 0.5


def test_what_has_ended_is_written_though_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(0.15, 1, file=file)
    first = pacer.paced(between(0.3))
    pacer._books._held.append((str(first.call_id), first, {DEAR: 0.15}))
    with pytest.raises(BudgetSpentError):
        pacer.paced(between(0.3))
    assert BudgetPacer(0.15, 1, file=file).report().spent_usd == 0.15


def test_a_call_is_settled_once(file: Path | None) -> None:
    pacer = BudgetPacer(1, 10, file=file)
    asked = between(0.3)
    found = pacer.paced(asked)
    # What the router has decided is not what was set aside.
    for _ in range(2):
        with pytest.raises(ConstraintError, match=r"no call of dear is under way .* once"):
            pacer.settle(asked, 0.1)
    pacer.settle(found, 0.1)
    with pytest.raises(ConstraintError, match="was settled before"):
        pacer.settle(found, 0.1)
    report = pacer.report()
    assert (report.spent_usd, report.under_way_usd) == (0.1, 0)


def test_a_clock_that_was_ahead_and_is_set_right_holds_up_no_span() -> None:
    clock = Clock()
    pacer = BudgetPacer(100, 1000, window=(0.3, timedelta(hours=1)), clock=clock)
    answered(pacer, between(0.3))
    clock.now += timedelta(days=400)
    answered(pacer, between(0.3))
    clock.now -= timedelta(days=400)
    for _ in range(20):
        clock.now += timedelta(hours=1)
        last = answered(pacer, between(0.3, cheap=0.02))
        assert pacer.report().window_usd == pytest.approx(last.cost_usd)


@pytest.mark.parametrize("settings", [{"window": (0.3, timedelta(hours=1))}, {}])
def test_a_clock_that_was_ahead_at_first_begins_anew(settings: dict[str, Any]) -> None:
    clock = Clock(Clock.now + timedelta(days=400))
    pacer = BudgetPacer(100, timedelta(days=30), clock=clock, **settings)
    answered(pacer, between(0.3))
    clock.now = Clock.now
    answered(pacer, between(0.3))
    for _ in range(6):
        clock.now += timedelta(hours=7)
        assert answered(pacer, between(0.3)).model == DEAR


def test_a_span_goes_on_where_its_clock_is_set_back_by_a_little() -> None:
    clock = Clock()
    pacer = BudgetPacer(100, 1000, window=(0.3, timedelta(hours=1)), clock=clock)
    answered(pacer, between(0.3))
    clock.now += timedelta(hours=1, seconds=1)
    answered(pacer, between(0.3), 3.0)
    clock.now -= timedelta(seconds=2)
    with pytest.raises(BudgetSpentError, match="this span's"):
        pacer.paced(between(0.3, cheap=0.2))


FORKED = """
import os, sys, threading
from test_pacer import between
from crossroute import BudgetPacer, ConstraintError
pacer, alone = BudgetPacer(1, 10, file=sys.argv[1]), BudgetPacer(1, 10)
pacer.settle(pacer.paced(between(0.3)), 0.25)
call = alone.paced(between(0.3))
inside, forked = threading.Event(), threading.Event()
def hold():
    with pacer._books._lock:
        inside.set()
        forked.wait()
holding = threading.Thread(target=hold)
holding.start()
inside.wait()
child = os.fork()
if not child:
    status = 1
    try:
        # The lock is that of a thread which is not in this process.
        pacer.settle(pacer.paced(between(0.3)), 0.125)
        # A call of the other process that is collected here has not ended here.
        alone.end(call.call_id, call, {})
        for use in (lambda: alone.paced(between(0.3)), alone.report):
            try:
                use()
            except ConstraintError as error:
                assert "Give it a file" in str(error)
            else:
                raise AssertionError
        status = 0
    finally:
        os._exit(status)
forked.set()
holding.join()
assert os.waitpid(child, 0)[1] == 0
assert pacer.report().spent_usd == 0.375
assert alone.report().under_way_usd > 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_shares_a_file_and_no_memory(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{FORKED}"
    command = [sys.executable, "-c", code, str(tmp_path / "budget.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


KILLED = """
import os, signal, sys
from test_pacer import between
from crossroute import BudgetPacer
pacer = BudgetPacer(1, 10, file=sys.argv[1])
pacer.settle(pacer.paced(between(0.3)), 0.25)
with pacer._books.changing() as database:
    database.execute("UPDATE spent SET usd = 99")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such signal on this system")
def test_a_process_that_is_killed_leaves_what_stood_before(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{KILLED}"
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=False, timeout=60)
    assert done.returncode < 0
    pacer = BudgetPacer(1, 10, file=file)
    assert pacer.report().spent_usd == 0.25
    answered(pacer, between(0.3))
    assert pacer.report().requests == 2


def test_a_file_that_was_deleted_is_begun_anew_by_all(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10, file=file)
    for _ in range(5):
        answered(pacer, between(-0.1))
    file.unlink()
    answered(pacer, between(0.3))
    other = BudgetPacer(1, 10, file=file)
    answered(other, between(0.3))
    for one in (pacer, other):
        assert one.report().requests == 2
        assert one.report().spent_usd == pytest.approx(0.2)


def test_a_disk_that_is_full_is_one_clear_error(tmp_path: Path) -> None:
    pacer = BudgetPacer(1, 10, file=tmp_path / "budget.sqlite")
    with pacer._books._database.opened() as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
    many = tuple(CandidateScore(f"{k:0500}", 0.5, 0.001, 0.0) for k in range(100))
    with pytest.raises(DataError, match="full"):
        pacer.paced(replace(between(0.3), candidates=many))
    assert answered(pacer, between(0.3)).model == DEAR
    assert pacer.report().requests == 1


def test_a_state_is_not_saved_over_itself(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10, file=file)
    answered(pacer, between(0.3))
    with pytest.raises(DataError, match="name another file"):
        pacer.save(tmp_path / "." / "budget.sqlite")
    assert pacer.report().requests == 1


def test_a_model_that_is_asked_in_the_place_of_another_teaches_nothing_of_it() -> None:
    pacer = BudgetPacer(20, 400)
    for _ in range(50):
        found = pacer.admit(between(-0.1), "call")
        pacer.end("call", found, {DEAR: 0.1})
    assert pacer.paced(between(-0.1)).surcharge_usd == {}


def test_a_state_is_saved_and_loaded(tmp_path: Path, file: Path | None) -> None:
    saved = tmp_path / "saved.sqlite"
    clock, window = Clock(), (19, timedelta(hours=4))
    pacer = BudgetPacer(20, 400, by_model={DEAR: 15}, window=window, file=file, clock=clock)
    stream = gains(400)
    for gain in stream[:200]:
        clock.now += timedelta(seconds=36)
        answered(pacer, between(gain))
    pacer.save(saved)
    again = BudgetPacer.load(saved, clock=clock)
    assert (again.budget_usd, again.horizon, again.window) == (20, 400, window)
    assert again.by_model == {DEAR: 15}
    assert again.report()._replace(willingness_to_pay=0) == pacer.report()._replace(
        willingness_to_pay=0
    )
    for gain in stream[200:]:
        clock.now += timedelta(seconds=36)
        answered(again, between(gain))
    assert 0.9 * 15 < again.report().by_model[DEAR].spent_usd <= 15
    # What goes on from a copy does not change it.
    assert BudgetPacer.load(saved).report().requests == 200
    BudgetPacer(1, timedelta(hours=4)).save(saved)
    assert BudgetPacer.load(saved).horizon == timedelta(hours=4)


def test_a_file_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    stream = gains(400)
    for gain in stream[:200]:
        answered(BudgetPacer(20, 400, file=file), between(gain))
    pacer = BudgetPacer(20, 400, file=file)
    for gain in stream[200:]:
        answered(pacer, between(gain))
    report = pacer.report()
    assert report.requests == 400
    assert 0.97 * 20 < report.spent_usd <= 20


def test_threads_share_a_budget(file: Path | None) -> None:
    pacer = BudgetPacer(2, 200, file=file)

    def call(gain: float) -> float:
        try:
            found = pacer.paced(between(gain))
        except BudgetSpentError:
            return 0.0
        pacer.settle(found, found.cost_usd)
        return found.cost_usd

    with ThreadPoolExecutor(8) as pool:
        costs = list(pool.map(call, gains(200)))
    report = pacer.report()
    assert report.spent_usd == pytest.approx(sum(costs))
    assert sum(one.calls for one in report.by_model.values()) == sum(cost > 0 for cost in costs)
    assert 1.5 < report.spent_usd <= 2
    assert report.under_way_usd == 0


def test_threads_exceed_no_budget_by_more_than_one_request(file: Path | None) -> None:
    pacer = BudgetPacer(2, 200, file=file)
    random = np.random.default_rng(0)
    calls = list(zip(gains(300), random.uniform(0.5, 1.9, 300).tolist(), strict=True))

    def call(one: tuple[float, float]) -> float:
        gain, times = one
        try:
            found = pacer.paced(between(gain))
        except BudgetSpentError:
            return 0.0
        time.sleep(0.001)
        pacer.settle(found, found.cost_usd * times)
        return found.cost_usd * times

    with ThreadPoolExecutor(8) as pool:
        costs = list(pool.map(call, calls))
    assert 1.5 < sum(costs) <= 2 + max(costs)


PROCESS = """
import sys
from test_pacer import between, gains
from crossroute import BudgetPacer, BudgetSpentError
pacer = BudgetPacer(2, 200, file=sys.argv[1])
for gain in gains(50, int(sys.argv[2])):
    try:
        found = pacer.paced(between(gain))
    except BudgetSpentError:
        continue
    pacer.settle(found, found.cost_usd)
"""


def test_processes_share_a_budget(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{PROCESS}"
    running = [subprocess.Popen([sys.executable, "-c", code, file, str(seed)]) for seed in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    report = BudgetPacer(2, 200, file=file).report()
    assert 190 < report.requests <= 200
    assert 1.5 < report.spent_usd <= 2
    assert report.under_way_usd == 0


def test_copies_share_a_budget(tmp_path: Path) -> None:
    pacer = BudgetPacer(1, 10)
    assert copy.deepcopy({"it": pacer})["it"] is copy.copy(pacer) is pacer
    with pytest.raises(ConstraintError, match="Give it a file"):
        pickle.dumps(pacer)
    pacer = BudgetPacer(1, 10, by_model={DEAR: 0.5}, file=tmp_path / "budget.sqlite")
    answered(pacer, between(0.3))
    again = pickle.loads(pickle.dumps(pacer))
    answered(again, between(0.3))
    assert pacer.report().requests == again.report().requests == 2
    assert again.by_model == {DEAR: 0.5}


def test_the_file_holds_nothing_of_the_calls_but_numbers(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10, file=file)
    pacer.paced(between(0.25))
    database = sqlite3.connect(file)
    ((predicted,),) = database.execute("SELECT predicted FROM request").fetchall()
    database.close()
    assert json.loads(predicted) == {DEAR: [0.75, 0.1], CHEAP: [0.5, 0.001]}


def test_files_that_are_none_of_these(tmp_path: Path) -> None:
    file = tmp_path / "budget.sqlite"
    file.write_text("this is no database, whatever its name says. " * 99, "utf-8")
    with pytest.raises(DataError, match=r"budget\.sqlite: what is left of a budget cannot be read"):
        BudgetPacer(1, 10, file=file).paced(between(0.3))
    with pytest.raises(DataError, match="a folder that can be written to"):
        BudgetPacer(1, 10, file=tmp_path / "missing" / "budget.sqlite").report()
    with pytest.raises(DataError, match=r"budget\.sqlite: no state of a budget"):
        BudgetPacer.load(file)
    with pytest.raises(DataError, match=r"none\.sqlite: no state of a budget"):
        BudgetPacer.load(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(DataError, match="cannot be written"):
        BudgetPacer(1, 10).save(tmp_path / "missing" / "budget.sqlite")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE request SET predicted = '[1, 2]'",
        "UPDATE request SET predicted = 'nonsense'",
        f"UPDATE request SET predicted = '{'[' * 100_000}'",
        "UPDATE request SET predicted = '{\"a\": 1}'",
        "UPDATE total SET began = 'long ago'",
        "UPDATE spent SET usd = 'much'",
        "UPDATE learned SET predicted_usd = 0",
        "DROP TABLE learned",
        "UPDATE saved SET settings = '{}'",
        "UPDATE saved SET settings = '[]'",
        'UPDATE saved SET settings = \'{"budget_usd": -1, "horizon": 1, "window": null}\'',
        """UPDATE saved SET settings = '{"budget_usd": 1, "horizon": 1, "window": [1]}'""",
        "DELETE FROM saved",
    ],
)
def test_a_damaged_state_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10)
    answered(pacer, between(0.3))
    pacer.save(file)
    database = sqlite3.connect(file)
    database.execute(damage)
    database.commit()
    database.close()
    with pytest.raises(DataError, match=r"budget\.sqlite"):
        BudgetPacer.load(file)
    if "saved" not in damage and "DROP" not in damage:
        with pytest.raises(DataError, match=r"budget\.sqlite"):
            BudgetPacer(1, 10, file=file).paced(between(0.3))


def test_what_cannot_be_written_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "budget.sqlite"
    pacer = BudgetPacer(1, 10, file=file)
    found = pacer.paced(between(0.3))
    other = sqlite3.connect(file)
    other.execute("ALTER TABLE spent RENAME TO elsewhere")
    pacer.settle(found, 0.25)
    assert "kept in memory" in caplog.text
    other.execute("ALTER TABLE elsewhere RENAME TO spent")
    other.close()
    assert pacer.report().spent_usd == 0.25
    assert BudgetPacer(1, 10, file=file).report().spent_usd == 0.25


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"budget_usd": -1}, "budget_usd is -1"),
        ({"budget_usd": math.nan}, "budget_usd is nan"),
        ({"budget_usd": math.inf}, "budget_usd is inf"),
        ({"budget_usd": "much"}, "budget_usd is 'much'"),
        ({"budget_usd": True}, "budget_usd is True"),
        ({"by_model": [DEAR]}, r"by_model is \['dear'\]; give a mapping"),
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": -3}, "horizon is -3"),
        ({"horizon": 10**400}, "horizon is 1000"),
        ({"horizon": 1.5}, r"horizon is 1\.5"),
        ({"horizon": True}, "horizon is True"),
        ({"horizon": None}, "horizon is None"),
        ({"horizon": timedelta(0)}, "horizon is datetime.timedelta"),
        ({"by_model": {"a": -1}}, r"by_model\['a'\] is -1"),
        ({"window": 1}, "window is 1"),
        ({"window": (1, timedelta(0))}, "window is"),
        ({"window": (-1, timedelta(1))}, "window is -1"),
        ({"window": (1, 60)}, r"window is \(1, 60\)"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConstraintError, match=named):
        BudgetPacer(**{"budget_usd": 1, "horizon": 10, **settings})


def test_a_cost_that_makes_no_sense_is_not_counted() -> None:
    pacer = BudgetPacer(1, 10)
    found = pacer.paced(between(0.3))
    for cost in (-1.0, math.nan, math.inf):
        with pytest.raises(ConstraintError, match="cost_usd is"):
            pacer.settle(found, cost)
    assert pacer.report().spent_usd == 0


def test_multipliers_are_a_minimum_of_the_dual() -> None:
    random = np.random.default_rng(0)
    quality, cost = random.uniform(0, 1, (300, 4)), random.lognormal(-5, 1, (300, 4))
    own = np.array([math.inf, 1e-3, math.inf, 2e-3])
    found = multipliers(quality, cost, 8e-3, own)

    def dual(total: float, each: np.ndarray) -> float:
        best = (quality - cost * (total + each)).max(axis=1).sum()
        limits = np.where(np.isfinite(own), own, 0.0)
        return float(best + 300 * (total * 8e-3 + each @ limits))

    least = dual(*found)
    assert found.own[0] == found.own[2] == 0
    for _ in range(100):
        total = found.total * random.lognormal(0, 0.3)
        assert least < 1.01 * dual(total, found.own * random.lognormal(0, 0.3, 4))


def test_the_latest_requests_are_kept() -> None:
    recent = Recent()
    for number in range(1, ROWS + 21):
        recent.add(number, float(number), {"a": (0.5, float(number))})
    recent.add(ROWS + 21, ROWS + 21.0, {"b": (0.25, 1.0)})
    assert len(recent) == ROWS
    assert recent.cost_usd[:, 0].sum() == sum(range(22, ROWS + 21))
    assert np.isneginf(recent.quality[:, 1]).sum() == ROWS - 1
    assert recent.rate(ROWS + 21.0) == pytest.approx(1)
