"""What is to be shared out between queries, and what a choice for each of them comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.ranking import first

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

CHUNK = 16_384
"""Queries looked at together, which bounds the memory beside the two tables."""


@dataclass(frozen=True)
class Problem:
    """What is to be shared out between n queries.

    Attributes:
        quality: [n, m] predicted quality, 0..1.
        cost_usd: [n, m] predicted cost in USD.
        allowed: [n, m] whether a model may answer a query, one at least; None is every model.
        most: [m] how many queries a model may get; infinite is any number.
    """

    quality: FloatArray
    cost_usd: FloatArray
    allowed: BoolArray | None
    most: FloatArray

    def __len__(self) -> int:
        return len(self.quality)

    @cached_property
    def limited(self) -> IntArray:
        """Models that may get fewer queries than there are."""
        return np.flatnonzero(self.most < len(self))

    def take(self, rows: IntArray) -> Problem:
        """Some of the queries, with limits in proportion."""
        return Problem(
            self.quality[rows],
            self.cost_usd[rows],
            None if self.allowed is None else self.allowed[rows],
            self.most * (len(rows) / len(self)),
        )

    def room(self, chosen: IntArray) -> FloatArray:
        """[m] how many queries more each model may get; below 0, it has too many."""
        load = np.bincount(chosen, minlength=len(self.most))
        return np.floor(self.most + 1e-9) - load

    def values(
        self, willingness_to_pay: float, surcharge: FloatArray
    ) -> Iterator[tuple[int, FloatArray]]:
        """The first query of each chunk, and `value_of` its queries."""
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            yield start, self.value_of(part, willingness_to_pay, surcharge)

    def value_of(
        self, rows: IntArray | slice, willingness_to_pay: float, surcharge: FloatArray
    ) -> FloatArray:
        """`lambda q - c - s` of some queries, minus infinity where a model may not answer."""
        value = willingness_to_pay * self.quality[rows].astype(np.float64, copy=False)
        value -= self.cost_usd[rows]
        value -= surcharge
        if self.allowed is not None:
            value[~self.allowed[rows]] = -np.inf
        return value


class Prices(NamedTuple):
    """By which queries are shared out.

    Attributes:
        willingness_to_pay: lambda, USD a unit of quality.
        surcharge_usd: [m] what a call of each model counts beside its cost.
    """

    willingness_to_pay: float
    surcharge_usd: FloatArray


class Choice(NamedTuple):
    """A model for each query, with what that is predicted to cost and to be worth.

    Attributes:
        chosen: [n] indices of models.
        cost_usd: The sum.
        quality: The sum.
    """

    chosen: IntArray
    cost_usd: float
    quality: float

    @classmethod
    def of(cls, problem: Problem, chosen: IntArray) -> Choice:
        """What a choice comes to."""
        rows = np.arange(len(problem))
        cost, quality = problem.cost_usd[rows, chosen], problem.quality[rows, chosen]
        return cls(chosen, float(cost.sum(dtype=float)), float(quality.sum(dtype=float)))


def chosen_by(problem: Problem, prices: Prices) -> IntArray:
    """The model of each query by prices alone; of equals the cheaper, then the better."""
    chosen = np.empty(len(problem), np.intp)
    for start, value in problem.values(*prices):
        part = slice(start, start + len(value))
        chosen[part] = first(value, problem.quality[part], problem.cost_usd[part])
    return chosen
