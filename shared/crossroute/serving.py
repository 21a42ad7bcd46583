"""What is predicted for queries, and which models may serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import Reason
from crossroute.query import Query

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What n queries would get from m models.

    Attributes:
        models: Ids of the m models.
        quality: [n, m] predicted quality, 0..1.
        cost_usd: [n, m] predicted cost in USD.
        output_tokens: [n, m] predicted output tokens; NaN for a model that was trained on costs
            without token counts.
        input_tokens: [n] estimated input tokens.
    """

    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    output_tokens: FloatArray
    input_tokens: FloatArray


class Serving(NamedTuple):
    """What is predicted for n queries, and who may serve them.

    Attributes:
        queries: The n queries.
        predictions: Of all models of the pool.
        removed: Why models may not serve a query, for each query by their ids.
    """

    queries: Sequence[Query]
    predictions: Predictions
    removed: Sequence[Mapping[str, list[Reason]]]

    @property
    def models(self) -> list[str]:
        """Those that may serve one of the queries at least."""
        return [
            model
            for model in self.predictions.models
            if any(model not in reasons for reasons in self.removed)
        ]

    @property
    def allowed(self) -> NDArray[np.bool_] | None:
        """[n, m] whether a model may serve a query, one at least; None is every model."""
        if not any(self.removed):
            return None
        found = np.ones(self.predictions.quality.shape, np.bool_)
        column = {model: j for j, model in enumerate(self.predictions.models)}
        for i, reasons in enumerate(self.removed):
            found[i, [column[model] for model in reasons]] = False
        return found
