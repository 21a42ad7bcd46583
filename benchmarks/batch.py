"""What `crossroute.batch.Decide` decides a second, in one process and by Ray's workers.

    python benchmarks/batch.py --rows 20000

The same rows in turn by one process and by 1, 2, ... workers of a local Ray, which are started
before the clock is; the ratio to one process counts. On a machine with few cores, workers share
them with Ray itself.
"""

from __future__ import annotations

import argparse
import os
import time

from ray_batch import simulated_prompts
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from crossroute.batch import MODEL, Decide

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Each worker has one core, so that they do not wait for each other.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import ray

    decide = Decide(willingness_to_pay=0.02)
    prompts = simulated_prompts(options.rows)
    decide({"prompt": prompts[: options.batch]})

    @threadpool_limits.wrap(limits=1)
    def alone() -> list[str]:
        found: list[str] = []
        for start in range(0, len(prompts), options.batch):
            found += decide({"prompt": prompts[start : start + options.batch]})[MODEL].tolist()
        return found

    ray.init(
        num_cpus=max(options.workers),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    actor = ray.remote(num_cpus=1)(Decide)
    seconds: dict[str, list[float]] = {}
    expected = alone()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        alone()
        seconds.setdefault("one process", []).append(time.perf_counter() - began)
        for count in options.workers:
            workers = [actor.remote(willingness_to_pay=0.02) for _ in range(count)]
            warm = {"prompt": prompts[:2]}
            ray.get([one.__call__.remote(warm) for one in workers])
            parts = [prompts[i : i + options.batch] for i in range(0, len(prompts), options.batch)]
            began = time.perf_counter()
            pool = ray.util.ActorPool(workers)
            found = [*pool.map(lambda one, part: one.__call__.remote({"prompt": part}), parts)]
            name = f"{count} worker{'s' if count > 1 else ''}"
            seconds.setdefault(name, []).append(time.perf_counter() - began)
            if [model for part in found for model in part[MODEL].tolist()] != expected:
                raise SystemExit(f"{name} decide otherwise than one process.")
            for one in workers:
                ray.kill(one)
    ray.shutdown()
    base = min(seconds["one process"])
    table = Table("", "prompts a second", "to one process")
    for name, taken in seconds.items():
        table.add_row(name, f"{len(prompts) / min(taken):,.0f}", f"{base / min(taken):.2f}")
    Console().print(table)
    Console().print("The decisions are the same.")


if __name__ == "__main__":
    main()
