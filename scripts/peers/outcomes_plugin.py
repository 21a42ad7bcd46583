"""pytest plugin: end tests that go round for ever, and write all outcomes to `PEERS_OUTCOMES`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

SECONDS = 10
outcomes: dict[str, tuple[str, str]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Give each test its time."""
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _time_is_up(*_: object) -> None:
    raise TimeoutError(f"The test took more than {SECONDS} seconds.")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test; a failure of its setup or teardown is one of its own."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
        outcomes[report.nodeid] = ("failed", text.strip().partition("\n")[0])
    elif report.when == "call" or report.skipped:
        outcomes[report.nodeid] = (report.outcome, "")


def pytest_sessionfinish() -> None:
    """Write them."""
    Path(os.environ["PEERS_OUTCOMES"]).write_text(json.dumps(outcomes, indent=1), "utf-8")
