"""What routing costs in time: a routed call beside a bare one, and decisions beside LiteLLM's.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --beside ../before    # the same, with another checkout in turn

Whatever is compared takes turns within one run, and CPU time is measured, so that the ratios hold
on a machine that does other things, too. Decisions are made on a sample of the prompts of each of
the four sets of routing data that is in `--data`, by LiteLLM's heuristic routers, too, where the
extra `bench` is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent.parent
DATA = HERE.parent / "shared" / "data"
SETS = ("routerbench", "zeroeval", "mmlu-pro", "mmlu-helm")
ROUNDS, CALLS, PROMPTS = 25, 40, 300
LANGCHAIN, LLAMAINDEX = "bare FakeListChatModel.invoke", "bare MockLLM.chat"
PROMPT = (
    "Explain in simple words how photosynthesis works in plants, why it matters so much for life "
    "on this planet, and how I could demonstrate it in a classroom experiment with cheap things "
    "that every school already has in a cupboard."
)
LONG = "The committee met again in the spring and found nothing new to report. " * 1_500

Timed = dict[str, float]
"""Microseconds a call, by what is called."""


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
    workers = [start(checkout, options.data) for checkout in checkouts]
    # One round of each in turn; the first one warms up.
    rounds = [[ask(worker) for worker in workers] for _ in range(options.rounds + 1)][1:]
    for worker in workers:
        worker.communicate()
    here, *others = (
        {name: [timed[i][name] for timed in rounds] for name in rounds[0][i]}
        for i in range(len(workers))
    )
    console = Console()
    console.print(calls(here, others[0] if others else None))
    if any(name.startswith(SETS) for name in here):
        console.print(decisions(here, others[0] if others else None))
    else:
        console.print(f"No decisions on prompts: {options.data} holds none of {', '.join(SETS)}.")
    if litellm_routers() is None:
        console.print("Without LiteLLM's routers: it is not installed (extra `bench`).")


def start(checkout: Path, data: Path) -> subprocess.Popen[str]:
    """This file at work in a process of its own, with the packages of a checkout."""
    path = [str(checkout / "shared"), str(checkout), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, __file__, "--worker", "--data", str(data)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return subprocess.Popen(  # noqa: S603
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(worker: subprocess.Popen[str]) -> Timed:
    """One round of a worker."""
    if worker.stdin is None or worker.stdout is None:
        raise TypeError("A worker is asked and answers by pipes.")
    worker.stdin.write("\n")
    worker.stdin.flush()
    timed: Timed = json.loads(worker.stdout.readline())
    return timed


def work(data: Path) -> None:
    """Do a round of everything for each line that comes in."""
    tasks = {**call_tasks(), **decision_tasks(data)}
    for _ in sys.stdin:
        timed = {}
        for name, (task, count) in tasks.items():
            begin = time.thread_time()
            task()
            timed[name] = (time.thread_time() - begin) / count * 1e6
        sys.stdout.write(json.dumps(timed) + "\n")
        sys.stdout.flush()


Task = tuple[Callable[[], object], int]
"""What is timed, and how many calls it makes."""


def call_tasks() -> dict[str, Task]:
    from langchain_core.language_models import FakeListChatModel
    from llama_index.core.llms import ChatMessage, MockLLM

    from crossroute import CrossRouter, Query, StaticEncoder
    from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
    from llamaindex_crossroute import CrossRouteLLM

    router, encoder = CrossRouter.default(), StaticEncoder()
    few = router.subset(router.pool.reachable())
    models = {model: FakeListChatModel(responses=["Yes."]) for model in few.pool}
    bare = next(iter(models.values()))
    chat = ChatCrossRoute(router=few, models=models)
    runnable = CrossRouteRunnable(router=few, models=models)
    mock = MockLLM(max_tokens=1)
    llm = CrossRouteLLM(router=few, models=dict.fromkeys(few.pool, mock))
    messages, query = [ChatMessage(PROMPT)], Query.of(PROMPT)
    single: dict[str, Callable[[], object]] = {
        LANGCHAIN: lambda: bare.invoke(PROMPT),
        "ChatCrossRoute.invoke": lambda: chat.invoke(PROMPT),
        "CrossRouteRunnable.invoke": lambda: runnable.invoke(PROMPT),
        LLAMAINDEX: lambda: mock.chat(messages),
        "CrossRouteLLM.chat": lambda: llm.chat(messages),
        f"route, {len(few.pool)} models": lambda: few.route(PROMPT, 0.01),
        f"route, {len(router.pool)} models": lambda: router.route(PROMPT, 0.01),
        "  of it: reading the query": lambda: Query.of(PROMPT),
        "  of it: encoder": lambda: encoder.encode([query.text]),
        f"route, a prompt of {len(LONG):,} characters": lambda: few.route(LONG, 0.01),
    }
    return {name: (repeated(call), CALLS) for name, call in single.items()}


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def decision_tasks(data: Path) -> dict[str, Task]:
    """Decisions on a sample of each set, by both sizes of pool and by LiteLLM's routers."""
    from crossroute import CrossRouter

    router = CrossRouter.default()
    few = router.subset(router.pool.reachable())
    deciders = {
        f"CrossRoute, {len(few.pool)} models": each(few.route),
        f"CrossRoute, {len(router.pool)} models": each(router.route),
        **(litellm_routers() or {}),
    }
    tasks: dict[str, Task] = {}
    for name in SETS:
        if not (file := data / f"{name}.jsonl.gz").is_file():
            continue
        with gzip.open(file, "rt") as lines:
            prompts = [json.loads(line)["prompt"] for line in lines]
        sample = random.Random(0).sample(prompts, min(PROMPTS, len(prompts)))  # noqa: S311
        for decider, decide in deciders.items():
            tasks[f"{name}: {decider}"] = (
                (lambda decide=decide, sample=sample: decide(sample)),
                len(sample),
            )
    return tasks


def each(decide: Callable[[str], object]) -> Callable[[list[str]], None]:
    def run(prompts: list[str]) -> None:
        for prompt in prompts:
            decide(prompt)

    return run


def litellm_routers() -> dict[str, Callable[[list[str]], None]] | None:
    """Its heuristics of both versions, which choose one of four tiers; None if it is not there."""
    # Else it asks the network for prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
    except ImportError:
        return None
    tiers = {tier: tier.lower() for tier in ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")}

    def router(kind: str) -> Callable[[list[str]], None]:
        config = {"tiers": tiers, "classifier_type": kind}
        classify = ComplexityRouter("auto", None, config).aclassify

        async def run(prompts: list[str]) -> None:
            for prompt in prompts:
                await classify(prompt)

        return lambda prompts: asyncio.run(run(prompts))

    return {"LiteLLM, v1": router("heuristic"), "LiteLLM, v2": router("heuristic_v2")}


def calls(here: dict[str, list[float]], beside: dict[str, list[float]] | None) -> Table:
    table = Table("call", "median us", "p95 us", "more than the bare call, us")
    table.title = f"One prompt of {len(PROMPT.split())} words"
    if beside:
        table.add_column("beside: median us")
        table.add_column("ratio of the medians")
    bare = 0.0
    for name, values in here.items():
        if name.startswith(SETS):
            continue
        median, p95 = statistics.median(values), statistics.quantiles(values, n=20)[-1]
        if name in (LANGCHAIN, LLAMAINDEX):
            bare = median
        more = "" if name.lstrip().startswith(("route", "of")) else f"{median - bare:+.0f}"
        table.add_row(name, f"{median:.0f}", f"{p95:.0f}", more, *compared(name, median, beside))
    return table


def decisions(here: dict[str, list[float]], beside: dict[str, list[float]] | None) -> Table:
    table = Table("decision", *SETS, title="Mean ms a prompt (median of the rounds)")
    deciders = dict.fromkeys(name.partition(": ")[2] for name in here if name.startswith(SETS))
    for decider in deciders:
        for title, timed in (("", here), (", beside", beside or {})):
            found = [timed.get(f"{name}: {decider}") for name in SETS]
            if any(found):
                cells = [f"{statistics.median(f) / 1e3:.3f}" if f else "-" for f in found]
                table.add_row(decider + title, *cells)
    return table


def compared(name: str, median: float, beside: dict[str, list[float]] | None) -> list[Any]:
    if not beside:
        return []
    if name not in beside:
        return ["-", "-"]
    other = statistics.median(beside[name])
    return [f"{other:.0f}", f"{median / other:.2f}"]


if __name__ == "__main__":
    main()
