"""Tables by topic: levels, departures, lengths and asks, of rows that lack most answers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from crossroute.training.tables import LengthTable, fit_lengths, fit_quality, usual_asks

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

LEVEL = np.array([0.9, 0.3, -0.2, -1.0])
"""Planted, of four models, in logits."""


class Planted(NamedTuple):
    """Scores of rows of four topics of two data sets.

    Attributes:
        score: [n, 4], NaN where unknown.
        topic: [n].
        dataset_of: [4].
        ease: [4] what a topic's rows score in the mean.
    """

    score: FloatArray
    topic: IntArray
    dataset_of: IntArray
    ease: FloatArray


def planted(departure: FloatArray, *, rows: int = 8_000, incomplete: bool = True) -> Planted:
    """Scores by the additive model itself; the better a model, the harder the rows it ran on."""
    chance = np.random.default_rng(0)
    dataset_of, ease = np.array([0, 0, 1, 1]), np.array([0.45, 0.5, 0.5, 0.55])
    topic = np.arange(rows) % 4
    easier = chance.uniform(-0.2, 0.2, size=rows)
    v = (ease * (1 - ease))[topic]
    mean = (ease[topic] + easier)[:, None] + v[:, None] * (LEVEL + departure[topic])
    score = np.float64(chance.random((rows, 4)) < mean)
    if incomplete:
        # Strong models ran on rows that are hard for what is usual, weak ones on the others.
        wanted = np.where(LEVEL > 0, easier[:, None] < 0, easier[:, None] >= 0)
        score[chance.random((rows, 4)) > np.where(wanted, 0.9, 0.3)] = np.nan
    return Planted(score, topic, dataset_of, ease)


NOTHING = np.zeros((4, 4))
CELL = np.zeros((4, 4))
CELL[0], CELL[1] = [0.4, -0.4, 0.0, 0.0], [-0.4, 0.4, 0.0, 0.0]
"""Two topics of one data set, between which two models change places."""


def test_levels_are_found_on_incomplete_rows_not_missing_at_random() -> None:
    rows = planted(NOTHING)
    found = fit_quality(rows.score, rows.topic, rows.dataset_of, np.full(2, math.inf))
    here = (found.level + found.departure).mean(axis=0)
    assert here - here.mean() == pytest.approx(LEVEL - LEVEL.mean(), abs=0.1)
    # Elsewhere it counts less, but in the same order.
    assert found.level.tolist() == sorted(found.level, reverse=True)
    # What plain means say: the better half ran on the harder rows.
    plain = np.nanmean(rows.score, axis=0) / 0.25
    assert np.abs((plain - plain.mean()) - (LEVEL - LEVEL.mean())).max() > 0.2
    # A row's own ease counts as if all models had answered it.
    mean = rows.ease + rows.ease * (1 - rows.ease) * LEVEL.mean()
    assert found.ease == pytest.approx(mean, abs=0.03)
    between = found.departure - found.departure.mean(axis=0)
    assert np.abs(between).max() < 0.25


def test_of_complete_rows_plain_means_say_it() -> None:
    rows = planted(NOTHING, incomplete=False)
    found = fit_quality(rows.score, rows.topic, rows.dataset_of, np.full(2, math.inf))
    of_topic = [rows.score[rows.topic == topic].mean() for topic in range(4)]
    assert found.ease == pytest.approx(of_topic, abs=1e-3)
    plain = rows.score.mean(axis=0) - rows.score.mean()
    v = float((found.ease * (1 - found.ease)).mean())
    here = (found.level + found.departure).mean(axis=0)
    assert v * here == pytest.approx(plain, abs=5e-3)


def test_departures_by_topic_are_found() -> None:
    rows = planted(CELL)
    found = fit_quality(rows.score, rows.topic, rows.dataset_of, np.full(2, 15.0))
    of_topic = found.level + found.departure
    relative = of_topic - of_topic.mean(axis=1, keepdims=True)
    expected = LEVEL + CELL
    assert relative == pytest.approx(expected - expected.mean(axis=1, keepdims=True), abs=0.25)


def test_departures_are_shrunk_as_k_grows_and_none_is_left_of_an_infinite_one() -> None:
    rows = planted(CELL, rows=800, incomplete=False)
    spread = []
    for k in (0.0, 15.0, 100.0, 1_000.0, math.inf):
        found = fit_quality(rows.score, rows.topic, rows.dataset_of, np.array([k, math.inf]))
        within = found.departure[:2] - found.departure[:2].mean(axis=0)
        spread.append(float(np.abs(within).max()))
        # The other data set has a k of its own.
        assert found.departure[2] == pytest.approx(found.departure[3], abs=1e-12)
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 0.3
    assert spread[-1] == pytest.approx(0.0, abs=1e-12)


def test_n_rows_count_n_over_n_and_k() -> None:
    """With as many rows as k stands for, half of a departure is left."""
    chance = np.random.default_rng(0)
    topic = np.repeat([0, 1], 4_000)
    mean = np.where(topic[:, None] == 0, [0.6, 0.4], [0.4, 0.6])
    score = np.float64(chance.random((8_000, 2)) < mean)
    dataset_of = np.zeros(2, np.intp)
    whole, half = (
        fit_quality(score, topic, dataset_of, np.array([k])).departure for k in (0.0, 4_000.0)
    )
    assert half == pytest.approx(whole / 2, abs=0.03)
    assert whole[0, 0] == pytest.approx(0.4, abs=0.1)


def test_of_a_data_set_that_a_model_is_not_in_no_departure_is_known() -> None:
    rows = planted(CELL)
    rows.score[rows.dataset_of[rows.topic] == 0, 3] = np.nan
    found = fit_quality(rows.score, rows.topic, rows.dataset_of, np.full(2, 15.0))
    assert (found.departure[:2, 3] == 0).all()
    assert (found.departure[2:, 3] != 0).all()
    # Its level is that of the other data set.
    assert found.level[3] == pytest.approx(found.level.min())


def test_where_every_row_has_one_answer_nobody_is_better() -> None:
    score = np.full((6, 2), np.nan)
    score[::2, 0], score[1::2, 1] = 1.0, 0.0
    table = fit_quality(score, np.zeros(6, np.intp), np.zeros(1, np.intp), np.array([40.0]))
    assert (table.level == 0).all()
    assert (table.departure == 0).all()
    assert table.ease == pytest.approx([0.5])


def test_a_row_with_one_answer_says_nothing_of_who_is_better() -> None:
    rows = planted(NOTHING, rows=400, incomplete=False)
    alone = np.full((200, 4), np.nan)
    alone[:, 3] = 1.0
    score = np.concatenate([rows.score, alone])
    topic = np.concatenate([rows.topic, np.zeros(200, np.intp)])
    k = np.full(2, math.inf)
    one, two = (
        sum(fit_quality(scores, topics, rows.dataset_of, k)[0::2])[2]
        for scores, topics in ((rows.score, rows.topic), (score, topic))
    )
    # In the other data set; it does say how easy its own topic is.
    assert two == pytest.approx(one, abs=0.15)


def amounts(tokens: FloatArray, rows: int = 4_000) -> tuple[FloatArray, IntArray]:
    """Amounts [n, m] with the means [T, m], skewed as lengths are."""
    chance = np.random.default_rng(0)
    topic = np.arange(rows) % len(tokens)
    skew = chance.lognormal(-0.5, 1.0, size=(rows, tokens.shape[1]))
    return tokens[topic] * skew, topic


TOKENS = np.array([[100.0, 400.0], [20.0, 80.0], [900.0, 1_200.0]])


def test_lengths_by_topic_bring_totals_right() -> None:
    amount, topic = amounts(TOKENS)
    amount[np.random.default_rng(1).random(amount.shape) < 0.3] = np.nan
    found = fit_lengths(amount, topic, np.zeros(3, np.intp), np.ones(2, np.bool_))
    predicted = np.exp(found.model + found.topic[:, None] + found.departure)[topic]
    known = ~np.isnan(amount)
    assert (predicted * known).sum(axis=0) == pytest.approx(np.nansum(amount, axis=0), rel=0.02)
    assert np.exp(found.model[1] - found.model[0]) == pytest.approx(2.8, rel=0.2)


def test_a_length_of_few_rows_is_near_that_of_the_others() -> None:
    amount, topic = amounts(np.array([[100.0, 100.0], [100.0, 100.0]]), rows=400)
    amount[topic == 1, 1] = np.nan
    amount[1, 1] = 10_000.0
    # One answer, a hundred times as long as what is usual; the logarithm of which is shrunk.
    found = fit_lengths(amount, topic, np.zeros(2, np.intp), np.ones(2, np.bool_))
    length = float(np.exp(found.model[1] + found.topic[1] + found.departure[1, 1]))
    assert 100 < length < 2_000


def test_where_nothing_was_counted_a_length_is_the_sum_of_model_and_topic() -> None:
    amount, topic = amounts(TOKENS)
    amount[topic == 2, 1] = np.nan
    found = fit_lengths(amount, topic, np.zeros(3, np.intp), np.ones(2, np.bool_))
    assert found.departure[2, 1] == 0
    # It writes four times as much elsewhere.
    gap = found.model[1] - found.model[0]
    assert np.exp(gap) == pytest.approx(4.0, rel=0.3)


def test_usd_are_compared_within_a_data_set_only() -> None:
    """Whose models are in one data set each, which have nothing in common."""
    chance = np.random.default_rng(0)
    topic = np.arange(400) % 2
    amount = np.full((400, 3), np.nan)
    amount[topic == 0, 0] = 500.0 * chance.lognormal(-0.02, 0.2, 200)
    amount[topic == 1, 1] = 0.002 * chance.lognormal(-0.02, 0.2, 200)
    amount[topic == 1, 2] = 0.008 * chance.lognormal(-0.02, 0.2, 200)
    in_tokens = np.array([True, False, False])
    found = fit_lengths(amount, topic, np.arange(2), in_tokens)
    assert np.exp(found.model) == pytest.approx([500.0, 0.0025, 0.01], rel=0.4)
    assert np.exp(found.model[2] - found.model[1]) == pytest.approx(4.0, rel=0.1)
    # What is usual is not that 500 tokens are so many times a fifth of a cent.
    assert np.abs(found.topic).max() < 0.5
    total = np.exp(found.model + found.topic[:, None] + found.departure)
    assert [total[0, 0], total[1, 1], total[1, 2]] == pytest.approx([500, 0.002, 0.008], rel=0.1)


def test_answers_of_nothing_have_a_finite_length() -> None:
    topic = np.arange(20) % 2
    found = fit_lengths(np.zeros((20, 2)), topic, np.zeros(2, np.intp), np.ones(2, np.bool_))
    assert all(np.isfinite(part).all() for part in found)


LENGTHS = LengthTable(
    model=np.array([5.0, 6.0, -4.0]), topic=np.array([0.0, -2.0, -9.0]), departure=np.zeros((3, 3))
)
IN_TOKENS = np.array([True, True, False])


def test_the_usual_ask_of_a_topic_is_what_its_prompts_ask_for() -> None:
    topic = np.repeat([0, 1, 2], 100)
    asked = np.full(300, np.nan)
    asked[:100] = 7.0
    usual, level = usual_asks(asked, topic, LENGTHS, IN_TOKENS)
    # USD are no tokens.
    assert level == pytest.approx(5.5)
    assert usual[0] == pytest.approx(7.0, abs=0.1)
    # Where none asks, so many as its answers have; of one token at least.
    assert usual[1] == pytest.approx(5.5 - 2.0)
    assert usual[2] == 0.0


def test_a_few_asks_are_believed_by_their_number() -> None:
    topic, asked = np.zeros(50, np.intp), np.full(50, np.nan)
    found = []
    for count in (0, 1, 3, 30):
        asked[:count] = 9.5
        found.append(float(usual_asks(asked, topic, LENGTHS, IN_TOKENS)[0][0]))
    assert found == sorted(found)
    # Three asks weigh as much as what is usual.
    assert found[2] == pytest.approx((5.5 + 9.5) / 2)


def test_where_no_tokens_were_counted_an_answer_has_the_usual_length() -> None:
    nothing = np.full(1, np.nan)
    usual, level = usual_asks(nothing, np.zeros(1, np.intp), LENGTHS, np.zeros(3, np.bool_))
    assert level == pytest.approx(math.log(300))
    assert usual[0] == pytest.approx(math.log(300))


def test_a_level_that_one_data_set_says_counts_less_elsewhere() -> None:
    chance = np.random.default_rng(5)
    level = np.linspace(-1, 1, 12)
    # Each model departs from its level in each of two sets; the last two were run in one only.
    of_set = chance.normal(0, 0.6, (2, 12))
    topic = np.repeat([0, 1], 2_000)
    ease = chance.uniform(0.3, 0.7, len(topic))
    logit = np.log(ease / (1 - ease))[:, None] + level + of_set[topic]
    score = (chance.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(float)
    score[topic == 1, 10:] = np.nan
    table = fit_quality(score, topic, np.array([0, 1]), np.array([math.inf, math.inf]))
    assert 0.2 < table.from_set_to_set < 0.9
    # In its own data set a model is what it was there: nothing is lost of it.
    alone = fit_quality(score[topic == 0], topic[topic == 0], np.array([0]), np.array([math.inf]))
    here = table.level + table.departure[0]
    assert here - here.mean() == pytest.approx(alone.level - alone.level.mean(), abs=0.1)
    assert (table.departure[1, 10:] == 0).all()
    assert abs(table.level[11]) < 0.85 * abs(here[11])


def test_a_level_of_the_only_data_set_counts_whole() -> None:
    score = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]] * 20)
    table = fit_quality(score, np.zeros(80, int), np.array([0]), np.array([math.inf]))
    # Three quarters right, and one quarter: to first order half a point, at four logits a point.
    assert table.level[0] - table.level[1] == pytest.approx(2.0, abs=0.2)
    assert table.departure == pytest.approx(0.0, abs=0.1)
