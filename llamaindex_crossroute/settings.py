"""Settings of single calls: `with call_settings(...)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Unpack

from crossroute import Constraints
from crossroute.call_settings import CallSettings, limits_of
from crossroute.ranking import check_willingness_to_pay

_SETTINGS: ContextVar[dict[str, Any] | None] = ContextVar("crossroute_call_settings", default=None)


@contextmanager
def call_settings(**settings: Unpack[CallSettings]) -> Iterator[None]:
    """Set how the calls within a `with` block are routed.

    It reaches every `CrossRouteLLM` and `CrossRouteSelector` that is called in the block: by
    `Settings.llm`, in a query engine, and in agents and workflows whose `run` is called in it. A
    block within a block overrides what it sets and keeps the rest.

        with call_settings(willingness_to_pay=0.5, excluded=["gpt-4o-mini-2024-07-18"]):
            response = query_engine.query("...")

    Args:
        **settings: Those of `crossroute.call_settings.CallSettings`: `willingness_to_pay`, `model`,
            `allowed`, `excluded`, `max_cost_usd`, `hard_max_cost_usd`, `regions`, `languages`,
            `max_data_retention_days`, `max_latency_seconds`, `shorten`.

    Raises:
        WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
        ConstraintError: If another setting makes no sense.
        TypeError: If there is no such setting.
    """
    if unknown := settings.keys() - CallSettings.__annotations__.keys():
        raise TypeError(
            f"call_settings has no {min(unknown)!r}; the settings are "
            f"{', '.join(CallSettings.__annotations__)}."
        )
    given = {name: value for name, value in settings.items() if value is not None}
    if "willingness_to_pay" in given:
        check_willingness_to_pay(given["willingness_to_pay"])
    limits_of(given)  # So that an error shows where it was made.
    token = _SETTINGS.set({**(_SETTINGS.get() or {}), **given})
    try:
        yield
    finally:
        _SETTINGS.reset(token)


def current_settings(willingness_to_pay: float) -> tuple[float, Constraints]:
    """The willingness to pay of a call, and what limits its candidates.

    Args:
        willingness_to_pay: That of calls which do not set their own.
    """
    settings = _SETTINGS.get() or {}
    return settings.get("willingness_to_pay", willingness_to_pay), limits_of(settings)
