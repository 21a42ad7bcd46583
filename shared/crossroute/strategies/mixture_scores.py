"""What the members of a mixture are worth, by all that is known of them in a call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from sys import float_info
from typing import TypeVar

from crossroute.decision import LEAST_WRITTEN_OUT, CandidateScore, Decision
from crossroute.errors import ConstraintError, shortened
from crossroute.strategies.base import Reply

ROUNDING = 1e-9
"""Scores that differ by less are equal."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ScoreWeights:
    """How much each score of a candidate weighs in its posterior score.

    Of those that are not known the others take the weight, each in its share.

    Attributes:
        router: Of the predicted quality, mapped.
        own: Of the self-score of its latest answer.
        earlier: Of the self-score of the answer before that.
        cross: Of the score that another member gave its latest answer.

    Raises:
        ConstraintError: If a weight is no finite number from 0 up, or that of the router is 0.
    """

    router: float
    own: float = 0.0
    earlier: float = 0.0
    cross: float = 0.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= float_info.max:
                raise ConstraintError(
                    f"{one.name} is {shortened(value)}; give a finite number from 0 up."
                )
        if self.router == 0:
            raise ConstraintError(
                "router is 0; give a number above 0: of a candidate that was not asked, nothing "
                "else is known."
            )


@dataclass(frozen=True, slots=True)
class MixtureWeights:
    """The weights of candidates by what they did in a round; RouteMoA's are the defaults.

    Attributes:
        first: Of members of the first round.
        both: Of members of a later round that have answered in one before.
        new: Of members of a later round that have not.
        other: Of candidates that are no members of a later round.

    Raises:
        ConstraintError: If one is no `ScoreWeights`.
    """

    first: ScoreWeights = ScoreWeights(router=0.9, own=0.1)
    both: ScoreWeights = ScoreWeights(router=0.25, own=0.15, earlier=0.15, cross=0.45)
    new: ScoreWeights = ScoreWeights(router=0.9, own=0.1)
    other: ScoreWeights = ScoreWeights(router=0.7, own=0.1, cross=0.2)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, ScoreWeights):
                raise ConstraintError(
                    f"{one.name} is {shortened(value)}; give ScoreWeights(router=...)."
                )


@dataclass(slots=True)
class Standing:
    """What is known of a candidate in a call.

    Attributes:
        router: Its predicted quality, mapped.
        posterior: Its score by all that is known.
        answer: Its latest answer.
        rounds: In how many it has answered.
        own: The self-score of that answer, as far as it is known.
        earlier: That of the answer before.
        cross: The score that the answer was given by another member.
    """

    router: float
    posterior: float
    answer: Reply | None = None
    rounds: int = 0
    own: float | None = None
    earlier: float | None = None
    cross: float | None = None

    def take(self, answer: Reply) -> None:
        """A new answer, of which no score is known yet."""
        self.answer, self.rounds = answer, self.rounds + 1
        self.own, self.earlier, self.cross = None, self.own, None


@dataclass(slots=True)
class Board:
    """The candidates of one call, and what is known of them.

    Attributes:
        decision: Of the call.
        weights: By which they are scored.
        standings: By the candidates' ids.
        out: Ids of those that are asked no more, and why.
    """

    decision: Decision
    weights: MixtureWeights
    standings: dict[str, Standing] = field(init=False)
    out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.standings = {
            one.model: Standing(score, score)
            for one in self.decision.candidates
            for score in [mapped(one.quality)]
        }

    def best_first(self, without: Collection[str] = ()) -> list[CandidateScore]:
        """The candidates by their posterior scores; of equal ones the cheaper comes first."""
        given = [one for one in self.decision.candidates if one.model not in without]
        return [
            one
            for equal in groups(given, lambda one: -self.standings[one.model].posterior, ROUNDING)
            for alike in groups(equal, self.decision.counted_usd, LEAST_WRITTEN_OUT)
            for one in alike
        ]

    def update(self, members: Collection[str], *, first: bool) -> None:
        """Score all candidates after a round.

        Args:
            members: Ids of those that have answered in it.
            first: Whether it is the first one.
        """
        for model, one in self.standings.items():
            if model not in members:
                weights = self.weights.other
            elif first:
                weights = self.weights.first
            else:
                weights = self.weights.both if one.rounds > 1 else self.weights.new
            one.posterior = posterior(one, weights)


def mapped(quality: float) -> float:
    """A predicted quality, 0..1, as RouteMoA maps it: away from the middle."""
    x = min(max(quality, 0.0), 1.0)
    return float(0.8 * x**1.5 if x < 0.5 - ROUNDING else 1 - 0.8 * (1 - x) ** 1.5)


def posterior(known: Standing, weights: ScoreWeights) -> float:
    """The mean of the scores that are known, by their weights."""
    scores = [
        (weight, score)
        for weight, score in (
            (weights.router, known.router),
            (weights.own, known.own),
            (weights.earlier, known.earlier),
            (weights.cross, known.cross),
        )
        if score is not None
    ]
    # Weights may be as large as numbers get.
    most = max(weight for weight, _ in scores)
    total = sum(weight / most for weight, _ in scores)
    return sum(weight / most * score for weight, score in scores) / total


def groups(
    items: Iterable[Item], value: Callable[[Item], float], room: float
) -> Iterable[Sequence[Item]]:
    """Items in groups of equal values, the lowest first; within a group they keep their order."""
    left = list(items)
    while left:
        least = min(map(value, left))
        yield [item for item in left if value(item) <= least + room]
        left = [item for item in left if value(item) > least + room]
