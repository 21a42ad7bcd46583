"""From traffic to a decision to switch routing on, and the watch that is kept after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossroute.traffic.goal import Goal
    from crossroute.traffic.planning import Plan, plan

__all__ = ["Goal", "Plan", "plan"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # What a module may hold.
    # A recorder needs nothing of what a plan needs.
    if name == "Goal":
        from crossroute.traffic.goal import Goal

        return Goal
    if name in ("Plan", "plan"):
        from crossroute.traffic import planning

        return getattr(planning, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
