"""What routing costs in time: encoder and decision apart, and a routed call beside a bare one.

    python benchmarks/overhead.py

Everything is timed in turn within one run, so that the ratios hold on a noisy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from langchain_core.language_models import FakeListChatModel
from rich.console import Console
from rich.table import Table

from crossroute import CrossRouter, Query, StaticEncoder
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable

ROUNDS, CALLS = 30, 40
BARE = "bare FakeListChatModel.invoke"
PROMPT = (
    "Explain in simple words how photosynthesis works in plants, why it matters so much for life "
    "on this planet, and how I could demonstrate it in a classroom experiment with cheap things "
    "that every school already has in a cupboard."
)
LONG = "The committee met again in the spring and found nothing new to report. " * 1_500


def main() -> None:
    router, encoder = CrossRouter.default(), StaticEncoder()
    few = router.subset(router.pool.reachable())
    models = {model: FakeListChatModel(responses=["Yes."]) for model in few.pool}
    bare = next(iter(models.values()))
    chat = ChatCrossRoute(router=few, models=models)
    runnable = CrossRouteRunnable(router=few, models=models)
    query = Query.of(PROMPT)
    tasks: dict[str, Callable[[], object]] = {
        BARE: lambda: bare.invoke(PROMPT),
        "ChatCrossRoute.invoke": lambda: chat.invoke(PROMPT),
        "CrossRouteRunnable.invoke": lambda: runnable.invoke(PROMPT),
        f"route, {len(few.pool)} models": lambda: few.route(PROMPT, 0.01),
        f"route, {len(router.pool)} models": lambda: router.route(PROMPT, 0.01),
        "  of it: reading the query": lambda: Query.of(PROMPT),
        "  of it: encoder": lambda: encoder.encode([query.text]),
        f"route, a prompt of {len(LONG):,} characters": lambda: few.route(LONG, 0.01),
    }
    times = measure(tasks)
    base = statistics.median(times[BARE])
    table = Table(
        "call",
        "median us",
        "p95 us",
        "more than the bare call, us",
        "times the bare call",
        title=f"One prompt of {len(PROMPT.split())} words",
    )
    for name, values in times.items():
        median = statistics.median(values)
        p95 = statistics.quantiles(values, n=20)[-1]
        table.add_row(
            name, f"{median:.0f}", f"{p95:.0f}", f"{median - base:+.0f}", f"{median / base:.2f}"
        )
    Console().print(table)


def measure(tasks: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Microseconds a call, the mean of a few calls a round; the tasks take turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                task()
            times[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return times


if __name__ == "__main__":
    main()
