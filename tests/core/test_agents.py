from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fakes_core import Run

from crossroute import CrossRouter, ModelDescriptor, ModelPool, NoCandidateError, PoolError

SUM = "What is 4711 * 12 + 99?"


def agent(id_: str, **facts: object) -> ModelDescriptor:
    given = {"kind": "agent", "description": f"Serves {id_}.", **facts}
    return ModelDescriptor.model_validate({"id": id_, **given})


def test_an_agent_needs_no_embedding_and_counts_as_its_descriptor_says(
    toy_router: CrossRouter,
) -> None:
    pool = ModelPool(
        [
            *toy_router.pool.values(),
            agent("booking", expected_quality=0.75, cost_usd_a_call=0.002),
            agent("archive", kind="retriever", expected_quality=0.25),
            agent("weather", kind="tool", cost_usd_a_call=0.5),
        ]
    )
    router = toy_router.over(pool)
    found, before = router.predict([SUM, "hi"]), toy_router.predict([SUM, "hi"])
    column = {model: j for j, model in enumerate(found.models)}
    models = [column[model] for model in before.models]
    np.testing.assert_array_equal(found.quality[:, models], before.quality)
    np.testing.assert_array_equal(found.cost_usd[:, models], before.cost_usd)
    agents = [column[one] for one in ("booking", "archive", "weather")]
    # An unknown quality is the mean of the agents', an unknown cost that of the dearest candidate.
    np.testing.assert_allclose(found.quality[:, agents], [[0.75, 0.25, 0.5]] * 2)
    np.testing.assert_allclose(found.cost_usd[:, agents], [[0.002, 0.5, 0.5]] * 2)
    assert np.isnan(found.output_tokens[:, agents]).all()


def test_where_no_agent_says_its_quality_the_best_model_stands_for_it(
    toy_router: CrossRouter,
) -> None:
    found = toy_router.add_model(agent("booking")).predict([SUM])
    column = found.models.index("booking")
    assert found.quality[0, column] == toy_router.predict([SUM]).quality.max()
    assert found.cost_usd[0, column] == toy_router.predict([SUM]).cost_usd.max()


def test_agents_alone_are_a_pool(toy_router: CrossRouter) -> None:
    router = toy_router.over(ModelPool([agent("booking"), agent("archive")]))
    assert router.predict([SUM]).cost_usd.tolist() == [[0.0, 0.0]]
    with pytest.raises(PoolError, match="at least two"):
        router.subset(["booking"])


def test_an_agent_of_unknown_cost_keeps_no_limit(toy_router: CrossRouter) -> None:
    router = toy_router.over(ModelPool([agent("booking"), agent("archive")]))
    with pytest.raises(NoCandidateError, match="write cost_usd_a_call into the descriptor"):
        router.route(SUM, constraints={"max_cost_usd": 1.0})


def test_scores_make_an_agent_one_that_is_predicted(toy_router: CrossRouter) -> None:
    scores = [
        {"prompt": f"Book a flight number {i}", "score": i % 2, "cost_usd": 0.01} for i in range(30)
    ]
    router = toy_router.add_model(agent("booking", expected_quality=1.0), scores)
    assert router.pool["booking"].learned is not None
    assert 0.2 < router.predict([SUM]).quality[0, router.predict([SUM]).models.index("booking")] < 1


def test_a_pool_with_agents_is_saved_listed_and_valid(
    toy_router: CrossRouter, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "with agents"
    booking = agent("booking", skills=["Book trains"], examples=["A seat to Bern"])
    toy_router.add_model(booking).save(folder)
    loaded = CrossRouter.load(folder)
    assert loaded.pool["booking"] == booking
    assert "booking" in loaded.pool.reachable()
    code, said, _ = run("models", "validate", folder)
    assert code == 0
    assert "guess" not in said
    code, said, _ = run("models", "list", folder)
    assert code == 0
    assert "agent" in said
    code, said, _ = run("models", "show", "booking", "--models", folder)
    assert code == 0
    assert "embedding" not in said
    assert "Book trains" in said
    with pytest.raises(PoolError) as refused:
        loaded.pool.providers()
    assert "booking" not in str(refused.value)


def test_constraints_name_agents_as_they_name_models(toy_router: CrossRouter) -> None:
    router = toy_router.add_model(agent("booking", cost_usd_a_call=0.1, expected_quality=0.5))
    assert router.route(SUM, math.inf, constraints={"model": "booking"}).model == "booking"
    without = router.route(SUM, math.inf, constraints={"excluded": ["booking"]})
    assert "booking" in without.removed
