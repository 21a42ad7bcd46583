"""Drift: whether later traffic gets what a router was tuned to on a sample of prompts.

A warning needs both, as in `crossroute.traffic.monitor`: that the figure is surely another one, and
that it is far enough off to matter. What the sample may be off by chance is no drift. It may be
asked after every call without growing the chance of a false warning: each figure is a bet against
"it is no further off than that", whose capital cannot be expected to grow while that is true
(`crossroute.traffic.guarantee`; Ville's inequality). Bets for drifts that are found soon and late
are made side by side.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import numpy as np

from crossroute.budget.share import FloatArray, Sample, Target
from crossroute.decision import CandidateScore, Decision, usd
from crossroute.traffic.guarantee import stake

logger = logging.getLogger(__name__)

Kind = Literal["share", "cost", "quality"]
"""Of a figure: share of a model, mean predicted cost, mean predicted quality."""

ERROR = 0.01
"""Probability of a warning although nothing is further off than it may be."""
BY_CHANCE = 2.58
"""Standard errors that the sample may be off: in 99 of 100 it is less."""
HORIZONS = (100, 1_000, 10_000)
"""Calls within which a drift is to be found."""


class Drift:
    """Sees later decisions, and warns once if they are not as asked; safe in many threads.

        watch = tuned.watch()
        watch.seen(decision)

    A recorder tells it of all calls: `CrossRouteRecorder("records.jsonl", watch=watch)`.

    Args:
        asked: What a router was tuned to.
        sample: What the sample got.
        share_off: Share of the calls by which a model's may be off.
        cost_off: Share of the mean cost by which that may be off.
        quality_off: By how much the mean quality may be off.
        warn: Whether to log a warning.

    Attributes:
        alarm: What is off, and what to do; None for as long as nothing is.
    """

    def __init__(
        self,
        asked: Target,
        sample: Sample,
        *,
        share_off: float,
        cost_off: float,
        quality_off: float,
        warn: bool = True,
    ) -> None:
        self.alarm: str | None = None
        self._asked = asked
        self._sample = sample
        self._warns = warn
        self._lock = threading.Lock()
        self._calls = 0
        self._models: Counter[str] = Counter()
        self._cost_usd = 0.0
        self._quality = 0.0
        self._bets = list(_bets(asked, sample, share_off, cost_off, quality_off))

    @property
    def calls(self) -> int:
        """How many decisions it has seen."""
        return self._calls

    @property
    def shares(self) -> dict[str, float]:
        """Share of the calls that models got, and those that were asked for: the largest first."""
        with self._lock:
            models = {**dict.fromkeys(self._asked.shares, 0), **self._models}
            shares = {model: count / max(self._calls, 1) for model, count in models.items()}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def cost_usd(self) -> float:
        """Mean predicted cost, in USD; NaN before the first call."""
        return self._cost_usd / self._calls if self._calls else math.nan

    @property
    def quality(self) -> float:
        """Mean predicted quality; NaN before the first call."""
        return self._quality / self._calls if self._calls else math.nan

    def seen(self, decision: Decision) -> None:
        """Take a decision into account: what the router itself chose, in shadow, too."""
        one = decision if decision.shadow is None else decision.shadow
        with self._lock:
            self._calls += 1
            self._models[one.model] += 1
            self._cost_usd += one.cost_usd
            self._quality += one.quality
            if self.alarm is not None:
                return
            # All of them: what one call says is lost to none.
            lost = [bet for bet in self._bets if bet.lost(bet.value_of(one))]
            if not lost:
                return
            self.alarm = text = self._said(lost[0])
        if self._warns:
            logger.warning("%s", text)

    def _said(self, bet: _Bet) -> str:
        calls = f"{self._calls:,} calls"
        if bet.kind == "cost":
            before = usd(float(self._sample.cost_usd.mean()))
            what = f"{calls} are predicted to cost {usd(self.cost_usd)} in the mean, not "
            what += f"{before} as the sample"
        elif bet.kind == "quality":
            what = f"{calls} are predicted a quality of {self.quality:.3f} in the mean, not "
            what += f"{self._sample.quality.mean():.3f} as the sample"
        else:
            got = self._models[bet.model] / self._calls
            share = self._asked.shares[bet.model]
            what = f"{bet.model} gets {got:.1%} of {calls}, not {share:.1%} as it was tuned to"
        return (
            f"{what}: other prompts come in than the {len(self._sample.quality):,} it was tuned "
            "on, or models fail or rest. Tune again on new prompts (crossroute tune)."
        )


class _Bet:
    """A bet that the mean of a figure is above a limit, or below.

    Args:
        kind: What it is of.
        model: Whose share it is; empty where it is none.
        scale: The most that the figure can be; what is more counts as that.
        sample: [n] of the figure.
        limit: Within the scale.
        above: Whether the mean may not be above it; else, not below.
        error: Probability of losing although it is not.
    """

    def __init__(
        self,
        kind: Kind,
        model: str,
        scale: float,
        sample: FloatArray,
        limit: float,
        *,
        above: bool,
        error: float,
    ) -> None:
        self.kind = kind
        self.model = model
        self._scale, self._limit = scale, limit / scale
        self._sign = 1.0 if above else -1.0
        self._most = math.log(1 / error)
        moment = float(((np.minimum(sample / scale, 1.0) - self._limit) ** 2).mean())
        worst = self._limit if above else 1 - self._limit
        self._stakes = np.array([stake(moment, rows, error, worst) for rows in HORIZONS])
        self._capital = np.full(len(HORIZONS), -math.log(len(HORIZONS)))

    def value_of(self, one: Decision | CandidateScore) -> float:
        """The figure of one call."""
        if self.kind == "share":
            return float(one.model == self.model)
        return one.cost_usd if self.kind == "cost" else one.quality

    def lost(self, value: float) -> bool:
        """Bet on one more value; whether the mean is surely on the wrong side of the limit."""
        excess = self._sign * (min(value / self._scale, 1.0) - self._limit)
        self._capital += np.log1p(self._stakes * excess)
        return bool(np.logaddexp.reduce(self._capital) >= self._most)


def _bets(
    asked: Target, sample: Sample, share_off: float, cost_off: float, quality_off: float
) -> Iterator[_Bet]:
    n = len(sample.quality)
    figures: list[tuple[Kind, str, float, FloatArray, float, float]] = []
    if asked.cost_usd is not None and (scale := float(sample.cost_usd.max())) > 0:
        mean = float(sample.cost_usd.mean())
        figures.append(("cost", "", scale, sample.cost_usd, mean, cost_off * mean))
    elif asked.quality is not None:
        mean = float(sample.quality.mean())
        figures.append(("quality", "", 1.0, sample.quality, mean, quality_off))
    for model, share in asked.shares.items():
        got = np.zeros(n)
        got[: round(share * n)] = 1.0
        figures.append(("share", model, 1.0, got, share, share_off))
    for kind, model, scale, values, middle, tolerated in figures:
        # What never showed in a small sample may be there.
        spread = math.hypot(float(values.std()), scale / (2 * math.sqrt(n)))
        off = max(tolerated, BY_CHANCE * spread / math.sqrt(n))
        # Each of two sides of each figure.
        error = ERROR / (2 * len(figures))
        if middle + off < scale:
            yield _Bet(kind, model, scale, values, middle + off, above=True, error=error)
        if middle - off > 0:
            yield _Bet(kind, model, scale, values, middle - off, above=False, error=error)
