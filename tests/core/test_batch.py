from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fakes_core import make_rows

from crossroute import (
    ConstraintError,
    CrossRouter,
    NoCandidateError,
    QueryError,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.batch import COST, MODEL, QUALITY, Decide

ARROW = (pa.Table, pa.RecordBatch)
PROMPTS = [str(row["prompt"]) for row in make_rows(12, seed=5)]
MESSAGES = [
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    for prompt in PROMPTS
]


def expected(router: CrossRouter, prompts: list[Any]) -> tuple[list[str], list[float], list[float]]:
    decisions = router.route_batch(prompts)
    return (
        [one.model for one in decisions],
        [one.quality for one in decisions],
        [one.cost_usd for one in decisions],
    )


def test_columns_are_added_to_a_batch_of_either_kind(toy_folder: Path) -> None:
    decide = Decide(toy_folder)
    models, qualities, costs = expected(decide.router, PROMPTS)
    batches: list[Any] = [
        {"prompt": np.array(PROMPTS), "n": np.arange(12)},
        {"prompt": np.array(PROMPTS, dtype=object), "n": np.arange(12)},
        {"prompt": PROMPTS, "n": [*range(12)]},
        pd.DataFrame({"prompt": PROMPTS, "n": range(12)}, index=range(100, 112)),
        pa.table({"prompt": PROMPTS, "n": [*range(12)]}),
        pa.record_batch({"prompt": PROMPTS, "n": [*range(12)]}),
    ]
    for batch in batches:
        before = copy.deepcopy(batch)
        found = decide(batch)
        assert type(found) is type(batch)
        read = found.to_pydict() if isinstance(found, ARROW) else found
        assert [*read[MODEL]] == models
        assert [*read[QUALITY]] == pytest.approx(qualities)
        assert [*read[COST]] == pytest.approx(costs)
        assert [*read["n"]] == [*range(12)]
        assert str(batch) == str(before)
        # Again: the columns are replaced.
        assert len(_names(decide(found))) == 5
    assert [*decide(batches[3]).index] == [*range(100, 112)]


def _names(batch: Any) -> list[str]:  # noqa: ANN401  # Of either kind.
    return [*(batch.column_names if isinstance(batch, ARROW) else batch)]


def test_the_columns_that_are_added_have_types_of_their_own() -> None:
    # Else a type checker takes them for what the columns of the given mapping are.
    mapping, other = map(get_type_hints, get_overloads(Decide.__call__))
    assert mapping["return"] == dict[str, Any]
    assert other["return"] == other["batch"]


def test_messages_are_read_as_columns_hold_them(toy_folder: Path) -> None:
    decide = Decide(toy_folder, column="messages")
    models = expected(decide.router, MESSAGES)[0]
    arrow = pa.table({"messages": MESSAGES})
    nested = np.empty(len(MESSAGES), dtype=object)
    nested[:] = [np.array(one, dtype=object) for one in MESSAGES]
    for batch in (arrow, arrow.to_pandas(), {"messages": nested}, {"messages": MESSAGES}):
        found = decide(batch)
        column = found[MODEL]
        assert (column.to_pylist() if hasattr(column, "to_pylist") else [*column]) == models
    # Arrow gives a field that only some messages have to all of them.
    some = [*MESSAGES[:1], [{"role": "user", "content": "Hi", "name": "Ada"}]]
    assert decide(pa.table({"messages": some}))[MODEL].to_pylist()[0] == models[0]


def test_it_does_not_matter_how_rows_are_divided(toy_folder: Path) -> None:
    decide = Decide(toy_folder)
    whole = decide({"prompt": PROMPTS})
    parts = [decide({"prompt": PROMPTS[i : i + 5]}) for i in range(0, 12, 5)]
    joined = {name: [one for part in parts for one in part[name]] for name in whole}
    assert [*whole[MODEL]] == joined[MODEL]
    for name in (QUALITY, COST):
        assert [*whole[name]] == pytest.approx(joined[name])


def test_it_travels_without_its_router(toy_folder: Path) -> None:
    decide = Decide(toy_folder, willingness_to_pay=0.001, constraints={"excluded": ["sage"]})
    first = decide({"prompt": PROMPTS})
    travelled = pickle.dumps(decide)
    assert len(travelled) < 2_000
    assert [*pickle.loads(travelled)({"prompt": PROMPTS})[MODEL]] == [*first[MODEL]]
    assert "sage" not in first[MODEL]
    assert Decide(toy_folder).router is Decide(toy_folder).router


def test_by_the_prices_of_an_allocation_a_budget_is_kept(
    toy_router: CrossRouter, toy_folder: Path
) -> None:
    prompts = [str(row["prompt"]) for row in make_rows(300, seed=6)]
    cost = toy_router.predict(prompts).cost_usd
    budget = float((cost.min(axis=1) + cost.max(axis=1)).sum() / 2)
    allocation = toy_router.allocate(prompts, budget_usd=budget)

    decide = Decide(
        toy_folder,
        reward="linear",
        willingness_to_pay=allocation.willingness_to_pay,
        surcharge_usd=allocation.surcharge_usd,
    )
    found = decide({"prompt": prompts})
    assert found[COST].sum() <= budget * 1.01
    assert np.mean(found[MODEL] == np.array(allocation.models)) > 0.95


def test_without_a_folder_it_is_the_shipped_router() -> None:
    router = CrossRouter.default()
    assert Decide().router.pool.keys() == router.pool.keys()
    pair = ["gpt-4o-2024-08-06", "Meta-Llama-3.1-8B-Instruct"]
    assert {*Decide(models=pair).router.pool} == {*pair}


def test_what_makes_no_sense_is_refused(toy_folder: Path) -> None:
    with pytest.raises(WillingnessToPayError):
        Decide(willingness_to_pay=-1)
    with pytest.raises(ConstraintError, match="give the name of a column"):
        Decide(column="")
    with pytest.raises(ConstraintError, match="a mapping of model ids"):
        Decide(surcharge_usd=None)  # type: ignore[arg-type]
    with pytest.raises(ConstraintError, match="a list of model ids"):
        Decide(models="sage")
    with pytest.raises(ConstraintError, match="give one of"):
        Decide(reward="square")  # type: ignore[arg-type]
    with pytest.raises(UnknownModelError, match="did you mean 'sage'"):
        Decide(toy_folder, models=["sag", "poet"])({"prompt": PROMPTS})
    decide = Decide(toy_folder)
    with pytest.raises(QueryError, match="no column 'prompt' but text, n"):
        decide({"text": PROMPTS, "n": PROMPTS})
    with pytest.raises(QueryError, match="is no batch"):
        decide(3)
    with pytest.raises(QueryError, match="Query 1"):
        decide({"prompt": ["fine", 3]})
    with pytest.raises(NoCandidateError, match="Query 0"):
        Decide(toy_folder, constraints={"allowed": []})({"prompt": PROMPTS})


def test_an_empty_batch_has_columns_of_the_same_types(toy_folder: Path) -> None:
    decide = Decide(toy_folder)
    empty = decide({"prompt": []})
    assert [*empty] == ["prompt", MODEL, QUALITY, COST]
    assert [empty[name].dtype.kind for name in (MODEL, QUALITY, COST)] == ["U", "f", "f"]
    frame = pd.DataFrame({"prompt": PROMPTS})
    assert decide(frame[:0]).dtypes.equals(decide(frame).dtypes)
    table = pa.table(frame)
    assert decide(table[:0]).schema == decide(table).schema


def test_a_row_alone_is_no_batch(toy_folder: Path) -> None:
    rows: list[Any] = [PROMPTS[0], np.array(PROMPTS[0]), None, {"role": "user", "content": "Hi"}]
    for row in rows:
        with pytest.raises(QueryError, match="give a batch of rows"):
            Decide(toy_folder)({"prompt": row})
