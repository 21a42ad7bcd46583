"""What strategies bring beside their parts, on models that answer what they once answered.

    python benchmarks/strategies.py [--out TABLES.md]

Reads mmlu-pro, mmlu-helm and zeroeval, and what the models answered to them, from ../shared/data.
A router is trained on the rows of the split train of each set; arguments and panels are chosen on
the split valid; the tables are of the split test. What is replayed, and what is not recorded and
follows from it by rules, is said in `replay.py`, `replay_roles.py` and docs/strategies/measured.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from replay import Policy, Prompt, Sureness, call, prompts_of, said
from replay_roles import Judges, controlling, guesses, judging, knowing, knows

from crossroute import CrossRouter, ModelPool
from crossroute.evaluation.metrics import Hull, Interval, resamples, sweep
from crossroute.evaluation.references import predicted
from crossroute.strategies import (
    Arms,
    Ask,
    Controller,
    Flow,
    Handoff,
    Mixture,
    Panels,
    PickOne,
    Probe,
    Reply,
    Strategy,
    Task,
    Vote,
)
from crossroute.training.answers import load_answers
from crossroute.training.data import RoutingData
from crossroute.training.panels import AnsweredRows, choose_panels
from crossroute.training.train import train

FloatArray = NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SETS = ("mmlu-pro", "mmlu-helm", "zeroeval")
KNOWN = 0.95
"""Share of the rows to which a model's answer must be known."""
TEST_ROWS, VALID_ROWS = 1_000, 300
THRIFTY, USUAL, LAVISH = 0.001, 0.01, 0.1
"""Willingness to pay, in USD a unit of quality."""
RESAMPLES = 1_000
CAPABILITIES = ("logprobs", "tools")


@dataclass(frozen=True)
class Single:
    """One model, whatever is asked."""

    model: str

    def answer(self, task: Task) -> Flow:  # noqa: ARG002  # A strategy gets it.
        reply: Reply = yield Ask(self.model)
        return reply


@dataclass(frozen=True)
class FullMixture:
    """Mixture of agents without a router: all candidates draft at once, one writes the answer."""

    aggregator: str

    def answer(self, task: Task) -> Flow:
        candidates = task.decision.candidates
        drafts: Sequence[Reply] = yield tuple(Ask(one.model, role="draft") for one in candidates)
        shown = "\n\n".join(f"[{i}] {one.text}" for i, one in enumerate(drafts, 1))
        told = {"role": "user", "content": f"Write the best answer. Others answered:\n\n{shown}"}
        reply: Reply = yield Ask(self.aggregator, then=(told,))
        return reply


@dataclass(frozen=True)
class Routing:
    """Plain routing on some prompts, at willingnesses to pay that are worth having.

    Attributes:
        score: [w, n] of the answers, by mean cost.
        cost_usd: [w, n] of these.
    """

    score: FloatArray
    cost_usd: FloatArray

    @classmethod
    def of(cls, router: CrossRouter, valid: RoutingData, test: RoutingData) -> Routing:
        """On test rows, at what lies on the hull of the valid rows, and then on their own."""
        kept = _corners(*_swept(router, valid))
        score, cost = (values[kept] for values in _swept(router, test))
        kept = _corners(score, cost)
        return cls(score[kept], cost[kept])

    def at_cost(self, usd: float) -> FloatArray:
        """[n] expected scores of the mix of two willingnesses to pay that costs so much.

        Below the least cost, and above the most, it is the nearest of them alone.
        """
        cost = self.cost_usd.mean(axis=1)
        right = int(np.searchsorted(cost, usd))
        if right in (0, len(cost)):
            return np.asarray(self.score[min(right, len(cost) - 1)])
        share = (usd - cost[right - 1]) / (cost[right] - cost[right - 1])
        return np.asarray((1 - share) * self.score[right - 1] + share * self.score[right])


def _corners(score: FloatArray, cost_usd: FloatArray) -> list[int]:
    """Which of some choices lie on the hull of their mean costs and qualities, by cost."""
    points = np.stack([cost_usd.mean(axis=1), score.mean(axis=1)], axis=1)
    hull = Hull.of(*points.T)
    corners = np.stack([hull.cost_usd, hull.quality], axis=1)
    return [int((points == corner).all(axis=1).argmax()) for corner in corners]


def _swept(router: CrossRouter, data: RoutingData) -> tuple[FloatArray, FloatArray]:
    """Scores and costs of plain routing at every willingness to pay: [w, n] each."""
    chosen = sweep(*predicted(router, data), router.reward)
    at = np.arange(len(data))
    return data.score[at, chosen], data.cost_usd[at, chosen]


@dataclass(frozen=True)
class Traffic:
    """The rows of a data set, as they are measured on.

    Attributes:
        name: Of the data set.
        router: That was trained on its split train.
        valid: Prompts that arguments are chosen on.
        test: Prompts that are measured on.
        level: Mean score of each model on all valid rows, the best first.
        judges: How right answers are, counted on `valid`.
        panels: Those that were chosen on `valid`.
        routing: Plain routing on `test`.
    """

    name: str
    router: CrossRouter
    valid: Sequence[Prompt]
    test: Sequence[Prompt]
    level: Mapping[str, float]
    judges: Judges
    panels: Panels
    routing: Routing

    @classmethod
    def of(cls, name: str, folder: Path, most: int) -> Traffic:
        """What is measured on, from the files of a data set.

        Args:
            name: Of the data set.
            folder: With its rows, and what was answered to them in `answers`.
            most: Test prompts at most, drawn by chance.
        """
        answers = load_answers(folder / "answers", [name])
        data = RoutingData.load([folder / f"{name}.jsonl.gz"])
        labels = [answers.get(row_id, {}) for row_id in data.ids]
        answered = sum(map(bool, labels))
        data = data.of_models(
            [one for one in data.models if sum(one in row for row in labels) >= KNOWN * answered]
        )
        shipped = CrossRouter.shipped()
        learned = train(data.select(data.learnable("valid")), known=shipped.pool)
        # What was served then is asked for again, in thought, and each can what strategies need.
        served = ModelPool(
            one.model_copy(update={"retired": None, "capabilities": CAPABILITIES})
            for one in learned.pool.values()
        )
        router = learned.over(served)
        known = [
            all(model in answers.get(row_id, {}) for model in data.models) for row_id in data.ids
        ]
        data = data.select(np.array(known)).complete(name)
        valid, test = (data.of_split(split) for split in ("valid", "test"))
        rows = AnsweredRows.of(valid, *predicted(router, valid), answers)
        panels = choose_panels(rows, router.reward).panels
        valid_prompts, test_prompts = (
            prompts_of(part, answers, router.route_batch(part.prompts, LAVISH), served)
            for part in (valid, test)
        )
        level = dict(zip(valid.models, valid.score.mean(axis=0).tolist(), strict=True))
        judges = Judges.of(valid_prompts)
        _, few_prompts = _some(valid, valid_prompts, VALID_ROWS)
        test, test_prompts = _some(test, test_prompts, most)
        return cls(
            name,
            router,
            few_prompts,
            test_prompts,
            dict(sorted(level.items(), key=lambda one: -one[1])),
            judges,
            panels,
            Routing.of(router, valid, test),
        )

    @property
    def by_quality(self) -> tuple[str, ...]:
        """Ids of the models, the best on the valid rows first."""
        return tuple(self.level)

    def at(self, prompts: Sequence[Prompt], willingness_to_pay: float) -> list[Prompt]:
        """Prompts, decided at a willingness to pay."""
        decisions = self.router.route_batch([one.task.query for one in prompts], willingness_to_pay)
        return [
            replace(one, task=replace(one.task, decision=decision))
            for one, decision in zip(prompts, decisions, strict=True)
        ]


def _some(
    data: RoutingData, prompts: Sequence[Prompt], most: int
) -> tuple[RoutingData, list[Prompt]]:
    drawn = np.random.default_rng(0).permutation(len(prompts))[:most]
    kept = np.zeros(len(prompts), np.bool_)
    kept[drawn] = True
    return data.select(kept), [one for one, is_kept in zip(prompts, kept, strict=True) if is_kept]


class Way(NamedTuple):
    """A way of answering, with the arguments among which the valid rows choose.

    Attributes:
        name: As it stands in the table.
        variants: The strategy by what its arguments are.
        willingness_to_pay: That the router decides by, and the choice.
        roles: What judges and controllers say.
        sureness: What log-probabilities say.
    """

    name: str
    variants: Mapping[str, Strategy]
    willingness_to_pay: float
    roles: Mapping[str, Policy]
    sureness: Sureness | None

    def outcomes(self, prompts: Sequence[Prompt], arguments: str) -> FloatArray:
        """[3, n] scores, costs in USD, and asks."""
        strategy = self.variants[arguments]
        return np.array(
            [call(prompt, strategy, self.roles, self.sureness) for prompt in prompts], np.float64
        ).T

    def chosen(self, traffic: Traffic) -> str:
        """The arguments that are worth most on the valid prompts."""
        names = list(self.variants)
        if len(names) == 1:
            return names[0]
        prompts = traffic.at(traffic.valid, self.willingness_to_pay)
        worth = []
        for name in names:
            score, cost, _ = self.outcomes(prompts, name)
            worth.append(float((score - cost / self.willingness_to_pay).mean()))
        return names[int(np.argmax(worth))]


def way(
    name: str,
    strategy: Strategy | Mapping[str, Strategy],
    willingness_to_pay: float = LAVISH,
    roles: Mapping[str, Policy] | None = None,
    sureness: Sureness | None = None,
) -> Way:
    variants = strategy if isinstance(strategy, Mapping) else {"": strategy}
    return Way(name, variants, willingness_to_pay, roles or {}, sureness)


def baselines(traffic: Traffic) -> list[Way]:
    """Best member first, which all others are compared with."""
    best = traffic.by_quality[0]
    return [
        way(f"best member ({best})", Single(best)),
        *(way(f"`PickOne` at ${value:g}", PickOne(), value) for value in (THRIFTY, USUAL, LAVISH)),
        way("full mixture of agents", FullMixture(best)),
        way("the same, if the aggregator knew", FullMixture(best), roles={"answer": knowing}),
    ]


def strategies(traffic: Traffic) -> list[Way]:
    """What is compared with these."""
    best = traffic.by_quality[0]
    known, blind = ({"judge": judging(one)} for one in (traffic.judges, None))
    mixtures = {
        f"rounds={rounds}, stop_above={stop}": Mixture(rounds=rounds, stop_above=stop)
        for rounds in (1, 2)
        for stop in (0.76, None)
    }
    probes = {
        f"width={width}, judge={judge}": Probe(width=width, judge=judge)
        for width in (2, 4)
        for judge in (None, best)
    }
    controllers = {f"model={model}": Controller(model) for model in (None, best)}
    handoffs = {
        f"cheap={model}": Handoff(tau=-1.0, cheap=model, strong=best)
        for model in traffic.by_quality[1:]
    }
    handoff = way("`Handoff`, if the signal knew", handoffs, sureness=knows)
    pair = handoff.chosen(traffic)
    cheap = {pair: handoffs[pair]}
    wrong = 1 - traffic.level[pair.removeprefix("cheap=")]
    return [
        way(
            "`Vote`",
            {
                f"the {count} best, options={options}": Vote(
                    traffic.by_quality[:count], extract=said, options=options, in_turn=True
                )
                for count in (3, 5)
                for options in (4, 10)
            },
        ),
        *(
            way(f"`Arms` at ${value:g}", Arms(traffic.panels, extract=said), value)
            for value in (USUAL, LAVISH)
        ),
        way("`Mixture`, as it comes", Mixture(), roles=known),
        way("`Mixture`", mixtures, roles=known),
        way("`Mixture`, blind scores", mixtures, roles=blind),
        way(
            "`Mixture`, if the aggregator knew",
            {"rounds=1, stop_above=None": Mixture(rounds=1, stop_above=None)},
            roles={**blind, "answer": knowing},
        ),
        way("`Probe`, as it comes", Probe(), roles=known),
        way("`Probe`", probes, roles=known),
        way("`Probe`, blind judge", Probe(), roles=blind),
        way("`Probe`, fuse=True", Probe(fuse=True), roles=known),
        *(
            way(
                f"`Controller`, by a script that asks {count}",
                controllers,
                roles={"control": controlling(count)},
            )
            for count in (1, 2)
        ),
        handoff._replace(variants=cheap),
        way("`Handoff`, if the signal knew nothing", cheap, sureness=guesses(wrong)),
    ]


class Measured(NamedTuple):
    """What a way of answering brought.

    Attributes:
        name: Of it.
        arguments: That were chosen, in words.
        score: [n] of the answers.
        cost_usd: [n] of all asks.
        asks: [n] how many.
    """

    name: str
    arguments: str
    score: FloatArray
    cost_usd: FloatArray
    asks: FloatArray


def measured(traffic: Traffic, one: Way) -> Measured:
    """What a way of answering brings on the test prompts."""
    arguments = one.chosen(traffic)
    prompts = traffic.at(traffic.test, one.willingness_to_pay)
    return Measured(one.name, arguments, *one.outcomes(prompts, arguments))


def table(traffic: Traffic, found: Sequence[Measured]) -> list[str]:
    """Lines of Markdown; the first is what the others are compared with."""
    n = len(traffic.test)
    weights = np.concatenate([np.ones((1, n)), resamples(n, RESAMPLES)]) / n
    best = found[0]
    lines = [
        f"### {traffic.name}: {n:,} test prompts, {len(traffic.by_quality)} members",
        "",
        "| | quality (95 %) | to the best member (95 %) | $ per 1,000 | of the best member's cost "
        "| asks | to plain routing at this cost (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        routed = traffic.routing.at_cost(float(one.cost_usd.mean()))
        name = f"{one.name}: {one.arguments}" if one.arguments else one.name
        cells = [
            name,
            plain(interval(weights @ one.score)),
            "-" if one is best else signed(interval(weights @ (one.score - best.score))),
            f"{1_000 * one.cost_usd.mean():.3f}",
            f"{one.cost_usd.mean() / best.cost_usd.mean():.0%}",
            f"{one.asks.mean():.2f}",
            signed(interval(weights @ (one.score - routed))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def interval(values: FloatArray) -> Interval:
    """A figure of the rows as they are, the first, with that of resampled ones."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


def plain(value: Interval) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def signed(value: Interval) -> str:
    bold = "**" if value.low > 0 or value.high < 0 else ""
    return f"{bold}{value.mean:+.3f}{bold} ({value.low:+.3f} to {value.high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=SETS, help="data sets")
    parser.add_argument("--data", type=Path, default=DATA, help="their folder")
    parser.add_argument("--rows", type=int, default=TEST_ROWS, help="test prompts of a set at most")
    parser.add_argument("--out", type=Path, help="the tables, as Markdown; else they are printed")
    options = parser.parse_args()
    lines: list[str] = []
    for name in options.names:
        traffic = Traffic.of(name, options.data, options.rows)
        found = []
        for one in [*baselines(traffic), *strategies(traffic)]:
            found.append(measured(traffic, one))
            print(f"{name}: {one.name}", file=sys.stderr)
        lines += [*table(traffic, found), ""]
    text = "\n".join(lines)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
