"""Decide many prompts with Ray Data, on all cores; no key is needed, nothing is asked.

    pip install 'crossroute[ray]'
    python examples/ray_batch.py

Rows are decided each by itself, so the decisions are those that one process would take.
"""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter

from crossroute.batch import COST, MODEL, Decide

PROMPTS, WORKERS = 2_000, 2


def simulated_prompts(count: int) -> list[str]:
    chance = random.Random(0)  # noqa: S311  # Prompts need not be secret.
    kinds = (
        "Translate to French: the meeting of {} is moved to room {}.",
        "What is {} * {}? Answer with the number only.",
        "Prove that the sum of the first {} odd numbers is a square, and check it for {}.",
        "Write a SQL query for the {} best customers of the last {} days, by revenue.",
        "Write a story of {} words about a lighthouse keeper who has not slept for {} nights.",
    )
    return [
        chance.choice(kinds).format(chance.randint(2, 900), chance.randint(2, 90))
        for _ in range(count)
    ]


def main() -> None:
    # Ray counts its users over the network unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It warns of settings of its own.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    import ray

    prompts = simulated_prompts(PROMPTS)
    print(f"{len(prompts)} simulated prompts; nothing is asked, everything is predicted.")
    decide = Decide(willingness_to_pay=0.02)
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        rows = ray.data.from_items([{"prompt": prompt} for prompt in prompts])
        decided = rows.map_batches(decide, batch_size=256).take_all()
    finally:
        ray.shutdown()

    print(f"Predicted to cost ${sum(row[COST] for row in decided):.2f} in all:")
    for model, count in Counter(row[MODEL] for row in decided).most_common():
        print(f"  {model:<40} {count:>6}")
    alone = decide({"prompt": prompts})
    same = {row["prompt"]: row[MODEL] for row in decided}
    if any(same[prompt] != model for prompt, model in zip(prompts, alone[MODEL], strict=True)):
        raise SystemExit("The decisions differ from those of one process.")
    print("The decisions are those of one process.")


if __name__ == "__main__":
    main()
