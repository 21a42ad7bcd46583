"""Whatever a call is set to, it is routed so or refused by a CrossRouteError."""

# ruff: noqa: ANN401  # Settings can be anything.

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouteError,
    CrossRouter,
    Decision,
    ModelDescriptor,
    ModelPool,
    Query,
    Stay,
    WillingnessToPayError,
)
from crossroute.constraints import check_settings
from crossroute.query import output_limit
from crossroute.ranking import check_willingness_to_pay
from langchain_crossroute import ChatCrossRoute
from langchain_crossroute.dispatch import CALL_SETTINGS

LARGE, SMALL, OTHER = (
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-8B-Instruct",
)
WORDS = [LARGE, SMALL, OTHER, "gpt-4o", "eu", "EU", "de", "de-AT", "", "\ud800", "x" * 300, "inf"]
NAMES = [field.name for field in fields(Constraints)]
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from([400, 5000]).flatmap(lambda n: st.sampled_from([10**n, -(10**n)])),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(width=32).map(np.float32),
    st.sampled_from([np.longdouble("1e4000"), np.float16(0.1), np.True_, 1j, 5e-324, 1e308]),
)
SCALARS = st.one_of(
    st.none(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=30), st.binary(max_size=9)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=9) | st.integers(), inner, max_size=3),
    ),
    max_leaves=8,
)
LISTS = st.lists(st.sampled_from(WORDS), max_size=3)
# Half of them make sense by their kind, so that calls get far.
OF_A_FIELD: dict[str, st.SearchStrategy[Any]] = {
    name: st.one_of(
        st.just(Constraints.__dataclass_fields__[name].default),
        LISTS if name in ("allowed", "excluded", "regions", "languages") else NUMBERS,
        VALUES,
    )
    for name in NAMES
}
LIMITS = st.fixed_dictionaries({}, optional=OF_A_FIELD)
CONSTRAINTS = st.one_of(
    LIMITS, VALUES, st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=20), VALUES)
)
NEEDS = st.sets(st.sampled_from(["tools", "image_input", "audio_input"]), max_size=2)


@pytest.fixture(scope="module")
def three(router: CrossRouter) -> CrossRouter:
    """Three models, one of which says all of itself."""
    said = {
        "region": "eu",
        "languages": ("de",),
        "data_retention_days": 3,
        "expected_latency_seconds": 2.5,
        "capabilities": ("tools", "image_input"),
    }
    return router.over(
        ModelPool(
            router.pool[model].model_copy(update=said if model == LARGE else {})
            for model in (LARGE, SMALL, OTHER)
        )
    )


def told(error: CrossRouteError) -> None:
    """An error can be shown, and read."""
    assert 10 < len(str(error)) < 5000


def allowed(model: ModelDescriptor, cost_usd: float, limits: Constraints) -> bool:
    """Whether a model meets the limits; said anew, and only as far as it is simple."""
    return (
        limits.model in (None, model.id)
        and (limits.allowed is None or model.id in limits.allowed)
        and model.id not in limits.excluded
        and (limits.max_cost_usd is None or cost_usd <= limits.max_cost_usd)
        and (limits.regions is None or model.region is not None)
        and (not limits.languages or bool(model.languages))
    )


def check(router: CrossRouter, decision: Decision, limits: Constraints) -> None:
    assert decision.model == decision.candidates[0].model
    assert {*decision.removed, *(c.model for c in decision.candidates)} == set(router.pool)
    for candidate in decision.candidates:
        assert allowed(router.pool[candidate.model], candidate.cost_usd, limits)
        assert math.isfinite(candidate.quality)
        assert math.isfinite(candidate.cost_usd)
        assert not math.isnan(candidate.reward)
    assert decision.model in decision.explain()
    json.dumps(decision.to_dict(), allow_nan=False)


@given(LIMITS)
def test_constraints(three: CrossRouter, given: dict[str, Any]) -> None:
    try:
        limits = Constraints(**given)
    except ConstraintError as error:
        told(error)
        return
    try:
        decision = three.route("Why?", constraints=limits)
    except CrossRouteError as error:
        told(error)
    else:
        check(three, decision, limits)


@given(st.sampled_from(WORDS) | VALUES, NUMBERS | VALUES)
def test_stay(three: CrossRouter, model: Any, margin: Any) -> None:
    try:
        stay = Stay(model, margin)
    except ConstraintError as error:
        told(error)
    else:
        for willingness in (0, 1e-3, 1e99, math.inf):
            decision = three.route("Why?", willingness, stay=stay)
            assert not decision.kept or decision.model == model


@given(NUMBERS | VALUES)
def test_willingness_to_pay(three: CrossRouter, value: Any) -> None:
    try:
        found = check_willingness_to_pay(value)
    except WillingnessToPayError as error:
        told(error)
    else:
        assert found >= 0
        check(three, three.route("Why?", value), Constraints())


@given(NUMBERS | VALUES, CONSTRAINTS, st.none() | VALUES, NEEDS)
def test_route(three: CrossRouter, willingness: Any, given: Any, stay: Any, needs: Any) -> None:
    query = Query.of("What is 17 * 23?", needs=needs)
    try:
        decision = three.route(query, willingness, constraints=given, stay=stay)
    except CrossRouteError as error:
        told(error)
    else:
        check(three, decision, Constraints.of(given))


@given(st.lists(st.text(max_size=20), max_size=3) | VALUES, NUMBERS, CONSTRAINTS)
def test_route_batch(three: CrossRouter, queries: Any, willingness: Any, given: Any) -> None:
    try:
        decisions = three.route_batch(queries, willingness, constraints=given)
    except CrossRouteError as error:
        told(error)
    else:
        assert len(decisions) == len(queries)
        for decision in decisions:
            check(three, decision, Constraints.of(given))


@given(NUMBERS | VALUES, NUMBERS | VALUES, st.none() | NUMBERS | VALUES)
def test_settings_of_a_router(willingness: Any, attempts: Any, margin: Any) -> None:
    try:
        assert check_settings(willingness, attempts, margin) >= 0
    except CrossRouteError as error:
        told(error)
    else:
        assert attempts >= 1


@given(st.sampled_from(["max_tokens", "max_completion_tokens"]), NUMBERS | VALUES)
def test_a_longest_answer(three: CrossRouter, name: str, value: Any) -> None:
    try:
        query = Query.of("Why?", output_tokens=output_limit({name: value}))
        check(three, three.route(query), Constraints())
    except CrossRouteError as error:
        told(error)


@given(
    st.dictionaries(
        st.sampled_from([setting.id for setting in CALL_SETTINGS])
        | st.text(max_size=20).map(lambda text: f"crossroute_{text}")
        | st.text(max_size=20),
        NUMBERS | LISTS | VALUES,
        max_size=3,
    )
)
def test_settings_of_a_call(three: CrossRouter, configurable: dict[str, Any]) -> None:
    models = {model: FakeListChatModel(responses=["Well."]) for model in three.pool}
    chat = ChatCrossRoute(models=models, router=three)
    try:
        answer = chat.invoke("Why?", config={"configurable": configurable})
    except CrossRouteError as error:
        told(error)
    else:
        assert answer.content == "Well."
