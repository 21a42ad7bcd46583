"""Models that nobody trained on: from scored answers, or from what their descriptors say."""

# ruff: noqa: ANN401  # Broken scores can be anything.

from __future__ import annotations

import datetime
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossroute import (
    CrossRouter,
    DataError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Price,
    ScoredAnswer,
    UnknownModelError,
)
from crossroute.evaluation.metrics import brier
from crossroute.models.descriptor import Learned, Likeness
from crossroute.onboarding.embedding import error_in_points, onboard
from crossroute.onboarding.guess import guess
from crossroute.onboarding.known_models import KnownModels
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData

PRICE = Price(
    input_usd_per_1m=0.5, output_usd_per_1m=2.0, date=datetime.date(2026, 1, 1), source="test"
)
NEW = ModelDescriptor(id="new", description="New.", price=PRICE)


def answers(data: RoutingData, model: str, count: int, **changes: object) -> list[dict[str, Any]]:
    j = data.models.index(model)
    return [
        {
            "prompt": data.prompts[i],
            "score": data.score[i, j],
            "cost_usd": data.cost_usd[i, j],
            "output_tokens": data.output_tokens[i, j],
        }
        | changes
        for i in range(count)
    ]


def predicted(router: CrossRouter, prompts: Sequence[str], model: str) -> tuple[Any, Any]:
    found = router.predict(prompts)
    j = found.models.index(model)
    return found.quality[:, j], found.cost_usd[:, j]


@pytest.fixture(scope="module")
def some(toy_data: RoutingData) -> RoutingData:
    return toy_data.of_split("train")


@pytest.fixture(scope="module")
def unseen(toy_data: RoutingData) -> RoutingData:
    return toy_data.of_split("test")


def test_a_model_is_like_the_one_that_it_answers_like(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    router = toy_router.add_model(NEW, answers(some, "poet", 60))
    assert set(router.pool) == {*toy_router.pool, "new"}
    learned = router.pool["new"].learned
    assert learned is not None
    assert (learned.source, learned.examples) == ("scores", 60)
    assert learned.cost_target == "output_tokens"
    assert 0 < learned.quality_error < 1
    quality, _ = predicted(router, unseen.prompts, "new")
    assert np.corrcoef(quality, predicted(router, unseen.prompts, "poet")[0])[0, 1] > 0.9
    assert np.corrcoef(quality, predicted(router, unseen.prompts, "clerk")[0])[0, 1] < 0
    # Better than knowing its mean only.
    score = unseen.score[:, unseen.models.index("poet")]
    mean = np.full(len(score), some.score[:60, some.models.index("poet")].mean())
    assert brier(quality, score) < brier(mean, score)


def test_a_few_scores_leave_the_level(toy_router: CrossRouter, some: RoutingData) -> None:
    layout = toy_router.checkpoint.network.layout
    departures, levels = [], []
    for count in (2, 60):
        learned = onboard(toy_router, NEW, answers(some, "poet", count)).learned
        assert learned is not None
        of = layout.split(np.array([learned.embedding]))
        # What the attention reads of a model is learned in training only.
        assert of.trust.tolist() == [0.0]
        assert not of.heads.any()
        known = toy_router.checkpoint.network.topics.quality_marks @ of.quality_by_topic[0]
        departures.append(max(float(np.abs(known).max()), float(np.abs(of.own_quality).max())))
        levels.append(of.level[0])
    assert departures[0] < departures[1] / 2
    assert np.isfinite(levels).all()


def test_a_model_that_answers_alike_everywhere_stands_in_a_fixed_order(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    chance = np.random.default_rng(0)
    scores = answers(some, "poet", 60)
    for answer in scores:
        answer["score"] = float(chance.random() < 0.6)
    quality, _ = predicted(toy_router.add_model(NEW, scores), unseen.prompts, "new")
    poets, _ = predicted(toy_router, unseen.prompts, "poet")
    assert np.ptp(quality) < np.ptp(poets) / 3


def test_its_tokens_are_learned_and_its_price_is_its_own(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    router = toy_router.add_model(NEW, answers(some, "poet", 60))
    _, cost = predicted(router, unseen.prompts, "new")
    tokens = unseen.output_tokens[:, unseen.models.index("poet")]
    inputs = [len(prompt) / 4 for prompt in unseen.prompts]
    assert cost.sum() == pytest.approx(float(PRICE.cost_usd(sum(inputs), tokens.sum())), rel=0.2)
    dearer = NEW.model_copy(
        update={
            "learned": router.pool["new"].learned,
            "price": PRICE.model_copy(update={"output_usd_per_1m": 20.0}),
        }
    )
    others = [model for model in toy_router.pool.values() if model.id != "new"]
    _, more = predicted(router.over(ModelPool([*others, dearer])), unseen.prompts, "new")
    assert more.sum() > 5 * cost.sum()


def test_a_few_answers_of_nothing_do_not_say_how_long_the_others_are(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    scores = answers(some, "poet", 60, output_tokens=200)
    for answer in scores[::8]:
        answer["output_tokens"] = 0
    router = toy_router.add_model(NEW, scores)
    found = router.predict(unseen.prompts)
    tokens = found.output_tokens[:, found.models.index("new")]
    assert 100 < np.median(tokens) < 300
    assert tokens.min() > 20


def test_tokens_are_told_from_the_cost_and_the_price(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    by_tokens = toy_router.add_model(NEW, answers(some, "poet", 60))
    paid = answers(some, "poet", 60, output_tokens=None)
    for answer, row in zip(paid, range(60), strict=True):
        tokens = some.output_tokens[row, some.models.index("poet")]
        answer["cost_usd"] = float(PRICE.cost_usd(len(answer["prompt"]) / 4, tokens))
    by_cost = toy_router.add_model(NEW, paid)
    first, second = (predicted(r, unseen.prompts, "new")[1] for r in (by_tokens, by_cost))
    assert second.sum() == pytest.approx(first.sum(), rel=0.1)


def test_without_a_price_usd_are_learned(
    toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    tripled = answers(some, "poet", 60)
    for answer in tripled:
        answer["cost_usd"] *= 3
    router = toy_router.add_model(ModelDescriptor(id="new"), tripled)
    learned = router.pool["new"].learned
    assert learned is not None
    assert learned.cost_target == "usd"
    cost, poets = (predicted(router, unseen.prompts, m)[1].sum() for m in ("new", "poet"))
    assert cost == pytest.approx(3 * poets, rel=0.2)


def test_scores_alone_do(
    router: CrossRouter, toy_router: CrossRouter, some: RoutingData, unseen: RoutingData
) -> None:
    bare = [{"prompt": a["prompt"], "score": a["score"]} for a in answers(some, "poet", 60)]
    # As many tokens as its kin, for its own price.
    _, cost = predicted(router.add_model(NEW, bare), unseen.prompts, "new")
    dear = NEW.model_copy(update={"price": PRICE.model_copy(update={"output_usd_per_1m": 200.0})})
    _, more = predicted(router.add_model(dear, bare), unseen.prompts, "new")
    assert more.sum() > 10 * cost.sum() > 0
    # The toy's models were learned in USD: it costs what they cost.
    _, same = predicted(toy_router.add_model(NEW, bare), unseen.prompts, "new")
    poets = predicted(toy_router, unseen.prompts, "poet")[1].sum()
    assert same.sum() == pytest.approx(poets, rel=0.5)


def test_a_model_that_never_failed_is_not_sure(toy_router: CrossRouter) -> None:
    prompts = [f"What is {n} * 3?" for n in range(20)]
    perfect = [{"prompt": prompt, "score": 1.0, "cost_usd": 0.001} for prompt in prompts]
    quality, _ = predicted(toy_router.add_model(ModelDescriptor(id="new"), perfect), prompts, "new")
    assert 0.8 < quality.mean() < 0.995


@pytest.mark.parametrize("count", [5, 20, 60])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_answers_that_are_all_alike_make_nobody_sure(
    toy_router: CrossRouter, score: float, count: int
) -> None:
    scores = [{"prompt": f"What is {i} * 3?", "score": score} for i in range(count)]
    learned = onboard(toy_router, NEW, scores).learned
    assert learned is not None
    assert error_in_points(learned) > 2


def test_luck_is_held_back_the_more_the_fewer_the_scores(
    toy_router: CrossRouter, some: RoutingData
) -> None:
    prompts = [prompt for prompt in some.prompts if prompt.startswith("What is")][:40]
    perfect = [{"prompt": prompt, "score": 1.0, "cost_usd": 0.001} for prompt in prompts]
    errors, means = [], []
    for count in (2, 10, 40):
        router = toy_router.add_model(ModelDescriptor(id="new"), perfect[:count])
        learned = router.pool["new"].learned
        assert learned is not None
        errors.append(learned.quality_error)
        means.append(predicted(router, prompts, "new")[0].mean())
    assert errors == sorted(errors, reverse=True)
    assert means == sorted(means)


def test_the_error_pulls_a_prediction_toward_even_odds(toy_router: CrossRouter) -> None:
    sage = toy_router.pool["sage"]
    assert sage.learned is not None
    unsure = sage.model_copy(
        update={
            "id": "unsure",
            "learned": sage.learned.model_copy(update={"quality_error": 1.5}),
        }
    )
    router = toy_router.over(ModelPool([*toy_router.pool.values(), unsure]))
    prompts = ["What is 3 * 4?", "Write a short story about a newt."]
    known, held_back = (predicted(router, prompts, m)[0] for m in ("sage", "unsure"))
    assert (abs(held_back - 0.5) < abs(known - 0.5)).all()
    assert ((held_back > 0.5) == (known > 0.5)).all()


def test_onboarding_replaces_a_model_of_the_same_id(
    toy_router: CrossRouter, some: RoutingData
) -> None:
    clerk = toy_router.pool["clerk"]
    router = toy_router.add_model(clerk, answers(some, "poet", 60))
    assert set(router.pool) == set(toy_router.pool)
    assert router.pool["clerk"].learned != clerk.learned
    # The old router is as it was.
    assert toy_router.pool["clerk"] is clerk


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([], "no scores were given"),
        ([{"prompt": "Why?", "score": 1.5, "cost_usd": 0}], "score 0 is broken: score: "),
        (
            [{"prompt": "Why?", "scores": 1}],
            r"score 0 is broken: score: missing; add it\. scores: unknown field; did",
        ),
        ([7], "score 0 is broken: Input should be"),
    ],
)
def test_broken_scores_are_named(toy_router: CrossRouter, scores: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"new: {said}"):
        toy_router.add_model(NEW, scores)


def test_a_guess_follows_the_model_that_it_behaves_like(toy_router: CrossRouter) -> None:
    prompts = ["What is 3 * 4?", "Write a short story about a newt."]

    def guessed(offset: float) -> Any:
        like = Likeness(model="poet", quality_offset=offset)
        router = toy_router.add_model(NEW.model_copy(update={"behaves_like": like}))
        learned = router.pool["new"].learned
        assert learned is not None
        assert (learned.source, learned.examples) == ("guess", 0)
        return predicted(router, prompts, "new")

    quality, cost = guessed(0.0)
    poets, _ = predicted(toy_router, prompts, "poet")
    assert np.sign(quality[0] - quality[1]) == np.sign(poets[0] - poets[1])
    assert (guessed(0.2)[0] > quality).all()
    assert (guessed(-0.2)[0] < quality).all()
    assert (cost > 0).all()


def test_an_offset_is_in_points_of_quality(toy_router: CrossRouter) -> None:
    # Of a query of which nothing is known, for it is near even odds there.
    def guessed(offset: float) -> float:
        like = Likeness(model="poet", quality_offset=offset)
        router = toy_router.add_model(NEW.model_copy(update={"behaves_like": like}))
        return float(predicted(router, [""], "new")[0][0])

    assert guessed(0.05) - guessed(-0.05) == pytest.approx(0.1, abs=0.02)


def test_an_offset_reaches_what_the_attention_says(toy_router: CrossRouter) -> None:
    layout = toy_router.checkpoint.network.layout

    def level(offset: float) -> float:
        like = Likeness(model="poet", quality_offset=offset)
        learned = guess(toy_router, NEW.model_copy(update={"behaves_like": like})).learned
        assert learned is not None
        return float(layout.split(np.array([learned.embedding])).attention_level[0])

    assert level(0.1) - level(0.0) == pytest.approx(0.4, abs=1e-3)


def test_a_model_may_be_like_one_that_was_measured_on_letters(router: CrossRouter) -> None:
    known = KnownModels.of_router(router, without="new")
    j = int(np.flatnonzero(known.in_tokens)[0])
    length, weights = known.of.length.copy(), np.zeros(len(known.models))
    length[j], weights[j] = math.log(2), 1.0
    known = known._replace(of=known.of._replace(length=length))
    assert known.cost_like(NEW, weights) == ("output_tokens", math.log(2))


def test_a_guess_without_a_reference_goes_by_price_size_and_family(router: CrossRouter) -> None:
    cheap, dear = (
        ModelDescriptor(
            id="new",
            price=PRICE.model_copy(update={"input_usd_per_1m": p / 4, "output_usd_per_1m": p}),
        )
        for p in (0.3, 30.0)
    )
    prompts = ["What is 3 * 4?", "Prove that there are infinitely many primes."]
    qualities = [
        predicted(router.add_model(new), prompts, "new")[0].mean() for new in (cheap, dear)
    ]
    assert qualities[0] < qualities[1]


@pytest.mark.parametrize("dollars", [3.0, 15.0, 75.0, 600.0])
def test_a_guess_expects_whole_answers(router: CrossRouter, dollars: float) -> None:
    # Most of the dear models that ship were measured on answers of one letter.
    price = PRICE.model_copy(update={"output_usd_per_1m": dollars})
    with_new = router.add_model(ModelDescriptor(id="new", price=price))
    found = with_new.predict(["Write an essay on bees."])
    assert found.output_tokens[0, found.models.index("new")] > 30


@pytest.mark.parametrize("scores", [5, "scores", {"Why?": 1.0}])
def test_scores_of_another_form_are_refused(toy_router: CrossRouter, scores: Any) -> None:
    with pytest.raises(DataError, match=r"new: scores are .*; give a list of mappings"):
        toy_router.add_model(NEW, scores)


def test_any_character_may_stand_in_a_prompt(tmp_path: Path) -> None:
    answer = ScoredAnswer(prompt="one\u2028two\u0085three\x0cfour", score=1)
    path = tmp_path / "scores.jsonl"
    path.write_text("\ufeff" + answer.model_dump_json() + "\r\n", "utf-8")
    assert load_scores(path, "new") == [answer]


def test_a_guess_names_what_is_missing(toy_router: CrossRouter) -> None:
    # The toy's models have no price to compare with.
    with pytest.raises(DataError, match="add behaves_like"):
        toy_router.add_model(NEW)
    wrong = NEW.model_copy(update={"behaves_like": Likeness(model="poets")})
    with pytest.raises(UnknownModelError, match="did you mean 'poet'"):
        toy_router.add_model(wrong)


def test_a_guess_is_no_kin(toy_router: CrossRouter) -> None:
    like = NEW.model_copy(update={"behaves_like": Likeness(model="poet")})
    router = toy_router.add_model(like)
    another = like.model_copy(update={"id": "another", "behaves_like": Likeness(model="new")})
    with pytest.raises(UnknownModelError, match="'new' is not in the pool"):
        router.add_model(another)


def test_a_file_in_a_folder_is_enough(toy_router: CrossRouter, toy_folder: Path) -> None:
    like = NEW.model_copy(update={"behaves_like": Likeness(model="poet")})
    like.save(toy_folder / "models")
    router = CrossRouter.load(toy_folder)
    learned = router.pool["new"].learned
    assert learned is not None
    assert learned.source == "guess"
    assert router.route("What is 3 * 4?").candidates


def test_a_file_that_says_too_little_is_named(toy_folder: Path) -> None:
    ModelDescriptor(id="mute").save(toy_folder / "models")
    with pytest.raises(PoolError, match=r"mute.*no learned embedding.*crossroute models onboard"):
        CrossRouter.load(toy_folder)


def test_scores_are_read_from_lines(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "score": 1, "output_tokens": 5},
        {"prompt": "How?", "outputs": {"new": {"score": 0.5, "cost_usd": 0.1}, "other": {}}},
        {"prompt": "Who?", "outputs": {"other": {"score": 0.5, "cost_usd": 0.1}}},
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", "utf-8")
    assert load_scores(path, "new") == [
        ScoredAnswer(prompt="Why?", score=1, output_tokens=5),
        ScoredAnswer(prompt="How?", score=0.5, cost_usd=0.1),
    ]


def test_scores_may_be_routing_data(toy_router: CrossRouter, tmp_path: Path) -> None:
    row = {"prompt": "How?", "outputs": {"new": {"score": 1, "cost_usd": 0.1, "latency_s": 2}}}
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row).encode()))
    assert load_scores(path, "new") == [ScoredAnswer(prompt="How?", score=1, cost_usd=0.1)]
    path.write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load_scores(path, "new")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: not a scored answer"),
        ('{"prompt": "Why?"}', "line 1: not a scored answer: score: missing"),
        ("[1]", "line 1: not a scored answer"),
        ('{"prompt": "Why?", "outputs": []}', "line 1: not a scored answer"),
        ('{"prompt": "Why?", "outputs": {}}', "holds no scored answer of 'new'"),
        ("", "holds no scored answer of 'new'"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=said):
        load_scores(path, "new")
    with pytest.raises(DataError, match="cannot be read"):
        load_scores(tmp_path / "none.jsonl", "new")


def test_functions_and_method_agree(toy_router: CrossRouter, some: RoutingData) -> None:
    scores = answers(some, "poet", 30)
    assert toy_router.add_model(NEW, scores).pool["new"] == onboard(toy_router, NEW, scores)
    like = NEW.model_copy(update={"behaves_like": Likeness(model="poet")})
    assert toy_router.add_model(like).pool["new"] == guess(toy_router, like)


@pytest.mark.parametrize(
    ("quality", "error", "points"),
    [
        (None, 1.0, 23.1),
        (0.5, 1.0, 23.1),
        (0.9, 0.5, 5.5),
        # As sure of a model that is mostly wrong.
        (0.1, 0.5, 5.5),
        (0.95, 0.5, 2.98),
        (0.9, 0.0, 0.0),
        # Not sure of all, and not without bounds.
        (1.0, 0.5, 0.065),
        (0.5, 100.0, 50.0),
    ],
)
def test_an_error_in_points_is_the_wider_side(
    quality: float | None, error: float, points: float
) -> None:
    learned = Learned(
        checkpoint="c",
        cost_target="usd",
        examples=1,
        embedding=(0.0,),
        mean_quality=quality,
        quality_error=error,
    )
    assert error_in_points(learned) == pytest.approx(points, rel=0.01, abs=1e-9)


def test_two_right_answers_make_nobody_sure(toy_router: CrossRouter) -> None:
    prompts = [f"What is {n} * 3?" for n in range(66)]
    scores = [{"prompt": prompt, "score": 1.0, "cost_usd": 0.001} for prompt in prompts]
    points = []
    for count in (2, 20, 66):
        learned = onboard(toy_router, ModelDescriptor(id="new"), scores[:count]).learned
        assert learned is not None
        assert learned.mean_quality is not None
        assert 0.5 < learned.mean_quality < 1
        points.append(error_in_points(learned))
    assert points == sorted(points, reverse=True)
    assert points[0] > 5


def test_short_and_long_prompts_are_told_apart() -> None:
    """Quality and length by kind of prompt, as far as training tells them apart."""
    router = CrossRouter.default()
    chance = np.random.default_rng(0)

    def short() -> str:
        return f"What is the capital near town number {chance.integers(999)}?"

    def long() -> str:
        line = "In region {} revenue was {} and costs rose by {} percent, as planned before."
        lines = [line.format(*chance.integers(9_999, size=3)) for _ in range(12)]
        return " ".join(["Please analyse the following report in depth.", *lines])

    scores = [
        {"prompt": long(), "score": float(chance.random() < 0.5), "output_tokens": 2_000}
        if number % 2
        else {"prompt": short(), "score": 1.0, "output_tokens": 5}
        for number in range(500)
    ]
    price = Price(input_usd_per_1m=1.0, output_usd_per_1m=4.0)
    few, many = (
        onboard(router, ModelDescriptor(id="new", price=price), scores[:count])
        for count in (20, 500)
    )
    prompts = [short(), long()]
    for model in (few, many):
        found = router.over(ModelPool([model, router.pool["gpt-5-mini@low"]])).predict(prompts)
        new = found.models.index("new")
        assert found.output_tokens[:, new] == pytest.approx([5, 2_000], rel=0.25)
    assert found.quality[:, new] == pytest.approx([1.0, 0.5], abs=0.12)
