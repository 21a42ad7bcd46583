"""Every error CrossRoute raises on purpose, as one tree.

    CrossRouteError
    ├── QueryError               a query that cannot be routed
    ├── WillingnessToPayError    a willingness to pay that is not a number of USD
    ├── ConstraintError          a demand on the candidates that makes no sense
    ├── NoCandidateError         a query that no model of the pool may serve
    ├── DescriptorError          a model descriptor that cannot be used
    ├── PoolError                a pool that cannot be routed over
    │   └── UnknownModelError    a model id that the pool does not hold
    ├── CheckpointError          a checkpoint that cannot be loaded
    │   └── EncoderMismatchError an encoder other than the one the checkpoint was trained on
    ├── DataError                routing data that cannot be trained or evaluated on
    └── MissingExtraError        an optional dependency that is not installed

Messages name the file, the field and the value, and say what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

SHOWN_IDS = 12
"""How many ids of a pool a message lists."""
SHOWN_PROBLEMS = 3
"""How many of a value's errors a message lists."""
SHOWN_CHARACTERS = 60
"""How much of a field's name a message shows."""


class CrossRouteError(Exception):
    """Base of every error that CrossRoute raises on purpose."""


class QueryError(CrossRouteError, ValueError):
    """A query that cannot be routed, for example a message without a role."""


class WillingnessToPayError(CrossRouteError, ValueError):
    """A willingness to pay that is NaN, negative or not a number."""


class ConstraintError(CrossRouteError, ValueError):
    """A demand on the candidates of a call that makes no sense, for example a negative limit."""


class NoCandidateError(CrossRouteError, ValueError):
    """A query that no model of the pool may serve.

    Attributes:
        removed: Why each model was removed, by its id.
    """

    def __init__(self, removed: Mapping[str, str]) -> None:
        self.removed = dict(removed)
        super().__init__(
            "No model of the pool may serve this call:\n"
            + "\n".join(f"  {model}: {reason}" for model, reason in removed.items())
            + "\nAdd a model that can, or change what the call demands. If a model can do what is "
            "said to be missing, write it in its descriptor, for example capabilities: [tools]."
        )


class DescriptorError(CrossRouteError, ValueError):
    """A model descriptor that cannot be read or is not valid."""


class PoolError(CrossRouteError, ValueError):
    """A pool that cannot be routed over, for example one with a single model."""


class UnknownModelError(PoolError, KeyError):
    """A model id that the pool does not hold."""

    def __init__(self, model: str, known: Iterable[str]) -> None:
        known = sorted(known)
        shown = ", ".join(known[:SHOWN_IDS]) + (", ..." if len(known) > SHOWN_IDS else "")
        super().__init__(
            f"Model {model!r} is not in the pool{did_you_mean(model, known)} "
            f"The pool holds {len(known)}: {shown}."
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


class MissingExtraError(CrossRouteError, ImportError):
    """An optional dependency that is needed here and is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package {package!r}, which is not installed: "
            f"pip install 'crossroute[{extra}]'."
        )


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean 'x'?` where a known word is close, else `.`."""
    close = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f"; did you mean {close[0]!r}?" if close else "."


def shortened(value: object, limit: int = 80) -> str:
    """The `repr` of a value for a message; a value that has none is named by its type."""
    try:
        text = repr(value)
    except Exception:  # Of any kind, such as that of an integer of more than 4,300 digits.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}..."


def problems(error: ValidationError) -> str:
    """What is wrong with a value, in few words, however much of it there is."""
    found = []
    for problem in error.errors(include_url=False)[:SHOWN_PROBLEMS]:
        names = [str(part)[:SHOWN_CHARACTERS] for part in problem["loc"]]
        field = ".".join(name if name.isprintable() else repr(name) for name in names)
        value = f", got {shortened(problem['input'])}" if problem["type"] != "json_invalid" else ""
        found.append(f"{field}: " * bool(field) + problem["msg"] + value)
    return "; ".join(found)
