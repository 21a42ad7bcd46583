"""Vote: several drafts are asked, and the answer that most of their weight says is given.

After SATER (arXiv 2510.05164): weighted votes of several drafts, in which a refusal by an agreed
word counts as no vote, stopped as soon as the vote is decided; short drafts on demand.
Reconstructed over an API: the tuning that teaches a model to be brief and to refuse needs its
weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from crossroute.decision import CandidateScore, Decision
from crossroute.errors import ConstraintError, CostLimitError, shortened
from crossroute.strategies.answers import Extractor, final_answer
from crossroute.strategies.base import Ask, Flow, Reply, Task, Together
from crossroute.strategies.calibration import Calibrations
from crossroute.strategies.checks import (
    check_count,
    check_extractor,
    check_flag,
    check_members,
    check_positive,
    check_share,
    check_text,
)
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.isotonic import log_odds
from crossroute.strategies.signals import MeanLogprob, MinLogprob
from crossroute.strategies.word import Word

Weights = Literal["quality", "equal"] | Calibrations

LEAST_WEIGHT, MOST_WEIGHT = 0.1, 4.0
"""Of a vote: nobody is so bad that agreement says nothing, or outvotes more than forty others."""
ROUNDING = 1e-9

BRIEF = "Answer as briefly as you can: only what it takes to be right, without an introduction."


@dataclass(frozen=True, slots=True)
class Vote:
    """Ask several candidates, or one several times, and give the answer that most weight says.

    Attributes:
        models: Ids of the candidates that vote; those that are none of the call's are left out.
        samples: How many samples of one model vote instead.
        cheap: Whose samples; None is the candidate with the lowest predicted cost.
        extract: What of a text is compared; None of it is no vote.
        weights: `quality`: the log-odds of the predicted quality; `equal`; or calibrations, by
            which each draft counts the log-odds of being right that `signal` gives it.
        signal: Which signal, of those that the draft itself gives.
        options: How many answers are plausible, among which wrong ones scatter: the more, the more
            it says that two agree. 2 for yes or no. A vote weighs `log(options - 1)` more than its
            log-odds, which are those of two options.
        word: A word by which a model says that it is not sure: no vote.
        early_stop: Whether the others are left as soon as they cannot change what is done.
        in_turn: Whether they are asked one after the other: slower, and cheaper with `early_stop`.
        brief: Whether they are told to answer briefly.
        temperature: Of samples; None is the client's own, which must not be 0.
        seconds: Time limit of each.
        escalate_below: If the share of the winner in the weight of all voters is below this, the
            preferred one of the other candidates answers. Who fails, says the word or nothing that
            could be compared, lowers it.
        attempts: How many candidates are asked at most where the vote gives no answer.
        pass_refusals: Whether a refusal of these passes to the next one.

    Raises:
        ConstraintError: If an argument makes no sense.
    """

    models: Sequence[str] = ()
    samples: int = 0
    cheap: str | None = None
    extract: Extractor = final_answer
    weights: Weights = "quality"
    signal: MeanLogprob | MinLogprob = field(default_factory=MeanLogprob)
    options: int = 4
    word: str | None = None
    early_stop: bool = True
    in_turn: bool = False
    brief: bool = False
    temperature: float | None = None
    seconds: float | None = None
    escalate_below: float | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        check_members(self.models, self.samples, "models", least=2)
        check_text("cheap", self.cheap)
        if self.models and (self.cheap is not None or self.temperature is not None):
            raise ConstraintError("cheap and temperature are of samples; give samples, not models.")
        check_extractor(self.extract)
        if self.weights not in ("quality", "equal") and not isinstance(self.weights, Calibrations):
            raise ConstraintError(
                f"weights is {shortened(self.weights)}; give 'quality', 'equal', or Calibrations."
            )
        if not isinstance(self.signal, (MeanLogprob, MinLogprob)):
            raise ConstraintError(
                f"signal is {shortened(self.signal)}; give MeanLogprob() or MinLogprob(), which "
                "ask nothing more."
            )
        check_count("options", self.options, least=2)
        Word.of(self.word)
        for name in ("early_stop", "in_turn", "brief", "pass_refusals"):
            check_flag(name, getattr(self, name))
        check_positive("temperature", self.temperature)
        check_positive("seconds", self.seconds)
        check_share("escalate_below", self.escalate_below)
        check_count("attempts", self.attempts)

    def answer(self, task: Task) -> Flow:
        """The drafts, the vote, and where it gives no answer the other candidates."""
        members = self._members(task)
        if len(members) < 2:
            reason = "asked at once: fewer than two of the voters are candidates"
            return (yield from self._in_turn(task, task.decision, reason))
        asks = tuple(self._ask(task, member) for member in members)
        tried = {member.model: "it has voted" for member in members}
        is_last = len(tried) == len(task.decision.candidates)
        poll = _Poll(self, members, None if is_last else self.escalate_below)
        replies: list[Reply] = []
        if self.in_turn:
            for ask in asks:
                replies.append((yield ask))
                if self.early_stop and poll.is_decided(replies):
                    break
        else:
            enough = poll.is_decided if self.early_stop else None
            replies = list((yield Together(asks, enough)))
        result = poll.result(replies)
        if result.answer is not None and result.why is None:
            return result.answer
        # Who had too small a share of a hard limit may be asked yet.
        shared = {one.model for one in replies if isinstance(one.error, CostLimitError)}
        tried = {model: why for model, why in tried.items() if model not in shared}
        if is_last:
            # Who said the word is asked again without it, in whichever of its samples.
            tried = {
                one.model: "it failed"
                for one in replies
                if (one.failed or one.refused) and one.model not in shared
            }
            for one in replies:
                if not (one.failed or one.refused):
                    tried.pop(one.model, None)
            if len(tried) == len(task.decision.candidates):
                return result.worst
        reason = f"escalated: {result.why}"
        reply: Reply = yield from self._in_turn(task, task.decision.without(tried), reason)
        if reply.failed or (reply.refused and self.pass_refusals):
            return result.answer or (result.worst if result.worst.refused else reply)
        return reply

    def _in_turn(self, task: Task, decision: Decision, reason: str) -> Flow:
        return in_turn(
            task, decision, reason, attempts=self.attempts, pass_refusals=self.pass_refusals
        )

    def _members(self, task: Task) -> list[CandidateScore]:
        """Who votes, in the order in which they are asked."""
        candidates = {one.model: one for one in task.decision.candidates}
        if self.models:
            return [candidates[model] for model in self.models if model in candidates]
        if self.cheap is not None:
            return [candidates[self.cheap]] * self.samples if self.cheap in candidates else []
        return [min(candidates.values(), key=lambda one: one.cost_usd)] * self.samples

    def _ask(self, task: Task, member: CandidateScore) -> Ask:
        word = Word.of(self.word)
        told = [BRIEF] * self.brief + ([] if word is None else [word.instruction])
        ask = Ask(
            member.model,
            then=({"role": "user", "content": " ".join(told)},) if told else (),
            settings={} if self.temperature is None else {"temperature": self.temperature},
            until=None if word is None else word.said,
            role="draft",
            seconds=self.seconds,
            fresh=bool(self.samples),
            reason="draft, for a vote",
        )
        if isinstance(self.weights, Calibrations):
            return self.signal.prepared(task, ask) or ask
        return ask


class _Result(NamedTuple):
    """What a vote comes to.

    Attributes:
        answer: The draft that is the answer, the second best one too; None if there is none.
        why: Why another candidate is to be asked first; None if it is not.
        worst: A reply to return if all else fails: a refusal, or what failed.
    """

    answer: Reply | None
    why: str | None
    worst: Reply


@dataclass(frozen=True, slots=True)
class _Poll:
    """The votes of one call.

    Attributes:
        vote: How they are counted.
        members: Who votes, as many as there are asks.
        least: The share that the winner needs; None where nobody else could be asked.
    """

    vote: Vote
    members: Sequence[CandidateScore]
    least: float | None

    def is_decided(self, replies: Sequence[Reply]) -> bool:
        """Whether the members that have not ended cannot change any more what is done."""
        weight = self._weights(replies)
        open_weight = math.fsum(
            self._most(member)
            for place, member in enumerate(self.members)
            if place >= len(replies) or not self._has_ended(replies[place])
        )
        groups = sorted(weight.values(), reverse=True)
        first, second = [*groups, 0.0, 0.0][:2]
        if self.least is not None:
            needed = self.least * self._total(replies) - ROUNDING
            if first + open_weight < needed:
                return True  # Whoever wins, another one is asked.
            if open_weight and first < needed:
                return False
        return first > second + open_weight + ROUNDING

    def result(self, replies: Sequence[Reply]) -> _Result:
        """What the vote comes to, of the replies that there are."""
        ended = [(i, reply) for i, reply in enumerate(replies) if self._has_ended(reply)]
        # The word is for no caller.
        failed = [reply for _, reply in ended if reply.failed] or [ended[-1][1]]
        worst = next((reply for _, reply in ended if reply.refused), failed[-1])
        weight = self._weights(replies)
        if not weight:
            # Words that cannot be compared are an answer yet, of the likeliest to be right.
            spoken = [i for i, reply in ended if self._has_spoken(reply)]
            if not spoken:
                return _Result(None, "no draft is an answer", worst)
            why = None if self.least is None else "no draft could be compared"
            return _Result(replies[self._likeliest(spoken)], why, worst)
        most = max(weight.values())
        best = {said for said, one in weight.items() if one >= most - ROUNDING}
        winners = [i for i, reply in ended if self._said(reply) in best]
        # The first of a group; of groups that are equal, the likeliest to be right.
        winner = winners[0] if len(best) == 1 else self._likeliest(winners)
        share, why = most / self._total(replies), None
        if self.least is not None and share < self.least - ROUNDING:
            why = f"the winner has {share:.2f} of the votes, which is below {self.least:g}"
        return _Result(replies[winner], why, worst)

    def _likeliest(self, places: Sequence[int]) -> int:
        return max(places, key=lambda place: self.members[place].quality)

    def _total(self, replies: Sequence[Reply]) -> float:
        """The weight of all, those too that gave no vote, or none yet."""
        return math.fsum(
            self._weight(member, replies[place])
            if place < len(replies) and self._said(replies[place]) is not None
            else self._most(member)
            for place, member in enumerate(self.members)
        )

    def _weights(self, replies: Sequence[Reply]) -> dict[str, float]:
        """The weight of each answer that was given so far."""
        found: dict[str, float] = {}
        for member, reply in zip(self.members, replies, strict=False):
            if (said := self._said(reply)) is not None:
                found[said] = found.get(said, 0.0) + self._weight(member, reply)
        return found

    def _said(self, reply: Reply) -> str | None:
        """The vote of a reply; None if it is none, or none yet."""
        return self.vote.extract(reply.text) if self._has_spoken(reply) else None

    def _has_ended(self, reply: Reply) -> bool:
        return reply.done or self._says_word(reply)

    def _has_spoken(self, reply: Reply) -> bool:
        is_answer = reply.done and not reply.failed and not reply.refused and reply.has_words
        return is_answer and not self._says_word(reply)

    def _says_word(self, reply: Reply) -> bool:
        word = Word.of(self.vote.word)
        return word is not None and word.said(reply)

    def _weight(self, member: CandidateScore, reply: Reply) -> float:
        weights, signal = self.vote.weights, self.vote.signal
        if not isinstance(weights, Calibrations):
            return self._most(member)
        calibration = weights.get(member.model, signal.name)
        value = signal.of(reply)
        if calibration is None or value is None:
            return self._weight_of(member.quality)
        return self._weight_of(calibration.probability(value, member.quality))

    def _most(self, member: CandidateScore) -> float:
        """The most that a member's vote can weigh."""
        weights = self.vote.weights
        if weights == "equal":
            return 1.0
        calibration = None
        if isinstance(weights, Calibrations):
            calibration = weights.get(member.model, self.vote.signal.name)
        if calibration is None:
            return self._weight_of(member.quality)
        # Without the signal it is that of the predicted quality.
        surest = calibration.probability(calibration.x[-1], member.quality)
        return max(self._weight_of(surest), self._weight_of(member.quality))

    def _weight_of(self, p: float) -> float:
        """The weight of a vote that is right with a probability."""
        weight = float(log_odds(p)) + math.log(self.vote.options - 1)
        return min(max(weight, LEAST_WEIGHT), MOST_WEIGHT)
