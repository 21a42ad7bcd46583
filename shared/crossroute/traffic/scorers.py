"""Scores that need no judge: by a check, by a reference answer, or by a function of the user."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crossroute.errors import DataError, did_you_mean, shortened
from crossroute.onboarding.anchors import Check, Choice, Contains, Exact, Number
from crossroute.ranking import amount
from crossroute.traffic.cases import Case, shown

ScoreFunction = Callable[..., object]
"""Called with the prompt, the answer's text, and the reference or None; gives 0..1."""

LEAST_CONTAINED = 3
"""Characters of a reference that may stand among words; a shorter one must be the whole answer."""


class Scorer(NamedTuple):
    """Scores the answers to some prompts.

    Attributes:
        name: What it is called in the files.
        takes: Whether it can score answers to a prompt.
        score: The score of an answer's text, 0..1.
    """

    name: str
    takes: Callable[[Case], bool]
    score: Callable[[Case, str], float]


def by_check() -> Scorer:
    """Scores by the prompts' checks."""

    def score(case: Case, text: str) -> float:
        return float(case.check is not None and case.check.accepts(text))

    return Scorer("check", lambda case: case.check is not None, score)


def by_reference() -> Scorer:
    """Scores 1 where the answer says what the reference says, and 0 elsewhere.

    The same number, the same letter of an option, or the same words: alone, as what the answer
    states, or, if the reference is long enough, anywhere in it.
    """

    def score(case: Case, text: str) -> float:
        return float(any(check.accepts(text) for check in checks_of(case.reference or "")))

    return Scorer("reference", lambda case: case.reference is not None, score)


def checks_of(reference: str) -> Sequence[Check]:
    """The shipped checks, one of which accepts an answer that says what a reference says."""
    if re.fullmatch(r"[A-J]", reference):
        return [Choice(kind="choice", answer=reference)]
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?|[-+]?\d{1,15}(\.\d{1,15})?", reference):
        return [Number(kind="number", answer=float(reference.replace(",", "")))]
    exact = Exact(kind="exact", answers=(reference,))
    if len(re.sub(r"\W", "", reference)) < LEAST_CONTAINED:
        return [exact]
    return [exact, Contains(kind="contains", all=(reference,))]


def by_function(function: ScoreFunction, name: str) -> Scorer:
    """Scores by a function of the user, for every prompt.

    Args:
        function: Called as `function(prompt, answer, reference)`.
        name: What errors call it.
    """

    def score(case: Case, text: str) -> float:
        given = function(case.prompt, text, case.reference)
        number = float(given) if isinstance(given, bool) else amount(given)
        if number is None or number > 1:
            raise DataError(
                f"{name} gave {shortened(given)} for the answer to {shown(case)}; give a number "
                "from 0 to 1."
            )
        return number

    return Scorer(name, lambda _: True, score)


def load_scorer(name: str) -> Scorer:
    """A scorer by its name.

    Args:
        name: `check`, `reference`, or `package.module:function`.

    Raises:
        DataError: If there is none of that name.
    """
    if name in (own := {"check": by_check, "reference": by_reference}):
        return own[name]()
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise DataError(
            f"There is no score {shortened(name)}{did_you_mean(name, own)} Give check, reference, "
            "or a function of your own as package.module:function."
        )
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"{name}: the function cannot be imported: {error}") from error
    if not callable(function):
        raise DataError(f"{name}: is {type(function).__name__}, not a function.")
    return by_function(function, name)
