"""Settings of single calls: `with call_settings(...)`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from crossroute import Constraints
from crossroute.reward import check_willingness_to_pay

_SETTINGS: ContextVar[dict[str, Any] | None] = ContextVar("crossroute_call_settings", default=None)


@contextmanager
def call_settings(
    *,
    willingness_to_pay: float | None = None,
    model: str | None = None,
    allowed: Collection[str] | None = None,
    excluded: Collection[str] | None = None,
    max_cost_usd: float | None = None,
    regions: Collection[str] | None = None,
    max_data_retention_days: int | None = None,
    max_latency_seconds: float | None = None,
) -> Iterator[None]:
    """Set how the calls within a `with` block are routed.

    It reaches every `CrossRouteLLM` and `CrossRouteSelector` that is called in the block: by
    `Settings.llm`, in a query engine, and in agents and workflows whose `run` is called in it. A
    block within a block overrides what it sets and keeps the rest.

        with call_settings(willingness_to_pay=0.5, excluded=["gpt-4o-mini-2024-07-18"]):
            response = query_engine.query("...")

    Args:
        willingness_to_pay: lambda, USD a unit of quality; None is the router's own.
        model: Id of the one model that may answer. It is not left when it fails.
        allowed: Ids of the models that may answer.
        excluded: Ids of the models that may not.
        max_cost_usd: The most that a call may cost, as predicted, in USD.
        regions: Where the model may run, by its descriptor.
        max_data_retention_days: How long its vendor may keep the call, by its descriptor.
        max_latency_seconds: How long its answers usually may take, by its descriptor.

    Raises:
        WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
        ConstraintError: If another setting makes no sense.
    """
    if willingness_to_pay is not None:
        check_willingness_to_pay(willingness_to_pay)
    settings = {
        "willingness_to_pay": willingness_to_pay,
        "model": model,
        "allowed": allowed,
        "excluded": excluded,
        "max_cost_usd": max_cost_usd,
        "regions": regions,
        "max_data_retention_days": max_data_retention_days,
        "max_latency_seconds": max_latency_seconds,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    token = _SETTINGS.set({**(_SETTINGS.get() or {}), **given})
    try:
        current_settings(0)  # So that an error shows where it was made.
        yield
    finally:
        _SETTINGS.reset(token)


def current_settings(willingness_to_pay: float) -> tuple[float, Constraints]:
    """The willingness to pay of a call, and what limits its candidates.

    Args:
        willingness_to_pay: That of calls which do not set their own.
    """
    settings = dict(_SETTINGS.get() or {})
    willingness_to_pay = settings.pop("willingness_to_pay", willingness_to_pay)
    return willingness_to_pay, Constraints(**settings)
