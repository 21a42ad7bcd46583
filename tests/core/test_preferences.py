"""Training on comparisons of answers."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes_core import QUICK, SHARED_DATA, make_rows, write_rows
from preferences import aiq, choices, drawn_pairs

from crossroute import CrossRouter, DataError, ModelDescriptor, Price
from crossroute.evaluation.references import zero
from crossroute.models.pool import ModelPool
from crossroute.training.data import RoutingData, Row
from crossroute.training.preferences import Pairs, Preference, Preferences
from crossroute.training.train import train
from crossroute.training.unsaid import with_unsaid

PAIR: dict[str, object] = {"prompt": "Why?", "model_a": "x", "model_b": "y", "winner": "a"}
COSTS = {"poet": 1e-4, "clerk": 1e-4, "sage": 3e-3}


def of(rows: Sequence[dict[str, object]]) -> Preferences:
    return Preferences.from_rows([Preference.model_validate(row) for row in rows])


def pairs_of(
    rows: Sequence[dict[str, object]], *, ahead: str = "", bias: float | None = None
) -> list[dict[str, object]]:
    """All pairs of answers to the rows, with what the answers cost.

    Args:
        rows: Scored answers.
        ahead: The model whose answer stands first nine times in ten.
        bias: Of a judge without ties, in logits; None for the winner by score.
    """
    chance = random.Random(0)
    found: list[dict[str, object]] = []
    for row in rows:
        outputs = row["outputs"]
        assert isinstance(outputs, dict)
        for pair in itertools.combinations(sorted(outputs), 2):
            a, b = sorted(pair, key=lambda model: model != ahead)
            if chance.random() > (0.9 if ahead in pair else 0.5):
                a, b = b, a
            difference = outputs[a]["score"] - outputs[b]["score"]
            if bias is None:
                winner = "a" if difference > 0 else "b" if difference < 0 else "tie"
            else:
                wins = 1 / (1 + math.exp(-2 * difference - bias))
                winner = "a" if chance.random() < wins else "b"
            found.append(
                {key: row[key] for key in ("prompt", "dataset", "split")}
                | {"model_a": a, "model_b": b, "winner": winner}
                | {"cost_usd_a": outputs[a].get("cost_usd")}
                | {"cost_usd_b": outputs[b].get("cost_usd")}
            )
    return found


def judged(
    levels: dict[str, float], *, bias: float, tie: float, count: int = 1_500
) -> list[dict[str, object]]:
    """Comparisons as a judge makes them of models with the same logit of quality everywhere."""
    chance = random.Random(1)
    right = {model: 1 / (1 + math.exp(-level)) for model, level in levels.items()}
    prompts = [row["prompt"] for row in make_rows(count // 3)]
    found: list[dict[str, object]] = []
    for number in range(count):
        a, b = chance.sample(sorted(levels), 2)
        odds = {
            "a": right[a] * (1 - right[b]) * math.exp(bias / 2),
            "b": (1 - right[a]) * right[b] * math.exp(-bias / 2),
            "tie": tie * (right[a] * right[b] + (1 - right[a]) * (1 - right[b])),
        }
        (winner,) = chance.choices(list(odds), list(odds.values()))
        pair = {"prompt": prompts[number // 3], "model_a": a, "model_b": b, "winner": winner}
        found.append(pair | {"cost_usd_a": 0.001, "cost_usd_b": 0.001})
    return found


def training(router: CrossRouter) -> dict[str, float]:
    found = json.loads(json.dumps(router.checkpoint.training))["preferences"]
    assert isinstance(found, dict)
    return found


# Reading


def test_comparisons_of_one_prompt_are_one_row(tmp_path: Path) -> None:
    other = PAIR | {"model_b": "z", "winner": "tie", "output_tokens_a": 10, "cost_usd_a": 0.1}
    again = PAIR | {"output_tokens_a": 20, "output_tokens_b": 7}
    lines = [PAIR, other, again, PAIR | {"prompt": "How?", "winner": " B "}]
    path = write_rows(tmp_path / "mine.jsonl", lines)
    found = Preferences.load([path])
    assert found.data.prompts == ("Why?", "How?")
    assert found.data.models == ("x", "y", "z")
    assert set(found.data.dataset) == {"mine"}
    assert found.pairs.row.tolist() == [0, 0, 0, 1]
    assert found.pairs.first.tolist() == [0, 0, 0, 0]
    assert found.pairs.second.tolist() == [1, 2, 1, 1]
    assert found.pairs.won.tolist() == [1, 0, 1, -1]
    assert found.data.output_tokens[0, :2].tolist() == [15, 7]
    assert found.data.cost_usd[0, 0] == 0.1
    assert np.isnan(found.data.score[1, 2])
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert (Preferences.load([packed]).pairs.won == found.pairs.won).all()


def test_the_same_prompt_of_two_data_sets_is_two_rows() -> None:
    found = of([PAIR | {"dataset": "one"}, PAIR | {"dataset": "two"}])
    assert found.data.names == ("one", "two")
    messages = [{"role": "user", "content": "Why?"}]
    assert len(of([PAIR | {"prompt": messages}, PAIR | {"prompt": messages}, PAIR]).data) == 2


def test_a_fifth_of_the_questions_is_held_out_and_none_is_a_test() -> None:
    found = of([PAIR | {"prompt": f"What is {number}?"} for number in range(500)])
    assert set(found.data.split) == {"train", "valid"}
    assert 70 < (found.data.split == "valid").sum() < 130
    assert of([PAIR | {"split": "test"}]).data.split.tolist() == ["test"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (PAIR | {"winner": "model_a"}, "winner"),
        (PAIR | {"model_b": "x"}, "compares x with itself; name two models"),
        ({key: PAIR[key] for key in ("prompt", "model_a", "model_b")}, "winner"),
        (PAIR | {"prompt": " "}, "prompt"),
        (PAIR | {"model_a": ""}, "model_a"),
        (PAIR | {"cost_usd_a": -1}, "cost_usd_a"),
        ("{", "JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: object, said: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(PAIR)}\n\n{text}\n", "utf-8")
    with pytest.raises(DataError, match=r"1 of 2 rows are broken") as caught:
        Preferences.load([path])
    assert f"{path}:3: " in str(caught.value)
    assert said in str(caught.value)
    assert len(Preferences.load([path], skip_broken=True).pairs.row) == 1


def test_a_file_without_comparisons_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("\n", "utf-8")
    with pytest.raises(DataError, match="no usable row"):
        Preferences.load([tmp_path / "pairs.jsonl"])
    with pytest.raises(DataError, match="No file of preferences"):
        Preferences.load([])


# Points


def test_all_pairs_of_right_and_wrong_answers_give_back_their_scores() -> None:
    rows = make_rows(60)
    wrong = {model: {"score": 0} for model in ("poet", "clerk", "sage")}
    rows.append(rows[0] | {"prompt": "What is nobody's business?", "outputs": wrong})
    scored = RoutingData.from_rows([Row.model_validate(row) for row in rows])
    found = of(pairs_of(rows)).data
    assert found.models == scored.models
    right = scored.score.max(axis=1) == 1
    assert right.any()
    assert not right.all()
    assert found.score[right] == pytest.approx(scored.score[right], abs=1e-5)
    assert found.score[~right] == pytest.approx(1)


def test_points_are_the_least_squares_of_the_comparisons() -> None:
    # x beats y beats z beats x: nobody is better.
    circle = [PAIR | {"model_a": a, "model_b": b} for a, b in (("x", "y"), ("y", "z"), ("z", "x"))]
    assert of(circle).data.score == pytest.approx(np.ones((1, 3)), abs=1e-5)
    # One judge of two finds x better than y.
    twice = of([PAIR, PAIR | {"winner": "tie"}]).data
    assert twice.score == pytest.approx(np.array([[1, 0.5]]), abs=1e-5)


def test_points_know_no_position() -> None:
    # Models that are alike, of which x stands first three times in four, before a judge by whom
    # the first wins in 73 of 100.
    rows = [
        PAIR | {"prompt": str(number), "model_a": a, "model_b": b, "winner": winner}
        for number, (a, b, winner) in enumerate(
            [("x", "y", "a")] * 219
            + [("x", "y", "b")] * 81
            + [("y", "x", "a")] * 73
            + [("y", "x", "b")] * 27
        )
    ]
    found = of(rows)
    bias = found.position_bias()
    assert bias == pytest.approx(math.log(73 / 27), abs=0.05)
    lead = -np.diff(found.data.score.mean(axis=0))
    assert lead == pytest.approx(0.23, abs=1e-4)
    lead = -np.diff(found.pointed(bias).data.score.mean(axis=0))
    assert lead == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("ahead", ["low", "best"])
def test_a_model_that_always_stands_first_is_good_or_bad_and_no_bias(ahead: str) -> None:
    levels = {"low": -1.0, "middle": 0.0, "best": 2.0}
    swapped = {"a": "b", "b": "a", "tie": "tie"}
    rows = [
        pair
        if pair["model_a"] == ahead
        else pair
        | {"model_a": pair["model_b"], "model_b": pair["model_a"]}
        | {"winner": swapped[str(pair["winner"])]}
        for pair in judged(levels, bias=0.0, tie=1.0)
        if ahead in (pair["model_a"], pair["model_b"])
    ]
    found = of(rows)
    assert found.position_bias() == pytest.approx(0, abs=0.1)
    assert training(train(preferences=found, settings=QUICK))["position_bias"] == pytest.approx(
        0, abs=0.2
    )


# Training


def test_levels_and_position_bias_are_recovered() -> None:
    levels = {"low": -1.0, "middle": 0.0, "good": 1.0, "best": 2.0}
    found = of(judged(levels, bias=0.6, tie=1.0))
    assert found.position_bias() == pytest.approx(0.6, abs=0.25)
    router = train(preferences=found, settings=QUICK)
    told = training(router)
    assert told["pairs"] == 1_500
    assert told["ties"] == pytest.approx(0.46, abs=0.05)
    assert told["position_bias"] == pytest.approx(0.6, abs=0.25)
    assert told["tie"] == pytest.approx(1.0, abs=0.4)
    predicted = router.predict(found.data.prompts[:50])
    quality = dict(zip(predicted.models, predicted.quality.mean(axis=0), strict=True))
    assert sorted(quality, key=quality.__getitem__) == list(levels)
    right = {model: 1 / (1 + math.exp(-level)) for model, level in levels.items()}
    for model in levels:
        gap = quality[model] - quality["low"]
        assert gap == pytest.approx(right[model] - right["low"], abs=0.15)


@pytest.fixture(scope="module")
def compared_router() -> CrossRouter:
    return train(preferences=of(pairs_of(make_rows())), settings=QUICK)


def test_pairs_made_of_scores_route_as_the_scores_do(
    toy_data: RoutingData, toy_router: CrossRouter, compared_router: CrossRouter
) -> None:
    prompts = toy_data.of_split("test").prompts
    for willingness in (1e-5, 1e-3, 10.0):
        chosen = [
            [d.model for d in router.route_batch(prompts, willingness_to_pay=willingness)]
            for router in (toy_router, compared_router)
        ]
        alike = sum(a == b for a, b in zip(*chosen, strict=True))
        assert alike > 0.85 * len(prompts), willingness
    assert compared_router.pool["sage"].learned
    assert compared_router.pool["sage"].learned.examples == 320
    assert compared_router.checkpoint.training["rows"] == {"toy": 320}


def test_where_an_answer_stands_does_not_move_decisions(toy_data: RoutingData) -> None:
    # Poet stands first nearly always, before a judge who prefers that by far.
    prompts = toy_data.of_split("test").prompts
    quality = []
    for bias in (0.0, 1.5):
        rows = pairs_of(make_rows(), ahead="poet", bias=bias)
        router = train(preferences=of(rows), settings=QUICK)
        assert (training(router)["position_bias"] > 0.5) == (bias > 0)
        predicted = router.predict(prompts)
        assert predicted.models == ("clerk", "poet", "sage")
        quality.append(predicted.quality.mean(axis=0))
    for found in quality:
        # Both are as good as each other over all prompts.
        assert found[0] == pytest.approx(found[1], abs=0.1)
        assert found[2] > max(found[:2]) + 0.05


def test_ties_alone_leave_the_cheapest() -> None:
    rows = [row | {"winner": "tie"} for row in pairs_of(make_rows(150))]
    router = train(preferences=of(rows), settings=QUICK)
    assert training(router)["ties"] == 1
    assert training(router)["position_bias"] == pytest.approx(0, abs=0.05)
    found = router.predict([str(row["prompt"]) for row in rows[:30]])
    assert np.ptp(found.quality, axis=1).max() < 0.03
    decision = router.route(str(rows[0]["prompt"]), willingness_to_pay=0.001)
    assert decision.model != "sage"


def test_pairs_stand_beside_scores(toy_data: RoutingData) -> None:
    # The scores know nothing of sage; comparisons say that it is better than both.
    scored = toy_data.of_models(["poet", "clerk"])
    rows = [
        row | {"prompt": f"Once more: {row['prompt']}", "dataset": "compared", "split": None}
        for row in pairs_of(make_rows(200, seed=1))
    ]
    router = train(scored, preferences=of(rows), settings=QUICK)
    assert router.checkpoint.training["rows"] == {"compared": 200, "toy": 320}
    prompts = [f"Once more: {prompt}" for prompt in toy_data.of_split("test").prompts]
    found = router.predict(prompts)
    assert found.models == ("clerk", "poet", "sage")
    assert (found.quality[:, 2] >= found.quality[:, :2].max(axis=1) - 0.05).mean() > 0.9
    story = np.array(["story" in prompt for prompt in prompts])
    assert ((found.quality[:, 1] > found.quality[:, 0]) == story).mean() > 0.9


def test_a_scored_model_without_costs_stands_beside_pairs(toy_data: RoutingData) -> None:
    # It is taken to cost the median answer, as without any pairs.
    cost = toy_data.cost_usd.copy()
    cost[:, toy_data.models.index("clerk")] = np.nan
    rows = [
        row | {"prompt": f"Once more: {row['prompt']}"}
        for row in pairs_of(make_rows(100))
        if "clerk" not in (row["model_a"], row["model_b"])
    ]
    router = train(replace(toy_data, cost_usd=cost), preferences=of(rows), settings=QUICK)
    assert np.isfinite(router.predict(["Hi"]).cost_usd).all()


def test_what_a_scored_test_row_asks_is_not_learned_from_comparisons(
    toy_data: RoutingData,
) -> None:
    rows = [row | {"split": "train"} for row in pairs_of(make_rows())]
    router = train(toy_data, preferences=of(rows), settings=QUICK)
    # Of the 400 prompts 80 are of the scored test split.
    assert training(router)["pairs"] == 3 * 320


def test_comparisons_of_the_test_split_alone_change_nothing(
    toy_data: RoutingData, toy_router: CrossRouter
) -> None:
    rows = [PAIR | {"split": "test", "prompt": f"Unlike: {i}"} for i in range(60)]
    router = train(toy_data, preferences=of(rows), settings=QUICK)
    assert router.checkpoint.id == toy_router.checkpoint.id
    assert "preferences" not in router.checkpoint.training
    with pytest.raises(DataError, match="0 rows of the splits train and valid are too few"):
        train(preferences=of(rows), settings=QUICK)


# What nobody says


def unpriced(*models: str) -> Preferences:
    rows = pairs_of(make_rows(120))
    names = dict(zip(("poet", "clerk", "sage"), models, strict=True))
    for row in rows:
        row |= {key: names[str(row[key])] for key in ("model_a", "model_b")}
        row |= {"cost_usd_a": None, "cost_usd_b": None}
    return of(rows)


def test_models_that_ship_cost_what_the_shipped_router_predicts() -> None:
    shipped = CrossRouter.shipped()
    models = ("gpt-4.1-mini", "claude-haiku-4-5", "claude-opus-4-5")
    data = with_unsaid(unpriced(*models), shipped.pool).data
    found = shipped.predict(data.prompts)
    columns = [found.models.index(model) for model in data.models]
    assert data.cost_usd == pytest.approx(found.cost_usd[:, columns])
    assert data.output_tokens == pytest.approx(found.output_tokens[:, columns], nan_ok=True)
    router = train(preferences=unpriced(*models), known=shipped.pool, settings=QUICK)
    cost = router.predict(data.prompts).cost_usd.mean(axis=0)
    assert cost == pytest.approx(data.cost_usd.mean(axis=0), rel=0.3)


def test_a_shipped_model_is_predicted_at_ones_own_price_and_without_one_at_the_shipped() -> None:
    models = ("gpt-4.1-mini", "claude-haiku-4-5", "claude-opus-4-5")
    price = Price(input_usd_per_1m=0, output_usd_per_1m=1e6)
    known = {
        "gpt-4.1-mini": ModelDescriptor(id="gpt-4.1-mini", price=price),
        "claude-opus-4-5": ModelDescriptor(id="claude-opus-4-5"),
    }
    data, usual = (with_unsaid(unpriced(*models), of).data for of in (known, {}))
    dear = data.models.index("gpt-4.1-mini")
    assert data.cost_usd[:, dear] == pytest.approx(data.output_tokens[:, dear])
    others = [j for j in range(3) if j != dear]
    assert data.cost_usd[:, others] == pytest.approx(usual.cost_usd[:, others])


def test_a_model_with_a_price_is_guessed_and_one_without_anything_is_an_error() -> None:
    price = Price(input_usd_per_1m=1.0, output_usd_per_1m=4.0)
    known = dict(ModelPool.shipped()) | {"mine": ModelDescriptor(id="mine", price=price)}
    data = with_unsaid(unpriced("mine", "gpt-4.1-mini", "claude-opus-4-5"), known).data
    assert (data.cost_usd > 0).all()
    with pytest.raises(DataError, match=r"what answers of nobody, theirs cost: .*--models"):
        train(preferences=unpriced("theirs", "nobody", "gpt-4.1-mini"), known=known, settings=QUICK)


def test_what_scored_rows_say_of_a_cost_is_not_replaced(toy_data: RoutingData) -> None:
    both = unpriced("poet", "clerk", "sage").beside(toy_data)
    assert both.data.models == toy_data.models
    found = with_unsaid(both, {}).data
    assert found.cost_usd[: len(toy_data)] == pytest.approx(toy_data.cost_usd)
    assert np.isnan(found.cost_usd[len(toy_data) :]).all()


def test_a_prompt_that_names_its_task_keeps_it() -> None:
    told = [row | {"task": "mine"} for row in pairs_of(make_rows(60))]
    assert set(with_unsaid(of(told), {}).data.task) == {"mine"}


def test_selected_and_joined_comparisons_are_of_the_same_models(toy_data: RoutingData) -> None:
    found = of([PAIR, PAIR | {"prompt": "How?", "model_a": "z"}]).beside(toy_data)
    models = np.array(found.data.models)
    assert models[found.pairs.first].tolist() == ["x", "z"]
    last = np.arange(len(found.data)) == len(found.data) - 1
    one = found.select(last)
    assert one.data.models == ("y", "z")
    assert one.pairs == Pairs(*(np.array([number]) for number in (0, 1, 0, 1)))
    assert not found.select(~found.compared).pairs


def test_real_pairs_route_as_the_scores_that_they_were_made_of() -> None:
    file = SHARED_DATA / "routerbench.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"routing data is absent: {file.name}")
    data = RoutingData.load([file])
    # Of what is learned from every second row will do.
    data = data.select((np.arange(len(data)) % 2 == 0) | (data.split == "test"))
    test = data.of_split("test")
    found = Preferences.from_rows(drawn_pairs(data.without_test(), "all", 0, 0, tasks=False))
    shipped = ModelPool.shipped()
    routers = (train(data, known=shipped), train(preferences=found, known=shipped))
    scores, pairs, single = (
        aiq(chosen, test)[0]
        for chosen in (*(choices(one, "exponential", test) for one in routers), zero(test.score))
    )
    # 0.841 and 0.842, where the Zero router has 0.811.
    assert pairs > 0.985 * scores
    assert pairs > 1.02 * single
