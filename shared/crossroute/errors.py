"""Every error CrossRoute raises on purpose, as one tree.

    CrossRouteError
    ├── QueryError               a query that cannot be routed
    ├── WillingnessToPayError    a willingness to pay that is not a number of USD
    ├── ConstraintError          a demand on the candidates that makes no sense
    ├── ContextError             a budget that what must stay of a conversation does not fit
    ├── NoCandidateError         a query that no model of the pool may serve
    ├── InfeasibleError          a demand on many queries together that cannot be met
    ├── DailySpendError          a call that no model may serve today, by what was spent
    ├── BudgetSpentError         a call that no model may serve, by what is left of a budget
    ├── RestingError             a model that was not asked, as another call tries it after a rest
    ├── AskTimeoutError          a model that was given a time limit and did not keep it
    ├── NoAnswerError            a model that answered with nothing that is an answer
    ├── UnfinishedAnswerError    a stream that ended without a finish reason
    ├── DescriptorError          a model descriptor that cannot be used
    ├── PoolError                a pool that cannot be routed over
    │   └── UnknownModelError    a model id that the pool does not hold
    ├── CheckpointError          a checkpoint that cannot be loaded
    │   └── EncoderMismatchError an encoder other than the one the checkpoint was trained on
    ├── DataError                routing data that cannot be trained or evaluated on
    ├── StrategyError            a strategy that asks what cannot be asked
    └── MissingExtraError        an optional dependency that is not installed

Messages name the file, the field and the value, and say what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crossroute.secret_text import looks_like_secret

SHOWN_IDS = 12
"""How many ids of a pool a message lists."""
SHOWN_PROBLEMS = 3
"""How many of a value's errors a message lists."""
SHOWN_CHARACTERS = 60
"""How much of a name or a value a message shows."""
SHOWN_OF_REASONS = 1_000
"""How much a message shows of what a validation says."""
MOST_SEARCHED = 10_000
"""How many characters of a value are searched for what looks like a secret."""
SHOWN_ALIKE = 3
"""How many of those for which the same is true."""
LEAST_PART = 3
"""Fewer characters of an id say nothing of which one is meant."""


class CrossRouteError(Exception):
    """Base of every error that CrossRoute raises on purpose."""


class QueryError(CrossRouteError, ValueError):
    """A query that cannot be routed, for example a message without a role."""


class WillingnessToPayError(CrossRouteError, ValueError):
    """A willingness to pay that is NaN, negative or not a number."""


class ConstraintError(CrossRouteError, ValueError):
    """A demand on the candidates of a call that makes no sense, for example a negative limit."""


class ContextError(CrossRouteError, ValueError):
    """A budget that the part of a conversation which must stay does not fit.

    Attributes:
        tokens: What must stay has.
        budget_tokens: It may have.
    """

    def __init__(self, tokens: int, budget_tokens: int) -> None:
        self.tokens = tokens
        self.budget_tokens = budget_tokens
        super().__init__(
            f"The system prompt, the last question and what follows it have {tokens} tokens, "
            f"{tokens - budget_tokens} more than budget_tokens={budget_tokens}; nothing of them is "
            f"cut. Give a budget of {tokens} or more, or shorten them."
        )


class Reason(NamedTuple):
    """Why a model may not serve a call.

    Attributes:
        text: What is in the way.
        mend: What would remove it.
    """

    text: str
    mend: str


class NoCandidateError(CrossRouteError, ValueError):
    """A query that no model of the pool may serve.

    Attributes:
        reasons: Why each model was removed, by its id.
        removed: The same as text.
        position: Of the query, where several were routed at once; None for a single one.
    """

    def __init__(
        self, reasons: Mapping[str, Sequence[Reason]], position: int | None = None
    ) -> None:
        self.reasons = dict(reasons)
        self.position = position
        # Of a large pool, most models are removed for one and the same reason.
        together: dict[str, list[str]] = {}
        for model, why in self.removed.items():
            together.setdefault(why, []).append(model)
        mends = dict.fromkeys(reason.mend for why in self.reasons.values() for reason in why)
        super().__init__(
            ("" if position is None else f"Query {position}: ")
            + "No model of the pool may serve this call:\n"
            + "\n".join(f"  {_some(models)}: {why}" for why, models in together.items())
            + f"\nTo change that: {'; or '.join(mends)}."
        )

    @property
    def removed(self) -> dict[str, str]:
        """Why each model was removed, by its id."""
        return {model: explained(why) for model, why in self.reasons.items()}


class InfeasibleError(CrossRouteError, ValueError):
    """A demand on many queries together that cannot be met, for example too small a budget."""


class AskTimeoutError(CrossRouteError, TimeoutError):
    """A model that did not answer within the time that a strategy gave it."""


class NoAnswerError(CrossRouteError):
    """A model that answered with nothing that is an answer, such as a stream without a chunk."""


class CostLimitError(CrossRouteError):
    """A candidate that was not asked: what its call may cost at most does not pay for an answer."""


class DailySpendError(CrossRouteError):
    """A call that was not asked: what was spent today has reached a ceiling."""


class BudgetSpentError(CrossRouteError):
    """A call that was not asked: what is left of a budget does not pay for it."""


class RestingError(CrossRouteError):
    """A candidate that was not asked: after its failures, another call is trying it."""


class UnfinishedAnswerError(CrossRouteError):
    """A stream that ended without a finish reason, where `strict_streams` is set."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The stream of {model!r} ended without a finish reason: the answer may be cut off. "
            "strict_streams=False lets such an answer pass, marked as unfinished."
        )


class DescriptorError(CrossRouteError, ValueError):
    """A model descriptor that cannot be read or is not valid."""


class PoolError(CrossRouteError, ValueError):
    """A pool that cannot be routed over, for example one with a single model."""


class UnknownModelError(PoolError, KeyError):
    """A model id that the pool does not hold."""

    def __init__(self, model: object, known: Iterable[str]) -> None:
        known = sorted(known)
        listed = ", ".join(known[:SHOWN_IDS]) + (", ..." if len(known) > SHOWN_IDS else "")
        super().__init__(
            f"Model {shortened(model)} is not in the pool{did_you_mean(model, known)} "
            f"The pool holds {len(known)}: {listed}."
        )

    def __str__(self) -> str:
        # KeyError would print the message in quotes.
        return str(self.args[0])


class CheckpointError(CrossRouteError, ValueError):
    """A checkpoint that is missing, damaged, or of another version."""


class EncoderMismatchError(CheckpointError):
    """An encoder other than the one that the checkpoint was trained on."""


class DataError(CrossRouteError, ValueError):
    """Routing data that cannot be read, trained on or evaluated on."""


class StrategyError(CrossRouteError, TypeError):
    """A strategy that yields or returns what no strategy may, or asks what is no candidate."""


class MissingExtraError(CrossRouteError, ImportError):
    """An optional dependency that is needed here and is not installed."""

    def __init__(self, package: str, extra: str | None = None) -> None:
        what = package if extra is None else f"'crossroute[{extra}]'"
        super().__init__(
            f"This needs the package {package!r}, which is not installed: pip install {what}."
        )


def explained(reasons: Iterable[Reason]) -> str:
    """Why a model was removed, as text."""
    return "; ".join(reason.text for reason in reasons)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean 'x'?` where known words are like it, else `.`."""
    meant = alike(word, known)
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else "."


def alike(word: object, known: Iterable[str]) -> list[str]:
    """Known words that may be meant: those that hold it, as a model's id has its date, too."""
    text, known = word if isinstance(word, str) else shortened(word), sorted(known)
    held: list[str] = []
    if len(text) >= LEAST_PART:
        held = [one for one in known if text.lower() in one.lower()]
        held.sort(key=lambda one: not one.lower().startswith(text.lower()))
    return held[:SHOWN_ALIKE] or difflib.get_close_matches(text, known, n=1)


def shortened(value: object, limit: int = 80) -> str:
    """The `repr` of a value for a message; a value that has none is named by its type."""
    try:
        text = repr(value)
    except Exception:  # Of any kind, such as that of an integer of more than 4,300 digits.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}..."


def plain(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A text of a file as a part of an error: cut, and nothing in it steers a terminal."""
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else f"{text[:limit]}..."


def problems(
    error: ValidationError,
    model: type[BaseModel],
    *,
    most: int = SHOWN_PROBLEMS,
    between: str = ". ",
    unquoted: Collection[str] = (),
) -> str:
    """What is wrong with a value, in few words, however much of it there is.

    Args:
        error: What pydantic found.
        model: What it was to be: its fields may be meant by unknown ones.
        most: How many problems are named; how many more there are, is said in the end.
        between: What stands between two problems.
        unquoted: Fields whose values are not shown, since keys stand there, or near.
    """
    found = error.errors(include_url=False)
    said = [_problem(one, model, unquoted) for one in found[:most]]
    said += [f"and {len(found) - most} more"] if len(found) > most else []
    return between.join(said)


def _problem(problem: ErrorDetails, model: type[BaseModel], unquoted: Collection[str]) -> str:
    place, kind, value = problem["loc"], problem["type"], problem["input"]
    names = [_shown(part, plain(str(part))) for part in place]
    field = ".".join(names) + ": " * bool(names)
    if kind == "extra_forbidden":
        known = _fields(model, place[:-1])
        hint = f"{did_you_mean(names[-1], known)} Known fields: {', '.join(known)}" if known else ""
        return f"{field}unknown field{hint}"
    if kind == "missing":
        return f"{field}missing; add it"
    said = plain(problem["msg"].removeprefix("Value error, "), SHOWN_OF_REASONS)
    if kind == "json_invalid" or (place and place[0] in unquoted):
        return field + said
    if isinstance(value, Mapping):
        # Of a whole, the names say nothing of what is wrong.
        inner = ", ".join(map(str, value))
        return field + said + (f", got the fields {_shown(inner, plain(inner))}" if place else "")
    if kind in ("tuple_type", "list_type"):
        return f"{field}give a list, such as [...], got {_shown(value, shortened(value))}"
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        # Unquoted, `no` (also Norwegian) and `1.0` are no text to YAML.
        return f"{field}is read as {shortened(value)}, not as text; put it in quotes"
    return f"{field}{said}, got {_shown(value, shortened(value, SHOWN_CHARACTERS))}"


def _shown(value: object, text: str) -> str:
    """The text of a value, if it does not look like a secret."""
    # Of the whole, since what is cut does not look like one any more.
    whole = value if isinstance(value, str) else shortened(value, MOST_SEARCHED)
    return "what looks like a secret" if looks_like_secret(whole[:MOST_SEARCHED]) else text


def _fields(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """The fields of a section of a model; none where it is not one of a single kind."""
    for part in place:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        sections = [
            one
            for one in (annotation, *get_args(annotation))
            if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        if len(sections) != 1:
            return []
        model = sections[0]
    return list(model.model_fields)


def _some(models: Sequence[str]) -> str:
    rest = len(models) - SHOWN_ALIKE
    return ", ".join(models[:SHOWN_ALIKE]) + (f" and {rest} more" if rest > 0 else "")
