"""Arms: strategies that were chosen by data, beside single models, for each query by itself.

Each arm is a panel with a stop, for which quality and cost are predicted as they are for a single
model; the reward chooses among all of them, as in cascade routing (arXiv 2410.10347), with arms
that are learned from scored answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossroute.decision import Decision, usd
from crossroute.errors import ConstraintError, shortened
from crossroute.ranking import first, preference
from crossroute.strategies.answers import Extractor, final_answer
from crossroute.strategies.base import Ask, Flow, Reply, Task
from crossroute.strategies.checks import check_count, check_extractor, check_flag, check_positive
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.panel import Panel, Panels, Stop


class Arm(NamedTuple):
    """A panel with a stop, for one query.

    Attributes:
        panel: Whom to ask.
        stop: How sure to be.
        quality: Expected quality of the answer, 0..1.
        cost_usd: Expected cost in USD.
        counted_usd: The same with the surcharges of the decision, by which it is compared.
    """

    panel: Panel
    stop: Stop
    quality: float
    cost_usd: float
    counted_usd: float


@dataclass(frozen=True, slots=True)
class Arms:
    """Ask one model, or a panel in turn, whichever the reward prefers for the query.

    Attributes:
        panels: Those that are worth having; panels of which a model is no candidate of the call are
            left out.
        extract: What of a text is compared.
        seconds: Time limit of a draft.
        attempts: How many candidates are asked at most where no panel is, or all of it fails.
        pass_refusals: Whether a refusal of these passes to the next one.

    Raises:
        ConstraintError: If an argument makes no sense.
    """

    panels: Panels
    extract: Extractor = final_answer
    seconds: float | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.panels, Panels):
            raise ConstraintError(
                f"panels is {shortened(self.panels)}; give Panels, or call Arms.load(path)."
            )
        check_extractor(self.extract)
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)

    @classmethod
    def load(cls, path: str | Path, *, extract: Extractor = final_answer) -> Arms:
        """Arms of the panels in a file.

        Args:
            path: Of the file, such as `strategies.json` in the folder of a checkpoint.
            extract: What of a text is compared.

        Raises:
            DataError: If the file cannot be read, or is none of panels.
        """
        return cls(Panels.load(path), extract)

    def best(self, task: Task) -> Arm | None:
        """The arm that the reward prefers to every single candidate; None if there is none.

        Args:
            task: If its decision keeps a model, is for an agent, was made by TOPSIS, or asks
                another than the router's choice, there is none. An arm that is expected to cost or
                to take more than the call's limits is left out.
        """
        decision, limits = task.decision, task.limits
        if decision.kept or decision.shadow is not None or decision.probability is not None:
            return None
        # No panel is preferred to an agent that serves, or by what is no reward.
        if decision.model in decision.fit or decision.topsis is not None:
            return None
        most_usd = math.inf if limits.max_cost_usd is None else limits.max_cost_usd
        arms = [
            arm
            for panel in self.panels.panels
            if _is_possible(panel, task)
            for arm in _arms(panel, decision)
            if arm.cost_usd <= most_usd
        ]
        if not arms:
            return None
        # Of equals a single candidate is taken, so it comes first.
        single = decision.candidates[0]
        quality = np.array([[single.quality, *(arm.quality for arm in arms)]])
        cost = np.array([[decision.counted_usd(single), *(arm.counted_usd for arm in arms)]])
        liked = preference(decision.reward, quality, cost, decision.willingness_to_pay)
        place = int(first(liked, quality, cost)[0])
        return arms[place - 1] if place else None

    def answer(self, task: Task) -> Flow:
        """One candidate after the other, or a panel."""
        arm = self.best(task)
        if arm is None:
            return (yield from self._in_turn(task, task.decision, "no panel is preferred"))
        return (yield from self._ask(task, arm))

    def _ask(self, task: Task, arm: Arm) -> Flow:
        models, at = arm.panel.models, arm.stop.at
        of = {one.model: one.quality for one in task.decision.candidates}
        reason = (
            f"asked in turn: {', '.join(models)}, until an answer is right with {at:g}; "
            f"quality {arm.quality:.2f} for {usd(arm.cost_usd)} is expected"
        )
        replies: list[Reply] = []
        failed: dict[str, str] = {}
        refusal: Reply | None = None
        numbers: dict[str, int] = {}
        codes: list[int] = []
        leading: Reply | None = None
        for model in models:
            reply: Reply = yield Ask(model, role="draft", seconds=self.seconds, reason=reason)
            if reply.failed or reply.refused or not reply.has_words:
                # It has no vote, and nothing speaks against the others.
                failed[model] = "it gave no draft"
                refusal = refusal or (reply if reply.refused else None)
                continue
            replies.append(reply)
            said = self.extract(reply.text)
            codes.append(-1 if said is None else numbers.setdefault(said, len(numbers)))
            asked = [one.model for one in replies]
            quality = np.array([[of[one] for one in asked]])
            p, leader = arm.panel.jury.probabilities(asked, np.array([codes]), quality)
            leading = replies[leader[0, -1]] if leader[0, -1] >= 0 else None
            if leading is not None and p[0, -1] >= at:
                break
            reason = f"p(right) of the leading answer is {p[0, -1]:.2f}, below {at:g}"
        if leading is not None:
            return leading
        if replies:
            # Words that cannot be compared are an answer yet, of the likeliest to be right.
            return max(replies, key=lambda one: of[one.model])
        if len(failed) == len(task.decision.candidates):
            return refusal or reply
        rest = task.decision.without(failed)
        answer: Reply = yield from self._in_turn(task, rest, "escalated: no draft is an answer")
        return refusal if refusal is not None and answer.failed else answer

    def _in_turn(self, task: Task, decision: Decision, reason: str) -> Flow:
        return in_turn(
            task, decision, reason, attempts=self.attempts, pass_refusals=self.pass_refusals
        )


def _is_possible(panel: Panel, task: Task) -> bool:
    """Whether the models of a panel are candidates, and may take the time that they take."""
    candidates = {one.model for one in task.decision.candidates}
    if not candidates.issuperset(panel.models):
        return False
    most = task.limits.max_latency_seconds
    if most is None:
        return True
    known = [
        task.pool[model].expected_latency_seconds for model in panel.models if model in task.pool
    ]
    seconds = [one for one in known if one is not None]
    return len(seconds) == len(panel.models) and sum(seconds) <= most


def _arms(panel: Panel, decision: Decision) -> Iterator[Arm]:
    """The panel with each of its stops."""
    of = {one.model: one for one in decision.candidates}
    members = [of[model] for model in panel.models]
    predicted = np.array([[one.quality for one in members]])
    quality, cost = panel.expected(predicted, np.array([[one.cost_usd for one in members]]))
    _, counted = panel.expected(
        predicted, np.array([[decision.counted_usd(one) for one in members]])
    )
    figures = zip(quality[0].tolist(), cost[0].tolist(), counted[0].tolist(), strict=True)
    for stop, expected in zip(panel.stops, figures, strict=True):
        yield Arm(panel, stop, *expected)
