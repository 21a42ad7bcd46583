"""Ranking traces: quality less a price on tokens, and what is readable on request.

The reward is that of Optima (arXiv 2410.08115): `R = quality - token_price * tokens / most_tokens +
readability * readability`, where `most_tokens` are those of the longest trace of the same prompt.
There the last term is the inverse of a language model's loss; here it is the ease of reading.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from crossroute.errors import DataError, shortened
from crossroute.ranking import amount
from crossroute.strategies.bill import message_tokens
from crossroute.traces.messages import role_of
from crossroute.traces.readability import reading_ease
from crossroute.traffic.records import CallRecord

TOKEN_PRICE = 0.2
"""Of the longest trace of a prompt, in units of quality."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A trace and what it is worth.

    Attributes:
        record: The call.
        quality: Its feedback, 0..1.
        tokens: Output tokens of all its asks, drafts and judges too; those of an ask that said
            something, and none of whose tokens was counted, are estimated.
        share: Its tokens by those of the longest trace of the same prompt, 0..1; where that is the
            only one, by those of the longest trace of all.
        readability: How easily it reads, 0..1; None where that has no weight.
        reward: What it is worth.
    """

    record: CallRecord
    quality: float
    tokens: float
    share: float
    readability: float | None
    reward: float

    @property
    def path(self) -> str:
        """Who was asked for what, in turn: `draft poet, answer sage`; neighbours alike once."""
        steps = [f"{ask.role} {ask.model}" for ask in self.record.asks]
        alone = [one for place, one in enumerate(steps) if place == 0 or steps[place - 1] != one]
        return ", ".join(alone)


@dataclass
class Ranking:
    """Traces, the best first.

    Attributes:
        traces: Those that have got feedback.
        calls: Calls that were read.
        skipped: How many are no such traces, by the reason.
        sources: Of the feedback that there is.
    """

    traces: list[Ranked] = field(default_factory=list)
    calls: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sources: set[str] = field(default_factory=set)


def rank(
    records: Iterable[CallRecord],
    *,
    token_price: float = TOKEN_PRICE,
    readability: float = 0.0,
    source: str | None = None,
) -> Ranking:
    """Rank the traces among records that have got feedback; all of them are held in memory.

    Args:
        records: As `read_records` gives them.
        token_price: What the longest trace of a prompt pays for its tokens, in units of quality.
        readability: Weight of the ease of reading; above 0 it needs the extra `traces`.
        source: The source of feedback to go by; None is the mean over the sources of a call.

    Raises:
        DataError: If the price or the weight is no finite number from 0 up.
        MissingExtraError: If readability has a weight, and its package is not installed.
    """
    for name, value in (("token_price", token_price), ("readability", readability)):
        if amount(value) in (None, math.inf):
            raise DataError(f"{name} is {shortened(value)}; give a finite number from 0 up.")
    found = Ranking()
    kept: list[tuple[CallRecord, float, float]] = []
    for record in records:
        found.calls += 1
        found.sources.update(record.feedback)
        score = record.score(source)
        if reason := _unusable(record, score):
            found.skipped[reason] += 1
        elif score is not None:
            kept.append((record, score, _tokens(record)))
    of_prompt: dict[str, list[float]] = {}
    for record, _, tokens in kept:
        of_prompt.setdefault(_prompt(record), []).append(tokens)
    most = max((tokens for *_, tokens in kept), default=0)
    for record, score, tokens in kept:
        group = of_prompt[_prompt(record)]
        longest = max(group) if len(group) > 1 else most
        share = tokens / longest if longest else 0.0
        ease = reading_ease(_said(record)) if readability else None
        reward = score - token_price * share + readability * (ease or 0.0)
        found.traces.append(Ranked(record, score, tokens, share, ease, reward))
    found.traces.sort(key=lambda one: -one.reward)
    return found


def _unusable(record: CallRecord, score: float | None) -> str | None:
    """Why a record is no trace that can be ranked."""
    if record.trace is None or record.query is None:
        return "without a trace: record with traces=True"
    if record.trace == "too long":
        return "whose trace was too long to be kept"
    if record.outcome != "answered":
        return "failed" if record.outcome == "failed" else "left by their callers"
    return "without feedback" if score is None else None


def _prompt(record: CallRecord) -> str:
    return json.dumps([record.query, record.tools], sort_keys=True)


def _tokens(record: CallRecord) -> float:
    """Output tokens of all asks; what was said is not free where nobody has counted."""
    uncounted = (
        message
        for ask in record.asks
        if not ask.output_tokens
        for message in ask.said or ()
        if role_of(message) == "assistant"
    )
    return record.output_tokens + message_tokens(uncounted)


def _said(record: CallRecord) -> str:
    """All that the models of a trace wrote."""
    contents = (message.get("content") for ask in record.asks for message in ask.said or ())
    return "\n".join(content for content in contents if isinstance(content, str))
