from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes_core import QUICK, Run, make_rows, write_rows
from hypothesis import HealthCheck, settings

from crossroute import CrossRouter
from crossroute.cli import app
from crossroute.training.data import RoutingData
from crossroute.training.train import train

if TYPE_CHECKING:
    from crossroute.traffic import Plan

# Tests by hypothesis: the same few examples on every machine, whatever its speed. `make fuzz` takes
# many and new ones.
settings.register_profile(
    "crossroute",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", settings.get_profile("crossroute"), derandomize=False, max_examples=20_000
)
settings.load_profile("crossroute")


@pytest.fixture(scope="session")
def router() -> CrossRouter:
    return CrossRouter.default()


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("toy") / "toy.jsonl", make_rows())


@pytest.fixture(scope="session")
def toy_data(toy_file: Path) -> RoutingData:
    return RoutingData.load([toy_file])


@pytest.fixture(scope="session")
def toy_router(toy_data: RoutingData) -> CrossRouter:
    return train(toy_data, settings=QUICK)


@pytest.fixture(scope="session")
def toy_plan() -> Plan:
    """To route, without a network of its own: there are too few rows to train on."""
    from crossroute.traffic import plan

    return plan(make_rows(180), baseline="sage", max_loss=0.1, confidence=0.9)


@pytest.fixture(scope="session")
def toy_policy(toy_plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy of that plan: its models have no providers."""
    from crossroute.traffic.policy import write_policy

    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    write_policy(toy_plan, path, ("scored.jsonl",))
    return path


@pytest.fixture
def toy_folder(toy_router: CrossRouter, tmp_path: Path) -> Path:
    toy_router.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as its entry point does; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crossroute", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call
