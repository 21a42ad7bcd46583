"""When models that fail rest, and who tries them again."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import requests

from crossroute import ConstraintError, Cooldown
from crossroute.cooldown import Rests
from crossroute.failures import retry_after_seconds


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rests(clock: Clock) -> Rests:
    return Rests(
        Cooldown(failures=3, window_seconds=60, rest_seconds=30, most_rest_seconds=100, clock=clock)
    )


def rest(rests: Rests, model: str = "a") -> None:
    for _ in range(3):
        rests.failed(model)
    assert rests.why_not(model) is not None


def test_a_model_rests_after_some_failures(rests: Rests, clock: Clock) -> None:
    for _ in range(2):
        rests.failed("a")
        assert rests.why_not("a") is None
    rests.failed("a")
    assert rests.why_not("a") == "rests for 30 s more, as it has failed"
    assert rests.why_not("b") is None
    clock.now += 29
    assert rests.why_not("a") == "rests for 1 s more, as it has failed"
    clock.now += 1
    assert rests.why_not("a") is None


def test_a_success_between_failures_counts_from_the_start(rests: Rests) -> None:
    for _ in range(5):
        rests.failed("a")
        rests.failed("a")
        rests.succeeded("a")
    assert rests.why_not("a") is None


def test_failures_count_within_the_window(rests: Rests, clock: Clock) -> None:
    for _ in range(5):
        rests.failed("a")
        clock.now += 31
    assert rests.why_not("a") is None


def test_one_call_at_a_time_tries_it(rests: Rests, clock: Clock) -> None:
    rest(rests)
    clock.now += 30
    assert rests.why_not("a") is None
    assert rests.begin("a") is True
    assert "another call is trying it" in str(rests.why_not("a"))
    assert rests.begin("a") is None
    # A call that ends without a word of the model's leaves it to the next one.
    rests.released("a")
    assert rests.why_not("a") is None
    assert rests.begin("a") is True
    rests.succeeded("a", trial=True)
    assert rests.why_not("a") is None
    assert rests.begin("a") is False
    # All is forgotten.
    rests.failed("a")
    assert rests.why_not("a") is None


def test_it_rests_longer_each_time_and_not_for_ever(rests: Rests, clock: Clock) -> None:
    rest(rests)
    clock.now += 30
    lengths = []
    for _ in range(4):
        assert rests.begin("a")
        rests.failed("a", trial=True)
        length = 0
        while rests.why_not("a") is not None:
            clock.now += 1
            length += 1
        lengths.append(length)
    assert lengths == [60, 100, 100, 100]


def test_calls_from_before_the_rest_say_nothing_new(rests: Rests, clock: Clock) -> None:
    rest(rests)
    rests.failed("a")
    rests.succeeded("a")
    assert rests.why_not("a") == "rests for 30 s more, as it has failed"
    clock.now += 30
    assert rests.begin("a")
    rests.failed("a")
    assert "another call is trying it" in str(rests.why_not("a"))


def test_a_call_that_never_ended_does_not_keep_it_out(rests: Rests, clock: Clock) -> None:
    rest(rests)
    clock.now += 30
    assert rests.begin("a")
    clock.now += 101
    assert rests.why_not("a") is None
    assert rests.begin("a")


def test_a_provider_says_how_long(rests: Rests, clock: Clock) -> None:
    rests.failed("a", 20)
    assert rests.why_not("a") == "rests for 20 s more, as it has failed"
    # Two calls were under way; one gets a longer time, one a shorter.
    rests.failed("a", 40)
    rests.failed("a", 5)
    assert rests.why_not("a") == "rests for 40 s more, as it has failed"
    rests.failed("b", 86_400)
    assert rests.why_not("b") == "rests for 100 s more, as it has failed"
    # A moment is no rest.
    for _ in range(2):
        rests.failed("c", 0.5)
        assert rests.why_not("c") is None


def test_one_of_many_threads_tries_it(rests: Rests, clock: Clock) -> None:
    rest(rests)
    clock.now += 30
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: rests.begin("a"), range(200)))
    assert found.count(True) == 1
    assert found.count(None) == 199


@pytest.mark.parametrize("way", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_begins_anew(way: Callable[[Rests], Rests]) -> None:
    rests = Rests(Cooldown(failures=1))
    rests.failed("a")
    again = way(rests)
    assert again.cooldown == rests.cooldown
    assert again.why_not("a") is None
    again.failed("a")
    assert again.why_not("a") is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"failures": 0}, "failures"),
        ({"failures": 1.5}, "failures"),
        ({"failures": True}, "failures"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"rest_seconds": -1}, "rest_seconds"),
        ({"most_rest_seconds": float("nan")}, "most_rest_seconds"),
        ({"rest_seconds": 700}, "rest_seconds"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConstraintError, match=named):
        Cooldown(**settings)


def failed(headers: dict[str, str], status: int = 429) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://example.invalid")
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("busy", request=request, response=response)


def test_when_to_ask_again_is_in_the_headers() -> None:
    assert retry_after_seconds(failed({"Retry-After": "20"})) == 20
    assert retry_after_seconds(failed({"retry-after-ms": "1500", "retry-after": "2"})) == 1.5
    assert retry_after_seconds(failed({})) is None
    for nonsense in ("soon", "-3", "1e999", "nan", "9" * 40):
        assert retry_after_seconds(failed({"Retry-After": nonsense})) is None
    at = datetime.now(UTC) + timedelta(seconds=500)
    found = retry_after_seconds(failed({"Retry-After": format_datetime(at, usegmt=True)}))
    assert found is not None
    assert 400 < found < 501
    past = format_datetime(at - timedelta(days=1), usegmt=True)
    assert retry_after_seconds(failed({"Retry-After": past})) == 0


def test_it_is_read_of_a_cause_and_of_other_clients() -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = failed({"Retry-After": "7"})
    assert retry_after_seconds(wrapped) == 7
    response = requests.Response()
    response.headers["Retry-After"] = "9"
    assert retry_after_seconds(requests.HTTPError("busy", response=response)) == 9
    assert retry_after_seconds(ValueError("no response")) is None


def test_a_call_that_ends_within_another_one_s_report_does_not_wait_for_it() -> None:
    found: list[Rests] = []

    def clock() -> float:
        # As a stream that is collected here would.
        for rests in found:
            rests.succeeded("a")
            rests.released("a")
        return 1_000.0

    rests = Rests(Cooldown(failures=2, clock=clock))
    found.append(rests)
    # In a thread of its own, so that a test that fails ends.
    failing = threading.Thread(target=rests.failed, args=("a",), daemon=True)
    failing.start()
    failing.join(5)
    assert not failing.is_alive()
