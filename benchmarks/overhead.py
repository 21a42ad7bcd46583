"""What routing costs in time: a routed call beside a bare one, and decisions beside LiteLLM's.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --beside ../before    # the same, with another checkout in turn

Whatever is compared takes turns within one run, in small pieces of which the median counts, and CPU
time is measured: the ratios hold on a machine that does other things, too. Decisions are made on a
sample of the prompts of each of the four sets of routing data that is in `--data`, by LiteLLM's
heuristic routers, too, where the extra `bench` is installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data"
SETS = ("routerbench", "zeroeval", "mmlu-pro", "mmlu-helm")
ROUNDS, PIECES, CALLS, PROMPTS = 25, 8, 5, 400
PROMPT = (
    "Explain in simple words how photosynthesis works in plants, why it matters so much for life "
    "on this planet, and how I could demonstrate it in a classroom experiment with cheap things "
    "that every school already has in a cupboard."
)
LONG = "The committee met again in the spring and found nothing new to report. " * 1_500


class Task(NamedTuple):
    """What is timed, piece by piece: a function of a few prompts, and the prompts of each piece."""

    run: Callable[[Sequence[str]], object]
    pieces: Sequence[Sequence[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.data)
        return
    checkouts = [HERE, *([options.beside.resolve()] if options.beside else [])]
    workers = [Worker(checkout, options.data) for checkout in checkouts]
    # The first round warms up.
    rounds = [[worker.round() for worker in workers] for _ in range(options.rounds + 1)][1:]
    here, *beside = (medians([each[i] for each in rounds]) for i in range(len(workers)))
    console = Console()
    console.print(calls(here, *beside))
    if any(name.startswith(SETS) for name in here):
        console.print(decisions(here, *beside))
    else:
        console.print(f"No decisions on prompts: {options.data} holds none of {', '.join(SETS)}.")
    if litellm_routers() is None:
        console.print("Without LiteLLM's routers: it is not installed (extra `bench`).")


class Worker:
    """This file at work in a process of its own, with the packages of a checkout."""

    def __init__(self, checkout: Path, data: Path) -> None:
        path = [str(checkout / "shared"), str(checkout), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, "--worker", "--data", str(data)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def round(self) -> dict[str, list[float]]:
        """One round of all tasks: microseconds a call, piece by piece."""
        if self.process.stdin is None or self.process.stdout is None:
            raise TypeError("A worker is asked and answers by pipes.")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        timed: dict[str, list[float]] = json.loads(self.process.stdout.readline())
        return timed


def work(data: Path) -> None:
    """Do a round for each line that comes in."""
    tasks = {**call_tasks(), **decision_tasks(data)}
    for _ in sys.stdin:
        timed: dict[str, list[float]] = {name: [] for name in tasks}
        for name, task in tasks.items():
            for piece in task.pieces:
                begin = time.thread_time()
                task.run(piece)
                timed[name].append((time.thread_time() - begin) / len(piece) * 1e6)
        sys.stdout.write(json.dumps(timed) + "\n")
        sys.stdout.flush()


def medians(rounds: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    """Of each task the mean of its pieces, of each piece the median of the rounds."""
    return {
        name: statistics.mean(
            map(statistics.median, zip(*(one[name] for one in rounds), strict=True))
        )
        for name in rounds[0]
    }


FEW = (
    "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-8B-Instruct",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
)
"""Candidates of a small pool, beside all that can be called."""


def call_tasks() -> dict[str, Task]:
    from langchain_core.language_models import FakeListChatModel
    from llama_index.core.llms import ChatMessage, MockLLM

    from crossroute import CrossRouter, Query, StaticEncoder
    from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
    from llamaindex_crossroute import CrossRouteLLM

    router, encoder = CrossRouter.default(), StaticEncoder()
    few = router.subset(FEW)
    models = {model: FakeListChatModel(responses=["Yes."]) for model in few.pool}
    mock = MockLLM(max_tokens=1)
    llm = CrossRouteLLM(router=few, models=dict.fromkeys(few.pool, mock))
    runs: dict[str, Callable[[str], object]] = {
        "bare FakeListChatModel.invoke": next(iter(models.values())).invoke,
        "ChatCrossRoute.invoke": ChatCrossRoute(router=few, models=models).invoke,
        "CrossRouteRunnable.invoke": CrossRouteRunnable(router=few, models=models).invoke,
        "bare MockLLM.chat": lambda prompt: mock.chat([ChatMessage(prompt)]),
        "CrossRouteLLM.chat": lambda prompt: llm.chat([ChatMessage(prompt)]),
        f"route, {len(few.pool)} models": few.route,
        f"route, {len(router.pool)} models": router.route,
        "  of it: reading the query": Query.of,
        "  of it: encoder": lambda prompt: encoder.encode([prompt]),
    }
    tasks = {name: Task(one_by_one(run), [[PROMPT] * CALLS] * PIECES) for name, run in runs.items()}
    long = Task(one_by_one(few.route), [[LONG] * CALLS] * PIECES)
    return {**tasks, f"route, a prompt of {len(LONG):,} characters": long}


def decision_tasks(data: Path) -> dict[str, Task]:
    """Decisions on a sample of each set, by both sizes of pool and by LiteLLM's routers."""
    from crossroute import CrossRouter

    router = CrossRouter.default()
    few = router.subset(FEW)
    deciders = {
        f"CrossRoute, {len(few.pool)} models": one_by_one(few.route),
        f"CrossRoute, {len(router.pool)} models": one_by_one(router.route),
        **(litellm_routers() or {}),
    }
    tasks = {}
    for name in SETS:
        if (file := data / f"{name}.jsonl.gz").is_file():
            with gzip.open(file, "rt") as lines:
                prompts = [json.loads(line)["prompt"] for line in lines]
            sample = random.Random(0).sample(prompts, min(PROMPTS, len(prompts)))  # noqa: S311
            pieces = [sample[start : start + CALLS] for start in range(0, len(sample), CALLS)]
            tasks |= {f"{name}: {one}": Task(run, pieces) for one, run in deciders.items()}
    return tasks


def one_by_one(run: Callable[[str], object]) -> Callable[[Sequence[str]], None]:
    def all_of(prompts: Sequence[str]) -> None:
        for prompt in prompts:
            run(prompt)

    return all_of


def litellm_routers() -> dict[str, Callable[[Sequence[str]], object]] | None:
    """Its heuristics of both versions, which choose one of four tiers; None if it is not there."""
    # Else it asks the network for prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
    except ImportError:
        return None
    tiers = {tier: tier.lower() for tier in ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")}

    def router(kind: str) -> Callable[[Sequence[str]], object]:
        config = {"tiers": tiers, "classifier_type": kind}
        classify = ComplexityRouter("auto", None, config).aclassify

        def decide(prompt: str) -> None:
            # These two wait for nothing, so that no event loop is needed.
            with suppress(StopIteration):
                classify(prompt).send(None)

        return one_by_one(decide)

    return {"LiteLLM, v1": router("heuristic"), "LiteLLM, v2": router("heuristic_v2")}


def calls(here: dict[str, float], beside: dict[str, float] | None = None) -> Table:
    table = Table(
        "call", "us", "more than the bare call", title=f"One prompt of {len(PROMPT)} chars"
    )
    if beside:
        table.add_column("beside: us")
        table.add_column("ratio")
    bare = 0.0
    for name, time_us in here.items():
        if name.startswith(SETS):
            continue
        if name.startswith("bare"):
            bare = time_us
        more = f"{time_us - bare:+.0f}" if "CrossRoute" in name else ""
        row = [name, f"{time_us:.0f}", more]
        if beside:
            other = beside.get(name)
            row += [f"{other:.0f}", f"{time_us / other:.2f}"] if other else ["-", "-"]
        table.add_row(*row)
    return table


def decisions(here: dict[str, float], beside: dict[str, float] | None = None) -> Table:
    table = Table("decision", *SETS, title="Mean ms a prompt")
    for decider in dict.fromkeys(name.partition(": ")[2] for name in here if name.startswith(SETS)):
        for title, timed in (("", here), (", beside", beside or {})):
            found = [timed.get(f"{name}: {decider}") for name in SETS]
            if any(found):
                table.add_row(decider + title, *(f"{f / 1e3:.3f}" if f else "-" for f in found))
    return table


if __name__ == "__main__":
    main()
