"""What predictions come to on scored answers: corrected by one half of them, checked on the other.

That a floor on quality is kept to by predictions says little: routers of this kind were found to
keep their floors in every fifth case (PROTEUS, arXiv 2601.19402).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.decision import usd
from crossroute.errors import SHOWN_IDS, DataError, shortened
from crossroute.models.pool import ModelPool
from crossroute.network.predictor import logistic
from crossroute.query import QueryLike
from crossroute.serving import Predictions
from crossroute.strategies.isotonic import log_odds
from crossroute.training.data import RoutingData

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEWEST_ROWS = 40
"""Half of them check: fewer say nothing."""
COMMON, OWN, SLOPE = 3.0, 0.5, 0.25
"""Standard deviations, before any row: of the shift of all models in logits, of a model's own
beside it, and of the slope around 1."""
FACTOR_ROWS = 10.0
"""To how many rows a cost that is predicted right weighs up."""
STEPS, HALVINGS = 50, 30
SIGMA = 1.96
"""Standard errors on either side in a 95 % interval."""


class Mean(NamedTuple):
    """A mean over rows, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> Mean:
        """Of the values of rows [n], of which there are two at least."""
        mean = float(values.mean())
        error = SIGMA * float(values.std(ddof=1)) / math.sqrt(len(values))
        return cls(mean, mean - error, mean + error)


class Checked(NamedTuple):
    """How what was asked, predicted and realised compare on scored answers, in the mean a query.

    Attributes:
        rows: How many rows were decided in the same way.
        asked_quality: The floor that was asked for; None if there was a budget.
        predicted_quality: After the correction, 0..1.
        quality: The realised score.
        predicted_cost_usd: After the correction.
        cost_usd: The realised cost, in USD.
    """

    rows: int
    asked_quality: float | None
    predicted_quality: float
    quality: Mean
    predicted_cost_usd: float
    cost_usd: Mean

    @property
    def floor_holds(self) -> bool | None:
        """Whether the floor is kept to: False where it surely is not, None where that is open.

        True where there is none.
        """
        if self.asked_quality is None or self.quality.low >= self.asked_quality:
            return True
        return False if self.quality.high < self.asked_quality else None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON-ready values."""
        return {
            **self._asdict(),
            "quality": self.quality._asdict(),
            "cost_usd": self.cost_usd._asdict(),
            "floor_holds": self.floor_holds,
        }

    def __str__(self) -> str:
        quality, cost = self.quality, self.cost_usd
        lines = [
            f"realised on {self.rows} held-out rows, decided alike: quality "
            f"{quality.mean:.4f} ({quality.low:.4f} to {quality.high:.4f}), predicted "
            f"{self.predicted_quality:.4f}; {usd(cost.mean)} a query ({usd(max(cost.low, 0.0))} to "
            f"{usd(cost.high)}), predicted {usd(self.predicted_cost_usd)}"
        ]
        if self.floor_holds is None:
            lines.append(
                f"whether the floor of {self.asked_quality:g} holds is open: more held-out rows "
                "would tell"
            )
        elif not self.floor_holds:
            lines.append(
                f"the floor of {self.asked_quality:g} does not hold: the predictions cannot carry "
                "it here"
            )
        return "\n".join(lines)


class _Correction(NamedTuple):
    """What scored answers say of predictions.

        logit quality = common + own_m + centre + slope (logit predicted - centre)

    Attributes:
        models: The m models that have any.
        common: Of all models.
        own: [m] of each beside that.
        slope: From 0 up, around the centre, which is the mean logit of what was predicted.
        centre: That.
        factor: [m] of cost.
    """

    models: Sequence[str]
    common: float
    own: FloatArray
    slope: float
    centre: float
    factor: FloatArray

    def apply(
        self, models: Sequence[str], quality: FloatArray, cost_usd: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Predictions [n, m] of models, those without scored answers as the others in the mean."""
        of = {model: j for j, model in enumerate(self.models)}
        usual = float(np.exp(np.log(self.factor).mean()))
        own = np.array([self.own[of[m]] if m in of else 0.0 for m in models])
        factors = np.array([self.factor[of[m]] if m in of else usual for m in models])
        away = log_odds(quality) - self.centre
        logit = self.common + own + self.centre + self.slope * away
        return logistic(logit), cost_usd * factors


class HeldOutHalves:
    """Scored answers in two halves: one corrects predictions, the other checks decisions.

    Attributes:
        models: The m models of the rows.

    Args:
        models: The same.
        quality: [n, m] predicted.
        cost_usd: [n, m] predicted.
        score: [n, m] realised, NaN where unknown.
        paid_usd: [n, m] realised cost, NaN where unknown.
        checks: [n] the rows of the half that checks.
    """

    def __init__(
        self,
        models: Sequence[str],
        quality: FloatArray,
        cost_usd: FloatArray,
        score: FloatArray,
        paid_usd: FloatArray,
        checks: BoolArray,
    ) -> None:
        past = ~checks
        self._correction = _fitted(
            models, quality[past], cost_usd[past], score[past], paid_usd[past]
        )
        self.models = models
        self._predicted = quality[checks], cost_usd[checks]
        self._score, self._paid = score[checks], paid_usd[checks]

    @classmethod
    def of(
        cls,
        data: RoutingData,
        pool: ModelPool,
        predict: Callable[[Sequence[QueryLike]], Predictions],
    ) -> HeldOutHalves:
        """Rows, as a router predicts them; those that ask the same are in one half.

        Args:
            data: The rows.
            pool: The models that may be chosen.
            predict: What is predicted of all of them, and maybe of others, for prompts.

        Raises:
            DataError: If they are no rows or too few, or say nothing of two models of the pool.
        """
        if not isinstance(data, RoutingData):
            raise DataError(
                f"held_out is {shortened(data)}; give RoutingData.load([file]), of "
                "crossroute.training.data."
            )
        known = [model for model in data.models if model in pool]
        if len(known) < 2:
            raise DataError(
                f"The held-out rows have answers of {len(known)} models of the pool that may be "
                f"chosen; two are the least. These may: {', '.join(list(pool)[:SHOWN_IDS])}."
            )
        data = data.of_models(known).priced(pool).comparable("The held-out rows")
        if len(data) < FEWEST_ROWS:
            raise DataError(
                f"{len(data)} held-out rows can be compared on; give {FEWEST_ROWS} at least, with "
                "scores and costs of the models of the pool."
            )
        checks = np.array([_is_second_half(question) for question in data.questions])
        if min(checks.sum(), (~checks).sum()) < 2:
            raise DataError("The held-out rows all ask the same; give rows of other prompts.")
        found = predict(data.prompts)
        columns = [found.models.index(model) for model in data.models]
        quality, cost = found.quality[:, columns], found.cost_usd[:, columns]
        return cls(data.models, quality, cost, data.score, data.cost_usd, checks)

    def corrected(
        self, models: Sequence[str], quality: FloatArray, cost_usd: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Predictions [n, m] as the first half corrects them."""
        return self._correction.apply(models, quality, cost_usd)

    def checked(
        self,
        value: Callable[[FloatArray, FloatArray], FloatArray],
        asked_quality: float | None,
        *,
        by_corrected: bool,
    ) -> Checked:
        """What decisions come to on the second half.

        Args:
            value: Of predicted quality and cost [n, m] of `models`, how much each is worth: the
                highest answers.
            asked_quality: The floor that was asked for; None if there was none.
            by_corrected: Whether decisions go by corrected predictions.
        """
        quality, cost = self._correction.apply(self.models, *self._predicted)
        worth = value(quality, cost) if by_corrected else value(*self._predicted)
        chosen = np.where(np.isnan(self._score), -np.inf, worth).argmax(axis=1)
        rows = np.arange(len(chosen))
        return Checked(
            rows=len(rows),
            asked_quality=asked_quality,
            predicted_quality=float(quality[rows, chosen].mean()),
            quality=Mean.of(self._score[rows, chosen]),
            predicted_cost_usd=float(cost[rows, chosen].mean()),
            cost_usd=Mean.of(self._paid[rows, chosen]),
        )


def _is_second_half(question: str) -> bool:
    return bool(hashlib.sha256(question.encode()).digest()[0] & 1)


def _fitted(
    models: Sequence[str],
    quality: FloatArray,
    cost_usd: FloatArray,
    score: FloatArray,
    paid_usd: FloatArray,
) -> _Correction:
    """Shifts, slope and factors: a logistic regression with priors, and ratios of sums.

    Newton's method, with steps that are halved until they help: a prediction that is far off would
    be thrown farther by a whole one.
    """
    known = ~np.isnan(score)
    truth = np.where(known, score, 0.0)
    predicted = log_odds(quality)
    centre = float(predicted[known].mean())
    away = predicted - centre
    # The common shift, each model's own, and by how much the slope is more than 1.
    precision = 1 / np.array([COMMON, *[OWN] * len(models), SLOPE]) ** 2

    def logit(at: FloatArray) -> FloatArray:
        return np.asarray(at[0] + at[1:-1] + predicted + at[-1] * away)

    def loss(at: FloatArray) -> float:
        z = logit(at)
        return float((known * (np.logaddexp(0.0, z) - truth * z)).sum() + precision @ at**2 / 2)

    at = np.zeros(len(models) + 2)
    for _ in range(STEPS):
        p = logistic(logit(at))
        error, weight = known * (p - truth), known * p * (1 - p)
        of_model, of_slope = weight.sum(axis=0), (weight * away).sum(axis=0)
        gradient = (
            np.concatenate([[error.sum()], error.sum(axis=0), [(error * away).sum()]])
            + precision * at
        )
        matrix = np.diag(
            np.concatenate([[of_model.sum()], of_model, [(weight * away**2).sum()]]) + precision
        )
        matrix[0, 1:-1] = matrix[1:-1, 0] = of_model
        matrix[0, -1] = matrix[-1, 0] = of_slope.sum()
        matrix[1:-1, -1] = matrix[-1, 1:-1] = of_slope
        step = np.linalg.solve(matrix, -gradient)
        before = loss(at)
        share = next((s for s in 0.5 ** np.arange(HALVINGS) if loss(at + s * step) < before), 0.0)
        at = at + share * step
        if np.abs(share * step).max() < 1e-8:
            break
    priced = ~np.isnan(paid_usd)
    expected = np.where(priced, cost_usd, 0.0)
    doubt = FACTOR_ROWS * expected.sum(axis=0) / np.maximum(priced.sum(axis=0), 1)
    paid = np.where(priced, paid_usd, 0.0).sum(axis=0)
    factor = (paid + doubt) / np.maximum(expected.sum(axis=0) + doubt, 1e-300)
    return _Correction(
        models,
        common=float(at[0]),
        own=at[1:-1],
        slope=max(1 + float(at[-1]), 0.0),
        centre=centre,
        factor=np.where(factor > 0, factor, 1.0),
    )
