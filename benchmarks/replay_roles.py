"""What replayed models say where no answer is asked for: as judges, and as controllers.

Nobody has recorded a judgement. A judge is taken to know its own recorded answer, and how often
answers are right that are like it, and that are not; both are counted on other rows. Beside it
stands a blind judge, who knows nothing. A controller follows a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from replay import Part, Policy, Prompt, Replay, Sureness, shown_in

from crossroute.query import estimate_tokens
from crossroute.strategies import Ask, ToolCall

BLIND = 0.5
"""What a judge says who knows nothing."""


@dataclass(frozen=True)
class Judges:
    """How right answers are, of which a judge knows what itself would have answered.

    Attributes:
        alike: Mean score of the others' answers that are the judge's own, by its id.
        other: Of those that are not.
        own: Of its own answers.
    """

    alike: Mapping[str, float]
    other: Mapping[str, float]
    own: Mapping[str, float]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Judges:
        """Counted on prompts that nothing else is measured on."""
        alike, other, own = {}, {}, {}
        for judge in prompts[0].answers:
            scores: dict[bool, list[float]] = {True: [], False: []}
            for prompt in prompts:
                mine = prompt.answers[judge].says
                for model, one in prompt.answers.items():
                    if model != judge and one.says is not None:
                        scores[one.says == mine].append(one.score)
            alike[judge], other[judge] = (
                float(np.mean(scores[is_alike])) if scores[is_alike] else BLIND
                for is_alike in (True, False)
            )
            own[judge] = float(np.mean([prompt.answers[judge].score for prompt in prompts]))
        return cls(alike, other, own)

    def score(self, judge: str, prompt: Prompt, says: str | None, *, is_own: bool) -> float:
        """What a judge says of an answer: nothing found in it is no answer at all."""
        if says is None:
            return 0.0
        if is_own:
            return self.own[judge]
        is_alike = prompt.answers[judge].says == says
        return (self.alike if is_alike else self.other)[judge]


def judging(judges: Judges | None) -> Policy:
    """What judges say: of one answer a number, of several a line for each.

    Args:
        judges: None are blind.
    """

    def judge(replay: Replay, ask: Ask) -> Part:
        own = next((one["content"] for one in ask.then if one.get("role") == "assistant"), None)
        scores = [
            BLIND
            if judges is None
            else judges.score(ask.model, replay.prompt, says, is_own=own is not None)
            for says in shown_in(ask)
        ]
        lines = [f"{score:.3f}" for score in scores]
        if own is None and len(lines) > 1:
            lines = [f"{number}: {line}" for number, line in enumerate(lines, 1)]
        text = "\n".join(lines)
        return Part(text, estimate_tokens(text), 0.0)

    return judge


SURE, UNSURE = -0.01, -5.0
"""Log-probabilities of tokens."""


def knows(prompt: Prompt, model: str) -> float:
    """Log-probabilities of a model that knows when it is wrong: no signal tells better."""
    return SURE if prompt.answers[model].score >= 0.5 else UNSURE


def guesses(share: float) -> Sureness:
    """Log-probabilities that say nothing, and are low in a share of the answers."""

    def guess(prompt: Prompt, model: str) -> float:
        drawn = crc32(f"{model}: {prompt.task.query.text}".encode("utf-8", "replace"))
        return UNSURE if drawn < share * 2**32 else SURE

    return guess


def knowing(replay: Replay, ask: Ask) -> Part:
    """What an aggregator would say that knows what is right: the most that any could reach.

    It says what is best of the answers that it is shown, and of its own.
    """
    mine = replay.prompt.answers[ask.model]
    best = max(filter(None, shown_in(ask)), key=replay.score, default=None)
    if best is None or replay.score(best) <= mine.score:
        return Part(mine.text, mine.output_tokens, mine.score)
    return Part(mine._replace(says=best).text, mine.output_tokens, replay.score(best))


def controlling(experts: int) -> Policy:
    """What a controller says by a script, which is no model's.

    It passes the question on to the experts that the router prefers, and then answers: by one
    expert, with what that says; by several, with what most say of them and of its own recorded
    answer, of equals its own. Where it would ask one, and the router prefers itself, it answers.

    Args:
        experts: How many it asks.
    """

    def control(replay: Replay, ask: Ask) -> Part:
        shown = shown_in(ask)
        if shown:
            return replay.answer(ask) if experts > 1 else relayed(replay, ask.model, shown[0])
        tools = {
            model: tool
            for model in replay.prompt.answers
            if (tool := tool_of(ask, model)) is not None
        }
        order = [one.model for one in replay.prompt.task.decision.candidates]
        best = [model for model in order if model in tools][:experts]
        if experts == 1 and order.index(ask.model) < order.index(best[0]):
            return replay.answer(ask)
        # It writes the question anew for each of them.
        question = replay.prompt.task.query.text
        calls = [
            ToolCall(tools[model], {"question": question}, f"call-{number}")
            for number, model in enumerate(best)
        ]
        return Part("", len(calls) * estimate_tokens(question), 0.0, calls)

    return control


def relayed(replay: Replay, model: str, says: str | None) -> Part:
    """What another one has said, in a model's own words."""
    mine = replay.prompt.answers[model]
    return Part(mine._replace(says=says).text, mine.output_tokens, replay.score(says))


def tool_of(ask: Ask, model: str) -> str | None:
    """The name of the tool that asks a model, which its description names; None without one."""
    functions = [tool["function"] for tool in ask.tools]
    found = [one["name"] for one in functions if f" {model}:" in str(one["description"])]
    return found[0] if found else None
