"""Signals: what tells a draft that is right from one that is wrong.

A signal gives a number that is higher for drafts that are likelier right. What the number means,
its calibration says, for each model by itself (`crossroute.strategies.calibration`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from crossroute.errors import ConstraintError, shortened
from crossroute.query import Message
from crossroute.strategies.answers import Extractor, final_answer
from crossroute.strategies.base import Ask, Reply, Task
from crossroute.strategies.checks import check_count, check_extractor, check_members, check_positive

Reading = Generator[Ask | tuple[Ask, ...], Any, float | None]
"""Yields what to ask beside the draft, as a flow does; returns what the signal says, None where it
cannot say."""

LEAST_LOGPROB = -100.0
"""Of a token; of some that were not sampled, providers say minus infinity or less."""
READ_CHARACTERS = 200
"""Of a reply to a question for a number or a word."""

CONFIDENCE_QUESTION = (
    "How sure are you that your answer above is right? Reply with a number from 0 to 1 alone, "
    "where 0 is surely wrong and 1 is surely right."
)
TRUE_QUESTION = "Is your answer above right? Reply with one word, True or False."

_SHARE = re.compile(
    r"(?<![\w.-])(\d{1,9}(?:[.,]\d{1,9})?|\.\d{1,9})(?:\s?(%)|\s?(?:/|out of)\s?(\d{1,9})\b)?"
)
_TRUE = re.compile(r" ?(?:(true)|false)\b", re.IGNORECASE)


@runtime_checkable
class Signal(Protocol):
    """Something that tells right drafts from wrong ones."""

    @property
    def name(self) -> str:
        """Under which it is calibrated."""
        ...

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """The ask of a draft as the signal needs it; None if its model cannot give the signal."""
        ...

    def cost_usd(self, task: Task, model: str) -> float:
        """Predicted cost of reading it of a draft of a model, beside the draft itself, in USD."""
        ...

    def read(self, task: Task, draft: Reply) -> Reading:
        """What it says of a draft that is done, perhaps after further asks.

        It never fails: where a further ask does, it cannot say.
        """
        ...


@dataclass(frozen=True, slots=True)
class MeanLogprob:
    """The mean log-probability of the draft's tokens, of models whose descriptor has `logprobs`.

    Attributes:
        name: Under which it is calibrated.
    """

    name: str = "mean_logprob"

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """With log-probabilities."""
        return _with_logprobs(task, ask)

    def cost_usd(self, task: Task, model: str) -> float:  # noqa: ARG002
        """Nothing more."""
        return 0.0

    def read(self, task: Task, draft: Reply) -> Reading:  # noqa: ARG002
        """The mean; None where the provider gave none."""
        yield from ()  # It asks nothing more.
        return self.of(draft)

    def of(self, draft: Reply) -> float | None:
        """`read`, at once."""
        logprobs = known_logprobs(draft)
        return math.fsum(logprobs) / len(logprobs) if logprobs else None


@dataclass(frozen=True, slots=True)
class MinLogprob:
    """The log-probability of the draft's least likely token, of models with `logprobs`.

    Attributes:
        name: Under which it is calibrated.
    """

    name: str = "min_logprob"

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """With log-probabilities."""
        return _with_logprobs(task, ask)

    def cost_usd(self, task: Task, model: str) -> float:  # noqa: ARG002
        """Nothing more."""
        return 0.0

    def read(self, task: Task, draft: Reply) -> Reading:  # noqa: ARG002
        """The least; None where the provider gave none."""
        yield from ()
        return self.of(draft)

    def of(self, draft: Reply) -> float | None:
        """`read`, at once."""
        return min(known_logprobs(draft), default=None)


@dataclass(frozen=True, slots=True)
class WindowLogprob:
    """The mean log-probability of the least likely tokens in a row, of models with `logprobs`.

    It is what a `Handoff` goes by while a draft is made: the lowest mean of any `window` tokens.

    Attributes:
        window: How many tokens are a row; a shorter draft is one as a whole.
    """

    window: int = 20

    def __post_init__(self) -> None:
        check_count("window", self.window)

    @property
    def name(self) -> str:
        """Under which it is calibrated: another one for each window."""
        return f"window_logprob_{self.window}"

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """With log-probabilities."""
        return _with_logprobs(task, ask)

    def cost_usd(self, task: Task, model: str) -> float:  # noqa: ARG002
        """Nothing more."""
        return 0.0

    def read(self, task: Task, draft: Reply) -> Reading:  # noqa: ARG002
        """The lowest mean; None where the provider gave none."""
        yield from ()
        return self.of(draft)

    def of(self, draft: Reply) -> float | None:
        """`read`, at once."""
        logprobs, window = known_logprobs(draft), self.window
        if len(logprobs) <= window:
            return math.fsum(logprobs) / len(logprobs) if logprobs else None
        rows = (logprobs[at : at + window] for at in range(len(logprobs) - window + 1))
        return min(map(math.fsum, rows)) / window


@dataclass(frozen=True, slots=True)
class StatedConfidence:
    """What the model itself says, asked how sure it is of its draft; any model can.

    Attributes:
        question: Asks for a number from 0 to 1; per cent and `8/10` are read, too.
        max_tokens: Longest reply. One that reasons first needs more.
        seconds: Time limit.
        name: Under which it is calibrated.
    """

    question: str = CONFIDENCE_QUESTION
    max_tokens: int = 16
    seconds: float | None = None
    name: str = "stated_confidence"

    def __post_init__(self) -> None:
        _check_question(self.question, self.max_tokens, self.seconds)

    def prepared(self, task: Task, ask: Ask) -> Ask | None:  # noqa: ARG002
        """As it is."""
        return ask

    def cost_usd(self, task: Task, model: str) -> float:
        """That of the question."""
        return _question_cost(task, model)

    def read(self, task: Task, draft: Reply) -> Reading:  # noqa: ARG002
        """The number, 0..1; None if there is none in the reply."""
        settings = {"max_tokens": self.max_tokens}
        reply: Reply = yield _question(draft, self.question, settings, self.seconds, self.name)
        return None if reply.failed or reply.refused else stated_share(reply.text)


@dataclass(frozen=True, slots=True)
class PTrue:
    """How probable it is to the model that its draft is right: P(True) of the first token.

    Of models whose descriptor has `logprobs`.

    Attributes:
        question: To be answered by `True` or `False`.
        max_tokens: Longest reply.
        seconds: Time limit.
        name: Under which it is calibrated.
    """

    question: str = TRUE_QUESTION
    max_tokens: int = 4
    seconds: float | None = None
    name: str = "p_true"

    def __post_init__(self) -> None:
        _check_question(self.question, self.max_tokens, self.seconds)

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """As it is, if the model gives log-probabilities."""
        return ask if task.can(ask.model, "logprobs") else None

    def cost_usd(self, task: Task, model: str) -> float:
        """That of the question."""
        return _question_cost(task, model)

    def read(self, task: Task, draft: Reply) -> Reading:
        """The probability, 0..1; None where the reply is another word, or has no probability."""
        if not task.can(draft.model, "logprobs"):
            return None
        settings = {"logprobs": True, "max_tokens": self.max_tokens}
        reply: Reply = yield _question(draft, self.question, settings, self.seconds, self.name)
        # At its very beginning, so that the first token is that of the word.
        found = None if reply.failed else _TRUE.match(reply.text)
        first = reply.logprobs[0] if reply.logprobs else math.nan
        if found is None or math.isnan(first):
            return None
        p = math.exp(min(first, 0.0))
        return p if found[1] else 1 - p


@dataclass(frozen=True, slots=True)
class Agreement:
    """The share of further drafts that say what the draft says; any model can.

    They are asked at once: of other candidates, or as fresh samples of the draft's own model. Those
    that fail are left out; those that say nothing that could be compared do not agree.

    Attributes:
        others: Ids of the models that are asked beside; those that are no candidates of the call,
            and the draft's own, are left out.
        samples: How many samples of its own are drawn instead.
        extract: What of a text is compared.
        temperature: Of the samples; None is the client's own, which must not be 0.
        seconds: Time limit of each.
        name: Under which it is calibrated: another one for each choice of others.
    """

    others: Sequence[str] = ()
    samples: int = 0
    extract: Extractor = final_answer
    temperature: float | None = None
    seconds: float | None = None
    name: str = "agreement"

    def __post_init__(self) -> None:
        check_members(self.others, self.samples, "others", least=1)
        check_positive("seconds", self.seconds)
        check_positive("temperature", self.temperature)
        if self.others and self.temperature is not None:
            raise ConstraintError("temperature is of samples; give samples, not others.")
        check_extractor(self.extract)

    def prepared(self, task: Task, ask: Ask) -> Ask | None:
        """As it is, if there is somebody else to ask."""
        return ask if self.samples or self._others(task, ask.model) else None

    def cost_usd(self, task: Task, model: str) -> float:
        """That of the further drafts."""
        cost = {one.model: one.cost_usd for one in task.decision.candidates}
        if self.samples:
            return self.samples * cost[model]
        return math.fsum(cost[other] for other in self._others(task, model))

    def read(self, task: Task, draft: Reply) -> Reading:
        """The share, 0..1; None if the draft says nothing to compare, or all others fail."""
        said = self.extract(draft.text)
        models = [draft.model] * self.samples or self._others(task, draft.model)
        if said is None or not models:
            return None
        sampled = {} if self.temperature is None else {"temperature": self.temperature}
        one = Ask(
            draft.model,
            role="draft",
            seconds=self.seconds,
            fresh=bool(self.samples),
            settings=sampled if self.samples else {},
            reason=f"to compare with the draft of {draft.model}",
        )
        replies: Sequence[Reply] = yield tuple(replace(one, model=model) for model in models)
        others = [reply for reply in replies if not reply.failed]
        if not others:
            return None
        return sum(self.extract(other.text) == said for other in others) / len(others)

    def _others(self, task: Task, model: str) -> list[str]:
        candidates = {one.model for one in task.decision.candidates}
        return [other for other in self.others if other in candidates and other != model]


def known_logprobs(reply: Reply) -> list[float]:
    """The log-probabilities of a reply's tokens, none of them below `LEAST_LOGPROB`."""
    return [max(one, LEAST_LOGPROB) for one in reply.logprobs if not math.isnan(one)]


def stated_share(text: str) -> float | None:
    """The first number of a text as a share, 0..1: `0.8`, `0,8`, `80 %`, `80`, `8/10`."""
    found = _SHARE.search(text[:READ_CHARACTERS])
    if found is None:
        return None
    # Many languages write a comma for the point.
    number, percent, whole = float(found[1].replace(",", ".")), found[2], found[3]
    if whole is not None:
        share = number / float(whole) if float(whole) else math.inf
    else:
        share = number / 100 if percent or number > 1 else number
    return share if share <= 1 else None


def check_signals(signals: object) -> tuple[Signal, ...]:
    """Signals that were given.

    Raises:
        ConstraintError: If they are none, or two have the same name.
    """
    if isinstance(signals, str) or not isinstance(signals, Sequence):
        raise ConstraintError(
            f"signals is {shortened(signals)}; give a tuple of them, such as (MeanLogprob(),)."
        )
    for signal in signals:
        if not isinstance(signal, Signal) or isinstance(signal, type):
            raise ConstraintError(
                f"signals holds {shortened(signal)}; give objects with name, prepared, cost_usd "
                "and read, such as MeanLogprob()."
            )
    names = [signal.name for signal in signals]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ConstraintError(
                f"signals has one whose name is {shortened(name)}; give the text under which it is "
                "calibrated."
            )
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConstraintError(
            f"signals has {shortened(twice[0])} more than once; give each a name of its own, since "
            "it is calibrated under it."
        )
    return tuple(signals)


def _with_logprobs(task: Task, ask: Ask) -> Ask | None:
    if not task.can(ask.model, "logprobs"):
        return None
    return replace(ask, settings={**ask.settings, "logprobs": True})


def _question(
    draft: Reply, text: str, settings: Mapping[str, Any], seconds: float | None, name: str
) -> Ask:
    """A question to a model about its draft."""
    then: list[Message] = [
        {"role": "assistant", "content": draft.text},
        {"role": "user", "content": text},
    ]
    return Ask(
        draft.model,
        then=then,
        settings=settings,
        role="judge",
        seconds=seconds,
        reason=f"{name} of the draft",
    )


def _question_cost(task: Task, model: str) -> float:
    """Predicted cost of a question about a draft, at most that of the draft, which it reads."""
    return next(one.cost_usd for one in task.decision.candidates if one.model == model)


def _check_question(question: object, max_tokens: object, seconds: object) -> None:
    if not isinstance(question, str) or not question.strip():
        raise ConstraintError(f"question is {shortened(question)}; give a question as text.")
    check_count("max_tokens", max_tokens)
    check_positive("seconds", seconds)
