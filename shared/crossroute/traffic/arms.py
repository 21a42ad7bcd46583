"""The strategies of a plan: panels chosen on the learning rows, as further ways to answer a prompt.

Each stop of a panel is an arm, a column beside those of the single models. What it brings is known
of a row whose answers are known; of another row it is no worse than its worst answer, at the cost
of all its models, and is counted as that: so no row has to be left out, and the guarantee holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import MissingExtraError
from crossroute.strategies.panel import Panel, Panels
from crossroute.traffic.contenders import Contender, Parts
from crossroute.training.answers import Answers
from crossroute.training.data import RoutingData
from crossroute.training.panels import AnsweredRows, Chosen, Outcome, choose_panels, outcome
from crossroute.training.strategies import MOST_ROWS

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

WITH_STRATEGIES = "{}, with strategies"
"""Name of a router that chooses among single models and arms."""


class PlannedArm(NamedTuple):
    """A panel with a stop.

    Attributes:
        models: Ids of its models, in the order in which they are asked.
        until: The next one is asked as long as no answer is right with this probability.
    """

    models: tuple[str, ...]
    until: float

    @property
    def name(self) -> str:
        """For people to read, such as `a, then b (until 0.87)`."""
        return f"{', then '.join(self.models)} (until {self.until:g})"


class Beside(NamedTuple):
    """The strategies that were found for a router, with a arms.

    Attributes:
        contender: The router, without caution.
        panels: Chosen on the learning rows.
        arms: Each stop of each panel.
        columns: [a] places of the arms behind the single models and the arms of other routers.
        outcome: What the arms are expected to bring for all rows, and what they bring.
    """

    contender: Contender
    panels: Panels
    arms: tuple[PlannedArm, ...]
    columns: IntArray
    outcome: Outcome


def strategies_beside(
    data: RoutingData,
    parts: Parts,
    made: Sequence[Contender],
    answers: Answers,
    *,
    seed: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[list[Beside], list[str]]:
    """Choose strategies for every router, on the learning rows alone.

    Args:
        data: The rows.
        parts: Which of them are learned from.
        made: The routers; those with caution choose among single models only.
        answers: What the models answered, from `load_answers`.
        seed: Of everything random.
        on_step: Called with what is being done.

    Returns:
        What was found, and why nothing was found for other routers.

    Raises:
        MissingExtraError: If what chooses them is not installed.
    """
    missing = int(np.isnan(data.score + data.cost_usd).any(axis=1).sum())
    if missing:
        return [], [
            f"Strategies were not looked for: {missing:,} of the {len(data):,} prompts lack a "
            "scored answer of some model, and they take all. Collect the missing ones, or leave "
            "the models that lack many out."
        ]
    found: list[Beside] = []
    notes = []
    column, least_known = len(data.models), len(data)
    for contender in (one for one in made if not one.caution):
        on_step(f"{contender.name}: choosing strategies")
        rows = _rows(data, contender, answers)
        chosen = _chosen(rows, parts, seed)
        panels = chosen.panels.panels
        if not panels:
            notes.append(f"No strategies beside the router {contender.name}: {chosen.why}")
            continue
        arms = [PlannedArm(one.models, stop.at) for one in panels for stop in one.stops]
        brought, known = zip(*(_outcome(rows, panel) for panel in panels), strict=True)
        least_known = min(least_known, *(int(one.sum()) for one in known))
        found.append(
            Beside(
                contender,
                Panels(checkpoint=contender.router.checkpoint.id, panels=panels),
                tuple(arms),
                np.arange(column, column + len(arms)),
                Outcome(
                    *(
                        np.concatenate([getattr(one, name) for one in brought], axis=1)
                        for name in ("quality", "cost_usd", "score", "paid_usd")
                    )
                ),
            )
        )
        column += len(arms)
    if least_known < len(data):
        notes.append(
            f"To {len(data) - least_known:,} of the {len(data):,} prompts it is not known what all "
            "models of a strategy answered: there it counts as its worst answer, at the cost of "
            "all its models."
        )
    return found, notes


def _rows(data: RoutingData, contender: Contender, answers: Answers) -> AnsweredRows:
    """All rows, with the models of which everything is predicted."""
    known = np.flatnonzero(~np.isnan(contender.quality + contender.cost_usd).any(axis=0))
    models = [data.models[j] for j in known]
    return AnsweredRows.of(
        data.of_models(models), contender.quality[:, known], contender.cost_usd[:, known], answers
    )


def _chosen(rows: AnsweredRows, parts: Parts, seed: int) -> Chosen:
    """The panels that are worth having, by learning rows."""
    drawn = np.random.default_rng(seed).permutation(parts.learning)[:MOST_ROWS]
    try:
        return choose_panels(rows.take(np.isin(np.arange(len(rows)), drawn)), seed=seed)
    except ImportError as error:
        raise MissingExtraError(error.name or "scipy", "train") from error


def _outcome(rows: AnsweredRows, panel: Panel) -> tuple[Outcome, BoolArray]:
    """What the stops of a panel bring, and [n] where that is known and not the worst it can be."""
    found = outcome(rows, panel)
    columns = [rows.models.index(model) for model in panel.models]
    worst = rows.score[:, columns].min(axis=1, keepdims=True)
    most_usd = rows.paid_usd[:, columns].sum(axis=1, keepdims=True)
    known = ~np.isnan(found.score)
    return (
        Outcome(
            found.quality,
            found.cost_usd,
            np.where(known, found.score, worst),
            np.where(known, found.paid_usd, most_usd),
        ),
        np.asarray(known.all(axis=1)),
    )
