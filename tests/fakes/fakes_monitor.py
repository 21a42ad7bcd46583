"""Made-up traffic of a router over two models, as a recorder writes it, and what was promised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from crossroute.traffic.figures import fresh_saving
from crossroute.traffic.policy import Policy
from crossroute.traffic.records import CallRecord, Feedback
from crossroute.traffic.sinks import sink_of

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
DEAR, CHEAP = "acme/dear", "acme/cheap"
USD = {DEAR: 0.01, CHEAP: 0.001}


@dataclass(frozen=True)
class World:
    """How calls are.

    Attributes:
        share: That the dear model gets.
        dearer: How many times what is predicted answers cost.
        quality: Of both models' answers: what is predicted, but for `worse`.
        worse: By how much the cheap model's answers are worse.
        failing: How often the cheap model fails.
        rated: Share of the calls with feedback.
    """

    share: float = 0.4
    dearer: float = 1.0
    quality: float = 0.85
    worse: float = 0.0
    failing: float = 0.0
    rated: float = 0.5


USUAL = World()


def costs(rng: np.random.Generator, usd: float) -> tuple[float, float]:
    """Of an answer: predicted and realised; both lean to the right, and are equal in the mean."""
    predicted = usd * rng.lognormal(-0.125, 0.5)
    return float(predicted), float(predicted * rng.lognormal(-0.18, 0.6))


def calls(world: World, count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Calls as a recorder writes them, without times; each with its score, or None."""
    for number in range(count):
        model = DEAR if rng.random() < world.share else CHEAP
        paid = {one: costs(rng, USD[one]) for one in USD}
        order = [model, *(one for one in USD if one != model)]
        candidates = [
            {
                "model": one,
                "quality": world.quality,
                "cost_usd": paid[one][0],
                "reward": 0.5,
            }
            for one in order
        ]
        asks = []
        if model == CHEAP and rng.random() < world.failing:
            asks.append(_ask(CHEAP, 0.0, "RateLimitError"))
            model = DEAR
        asks.append(_ask(model, paid[model][1] * world.dearer))
        quality = world.quality - world.worse * (model == CHEAP)
        score = float(rng.random() < quality) if rng.random() < world.rated else None
        yield {
            "kind": "call",
            "id": f"{number}",
            "query": f"What is {number} + {number}?",
            "decision": {
                **candidates[0],
                "candidates": candidates,
                "willingness_to_pay": 0.05,
                "reward": "exponential",
                "input_tokens": 12,
            },
            "model": model,
            "outcome": "answered",
            "asks": asks,
            "input_tokens": 12,
            "output_tokens": 100,
            "cost_usd": sum(ask["cost_usd"] for ask in asks),
            "latency_s": float(rng.lognormal(0, 0.5)),
            "score": score,
        }


def _ask(model: str, cost_usd: float, error: str | None = None) -> dict[str, Any]:
    return {
        "model": model,
        "role": "answer",
        "input_tokens": 12,
        "output_tokens": 100,
        "cost_usd": cost_usd,
        "error": error,
    }


def days(worlds: Iterable[World], a_day: int, seed: int) -> Iterator[dict[str, Any]]:
    """Calls of some days, one world each."""
    rng = np.random.default_rng(seed)
    for day, world in enumerate(worlds):
        for place, call in enumerate(calls(world, a_day, rng)):
            at = BEGIN + timedelta(days=day, seconds=place * 86_400 / a_day)
            yield {**call, "id": f"{day}-{place}", "at": at.isoformat()}


def records_in_turn(
    worlds: Iterable[World], a_day: int = 300, seed: int = 0
) -> Iterator[CallRecord]:
    """The same calls with strategies, as records with their feedback."""
    rng = np.random.default_rng([seed, 3])
    for call in days(worlds, a_day, seed):
        yield _record(in_turn(call, rng))


def records(worlds: Iterable[World], a_day: int = 300, seed: int = 0) -> Iterator[CallRecord]:
    """The same as records with their feedback."""
    yield from map(_record, days(worlds, a_day, seed))


def _record(call: dict[str, Any]) -> CallRecord:
    record = CallRecord.model_validate(call)
    if call["score"] is None:
        return record
    said = Feedback(id=record.id, at=record.at, score=call["score"])
    return record.model_copy(update={"feedback": {"user": said}})


def write_records(path: Path, worlds: Iterable[World], a_day: int = 300, seed: int = 0) -> Path:
    """The same in a file of records; a recorder's own sink writes it."""
    sink = sink_of(path)
    for call in days(worlds, a_day, seed):
        score = call.pop("score")
        sink.write("call", call["id"], json.dumps(call))
        if score is not None:
            said = {"kind": "feedback", "id": call["id"], "at": call["at"], "score": score}
            sink.write("feedback", call["id"], json.dumps(said))
    return path


def policy(world: World = USUAL, rows: int = 500, seed: int = 0, max_loss: float = 0.02) -> Policy:
    """What a plan would promise that has seen so many rows of a world."""
    rng = np.random.default_rng([seed, 1])
    seen = list(calls(replace(world, rated=1.0), rows, rng))
    cost = np.array([call["cost_usd"] for call in seen])
    base = np.array(
        [
            call["cost_usd"]
            if call["model"] == DEAR
            else next(c["cost_usd"] for c in call["decision"]["candidates"] if c["model"] == DEAR)
            * rng.lognormal(-0.18, 0.6)
            for call in seen
        ]
    )
    low, high = fresh_saving(cost, base, 0.9, seed)
    share = float(np.mean([call["model"] == DEAR for call in seen]))
    return Policy.model_validate(
        {
            "models": [DEAR, CHEAP],
            "router": "policy.router",
            "willingness_to_pay": 0.05,
            "promised": {
                "baseline": DEAR,
                "saving": round(float(1 - cost.sum() / base.sum()), 4),
                "saving_low": round(low, 4),
                "saving_high": round(high, 4),
                "loss": 0.0,
                "loss_high": max_loss,
                "max_loss": max_loss,
                "confidence": 0.9,
                "quality": round(float(np.mean([call["score"] for call in seen])), 4),
                "cost_usd": float(f"{cost.mean():.4g}"),
                "shares": {DEAR: round(share, 4), CHEAP: round(1 - share, 4)},
            },
            "data": {"prompts": 2 * rows, "calibration": rows, "planned": "2026-10-31"},
        }
    )


WORDS = "acme/cheap, then acme/dear (until 0.9)"


def in_turn(call: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The call, had a plan with strategies asked the cheap model first where it took that one.

    Three of ten times its answer does not suffice: then the dear one is asked, too, whose answer is
    given. These are the hard prompts, of which fewer answers are right.
    """
    if call["model"] == DEAR:
        return call
    asks = [{**ask, "role": "draft"} for ask in call["asks"]]
    if rng.random() < 0.7:
        score = None if call["score"] is None else float(rng.random() < 0.97)
        return {**call, "asks": asks, "score": score}
    asks.append({**_ask(DEAR, costs(rng, USD[DEAR])[1]), "role": "draft"})
    score = None if call["score"] is None else float(rng.random() < 0.57)
    cost = sum(ask["cost_usd"] for ask in asks)
    return {**call, "asks": asks, "model": DEAR, "score": score, "cost_usd": cost}


def policy_in_turn(rows: int = 500, seed: int = 0) -> Policy:
    """What a plan would promise that has seen so many rows of such calls."""
    rng = np.random.default_rng([seed, 2])
    seen = [in_turn(call, rng) for call in calls(replace(USUAL, rated=1.0), rows, rng)]
    plain = policy(rows=rows, seed=seed)
    share = float(np.mean([call["asks"][0]["role"] == "answer" for call in seen]))
    cost = float(np.mean([call["cost_usd"] for call in seen]))
    base = plain.promised.cost_usd / (1 - plain.promised.saving)
    saving, width = 1 - cost / base, plain.promised.saving_high - plain.promised.saving_low
    promised = plain.promised.model_copy(
        update={
            "shares": {DEAR: round(share, 4), WORDS: round(1 - share, 4)},
            "cost_usd": cost,
            "saving": saving,
            "saving_low": saving - width / 2,
            "saving_high": saving + width / 2,
            "quality": float(np.mean([call["score"] for call in seen])),
        }
    )
    return plain.model_copy(update={"promised": promised, "strategies": "policy.strategies.json"})
