"""Handoff: a cheap model writes, and where it becomes unsure a dearer one goes on from there.

After CITER (arXiv 2502.01976), which decides token by token by a small network on the cheap model's
hidden state. Over an API: by the log-probabilities of the tokens in a row, at boundaries of the
text, and for good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crossroute.decision import CandidateScore, Decision
from crossroute.errors import ConstraintError, CostLimitError, shortened
from crossroute.strategies.base import Ask, Flow, GoOn, Reply, Show, Task
from crossroute.strategies.calibration import (
    Calibration,
    Calibrations,
    check_calibrations,
)
from crossroute.strategies.checks import (
    check_count,
    check_flag,
    check_logprob,
    check_positive,
    check_share,
    check_text,
)
from crossroute.strategies.going_on import going_on
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.limit import reserve_usd
from crossroute.strategies.lookout import Lookout
from crossroute.strategies.signals import WindowLogprob
from crossroute.strategies.worth import beside, most_worth, worth, worth_more, worth_of_draft

RESERVED_TOKENS = 500
"""Of what is handed over, and of what follows it: the cheap model leaves money for so many."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """Let a cheap candidate write, and a dearer one go on from where it becomes unsure.

    The reader sees one stream. It is handed over at a boundary of the text, before the first token
    that is too unlikely of `window` in a row whose mean log-probability is too low. What is before
    it is shown as soon as no later token can move it.

    Attributes:
        calibrations: What `WindowLogprob(window)` says of the candidates' drafts. The mean is too
            low where the draft is so likely wrong that another one is worth asking for.
        tau: The mean below which it is too low, instead.
        window: How many tokens count; a shorter answer counts as a whole.
        cheap: Id of the model that writes first, which has to give log-probabilities. None is, of
            those that are cheaper than another candidate, the cheapest one, or with calibrations
            the one for which a draft has the highest expected reward.
        strong: Id of the one that goes on; None is the candidate that it is worth most to ask.
        escalate_at_most: Hand over so large a share of the answers at most, instead of where it is
            worth it.
        accuracy: Hand over so that as large a share of the other answers is right, instead.
        seconds: How long the cheap model may take until there is something to show or to decide.
        attempts: How many candidates are asked at most to go on, or to answer in its place.
        pass_refusals: Whether a refusal of these passes to the next one; one of the cheap model
            always does.

    Raises:
        ConstraintError: If an argument makes no sense, or nothing says when to hand over.
    """

    calibrations: Calibrations | None = None
    tau: float | None = None
    window: int = 20
    cheap: str | None = None
    strong: str | None = None
    escalate_at_most: float | None = None
    accuracy: float | None = None
    seconds: float | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        name = WindowLogprob(self.window).name
        judging = [
            one for one in check_calibrations(self.calibrations).calibrations if one.signal == name
        ]
        check_logprob("tau", self.tau)
        check_text("cheap", self.cheap)
        check_text("strong", self.strong)
        check_share("escalate_at_most", self.escalate_at_most)
        check_share("accuracy", self.accuracy)
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)
        if self.cheap is not None:
            judging = [one for one in judging if one.model == self.cheap]
            if self.cheap == self.strong:
                raise ConstraintError(
                    f"cheap and strong are both {shortened(self.cheap)}; give two models."
                )
        if self.tau is None and not judging:
            whose = "any model" if self.cheap is None else shortened(self.cheap)
            raise ConstraintError(
                f"Nothing says when to hand over: calibrations has none of {name} for {whose}. "
                f"Give calibrations of WindowLogprob({self.window}), or tau."
            )
        if self.tau is not None and self.calibrations is not None:
            raise ConstraintError("Give either tau or calibrations, one of them.")
        if self.escalate_at_most is not None and self.accuracy is not None:
            raise ConstraintError("Give either escalate_at_most or accuracy, one of them.")
        if self.tau is not None and self._has_target:
            raise ConstraintError(
                "escalate_at_most and accuracy need calibrations in place of tau."
            )

    def answer(self, task: Task) -> Flow:
        """The cheap model's text, and from where it is unsure that of another one."""
        plan = self._plan(task)
        if plan is None:
            why = "no candidate's text is worth looking at"
            if self.cheap is not None:
                why = f"{self.cheap} cannot write first"
            return (yield from self._in_turn(task, task.decision, f"asked at once: {why}"))
        if math.isinf(plan.tau):
            heir = plan.heir(task.decision, math.inf)
            alone = task.decision.preferring((heir or plan.cheap).model)
            reason = (
                f"asked at once: {plan.cheap.model} would {'always' if heir else 'never'} hand over"
            )
            return (yield from self._in_turn(task, alone, reason))
        lookout = Lookout(self.window, plan.tau, shows=not task.is_whole)
        reply: Reply = yield self._first_ask(task, plan, lookout)
        while (handing := self._handing(task, plan, lookout, reply)) is None:
            is_mute = not reply.logprobs
            if reply.done or (is_mute and not task.is_whole):
                return reply
            if lookout.shows:
                lookout.shown = lookout.sure
                yield Show(reply, end=lookout.shown, close=False)
            (reply,) = yield GoOn((reply,), None if is_mute else lookout.until)
        return (yield from self._handed_over(task, reply, lookout, handing))

    def _first_ask(self, task: Task, plan: _Plan, lookout: Lookout) -> Ask:
        then = ({"role": "user", "content": "word " * RESERVED_TOKENS},)
        return Ask(
            plan.cheap.model,
            settings={"logprobs": True},
            until=lookout.until,
            role="draft",
            seconds=self.seconds,
            reason=f"writes as long as {self.window} tokens have a mean log-probability of "
            f"{plan.tau:.2f} or more",
            reserve_usd=reserve_usd(task, Ask(plan.heirs[0].model, then=then), RESERVED_TOKENS),
        )

    def _handing(self, task: Task, plan: _Plan, lookout: Lookout, reply: Reply) -> _Handing | None:
        """Who is to go on, and why; None if the cheap model is."""
        first = plan.heirs[0]
        if reply.error is not None:
            return _Handing(first, f"the cheap model failed ({type(reply.error).__name__})")
        if reply.refused:
            return _Handing(first, "the cheap model refuses")
        if reply.done:
            lookout.end()
            if not reply.text.strip():
                return _Handing(first, "the cheap model says nothing")
        if (fall := lookout.fall) is not None:
            said = (
                f"the mean log-probability of {fall.tokens} tokens is {fall.mean:.2f}, "
                f"below {plan.tau:.2f}"
            )
            return _Handing(plan.heir(task.decision, fall.mean) or first, said)
        # Of a share of the answers, the signal alone says which.
        is_judged = plan.calibration is not None and self.escalate_at_most is None
        if not reply.logprobs and is_judged:
            heir = plan.heir(task.decision, None)
            return None if heir is None else _Handing(heir, "no log-probabilities came")
        return None

    def _handed_over(self, task: Task, reply: Reply, lookout: Lookout, handing: _Handing) -> Flow:
        """What another one says after the cheap model's text, up to where it is cut.

        The cheap model's stream waits meanwhile, as it goes on itself if nobody else does; the
        driver closes it as soon as somebody has begun.
        """
        if task.is_whole and lookout.parts == 1 and not (reply.done or reply.refused):
            # One that came in one part has ended with it, and is counted.
            (reply,) = yield GoOn((reply,), until=lambda _: True)
        cut = lookout.cut
        kept = _with_space(reply.text, cut)
        if kept:
            yield Show(reply, end=len(kept), close=False)
        goes_on = not (reply.failed or reply.refused) and bool(reply.text.strip())
        # One that was too dear with what it had to leave may be asked alone.
        is_dear = isinstance(reply.error, CostLimitError)
        out = {} if is_dear else {reply.model: "it has begun"}
        if goes_on:
            # It goes on itself rather than a worse one.
            out |= {one.model: "it is no better" for one in self._worse(task, reply.model, handing)}
        others = task.decision.without(out).preferring(handing.to.model)
        reason = f"handed over after {cut} characters: {handing.why}"
        reason += f"; {reply.model} goes on if all fail" if goes_on else ""
        found: Reply = yield from self._gone_on(task, others, kept, reason)
        fails = found.failed or (found.refused and self.pass_refusals)
        return reply if fails and goes_on else found

    def _worse(self, task: Task, cheap: str, handing: _Handing) -> list[CandidateScore]:
        """Candidates that are predicted to be no better than the cheap one."""
        quality = {one.model: one.quality for one in task.decision.candidates}
        return [
            one
            for one in task.decision.candidates
            if one.model not in (cheap, handing.to.model) and one.quality <= quality[cheap]
        ]

    def _gone_on(self, task: Task, decision: Decision, kept: str, reason: str) -> Flow:
        """What the first candidate says that goes on; where nothing is kept, that answers."""
        if not kept:
            return self._in_turn(task, decision, reason)
        return going_on(
            task,
            decision,
            kept,
            reason,
            attempts=self.attempts,
            pass_refusals=self.pass_refusals,
        )

    def _in_turn(self, task: Task, decision: Decision, reason: str) -> Flow:
        return in_turn(
            task, decision, reason, attempts=self.attempts, pass_refusals=self.pass_refusals
        )

    def _plan(self, task: Task) -> _Plan | None:
        """Who writes first, and how sure it has to be; None if nobody does."""
        candidates = task.decision.candidates
        if len(candidates) < 2:
            return None
        # The dearest has nobody to hand over to.
        dearest = max(one.cost_usd for one in candidates)
        writing = [
            one
            for one in candidates
            if task.can(one.model, "logprobs")
            and one.model != self.strong
            and (one.cost_usd < dearest if self.cheap is None else one.model == self.cheap)
        ]
        if self.tau is not None:
            cheapest = min(writing, key=lambda one: one.cost_usd, default=None)
            return None if cheapest is None else self._planned(task, cheapest)
        known = [(one, found) for one in writing if (found := self._known(one)) is not None]
        if not known:
            return None
        worths = [self._expected(task, *one) for one in known]
        first = int(np.argmax(worths))
        at_once = float(worth(task.decision, candidates).max())
        if self.cheap is None and not self._has_target and worths[first] < at_once:
            return None
        return self._planned(task, *known[first])

    @property
    def _has_target(self) -> bool:
        return self.escalate_at_most is not None or self.accuracy is not None

    def _known(self, writing: CandidateScore) -> Calibration | None:
        name = WindowLogprob(self.window).name
        return check_calibrations(self.calibrations).get(writing.model, name)

    def _planned(
        self, task: Task, writing: CandidateScore, calibration: Calibration | None = None
    ) -> _Plan:
        others = beside(task.decision, writing.model)
        heirs = [one for one in others if one.model == self.strong] or others
        if calibration is None:
            return _Plan(writing, heirs, self.tau or 0.0)
        plan = _Plan(writing, heirs, math.inf, calibration, self._threshold(calibration))

        def keeps(p: float) -> bool:
            return plan.worth_more(task.decision, p) is None

        return plan._replace(tau=calibration.lowest(keeps, writing.quality))

    def _expected(self, task: Task, writing: CandidateScore, calibration: Calibration) -> float:
        """As if all of the text were always written, and all of it anew: what it costs at most."""
        p = calibration.spread(writing.quality)
        return worth_of_draft(task.decision, writing, p, targeted=self._has_target)

    def _threshold(self, calibration: Calibration) -> float | None:
        """The probability below which a target wants it to be handed over."""
        if self.escalate_at_most is not None:
            return calibration.threshold_at_most(self.escalate_at_most).p
        return None if self.accuracy is None else calibration.threshold_of(self.accuracy).p


class _Plan(NamedTuple):
    """Who writes first, and when somebody else goes on.

    Attributes:
        cheap: Who writes first.
        heirs: Who may be the first to go on, in the router's order.
        tau: The mean below which it is handed over.
        calibration: What a mean says; None where it is not known.
        threshold: The probability below which a target wants it; None without a target.
    """

    cheap: CandidateScore
    heirs: Sequence[CandidateScore]
    tau: float
    calibration: Calibration | None = None
    threshold: float | None = None

    def heir(self, decision: Decision, mean: float | None) -> CandidateScore | None:
        """Who is to go on, by the lowest mean, or as nobody knows it; None if nobody is."""
        quality = self.cheap.quality
        if self.calibration is None:
            return most_worth(decision, self.heirs)
        if mean is None:
            # That it reaches an accuracy nobody knows.
            threshold = None if self.threshold is None else math.inf
            return worth_more(decision, self.heirs, quality, threshold)
        return self.worth_more(decision, self.calibration.probability(mean, quality))

    def worth_more(self, decision: Decision, p: float) -> CandidateScore | None:
        """Who is worth more than a text that is right with a probability, as in a cascade."""
        return worth_more(decision, self.heirs, p, self.threshold)


class _Handing(NamedTuple):
    """Who is to go on, and why."""

    to: CandidateScore
    why: str


def _with_space(text: str, end: int) -> str:
    """A text up to somewhere, with the white space there: up to its last line end, if it has one.

    What follows that is the indentation of a line that is not kept.
    """
    if not end:
        return ""
    space = text[end : len(text) - len(text[end:].lstrip())]
    return text[:end] + space[: space.rfind("\n") + 1 or None]
