"""PickOne: the preferred candidate answers, and where it fails the next one."""

from __future__ import annotations

from dataclasses import dataclass

from crossroute.strategies.base import Ask, Flow, Reply, Task, begun, has_words


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
        # Of a refusal that may be the answer in the end, all is read.
        until = has_words if self.pass_refusals else begun
        left, refusal = self.attempts, None
        candidates = list(task.decision.candidates)
        while candidates:
            candidate = candidates.pop(0)
            reply: Reply = yield Ask(candidate.model, until=until)
            if reply.refused and self.pass_refusals:
                refusal = refusal or reply
            elif not reply.failed:
                return reply
            left -= reply.was_asked
            if not left:
                break
            candidates = task.going_on_after(candidate.model, candidates)
        return refusal or reply
