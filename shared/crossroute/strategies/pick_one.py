"""PickOne: the preferred candidate answers, and where it fails the next one."""

from __future__ import annotations

from dataclasses import dataclass

from crossroute.strategies.base import Ask, Flow, Reply, Task, has_words


@dataclass(frozen=True, slots=True)
class PickOne:
    """Ask the candidates in the router's order, until one answers.

    Attributes:
        attempts: How many candidates are asked at most.
        pass_refusals: Whether a refusal passes to the next candidate, too; if all refuse, the first
            refusal is the answer.
    """

    attempts: int = 3
    pass_refusals: bool = False

    def answer(self, task: Task) -> Flow:
        """One ask after the other."""
        refusal: Reply | None = None
        reply: Reply
        for candidate in task.decision.candidates[: self.attempts]:
            reply = yield Ask(candidate.model, until=has_words)
            if reply.refused and self.pass_refusals:
                refusal = refusal or reply
            elif not reply.failed:
                return reply
        return refusal or reply
