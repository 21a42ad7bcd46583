"""The figures of a report: what its page shows at each setting of a router, and at first.

All that the page knows of a plan is read here. A plan may rest on any number of prompts, models,
topics and settings; of each the report has as many as a page can show.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.evaluation.metrics import calibration
from crossroute.query import Query
from crossroute.traffic.choice import Setting
from crossroute.traffic.outcomes import Outcomes
from crossroute.traffic.planning import Evidence, Plan
from crossroute.traffic.settings import Family, Measured, Problem
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

MOST_SETTINGS = 80
MOST_TOPICS = 20
MOST_MODELS = 60
MOST_ROWS = 300
"""Prompts that are in the report, for examples."""
EXAMPLES = 3
"""Of each kind, at each setting."""
SHOWN_CHARACTERS = 300
"""Of a prompt."""
FEWEST_ANSWERS = 20
"""A model with fewer answers among the calibration prompts is not in the curve."""
OTHER_TOPICS = "(other topics)"
NO_TOPIC = "(no topic)"
ALIKE = 1e-9
"""Scores that differ by no more are as good as each other."""

KINDS = ("same", "cheaper", "dearer", "worse", "better")
"""What a change of model is to a prompt: none; as good and cheaper, as good and not cheaper; a
lower score; a higher one."""


class Curve(NamedTuple):
    """The settings of a router that are shown.

    Attributes:
        family: The router.
        places: [s] of the settings in it, by rising willingness to pay.
        start: Which of them is shown first.
        recommended: Which of them the plan recommends, None where it is none of them.
    """

    family: Family
    places: IntArray
    start: int
    recommended: int | None


def content(plan: Plan, evidence: Evidence, calls_per_month: int | None) -> dict[str, Any]:
    """All that the page draws, as JSON-ready values.

    Args:
        plan: What is reported.
        evidence: What it rests on.
        calls_per_month: For sums a month.
    """
    problem = evidence.problem
    base = Measured.of(problem, problem.singles.only(problem.baseline), problem.calibration, 1.0)
    curve = _curve(plan, evidence)
    setting = plan.setting
    found: dict[str, Any] = {
        "models": problem.names,
        "baseline": problem.baseline,
        "calls": calls_per_month,
        "base": {"cost": base.base_cost.mean(), "quality": base.base_score.mean()},
        "singles": _singles(problem, evidence.data),
        "single": None if setting is None or setting.is_routed else setting.place,
        "curve": None,
    }
    if curve is not None:
        found |= {
            "curve": _settings(problem, curve),
            "topics": _topics(evidence, curve),
            "examples": _examples(evidence, curve),
            "reliability": _reliability(evidence, curve.family),
        }
    return {key: _plain(value) for key, value in found.items()}


def _curve(plan: Plan, evidence: Evidence) -> Curve | None:
    """The router that is recommended, else the one that was tested, else the first."""
    setting = plan.setting
    recommended = setting if setting is not None and setting.is_routed else None
    routed = (family for family in evidence.families if family.contender is not None)
    first = next((Setting(family, len(family.willingness) // 2) for family in routed), None)
    shown = recommended or evidence.choice.routing or first
    if shown is None:
        return None
    places = np.argsort(shown.family.willingness, kind="stable")
    if len(places) > MOST_SETTINGS:
        kept = np.linspace(0, len(places) - 1, MOST_SETTINGS - 1).round().astype(int)
        kept = np.union1d(kept, np.flatnonzero(places == shown.place))
        places = places[kept]
    start = int(np.flatnonzero(places == shown.place)[0])
    return Curve(shown.family, places, start, None if recommended is None else start)


def _settings(problem: Problem, curve: Curve) -> dict[str, Any]:
    """Figures of each setting, over all calibration rows."""
    family, rows = curve.family, problem.calibration
    measured = Measured.of(problem, family, rows, 1.0)
    chosen = family.chosen[curve.places][:, rows]
    kinds = np.stack([_kind(problem, asked, rows) for asked in chosen])
    return {
        "router": family.name,
        "reward": family.reward,
        "start": curve.start,
        "recommended": curve.recommended,
        # JSON knows no infinity.
        "willingness": [x if np.isfinite(x) else None for x in family.willingness[curve.places]],
        "cost": measured.mean_cost[curve.places],
        "quality": measured.mean_score[curve.places],
        "saving": measured.saving[curve.places],
        "loss": measured.mean_loss[curve.places],
        "shares": [_shares(asked) for asked in chosen],
        "kinds": {name: (kinds == place).mean(axis=1) for place, name in enumerate(KINDS)},
    }


def _shares(asked: IntArray) -> list[list[float]]:
    """Pairs of a model and its share, the largest first."""
    models, counts = np.unique(asked, return_counts=True)
    return [[models[i], counts[i] / len(asked)] for i in np.argsort(-counts, kind="stable")]


def _kind(problem: Problem, asked: IntArray, rows: IntArray) -> IntArray:
    """[k] place in `KINDS` of what models [k] are to rows [k] beside the baseline."""
    score, cost = problem.outcomes.of(asked, rows)
    base_score, base_cost = problem.outcomes.of(np.full(len(rows), problem.baseline), rows)
    conditions = [
        asked == problem.baseline,
        score < base_score - ALIKE,
        score > base_score + ALIKE,
        cost < base_cost,
    ]
    places = [KINDS.index(name) for name in ("same", "worse", "better", "cheaper")]
    return np.select(conditions, places, KINDS.index("dearer"))


def _singles(problem: Problem, data: RoutingData) -> list[dict[str, Any]]:
    """Single models beside the baseline, by the calibration rows that both answered."""
    rows, baseline = problem.calibration, problem.baseline
    score, cost = problem.outcomes.score[rows], problem.outcomes.cost_usd[rows]
    known = problem.outcomes.known[rows]
    found = []
    for j in range(len(problem.models)):
        both = known[:, j] & known[:, baseline]
        if both.sum() < min(FEWEST_ANSWERS, len(rows)):
            continue
        loss = (score[both, baseline] - score[both, j]).mean()
        paid = cost[both, baseline].mean()
        times = cost[both, j].mean() / paid if paid > 0 else np.nan
        base_cost = cost[:, baseline].mean()
        found.append(
            {
                "model": j,
                "answers": (~np.isnan(data.score[rows, j])).sum(),
                "quality": score[:, baseline].mean() - loss,
                "cost": times * base_cost if paid > 0 else cost[both, j].mean(),
                "loss": loss,
            }
        )
    found.sort(key=lambda one: (one["model"] != baseline, -one["quality"], one["cost"]))
    return sorted(found[:MOST_MODELS], key=lambda one: (-one["quality"], one["cost"]))


def _topics(evidence: Evidence, curve: Curve) -> list[dict[str, Any]]:
    """Who gets what, by kind of prompt; the largest kinds first, those that remain as one."""
    data, problem = evidence.data, evidence.problem
    rows = problem.calibration
    names = data.task if (data.task != "").any() else data.dataset
    topic = np.array([str(name) or NO_TOPIC for name in names[rows]], dtype=object)
    largest, counts = np.unique(topic, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    if len(order) > MOST_TOPICS:
        kept = set(largest[order[: MOST_TOPICS - 1]])
        topic = np.array([name if name in kept else OTHER_TOPICS for name in topic], dtype=object)
        shown = [*largest[order[: MOST_TOPICS - 1]], OTHER_TOPICS]
    else:
        shown = list(largest[order])
    found = []
    for name in shown:
        part = rows[topic == name]
        measured = Measured.of(problem, curve.family, part, 1.0)
        found.append(
            {
                "topic": name,
                "prompts": len(part),
                "saving": measured.saving[curve.places],
                "loss": measured.mean_loss[curve.places],
                "shares": [_shares(curve.family.chosen[i, part]) for i in curve.places],
            }
        )
    return found


def _examples(evidence: Evidence, curve: Curve) -> list[dict[str, Any]] | None:
    """Prompts to show, for each kind of change at each setting; None of a log.

    A log has one answer a prompt, so that no single prompt of it can be compared.
    """
    data, problem = evidence.data, evidence.problem
    if not ((~np.isnan(data.score)).sum(axis=1) > 1).any():
        return None
    # What was answered, not what was estimated; so only where each answer is there. Where there are
    # arms, all are.
    if not problem.arms:
        problem = replace(problem, outcomes=Outcomes(data.score, data.cost_usd))
    found, known = [], set[str]()
    for row in _rows_to_show(problem, curve):
        asked = curve.family.chosen[curve.places, row]
        starts = np.concatenate([[0], np.flatnonzero(asked[1:] != asked[:-1]) + 1])
        kinds = _kind(problem, asked[starts], np.full(len(starts), row))
        score, cost = problem.outcomes.score[row], problem.outcomes.cost_usd[row]
        found.append(
            {
                "text": _shown(data, row, known),
                # From which setting on which model answers, and what that is to the prompt.
                "asked": [
                    [place, asked[place], KINDS[kind]]
                    for place, kind in zip(starts, kinds, strict=True)
                ],
                "answers": {
                    str(j): [score[j], cost[j]] for j in {*map(int, asked), problem.baseline}
                },
            }
        )
    return found


def _rows_to_show(problem: Problem, curve: Curve) -> list[int]:
    """A few rows of each kind at each setting; those of settings near the first one come first."""
    asked = curve.family.chosen[curve.places][:, problem.calibration]
    rows = problem.calibration[problem.outcomes.known[problem.calibration, asked].all(axis=0)]
    shown: dict[int, None] = {}
    for place in sorted(range(len(curve.places)), key=lambda i: (abs(i - curve.start), i)):
        kinds = _kind(problem, curve.family.chosen[curve.places[place], rows], rows)
        for name in ("cheaper", "worse", "better"):
            of_kind = [int(row) for row in rows[kinds == KINDS.index(name)]]
            missing = EXAMPLES - sum(row in shown for row in of_kind)
            for row in [row for row in of_kind if row not in shown][: max(missing, 0)]:
                if len(shown) == MOST_ROWS:
                    return list(shown)
                shown[row] = None
    return list(shown)


def _shown(data: RoutingData, row: int, known: set[str]) -> str:
    """The beginning of the user's last turn, on one line; its end where others begin alike."""
    prompt = data.prompts[row]
    asked = data.questions[row] if isinstance(prompt, str) else prompt
    text = " ".join(Query.of(asked).text.split())
    if len(text) <= SHOWN_CHARACTERS:
        return text
    start = f"{text[:SHOWN_CHARACTERS].rstrip()} …"
    shown = start if start not in known else f"… {text[-SHOWN_CHARACTERS:].lstrip()}"
    known.add(start)
    return shown


def _reliability(evidence: Evidence, family: Family) -> dict[str, Any] | None:
    """Predicted against realised quality, of all answers to calibration prompts.

    As the router predicts before anything is held back out of caution.
    """
    if family.contender is None:
        return None
    same = (
        one.contender
        for one in evidence.families
        if one.contender is not None and one.name == family.name and not one.contender.caution
    )
    contender = next(same, family.contender)
    rows = evidence.problem.calibration
    quality, score = contender.quality[rows], evidence.data.score[rows]
    known = ~np.isnan(quality + score)
    if not known.any():
        return None
    share, predicted, observed = calibration(quality[known], score[known])
    return {
        "answers": known.sum(),
        "counts": np.round(share * known.sum()).astype(int),
        "predicted": predicted,
        "realised": observed,
        "error": (share * abs(predicted - observed)).sum(),
        "caution": family.contender.caution,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    """With numbers of Python, cut to what a page shows, in place of arrays; None for no number."""
    match value:
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple() | np.ndarray():
            return [_plain(one) for one in value]
        case np.integer():
            return int(value)
        case float() | np.floating():
            return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
