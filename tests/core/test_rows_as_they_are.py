"""Rows as logs and benchmarks have them: some of the models, no cost, characters, messages."""

from __future__ import annotations

import datetime
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_core import QUICK, make_rows

from crossroute import CrossRouter, DataError, ModelDescriptor, Price
from crossroute.evaluation.evaluate import evaluate
from crossroute.evaluation.references import fixed_order
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData, Row
from crossroute.training.levels import Levels
from crossroute.training.train import train


def of(rows: list[dict[str, Any]]) -> RoutingData:
    return RoutingData.from_rows([Row.model_validate(row) for row in rows])


def priced(model: str, input_usd: float, output_usd: float) -> ModelDescriptor:
    price = Price(
        input_usd_per_1m=input_usd,
        output_usd_per_1m=output_usd,
        date=datetime.date(2026, 1, 1),
        source="test",
    )
    return ModelDescriptor(id=model, price=price)


def thinned(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Rows that lack the answer of one model each, at random."""
    chance = np.random.default_rng(seed)
    for row in rows:
        del row["outputs"][chance.choice(sorted(row["outputs"]))]
    return rows


def test_an_answer_without_a_cost_is_an_answer() -> None:
    data = of([{"prompt": "Why?", "outputs": {"a": {"score": 1}, "b": {"score": 0}}}])
    assert data.score.tolist() == [[1, 0]]
    assert np.isnan(data.cost_usd).all()


def test_an_answer_has_input_tokens_of_its_own() -> None:
    outputs = {"a": {"score": 1, "input_tokens": 5, "output_chars": 40}, "b": {"score": 0}}
    data = of([{"prompt": "Why?", "input_tokens": 7, "outputs": outputs}])
    assert data.input_tokens.tolist() == [[5, 7]]
    assert data.output_chars[0, 0] == 40


def test_a_prompt_may_be_messages() -> None:
    messages = [
        {"role": "system", "content": "You translate."},
        {"role": "user", "content": "Guten Tag, wie geht es Ihnen heute?"},
    ]
    rows = [
        {"prompt": messages, "split": "train", "outputs": {"a": {"score": 1, "cost_usd": 0.1}}},
        {"prompt": messages[1]["content"], "split": "test", "outputs": {"a": {"score": 1}}},
        {"prompt": "Something else.", "split": "train", "outputs": {"a": {"score": 1}}},
    ]
    data = of(rows)
    assert data.prompts[0] == messages
    assert data.questions[0] == "Guten Tag, wie geht es Ihnen heute?"
    # It asks what the test row asks.
    assert data.without_test().prompts == ("Something else.",)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([], "no text"),
        ([{"content": "Why?"}], "has no role"),
        ([{"role": "user", "content": "  "}], "no text"),
        ([{"role": "user", "content": 5}], "content of type int"),
    ],
)
def test_messages_that_ask_nothing_are_a_broken_row(
    tmp_path: Path, prompt: object, said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": prompt, "outputs": {"a": {"score": 1}}}
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError, match=f"rows.jsonl:1: .*{said}"):
        RoutingData.load([path])


def test_costs_that_no_row_says_are_those_of_the_prices() -> None:
    outputs = {
        "told": {"score": 1, "cost_usd": 0.5, "output_tokens": 10},
        "counted": {"score": 1, "input_tokens": 1000, "output_tokens": 10},
        "written": {"score": 1, "output_chars": 400},
        "unknown": {"score": 1, "output_tokens": 10},
    }
    data = of([{"prompt": "Why?", "input_tokens": 2000, "outputs": outputs}])
    known = {model: priced(model, 1.0, 10.0) for model in ("told", "counted", "written")}
    cost = dict(zip(data.models, data.priced(known).cost_usd[0].tolist(), strict=True))
    assert cost["told"] == 0.5
    assert cost["counted"] == pytest.approx((1000 * 1 + 10 * 10) / 1e6)
    assert cost["written"] == pytest.approx((2000 * 1 + 100 * 10) / 1e6)
    assert math.isnan(cost["unknown"])


def test_input_tokens_that_nobody_counted_are_estimated() -> None:
    data = of([{"prompt": "word " * 1000, "outputs": {"a": {"score": 1, "output_tokens": 0}}}])
    cost = data.priced({"a": priced("a", 1.0, 1.0)}).cost_usd[0, 0]
    assert cost == pytest.approx(1000 / 1e6, rel=0.1)


def test_levels_are_corrected_for_the_rows_of_a_model() -> None:
    """The strong model was run on the hard rows only, where it is better than the weak one."""
    chance = np.random.default_rng(0)
    hard = np.arange(600) % 2 == 0
    score = np.full((600, 3), np.nan)
    for j, (gain, rows) in enumerate([(0.2, hard), (0.0, hard | ~hard), (0.1, ~hard)]):
        mean = np.where(hard, 0.2, 0.7) + gain
        score[rows, j] = chance.random(rows.sum()) < mean[rows]
    found = Levels.of(score).model
    assert np.nanmean(score[:, 0]) < np.nanmean(score[:, 1])
    assert found[0] - found[1] == pytest.approx(0.2, abs=0.06)
    assert found[2] - found[1] == pytest.approx(0.1, abs=0.06)


def test_a_level_of_few_rows_is_near_the_mean_of_all() -> None:
    score = np.full((100, 3), np.nan)
    score[:, 0], score[:, 1], score[:2, 2] = 0.4, 0.6, 1.0
    found = Levels.of(score)
    assert found.model[1] < found.model[2] < 0.3
    assert found.row.mean() + found.model[:2] == pytest.approx([0.4, 0.6], abs=0.02)


def test_of_a_model_that_nobody_has_seen_the_mean_is_taken() -> None:
    past = of(
        [{"prompt": "Why?", "outputs": {"a": {"score": 1, "cost_usd": 1}, "b": {"score": 0}}}]
    )
    level, cost = fixed_order(past, ["a", "b", "c"])
    assert level[1] < level[2] < level[0]
    assert cost.tolist() == [1, 1, 1]


def test_routers_choose_among_the_models_that_answered(
    toy_router: CrossRouter,
) -> None:
    data = of(thinned(make_rows()))
    past, test = data.select(data.split != "test"), data.of_split("test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = evaluate(toy_router, test, past)
    assert found.answers == (2, 2)
    assert [result.router for result in found.results] == [
        "CrossRoute",
        "fixed order",
        "random",
        "oracle",
    ]
    ours, fixed, chance, oracle = found.results
    assert chance.quality < fixed.quality < ours.quality <= oracle.quality
    assert fixed.aiq is not None
    assert ours.aiq is not None
    assert oracle.aiq is not None
    assert fixed.aiq < ours.aiq < oracle.aiq


def test_where_most_rows_are_complete_it_is_those_that_count(toy_router: CrossRouter) -> None:
    rows = [row for row in make_rows() if row["split"] == "test"]
    thinned(rows[:20])
    (found,) = evaluate(toy_router, of(rows))
    assert (found.prompts, found.answers) == (len(rows) - 20, (3, 3))
    assert "Zero router" in {result.router for result in found.results}
    assert "fixed order" not in {result.router for result in found.results}


def test_without_any_cost_nothing_can_be_compared(toy_router: CrossRouter) -> None:
    rows = make_rows(20)
    for row in rows:
        for output in row["outputs"].values():  # type: ignore[attr-defined]
            del output["cost_usd"]
    with pytest.raises(DataError, match="score and a cost of two of the models"):
        evaluate(toy_router, of(rows))
    with pytest.raises(DataError, match="Nothing says what an answer costs"):
        train(of(make_rows_without_cost()), settings=QUICK)


def make_rows_without_cost() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = make_rows(100)
    for row in rows:
        row["outputs"] = {model: {"score": x["score"]} for model, x in row["outputs"].items()}
    return rows


def test_training_takes_rows_as_they_are() -> None:
    """One model has costs, one tokens and a price, one characters and a price, one nothing."""
    rows: list[dict[str, Any]] = thinned(make_rows())
    for row in rows:
        if sage := row["outputs"].get("sage"):
            row["outputs"]["mute"] = {"score": sage["score"]}
            row["outputs"]["sage"] = {"score": sage["score"], "output_tokens": 30}
        if clerk := row["outputs"].get("clerk"):
            row["outputs"]["clerk"] = {"score": clerk["score"], "output_chars": 80}
    known = {"sage": priced("sage", 1.0, 20.0), "clerk": priced("clerk", 0.1, 1.0)}
    router = train(of(rows), known=known, settings=QUICK)
    targets = {m.id: m.learned.cost_target for m in router.pool.values() if m.learned}
    assert targets == {
        "clerk": "output_tokens",
        "mute": "usd",
        "poet": "usd",
        "sage": "output_tokens",
    }
    found = router.predict(of(rows).prompts)
    tokens = dict(zip(found.models, found.output_tokens.mean(axis=0).tolist(), strict=True))
    assert tokens["sage"] == pytest.approx(30, rel=0.2)
    assert tokens["clerk"] == pytest.approx(20, rel=0.2)
    # It is taken to cost the median of what is known, and that is known of one model.
    cost = dict(zip(found.models, found.cost_usd.mean(axis=0).tolist(), strict=True))
    known_usd = [x["poet"]["cost_usd"] for row in rows if "poet" in (x := row["outputs"])]
    assert min(known_usd) < cost["mute"] < max(known_usd)


def test_scores_of_one_model_are_read_from_such_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    outputs = {"a": {"score": 1, "output_chars": 40, "input_tokens": 3}, "b": {"score": 0}}
    path.write_text(json.dumps({"prompt": "Why?", "outputs": outputs}) + "\n", "utf-8")
    (answer,) = load_scores(path, "a")
    assert (answer.score, answer.output_tokens, answer.cost_usd) == (1, 10, None)


def test_a_model_is_not_thought_worse_for_the_hard_rows_that_it_was_run_on() -> None:
    """What is hard cannot be seen: the strong model is better by .3 wherever both answered."""
    chance = np.random.default_rng(0)
    rows = []
    for number in range(600):
        hard = number % 2 == 0
        good = {"weak": 0.1, "strong": 0.4} if hard else {"weak": 0.9}
        outputs = {
            model: {"score": float(chance.random() < mean), "cost_usd": 0.001}
            for model, mean in good.items()
        }
        split = ("train", "train", "train", "valid")[number % 4 - number // 300]
        rows.append({"prompt": f"Question {chance.random()}?", "outputs": outputs, "split": split})
    router = train(of(rows), settings=QUICK)
    found = router.predict([f"Question {chance.random()}?" for _ in range(100)])
    quality = dict(zip(found.models, found.quality.mean(axis=0).tolist(), strict=True))
    assert quality["weak"] == pytest.approx(0.5, abs=0.1)
    assert quality["strong"] - quality["weak"] == pytest.approx(0.3, abs=0.1)


def test_a_dear_data_set_does_not_say_alone_what_a_model_costs() -> None:
    chance = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"Question {chance.random()}?",
            "dataset": ("short", "long")[number % 2],
            "split": ("train", "train", "valid")[number % 3],
            "outputs": {
                model: {"score": float(chance.random() < 0.5), "cost_usd": (0.001, 0.1)[number % 2]}
                for model in ("a", "b")
            },
        }
        for number in range(300)
    ]
    router = train(of(rows), settings=QUICK)
    found = router.predict([f"Question {chance.random()}?" for _ in range(100)])
    # What tells the two apart cannot be seen. The total would say .05, the factors say .01.
    usual = np.exp(np.log(found.cost_usd).mean(axis=0))
    assert usual.tolist() == pytest.approx([0.01, 0.01], rel=0.6)
