"""What the answers of each model to each prompt scored and cost, or would have.

Where a prompt has the answers of several models, they say it. A log has one answer a prompt; where
a recorder explored, each with the probability with which its model was asked, a doubly robust
estimate stands in for the others (Dudik et al., arXiv 1103.4601):

    estimate(i, j) = predicted(i, j) + 1[j answered i] * (realised(i) - predicted(i, j)) / p(i)

whose mean over the rows is right in expectation for whatever choice of models, however wrong the
prediction is, as long as it was made without the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]


class Outcomes(NamedTuple):
    """Scores and costs of n rows by m models.

    Attributes:
        score: [n, m] scores, or estimates of them whose mean is right; NaN where there is none.
        cost_usd: [n, m] costs in USD likewise.
        worst: No score is further from another than this.
    """

    score: FloatArray
    cost_usd: FloatArray
    worst: float = 1.0

    @property
    def known(self) -> BoolArray:
        """[n, m] whether there is a score and a cost."""
        return np.asarray(~np.isnan(self.score + self.cost_usd))

    @classmethod
    def estimated(cls, data: RoutingData, quality: FloatArray, cost_usd: FloatArray) -> Outcomes:
        """Doubly robust estimates of logs with one answer a prompt.

        Args:
            data: Rows whose answers have a `probability`.
            quality: [n, m] predicted without the row.
            cost_usd: [n, m] likewise.
        """
        seen = ~np.isnan(data.score + data.cost_usd + data.probability)
        weight = np.where(seen, 1 / np.where(seen, data.probability, 1.0), 0.0)

        def robust(predicted: FloatArray, realised: FloatArray) -> FloatArray:
            return np.asarray(
                predicted + weight * np.where(seen, np.nan_to_num(realised) - predicted, 0.0)
            )

        return cls(
            robust(quality, data.score),
            robust(cost_usd, data.cost_usd),
            worst=float(weight.max(initial=1.0)),
        )

    def beside(self, score: FloatArray, cost_usd: FloatArray) -> Outcomes:
        """With further ways to answer, by scores and costs [n, a]."""
        return self._replace(
            score=np.concatenate([self.score, score], axis=1),
            cost_usd=np.concatenate([self.cost_usd, cost_usd], axis=1),
        )

    def of(self, chosen: NDArray[np.integer[Any]], rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scores and costs of choices [..., k] at rows [k]."""
        return self.score[rows, chosen], self.cost_usd[rows, chosen]
