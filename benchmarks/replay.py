"""Models that answer what they once answered: a transport that asks nobody.

What a model says to a prompt, how right that is, and its tokens are recorded. What is recorded
nowhere follows from it by three rules, which `docs/strategies/measured.md` states:

- *Shown the answers of others*, a model says what most say of these and of its own recorded answer;
  of equals its own.
- *As a judge or a controller*, it goes by its own recorded answer: `replay_roles.py`.
- *A beginning* of an answer shows what the answer comes to, and costs the tokens that were read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute import ModelDescriptor, Query
from crossroute.decision import Decision
from crossroute.query import given_limit
from crossroute.strategies import (
    Ask,
    Charge,
    Ended,
    Reply,
    Strategy,
    Task,
    ToolCall,
    Usage,
    drive,
)
from crossroute.strategies.answers import final_answer
from crossroute.strategies.bill import more_input
from crossroute.training.answers import Answers
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]

SHOWN = re.compile(r"The answer is <(.*?)>\.")
"""How a replayed answer begins, by which it is known again in the question of a judge."""
WORD, WORD_TOKENS = " etc", 1.03
"""What fills an answer up to its recorded length, and what `estimate_tokens` takes it for."""
BEGIN_TOKENS = 6
"""Of what stands before it."""
PART_WORDS = 8
"""In a part of a stream."""


class Recorded(NamedTuple):
    """What a model answered to a prompt.

    Attributes:
        says: What the answer comes to, the same text for answers that are alike; None if nothing.
        score: 0..1.
        input_tokens: Of the prompt.
        output_tokens: Of the answer.
    """

    says: str | None
    score: float
    input_tokens: int
    output_tokens: int

    @property
    def text(self) -> str:
        """The answer as it is replayed."""
        begin = f"The answer is <{self.says or ''}>."
        more = round((self.output_tokens - BEGIN_TOKENS) / WORD_TOKENS)
        return begin + WORD * max(more, 0)


def said(text: str) -> str | None:
    """What a replayed answer comes to: an extractor for strategies."""
    found = SHOWN.search(text)
    return (found[1] or None) if found else None


@dataclass(frozen=True)
class Prompt:
    """A prompt and what each candidate answered to it.

    Attributes:
        task: What a strategy gets.
        answers: By the ids of the models.
    """

    task: Task
    answers: Mapping[str, Recorded]

    def score(self, says: str | None) -> float:
        """How right an answer is that somebody else has recorded."""
        found = [one.score for one in self.answers.values() if one.says == says]
        return float(np.mean(found)) if found and says is not None else 0.0


class Part(NamedTuple):
    """A part of a replayed answer.

    Attributes:
        text: What it says.
        tokens: Output tokens that it cost.
        score: Of the answer that it is of.
        calls: Of tools.
    """

    text: str
    tokens: float
    score: float
    calls: Sequence[ToolCall] = ()


Policy = Callable[["Replay", Ask], Part]
"""What is said where no answer is asked for: by a judge, or a controller."""


Sureness = Callable[[Prompt, str], float]
"""The log-probability of every token of a model's answer to a prompt."""


@dataclass
class Replay:
    """A transport for one call.

    Attributes:
        prompt: What is asked, and what was answered.
        roles: What is said to asks of some roles.
        sureness: What log-probabilities say, where they are asked for; None gives none.
        exchanges: All asks so far.
    """

    prompt: Prompt
    roles: Mapping[str, Policy] = field(default_factory=dict)
    sureness: Sureness | None = None
    exchanges: list[Exchange] = field(default_factory=list)

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        """An ask that nobody has been told of yet."""
        del decision
        policy = self.roles.get(ask.role)
        whole = policy(self, ask) if policy else self.answer(ask)
        self.exchanges.append(Exchange(self, ask, whole, Reply(ask.model)))
        return self.exchanges[-1]

    def answer(self, ask: Ask) -> Part:
        """What a model says to the prompt, or to the prompt and the answers of others."""
        mine = self.prompt.answers[ask.model]
        shown = [says for says in shown_in(ask) if says]
        if not shown:
            return Part(mine.text, mine.output_tokens, mine.score)
        drafted = any(
            one.ask.model == ask.model and one.ask.role == "draft" for one in self.exchanges
        )
        votes = Counter(shown)
        if mine.says is not None and not (drafted and mine.says in votes):
            votes[mine.says] += 1
        most = max(votes.values())
        if mine.says is not None and votes[mine.says] == most:
            return Part(mine.text, mine.output_tokens, mine.score)
        says = next(one for one in shown if votes[one] == most)
        score = self.score(says)
        return Part(mine._replace(says=says).text, mine.output_tokens, score)

    def score(self, says: str | None) -> float:
        """How right an answer is that was shown: as those were that said it in this call.

        Of answers that are alike, a grader has at times taken one and not the other.
        """
        found = [one.whole.score for one in self.exchanges if says and said(one.whole.text) == says]
        return float(np.mean(found)) if found else self.prompt.score(says)

    def report(self, failure: dict[str, Any]) -> None:
        """Nobody listens."""

    async def areport(self, failure: dict[str, Any]) -> None:
        """Nobody listens."""


@dataclass
class Exchange:
    """One ask, and what is replayed of its answer."""

    replay: Replay
    ask: Ask
    whole: Part
    reply: Reply
    output_tokens: float = 0.0
    shown = False

    def open(self) -> Iterator[Part]:
        """The answer as a whole, or in parts where somebody looks at it before its end."""
        limit = given_limit(self.ask.settings)
        text, tokens, score, calls = self.whole
        if limit is not None and tokens > limit:
            text, tokens = text[: round(len(text) * limit / tokens)], limit
        words = re.findall(r"<.*?>\S*|\S+", text) if self.ask.until else [text]
        step = PART_WORDS if self.ask.until else 1
        starts = range(0, len(words), step)
        for start in starts:
            said = (" " if start else "") + " ".join(words[start : start + step])
            yield Part(said, tokens / len(starts), score, calls if start == starts[-1] else ())

    async def aopen(self) -> AsyncIterator[Part]:
        """`open`."""
        for part in self.open():
            yield part

    def read(self, part: Part) -> None:
        """Note a part."""
        before, self.output_tokens = self.output_tokens, self.output_tokens + part.tokens
        self.reply.text += part.text
        self.reply.has_words = True
        self.reply.tool_calls += part.calls
        sureness = self.replay.sureness
        if sureness is not None and self.ask.settings.get("logprobs"):
            more = round(self.output_tokens) - round(before)
            self.reply.logprobs += [sureness(self.replay.prompt, self.ask.model)] * more
        self.reply.usage = self._usage
        self.reply.cost_usd = self._cost_usd

    @property
    def _usage(self) -> Usage:
        recorded = self.replay.prompt.answers[self.ask.model]
        kept = recorded.input_tokens if self.ask.keep is None else 0
        sent = kept + round(more_input(self.ask))
        return Usage(sent, round(self.output_tokens))

    @property
    def _cost_usd(self) -> float:
        price = self.replay.prompt.task.pool[self.ask.model].price
        assert price is not None  # noqa: S101  # `prompts_of` takes no other models.
        return float(price.cost_usd(*self._usage))

    @property
    def charge(self) -> Charge:
        """What it cost: a stream that is left costs the prompt, and what came of it."""
        usage = self._usage
        return {
            "model": self.ask.model,
            "role": self.ask.role,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": 0,
            "cost_usd": self._cost_usd,
            "estimated": False,
        }

    def failure(self, error: Exception) -> str | None:
        """Nothing fails here: what is raised is a bug."""
        del error
        return None

    def cut(self, part: Part, start: int, end: int | None) -> Part | None:
        """A part with some of its text."""
        text = part.text[start:end]
        return part._replace(text=text) if text else None

    def with_metadata(self, part: Part) -> Part:
        """The part."""
        return part

    def rest(self) -> Iterator[Part]:
        """Nothing."""
        return iter(())


def shown_in(ask: Ask) -> list[str | None]:
    """What the answers come to that an ask shows, in their order."""
    text = "\n".join(str(message.get("content") or "") for message in ask.then)
    return [found or None for found in SHOWN.findall(text)]


class Outcome(NamedTuple):
    """What a call came to.

    Attributes:
        score: Of the answer.
        cost_usd: Of all asks.
        asks: How many there were.
    """

    score: float
    cost_usd: float
    asks: int


def call(
    prompt: Prompt,
    strategy: Strategy,
    roles: Mapping[str, Policy] | None = None,
    sureness: Sureness | None = None,
) -> Outcome:
    """Answer a prompt by a strategy, as any integration would, from what is recorded."""
    replay, told = Replay(prompt, roles or {}, sureness), list[Ended]()
    flow = strategy.answer(prompt.task)
    *_, last = drive(prompt.task, flow, replay, told.append)
    asks = told[0].asks
    cost = sum(ask.charge["cost_usd"] or 0.0 for ask in asks)
    return Outcome(last.score, cost, len(asks))


def prompts_of(
    data: RoutingData,
    answers: Answers,
    decisions: Sequence[Decision],
    pool: Mapping[str, ModelDescriptor],
) -> list[Prompt]:
    """Prompts with what was recorded.

    Args:
        data: Rows with scores and input tokens for every model.
        answers: From `load_answers`, with a label for every model.
        decisions: Of a router, for each row.
        pool: Descriptors of the models, with their prices.
    """
    found = []
    tokens = np.where(np.isnan(data.output_tokens), 1.0, data.output_tokens)
    for i, decision in enumerate(decisions):
        recorded = {
            model: Recorded(
                _says(answers[data.ids[i]][model]),
                float(data.score[i, j]),
                round(float(data.input_tokens[i, j])),
                round(float(tokens[i, j])),
            )
            for j, model in enumerate(data.models)
        }
        query = Query.of(data.prompts[i])
        messages = [{"role": "user", "content": query.text}]
        found.append(Prompt(Task(decision, query, messages, pool=pool), recorded))
    return found


def _says(label: str | None) -> str | None:
    """A label in the form in which `answer_codes` compares it."""
    text = (label or "").strip()
    return " ".join((final_answer(text) or text).split()) or None
