"""Calibration: what a signal's value says of how likely a draft of a model is right.

Which signal tells right from wrong, and at which value, depends on the model more than on the task
(arXiv 2502.04428): so there is one calibration a model and signal, learned from drafts that were
scored. It is an isotonic regression, beside which the router's own prediction counts as far as
held-out rows show that it should:

    logit p = logit isotonic(value) + prior * (logit predicted - mean logit predicted)

Rows are learned from with scikit-learn; to use a calibration, it is not loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from crossroute.errors import ConstraintError, DataError, problems
from crossroute.files import read_file, replace_file
from crossroute.lines import read_lines
from crossroute.models.fields import ModelId, PositiveCount, Strict
from crossroute.strategies.isotonic import (
    LARGEST,
    MOST_POINTS,
    FloatArray,
    checked,
    choose_prior,
    combined,
    held_out,
    isotonic,
    log_odds,
)

MOST_BYTES = 64 * 2**20
"""Of a file."""
ROUNDING = 1e-9

Value = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]
SignalName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Percentiles = Annotated[tuple[Probability, ...], Field(min_length=101, max_length=101)]


class CalibrationRow(BaseModel):
    """A draft that was scored: what a signal said of it, and whether it was right."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: ModelId
    """Whose draft it was."""
    signal: SignalName
    """Name of the signal."""
    value: Value
    """What it said."""
    right: Probability
    """Whether the draft was right: true or false, or a score from 0 to 1."""
    predicted: Probability | None = None
    """Quality that the router had predicted of this model for this query."""


class Threshold(NamedTuple):
    """A probability below which drafts are escalated.

    Attributes:
        p: The probability; infinite where every draft is.
        reached: Of the target, what it comes to on the rows of the calibration.
        holds: Whether it reaches the target.
    """

    p: float
    reached: float
    holds: bool


class Calibration(Strict):
    """What one signal says of the drafts of one model."""

    model: ModelId
    """Whose drafts."""
    signal: SignalName
    """Name of the signal."""
    x: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_POINTS)]
    """Values of the signal, increasing."""
    p: Annotated[tuple[Probability, ...], Field(min_length=1, max_length=MOST_POINTS)]
    """Probability that the draft is right at each of them; between them it is interpolated."""
    examples: PositiveCount
    """Drafts that it was learned from."""
    base: Probability
    """How many of these were right."""
    prior: Probability = 0.0
    """Weight of the router's own prediction beside the signal."""
    mean_logit: FiniteFloat = 0.0
    """Mean logit of the router's own predictions."""
    signal_percentiles: Percentiles
    """Percentiles, from 0 to 100, of the probability that the signal alone gives."""
    percentiles: Percentiles
    """Those of the probability with the router's own prediction."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if len(self.x) != len(self.p):
            raise ValueError(f"x has {len(self.x)} numbers and p has {len(self.p)}; give as many")
        if any(one >= other for one, other in pairwise(self.x)):
            raise ValueError("x must increase")
        for name in ("p", "signal_percentiles", "percentiles"):
            numbers = getattr(self, name)
            if any(one > other for one, other in pairwise(numbers)):
                raise ValueError(f"{name} must not decrease")
        return self

    @classmethod
    def fit(
        cls,
        values: Sequence[float] | FloatArray,
        right: Sequence[float] | FloatArray,
        predicted: Sequence[float] | FloatArray | None = None,
        *,
        model: str,
        signal: str,
    ) -> Calibration:
        """Learn from drafts that were scored.

        Args:
            values: [n] what the signal said.
            right: [n] whether each draft was right, 0..1.
            predicted: [n] qualities that the router predicted; None where nobody knows them, so
                that the signal alone counts.
            model: Whose drafts they are.
            signal: Name of the signal.

        Raises:
            DataError: If they are too few, of different numbers, no numbers, or all the same.
            MissingExtraError: If scikit-learn is not installed.
        """
        who = f"{signal} of {model}"
        value, truth, quality = checked(who, values, right, predicted)
        curve = isotonic(value, truth)
        own = curve.at(value)
        prior, mean_logit, p = 0.0, 0.0, own
        if quality is not None:
            mean_logit = float(log_odds(quality).mean())
            prior = choose_prior(truth, held_out(value, truth), quality)
            p = combined(own, prior, quality, mean_logit, len(value))
        return cls(
            model=model,
            signal=signal,
            x=tuple(curve.x.tolist()),
            p=tuple(curve.p.tolist()),
            examples=len(value),
            base=float(truth.mean()),
            prior=prior,
            mean_logit=mean_logit,
            signal_percentiles=_percentiles(own),
            percentiles=_percentiles(p),
        )

    def probability(self, value: float, predicted: float | None = None) -> float:
        """The probability that a draft is right.

        Args:
            value: What the signal says of it.
            predicted: The quality that the router predicts; None leaves it out.
        """
        own = np.interp(value, self.x, self.p)
        return float(self._with(np.asarray(own, dtype=np.float64), predicted))

    def spread(self, predicted: float | None = None) -> FloatArray:
        """Equally likely probabilities of a draft that is not made yet: [101], increasing."""
        return self._with(np.asarray(self.signal_percentiles), predicted)

    def threshold_at_most(self, share: float) -> Threshold:
        """The highest threshold below which there is at most a share of the drafts."""
        p = np.asarray(self.percentiles)
        # Each percentile has at most as many per cent of the drafts below it as it says.
        threshold = float(p[int(min(share, 1.0) * 100 + ROUNDING)])
        return Threshold(threshold, float((p < threshold).mean()), holds=True)

    def threshold_of(self, accuracy: float) -> Threshold:
        """The lowest threshold from which on drafts are right as often as that, in the mean."""
        p = np.asarray(self.percentiles)
        best = 0.0
        for threshold in np.unique(p).tolist():
            best = float(p[p >= threshold].mean())
            if best >= accuracy - ROUNDING:
                return Threshold(threshold, best, holds=True)
        return Threshold(float("inf"), best, holds=False)

    def lowest(self, keeps: Callable[[float], bool], predicted: float | None = None) -> float:
        """The lowest value from which on a draft is kept.

        Args:
            keeps: Whether one is kept that is right with a probability: from some on.
            predicted: The quality that the router predicts; None leaves it out.

        Returns:
            The value: minus infinity if all are kept, infinity if none is.
        """
        low, high = self.x[0], self.x[-1]
        if keeps(self.probability(low, predicted)):
            return -math.inf
        if not keeps(self.probability(high, predicted)):
            return math.inf
        while high - low > ROUNDING:
            middle = (low + high) / 2
            if middle in (low, high):
                break  # Large numbers lie further from each other.
            if keeps(self.probability(middle, predicted)):
                high = middle
            else:
                low = middle
        return high

    def _with(self, own: FloatArray, predicted: float | None) -> FloatArray:
        if predicted is None:
            return own
        quality = np.asarray(predicted, dtype=np.float64)
        return combined(own, self.prior, quality, self.mean_logit, self.examples)


class Calibrations(Strict):
    """Calibrations of several models and signals, as they stand in a file."""

    version: Literal[1] = 1
    calibrations: Annotated[tuple[Calibration, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _once(self) -> Self:
        seen = set()
        for one in self.calibrations:
            if (key := (one.model, one.signal)) in seen:
                raise ValueError(
                    f"{one.signal} of {one.model} stands there twice; keep one of them"
                )
            seen.add(key)
        return self

    @classmethod
    def fit(cls, rows: Iterable[CalibrationRow | Mapping[str, Any]]) -> Calibrations:
        """Learn one calibration for each model and signal.

        Args:
            rows: Drafts that were scored, as `CalibrationRow` or its fields.

        Raises:
            DataError: If a row is none, or there are too few of a model and signal.
            MissingExtraError: If scikit-learn is not installed.
        """
        groups: dict[tuple[str, str], list[CalibrationRow]] = {}
        for number, row in enumerate(rows, 1):
            one = row if isinstance(row, CalibrationRow) else _row(row, f"row {number}")
            groups.setdefault((one.model, one.signal), []).append(one)
        if not groups:
            raise DataError("There are no rows to calibrate on; give some of scored drafts.")
        return cls(
            calibrations=tuple(
                Calibration.fit(
                    [one.value for one in group],
                    [one.right for one in group],
                    _predictions(group),
                    model=model,
                    signal=signal,
                )
                for (model, signal), group in groups.items()
            )
        )

    @classmethod
    def fit_file(cls, path: str | Path) -> Calibrations:
        """`fit` on JSON lines with `model`, `signal`, `value`, `right`, and perhaps `predicted`.

        Raises:
            DataError: If the file cannot be read, a line is no row, or there are too few.
            MissingExtraError: If scikit-learn is not installed.
        """
        return cls.fit(read_rows(path))

    @classmethod
    def load(cls, path: str | Path) -> Calibrations:
        """Read what `save` has written.

        Raises:
            DataError: If the file cannot be read, or is none.
        """
        path = Path(path)
        try:
            return cls.model_validate_json(read_file(path, MOST_BYTES))
        except (OSError, ValueError) as error:
            said = problems(error, cls) if isinstance(error, ValidationError) else str(error)
            raise DataError(
                f"{path}: no calibrations can be read: {said}. Write them with Calibrations.save."
            ) from None

    def save(self, path: str | Path) -> None:
        """Write them as JSON, whole or not at all."""
        replace_file(Path(path), self.model_dump_json(indent=1) + "\n")

    def get(self, model: str, signal: str) -> Calibration | None:
        """The calibration of a signal of a model, None if there is none."""
        # There are few: a mapping of them would be one more thing that is saved.
        found = (one for one in self.calibrations if (one.model, one.signal) == (model, signal))
        return next(found, None)


def check_calibrations(calibrations: object) -> Calibrations:
    """Calibrations that were given, or none.

    Raises:
        ConstraintError: If they are something else.
    """
    if calibrations is None:
        return Calibrations()
    if not isinstance(calibrations, Calibrations):
        raise ConstraintError(
            f"calibrations is {type(calibrations).__name__}; give what Calibrations.fit or "
            "Calibrations.load returns."
        )
    return calibrations


def read_rows(path: str | Path) -> Iterator[CalibrationRow]:
    """The rows of a file of JSON lines.

    Raises:
        DataError: If the file cannot be read, or a line is no row.
    """
    path = Path(path)
    for number, line in read_lines(path):
        yield _row(line, f"{path}:{number}")


def _percentiles(p: FloatArray) -> tuple[float, ...]:
    # Those of rows, not between them: so at most as many rows are below one as it says.
    found: list[float] = np.percentile(p, np.arange(101), method="lower").tolist()
    return tuple(found)


def _row(content: Mapping[str, Any] | bytes, place: str) -> CalibrationRow:
    try:
        if isinstance(content, bytes):
            return CalibrationRow.model_validate_json(content)
        return CalibrationRow.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{place}: not a row: {problems(error, CalibrationRow)}.") from None


def _predictions(group: Sequence[CalibrationRow]) -> list[float] | None:
    found = [one.predicted for one in group if one.predicted is not None]
    if found and len(found) < len(group):
        raise DataError(
            f"{group[0].signal} of {group[0].model}: predicted stands in {len(found)} of "
            f"{len(group)} rows; give it in all of them or in none."
        )
    return found or None
