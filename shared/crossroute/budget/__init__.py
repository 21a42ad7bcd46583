"""Many requests, one budget: arrays in, decisions out. No strategy, no request is made here."""

from __future__ import annotations

from crossroute.budget.allocation import Allocation, Asked, Expected

__all__ = ["Allocation", "Asked", "Expected"]
