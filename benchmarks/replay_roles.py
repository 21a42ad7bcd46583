"""What replayed models say where no answer is asked for: as judges, and as controllers.

Nobody has recorded a judgement. A judge is taken to know its own recorded answer, and how often
answers are right that are like it, and that are not; both are counted on other rows. Beside it
stands a blind judge, who knows nothing. A controller follows a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from replay import Part, Policy, Prompt, Replay, shown_in

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


def knowing(replay: Replay, ask: Ask) -> Part:
    """What an aggregator would say that knows what is right: the most that any could reach.

    It says what is best of the answers that it is shown, and of its own.
    """
    mine = replay.prompt.answers[ask.model]
    best = max(filter(None, shown_in(ask)), key=replay.prompt.score, default=None)
    if best is None or replay.prompt.score(best) <= mine.score:
        return Part(mine.text, mine.output_tokens, mine.score)
    return Part(mine._replace(says=best).text, mine.output_tokens, replay.prompt.score(best))


def controlling(experts: int) -> Policy:
    """What a controller says: it passes the question on to some experts, and takes what they say.

    It asks those whose predicted quality is the highest. Of the answers of several, and its own
    recorded one, it takes what most say; of equals its own. That of one it takes as it is.

    Args:
        experts: How many.
    """

    def control(replay: Replay, ask: Ask) -> Part:
        shown = [says for says in shown_in(ask) if says]
        has_asked = any(message.get("role") == "tool" for message in ask.then)
        if has_asked and len(shown) == 1:
            [says] = shown
            mine = replay.prompt.answers[ask.model]
            text = mine._replace(says=says).text
            return Part(text, mine.output_tokens, replay.prompt.score(says))
        if has_asked or not ask.tools:
            return replay.answer(ask)
        best = [
            one.model
            for one in sorted(replay.prompt.task.decision.candidates, key=lambda one: -one.quality)
            if one.model != ask.model
        ][:experts]
        question = replay.prompt.task.query.text
        calls = [
            ToolCall(tool_of(ask, model), {"question": question}, f"call-{number}")
            for number, model in enumerate(best)
        ]
        # It writes the question anew for each of them.
        return Part("", len(calls) * estimate_tokens(question), 0.0, calls)

    return control


def tool_of(ask: Ask, model: str) -> str:
    """The name of the tool that asks a model, which its description names."""
    functions = [tool["function"] for tool in ask.tools]
    [name] = [str(one["name"]) for one in functions if model in str(one["description"])]
    return name
