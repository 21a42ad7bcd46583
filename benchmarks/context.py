"""Which of the facts that an answer needs are still there when a conversation was shortened.

    python benchmarks/context.py

Conversations of benchmarks/context_corpus.py, shortened to several budgets by fit_context, by
LangChain's trim_messages and to the last n messages (as many as a budget holds in the mean of all
conversations), beside all of it. Tokens are counted by count_tokens. With 95 % intervals of 10,000
bootstrap resamples of the questions. No network is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from context_corpus import Case, Message, cases
from langchain_core.messages import BaseMessage, convert_to_messages, trim_messages
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from crossroute.context import ContextWeights, count_tokens, fit_context
from crossroute.context.tokens import message_tokens

QUESTIONS = 400
SEED = 7
"""Seed 1 was looked at while the weights were set."""
BUDGETS = (200, 400, 600, 800)
RESAMPLES = 10_000

COUNT = cache(count_tokens)
"""Each text is counted once, however often it is."""

Shorten = Callable[[Sequence[Message]], Sequence[int]]
"""The positions of what is kept."""


class Measured(NamedTuple):
    """One value for each question: needed facts kept (a share), all of them kept, tokens."""

    recall: NDArray[np.float64]
    whole: NDArray[np.float64]
    tokens: NDArray[np.float64]


def fitted(
    messages: Sequence[Message], budget: int, weights: ContextWeights | None = None
) -> Sequence[int]:
    weights = ContextWeights() if weights is None else weights
    return fit_context(messages, budget_tokens=budget, weights=weights, count=COUNT).kept


def last(messages: Sequence[Message], count: int) -> Sequence[int]:
    """The system prompt and the last messages."""
    return [0, *range(max(1, len(messages) - count), len(messages))]


def trimmed(messages: Sequence[Message], budget: int) -> Sequence[int]:
    """As LangChain advises: from a message of the user on, with the system prompt."""
    converted = convert_to_messages(list(messages))
    for place, message in enumerate(converted):
        message.id = str(place)
    tokens = [message_tokens(message, COUNT) for message in messages]

    def count(some: list[BaseMessage]) -> int:
        return sum(tokens[int(message.id or 0)] for message in some)

    found = trim_messages(
        converted,
        max_tokens=budget,
        token_counter=count,
        strategy="last",
        start_on="human",
        include_system=True,
    )
    return [int(message.id or 0) for message in found]


def measure(shorten: Shorten, questions: Sequence[Case]) -> Measured:
    recall, whole, tokens = [], [], []
    for case in questions:
        kept = shorten(case.messages)
        found = len(case.needed.intersection(kept))
        recall.append(found / len(case.needed))
        whole.append(found == len(case.needed))
        tokens.append(sum(message_tokens(case.messages[place], COUNT) for place in kept))
    return Measured(*(np.array(values, np.float64) for values in (recall, whole, tokens)))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def ways(budget: int, questions: Sequence[Case]) -> Mapping[str, Shorten]:
    """What is compared at a budget, by its name."""
    lengths = [message_tokens(one, COUNT) for case in questions for one in case.messages[1:-1]]
    count = max(int(budget / np.mean(lengths)), 1)
    return {
        "fit_context": partial(fitted, budget=budget),
        "meaning and recency only": partial(fitted, budget=budget, weights=ContextWeights(names=0)),
        "trim_messages": partial(trimmed, budget=budget),
        f"the last {count}": partial(last, count=count),
    }


def main() -> None:
    for named in ("invented", "usual"):
        questions = cases(QUESTIONS, SEED, named)
        table = Table("budget", "", "needed facts kept", "all of them kept", "tokens", title=named)
        for budget in BUDGETS:
            for name, shorten in ways(budget, questions).items():
                row(table, str(budget), name, measure(shorten, questions))
        row(table, "", "everything", measure(lambda some: range(len(some)), questions))
        Console().print(table)
    start = time.perf_counter()
    for case in questions:
        fit_context(case.messages, budget_tokens=BUDGETS[1])
    again = (time.perf_counter() - start) / len(questions)
    messages = np.mean([len(case.messages) for case in questions])
    print(f"{again * 1e3:.1f} ms a conversation of {messages:.0f} messages that were seen before")


def row(table: Table, budget: str, name: str, found: Measured) -> None:
    shares = []
    for values in (found.recall, found.whole):
        low, high = interval(values)
        shares.append(f"{values.mean():.0%} ({low:.0%} to {high:.0%})")
    table.add_row(budget, name, *shares, f"{found.tokens.mean():.0f}")


if __name__ == "__main__":
    main()
