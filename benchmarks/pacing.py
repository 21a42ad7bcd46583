"""What a paced budget is worth beside the best that could be done with it, on test rows.

    python benchmarks/pacing.py FILE... [--split test] [--seeds 10]

Each file's rows of the split come one by one, once in any order and once with a drift in the
middle: first the half of the tasks whose answers cost the least, then the others, or the other way
round. The budgets lie between the cost of the cheapest model and that of the best one, at 10, 25,
50 and 75 % of the way in logarithms. What counts is what the answers really scored and cost.

* pacer: `BudgetPacer`, which is told the budget and the number of requests;
* optimum: the best assignment by predicted quality, with all requests and their real costs known
  (`crossroute.budget.assignment`); oracle: the same with the real scores known;
* fixed: the willingness to pay that just spends as much a request on the split valid;
* PORT (arXiv 2509.02718): the price is taken from the first 2.5 % of the requests, and stays. Those
  go to the cheapest model here: the random ones of the paper would cost most of a low budget.

Whoever has spent the budget asks nobody any more, which scores 0. A few minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from crossroute import BudgetPacer, BudgetSpentError, CandidateScore, CrossRouter, Decision
from crossroute.budget.assignment import Problem, with_budget
from crossroute.budget.multipliers import multipliers
from crossroute.evaluation.references import predicted
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

SHARES = (0.10, 0.25, 0.50, 0.75)
SAMPLE = 0.025
"""Of the requests, from which PORT learns."""


class Stream(NamedTuple):
    """Requests in their order, as arrays [n, m] of what was predicted and what is true."""

    quality: FloatArray
    cost_usd: FloatArray
    score: FloatArray
    paid_usd: FloatArray

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: IntArray) -> Stream:
        return Stream(*(table[rows] for table in self))


class Outcome(NamedTuple):
    """What came of a stream."""

    score: float
    spent_usd: float
    refused: int
    beyond_usd: float
    """By how much the budget was exceeded before the last request: 0 if by that one alone."""
    seconds: float


Choose = Callable[[int, float], int | None]
"""The model for a request by its number, and by what was spent before; None asks nobody."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seeds", type=int, default=10, help="orders of the requests")
    options = parser.parse_args()
    router = CrossRouter.shipped()
    for drifts, name in ((False, "In any order"), (True, "With a drift in the middle")):
        print(f"\n**{name}**\n")
        print(
            "| data | budget for 1,000 | optimum, of the oracle | pacer, of the optimum "
            "| of its gain over the cheapest | fixed, of the optimum | PORT, of the optimum "
            "| pacer spent | refused | ms a request |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for path in options.files:
            for line in lines(router, path, options.split, options.seeds, drifts=drifts):
                print(line, flush=True)


def lines(
    router: CrossRouter, path: Path, split: str, seeds: int, *, drifts: bool
) -> Iterator[str]:
    """The rows of the table for one file."""
    data = RoutingData.load([path]).priced(router.pool)
    data = data.of_models([model for model in data.models if model in router.pool])
    valid, _ = stream_of(router, data.of_split("valid").complete(path.name))
    whole, tasks = stream_of(router, data.of_split(split).complete(path.name))
    mean = whole.paid_usd.mean(axis=0)
    cheapest, best = float(mean.min()), float(mean[whole.score.mean(axis=0).argmax()])
    for share in SHARES:
        budget = len(whole) * cheapest ** (1 - share) * best**share
        optimum = best_score(whole, whole.quality, budget)
        oracle = best_score(whole, whole.score, budget)
        # What no routing has.
        floor = float(whole.score[:, mean.argmin()].sum())
        paced, fixed, port = [], [], []
        willingness = spending(valid, budget / len(whole))
        for seed in track(range(seeds), f"{path.name} {share:.0%}", console=Console(stderr=True)):
            random = np.random.default_rng(seed)
            rows = drifting(whole, tasks, random) if drifts else random.permutation(len(whole))
            stream = whole.take(rows)
            paced.append(run_pacer(stream, budget))
            fixed.append(run(stream, budget, by_price(stream, budget, 1 / willingness)))
            port.append(run_port(stream, budget))
        spent = [one.spent_usd / budget for one in paced]
        gain = [(one.score - floor) / (optimum - floor) for one in paced]
        assert max(one.beyond_usd for one in paced) <= 0  # noqa: S101  # By one request at most.
        yield (
            f"| {path.name.partition('.')[0]} | ${budget / len(whole) * 1e3:.3g} ({share:.0%}) "
            f"| {optimum / oracle:.1%} | {ratios(paced, optimum)} | {np.mean(gain):.0%} "
            f"| {ratios(fixed, optimum)} | {ratios(port, optimum)} "
            f"| {np.mean(spent):.1%}, at most {max(spent):.1%} "
            f"| {np.mean([one.refused for one in paced]):.1f} of {len(whole)} "
            f"| {np.mean([one.seconds for one in paced]) / len(whole) * 1e3:.2f} |"
        )


def ratios(outcomes: Sequence[Outcome], optimum: float) -> str:
    """The mean share of the optimum, and the least and the most over the orders."""
    found = [one.score / optimum for one in outcomes]
    return f"{np.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})"


def stream_of(router: CrossRouter, data: RoutingData) -> tuple[Stream, NDArray[np.str_]]:
    """What is predicted and what is true, and the tasks."""
    return Stream(*predicted(router, data), data.score, data.cost_usd), data.task


def drifting(stream: Stream, tasks: NDArray[np.str_], random: np.random.Generator) -> IntArray:
    """An order whose halves are of other tasks: those that cost little first, or last."""
    cost = {task: stream.paid_usd[tasks == task].mean() for task in np.unique(tasks)}
    rows = random.permutation(len(stream))
    order = np.argsort([cost[task] for task in tasks[rows]], kind="stable")
    half = len(rows) // 2
    first, last = (random.permutation(part) for part in (rows[order[:half]], rows[order[half:]]))
    return np.concatenate([first, last] if random.random() < 0.5 else [last, first])


def best_score(stream: Stream, quality: FloatArray, budget: float) -> float:
    """What the best assignment by some quality and the real costs scores."""
    limits = np.full(quality.shape[1], np.inf)
    found = with_budget(Problem(quality, stream.paid_usd, None, limits), budget)
    assert found is not None  # noqa: S101  # Without limits on models there is one.
    return float(stream.score[np.arange(len(stream)), found.choice.chosen].sum())


def run(stream: Stream, budget: float, choose: Choose) -> Outcome:
    """Let requests come one by one."""
    score, spent, refused, before, began = 0.0, 0.0, 0, 0.0, time.perf_counter()
    for i in range(len(stream)):
        j = choose(i, spent)
        if j is None:
            refused += 1
            continue
        before = max(before, spent)
        score, spent = score + float(stream.score[i, j]), spent + float(stream.paid_usd[i, j])
    seconds = time.perf_counter() - began
    return Outcome(score, spent, refused, max(before - budget, 0.0), seconds)


def by_price(stream: Stream, budget: float, price: float) -> Choose:
    """At a fixed price: what quality a USD must bring."""

    def choose(i: int, spent: float) -> int | None:
        if spent >= budget:
            return None
        return int((stream.quality[i] - price * stream.cost_usd[i]).argmax())

    return choose


def run_pacer(stream: Stream, budget: float) -> Outcome:
    """By the pacer, which is told what each call has cost before the next one."""
    pacer = BudgetPacer(budget, len(stream))
    names = [str(j) for j in range(stream.quality.shape[1])]
    last: list[tuple[Decision, int, int]] = []

    def choose(i: int, _: float) -> int | None:
        if last:
            decision, before, j = last.pop()
            pacer.settle(decision, float(stream.paid_usd[before, j]))
        candidates = tuple(
            CandidateScore(name, quality, cost, 0.0)
            for name, quality, cost in zip(
                names, stream.quality[i].tolist(), stream.cost_usd[i].tolist(), strict=True
            )
        )
        one = candidates[0]
        decision = Decision(one.model, one.quality, one.cost_usd, candidates, 0.0, "linear", 0.0)
        try:
            decision = pacer.paced(decision)
        except BudgetSpentError:
            return None
        last.append((decision, i, int(decision.model)))
        return int(decision.model)

    return run(stream, budget, choose)


def run_port(stream: Stream, budget: float) -> Outcome:
    """A sample, then a fixed price."""
    n, m = stream.quality.shape
    first = max(round(SAMPLE * n), 1)
    free = np.full(m, np.inf)
    price = multipliers(stream.quality[:first], stream.cost_usd[:first], budget / n, free).total
    later = by_price(stream, budget, price)

    def choose(i: int, spent: float) -> int | None:
        if i < first and spent < budget:
            return int(stream.cost_usd[i].argmin())
        return later(i, spent)

    return run(stream, budget, choose)


def spending(stream: Stream, usd_a_request: float) -> float:
    """The willingness to pay at which the requests just cost so much in the mean."""
    low, high = 1e-12, 1e6
    rows = np.arange(len(stream))
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        chosen = (stream.quality - stream.cost_usd / middle).argmax(axis=1)
        is_too_much = stream.paid_usd[rows, chosen].mean() > usd_a_request
        low, high = (low, middle) if is_too_much else (middle, high)
    return low


if __name__ == "__main__":
    main()
