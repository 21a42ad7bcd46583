"""Monitor: whether what happens is what was predicted and promised.

An alarm needs both: that what happened is surely another thing than what was expected, and that it
is far enough from it to matter. That some alarm is false has a probability of at most `ERROR` over
all figures of all windows (Bonferroni), of which a tenth is for the chance in what was promised.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from crossroute.decision import usd
from crossroute.errors import ConstraintError, plain, shortened
from crossroute.policy import Policy, Promised
from crossroute.traffic import surprise
from crossroute.traffic.records import CallRecord
from crossroute.traffic.windows import Paired, Width, Window, windows_of

ERROR = 0.01
"""Probability of an alarm although all is as promised."""
OF_PROMISE = 0.1
"""Share of it for the quality that a plan measured being too high by chance."""
LEAST_CALLS = 30
"""Of fewer calls, or scores, nothing is said."""
MOST_IN_SHADOW = 0.01
"""Share of calls in shadow up to which the others are as all calls are."""
SHOWN_ERRORS = 3

Kind = Literal["share", "price", "cost", "saving", "failures", "failed", "quality", "score"]
"""Of a figure: share of the calls that a model gets, or is asked first in; cost of a model's
answers, beside that predicted; cost of a prompt, and saving, beside those promised; failures of a
model; calls that failed; score of a model's answers, beside that predicted; mean score beside that
promised."""

MENDS: dict[Kind, str] = {
    "share": "other prompts come in, or models fail or rest: plan again on new prompts",
    "price": "its answers have grown longer, or its price is another one: look at the provider and "
    "at `crossroute models prices`, and plan again",
    "cost": "prompts or answers have grown: plan again on new prompts",
    "saving": "plan again on new prompts",
    "failures": "look at the provider",
    "failed": "look at the providers, and add candidates that can take over",
    "quality": "onboard it with the new feedback (--scores-out)",
    "score": "plan again with the new feedback (`crossroute records rows`); until then "
    "{baseline} is the safe choice",
}


@dataclass(frozen=True)
class Tolerances:
    """How far off a figure may be without an alarm.

    Attributes:
        share: Of the calls, 0..1.
        cost: Share of the cost, such as 0.1.
        quality: Mean score below the predicted one.
        max_loss: Mean score below the promised one; None is what the policy allows.
        failures: Share of asks, or calls, that may fail, above 0.

    Raises:
        ConstraintError: If one is out of its range.
    """

    share: float = 0.05
    cost: float = 0.1
    quality: float = 0.05
    max_loss: float | None = None
    failures: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = math.inf if name == "cost" else 1.0
            if value is not None and not (0 <= value < most):
                raise ConstraintError(f"The tolerance {name} is {shortened(value)}; give 0 to 1.")
        if self.failures == 0:
            raise ConstraintError("The tolerance failures is 0; give more, such as 0.01.")


class Figure(NamedTuple):
    """What happened beside what was expected, in one window.

    Attributes:
        kind: What it is.
        model: Of which model; None is all.
        start: When the window begins; None is all windows together.
        calls: How many it is of.
        realised: What happened.
        expected: What was predicted or promised.
        p_value: Of that having happened by chance.
        sure: Whether it did not, by the overall error.
        large: Whether it matters.
    """

    kind: Kind
    model: str | None
    start: datetime | None
    calls: int
    realised: float
    expected: float
    p_value: float
    sure: bool
    large: bool

    @property
    def alarms(self) -> bool:
        """Whether it is both."""
        return self.sure and self.large


class Alarm(NamedTuple):
    """Figures of one kind, of one model, that alarm.

    Attributes:
        kind: What they are.
        model: Of which model; None is all.
        figure: The latest of them; that of all windows together where no single one alarms.
        since: When the first of their windows begins; None if only all of them together alarm.
        windows: In how many windows.
        text: What is off, by how much, since when, and what to do.
    """

    kind: Kind
    model: str | None
    figure: Figure
    since: datetime | None
    windows: int
    text: str


@dataclass(frozen=True)
class Monitored:
    """What a monitor found.

    Attributes:
        windows: What happened in each.
        together: In all of them.
        figures: All that could be tested.
        alarms: What is off.
        notes: What could not be tested, and why.
    """

    windows: list[Window]
    together: Window
    figures: list[Figure]
    alarms: list[Alarm]
    notes: list[str]


class _Question(NamedTuple):
    """A figure before it is tested; the test takes the error at which it is to be powerful."""

    kind: Kind
    model: str | None
    calls: int
    realised: float
    expected: float
    large: bool
    test: Callable[[float], float]


def monitor(
    records: Iterable[CallRecord],
    policy: Policy | None = None,
    *,
    window: Width = "day",
    last: int | None = None,
    source: str | None = None,
    tolerances: Tolerances | None = None,
) -> Monitored:
    """Hold what happened against what was predicted for it, and what a policy promised.

    Args:
        records: From `crossroute.traffic.records.read_records`.
        policy: From `crossroute.traffic.policy.read_policy`; None holds against predictions only.
        window: Of time (UTC), or of so many calls, 30 at least.
        last: How many windows to look at, the latest; None is all.
        source: The source of feedback to go by; None is the mean over the sources of a call.
        tolerances: From where on something matters.

    Raises:
        ConstraintError: If a window is too narrow.
        DataError: If there are too many windows, or the records cannot be read.
    """
    if isinstance(window, int) and window < LEAST_CALLS:
        raise ConstraintError(
            f"A window of {window} calls says nothing; give {LEAST_CALLS} or more."
        )
    allowed = tolerances or Tolerances()
    promised = policy.promised if policy is not None else None
    fixed = policy.model if policy is not None else None
    windows = windows_of(
        records,
        window,
        last=last,
        promised=promised,
        source=source,
        fixed=fixed,
        in_turn=policy is not None and policy.strategies is not None,
    )
    together = Window(windows[0].start if windows else datetime.now(UTC))
    for one in windows:
        together.merge(one)
    places: list[tuple[datetime | None, Window]] = [(one.start, one) for one in windows]
    if len(windows) > 1:
        places.append((None, together))
    asked = [(at, one) for at, place in places for one in _questions(place, policy, allowed)]
    each = (1 - OF_PROMISE) * ERROR / max(len(asked), 1)
    figures = [_answered(question, at, each) for at, question in asked]
    return Monitored(
        windows=windows,
        together=together,
        figures=figures,
        alarms=_alarms(figures, windows, together, policy),
        notes=_notes(together, policy),
    )


def _answered(question: _Question, start: datetime | None, error: float) -> Figure:
    kind, model, calls, realised, expected, large, test = question
    p_value = test(error)
    return Figure(kind, model, start, calls, realised, expected, p_value, p_value <= error, large)


def _questions(window: Window, policy: Policy | None, allowed: Tolerances) -> Iterator[_Question]:
    yield from _of_failures(window, allowed.failures)
    yield from _of_predictions(window, allowed)
    if policy is not None:
        yield from _of_promises(window, policy, allowed)


def _of_failures(window: Window, most: float) -> Iterator[_Question]:
    ended = window.counts["answered"] + window.counts["failed"]
    rates: list[tuple[Kind, str | None, int, int]] = [
        ("failed", None, window.counts["failed"], ended),
        *(("failures", model, window.failures[model], n) for model, n in window.asks.items()),
    ]
    for kind, model, count, calls in rates:
        if calls >= LEAST_CALLS:
            rate = count / calls
            test = partial(_rate, count, calls, most)
            yield _Question(kind, model, calls, rate, most, rate > most, test)


def _of_predictions(window: Window, allowed: Tolerances) -> Iterator[_Question]:
    for model, paid in window.prices.items():
        if paid.calls >= LEAST_CALLS and paid.expected > 0:
            yield _costs("price", model, paid, allowed.cost, chance=1 / paid.calls)
    for model in window.scored:
        score, predicted = window.scores(model)
        if len(score) >= LEAST_CALLS:
            lowest = predicted - allowed.quality
            yield _Question(
                "quality",
                model,
                len(score),
                float(score.mean()),
                float(predicted.mean()),
                bool(score.mean() < lowest.mean()),
                partial(surprise.lower_score, score, lowest),
            )


def _of_promises(window: Window, policy: Policy, allowed: Tolerances) -> Iterator[_Question]:
    promised, rows = policy.promised, policy.data.calibration
    calls = window.chosen.total()
    if calls >= LEAST_CALLS:
        # What a strategy comes to is known call by call, but not which one it was: those that
        # begin with the same model are one share.
        shares = policy.first_asked()
        for model in sorted({*window.chosen, *shares}):
            count, share = window.chosen[model], shares.get(model, 0.0)
            off = abs(count / calls - share)
            test = partial(_share, count, calls, round(share * rows), rows)
            yield _Question("share", model, calls, count / calls, share, off > allowed.share, test)
    if _in_shadow(window):
        return
    cost, saving = window.cost, window.saving
    if cost.calls >= LEAST_CALLS and promised.cost_usd > 0:
        # What was promised is a mean, too, of as many rows.
        yield _costs("cost", None, cost, allowed.cost, chance=1 / cost.calls + 1 / rows)
    if saving.calls >= LEAST_CALLS and saving.expected > 0:
        chance = _error_of_saving(promised) * window.base_usd / saving.calls
        realised = 1 - saving.realised / window.base_usd
        yield _Question(
            "saving",
            None,
            saving.calls,
            realised,
            promised.saving,
            saving.ratio > 1 + allowed.cost and realised < promised.saving_low,
            partial(_mean, saving, math.hypot(saving.deviation / math.sqrt(saving.calls), chance)),
        )
    score, _ = window.scores()
    if len(score) >= LEAST_CALLS:
        quality = min(max(promised.quality, 0.0), 1.0)
        loss = promised.max_loss if allowed.max_loss is None else allowed.max_loss
        lowest = surprise.lowest_mean(quality, rows, OF_PROMISE * ERROR) - loss
        yield _Question(
            "score",
            None,
            len(score),
            float(score.mean()),
            quality,
            bool(score.mean() < quality - loss),
            partial(surprise.lower_score, score, np.full(len(score), lowest)),
        )


def _costs(
    kind: Kind, model: str | None, paid: Paired, tolerance: float, *, chance: float
) -> _Question:
    """Whether costs are higher than expected.

    Args:
        kind: Which ones.
        model: Of which model.
        paid: The costs in USD.
        tolerance: Share by which they may be higher.
        chance: Variance of the mean difference, as a share of that of one difference.
    """
    return _Question(
        kind,
        model,
        paid.calls,
        paid.realised / paid.calls,
        paid.expected / paid.calls,
        paid.ratio > 1 + tolerance,
        partial(_mean, paid, paid.deviation * math.sqrt(chance)),
    )


def _error_of_saving(promised: Promised) -> float:
    """The standard error of a saving, of its interval for as many fresh prompts."""
    confidence = min(max(promised.confidence, 0.5), 0.9999)
    half = max(promised.saving_high - promised.saving_low, 0.0) / 2
    # On fresh prompts there is the chance in those, too, which is as large.
    return half / NormalDist().inv_cdf((1 + confidence) / 2) / math.sqrt(2)


def _in_shadow(window: Window) -> bool:
    return window.counts["in shadow"] > MOST_IN_SHADOW * window.counts["calls"]


# Tests take the error that they are for, which only a bet goes by.


def _rate(count: int, calls: int, most: float, _: float) -> float:
    return surprise.higher_rate(count, calls, most)


def _share(count: int, calls: int, promised: int, rows: int, _: float) -> float:
    return surprise.other_share(count, calls, promised, rows)


def _mean(paid: Paired, error: float, _: float) -> float:
    return surprise.higher_mean(paid.excess, error, paid.calls)


# Words


def _alarms(
    figures: Sequence[Figure], windows: Sequence[Window], together: Window, policy: Policy | None
) -> list[Alarm]:
    found: dict[tuple[Kind, str | None], list[Figure]] = {}
    for figure in figures:
        if figure.alarms:
            found.setdefault((figure.kind, figure.model), []).append(figure)
    alarms = []
    for (kind, model), ones in found.items():
        single = [one for one in ones if one.start is not None]
        latest = (single or ones)[-1]
        when = "over all windows together"
        if single:
            when = f"since {single[0].start:%Y-%m-%d %H:%M}, in {len(single)} of "
            when += "1 window" if len(windows) == 1 else f"{len(windows)} windows"
            if latest.start != windows[-1].start:
                when += ", not in the latest"
        baseline = policy.promised.baseline if policy is not None else ""
        in_turn = policy is not None and policy.strategies is not None
        what = _said(latest, together, baseline, in_turn=in_turn)
        text = f"{what} ({when}): {MENDS[kind].format(baseline=baseline)}."
        since = single[0].start if single else None
        alarms.append(Alarm(kind, model, latest, since, len(single), text))
    return alarms


def _said(figure: Figure, together: Window, baseline: str, *, in_turn: bool) -> str:
    """What is off, and by how much."""
    kind, model, realised, expected = figure.kind, figure.model, figure.realised, figure.expected
    if kind == "share":
        gets = "is asked first in" if in_turn else "gets"
        return f"{model} {gets} {realised:.0%} of the calls, not {expected:.0%} as promised"
    if kind in ("price", "cost"):
        whose, what = (
            ("A call", "promised") if model is None else (f"An answer of {model}", "predicted")
        )
        more = realised / expected - 1
        return f"{whose} costs {usd(realised)}, {more:.0%} more than {what} ({usd(expected)})"
    if kind == "saving":
        return f"{realised:.0%} of the cost of {baseline} is saved, not {expected:.0%} as promised"
    if kind == "failed":
        return f"{realised:.1%} of the calls fail, more than {expected:.1%}"
    if kind == "failures":
        types = Counter({name: n for (whose, name), n in together.errors.items() if whose == model})
        listed = ", ".join(f"{n:,} {plain(name)}" for name, n in types.most_common(SHOWN_ERRORS))
        return f"{realised:.1%} of the asks of {model} fail ({listed}), more than {expected:.1%}"
    whose, what = ("All", "promised") if model is None else (model, "predicted")
    return (
        f"{whose}: mean score {realised:.3f} of {figure.calls:,} with feedback, "
        f"{expected - realised:.3f} below that {what}"
    )


def _notes(together: Window, policy: Policy | None) -> list[str]:
    counts, notes = together.counts, []
    if counts["calls"] < LEAST_CALLS:
        return [f"{counts['calls']} calls are too few to say anything: {LEAST_CALLS} at least."]
    if policy is None:
        notes.append(
            "Without a policy, shares, saving and mean score are held against nothing: give "
            "--policy policy.yaml."
        )
    elif _in_shadow(together):
        notes.append(
            f"{counts['in shadow']:,} of {counts['calls']:,} calls were in shadow: the promised "
            "cost, saving and quality are held against windows without such calls only."
        )
    elif not together.saving.calls:
        notes.append(
            f"{policy.promised.baseline} is no candidate of these calls: what is saved against it "
            "is not known."
        )
    scored = len(together.scores()[0])
    if scored < LEAST_CALLS:
        notes.append(
            f"{scored} answers with feedback are too few to say anything of quality: "
            f"{LEAST_CALLS} at least."
        )
    if counts["unpriced"]:
        notes.append(f"The cost of {counts['unpriced']:,} answers is not known; it is left out.")
    return notes
