"""Controller: a chat model answers, or first asks others, which are its tools.

After CoRL (arXiv 2511.02755): a controller decides in rounds whom of its experts to ask what, under
a budget level. Reconstructed over an API: there the controller is trained to keep to the level,
here it is told; what keeps to a limit in USD is code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from crossroute.ceiling import Ceiling
from crossroute.decision import CandidateScore, usd
from crossroute.errors import ConstraintError, CostLimitError, shortened
from crossroute.query import Message, encodable
from crossroute.strategies.base import Ask, Flow, Limit, Reply, Task, ToolCall
from crossroute.strategies.bounds import exceeds_limits, with_room
from crossroute.strategies.checks import (
    check_count,
    check_flag,
    check_models,
    check_positive,
    check_text,
)
from crossroute.strategies.experts import (
    BUDGETS,
    Budget,
    Expert,
    Note,
    conclusion,
    directions,
    experts_of,
)
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.limit import Heard, limited, lowered, most_usd, spent_usd

MOST_EXPERTS = 8
"""Of those that are not named: more tools only take more tokens."""

MOST_QUESTION_CHARS = 20_000
"""Of a question to an expert."""

MOST_TOKENS, LEAST_TOKENS = 2_000, 250
"""Of what an expert said, as its controller reads it: as many as it has room and money for."""

KEPT_TOKENS = 300
"""Of the controller's own answer: for so long a one, money is kept while experts are asked."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Let a chat model answer, or ask others first, and say what it makes of their answers.

    Attributes:
        model: Id of the controlling model, which must call tools; None is the cheapest candidate
            that can, by predicted cost.
        budget: How freely it is told to ask: `low`, `medium` or `high`.
        rounds: How often it may ask at most; afterwards it answers.
        max_cost_usd: What the call may cost at most, all asks together: an ask that could break it
            is not made, and the controller is told. A lower hard limit of the call stays.
        experts: Ids of the models that it may ask, of which those count that are candidates of the
            call; None are the others, the eight that the router prefers.
        seconds: Time limit of an expert, and of a turn in which the controller may ask.
        attempts: How many candidates are asked at most for the last answer.
        pass_refusals: Whether a refusal of these, or of the controller, passes to the next one.

    Raises:
        ConstraintError: If an argument makes no sense.
    """

    model: str | None = None
    budget: Budget = "medium"
    rounds: int = 3
    max_cost_usd: float | None = None
    experts: Sequence[str] | None = None
    seconds: float | None = None
    attempts: int = 3
    pass_refusals: bool = False

    def __post_init__(self) -> None:
        check_text("model", self.model)
        if not isinstance(self.budget, str) or self.budget not in BUDGETS:
            raise ConstraintError(
                f"budget is {shortened(self.budget)}; give one of {', '.join(BUDGETS)}."
            )
        check_count("rounds", self.rounds)
        check_positive("max_cost_usd", self.max_cost_usd)
        if self.experts is not None and not check_models(self.experts, "experts"):
            raise ConstraintError("experts is empty; give ids of models, or None for all.")
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)

    def answer(self, task: Task) -> Flow:
        """The controller's turns, with the experts' in between, and its answer."""
        if self.max_cost_usd is not None:
            limit = Limit(self.max_cost_usd, "max_cost_usd of the controller")
            yield limit
            task = replace(task, ceiling=lowered(task, task.ceiling, limit))
        own = self._own(task)
        experts = [] if own is None else self._experts(task, own)
        if own is None or not experts:
            who = "no candidate can control" if own is None else "no expert may be asked"
            return (yield from self._in_turn(task, f"asked at once: {who}"))
        talk = _Talk(task, own, experts)
        for number in range(1, self.rounds + 1):
            turn = self._turn(talk, number)
            if turn is None:
                break
            said: Reply = yield turn
            talk.heard(turn, said)
            if said.failed:
                talk.out[own.model] = "it failed as the controller"
                break
            if not said.tool_calls:
                if not self.pass_refusals if said.refused else said.text.strip():
                    return said
                talk.out[own.model] = "it refused" if said.refused else "it said nothing"
                talk.refusal = said if said.refused else None
                break
            asks = self._asks(talk, number, said.tool_calls)
            if asks:
                replies: Sequence[Reply] = yield tuple(asks.values())
                talk.take(number, asks, replies)
        return (yield from self._answered(talk))

    def _own(self, task: Task) -> CandidateScore | None:
        """The controlling candidate; None if there is none that calls tools."""
        able = [one for one in task.decision.candidates if task.can(one.model, "tools")]
        if self.model is not None:
            able = [one for one in able if one.model == self.model]
        return min(able, key=lambda one: one.cost_usd, default=None)

    def _experts(self, task: Task, own: CandidateScore) -> list[Expert]:
        """Those that the limits of the call leave beside the controller."""
        named = self.experts
        found = [
            one
            for one in task.decision.candidates
            if one.model != own.model
            and (named is None or one.model in named)
            and not exceeds_limits(task, [[own.model], [one.model], [own.model]])
        ]
        return experts_of(found if named is not None else found[:MOST_EXPERTS])

    def _turn(self, talk: _Talk, number: int) -> Ask | None:
        """A turn in which the controller may ask; None where there is no room or money for it."""
        left = f"You may ask in {self.rounds - number + 1} more of {self.rounds} rounds."
        if (rest := talk.left_usd()) is not None:
            left += f" {usd(rest)} are left for it; what could cost more is not asked."
        then = directions(
            talk.own,
            talk.experts,
            talk.task.pool,
            self.budget,
            left,
            talk.notes,
            MOST_TOKENS,
        )
        ask = Ask(
            talk.own.model,
            then=then,
            tools=[one.definition(talk.task.pool) for one in talk.experts],
            role="control",
            seconds=self.seconds,
            reason=f"controls with a {self.budget} budget, round {number} of {self.rounds}",
        )
        if not with_room(talk.task, [talk.own], then):
            return None
        paid = talk.paid([ask])[0]
        return paid if isinstance(paid, Ask) else None

    def _asks(self, talk: _Talk, number: int, calls: Sequence[ToolCall]) -> dict[str, Ask]:
        """What is asked in a round, by the names of the tools; the other calls are refused."""
        experts = {one.tool: one for one in talk.experts}
        wanted: dict[str, Ask] = {}
        most = 2 * len(experts)
        for call in calls[:most]:
            why = self._fault(talk, call, experts, wanted)
            if why is not None:
                talk.refuse(number, call.name, why)
                continue
            wanted[call.name] = Ask(
                experts[call.name].score.model,
                keep=(),
                then=_asking(call.arguments["question"]),
                role="draft",
                seconds=self.seconds,
                reason=f"asked by {talk.own.model}, in round {number}",
            )
        if len(calls) > most:
            talk.refuse(number, "all further calls", "these are too many at once")
        found: dict[str, Ask] = {}
        for tool, paid in zip(wanted, talk.paid([*wanted.values()]), strict=True):
            if isinstance(paid, Ask):
                found[tool] = paid
            else:
                talk.refuse(number, tool, talk.too_dear)
        return found

    def _fault(
        self,
        talk: _Talk,
        call: ToolCall,
        experts: Mapping[str, Expert],
        wanted: Mapping[str, Ask],
    ) -> str | None:
        """Why a call of a tool is refused, before it is looked at what it may cost."""
        question = call.arguments.get("question")
        if call.name not in experts:
            return f"there is no such expert; there are {', '.join(experts)}"
        if not isinstance(question, str) or not question.strip():
            return "write the question, as a text"
        if len(question) > MOST_QUESTION_CHARS:
            return f"the question is longer than {MOST_QUESTION_CHARS} characters"
        score = experts[call.name].score
        if not with_room(talk.task, [score], _asking(question)):
            return "the question is too long for this expert"
        if call.name in wanted:
            return "in one round ask each expert once at most"
        if talk.exceeds_limits([*(ask.model for ask in wanted.values()), score.model]):
            return "the call would be expected to cost or to take more than it may"
        return None

    def _answered(self, talk: _Talk) -> Flow:
        """The answer that the controller makes of all, or another candidate if it cannot."""
        task, then = talk.task, talk.conclusion()
        others = [one for one in task.decision.candidates if one.model not in talk.out]
        # Of equal ones the first: the controller, then the others as the router prefers them.
        others.sort(key=lambda one: one.model != talk.own.model)
        writers = with_room(task, others, then)
        best, number = talk.best, len(talk.drafts)
        reason = f"answers, after {number} of experts" if number else "answers, without experts"
        if talk.own.model in talk.out:
            reason += f": the controller did not, {talk.out[talk.own.model]}"
        if not writers:
            return best or talk.refusal or talk.asked[-1][1]
        if best is not None:
            reason += f"; that of {best.model} stands if all fail"
        reply: Reply = yield from self._in_turn(task, reason, writers, then)
        spare = best or talk.refusal
        is_refusal = reply.refused and self.pass_refusals
        if spare and (reply.failed or is_refusal or not (reply.has_words or reply.refused)):
            return spare
        return reply

    def _in_turn(
        self,
        task: Task,
        reason: str,
        candidates: Sequence[CandidateScore] = (),
        then: Sequence[Message] = (),
    ) -> Flow:
        decision = task.decision
        if candidates:
            decision = replace(decision, candidates=tuple(candidates))
            decision = decision.preferring(candidates[0].model)
        return in_turn(
            task,
            decision,
            reason,
            attempts=self.attempts,
            pass_refusals=self.pass_refusals,
            then=then,
        )


@dataclass(slots=True)
class _Talk:
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

    def exceeds_limits(self, models: Sequence[str]) -> bool:
        """Whether a round with these experts is expected to exceed the limits of the call."""
        return exceeds_limits(self.task, [*self.steps, models, [self.own.model]])

    def left_usd(self) -> float | None:
        """What is left of the hard limit for the next asks; None where there is no limit."""
        ceiling = self.task.ceiling
        if ceiling is None:
            return None
        spent = spent_usd(ceiling, self._before(ceiling))
        return max(ceiling.usd - spent - self._kept_usd(ceiling, ()), 0.0)

    def paid(self, asks: Sequence[Ask]) -> list[Ask | CostLimitError]:
        """Asks with the longest answers that the hard limit leaves them, made at once.

        What the controller's own answer costs is kept.
        """
        ceiling = self.task.ceiling
        if ceiling is None:
            return [*asks]
        rest = replace(ceiling, usd=max(ceiling.usd - self._kept_usd(ceiling, asks), 0.0))
        before, found = self._before(ceiling), list[Ask | CostLimitError]()
        for place, ask in enumerate(asks):
            paid, error = limited(rest, ask, before, len(asks) - place)
            if error is not None:
                found.append(error)
                continue
            if paid.max_tokens is not None:
                # The driver, which knows of nothing that is kept, would leave it all.
                paid = replace(paid, settings={"max_tokens": paid.max_tokens})
            before.append(Heard(paid, Reply(paid.model), ceiling))
            found.append(paid)
        return found

    def conclusion(self) -> tuple[Message, ...]:
        """What whoever answers is told, as long as the controller has room and money for it."""
        tokens = MOST_TOKENS
        while tokens > LEAST_TOKENS:
            then = conclusion(self.notes, tokens)
            if with_room(self.task, [self.own], then) and self._pays(then):
                return then
            tokens //= 2
        return conclusion(self.notes, LEAST_TOKENS)

    def _pays(self, then: Sequence[Message]) -> bool:
        """Whether the hard limit pays for an answer of some length."""
        ceiling = self.task.ceiling
        if ceiling is None:
            return True
        ask, error = limited(ceiling, Ask(self.own.model, then=then), self._before(ceiling))
        return error is None and (ask.max_tokens is None or ask.max_tokens >= KEPT_TOKENS)

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


def _asking(question: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": encodable(question)},)


def _question(ask: Ask) -> str:
    return str(ask.then[-1]["content"])
