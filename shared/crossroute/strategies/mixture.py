"""Mixture: the likeliest candidates answer at once, in rounds, and one writes the answer of theirs.

After RouteMoA (arXiv 2601.18130): who answers is chosen by predicted quality, self-scores and the
scores of peers correct it, and the rounds end as soon as an answer is good enough. Reconstructed
over an API from the paper and the facts of its public code; nothing of a model is trained.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crossroute.errors import ConstraintError, shortened
from crossroute.query import Message
from crossroute.strategies.base import Ask, Flow, Reply, Task
from crossroute.strategies.bounds import exceeds_limits, with_room
from crossroute.strategies.checks import (
    check_count,
    check_flag,
    check_positive,
    check_share,
    check_text,
)
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.mixture_scores import ROUNDING, Board, MixtureWeights
from crossroute.strategies.numbered import ANEW, material, stated_scores
from crossroute.strategies.signals import StatedConfidence

SCORES = (
    "How sure are you that each of these {count} answers is right? Reply with one line for each: "
    "its number, a colon, and a number from 0 to 1, where 0 is surely wrong and 1 is surely right. "
    "Write nothing else."
)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Let the best candidates answer at once, in rounds, and one write the answer of theirs.

    Attributes:
        width: How many candidates are members of a round.
        rounds: How many rounds there are at most.
        stop_above: If the posterior score of an answer is above this, it is the answer, as it is;
            None goes through all rounds and has them aggregated.
        weights: By which the scores make a posterior score.
        aggregator: Id of the candidate that writes the answer; None, or where it is no candidate,
            is the one with the highest posterior score.
        confidence: How members are asked for their self-scores. The score of each peer may be as
            long, and take as long.
        seconds: Time limit of a draft.
        attempts: How many candidates are asked at most to write the answer, or to give one where
            no member does.
        pass_refusals: Whether a refusal of these passes to the next one; that of a member always
            does.

    Raises:
        ConstraintError: If an argument makes no sense.
    """

    width: int = 3
    rounds: int = 3
    stop_above: float | None = 0.76
    weights: MixtureWeights = field(default_factory=MixtureWeights)
    aggregator: str | None = None
    confidence: StatedConfidence = field(default_factory=StatedConfidence)
    seconds: float | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        check_count("width", self.width, least=2)
        check_count("rounds", self.rounds)
        check_share("stop_above", self.stop_above)
        if not isinstance(self.weights, MixtureWeights):
            raise ConstraintError(
                f"weights is {shortened(self.weights)}; give MixtureWeights(...)."
            )
        check_text("aggregator", self.aggregator)
        if not isinstance(self.confidence, StatedConfidence):
            raise ConstraintError(
                f"confidence is {shortened(self.confidence)}; give StatedConfidence(...)."
            )
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)

    def answer(self, task: Task) -> Flow:
        """The drafts and their scores, round after round, and what is made of them."""
        board = Board(task.decision, self.weights)
        stop = math.inf if self.stop_above is None else self.stop_above
        asked: list[Sequence[str]] = []
        answers: list[Reply] = []
        failed: list[Reply] = []
        for number in range(1, self.rounds + 1):
            then = material(answers, ANEW) if answers else ()
            able = with_room(task, board.best_first(board.out), then)
            members = [one.model for one in able[: self.width]]
            if len(members) < 2 or exceeds_limits(task, self._steps(task, [*asked, members])):
                break
            asked.append(members)
            drafts: Sequence[Reply] = yield tuple(
                self._draft(model, number, then) for model in members
            )
            given = [draft for draft in drafts if _is_answer(draft)]
            failed += [draft for draft in drafts if not _is_answer(draft)]
            board.out.update({one.model: "it gave no draft" for one in failed})
            if not given:
                break
            answers = given
            if number == self.rounds and self.stop_above is None:
                break  # Its scores would decide nothing.
            yield from self._score(task, board, answers, first=number == 1)
            best = self._best(board, answers)
            if board.standings[best.model].posterior > stop + ROUNDING:
                return best
        if not answers:
            return (yield from self._without_drafts(task, failed))
        if len(answers) == 1:
            return answers[0]
        return (yield from self._aggregated(task, board, answers, failed))

    def _draft(self, model: str, number: int, then: Sequence[Message]) -> Ask:
        return Ask(
            model,
            then=then,
            role="draft",
            seconds=self.seconds,
            reason=f"draft, in round {number} of a mixture",
        )

    def _score(
        self, task: Task, board: Board, answers: Sequence[Reply], *, first: bool
    ) -> Generator[Any, Any, None]:
        """Ask for the scores of a round's answers, and note what they make."""
        for answer in answers:
            board.standings[answer.model].take(answer)
        readings = [self.confidence.read(task, answer) for answer in answers]
        replies: Sequence[Reply] = yield tuple(map(next, readings))
        for answer, reading, reply in zip(answers, readings, replies, strict=True):
            try:
                reading.send(reply)
            except StopIteration as end:
                board.standings[answer.model].own = end.value
        if not first:
            yield from self._score_peers(task, board, answers)
        board.update([answer.model for answer in answers], first=first)

    def _score_peers(
        self, task: Task, board: Board, answers: Sequence[Reply]
    ) -> Generator[Any, Any, None]:
        """Ask the surest member for scores of the latest answers of all that have answered."""
        rated = {
            model: one.answer
            for model, one in board.standings.items()
            if one.answer is not None and model not in board.out
        }
        then = material([*rated.values()], SCORES.format(count=len(rated)))
        given = {answer.model for answer in answers}
        able = with_room(task, [one for one in board.best_first() if one.model in given], then)
        own = {one.model: board.standings[one.model].own for one in able}
        most = max((score for score in own.values() if score is not None), default=None)
        if most is None or len(rated) < 2:
            return
        # Of equally sure ones the first, which stood best.
        surest = next(m for m, one in own.items() if one is not None and one >= most - ROUNDING)
        reply: Reply = yield Ask(
            surest,
            then=then,
            settings={"max_tokens": self.confidence.max_tokens * len(rated)},
            role="judge",
            seconds=self.confidence.seconds,
            reason="scores the answers, as the surest of its own",
        )
        if not (reply.failed or reply.refused):
            scores = stated_scores(reply.text, len(rated))
            for model, score in zip(rated, scores, strict=True):
                board.standings[model].cross = score

    def _best(self, board: Board, answers: Sequence[Reply]) -> Reply:
        of = {answer.model: answer for answer in answers}
        return next(of[one.model] for one in board.best_first() if one.model in of)

    def _aggregated(
        self, task: Task, board: Board, answers: Sequence[Reply], failed: Sequence[Reply]
    ) -> Flow:
        """The answer that a candidate writes of the last ones; the best of these if none does."""
        best, then = self._best(board, answers), material(answers, ANEW)
        writers = with_room(task, board.best_first(_tried(failed)), then)
        if not writers:
            return best
        # The one that was chosen, then the others as they stand.
        writers.sort(key=lambda one: one.model != self.aggregator)
        decision = replace(task.decision, candidates=tuple(writers))
        score = board.standings[best.model].posterior
        reason = (
            f"writes the answer of {len(answers)} drafts; the best, with a score of {score:.2f}, "
            "stands if all fail"
        )
        reply: Reply = yield from in_turn(
            task,
            decision.preferring(writers[0].model),
            reason,
            attempts=self.attempts,
            pass_refusals=self.pass_refusals,
            then=then,
        )
        return best if self._is_none(reply) else reply

    def _without_drafts(self, task: Task, failed: Sequence[Reply]) -> Flow:
        """The answer of the candidates that have not failed, one after the other."""
        tried = _tried(failed)
        said = [one for one in failed if not one.failed and (one.refused or one.has_words)]
        if len(tried) == len(task.decision.candidates):
            return [*said, *(one for one in failed if one.failed), *failed][0]
        if failed:
            reason = "asked in turn: no member of the mixture gave an answer"
        elif len(task.decision.candidates) < 2:
            reason = "asked at once: fewer than two candidates for a mixture"
        else:
            reason = "asked at once: a mixture is expected to pass the limits of the call"
        reply: Reply = yield from in_turn(
            task,
            task.decision.without(tried),
            reason,
            attempts=self.attempts,
            pass_refusals=self.pass_refusals,
        )
        return said[0] if said and self._is_none(reply) else reply

    def _is_none(self, reply: Reply) -> bool:
        """Whether something better that is there already is given instead."""
        is_refusal = reply.refused and self.pass_refusals
        return reply.failed or is_refusal or not (reply.has_words or reply.refused)

    def _steps(self, task: Task, rounds: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """Who is asked one after the other in rounds of these members, and to write the answer."""
        steps: list[Sequence[str]] = []
        costs = {one.model: one.cost_usd for one in task.decision.candidates}
        for place, members in enumerate(rounds):
            dearest = max(members, key=costs.__getitem__)
            # Drafts, self-scores, scores of peers.
            steps += [members, members] + [[dearest]] * (place > 0)
        writer = next((model for model in costs if model == self.aggregator), rounds[-1][0])
        return [*steps, [writer]]


def _is_answer(reply: Reply) -> bool:
    return not reply.failed and not reply.refused and bool(reply.text.strip())


def _tried(failed: Sequence[Reply]) -> dict[str, str]:
    """Who need not be asked again; who had too small a share of a hard limit may be."""
    return {one.model: "it gave no draft" for one in failed if one.was_asked}
