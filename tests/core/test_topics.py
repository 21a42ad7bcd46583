"""What queries are about, how familiar they look, and what follows from it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np
import pytest
from fakes_core import QUICK, make_rows
from numpy.typing import NDArray

from crossroute import CrossRouter, Learned, ModelDescriptor, Price
from crossroute.network.features import Features
from crossroute.network.predictor import (
    ELSEWHERE,
    HEED,
    LEAST_ASK,
    PLAIN_ASK,
    Network,
    Predictor,
    logit_of,
)
from crossroute.network.topics import Shares
from crossroute.query import FORM_FEATURES, Query, QueryLike
from crossroute.training import train as training
from crossroute.training.data import RoutingData, Row
from crossroute.training.train import train

FORM = len(FORM_FEATURES)
STORY = "Write a short story about a lynx who lives by the marsh and meets 12 wrens."
SUM = "What is 4711 * 12 + 99?"
STRANGE = "Guten Tag! Ich hätte gerne einen Termin am Dienstag, wenn das ginge."
QUERIES: list[QueryLike] = [STORY, SUM, STRANGE, "", "?", "def f(x):\n    return x\n" * 40]


def network(**changes: object) -> Network:
    """Two topics of a data set each, whose queries have the vectors (1, 0) and (0, 1)."""
    vectors = np.eye(2, dtype=np.float32)
    inputs, own = 2 * 2 + FORM, 1
    arrays: dict[str, object] = {
        "topic_mean": np.zeros(inputs),
        "topic_scale": np.ones(inputs),
        "topic_weight": np.concatenate([10 * vectors, 10 * vectors, np.zeros((FORM, 2))]),
        "topic_bias": np.zeros(2),
        "centre": np.concatenate([vectors, vectors], axis=1) / math.sqrt(2),
        "near": [0.8, 0.9],
        "form_mean": np.zeros((2, FORM)),
        "form_reach": np.ones((2, FORM)),
        "own_axes": np.zeros((inputs, own)),
        "topic_set": np.eye(2),
        "counted": np.ones(2),
        "related": np.ones(2),
        "topic_ease": [0.8, 0.4],
        "topic_reference": [0.5, 0.5],
        "topic_trust": np.zeros(2),
        "topic_input": np.zeros(2),
        "topic_length": [1.0, -1.0],
        "topic_asked": np.full(2, math.log(200)),
        "quality_marks": np.eye(2),
        "length_marks": np.eye(2),
        "unknown": [0.6, math.log(300)],
    }
    heads = {
        "input_mean": np.zeros(2 + FORM),
        "input_scale": np.ones(2 + FORM),
        "slot_weight": np.zeros((1, 2 + FORM, 2)),
        "slot_bias": np.zeros((1, 2)),
        "ease": np.zeros((1, 1)),
        "average": np.zeros(2),
    }
    for name in ("attend", "quality", "cost"):
        heads |= {f"{name}_weight": np.zeros((1, 1, 1)), f"{name}_bias": np.zeros((1, 1))}
    given = arrays | heads | changes
    return Network.from_arrays({name: np.asarray(array) for name, array in given.items()})


def queries(*vectors: tuple[float, float], form: float = 0.0, asked: float = math.nan) -> Features:
    vector = np.array(vectors, np.float32)
    return Features(
        kind=vector,
        text=vector,
        form=np.full((len(vector), FORM), form, np.float32),
        asked=np.full(len(vector), asked),
        blank=np.zeros(len(vector), np.bool_),
    )


FIRST, SECOND, NEITHER = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def model(of: Network, knows: Sequence[float] = (1, 1), **parts: object) -> ModelDescriptor:
    """A model of level 0 with answers of 300 tokens, $1 a million tokens in and out."""
    zero = of.layout.split(np.zeros((1, of.embedding_size)))
    given = {"shape": 1.0, "length": math.log(300), "knows": knows} | parts
    embedding = zero._replace(
        **{
            name: np.reshape(np.asarray(value, np.float64), np.shape(getattr(zero, name)))
            for name, value in given.items()
        }
    )
    return ModelDescriptor(
        id="m",
        price=Price(
            input_usd_per_1m=1.0,
            output_usd_per_1m=1.0,
            date=datetime.date(2026, 1, 1),
            source="test",
        ),
        learned=Learned(
            checkpoint="c",
            cost_target="output_tokens",
            examples=0,
            embedding=tuple(of.layout.join(embedding)[0].tolist()),
        ),
    )


def test_a_familiar_query_is_about_its_topic_and_a_strange_one_about_none() -> None:
    shares = network().topics.read(queries(FIRST, SECOND, NEITHER))
    assert shares.topic == pytest.approx(np.array([[1, 0], [0, 1], [0, 0]]), abs=1e-6)
    assert shares.dataset == pytest.approx(shares.topic)
    assert shares.unknown == pytest.approx([0, 0, 1], abs=1e-6)


def test_shares_and_what_is_unknown_make_up_one() -> None:
    angles = np.linspace(-1.0, 2.5, 40)
    shares = network().topics.read(
        queries(*zip(np.cos(angles).tolist(), np.sin(angles).tolist(), strict=True))
    )
    assert shares.topic.sum(axis=1) + shares.unknown == pytest.approx(np.ones(40))
    assert shares.topic.min() >= 0
    # Between the two limits a query is familiar in part.
    part = (shares.unknown > 0.01) & (shares.unknown < 0.99)
    assert part.any()


@pytest.mark.parametrize(("form", "unknown"), [(0.9, 0.0), (1.5, 0.5), (2.1, 1.0), (-2.1, 1.0)])
def test_a_form_beyond_the_reach_is_unfamiliar(form: float, unknown: float) -> None:
    shares = network().topics.read(queries(FIRST, form=form))
    assert shares.unknown == pytest.approx([unknown], abs=1e-5)


def test_the_form_of_one_topic_is_no_other_s() -> None:
    far = np.zeros((2, FORM))
    far[1, 0] = 5.0
    # The query has the vector of the second topic and the form of the first.
    shares = network(form_mean=far).topics.read(queries(SECOND))
    assert shares.topic[0, 1] == pytest.approx(0.0, abs=1e-6)
    assert shares.unknown == pytest.approx([1.0], abs=1e-3)


def test_what_is_blank_is_about_nothing() -> None:
    features = queries(FIRST, FIRST)
    features.blank[0] = True
    assert network().topics.read(features).unknown == pytest.approx([1, 0], abs=1e-6)


def test_what_is_known_of_a_topic_is_predicted_of_its_queries() -> None:
    of = network()
    found = Predictor(of, [model(of)]).predict(queries(FIRST, SECOND, NEITHER), np.zeros(3))
    assert found.quality[:, 0] == pytest.approx([0.8, 0.4, 0.6], abs=1e-3)
    assert found.output_tokens[:, 0] == pytest.approx(300 * np.exp([1, -1, 0]), rel=1e-2)


def test_departures_count_where_a_model_was_measured() -> None:
    of = network(topic_weight=np.zeros((4 + FORM, 2)), near=[-1.0, -0.9])
    # Prompts of either topic: what a model does in a data set that it is in says most of it.
    both, one = (
        Predictor(of, [model(of, knows=knows, quality_by_topic=[1.0, 0.0])])
        for knows in ((1, 1), (1, 0))
    )
    features = queries(FIRST)
    assert both.parts(features).level == pytest.approx(np.array([[0.5]]))
    assert one.parts(features).level == pytest.approx(
        np.array([[0.5 / (0.5 + 0.5 * ELSEWHERE)]]), rel=1e-6
    )


def test_a_model_is_held_back_where_nobody_measured_it() -> None:
    of = network()
    predictor = Predictor(of, [model(of, knows=(1, 0), elsewhere=0.5)])
    found = predictor.predict(queries(FIRST, SECOND, NEITHER), np.zeros(3)).quality[:, 0]
    ease = logit_of(np.array([0.8, 0.4, 0.6]))
    assert logit_of(found) == pytest.approx(ease - [0.0, 0.5, 0.5], abs=2e-3)
    # Of a data set that stands by itself, its own models are no better compared.
    apart = network(related=[1, 0])
    predictor = Predictor(apart, [model(apart, knows=(1, 0), elsewhere=0.5)])
    found = predictor.predict(queries(FIRST, SECOND), np.zeros(2)).quality[:, 0]
    assert logit_of(found) == pytest.approx(ease[:2], abs=2e-3)


@pytest.mark.parametrize(
    ("share", "tokens"),
    # By squares: 1000 p^2 / (p^2 + q^2).
    [(1.0, 1_000), (0.5, 500), (0.1, 12), (0.01, 0)],
)
def test_an_agents_input_counts_by_the_square_of_a_topics_share(share: float, tokens: int) -> None:
    of = network(
        topic_weight=np.zeros((4 + FORM, 2)),
        topic_bias=np.log(np.maximum([share, 1 - share], 1e-9)),
        topic_input=[math.log1p(1_000), 0.0],
        near=[-1.0, -0.9],
    )
    one, twice = (Predictor(of, [model(of, input=habit)]) for habit in (0.0, math.log(2)))
    (found,) = one.predict(queries(FIRST), np.array([50.0])).cost_usd[:, 0] * 1e6
    (written,) = one.predict(queries(FIRST), np.array([50.0])).output_tokens[:, 0]
    assert found - written - 50 == pytest.approx(tokens, abs=0.6)
    # A model's habit is a factor.
    (more,) = twice.predict(queries(FIRST), np.array([50.0])).cost_usd[:, 0] * 1e6
    assert more - written - 50 == pytest.approx(2 * tokens, abs=1.1)


def test_an_unfamiliar_query_is_no_agents() -> None:
    of = network(topic_input=np.full(2, math.log1p(10_000)))
    predictor = Predictor(of, [model(of)])
    found = predictor.predict(queries(NEITHER, FIRST), np.full(2, 50.0))
    more = found.cost_usd[:, 0] * 1e6 - found.output_tokens[:, 0] - 50
    assert more == pytest.approx([0, 10_000], abs=1)


@pytest.mark.parametrize("times", [0.01, 0.1, 1.0, 10.0, 1_000.0])
def test_of_an_unfamiliar_query_an_ask_is_heeded(times: float) -> None:
    of = network()
    predictor = Predictor(of, [model(of)])
    asked = math.log(300 * times)
    found = predictor.predict(queries(NEITHER, asked=asked), np.zeros(1)).output_tokens[0, 0]
    assert found == pytest.approx(300 * times**HEED, rel=1e-3)


def test_in_a_known_topic_an_ask_counts_as_far_as_it_is_unusual() -> None:
    of = network()
    predictor = Predictor(of, [model(of)])
    typical = 300 * math.e

    def tokens(over_usual: float) -> float:
        features = queries(FIRST, asked=math.log(200) + over_usual)
        return float(predictor.predict(features, np.zeros(1)).output_tokens[0, 0])

    for usual in (0.0, LEAST_ASK, -LEAST_ASK):
        assert tokens(usual) == pytest.approx(typical, rel=1e-2)
    for plain in (PLAIN_ASK, -PLAIN_ASK, 4.0):
        asked = 200 * math.exp(plain)
        assert tokens(plain) == pytest.approx(typical * (asked / typical) ** HEED, rel=1e-2)
    assert tokens(LEAST_ASK) < tokens(2.0) < tokens(PLAIN_ASK)


def shares_of(router: CrossRouter, given: Sequence[QueryLike]) -> Shares:
    features = Features.of([Query.of(query) for query in given], router.encoder)
    return router.checkpoint.network.topics.read(features)


def test_a_trained_router_knows_its_kinds_of_prompts_and_no_others(
    toy_router: CrossRouter,
) -> None:
    shares = shares_of(toy_router, [STORY, SUM, STRANGE])
    assert shares.unknown[:2] == pytest.approx([0, 0], abs=0.05)
    assert shares.unknown[2] == pytest.approx(1)
    assert shares.topic[0].argmax() != shares.topic[1].argmax()


def orders(router: CrossRouter) -> NDArray[np.intp]:
    return np.argsort(router.predict(QUERIES).quality, axis=1)


def test_without_trust_and_departures_the_order_of_models_is_fixed(
    toy_data: RoutingData, toy_router: CrossRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "TOPIC_ROWS", (math.inf,))
    monkeypatch.setattr(training, "TRUST", (0.0,))
    router = train(toy_data, settings=QUICK)
    assert router.checkpoint.training["belief"] == {"toy": {"topic_rows": None, "trust": 0.0}}
    level = [one.learned.embedding[0] for one in router.pool.values() if one.learned]
    found = orders(router)
    assert (found == np.argsort(level)).all()
    # The same router with what it believes of queries has another order for some.
    assert len(np.unique(orders(toy_router), axis=0)) > 1


def test_a_blank_query_has_the_fixed_order(toy_router: CrossRouter) -> None:
    level = [one.learned.embedding[0] for one in toy_router.pool.values() if one.learned]
    found = toy_router.predict(["", " \n", STRANGE]).quality
    assert (np.argsort(found, axis=1) == np.argsort(level)).all()
    # So has what is like no row of the training.
    assert (found == found[0]).all()


def test_a_query_is_about_the_same_alone_and_among_others(router: CrossRouter) -> None:
    words = [
        "how",
        "can",
        "I",
        "sort",
        "garden",
        "tools?",
        "write",
        "poem",
        "rivers",
        "bug",
        "bash",
    ]
    chance = np.random.default_rng(0)
    texts = [" ".join(chance.choice(words, chance.integers(1, 30))) for _ in range(80)]
    topics = router.checkpoint.network.topics
    features = Features.of([Query.of(text) for text in texts], router.encoder)
    among = topics.read(features)
    assert ((among.unknown > 0.01) & (among.unknown < 0.99)).sum() > 10
    for i in range(len(texts)):
        alone = topics.read(features.take(slice(i, i + 1)))
        # Nearer to each other than what predictions are rounded to, by far.
        assert np.abs(alone.topic[0] - among.topic[i]).max() < 1e-11


CAPITALS = ("Lisbon", "Vienna", "Oslo", "Rome", "Quito", "Accra", "Hanoi", "Lima")


def exam_rows() -> list[Row]:
    """Questions with choices, beside stories."""
    chance = np.random.default_rng(0)
    rows: list[dict[str, object]] = [*make_rows(200)]
    for number in range(200):
        four = chance.permutation(CAPITALS)[:4]
        choices = "".join(f"\n{letter}. {city}" for letter, city in zip("ABCD", four, strict=True))
        rows.append(
            {
                "prompt": f"Which of these cities lies nearest to {chance.choice(CAPITALS)}?"
                f"{choices}",
                "dataset": "exam",
                "split": ("train", "train", "train", "valid", "test")[number % 5],
                "outputs": {
                    name: {"score": float(chance.random() < mean), "cost_usd": 1e-4}
                    for name, mean in (("poet", 0.3), ("clerk", 0.5), ("sage", 0.9))
                },
            }
        )
    return [Row.model_validate(row) for row in rows]


def test_a_question_without_choices_is_none_of_an_exam() -> None:
    router = train(RoutingData.from_rows(exam_rows()), settings=QUICK)
    bare = "Which of these cities lies nearest to Lima?"
    with_choices = f"{bare}\nA. Oslo\nB. Quito\nC. Rome\nD. Accra"
    shares = shares_of(router, [with_choices, bare])
    exam = sorted(router.checkpoint.training["rows"]).index("exam")
    assert shares.dataset[0, exam] > 0.9
    assert shares.dataset[1, exam] == pytest.approx(0.0, abs=1e-6)


def test_a_system_prompt_says_the_kind(toy_router: CrossRouter) -> None:
    sums, stories = (
        shares_of(
            toy_router,
            [[{"role": "system", "content": told}, {"role": "user", "content": "Number 12."}]],
        ).own[0]
        for told in (SUM, STORY)
    )
    # The user's turn is the same, and what is read of it.
    assert np.abs(sums - stories).max() > 0.1
