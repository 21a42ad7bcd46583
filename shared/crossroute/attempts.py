"""What both integrations tell of candidates that failed before another one answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from crossroute.decision import Decision

PASSING_STATUSES = frozenset({408, 409, 429, *range(500, 600)})
"""HTTP statuses by which a failure is the server's and not the request's: another may do better."""

REFUSED = "refused"
"""Stands for the error of a candidate that answered, but refused to."""

SHOWN_CHARACTERS = 200


class Failure(TypedDict):
    """A candidate that failed, and how."""

    model: str
    error: str


def describe(error: BaseException) -> str:
    """An error in a line of text."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def note(error: BaseException, failures: Sequence[Failure]) -> None:
    """Say in an error's notes which candidates failed before it is raised."""
    if failures:
        tried = "; ".join(f"{failure['model']}: {failure['error']}" for failure in failures)
        error.add_note(f"CrossRoute tried, in this order: {tried}.")


def after(decision: Decision, failures: Sequence[Failure]) -> dict[str, Any]:
    """A decision as plain values, with the candidate as its model that comes after those failed.

    Args:
        decision: Its candidates stand in the order in which they are tried.
        failures: One for each candidate that was tried.
    """
    told = decision.to_dict()
    if not failures:
        return told
    next_one = decision.candidates[len(failures)]
    return told | {
        "model": next_one.model,
        "quality": next_one.quality,
        "cost_usd": next_one.cost_usd,
        "kept": False,
        "attempts": list(failures),
    }
