"""Controller: a chat model answers, or first asks others, which are its tools.

After CoRL (arXiv 2511.02755): a controller decides in rounds whom of its experts to ask what, under
a budget level. Reconstructed over an API: there the controller is trained to keep to the level,
here it is told; what keeps to a limit in USD is code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crossroute.decision import CandidateScore, usd
from crossroute.errors import ConstraintError, shortened
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
    directions,
    experts_of,
)
from crossroute.strategies.in_turn import in_turn
from crossroute.strategies.limit import lowered
from crossroute.strategies.talk import MOST_TOKENS, Talk

MOST_EXPERTS = 8
"""Of those that are not named: more tools only take more tokens."""

MOST_QUESTION_CHARS = 20_000
"""Of a question to an expert."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Let a chat model answer, or ask others first, and say what it makes of their answers.

    Attributes:
        model: Id of the controlling model, which must call tools; None is the cheapest candidate
            that can, by predicted cost.
        budget: How freely it is told to ask: `low`, `medium` or `high`.
        rounds: How often it may ask at most; afterwards it answers.
        hard_max_cost_usd: What the call may cost at most, all asks together: an ask that could
            break it is not made, and the controller is told. A lower hard limit of the call stays.
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
    hard_max_cost_usd: float | None = None
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
        check_positive("hard_max_cost_usd", self.hard_max_cost_usd)
        if self.experts is not None and not check_models(self.experts, "experts"):
            raise ConstraintError("experts is empty; give ids of models, or None for all.")
        check_positive("seconds", self.seconds)
        check_count("attempts", self.attempts)
        check_flag("pass_refusals", self.pass_refusals)

    def answer(self, task: Task) -> Flow:
        """The controller's turns, with the experts' in between, and its answer."""
        if self.hard_max_cost_usd is not None:
            limit = Limit(self.hard_max_cost_usd, "hard_max_cost_usd of the controller")
            yield limit
            task = replace(task, ceiling=lowered(task, task.ceiling, limit))
        own = self._own(task)
        experts = [] if own is None else self._experts(task, own)
        if own is None or not experts:
            why = "no expert may be asked"
            if own is None:
                none = self.model is None
                why = "no candidate can control" if none else f"{self.model} cannot control"
            return (yield from self._in_turn(task, f"asked at once: {why}"))
        talk = Talk(task, own, experts)
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

    def _turn(self, talk: Talk, number: int) -> Ask | None:
        """A turn in which the controller may ask; None where there is no room or money for it."""
        own = talk.own.model
        if all(talk.exceeds_limits([own], [one.score.model]) for one in talk.experts):
            return None
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
            own,
            then=then,
            tools=[one.definition(talk.task.pool) for one in talk.experts],
            role="control",
            seconds=self.seconds,
            reason=f"controls with a {self.budget} budget, round {number} of {self.rounds}",
        )
        if not with_room(talk.task, [talk.own], then) or not talk.pays(ask, beside_answer=True):
            return None
        return talk.leaving([ask])[0]

    def _asks(self, talk: Talk, number: int, calls: Sequence[ToolCall]) -> dict[str, Ask]:
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
        return dict(zip(wanted, talk.leaving([*wanted.values()]), strict=True))

    def _fault(
        self,
        talk: Talk,
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

    def _answered(self, talk: Talk) -> Flow:
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


def _asking(question: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": encodable(question)},)
