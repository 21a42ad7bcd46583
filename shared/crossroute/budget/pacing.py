"""What was asked of a budget, and what has come of it: side by side."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from crossroute.decision import usd


class ModelPacing(NamedTuple):
    """What one model has been asked.

    Attributes:
        calls: Of it.
        spent_usd: What they have cost.
        budget_usd: The most that they may cost; None if there is no budget of its own.
    """

    calls: int
    spent_usd: float
    budget_usd: float | None


class Pacing(NamedTuple):
    """What was asked of a budget, and what has come of it so far.

    Attributes:
        budget_usd: For all requests.
        spent_usd: What calls that have ended have cost.
        under_way_usd: What is set aside for those that have not.
        horizon: How many requests the budget is for, or how long.
        requests: How many there were.
        predicted_usd: What the router had predicted for the calls that have ended.
        willingness_to_pay: At which the budgets are kept to now, USD a unit of quality.
        window: The most that may be spent in each span of time, and the span.
        window_usd: What was spent in this one.
        by_model: What each model was asked, by its id.
    """

    budget_usd: float
    spent_usd: float
    under_way_usd: float
    horizon: int | timedelta
    requests: int
    predicted_usd: float
    willingness_to_pay: float
    window: tuple[float, timedelta] | None
    window_usd: float
    by_model: Mapping[str, ModelPacing]

    def __str__(self) -> str:
        lines = [
            f"asked:    {usd(self.budget_usd)} for {_span(self.horizon)}",
            f"realised: {usd(self.spent_usd)} for {self.requests} requests "
            f"({usd(self.under_way_usd)} set aside for calls under way)",
            f"predicted {usd(self.predicted_usd)} for the calls that have ended",
            f"willingness to pay now: {usd(self.willingness_to_pay)} a unit of quality",
        ]
        if self.window is not None:
            most, span = self.window
            lines.append(f"this span ({span}): {usd(self.window_usd)} of {usd(most)}")
        for model, one in self.by_model.items():
            of = "" if one.budget_usd is None else f" of {usd(one.budget_usd)}"
            lines.append(f"  {model}: {one.calls} calls, {usd(one.spent_usd)}{of}")
        return "\n".join(lines)


def _span(horizon: int | timedelta) -> str:
    return str(horizon) if isinstance(horizon, timedelta) else f"{horizon} requests"
