"""Asks one model many prompts, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from langchain_crossroute.metadata import tokens_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

FAILURES_IN_A_ROW = 5
"""So many calls failed with no answer between them: the others would fail, too."""


class Answer(NamedTuple):
    """What a model answered, and its tokens as a price takes them; None where nobody counts."""

    text: str
    tokens: tuple[int, int, int, int] | None


async def ask(
    model: BaseChatModel,
    prompts: Sequence[str],
    tell: Callable[[int, Answer | Exception], None],
    *,
    at_once: int,
) -> None:
    """Ask a model every prompt once; whatever a call raises is told, and the others go on.

    When `FAILURES_IN_A_ROW` calls have failed, nothing further is asked.

    Args:
        model: The chat model.
        prompts: What it is asked.
        tell: Gets the position of a prompt and its answer, or what the call raised, as they come;
            always in the thread and event loop of the caller.
        at_once: Calls under way at a time, at most.
    """
    waiting = iter(enumerate(prompts))
    failures = 0

    async def work() -> None:
        nonlocal failures
        # One iterator for all workers: each takes the next prompt that nobody has.
        for position, prompt in waiting:
            if failures >= FAILURES_IN_A_ROW:
                return
            try:
                message = await model.ainvoke(prompt)
            except Exception as error:
                failures += 1
                tell(position, error)
                continue
            failures = 0
            usage = message.usage_metadata
            tell(position, Answer(str(message.text), tokens_of(usage)))

    await asyncio.gather(*(work() for _ in range(min(at_once, len(prompts)))))
