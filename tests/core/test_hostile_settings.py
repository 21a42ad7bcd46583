"""Settings that make no sense: each is one clear error of CrossRoute's own."""

# ruff: noqa: ANN401  # Settings can be anything.

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouteError,
    CrossRouter,
    NoCandidateError,
    Query,
    QueryError,
    Stay,
    UnknownModelError,
    WillingnessToPayError,
)
from crossroute.errors import did_you_mean, shortened
from crossroute.ranking import check_willingness_to_pay

LARGE, SMALL = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"
ENDLESS = 10**5000
"""An integer that no float holds, and that has no repr."""


@pytest.mark.parametrize(
    "value", [10**400, ENDLESS, 1e308, math.inf, np.float64(1e200)], ids=shortened
)
def test_more_than_any_cost_is_as_good_as_infinite(router: CrossRouter, value: Any) -> None:
    assert check_willingness_to_pay(value) == math.inf
    assert router.route("Why?", value) == router.route("Why?", math.inf)


@pytest.mark.parametrize(
    "value", [-1.0, -(10**400), -ENDLESS, "0.1", None, [ENDLESS], math.nan], ids=shortened
)
def test_a_willingness_to_pay_that_is_none_is_refused(router: CrossRouter, value: Any) -> None:
    for call in (lambda: router.route("Why?", value), lambda: router.route_batch(["Why?"], value)):
        with pytest.raises(WillingnessToPayError, match=r"willingness_to_pay is .*; give a number"):
            call()


LIMITS = ("max_cost_usd", "hard_max_cost_usd", "max_data_retention_days", "max_latency_seconds")


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-(10**400), -ENDLESS, "1", b"1", [1], 1j, False], ids=shortened)
def test_a_limit_is_a_number_from_0_up(name: str, value: Any) -> None:
    with pytest.raises(ConstraintError, match=f"{name} is .*; give a number of .* from 0 up"):
        Constraints(**{name: value})


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [10**400, ENDLESS], ids=shortened)
def test_a_limit_that_no_float_holds_is_infinite(
    router: CrossRouter, name: str, value: int
) -> None:
    limits: Any = {name: value}
    assert Constraints(**limits) == Constraints(**{name: math.inf})
    if name in ("max_cost_usd", "hard_max_cost_usd"):
        assert router.route("Why?", constraints=limits) == router.route("Why?")
    else:
        # The shipped descriptors do not say: whatever the limit is, they do not meet it.
        with pytest.raises(NoCandidateError, match=f"raise {name}"):
            router.route("Why?", constraints=limits)


@pytest.mark.parametrize("value", [-ENDLESS, "0.1", [ENDLESS]], ids=shortened)
def test_a_margin_is_a_number(value: Any) -> None:
    with pytest.raises(ConstraintError, match=r"margin is .*; give a number from 0 up"):
        Stay(LARGE, value)


@pytest.mark.parametrize("name", ["allowed", "excluded", "regions", "languages"])
@pytest.mark.parametrize("value", [b"", b"gpt", bytearray(), ENDLESS, [ENDLESS]], ids=shortened)
def test_bytes_and_numbers_are_no_list(name: str, value: Any) -> None:
    with pytest.raises(ConstraintError, match=f"{name} is .*; give a list of"):
        Constraints(**{name: value})


# Constraints as callers give them


async def test_no_constraints_and_those_of_a_mapping(router: CrossRouter) -> None:
    assert router.route("Why?", constraints=None) == router.route("Why?")
    expected = router.route("Why?", constraints=Constraints(model=LARGE))
    given = {"model": LARGE}
    assert router.route("Why?", constraints=given) == expected
    assert await router.aroute("Why?", constraints=given) == expected
    assert router.route_batch(["Why?"], constraints=given) == [expected]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_cost": 1}, "there is no 'max_cost'; did you mean 'max_cost_usd'"),
        ({ENDLESS: 1}, "there is no <int>"),
        ({"max_cost_usd": -1}, "max_cost_usd is -1"),
        (LARGE, "constraints is 'gpt-4o-2024-08-06'; give Constraints"),
        ([("model", LARGE)], "give Constraints"),
        (0, "constraints is 0; give Constraints"),
    ],
    ids=shortened,
)
def test_other_constraints_are_refused(router: CrossRouter, given: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        router.route("Why?", constraints=given)


@pytest.mark.parametrize("stay", [LARGE, {"model": LARGE}, 0, ENDLESS], ids=shortened)
def test_who_stays_is_said_by_stay(router: CrossRouter, stay: Any) -> None:
    with pytest.raises(ConstraintError, match=r"stay is .*; give Stay\(model\), or None"):
        router.route("Why?", stay=stay)


@pytest.mark.parametrize(
    "queries", ["Why?", b"Why?", None, 3, ENDLESS, {"role": "user"}], ids=shortened
)
def test_a_batch_is_a_list(router: CrossRouter, queries: Any) -> None:
    with pytest.raises(QueryError, match="Give a list of queries, not "):
        router.route_batch(queries)
    with pytest.raises(QueryError, match="Give a list of queries, not "):
        router.predict(queries)


# Nobody may serve the call


def error_of(router: CrossRouter, query: Any, **arguments: Any) -> NoCandidateError:
    with pytest.raises(NoCandidateError) as caught:
        router.route(query, **arguments)
    return caught.value


@pytest.mark.parametrize(
    ("needs", "limits", "mend"),
    [
        (["audio_input"], {"max_cost_usd": 0}, "write capabilities: [audio_input] into"),
        ([], {"regions": ["eu"]}, "write the region of a model into its descriptor"),
        ([], {"languages": ["cy"]}, "write the languages"),
        ([], {"max_data_retention_days": 0}, "raise max_data_retention_days"),
        ([], {"max_latency_seconds": 1}, "raise max_latency_seconds"),
        ([], {"max_cost_usd": 0}, "raise max_cost_usd"),
        ([], {"allowed": []}, "allow more models"),
        ([], {"excluded": list(CrossRouter.default().pool)}, "exclude fewer models"),
    ],
)
def test_the_hint_fits_the_reasons(
    router: CrossRouter, needs: Any, limits: dict[str, Any], mend: str
) -> None:
    said = str(error_of(router, Query.of("Why?", needs=needs), constraints=limits))
    assert mend in said
    assert ("capabilities" in said) is bool(needs)


def test_a_long_request_is_to_be_shortened(router: CrossRouter) -> None:
    said = str(error_of(router, "why " * 3_000_000, constraints={"allowed": [LARGE, SMALL]}))
    assert "shorten the request" in said


def test_models_that_are_removed_for_one_reason_are_told_in_one_line(router: CrossRouter) -> None:
    query = Query.of("Why?", needs=["audio_input"])
    error = error_of(router, query, constraints=Constraints(model=LARGE))
    _, *lines, mends = str(error).splitlines()
    assert len(error.removed) == len(router.pool)
    assert len(lines) == 2
    (own,) = (line for line in lines if line.startswith(f"  {LARGE}:"))
    assert "audio_input is not among the capabilities in its descriptor" in own
    (rest,) = (line for line in lines if line != own)
    assert f"and {len(router.pool) - 4} more: the call forces {LARGE}" in rest
    assert "force no model" in mends


def test_a_batch_says_which_query_nobody_may_serve(router: CrossRouter) -> None:
    deaf = router.subset([LARGE, SMALL])
    queries = ["Why?", "How?", Query.of("Who?", needs=["audio_input"])]
    with pytest.raises(NoCandidateError, match=r"^Query 2: No model") as caught:
        deaf.route_batch(queries)
    assert caught.value.position == 2
    assert error_of(deaf, queries[2]).position is None


# Words that are meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("gpt-4o-mini", ["gpt-4o-mini-2024-07-18"]),
        ("GPT-4o-mini", ["gpt-4o-mini-2024-07-18"]),
        ("gtp-4o-2024-08-06", [LARGE]),
        ("4o-2024", [LARGE]),
        ("GPT-4o-", [LARGE, SMALL]),
    ],
)
def test_a_part_of_an_id_finds_it(router: CrossRouter, word: str, meant: list[str]) -> None:
    with pytest.raises(UnknownModelError) as caught:
        router.subset([word])
    assert f"did you mean {' or '.join(map(repr, meant))}?" in str(caught.value)


def test_what_is_like_nothing_has_no_hint() -> None:
    assert did_you_mean("", ["a", "b"]) == "."
    assert did_you_mean("a", ["banana"]) == "."
    assert did_you_mean(ENDLESS, ["banana"]) == "."


def test_what_cannot_be_shown_is_named_by_its_type() -> None:
    class Sulky:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shortened(-ENDLESS) == "<int>"
    assert shortened(Sulky()) == "<Sulky>"
    assert len(shortened("x" * 10**6)) < 100
    assert issubclass(WillingnessToPayError, CrossRouteError)


# Queries that are made by hand


@pytest.mark.parametrize("name", ["input_tokens", "past_tokens"])
@pytest.mark.parametrize("value", [10**400, -ENDLESS, -1, math.nan, math.inf, "9"], ids=shortened)
def test_tokens_are_a_number_from_0_up(name: str, value: Any) -> None:
    known = Query.of("Why?")
    with pytest.raises(QueryError, match=f"{name} is .*; give a number from 0 up"):
        replace(known, **{name: value})


@pytest.mark.parametrize("needs", ["tools", None, 3, ENDLESS], ids=shortened)
def test_needs_are_a_list(needs: Any) -> None:
    with pytest.raises(QueryError, match=r"needs is .*; give a list of capabilities"):
        Query.of("Why?", needs=needs)
