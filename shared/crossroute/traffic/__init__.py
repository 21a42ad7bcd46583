"""From traffic to a decision to switch routing on, and the watch that is kept after."""

from __future__ import annotations

from crossroute.traffic.goal import Goal
from crossroute.traffic.planning import Plan, plan

__all__ = ["Goal", "Plan", "plan"]
