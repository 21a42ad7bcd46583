"""What a controller and its experts have said in a call, and what is left to pay for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from crossroute.ceiling import Ceiling
from crossroute.decision import CandidateScore, usd
from crossroute.errors import CostLimitError
from crossroute.query import Message
from crossroute.strategies.base import Ask, Reply, Task
from crossroute.strategies.bounds import exceeds_limits, with_room
from crossroute.strategies.experts import Expert, Note, conclusion
from crossroute.strategies.limit import Heard, most_usd, spent_usd

MOST_TOKENS, LEAST_TOKENS = 2_000, 250
"""Of what an expert said, as its controller reads it: as many as it has room and money for."""

KEPT_TOKENS = 300
"""Of the controller's own answer: for so long a one, money is kept while experts are asked."""


@dataclass(slots=True)
class Talk:
    """What a controller and its experts have said in a call, and what it has cost.

    Attributes:
        task: What is answered.
        own: What is predicted of the controller.
        experts: Whom it may ask.
        notes: What came of the tools that it called.
        drafts: The experts' answers.
        out: Why candidates are not asked for the last answer, by their ids.
        refusal: The controller's own one, where another candidate is to answer.
        asked: All asks of the call, and what came of them.
        steps: The models of these, one step after the other.
    """

    task: Task
    own: CandidateScore
    experts: Sequence[Expert]
    notes: list[Note] = field(default_factory=list)
    drafts: list[Reply] = field(default_factory=list)
    out: dict[str, str] = field(default_factory=dict)
    refusal: Reply | None = None
    asked: list[tuple[Ask, Reply]] = field(default_factory=list)
    steps: list[Sequence[str]] = field(default_factory=list)

    def heard(self, ask: Ask, reply: Reply) -> None:
        """Note a turn of the controller."""
        self.asked.append((ask, reply))
        self.steps.append([ask.model])

    def take(self, number: int, asks: Mapping[str, Ask], replies: Sequence[Reply]) -> None:
        """Note what came of a round."""
        self.steps.append([ask.model for ask in asks.values()])
        for (tool, ask), reply in zip(asks.items(), replies, strict=True):
            self.asked.append((ask, reply))
            answers = not reply.failed and not reply.refused and bool(reply.text.strip())
            if answers:
                self.drafts.append(reply)
            elif reply.was_asked:
                self.out[ask.model] = "it gave no answer"
            said = reply.text if answers else f"Refused: {self._fault(reply)}."
            self.notes.append(Note(number, tool, _question(ask), said, answers))

    def refuse(self, number: int, tool: str, why: str) -> None:
        """Note why a tool was not called."""
        self.notes.append(Note(number, tool, "", f"Refused: {why}."))

    @property
    def best(self) -> Reply | None:
        """The answer of the expert that is predicted to be the best of those that gave one."""
        quality = {one.score.model: one.score.quality for one in self.experts}
        return max(self.drafts, key=lambda draft: quality[draft.model], default=None)

    @property
    def too_dear(self) -> str:
        """Why an expert is not asked that could cost too much."""
        return f"it could cost more than is left for it, {usd(self.left_usd() or 0.0)}"

    def _fault(self, reply: Reply) -> str:
        if isinstance(reply.error, CostLimitError):
            return self.too_dear
        if reply.error is not None:
            # Its text may be of the provider, and for nobody else.
            return f"the expert could not be reached ({type(reply.error).__name__})"
        return "the expert refuses to answer" if reply.refused else "the expert said nothing"

    def exceeds_limits(self, *steps: Sequence[str]) -> bool:
        """Whether steps more, and an answer, are expected to exceed the limits of the call."""
        return exceeds_limits(self.task, [*self.steps, *steps, [self.own.model]])

    def left_usd(self) -> float | None:
        """What is left of the hard limit for the next asks; None where there is no limit."""
        ceiling = self.task.ceiling
        if ceiling is None:
            return None
        spent = spent_usd(ceiling, self._before(ceiling))
        return max(ceiling.usd - spent - self._kept_usd(ceiling, ()), 0.0)

    def pays(self, ask: Ask, *, beside_answer: bool = False) -> bool:
        """Whether the hard limit pays for an ask of the controller with an answer of some length.

        Args:
            ask: What it is asked.
            beside_answer: Whether its own answer is to be paid for afterwards.
        """
        ceiling = self.task.ceiling
        if ceiling is None:
            return True
        kept = self._kept_usd(ceiling, ()) if beside_answer else 0.0
        spent = spent_usd(ceiling, self._before(ceiling))
        return spent + kept + most_usd(ceiling, ask, KEPT_TOKENS) <= ceiling.usd

    def leaving(self, asks: Sequence[Ask]) -> list[Ask]:
        """Asks that leave what the controller's own answer costs of the hard limit."""
        ceiling = self.task.ceiling
        if ceiling is None:
            return [*asks]
        kept = self._kept_usd(ceiling, asks)
        return [replace(ask, reserve_usd=kept) for ask in asks]

    def conclusion(self) -> tuple[Message, ...]:
        """What whoever answers is told, as long as the controller has room and money for it."""
        tokens = MOST_TOKENS
        while tokens > LEAST_TOKENS:
            then = conclusion(self.notes, tokens)
            ask = Ask(self.own.model, then=then)
            if with_room(self.task, [self.own], then) and self.pays(ask):
                return then
            tokens //= 2
        return conclusion(self.notes, LEAST_TOKENS)

    def _before(self, ceiling: Ceiling) -> list[Heard]:
        return [Heard(ask, reply, ceiling) for ask, reply in self.asked]

    def _kept_usd(self, ceiling: Ceiling, asks: Sequence[Ask]) -> float:
        """What the controller's answer costs at most, with what the experts say by then."""
        to_come = [
            Note(0, ask.model, _question(ask), "word " * LEAST_TOKENS, answers=True)
            for ask in asks
            if ask.role == "draft"
        ]
        then = conclusion([*self.notes, *to_come], LEAST_TOKENS)
        return most_usd(ceiling, Ask(self.own.model, then=then), KEPT_TOKENS)


def _question(ask: Ask) -> str:
    return str(ask.then[-1]["content"])
