"""Which settings are worth a test, whether they pass it, and which of these is recommended.

What is tested, and in which order, is decided on the learning rows alone, by predictions of routers
that did not learn from the row: so the tests on the calibration rows hold at their confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossroute.traffic import guarantee
from crossroute.traffic.goal import Goal
from crossroute.traffic.settings import Family, Measured, Problem

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

WORTH = 0.02
"""Share of the baseline's cost: what saves not even this more than something simpler is not
preferred to it."""
MOST_SINGLES = 3
"""Single models that are tested."""
SURE = 1.645
"""Standard errors by which a router has to be better than a single model that would do."""
NOISE = 1.0
"""Standard errors below the best single model with which a setting is still worth a test."""
MOST_WILLINGNESS = 1e6
"""USD a unit of quality: beyond it, costs do not count."""
ROUNDING = 1e-9
STEPS = 40
"""Settings of a router that are tested, from the safest on."""


class Setting(NamedTuple):
    """One way to answer: a family, and the place of the setting in it."""

    family: Family
    place: int

    @property
    def is_routed(self) -> bool:
        """Whether a router answers so."""
        return self.family.contender is not None


class Path(NamedTuple):
    """Settings in the order in which they are tested.

    Attributes:
        settings: The safest first, each of the others worth more than the one before it.
        worth: What the best one that is expected to pass saves, share of the baseline's cost; of a
            goal with a budget, what it scores. Minus infinity where none is.
        needed: About how many calibration rows would show that some setting suffices.
    """

    settings: tuple[Setting, ...]
    worth: float
    needed: float

    @property
    def is_hopeful(self) -> bool:
        """Whether a test is expected to pass."""
        return self.worth > -math.inf


class Choice(NamedTuple):
    """What came of the tests.

    Attributes:
        setting: What is recommended; None where nothing passed.
        error: With which chance the tests of its path may be wrong.
        routing: The router's setting that was tested first, or would have been.
        needed: About how many calibration rows would show that some setting suffices; infinite
            where none seems to, or one is shown to.
    """

    setting: Setting | None
    error: float
    routing: Setting | None
    needed: float


def choose(problem: Problem, families: Sequence[Family], goal: Goal) -> Choice:
    """Test what the learning rows say is worth it.

    Args:
        problem: The rows and what is known of them.
        families: Single models, then the routers, the simplest first.
        goal: What is wanted.
    """
    fixed = _path(problem, families[:1], goal, MOST_SINGLES)
    names = dict.fromkeys(family.name for family in families[1:])
    routers = [
        _path(problem, [family for family in families[1:] if family.name == name], goal, STEPS)
        for name in names
    ]
    routing = _best(routers)
    tests = [path for path in (fixed, routing) if path is not None and path.is_hopeful]
    if not tests:
        # There is nothing to lose.
        tests = [_soonest(fixed, routing)]
    error = goal.error / max(len(tests), 1)
    passed = [_tested(problem, path, goal, error) for path in tests]
    candidates = [setting for setting in passed if setting is not None]
    best = candidates[0] if candidates else None
    if len(candidates) == 2 and _is_surely_better(problem, candidates[1], candidates[0], goal):
        best = candidates[1]
    first = routing.settings[0] if routing and routing.settings else None
    needed = math.inf if best else _needed(problem, [fixed, *routers], goal)
    return Choice(best, error, first, needed)


def _needed(problem: Problem, paths: Sequence[Path], goal: Goal) -> float:
    """About how many calibration rows would show that a setting suffices, by all rows.

    By those on which it failed, too. Still it is rather too few: of many settings, the one that
    seems to need the fewest rows is a lucky one.
    """
    needed = math.inf
    for setting in (one for path in paths for one in path.settings):
        family = setting.family.only(setting.place)
        measured = Measured.of(problem, family, problem.everything, goal.kept)
        if _allowed(problem, family, problem.everything, measured, goal)[0]:
            loss = max(float(measured.mean_loss[0]), measured.least_loss)
            rows = guarantee.rows_needed(loss, float(measured.moment[0]), goal.max_loss, goal.error)
            needed = min(needed, rows)
    return needed


def _soonest(fixed: Path, routing: Path | None) -> Path:
    """The path of which the fewest rows would show something, the simpler one of about as many."""
    is_later = routing is not None and routing.needed < (1 - WORTH) * fixed.needed
    return routing if routing is not None and is_later else fixed


def _best(routers: Sequence[Path]) -> Path | None:
    """The router that is expected to be worth most, the simplest of those about as good."""
    best: Path | None = None
    for path in routers:
        if (
            best is None
            or path.worth > best.worth + WORTH
            or (not best.is_hopeful and path.needed < best.needed)
        ):
            best = path
    return best


def _path(problem: Problem, families: Sequence[Family], goal: Goal, steps: int) -> Path:
    """What to test of some families, by the learning rows."""
    settings, worth, loss, moment = [], [], [], []
    for family in families:
        learned = Measured.of(problem, family, problem.learning, goal.kept)
        allowed = _allowed(problem, family, problem.learning, learned, goal)
        allowed &= _is_no_worse(problem, family, problem.learning, NOISE, goal.usd_a_prompt)
        for place in np.flatnonzero(allowed):
            settings.append(Setting(family, int(place)))
            worth.append(_worth(learned, goal)[place])
            # That a choice is better than the baseline is not counted on.
            loss.append(max(float(learned.mean_loss[place]), learned.least_loss))
            moment.append(float(learned.moment[place]))
    rows, error = len(problem.calibration), goal.error
    bound = np.array(
        [guarantee.expected_bound(*one, rows, error) for one in zip(loss, moment, strict=True)]
    )
    needed = min(
        (
            guarantee.rows_needed(*one, goal.max_loss, error)
            for one in zip(loss, moment, strict=True)
        ),
        default=math.inf,
    )
    if not settings:
        return Path((), -math.inf, needed)
    value = np.array(worth)
    hopeful = float(value[bound <= goal.max_loss].max(initial=-math.inf))
    # The safest of those that are worth so much, for ever higher worth.
    places = [
        int(np.where(value >= least, bound, np.inf).argmin())
        for least in np.linspace(value.min(), value.max(), steps)
    ]
    places = [i for i in dict.fromkeys(places) if loss[i] < goal.max_loss]
    return Path(tuple(settings[i] for i in places), hopeful, needed)


def _worth(measured: Measured, goal: Goal) -> FloatArray:
    """[s] what is to be large: what is saved, or with a budget the quality."""
    return measured.mean_score if goal.usd_a_prompt is not None else measured.saving


def _allowed(
    problem: Problem, family: Family, rows: IntArray, measured: Measured, goal: Goal
) -> BoolArray:
    """[s] whether a setting is one that the goal allows, on some rows, and changes something."""
    allowed = measured.saving >= WORTH
    if goal.usd_a_prompt is not None:
        allowed = measured.mean_cost <= goal.usd_a_prompt
    for model, share in goal.shares.items():
        if model in problem.models:
            # An arm counts for each model that it may ask.
            asked = np.isin(family.chosen[:, rows], problem.asking(model))
            allowed &= asked.mean(axis=1) <= share
    return np.asarray(allowed)


def _tested(problem: Problem, path: Path, goal: Goal, error: float) -> Setting | None:
    """The best setting of those that pass on the calibration rows."""
    rows = problem.calibration

    def p_value(setting: Setting) -> float:
        one = setting.family.only(setting.place)
        learned = Measured.of(problem, one, problem.learning, goal.kept)
        measured = Measured.of(problem, one, rows, goal.kept)
        bet = guarantee.stake(float(learned.moment[0]), len(rows), error, problem.worst)
        loss = measured.by_question(measured.loss)[0]
        return guarantee.p_value(loss, goal.max_loss, bet, measured.rows_a_question)

    count = guarantee.first_failure(map(p_value, path.settings), error)
    for noise in (0.0, NOISE / 2):
        possible = [s for s in path.settings[:count] if _is_advisable(problem, s, goal, noise)]
        if possible:
            return max(possible, key=lambda one: _worth_everywhere(problem, one, goal))
    return None


def _is_advisable(problem: Problem, setting: Setting, goal: Goal, noise: float) -> bool:
    """Whether a setting does what the goal asks, and no single model is worth more."""
    one, rows = setting.family.only(setting.place), problem.calibration
    allowed = _allowed(problem, one, rows, Measured.of(problem, one, rows, goal.kept), goal)
    return bool(
        allowed[0] and _is_no_worse(problem, one, problem.everything, noise, goal.usd_a_prompt)[0]
    )


def _worth_everywhere(problem: Problem, setting: Setting, goal: Goal) -> float:
    one = setting.family.only(setting.place)
    return float(_worth(Measured.of(problem, one, problem.everything, goal.kept), goal)[0])


def _is_no_worse(
    problem: Problem, family: Family, rows: IntArray, noise: float, most_usd: float | None
) -> BoolArray:
    """[s] whether no single model is worth more at a setting's willingness to pay.

    Args:
        problem: What is compared.
        family: Of the settings.
        rows: Places of the rows to compare on.
        noise: Standard errors by which a single model may seem to be worth more.
        most_usd: Single models that cost more a prompt are no alternative.
    """
    if family.contender is None:
        return np.ones(len(family.willingness), np.bool_)
    willingness = np.minimum(family.willingness, MOST_WILLINGNESS)[:, None]
    own = Measured.of(problem, family, rows, 1.0)
    alone = Measured.of(problem, problem.singles, rows, 1.0)
    worth = willingness * alone.mean_score - alone.mean_cost
    if most_usd is not None:
        worth[:, alone.mean_cost > max(most_usd, float(alone.mean_cost.min()))] = -np.inf
    best = worth.argmax(axis=1)
    gain = willingness * (own.score - alone.score[best]) - (own.cost_usd - alone.cost_usd[best])
    error = gain.std(axis=1) / math.sqrt(len(rows))
    return np.asarray(gain.mean(axis=1) >= -noise * error - ROUNDING)


def _is_surely_better(problem: Problem, one: Setting, other: Setting, goal: Goal) -> bool:
    """Whether a setting is worth more on the calibration rows than a simpler one."""
    rows = problem.calibration
    values = [
        problem.outcomes.of(setting.family.chosen[setting.place][rows], rows)
        for setting in (one, other)
    ]
    if goal.usd_a_prompt is not None:
        gain = values[0][0] - values[1][0]
    else:
        gain = values[1][1] - values[0][1]
    return bool(gain.mean() > SURE * gain.std() / math.sqrt(len(rows)))
