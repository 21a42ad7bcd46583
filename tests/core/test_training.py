from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes_core import QUICK, Letters, make_rows
from numpy.typing import NDArray

from crossroute import CrossRouter, DataError, ModelDescriptor, Price
from crossroute.network.features import Features
from crossroute.query import Query, QueryLike
from crossroute.training.data import RoutingData, Row
from crossroute.training.fit import Epoch
from crossroute.training.train import train


def of(rows: list[dict[str, object]]) -> RoutingData:
    return RoutingData.from_rows([Row.model_validate(row) for row in rows])


def priced(model: str, input_usd: float, output_usd: float) -> ModelDescriptor:
    return ModelDescriptor(
        id=model,
        description="A toy.",
        price=Price(
            input_usd_per_1m=input_usd,
            output_usd_per_1m=output_usd,
            date=datetime.date(2026, 1, 1),
            source="test",
        ),
    )


def test_the_same_seed_gives_the_same_checkpoint(
    toy_data: RoutingData, toy_router: CrossRouter
) -> None:
    again = train(toy_data, settings=QUICK)
    assert again.checkpoint.id == toy_router.checkpoint.id
    assert dict(again.pool) == dict(toy_router.pool)
    assert train(toy_data, settings=QUICK, seed=1).checkpoint.id != again.checkpoint.id


def test_progress_is_told(toy_data: RoutingData) -> None:
    told: list[Epoch] = []
    train(toy_data, settings=QUICK, on_epoch=told.append)
    assert [epoch.number for epoch in told] == list(range(1, len(told) + 1))
    assert told[-1].valid_loss < told[0].valid_loss


def test_test_rows_are_not_touched(toy_data: RoutingData, toy_router: CrossRouter) -> None:
    without = train(toy_data.select(toy_data.split != "test"), settings=QUICK)
    assert without.checkpoint.id == toy_router.checkpoint.id


def test_predicted_cost_is_the_recorded_one_in_total(
    toy_data: RoutingData, toy_router: CrossRouter
) -> None:
    held = toy_data.of_split("test")
    predicted = toy_router.predict(held.prompts).cost_usd
    known = familiar(toy_router, held.prompts)
    assert known.mean() > 0.9
    assert predicted[known].sum(axis=0) == pytest.approx(held.cost_usd[known].sum(axis=0), rel=0.15)
    # What looks like no row costs what a row does in the mean, whatever it is.
    assert np.ptp(predicted[~known], axis=0) == pytest.approx(np.zeros(3))
    assert predicted.sum(axis=0) == pytest.approx(held.cost_usd.sum(axis=0), rel=0.2)


def familiar(router: CrossRouter, prompts: Sequence[QueryLike]) -> NDArray[np.bool_]:
    """Which prompts are about something that the network knows."""
    features = Features.of([Query.of(prompt) for prompt in prompts], router.encoder)
    return np.asarray(router.checkpoint.network.topics.read(features).unknown < 0.9)


def test_with_a_price_the_tokens_are_predicted_and_priced(toy_data: RoutingData) -> None:
    known = {"sage": priced("sage", 5.0, 20.0)}
    router = train(toy_data, known=known, settings=QUICK)
    targets = {m.id: m.learned.cost_target for m in router.pool.values() if m.learned}
    assert targets == {"sage": "output_tokens", "poet": "usd", "clerk": "usd"}
    assert router.pool["sage"].description == "A toy."
    held = toy_data.of_split("test")
    found = router.predict(held.prompts)
    sage = found.models.index("sage")
    assert np.isnan(found.output_tokens[:, found.models.index("poet")]).all()
    assert found.output_tokens[:, sage].sum() == pytest.approx(
        held.output_tokens[:, held.models.index("sage")].sum(), rel=0.15
    )
    assert found.cost_usd[:, sage] == pytest.approx(
        (found.input_tokens * 5 + found.output_tokens[:, sage] * 20) / 1e6
    )


def test_output_tokens_follow_from_cost_input_tokens_and_price() -> None:
    rows = make_rows()
    expected = np.mean([row["outputs"]["sage"]["output_tokens"] for row in rows])  # type: ignore[index]
    for row in rows:
        del row["outputs"]["sage"]["output_tokens"]  # type: ignore[attr-defined]
    router = train(of(rows), known={"sage": priced("sage", 5.0, 20.0)}, settings=QUICK)
    found = router.predict([str(row["prompt"]) for row in rows])
    assert found.output_tokens[:, found.models.index("sage")].mean() == pytest.approx(
        expected, rel=0.1
    )


def test_models_that_rows_lack_are_masked_out() -> None:
    rows = make_rows()
    for number, row in enumerate(rows):
        outputs = row["outputs"]
        assert isinstance(outputs, dict)
        del outputs["poet" if number % 2 else "clerk"]
    router = train(of(rows), settings=QUICK)
    quality = router.predict([str(row["prompt"]) for row in rows]).quality
    assert np.isfinite(quality).all()
    learned = router.pool["poet"].learned
    assert learned is not None
    assert learned.examples == sum("poet" in r["outputs"] for r in rows if r["split"] != "test")  # type: ignore[operator]


def test_without_validation_rows_a_tenth_serves(toy_data: RoutingData) -> None:
    router = train(toy_data.select(toy_data.split == "train"), settings=QUICK)
    assert len(router.pool) == 3


@pytest.mark.parametrize("different", [1, 2])
def test_prompts_may_be_all_alike(different: int) -> None:
    rows = [
        row | {"prompt": f"Write a story of {number % different + 1} newts.", "split": None}
        for number, row in enumerate(make_rows(150))
    ]
    quality = train(of(rows), settings=QUICK).predict([str(rows[0]["prompt"]), "", "Hi"]).quality
    assert ((quality > 0) & (quality < 1)).all()


def test_a_task_that_is_another_one_in_every_row_is_none() -> None:
    plain = make_rows(150)
    each = [row | {"task": str(number)} for number, row in enumerate(plain)]
    prompts = [str(row["prompt"]) for row in plain[:5]]
    routers = [train(of(rows), settings=QUICK) for rows in (plain, each)]
    assert routers[0].checkpoint.id == routers[1].checkpoint.id
    found = [router.predict(prompts).quality for router in routers]
    assert (found[0] == found[1]).all()


def test_names_with_a_slash_do_not_make_two_tasks_one() -> None:
    names = (("a", "b/c"), ("a/b", "c"))
    rows = [
        row | dict(zip(("dataset", "task"), names[number % 2], strict=True))
        for number, row in enumerate(make_rows(150))
    ]
    network = train(of(rows), settings=QUICK).checkpoint.network
    assert (network.topics.topic_set == np.eye(2)).all()


def test_one_training_row_is_enough_for_the_order_of_models() -> None:
    rows = [
        row | {"split": "valid" if number else "train"} for number, row in enumerate(make_rows(60))
    ]
    assert np.isfinite(train(of(rows), settings=QUICK).predict(["Hi"]).cost_usd).all()


def test_another_encoder_can_be_trained_on(toy_data: RoutingData, tmp_path: Path) -> None:
    encoder = Letters("aeiou0123456789*")
    router = train(toy_data, encoder=encoder, settings=QUICK)
    router.save(tmp_path / "own")
    prompts = list(toy_data.prompts[:5])
    loaded = CrossRouter.load(tmp_path / "own", encoder=encoder)
    assert (loaded.predict(prompts).quality == router.predict(prompts).quality).all()


def test_the_checkpoint_says_how_it_was_made(
    toy_router: CrossRouter, toy_data: RoutingData
) -> None:
    made = json.loads(json.dumps(toy_router.checkpoint.training))
    assert made["seed"] == 0
    assert made["rows"] == {"toy": int((toy_data.split != "test").sum())}
    assert made["settings"]["heads"] == QUICK.heads


def test_data_that_cannot_be_trained_on_is_refused() -> None:
    rows = make_rows()
    with pytest.raises(DataError, match="too few"):
        train(of(rows[:30]), settings=QUICK)
    alone = [row | {"outputs": {"sage": row["outputs"]["sage"]}} for row in rows]  # type: ignore[index]
    with pytest.raises(DataError, match="sage only"):
        train(of(alone), settings=QUICK)
    with pytest.raises(DataError, match="split valid"):
        train(of([row | {"split": "valid"} for row in rows]), settings=QUICK)
    late = [row for row in rows if row["split"] != "valid"]
    new = make_rows(10)[0] | {"split": "valid", "outputs": {"new": {"score": 1, "cost_usd": 1}}}
    with pytest.raises(DataError, match="No training row has an answer of new"):
        train(of([*late, new]), settings=QUICK)
