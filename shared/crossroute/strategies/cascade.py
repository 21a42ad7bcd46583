"""Cascade: a cheap model drafts, and what is likely wrong goes to a dearer one.

After "Confident or Seek Stronger" (arXiv 2502.04428) and cascade routing (arXiv 2410.10347): a
signal says how likely the draft is right, and one willingness to pay decides who drafts and what is
worth an escalation. Reconstructed from the papers over an API; nothing of a model is trained.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from crossroute.decision import CandidateScore, Decision, usd
from crossroute.errors import ConstraintError, shortened
from crossroute.strategies.base import Ask, Flow, Reply, Task
from crossroute.strategies.calibration import (
    Calibration,
    Calibrations,
    Threshold,
    check_calibrations,
)
from crossroute.strategies.checks import (
    check_count,
    check_flag,
    check_positive,
    check_share,
    check_text,
)
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.signals import MeanLogprob, Signal, check_signals
from crossroute.strategies.word import Word
from crossroute.strategies.worth import beside, worth, worth_more, worth_of_draft


@dataclass(frozen=True, slots=True)
class Cascade:
    """Let a cheap candidate draft; escalate what fails, and what another is worth asking for.

    Attributes:
        calibrations: What the signals say of the candidates' drafts.
        signals: In the order in which they are taken: of each draft the first counts that its model
            gives, that is calibrated for it, and that can say something.
        cheap: Id of the model that drafts; None is the calibrated one for which drafting has the
            highest expected reward, and no draft where that is lower than asking one model at once.
        escalate_at_most: Escalate so large a share of the drafts at most, instead of what is worth
            it.
        accuracy: Escalate so that as large a share of the drafts that are kept is right, instead.
        seconds: Time limit of a draft.
        word: A word by which the drafting model says that it is not sure, such as `UNSURE`.
        attempts: How many candidates are asked at most, beside the draft.
        pass_refusals: Whether a refusal of these passes to the next one; that of a draft always
            does.

    Raises:
        ConstraintError: If an argument makes no sense, or nothing could judge a draft.
    """

    calibrations: Calibrations | None = None
    signals: Sequence[Signal] = (MeanLogprob(),)
    cheap: str | None = None
    escalate_at_most: float | None = None
    accuracy: float | None = None
    seconds: float | None = None
    word: str | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        calibrations = check_calibrations(self.calibrations).calibrations
        names = [signal.name for signal in check_signals(self.signals)]
        check_text("cheap", self.cheap)
        check_share("escalate_at_most", self.escalate_at_most)
        check_share("accuracy", self.accuracy)
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)
        Word.of(self.word)
        judging = [one for one in calibrations if one.signal in names]
        if self.cheap is not None:
            judging = [one for one in judging if one.model == self.cheap]
        if not judging and (self.word is None or self.cheap is None):
            whose = "any model" if self.cheap is None else shortened(self.cheap)
            raise ConstraintError(
                f"Nothing judges a draft: calibrations has none of signals ({', '.join(names)}) "
                f"for {whose}. Give calibrations of one of them, or cheap and word."
            )
        targets = [self.escalate_at_most, self.accuracy]
        if None not in targets:
            raise ConstraintError("Give either escalate_at_most or accuracy, one of them.")
        if not judging and targets != [None, None]:
            raise ConstraintError(
                "escalate_at_most and accuracy need calibrations of the drafting model; give these."
            )

    def answer(self, task: Task) -> Flow:
        """A draft, what a signal asks of it, and where it is not enough the other candidates."""
        plan = self._plan(task)
        if plan is None:
            reason = "asked at once: no candidate's draft is worth it"
            return (yield from self._in_turn(task, task.decision, reason))
        draft: Reply = yield plan.ask
        others = task.decision.without({draft.model: "it has drafted"})
        why = self._fault(draft)
        if why is None:
            judged = yield from _judged(task, draft, plan)
            escalation = self._escalation(task, plan, judged)
            if escalation is None:
                return draft
            others, why = others.preferring(escalation.model), escalation.why
        may_stand = not draft.failed and draft.has_words and not self._says_word(draft)
        why += "; the draft stands if all fail" if may_stand else ""
        reply: Reply = yield from self._in_turn(task, others, f"escalated: {why}")
        if may_stand and (reply.failed or (reply.refused and self.pass_refusals)):
            # A second best that was already paid for is better than none.
            return draft
        return reply

    def _in_turn(self, task: Task, decision: Decision, reason: str) -> Flow:
        return in_turn(
            task, decision, reason, attempts=self.attempts, pass_refusals=self.pass_refusals
        )

    def _plan(self, task: Task) -> _Plan | None:
        """Who drafts, and by what the draft is judged; None if nobody does."""
        candidates = task.decision.candidates
        if len(candidates) < 2:
            return None
        if self.cheap is not None:
            found = [self._planned(task, one) for one in candidates if one.model == self.cheap]
            judges = [plan for plan in found if plan.signals or self.word is not None]
            return judges[0] if judges else None
        # The dearest has nobody to escalate to.
        dearest = max(one.cost_usd for one in candidates)
        plans = [self._planned(task, one) for one in candidates if one.cost_usd < dearest]
        plans = [plan for plan in plans if plan.signals]
        if not plans:
            return None
        worths = [self._expected(task, plan) for plan in plans]
        best = int(np.argmax(worths))
        at_once = float(worth(task.decision, candidates).max())
        return plans[best] if self._has_target or worths[best] >= at_once else None

    @property
    def _has_target(self) -> bool:
        return self.escalate_at_most is not None or self.accuracy is not None

    def _planned(self, task: Task, drafting: CandidateScore) -> _Plan:
        """A draft as the signals need it, and those of them that there are."""
        word = Word.of(self.word)
        ask = Ask(
            drafting.model,
            then=() if word is None else ({"role": "user", "content": word.instruction},),
            until=None if word is None else word.said,
            role="draft",
            seconds=self.seconds,
        )
        signals = []
        for signal in self.signals:
            calibration = check_calibrations(self.calibrations).get(drafting.model, signal.name)
            prepared = None if calibration is None else signal.prepared(task, ask)
            if calibration is not None and prepared is not None:
                ask = prepared
                signals.append((signal, calibration))
        judges = ", ".join(signal.name for signal, _ in signals) or "its own word"
        return _Plan(replace(ask, reason=f"draft, judged by {judges}"), drafting, signals)

    def _expected(self, task: Task, plan: _Plan) -> float:
        """What drafting by a candidate is worth, in USD; minus infinity if it changes nothing."""
        signal, calibration = plan.signals[0]
        return worth_of_draft(
            task.decision,
            plan.drafting,
            calibration.spread(plan.drafting.quality),
            reading_usd=signal.cost_usd(task, plan.drafting.model),
            targeted=self._has_target,
        )

    def _says_word(self, draft: Reply) -> bool:
        word = Word.of(self.word)
        return word is not None and word.said(draft)

    def _fault(self, draft: Reply) -> str | None:
        """What makes a draft no answer at all."""
        if draft.error is not None:
            return f"the draft failed ({type(draft.error).__name__})"
        if draft.refused:
            return "the draft is a refusal"
        if self._says_word(draft):
            return f"the draft says {self.word}"
        return None if draft.text.strip() else "the draft is empty"

    def _escalation(self, task: Task, plan: _Plan, judged: _Judged | None) -> _Escalation | None:
        """Who is asked after a draft, and why; None if the draft is the answer."""
        if not plan.signals:
            # The model's own word is all there is.
            return None
        drafting = plan.drafting
        others = beside(task.decision, drafting.model)
        p = drafting.quality if judged is None else judged.p
        said = (
            f"predicted quality {p:.2f}, as no signal could say"
            if judged is None
            else f"p(right) {p:.2f} by {judged.signal}"
        )
        if not self._has_target:
            best = worth_more(task.decision, others, p)
            if best is None:
                return None
            what = f"{best.model} is worth more, at {best.quality:.2f} for {usd(best.cost_usd)}"
            return _Escalation(best.model, f"{said}; {what}")
        if judged is None:
            if self.accuracy is None:
                return None
            # That it reaches an accuracy nobody knows.
            best = worth_more(task.decision, others, p, math.inf)
        else:
            threshold = self._threshold(judged.calibration)
            best = worth_more(task.decision, others, p, threshold.p)
            said += (
                f" is below {threshold.p:.2f}"
                if threshold.holds
                else f"; no threshold keeps an accuracy of {self.accuracy:g}, "
                f"{threshold.reached:.2f} at best"
            )
        return None if best is None else _Escalation(best.model, said)

    def _threshold(self, calibration: Calibration) -> Threshold:
        if self.escalate_at_most is not None:
            return calibration.threshold_at_most(self.escalate_at_most)
        return calibration.threshold_of(self.accuracy or 0.0)


class _Plan(NamedTuple):
    """A draft, whose it is, and what may judge it."""

    ask: Ask
    drafting: CandidateScore
    signals: Sequence[tuple[Signal, Calibration]]


class _Judged(NamedTuple):
    """How likely a draft is right, and what says so."""

    p: float
    signal: str
    calibration: Calibration


class _Escalation(NamedTuple):
    model: str
    why: str


def _judged(task: Task, draft: Reply, plan: _Plan) -> Generator[Any, Any, _Judged | None]:
    """By the first signal that can say something; None if none can."""
    for signal, calibration in plan.signals:
        value = yield from signal.read(task, draft)
        if value is not None and math.isfinite(value):
            p = calibration.probability(value, plan.drafting.quality)
            return _Judged(p, signal.name, calibration)
    return None
