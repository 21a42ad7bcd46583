"""What the arguments of strategies and signals must be."""

from __future__ import annotations

from collections.abc import Sequence
from sys import float_info

from crossroute.errors import ConstraintError, shortened


def check_members(models: object, samples: object, name: str, *, least: int) -> None:
    """See that there are models or a number of samples, and not both.

    Raises:
        ConstraintError: If it is otherwise.
    """
    given = check_models(models, name)
    check_count("samples", samples, least=0)
    if bool(given) == bool(samples):
        raise ConstraintError(
            f"{name} is {shortened(models)} and samples is {samples!r}; give one of the two."
        )
    count = len(given) if given else samples
    if isinstance(count, int) and count < least:
        raise ConstraintError(
            f"{name if given else 'samples'} makes {count}; give {least} or more."
        )


def check_models(models: object, name: str) -> Sequence[str]:
    """Ids of models that were given, perhaps none.

    Raises:
        ConstraintError: If they are something else, or one is there twice.
    """
    if isinstance(models, str) or not isinstance(models, Sequence):
        raise ConstraintError(f"{name} is {shortened(models)}; give a tuple of ids of models.")
    if wrong := [one for one in models if not isinstance(one, str) or not one]:
        raise ConstraintError(f"{name} holds {shortened(wrong[0])}; give ids of models.")
    if len(set(models)) < len(models):
        raise ConstraintError(f"{name} names a model twice: {shortened(models)}; give each once.")
    return models


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """See that something is a whole number.

    Raises:
        ConstraintError: If it is none, or smaller than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConstraintError(f"{name} is {shortened(value)}; give a whole number from {least} up.")


def check_share(name: str, value: object) -> None:
    """See that something is a share or None.

    Raises:
        ConstraintError: If it is neither.
    """
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ConstraintError(f"{name} is {shortened(value)}; give a number from 0 to 1, or None.")


def check_text(name: str, value: object) -> None:
    """See that something is a text with words in it, or None.

    Raises:
        ConstraintError: If it is neither.
    """
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise ConstraintError(f"{name} is {shortened(value)}; give a text, or None.")


def check_flag(name: str, value: object) -> None:
    """See that something is true or false.

    Raises:
        ConstraintError: If it is neither.
    """
    if not isinstance(value, bool):
        raise ConstraintError(f"{name} is {shortened(value)}; give True or False.")


def check_positive(name: str, value: object) -> None:
    """See that something is a finite positive number or None.

    Raises:
        ConstraintError: If it is neither.
    """
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # An integer may be larger than any number to reckon with.
    if not is_number or not 0 < value <= float_info.max:  # type: ignore[operator]
        raise ConstraintError(
            f"{name} is {shortened(value)}; give a finite number above 0, or None."
        )


def check_extractor(extract: object) -> None:
    """See that something can be an extractor.

    Raises:
        ConstraintError: If it is no function.
    """
    if not callable(extract):
        raise ConstraintError(
            f"extract is {shortened(extract)}; give a function of a text, such as "
            "crossroute.strategies.answers.final_answer."
        )
