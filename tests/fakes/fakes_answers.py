"""Tasks and scripted replies for strategies that look at answers, driven by hand."""

# ruff: noqa: ANN401  # What a flow returns may be anything.

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossroute.decision import CandidateScore, Decision
from crossroute.models.descriptor import ModelDescriptor
from crossroute.query import Query
from crossroute.ranking import RewardName, preference, rank, reward
from crossroute.strategies import Ask, Drop, GoOn, Limit, Reply, Show, Task, Together, ToolCall
from crossroute.strategies.calibration import Calibration, Calibrations

QUESTION = "What is 17 * 23?"


@dataclass(frozen=True)
class Said:
    """What a model replies."""

    text: str = ""
    logprobs: Sequence[float] = ()
    error: Exception | None = None
    refused: bool = False
    tool_calls: Sequence[ToolCall] = ()


Part = str | Exception | Said


@dataclass
class Script:
    """What models say, one reply after the other; and what was asked of them.

    Attributes:
        says: Replies of each model. The last of them is said again, if it is asked more often.
        asked: All asks.
        left: Those whose replies were looked at before their end.
        begun: The replies of these.
        limits: Hard limits that were set; they are not kept here.
        dropped: Those that were dropped.
    """

    says: Mapping[str, Part | Sequence[Part]]
    asked: list[Ask] = field(default_factory=list)
    left: list[Ask] = field(default_factory=list)
    begun: list[tuple[Reply, Said]] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    dropped: list[Reply] = field(default_factory=list)

    def play(self, flow: Generator[Any, Any, Any]) -> Any:
        """Drive a flow, and give what it returns."""
        sent: Any = None
        while True:
            try:
                step = flow.send(sent)
            except StopIteration as end:
                return self._read_on(end.value)
            assert not isinstance(step, Show)
            if isinstance(step, Ask):
                sent = self._reply(step)
            elif isinstance(step, Limit):
                self.limits.append(step)
                sent = None
            elif isinstance(step, tuple):
                assert step
                sent = tuple(map(self._reply, step))
            elif isinstance(step, GoOn):
                assert step.until is step.enough is None
                sent = tuple(map(self._read_on, step.replies))
            elif isinstance(step, Drop):
                self.dropped += step.replies
                sent = step.replies
            else:
                assert isinstance(step, Together)
                sent = self._together(step)

    @property
    def models(self) -> list[str]:
        return [ask.model for ask in self.asked]

    def _together(self, step: Together) -> tuple[Reply, ...]:
        replies = [Reply(ask.model) for ask in step.asks]
        assert replies
        for place, ask in enumerate(step.asks):
            if step.enough is not None and place and step.enough(replies):
                self.asked += step.asks[place:]
                self.left += step.asks[place:]
                break
            replies[place] = self._reply(ask)
        return tuple(replies)

    def _reply(self, ask: Ask) -> Reply:
        says = self.says[ask.model]
        if isinstance(says, Sequence) and not isinstance(says, str):
            says = says[min(self.models.count(ask.model), len(says) - 1)]
        self.asked.append(ask)
        if isinstance(says, Exception):
            says = Said(error=says)
        said = Said(says) if isinstance(says, str) else says
        reply = Reply(ask.model, refused=said.refused)
        # As a stream comes, by one character after the other.
        for place, character in enumerate(said.text):
            reply.text += character
            reply.has_words = bool(reply.text.strip())
            reply.logprobs += said.logprobs[place : place + 1]
            if ask.until is not None and ask.until(reply):
                self.left.append(ask)
                self.begun.append((reply, said))
                return reply
        reply.error, reply.done = said.error, True
        reply.tool_calls = [*said.tool_calls]
        return reply

    def _read_on(self, answer: Any) -> Any:
        """A reply that is returned or gone on with is read to its end, as the driver does."""
        assert answer not in self.dropped
        for reply, said in self.begun:
            if reply is answer:
                reply.text, reply.error, reply.done = said.text, said.error, True
        return answer


def task_of(
    models: Mapping[str, tuple[float, float]],
    willingness_to_pay: float = 0.01,
    *,
    logprobs: Sequence[str] = (),
    reward_name: RewardName = "linear",
) -> Task:
    """A task with candidates of these qualities and costs, ordered as a router orders them."""
    quality = np.array([q for q, _ in models.values()])
    cost = np.array([c for _, c in models.values()])
    order = rank(
        preference(reward_name, quality, cost, willingness_to_pay)[None],
        quality[None],
        cost[None],
    )[0]
    worth = reward(reward_name, quality, cost, willingness_to_pay)
    scores = [
        CandidateScore(list(models)[i], float(quality[i]), float(cost[i]), float(worth[i]))
        for i in order
    ]
    first = scores[0]
    decision = Decision(
        first.model,
        first.quality,
        first.cost_usd,
        tuple(scores),
        willingness_to_pay,
        reward_name,
        20.0,
    )
    pool = {
        model: ModelDescriptor(id=model, capabilities=("logprobs",) if model in logprobs else ())
        for model in models
    }
    messages = [{"role": "user", "content": QUESTION}]
    return Task(decision, Query.of(QUESTION), messages, pool=pool)


def calibrated(
    model: str = "small",
    signal: str = "mean_logprob",
    *,
    low: float = -1.0,
    high: float = 0.0,
    prior: float = 0.0,
) -> Calibration:
    """A probability of .01 at `low` and .99 at `high`, and as many drafts at each of them."""
    p = tuple(np.linspace(0.01, 0.99, 101).tolist())
    return Calibration(
        model=model,
        signal=signal,
        x=(low, high),
        p=(0.01, 0.99),
        examples=1_000,
        base=0.5,
        prior=prior,
        signal_percentiles=p,
        percentiles=p,
    )


def calibrations(*given: Calibration) -> Calibrations:
    return Calibrations(calibrations=given or (calibrated(),))


def sure(text: str, p: float) -> Said:
    """A reply whose mean log-probability is calibrated to a probability of `p` to be right."""
    value = (p - 0.01) / 0.98 - 1
    assert not math.isnan(value)
    return Said(text, [value] * len(text))
