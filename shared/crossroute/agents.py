"""Agents, chains, retrievers and tools of a pool: what they cost, and how good they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossroute.models.pool import ModelPool

FloatArray = NDArray[np.float64]

UNKNOWN_QUALITY = 0.5
"""Where nothing at all is known of any candidate: it decides nothing, as it is that of all."""


class Agents:
    """The candidates of a pool that are no models, and of which nothing was learned.

    Their quality and cost are what their descriptors say. An unknown quality is the mean of those
    agents' that is known, else that of the best model; an unknown cost is that of the dearest
    candidate, because unknown is not free.

    Args:
        pool: All candidates.
    """

    def __init__(self, pool: ModelPool) -> None:
        self._columns = [
            j for j, one in enumerate(pool.values()) if one.kind != "model" and not one.learned
        ]
        agents = [one for one in pool.values() if one.kind != "model" and not one.learned]
        self._quality = np.array([_number(one.expected_quality) for one in agents])
        self._cost_usd = np.array([_number(one.cost_usd_a_call) for one in agents])
        self.of_unknown_cost = frozenset(one.id for one in agents if one.cost_usd_a_call is None)

    def complete(self, quality: FloatArray, cost_usd: FloatArray) -> None:
        """Write the agents' columns into what is predicted of the others.

        Args:
            quality: [n, m] in the order of the pool; NaN in the agents' columns.
            cost_usd: [n, m] in USD, likewise.
        """
        for found, stated, extreme, default in (
            (quality, self._quality, _mean_or_most, UNKNOWN_QUALITY),
            (cost_usd, self._cost_usd, _most, 0.0),
        ):
            known = np.broadcast_to(stated, (len(found), len(stated)))
            other = np.where(np.isnan(known), extreme(found, stated, default)[:, None], known)
            found[:, self._columns] = other


def _mean_or_most(found: FloatArray, stated: FloatArray, default: float) -> FloatArray:
    """[n]: the mean of what agents state, else the most that is predicted of a model."""
    if not np.isnan(stated).all():
        return np.full(len(found), np.nanmean(stated))
    return _most(found, stated, default)


def _most(found: FloatArray, stated: FloatArray, default: float) -> FloatArray:
    """[n]: the most of what agents state and is predicted of models."""
    most = np.fmax.reduce(found, axis=1, initial=np.nan)
    most = np.fmax(most, np.fmax.reduce(stated, initial=np.nan))
    return np.where(np.isnan(most), default, most)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
