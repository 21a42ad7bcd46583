"""Routing data and small networks for the tests of the core, and what they do to a folder."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import yaml
from numpy.typing import NDArray

from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import Query
from crossroute.router import CrossRouter
from crossroute.strategies import Flow, PickOne, Task
from crossroute.strategies.jury import Juror, Jury
from crossroute.strategies.panel import Curve, Panel, Panels, Stop
from crossroute.training.data import RoutingData
from crossroute.training.fit import Settings

SHARED_DATA = Path(
    os.environ.get("CROSSROUTE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
SETS = ("routerbench", "zeroeval", "mmlu-pro", "mmlu-helm")
QUICK = Settings(heads=2, slots=4, slot_size=8, rank=3, epochs=6)

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


class Letters:
    """An encoder of one's own: shares of the first letters of the alphabet."""

    def __init__(self, letters: str = "abcdefgh", name: str = "letters") -> None:
        self.letters = letters
        self.name = name

    @property
    def dimension(self) -> int:
        return len(self.letters)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.count(x) + 0.1 for x in self.letters] for text in texts])
        unit: NDArray[np.float32] = (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(
            np.float32
        )
        return unit


# A followed folder

TICKS = itertools.count(1)


def touched(path: Path) -> None:
    """Date a change a while back, each one later: no test waits for the clock of a file system."""
    then = time.time_ns() - 3600 * 10**9 + next(TICKS) * 10**6
    os.utime(path, ns=(then, then))
    os.utime(path.parent, ns=(then, then))


def put(folder: Path, descriptor: ModelDescriptor) -> Path:
    path = descriptor.save(folder)
    touched(path)
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    touched(path)


def remove(path: Path) -> None:
    path.unlink()
    then = time.time_ns() - 3600 * 10**9 + next(TICKS) * 10**6
    os.utime(path.parent, ns=(then, then))


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# A policy


def rewritten(policy: Path, folder: Path, **changes: object) -> Path:
    """A policy with other fields (None: without one), beside a copy of its router."""
    content = yaml.safe_load(policy.read_text("utf-8")) | changes
    shutil.copytree(policy.parent / content["router"], folder / content["router"])
    path = folder / "policy.yaml"
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False), "utf-8")
    return path


def fixed(policy: Path, folder: Path, model: str = "sage") -> Path:
    """A policy by which one model answers everything."""
    return rewritten(policy, folder, willingness_to_pay=None, model=model)


def with_providers(policy: Path, folder: Path, **providers: dict[str, object]) -> Path:
    """A policy whose models can be reached, by what is given of each; `changes` of a descriptor."""
    path = rewritten(policy, folder)
    models = folder / "policy.router" / "models"
    for model, provider in providers.items():
        changes = provider.pop("changes", {})
        content = yaml.safe_load((models / f"{model}.yaml").read_text("utf-8"))
        content |= {"provider": provider} | dict(changes)  # type: ignore[call-overload]
        ModelDescriptor.model_validate(content).save(models)
    return path


def with_strategies(policy: Path, folder: Path, *models: str, checkpoint: str = "") -> Path:
    """A policy by which some models are asked in turn, up to the first answer that two give.

    That is expected to be right and to cost little, so that it is chosen for every prompt.
    """
    path = rewritten(policy, folder, strategies="policy.strategies.json")
    flat = (0.0,) * len(models)
    sure, rare = Curve(intercept=20, slopes=flat), Curve(intercept=-20, slopes=flat)
    panel = Panel(
        models=models,
        jury=Jury(
            jurors={model: Juror(weight=3, slope=0) for model in models},
            doubt=3,
            doubt_by_number=0,
            doubt_by_quality=0,
        ),
        stops=(Stop(at=0.9, quality=sure, asked=(rare,) * (len(models) - 1)),),
    )
    own = CrossRouter.load(folder / "policy.router").checkpoint.id
    panels = Panels(checkpoint=checkpoint or own, panels=(panel,))
    panels.save(folder / "policy.strategies.json")
    return path


@dataclass
class NotingQueries:
    """Answers as without a strategy, and notes what was read of each request."""

    takes_tools: ClassVar[bool] = True
    seen: list[Query] = field(default_factory=list)

    def answer(self, task: Task) -> Flow:
        self.seen.append(task.query)
        return PickOne().answer(task)
