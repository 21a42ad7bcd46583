from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from crossroute import CrossRouter
from crossroute.cli import app
from crossroute.training.data import RoutingData
from crossroute.training.fit import Settings
from crossroute.training.train import train

SHARED_DATA = Path(
    os.environ.get("CROSSROUTE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
SETS = ("routerbench", "zeroeval", "mmlu-pro", "mmlu-helm")
QUICK = Settings(heads=2, slots=4, slot_size=8, rank=3, epochs=6)

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

Run = Callable[..., tuple[int, str, str]]

ANIMALS = ("otter", "heron", "badger", "lynx", "newt", "vole", "stoat", "wren")
PLACES = ("river", "forest", "meadow", "marsh", "hill", "cave", "garden", "shore")


def make_rows(count: int = 400, seed: int = 0) -> list[dict[str, object]]:
    """Prompts of two kinds: `poet` is good at stories, `clerk` at sums, `sage` at both but dear."""
    chance = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        story = chance.random() < 0.5
        if story:
            prompt = (
                f"Write a short story about a {chance.choice(ANIMALS)} "
                f"who lives by the {chance.choice(PLACES)} "
                f"and meets {number} {chance.choice(ANIMALS)}s."
            )
        else:
            prompt = f"What is {chance.randint(10, 9999)} * {chance.randint(10, 999)} + {number}?"
        good = {"poet": story, "clerk": not story, "sage": True}
        prices = {"poet": (0.5, 1.0), "clerk": (0.5, 1.0), "sage": (5.0, 20.0)}
        tokens = {model: chance.randint(150, 250) if story else 12 for model in good}
        inputs = len(prompt) // 4
        rows.append(
            {
                "prompt": prompt,
                "dataset": "toy",
                "split": ("train", "train", "train", "valid", "test")[number % 5],
                "input_tokens": inputs,
                "outputs": {
                    model: {
                        "score": float(chance.random() < (0.95 if good[model] else 0.2)),
                        "cost_usd": (inputs * prices[model][0] + tokens[model] * prices[model][1])
                        / 1e6,
                        "output_tokens": tokens[model],
                    }
                    for model in good
                },
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_scores(path: Path, data: RoutingData, model: str, count: int = 60) -> Path:
    j = data.models.index(model)
    lines = [
        {"prompt": data.prompts[i], "score": data.score[i, j], "cost_usd": data.cost_usd[i, j]}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


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
