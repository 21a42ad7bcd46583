"""Choose which panels are worth having, from scored rows to which the answers are known.

1. Every panel of a few models, in the order of their cost, is tried; those with the best answers
   for their cost in the mean are kept, over the whole range of costs.
2. What each would bring on a row is learned from the other rows, and beside the router's own
   predictions the reward chooses; the panels that are chosen most often are kept. Of many arms the
   one that is chosen looks better than it is: all are held back by how much it did.
3. The gain in AIQ over routing alone is measured on the same rows. No row's own score had a say in
   what was predicted of it, but in which panels are tried, and in one number for all. Without a
   gain that is likely, there are no panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from crossroute.evaluation.metrics import SWEEP, Hull, Interval, resamples, sweep
from crossroute.evaluation.references import cost_range
from crossroute.network.predictor import logistic
from crossroute.ranking import RewardName
from crossroute.strategies.jury import FloatArray, IntArray, Jury, quality_log_odds
from crossroute.strategies.panel import Curve, Panel, Panels, Stop
from crossroute.training.answers import UNKNOWN, Answers, Codes, answer_codes
from crossroute.training.data import RoutingData
from crossroute.training.jury import fit_jury

BoolArray = NDArray[np.bool_]
Members = tuple[int, ...]
"""Columns of the models of a panel, in the order in which they are asked."""

STOPS = (0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97)
LARGEST = 4
"""Models in a panel."""
MOST_MODELS = 16
"""Of whose panels the best are tried: those that answered most rows."""
TRIED, TRIED_A_RANGE, RANGES = 30, 3, 14
"""Panels that are tried, and the ranges of mean cost from each of which some are taken."""
KEPT = 8
FOLDS = 5
FEWEST_ROWS = 100
FEWEST_A_PANEL, FEWEST_A_FOLD = 50, 20
LIKELY = 0.75
"""Share of bootstrap resamples in which there is a gain."""
RESAMPLES = 200
WILLINGNESS = SWEEP[::3]
RIDGE = 1.0
"""Of the slopes of curves, with standardised log-odds."""
LEAST_RIDGE = 1e-3
"""Of the intercepts, so that what always happens is no infinite one."""
STEPS, LONGEST_STEP = 12, 2.0
"""Of Newton's method."""
TRUST_IN_JURY = 0.5
"""What the quality of a stop is learned from: so much of the jury's probability, which is smooth,
and the rest of the score, which is true."""


@dataclass(frozen=True)
class AnsweredRows:
    """Rows to which it is known what models answered.

    Attributes:
        models: Ids of the m models.
        quality: [n, m] predicted.
        cost_usd: [n, m] predicted.
        score: [n, m] of the answers, NaN where there is none.
        paid_usd: [n, m] cost of the answers.
        codes: [n, m] which answers are the same.
        question: [n] number of what a row asks.
    """

    models: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    score: FloatArray
    paid_usd: FloatArray
    codes: Codes
    question: IntArray

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of(
        cls, data: RoutingData, quality: FloatArray, cost_usd: FloatArray, answers: Answers
    ) -> AnsweredRows:
        """Rows of routing data.

        Args:
            data: With costs of the answers.
            quality: [n, m] predicted of the data's models.
            cost_usd: [n, m] predicted.
            answers: From `load_answers`.
        """
        return cls(
            data.models,
            quality,
            cost_usd,
            data.score,
            data.cost_usd,
            answer_codes(data, answers),
            data.question_numbers(),
        )

    def take(self, rows: BoolArray) -> AnsweredRows:
        """The rows where `rows` [n] is true."""
        return AnsweredRows(
            self.models,
            self.quality[rows],
            self.cost_usd[rows],
            self.score[rows],
            self.paid_usd[rows],
            self.codes[rows],
            self.question[rows],
        )

    def known(self, members: Members) -> BoolArray:
        """[n], whether everything is known of the answers of some models."""
        columns = list(members)
        numbers = self.score[:, columns] + self.paid_usd[:, columns]
        return np.asarray(((self.codes[:, columns] != UNKNOWN) & ~np.isnan(numbers)).all(axis=1))


@dataclass(frozen=True)
class Outcome:
    """What some arms are expected to bring for n queries, and what they bring.

    Attributes:
        quality: [n, a] expected.
        cost_usd: [n, a] expected.
        score: [n, a] of the answer, NaN where it is not known.
        paid_usd: [n, a] cost of all that were asked.
    """

    quality: FloatArray
    cost_usd: FloatArray
    score: FloatArray
    paid_usd: FloatArray


@dataclass(frozen=True)
class Chosen:
    """The panels that are worth having, and why.

    Attributes:
        panels: None of them where none is worth it.
        gain: In AIQ on the rows that they were chosen on, each of them predicted without itself;
            None where nothing could be tried.
        why: In a sentence.
    """

    panels: Panels
    gain: Interval | None
    why: str


def choose_panels(
    rows: AnsweredRows,
    reward: RewardName = "exponential",
    *,
    seed: int = 0,
) -> Chosen:
    """Choose the panels that are worth having beside single models.

    Args:
        rows: From which neither the predictions nor anything else was learned, if possible: the
            router looks better on rows that it has learned from, and panels worse beside it.
        reward: By which the router orders its candidates.
        seed: Of everything random.
    """
    # Of an answer without a score or a cost nothing can be learned.
    unknown = np.isnan(rows.score + rows.paid_usd)
    rows = replace(rows, codes=np.where(unknown, np.int16(UNKNOWN), rows.codes))
    rows = rows.take((rows.codes != UNKNOWN).sum(axis=1) > 1)
    asked = len(np.unique(rows.question))
    if asked < FEWEST_ROWS:
        return Chosen(
            Panels(), None, f"{asked} prompts with answers are too few; it takes {FEWEST_ROWS}."
        )
    tried = _worth_trying(rows, seed)
    if not tried:
        return Chosen(Panels(), None, "No two models answered enough of the same rows.")
    outcomes = _held_out(rows, tried, seed)
    kept = _most_chosen(rows, tried, outcomes, reward)
    arms = [outcomes[members] for members in kept]
    optimism = _optimism(rows, arms, reward)
    arms = [replace(one, quality=_lowered(one.quality, optimism)) for one in arms]
    gain, likely = _gain(rows, arms, reward)
    said = f"{gain.mean:+.4f} in AIQ ({gain.low:+.4f} to {gain.high:+.4f})"
    if likely < LIKELY:
        return Chosen(Panels(), gain, f"No panel pays: {said} on {len(rows)} rows.")
    jury = fit_jury(rows.models, rows.codes, rows.score, rows.quality, seed=seed)
    panels = tuple(_held_back(_fitted(jury, members, rows), optimism) for members in kept)
    return Chosen(Panels(panels=panels), gain, f"{len(panels)} panels: {said} on {len(rows)} rows.")


def outcome(rows: AnsweredRows, panel: Panel) -> Outcome:
    """What the stops of a panel are expected to bring, and what they bring.

    Args:
        rows: Whose m models hold those of the panel.
        panel: With s stops, each of which is an arm.
    """
    members = tuple(rows.models.index(model) for model in panel.models)
    columns, known = list(members), rows.known(members)
    expected = panel.expected(rows.quality[:, columns], rows.cost_usd[:, columns])
    score, paid = np.full((2, len(rows), len(panel.stops)), np.nan)
    stops = [stop.at for stop in panel.stops]
    score[known], paid[known], _, _ = _realised(panel.jury, members, rows.take(known), stops)
    return Outcome(*expected, score, paid)


def with_arms(
    rows: AnsweredRows, outcomes: Sequence[Outcome]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Single models and arms side by side, as a router chooses among them.

    Returns:
        Expected quality and cost, score and cost, [n, m + a] each.
    """
    return (
        np.concatenate([rows.quality, *(one.quality for one in outcomes)], axis=1),
        np.concatenate([rows.cost_usd, *(one.cost_usd for one in outcomes)], axis=1),
        np.concatenate([rows.score, *(one.score for one in outcomes)], axis=1),
        np.concatenate([rows.paid_usd, *(one.paid_usd for one in outcomes)], axis=1),
    )


def _realised(
    jury: Jury, members: Members, rows: AnsweredRows, stops: Sequence[float]
) -> tuple[FloatArray, FloatArray, BoolArray, FloatArray]:
    """What a panel brings.

    Returns:
        Score and cost [n, s], whether each model is asked [n, s, k], and the jury's probability
        that the answer is right [n, s].
    """
    columns = np.array(members)
    probability, leader = jury.probabilities(
        [rows.models[j] for j in members],
        rows.codes[:, columns],
        rows.quality[:, columns],
    )
    enough = probability[:, None, :] >= np.array(stops)[:, None]
    enough[:, :, -1] = True
    last = enough.argmax(axis=2)
    asked = np.arange(len(members)) <= last[:, :, None]
    at = np.arange(len(rows))[:, None]
    giver = leader[at, last]
    # Where nobody gave an answer that could be compared, the likeliest to be right is taken.
    likeliest = np.where(asked, rows.quality[:, None, columns], -1.0).argmax(axis=2)
    chosen = columns[np.where(giver < 0, likeliest, giver)]
    paid = (asked * rows.paid_usd[:, None, columns]).sum(axis=2)
    return rows.score[at, chosen], paid, asked, probability[at, last]


def _worth_trying(rows: AnsweredRows, seed: int) -> list[Members]:
    """The panels with the best answers for their cost, in the mean over the rows."""
    answered = (rows.codes != UNKNOWN).sum(axis=0)
    most = np.sort(np.argsort(-answered, kind="stable")[:MOST_MODELS])
    cost = np.nansum(rows.paid_usd, axis=0) / np.maximum((~np.isnan(rows.paid_usd)).sum(axis=0), 1)
    models = sorted((int(j) for j in most if answered[j] >= FEWEST_A_PANEL), key=cost.__getitem__)
    jury = fit_jury(rows.models, rows.codes, rows.score, rows.quality, seed=seed)
    found: list[tuple[float, float, Members]] = []
    for size in range(2, LARGEST + 1):
        for members in combinations(models, size):
            known = rows.known(members)
            if known.sum() < FEWEST_A_PANEL:
                continue
            part = rows.take(known)
            score, paid, _, _ = _realised(jury, members, part, STOPS)
            # Rows differ in how hard they are: beside the best model on the same ones.
            scored = ~np.isnan(part.score)
            best = (np.nansum(part.score, axis=0) / np.maximum(scored.sum(axis=0), 1)).max()
            gain = score.mean(axis=0) - best
            found += [
                (float(gain[s]), float(paid[:, s].mean()), members) for s in range(len(STOPS))
            ]
    if not found:
        return []
    costs = np.array([one for _, one, _ in found])
    lowest, highest = max(costs.min(), 1e-12), max(costs.max(), 1e-11)
    edges = np.geomspace(lowest, highest, RANGES + 1)[1:-1]
    ranges = np.searchsorted(edges, costs)
    taken: dict[Members, int] = {}
    for number in range(RANGES):
        here = sorted((found[i] for i in np.flatnonzero(ranges == number)), reverse=True)
        for members in list(dict.fromkeys(one for _, _, one in here))[:TRIED_A_RANGE]:
            taken[members] = taken.get(members, 0) + 1
    # Good over several ranges of cost, by several stops, before good in one.
    return sorted(taken, key=lambda members: -taken[members])[:TRIED]


def _held_out(rows: AnsweredRows, tried: Sequence[Members], seed: int) -> dict[Members, Outcome]:
    """What panels bring on each row that learned from other rows."""
    number = np.unique(rows.question, return_inverse=True)[1]
    fold = np.random.default_rng(seed).permutation(number.max() + 1)[number] % FOLDS
    tables = {members: np.full((4, len(rows), len(STOPS)), np.nan) for members in tried}
    for part in range(FOLDS):
        here, others = rows.take(fold == part), rows.take(fold != part)
        jury = fit_jury(rows.models, others.codes, others.score, others.quality, seed=seed)
        for members, table in tables.items():
            if others.known(members).sum() < FEWEST_A_FOLD:
                continue
            found = outcome(here, _fitted(jury, members, others))
            table[:, fold == part] = found.quality, found.cost_usd, found.score, found.paid_usd
    return {members: Outcome(*table) for members, table in tables.items()}


def _fitted(jury: Jury, members: Members, rows: AnsweredRows) -> Panel:
    """A panel with what its stops brought on rows."""
    rows = rows.take(rows.known(members))
    score, _, asked, sure = _realised(jury, members, rows, STOPS)
    quality = TRUST_IN_JURY * sure + (1 - TRUST_IN_JURY) * score
    n, s, k = asked.shape
    later = asked[:, :, 1:].reshape(n, s * (k - 1)).astype(np.float64)
    odds = quality_log_odds(rows.quality[:, list(members)])
    curves = _curves(odds, np.concatenate([quality, later], axis=1))
    names = tuple(rows.models[j] for j in members)
    stops = []
    for place, at in enumerate(STOPS):
        first = s + place * (k - 1)
        further = tuple(curves[first : first + k - 1])
        stops.append(Stop(at=at, quality=curves[place], asked=further))
    return Panel(models=names, jury=jury.of(names), stops=tuple(stops))


def _curves(odds: FloatArray, shares: FloatArray) -> list[Curve]:
    """Ridge logistic regressions of shares [n, c] on log-odds [n, k], by Newton's method."""
    n, k = odds.shape
    mean, deviation = odds.mean(axis=0), odds.std(axis=0) + 1e-3
    design = np.concatenate([(odds - mean) / deviation, np.ones((n, 1))], axis=1)
    usual = (shares.sum(axis=0) + 0.5) / (n + 1)
    weights = np.zeros((shares.shape[1], k + 1))
    weights[:, -1] = np.log(usual / (1 - usual))
    ridge = np.append(np.full(k, RIDGE), LEAST_RIDGE)
    for _ in range(STEPS):
        p = logistic(design @ weights.T)
        gradient = (p - shares).T @ design + ridge * weights
        bend = np.einsum("nc,ni,nj->cij", p * (1 - p), design, design, optimize=True)
        bend += np.diag(ridge)
        step = np.linalg.solve(bend, gradient[:, :, None])[:, :, 0]
        weights -= np.clip(step, -LONGEST_STEP, LONGEST_STEP)
    slopes = np.clip(weights[:, :k] / deviation, -20, 20)
    intercepts = np.clip(weights[:, k] - slopes @ mean, -100, 100)
    return [
        Curve(intercept=intercept, slopes=tuple(slope))
        for intercept, slope in zip(
            intercepts.round(4).tolist(), slopes.round(4).tolist(), strict=True
        )
    ]


def _most_chosen(
    rows: AnsweredRows,
    tried: Sequence[Members],
    outcomes: Mapping[Members, Outcome],
    reward: RewardName,
) -> list[Members]:
    """The panels that the reward chooses most often, over all rows and willingnesses to pay."""
    chosen = _choices(rows, [outcomes[members] for members in tried], reward)
    panel = (chosen[chosen >= len(rows.models)] - len(rows.models)) // len(STOPS)
    count = np.bincount(panel, minlength=len(tried))
    order = np.argsort(-count, kind="stable")[:KEPT]
    return [tried[i] for i in order if count[i]]


def _choices(rows: AnsweredRows, outcomes: Sequence[Outcome], reward: RewardName) -> IntArray:
    """Which single model or arm is chosen at each willingness to pay: [w, n]."""
    quality, cost, score, paid = with_arms(rows, outcomes)
    return sweep(quality, cost, reward, WILLINGNESS, available=~np.isnan(score + paid))


def _optimism(rows: AnsweredRows, outcomes: Sequence[Outcome], reward: RewardName) -> float:
    """By how many logits the arms that are chosen look better than they are, over all choices."""
    quality, _, score, _ = with_arms(rows, outcomes)
    chosen = _choices(rows, outcomes, reward)
    is_arm = chosen >= len(rows.models)
    if not is_arm.any():
        return 0.0
    at = np.broadcast_to(np.arange(len(rows)), chosen.shape)[is_arm]
    expected, found = (
        quality_log_odds(np.array([table[at, chosen[is_arm]].mean()])) for table in (quality, score)
    )
    return max(0.0, round(float(expected[0] - found[0]), 4))


def _lowered(quality: FloatArray, logits: float) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(logits) * (1 - quality) / np.maximum(quality, 1e-12)))


def _held_back(panel: Panel, logits: float) -> Panel:
    """A panel that is expected to bring less."""
    stops = []
    for stop in panel.stops:
        lower = round(stop.quality.intercept - logits, 4)
        curve = stop.quality.model_copy(update={"intercept": lower})
        stops.append(stop.model_copy(update={"quality": curve}))
    return panel.model_copy(update={"stops": tuple(stops)})


def _gain(
    rows: AnsweredRows, outcomes: Sequence[Outcome], reward: RewardName
) -> tuple[Interval, float]:
    """The gain in AIQ by arms, and the share of resamples in which there is one."""
    _, _, score, paid = with_arms(rows, outcomes)
    at = np.arange(len(rows))
    alone, beside = (
        (score[at, chosen], paid[at, chosen])
        for chosen in (_choices(rows, [], reward), _choices(rows, outcomes, reward))
    )
    return aiq_gain(alone, beside, rows.paid_usd, rows.question)


def aiq_gain(
    alone: tuple[FloatArray, FloatArray],
    beside: tuple[FloatArray, FloatArray],
    paid_usd: FloatArray,
    question: IntArray,
) -> tuple[Interval, float]:
    """By how much one way to choose has a higher AIQ than another, by bootstrap over questions.

    Args:
        alone: Scores and costs of the choices [w, n] of the other.
        beside: Those of the one.
        paid_usd: [n, m] costs of single models.
        question: [n] number of what a row asks.

    Returns:
        The gain with its 95 % interval, and the share of resamples in which it is above 0.
    """
    number = np.unique(question, return_inverse=True)[1]
    drawn = resamples(int(number.max()) + 1, RESAMPLES)[:, number]
    weights = np.concatenate([np.ones((1, len(question))), drawn])
    weights /= weights.sum(axis=1, keepdims=True)
    gains = []
    for weight in weights:
        lowest, highest = cost_range(paid_usd, weight)
        without, with_them = (
            Hull.of(costs @ weight, scores @ weight).aiq(lowest, highest)
            for scores, costs in (alone, beside)
        )
        gains.append(with_them - without)
    low, high = np.quantile(gains[1:], [0.025, 0.975]).tolist()
    return Interval(gains[0], low, high), float((np.array(gains[1:]) > 0).mean())
