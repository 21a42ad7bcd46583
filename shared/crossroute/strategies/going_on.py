"""Failover among those that go on from a text that was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossroute.decision import Decision
from crossroute.query import Message, estimate_tokens
from crossroute.strategies.base import Ask, Flow, Reply, Show, Task
from crossroute.strategies.bounds import with_room
from crossroute.strategies.overlap import Seam

GO_ON = (
    "Your answer above was interrupted. Go on exactly where it ends: what you write now is put "
    "right behind it. Repeat nothing of it, and do not comment on this."
)


def going_on(
    task: Task,
    decision: Decision,
    kept: str,
    reason: str,
    *,
    attempts: int,
    pass_refusals: bool,
) -> Flow:
    """Ask some candidates to go on from a text, until one does.

    What it repeats of the text is dropped. None of it is shown by the model's own run, as an
    `answer` is: it is a part of one.

    Args:
        task: What is to be answered.
        decision: With the candidates that are asked, in their order.
        kept: The text, with the white space at its end.
        reason: Why they are asked.
        attempts: How many of them are asked at most.
        pass_refusals: Whether a refusal passes to the next one; if all refuse, the first refusal is
            what follows the text.
    """
    prefix = kept.rstrip()
    settings: Mapping[str, Any] = {}
    if (most := task.query.output_tokens) is not None:
        # The limit is one of the whole answer.
        settings = {"max_tokens": max(most - round(estimate_tokens(prefix)), 1)}
    fitting = with_room(task, decision.candidates, _told(prefix, prefills=False))
    left, refusal = attempts, None
    candidates = list(fitting or decision.candidates)
    while candidates:
        candidate = candidates.pop(0)
        seam = Seam(kept)
        reply: Reply = yield Ask(
            candidate.model,
            then=_told(prefix, prefills=task.can(candidate.model, "prefill")),
            settings=settings,
            # Of a whole answer nothing is shown yet, so that another one may be asked to its end.
            until=None if task.is_whole else _begun(seam, pass_refusals=pass_refusals),
            role="draft",
            reason=reason,
        )
        if reply.refused and pass_refusals:
            refusal = refusal or reply
        elif not reply.failed:
            start = seam.start(reply.text, done=reply.done)
            if start:
                yield Show(reply, start=start, end=start, close=False)
            return reply
        left -= reply.was_asked
        if not left:
            break
        candidates = task.going_on_after(candidate.model, candidates)
    return refusal or reply


def _told(prefix: str, *, prefills: bool) -> Sequence[Message]:
    """What a model is told after the caller's messages."""
    begun = {"role": "assistant", "content": prefix}
    # One that prefills goes on from a last message of its own.
    return (begun,) if prefills else (begun, {"role": "user", "content": GO_ON})


def _begun(seam: Seam, *, pass_refusals: bool) -> Callable[[Reply], bool]:
    """When it is known where a continuation begins to say something new."""

    def until(reply: Reply) -> bool:
        if reply.refused:
            # Of one that may be the answer in the end, all is read.
            return not pass_refusals
        return seam.start(reply.text, done=False) is not None

    return until
