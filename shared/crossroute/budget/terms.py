"""What a budget is for, as it was given: checked, and as plain values."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Self

import numpy as np

from crossroute.errors import ConstraintError, shortened
from crossroute.ranking import amount


class Terms(NamedTuple):
    """What a budget is for.

    Attributes:
        budget_usd: For all requests.
        horizon: How many requests it is for, or how long.
        by_model: The most of it that single models may cost, in USD, by their ids.
        window: The most that may be spent in each span of time, and the span; None is no limit.
    """

    budget_usd: float
    horizon: int | timedelta
    by_model: Mapping[str, float]
    window: tuple[float, timedelta] | None

    @classmethod
    def of(
        cls,
        budget_usd: object,
        horizon: object,
        by_model: Mapping[str, object] | None,
        window: object,
    ) -> Self:
        """Check what was given.

        Raises:
            ConstraintError: If a budget is no number from 0 up, or a horizon or a window is none.
        """
        if by_model is not None and not isinstance(by_model, Mapping):
            raise ConstraintError(
                f"by_model is {shortened(by_model)}; give a mapping of model ids to USD."
            )
        return cls(
            usd_from_0(budget_usd, "budget_usd"),
            _horizon(horizon),
            {
                model: usd_from_0(most, f"by_model[{shortened(model)}]")
                for model, most in (by_model or {}).items()
            },
            None if window is None else _window(window),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, which `from_dict` reads."""
        horizon, window = self.horizon, self.window
        lasts = {"seconds": horizon.total_seconds()} if isinstance(horizon, timedelta) else horizon
        return {
            "budget_usd": self.budget_usd,
            "horizon": lasts,
            "by_model": self.by_model,
            "window": window and [window[0], window[1].total_seconds()],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Self:  # noqa: ANN401  # Whatever a file holds.
        """Read them.

        Raises:
            LookupError: If one is missing.
            TypeError: If they are none of these.
            ValueError: Likewise.
        """
        horizon, window = values["horizon"], values["window"]
        return cls.of(
            values["budget_usd"],
            timedelta(seconds=horizon["seconds"]) if isinstance(horizon, dict) else horizon,
            values["by_model"],
            window and (window[0], timedelta(seconds=window[1])),
        )


def usd_from_0(value: object, name: str) -> float:
    """A sum as a float.

    Raises:
        ConstraintError: If it is no number from 0 up.
    """
    found = amount(value)
    if found is None or math.isinf(found):
        raise ConstraintError(f"{name} is {shortened(value)}; give a number of USD from 0 up.")
    return found


def _horizon(value: object) -> int | timedelta:
    if isinstance(value, timedelta) and value > timedelta(0):
        return value
    if isinstance(value, (int, np.integer)) and value is not True and 0 < value <= sys.maxsize:
        return int(value)
    raise ConstraintError(
        f"horizon is {shortened(value)}; give the number of requests that the budget is for, from "
        "1 up, or a datetime.timedelta above 0."
    )


def _window(value: object) -> tuple[float, timedelta]:
    if isinstance(value, tuple) and len(value) == 2:
        most, span = value
        if isinstance(span, timedelta) and span > timedelta(0):
            return usd_from_0(most, "window"), span
    raise ConstraintError(
        f"window is {shortened(value)}; give the USD and the span of time that they are for, such "
        "as (0.5, timedelta(hours=1))."
    )
