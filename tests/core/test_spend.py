"""What is spent a day, and the ceilings on it."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from crossroute import CandidateScore, ConstraintError, DailySpend, DailySpendError, DataError


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 29, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


CANDIDATES = [CandidateScore("a", 0.9, 0.02, 1.0), CandidateScore("b", 0.5, 0.001, 0.5)]


@pytest.fixture(params=["memory", "file"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "spend.sqlite" if request.param == "file" else None


def test_the_ceiling_of_a_model_takes_it_out(file: Path | None) -> None:
    spend = DailySpend(by_model={"a": 0.1}, file=file)
    assert spend.without_budget(CANDIDATES) == {}
    spend.add("a", 0.06)
    spend.add("b", 5.0)
    assert spend.without_budget(CANDIDATES) == {}
    spend.add("a", 0.03)
    assert spend.without_budget(CANDIDATES) == {
        "a": "its predicted $0.020 are more than the $0.010 that are left today, of its $0.10 a day"
    }
    spend.add("a", 0.05)
    assert spend.without_budget(CANDIDATES) == {"a": "$0.14 were spent today, of its $0.10 a day"}
    assert spend.spent == {"a": pytest.approx(0.14), "b": pytest.approx(5.0)}


def test_the_ceiling_of_all_stops_calls(file: Path | None) -> None:
    spend = DailySpend(usd=0.1, file=file)
    spend.add("a", 0.06)
    spend.add("c", 0.03)
    assert list(spend.without_budget(CANDIDATES)) == ["a"]
    spend.add("b", 0.02)
    with pytest.raises(DailySpendError, match=r"\$0\.11 were spent today, of \$0\.10 a day.*00:00"):
        spend.without_budget(CANDIDATES)


def test_a_clock_that_is_set_back_over_midnight_finds_what_was_spent(file: Path | None) -> None:
    clock = Clock(datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC))
    spend = DailySpend(usd=1, file=file, clock=clock)
    spend.add("a", 0.9)
    clock.now += timedelta(seconds=2)
    spend.add("a", 0.01)
    clock.now -= timedelta(seconds=2)
    assert spend.spent == {"a": pytest.approx(0.9)}
    clock.now += timedelta(seconds=2)
    assert spend.spent == {"a": pytest.approx(0.01)}


def test_a_new_day_begins_in_utc(file: Path | None) -> None:
    clock = Clock()
    spend = DailySpend(usd=1, file=file, clock=clock)
    spend.add("a", 2)
    # Half past one in the night of the 30th, east of Greenwich, is still the 29th.
    clock.now = datetime(2026, 11, 30, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert spend.spent == {"a": 2}
    clock.now = datetime(2026, 11, 30, 0, 0, tzinfo=UTC)
    assert spend.spent == {}
    assert spend.without_budget(CANDIDATES) == {}
    spend.add("b", 0.5)
    assert spend.spent == {"b": 0.5}


def test_nothing_and_unknown_amounts_are_not_counted(file: Path | None) -> None:
    spend = DailySpend(usd=1, file=file)
    for cost in (0.0, -1.0, float("nan")):
        spend.add("a", cost)
    assert spend.spent == {}


def test_threads_lose_nothing(file: Path | None) -> None:
    spend = DailySpend(file=file)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: spend.add("a", 0.5), range(100)))
    assert spend.spent == {"a": 50.0}


def test_who_ends_while_another_is_counted_waits_for_none(file: Path | None) -> None:
    spend = DailySpend(usd=1, file=file)
    # In a thread of its own, so that a test that fails ends.
    ending = threading.Thread(target=spend.add, args=("a", 0.5), daemon=True)
    with spend._lock:
        ending.start()
        ending.join(5)
        assert not ending.is_alive()
    assert spend.spent == {"a": 0.5}
    if file is not None:
        assert DailySpend(usd=1, file=file).spent == {"a": 0.5}


def test_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "spend.sqlite"
    code = (
        "import sys; from crossroute import DailySpend\n"
        "spend = DailySpend(file=sys.argv[1])\n"
        "for _ in range(20): spend.add('a', 0.25)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, file]) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert DailySpend(file=file).spent == {"a": 20.0}


def test_a_file_that_is_none_of_these(tmp_path: Path) -> None:
    file = tmp_path / "spend.sqlite"
    file.write_text("this is no database, whatever its name says. " * 99, "utf-8")
    spend = DailySpend(usd=1, file=file)
    with pytest.raises(DataError, match=r"spend\.sqlite: what was spent today cannot be read"):
        spend.without_budget(CANDIDATES)
    with pytest.raises(DataError, match="a folder that can be written to"):
        _ = DailySpend(usd=1, file=tmp_path / "missing" / "spend.sqlite").spent


def test_what_cannot_be_written_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    spend = DailySpend(usd=1, file=folder / "spend.sqlite")
    spend.add("a", 0.25)
    assert "kept in memory" in caplog.text
    folder.mkdir()
    assert spend.spent == {"a": 0.25}
    spend.add("b", 0.5)
    assert DailySpend(file=folder / "spend.sqlite").spent == {"a": 0.25, "b": 0.5}
    assert spend.spent == {"a": 0.25, "b": 0.5}


def test_the_file_can_be_read_by_anybody(tmp_path: Path) -> None:
    file, clock = tmp_path / "spend.sqlite", Clock()
    DailySpend(file=file, clock=clock).add("a", 0.25)
    database = sqlite3.connect(file)
    assert database.execute("SELECT * FROM spend").fetchall() == [("2026-11-29", "a", 0.25)]
    database.close()


def test_copies_share_a_ceiling(tmp_path: Path) -> None:
    spend = DailySpend(usd=1)
    assert copy.deepcopy({"it": spend})["it"] is spend
    spend.add("a", 0.5)
    assert pickle.loads(pickle.dumps(spend)).spent == {}
    spend = DailySpend(usd=1, by_model={"a": 2}, file=tmp_path / "spend.sqlite")
    spend.add("a", 0.5)
    again = pickle.loads(pickle.dumps(spend))
    again.add("a", 0.25)
    assert spend.spent == again.spent == {"a": 0.75}
    assert again.by_model == {"a": 2}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"usd": -1}, "usd"),
        ({"usd": "much"}, "usd"),
        ({"by_model": {"a": float("nan")}}, r"by_model\['a'\]"),
    ],
)
def test_ceilings_that_make_no_sense(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConstraintError, match=named):
        DailySpend(**settings)
