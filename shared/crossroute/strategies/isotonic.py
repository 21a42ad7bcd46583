"""Isotonic regression of rightness on a signal, and the weight of a prediction beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import DataError, MissingExtraError
from crossroute.network.predictor import logistic

FloatArray = NDArray[np.float64]

LEAST_ROWS = 50
"""Of one model and signal: fewer say too little of how often a draft is right."""
LARGEST = 1e12
"""Of the values of a signal."""
MOST_POINTS = 1_000
"""Of a calibration; an isotonic regression of more rows is thinned to these."""
FOLDS = 5
"""In which rows are held out."""
PRIORS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the router's own prediction that are tried."""
LEAST_P = 1e-4
"""Probabilities are held at least this far from 0 and 1 in logits, those of routers too."""


class Quality(NamedTuple):
    """How well a signal tells right from wrong, on rows that were held out.

    Attributes:
        auroc: Probability that a right draft has the higher value than a wrong one; .5 is chance.
        ece_before: Expected calibration error of the value as it is, of a log-probability its
            exponential; None where it is no probability.
        ece_after: That of the calibrated probability.
        log_loss: Mean log loss of the calibrated probability.
        prior: The weight of the router's own prediction that was chosen.
    """

    auroc: float
    ece_before: float | None
    ece_after: float
    log_loss: float
    prior: float


class Curve(NamedTuple):
    """A probability at values between which it is interpolated.

    Attributes:
        x: [k] values, increasing.
        p: [k] probabilities, not decreasing.
    """

    x: FloatArray
    p: FloatArray

    def at(self, values: FloatArray) -> FloatArray:
        """The probabilities at values of any shape."""
        return np.interp(values, self.x, self.p)


def log_odds(p: float | FloatArray, least: float = LEAST_P) -> FloatArray:
    """The logit of probabilities of any shape, which are held this far from 0 and 1 at least."""
    held = np.clip(p, least, 1 - least)
    return np.asarray(np.log(held / (1 - held)))


def isotonic(value: FloatArray, truth: FloatArray) -> Curve:
    """The curve of rightness over values, both [n].

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error

    # Laplace's rule of succession, that keeps the order: beside the rows, a right one at the lowest
    # value and a wrong one at the highest. With n rows no probability is nearer to 0 or 1 than
    # 1 / (n + 2), and the less so, the fewer rows speak for it.
    found = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True).fit(
        np.concatenate([value, [value.min(), value.max()]]), np.concatenate([truth, [1.0, 0.0]])
    )
    x = np.asarray(found.X_thresholds_, dtype=np.float64)
    p = np.clip(np.asarray(found.y_thresholds_, dtype=np.float64), 0.0, 1.0)
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return Curve(x[kept], p[kept])


def held_out(value: FloatArray, truth: FloatArray) -> FloatArray:
    """The probability of each row by a curve of the other folds."""
    order = np.random.default_rng(0).permutation(len(value))
    p = np.empty(len(value))
    for fold in range(FOLDS):
        out = np.zeros(len(value), dtype=bool)
        out[order[fold::FOLDS]] = True
        p[out] = isotonic(value[~out], truth[~out]).at(value[out])
    return p


def choose_prior(truth: FloatArray, p: FloatArray, quality: FloatArray) -> float:
    """The weight with the least log loss, if the rows can tell it from 0."""
    mean_logit = float(log_odds(quality).mean())
    alone = _log_losses(p, truth)
    gains = [
        alone - _log_losses(combined(p, prior, quality, mean_logit, len(p)), truth)
        for prior in PRIORS
    ]
    best = int(np.argmax([gain.mean() for gain in gains]))
    error = gains[best].std() / np.sqrt(len(truth))
    return PRIORS[best] if gains[best].mean() > error else 0.0


def combined(
    p: FloatArray, prior: float, quality: FloatArray, mean_logit: float, examples: int
) -> FloatArray:
    """Probabilities with predictions beside them, as far as these count.

    Args:
        p: Of the signal, any shape.
        prior: Weight of the predictions.
        quality: Predicted, of a shape that goes with it.
        mean_logit: Mean logit of predictions.
        examples: Rows that the probabilities were learned from, which bound how sure they can be.
    """
    if not prior:
        return p
    least = 1 / (examples + 2)
    found = logistic(log_odds(p) + prior * (log_odds(quality) - mean_logit))
    return np.clip(found, least, 1 - least)


def _log_losses(p: FloatArray, truth: FloatArray) -> FloatArray:
    held = np.clip(p, LEAST_P, 1 - LEAST_P)
    return np.asarray(-truth * np.log(held) - (1 - truth) * np.log(1 - held))


def cross_check(
    values: Sequence[float] | FloatArray,
    right: Sequence[float] | FloatArray,
    predicted: Sequence[float] | FloatArray | None = None,
) -> Quality:
    """How well a signal tells right from wrong, each row held out of what it is measured by.

    Args:
        values: [n] what the signal said.
        right: [n] whether each draft was right, 0..1.
        predicted: [n] qualities that the router predicted.

    Raises:
        DataError: As `Calibration.fit`.
        MissingExtraError: If scikit-learn is not installed.
    """
    # Whoever uses a calibration evaluates nothing.
    from crossroute.evaluation.metrics import auroc, expected_calibration_error

    value, truth, quality = checked("the signal", values, right, predicted)
    p = held_out(value, truth)
    prior = 0.0
    if quality is not None:
        prior = choose_prior(truth, p, quality)
        p = combined(p, prior, quality, float(log_odds(quality).mean()), len(p))
    before = np.exp(value) if (value <= 0).all() else value
    is_share = bool(((before >= 0) & (before <= 1)).all())
    return Quality(
        auroc(value, truth),
        expected_calibration_error(before, truth) if is_share else None,
        expected_calibration_error(p, truth),
        float(_log_losses(p, truth).mean()),
        prior,
    )


def checked(
    who: str,
    values: Sequence[float] | FloatArray,
    right: Sequence[float] | FloatArray,
    predicted: Sequence[float] | FloatArray | None,
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """The columns of the rows as arrays [n].

    Args:
        who: What errors call the signal.
        values: What it said.
        right: Whether each draft was right, 0..1.
        predicted: Predicted qualities.

    Raises:
        DataError: If they cannot be learned from.
    """

    def column(name: str, numbers: Sequence[float] | FloatArray) -> FloatArray:
        try:
            found = np.asarray(numbers, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{who}: {name} holds what is no number: {error}.") from error
        if found.ndim != 1:
            raise DataError(f"{who}: {name} has {found.ndim} dimensions; give one number a draft.")
        least, most = (-LARGEST, LARGEST) if name == "values" else (0.0, 1.0)
        wrong = ~((found >= least) & (found <= most))  # NaN, too.
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"{who}: {name}[{at}] is {found[at]}; give a number from {least:g} to {most:g}, or "
                "leave the draft out."
            )
        return found

    value, truth = column("values", values), column("right", right)
    quality = None if predicted is None else column("predicted", predicted)
    for name, other in (("right", truth), ("predicted", quality)):
        if other is not None and len(other) != len(value):
            raise DataError(
                f"{who}: there are {len(value)} values and {len(other)} of {name}; give one each."
            )
    if len(value) < LEAST_ROWS:
        raise DataError(
            f"{who}: {len(value)} scored drafts are too few to calibrate on; give {LEAST_ROWS} or "
            "more."
        )
    if not value.min() < value.max():
        raise DataError(
            f"{who}: every value is {value[0]}, which tells no draft from another; use another "
            "signal for this model."
        )
    return value, truth, quality
