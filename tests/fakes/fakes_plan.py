"""A plan made by hand: no router learns anything for it, so that it is there at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fakes_core import make_rows

from crossroute import CrossRouter
from crossroute.traffic.choice import Choice, Setting
from crossroute.traffic.contenders import ONBOARDED, Contender, Parts
from crossroute.traffic.figures import NOTHING, figures_of
from crossroute.traffic.goal import Goal
from crossroute.traffic.outcomes import Outcomes
from crossroute.traffic.planning import Evidence, Plan, Verdict
from crossroute.traffic.settings import Measured, Problem
from crossroute.training.data import RoutingData, Row

GOAL = Goal(max_loss=0.1, confidence=0.8)


def made_plan(
    verdict: Verdict = "route",
    rows: Sequence[dict[str, Any]] | None = None,
    baseline: str = "sage",
    goal: Goal = GOAL,
) -> Plan:
    """A plan over made-up rows, by predictions that are the scores and some noise.

    `route` is at the setting that saves most of those that lose less than `max_loss`; `fixed` takes
    the first model that is not the baseline.
    """
    data = RoutingData.from_rows(map(Row.model_validate, rows or make_rows(200)))
    noise = np.random.default_rng(0).normal(0, 0.1, data.score.shape)
    quality = np.clip(0.15 + 0.7 * data.score + noise, 0, 1)
    contender = Contender(ONBOARDED, 0.0, CrossRouter.shipped(), quality, 1.1 * data.cost_usd)
    parts = Parts.of(data, 0)
    problem = Problem(
        data.models,
        Outcomes(data.score, data.cost_usd),
        data.models.index(baseline),
        parts.learning,
        parts.calibration,
    )
    family = problem.routed(contender, "linear")
    measured = Measured.of(problem, family, problem.calibration, goal.kept)
    passing = np.where(measured.mean_loss < goal.max_loss, measured.saving, -np.inf)
    routed = Setting(family, int(passing.argmax()))
    single = Setting(problem.singles, int(problem.baseline == 0))
    setting = {"route": routed, "fixed": single, "more data": None}[verdict]
    choice = Choice(setting, goal.error, routed, 1_000.0)
    found = Plan(
        verdict=verdict,
        model=None if verdict == "route" else baseline,
        willingness_to_pay=None,
        router=routed.family.router,
        figures=NOTHING,
        baseline=baseline,
        goal=goal,
        prompts=len(data),
        rows_needed=1_000 if verdict == "more data" else None,
        evidence=Evidence(data, problem, (problem.singles, family), choice),
    )
    if setting is None:
        return found
    return replace(
        found,
        model=None if setting.is_routed else data.models[setting.place],
        willingness_to_pay=float(family.willingness[setting.place]) if setting.is_routed else None,
        figures=figures_of(problem, setting, goal, goal.error, 0),
    )


def as_log(plan: Plan) -> Plan:
    """The same plan, had it been made of a log with one answer a prompt."""
    assert plan.evidence is not None
    data = plan.evidence.data
    asked = np.arange(len(data)) % len(data.models)
    seen = np.arange(len(data.models)) == asked[:, None]
    log = replace(data, score=np.where(seen, data.score, np.nan))
    return replace(plan, evidence=plan.evidence._replace(data=log))


OPTIONS = "ABCDEF"
RIGHT = {"clerk": 0.8, "poet": 0.8, "sage": 0.93}
USD = {"clerk": 0.001, "poet": 0.0012, "sage": 0.03}


def answered_rows(
    count: int, seed: int, *, independent: bool = True
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """Questions that are all alike, and what three models answer, by the id of the row.

    `clerk` and `poet` are cheap, and `sage` is dear and better. Where the cheap ones err
    independently, what both say is nearly always right; else both always say the same.
    """
    rng = np.random.default_rng(seed)
    rows, answers = [], {}
    for number in range(count):
        right = OPTIONS[rng.integers(len(OPTIONS))]
        said = {
            model: right
            if rng.random() < share
            else str(rng.choice([one for one in OPTIONS if one != right]))
            for model, share in RIGHT.items()
        }
        if not independent:
            said["poet"] = said["clerk"]
        spread = rng.uniform(0.9, 1.1)
        rows.append(
            {
                "id": f"{seed}-{number}",
                "prompt": f"Which of the options {OPTIONS} is right for case {seed}-{number}?",
                "outputs": {
                    model: {
                        "score": float(answer == right),
                        "cost_usd": USD[model] * spread,
                        "output_tokens": 20,
                    }
                    for model, answer in said.items()
                },
            }
        )
        answers[f"{seed}-{number}"] = said
    return rows, answers
