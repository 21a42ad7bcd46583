"""A panel: models that are asked in turn until one of their answers is likely enough to be right.

`crossroute.training.panels` learns them from scored answers; a file of them is read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from crossroute.errors import DataError, problems
from crossroute.files import read_file, replace_file
from crossroute.models.fields import ModelId, Strict, Text
from crossroute.network.predictor import logistic
from crossroute.strategies.jury import FloatArray, Jury, Weight, quality_log_odds

FILE = "strategies.json"
"""The name under which they lie in the folder of a checkpoint."""
MOST_BYTES = 16 * 2**20
MOST_MODELS, MOST_STOPS, MOST_PANELS = 20, 50, 1_000

DatasetName = Annotated[str, Field(max_length=100)]
Probability = Annotated[FiniteFloat, Field(gt=0, le=1)]


class Curve(Strict):
    """A probability that depends on the predicted quality of k models."""

    intercept: Weight
    slopes: Annotated[tuple[Weight, ...], Field(min_length=2, max_length=MOST_MODELS)]
    """Of the log-odds of each model's predicted quality."""

    def at(self, odds: FloatArray) -> FloatArray:
        """The probability [n] at log-odds [n, k]."""
        return logistic(self.intercept + odds @ np.array(self.slopes))


class Stop(Strict):
    """How sure a panel is to be, and what that is expected to bring."""

    at: Probability
    """Nobody else is asked as soon as the leading answer is right with this probability."""
    quality: Curve
    """Of the answer."""
    asked: tuple[Curve, ...]
    """Whether the second model is asked, the third, ..."""


class Expected(NamedTuple):
    """What the s stops of a panel are expected to bring for n queries.

    Attributes:
        quality: [n, s] of the answer, 0..1.
        cost_usd: [n, s] in USD.
    """

    quality: FloatArray
    cost_usd: FloatArray


class Panel(Strict):
    """Models that are asked in turn."""

    models: Annotated[tuple[ModelId, ...], Field(min_length=2, max_length=MOST_MODELS)]
    """In the order in which they are asked."""
    jury: Jury
    """How sure their answers make."""
    stops: Annotated[tuple[Stop, ...], Field(min_length=1, max_length=MOST_STOPS)]
    dataset: DatasetName | None = None
    """Name of the data set that it was chosen on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        k = len(self.models)
        if len(set(self.models)) < k:
            raise ValueError("models names a model twice")
        if missing := [model for model in self.models if model not in self.jury.jurors]:
            raise ValueError(f"jury lacks {missing[0]!r}")
        for stop in self.stops:
            curves = (stop.quality, *stop.asked)
            if len(curves) != k or any(len(curve.slopes) != k for curve in curves):
                raise ValueError(
                    f"a stop of {k} models takes {k - 1} curves as asked, and {k} slopes a curve"
                )
        return self

    def expected(self, quality: FloatArray, cost_usd: FloatArray) -> Expected:
        """What each stop is expected to bring.

        Args:
            quality: [n, k] predicted of the models.
            cost_usd: [n, k] predicted, in USD.
        """
        odds = quality_log_odds(quality)
        reached = np.stack(
            [np.stack([curve.at(odds) for curve in stop.asked], axis=1) for stop in self.stops],
            axis=1,
        )
        return Expected(
            np.stack([stop.quality.at(odds) for stop in self.stops], axis=1),
            cost_usd[:, :1] + (reached * cost_usd[:, None, 1:]).sum(axis=2),
        )


class Panels(Strict):
    """Panels that are worth having, as they stand in a file."""

    version: Literal[1] = 1
    checkpoint: Text | None = None
    """Id of the checkpoint on whose predictions they were learned."""
    panels: Annotated[tuple[Panel, ...], Field(max_length=MOST_PANELS)] = ()

    @classmethod
    def load(cls, path: str | Path) -> Panels:
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
                f"{path}: no strategies can be read: {said}. Write them again with crossroute "
                "train FILE --answers FOLDER --out FOLDER, or crossroute plan FILE --answers "
                "FOLDER --write FILE."
            ) from None

    def save(self, path: str | Path) -> None:
        """Write them as JSON, whole or not at all."""
        replace_file(Path(path), self.model_dump_json(indent=1) + "\n")
