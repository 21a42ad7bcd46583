"""The money of a collection: what may still be begun, and what must wait or stay undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossroute.traffic.journal import Journal

ROUNDING = 1e-9
"""Of a budget: what sums of floats may be off."""


class OutOfBudgetError(Exception):
    """What a call can cost at most is more than is left. For `collect` itself only."""


class Purse:
    """Lets a call begin only if the most that it can cost is left.

    Args:
        budget_usd: What all calls of the journal may cost, in USD, with those of earlier runs.
        journal: Knows what was spent and what is under way.

    Attributes:
        promised_usd: What the prompts that were begun are expected to cost.
        is_closed: Whether something could not be paid: nothing further is begun.
    """

    def __init__(self, budget_usd: float, journal: Journal) -> None:
        self.budget_usd = budget_usd
        self.promised_usd = 0.0
        self.is_closed = False
        self._journal = journal
        self._begun = 0
        self._changed = asyncio.Condition()

    @property
    def left_usd(self) -> float:
        """What is neither spent nor held for a call under way."""
        return self.budget_usd - self._journal.spent_usd - self._journal.held_usd

    async def promise(self, expected_usd: float, largest_usd: float) -> bool:
        """Begin a prompt, as soon as it looks as if all of it could be paid.

        Args:
            expected_usd: What it is expected to cost.
            largest_usd: The most that one of its calls can cost.

        Returns:
            Whether it is begun: False once the budget is closed.
        """
        need = expected_usd + largest_usd

        def fits() -> bool:
            return not self.is_closed and need <= self.left_usd - self.promised_usd + ROUNDING

        if not await self._wait(fits, lambda: self._begun > 0 and not self.is_closed):
            await self.close()
            return False
        self._begun += 1
        self.promised_usd += expected_usd
        return True

    async def end(self, expected_usd: float) -> None:
        """A prompt is done, or given up."""
        self._begun -= 1
        self.promised_usd -= expected_usd
        await self._tell()

    async def hold(self, most_usd: float) -> int:
        """Begin a call, as soon as the most that it can cost is left; returns its number.

        Raises:
            OutOfBudgetError: If it is not, and no call is under way that could cost less than it
                may.
        """

        def fits() -> bool:
            return most_usd <= self.left_usd + ROUNDING

        if not await self._wait(fits, lambda: self._journal.held_usd > 0):
            await self.close()
            raise OutOfBudgetError
        return self._journal.begin(most_usd)

    async def close(self) -> None:
        """Begin nothing further; what is begun goes on as far as it can be paid."""
        self.is_closed = True
        await self._tell()

    async def settled(self) -> None:
        """A call has ended, and the journal knows it."""
        await self._tell()

    async def _wait(self, fits: Callable[[], bool], is_hope: Callable[[], bool]) -> bool:
        """Wait until something fits, for as long as others may give something back."""
        async with self._changed:
            while not fits():
                if not is_hope():
                    return False
                await self._changed.wait()
        return True

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
