"""Who may serve a call, and who goes on serving a conversation."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from crossroute import (
    ConstraintError,
    Constraints,
    CrossRouter,
    ModelDescriptor,
    ModelPool,
    NoCandidateError,
    Price,
    Query,
    Stay,
    UnknownModelError,
)
from crossroute.query import Capability

SMALL = "Meta-Llama-3.1-8B-Instruct"
MEDIUM = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
QUESTION = "Prove that there are infinitely many primes, and explain every step."
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}


def pool_of(router: CrossRouter, **updates: dict[str, object]) -> ModelPool:
    """The three models, some of them with other facts."""
    return ModelPool(
        router.pool[model].model_copy(update=updates.get(name, {}))
        for name, model in (("small", SMALL), ("medium", MEDIUM), ("large", LARGE))
    )


@pytest.fixture
def three(router: CrossRouter) -> CrossRouter:
    facts = {"capabilities": (), "context_window_tokens": 1000, "max_output_tokens": 500}
    able = {"capabilities": ("tools", "image_input", "structured_output")}
    return router.over(pool_of(router, small=facts, medium=able, large=able))


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("part", "need"), [(IMAGE, "image_input"), (AUDIO, "audio_input"), (FILE, "file_input")]
)
def test_a_message_shows_what_it_needs(part: object, need: Capability) -> None:
    query = Query.of([user([{"type": "text", "text": QUESTION}, part])])
    assert query.needs == {need}
    assert query.text == QUESTION


def test_a_lone_attachment_is_a_query() -> None:
    query = Query.of([user([IMAGE])])
    assert (query.text, query.needs) == ("[attachment]", {"image_input"})


def test_a_query_is_taken_as_it_is() -> None:
    query = Query.of(QUESTION, needs=["tools"], output_tokens=10)
    assert Query.of(query) is query


def test_tools_are_counted_and_not_read() -> None:
    bare, with_tools = Query.of(QUESTION), Query.of(QUESTION, tools="weather(city: str) " * 50)
    assert with_tools.text == bare.text
    assert with_tools.input_tokens > bare.input_tokens + 100


def test_tool_calls_are_counted() -> None:
    call = {"name": "search", "args": {"text": "prime numbers " * 40}}
    talk = [user(QUESTION), {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert Query.of(talk).input_tokens > Query.of(QUESTION).input_tokens + 60


def test_the_past_of_a_conversation_is_what_the_last_answer_was_made_from() -> None:
    talk = [user(QUESTION), {"role": "assistant", "content": "Well. " * 50}, user("And twins?")]
    assert Query.of(talk).past_tokens == pytest.approx(Query.of(QUESTION).input_tokens)
    assert Query.of(QUESTION).past_tokens == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query.of(QUESTION, needs=["tools"]), "tools is not among the capabilities"),
        (Query.of(QUESTION, needs=["structured_output"]), "structured_output is not among"),
        (Query.of([user([IMAGE])]), "image_input is not among the capabilities"),
        (Query.of("primes " * 2000), "its context window of 1000 tokens is less than"),
        (Query.of("Why?", output_tokens=999), "its context window of 1000 tokens"),
        (Query.of("Why?", output_tokens=501), "answers with 500 tokens at most, 501 are asked for"),
    ],
)
def test_who_cannot_serve_is_removed_first(three: CrossRouter, query: Query, said: str) -> None:
    # The cheapest model would be chosen.
    decision = three.route(query, 0.0)
    assert said in decision.removed[SMALL]
    assert decision.model == MEDIUM
    assert {c.model for c in decision.candidates} == {MEDIUM, LARGE}
    assert said in decision.explain()
    assert decision.to_dict()["removed"] == dict(decision.removed)


def test_if_none_can_serve_the_error_names_each_and_why(three: CrossRouter) -> None:
    with pytest.raises(NoCandidateError) as caught:
        three.route([user([AUDIO])], constraints=Constraints(excluded=[LARGE]))
    assert set(caught.value.removed) == {SMALL, MEDIUM, LARGE}
    for said in (
        SMALL,
        MEDIUM,
        LARGE,
        "audio_input is not among",
        "excluded by the call",
        "descriptor",
    ):
        assert said in str(caught.value)


def test_constraints_limit_the_candidates_of_a_call(three: CrossRouter) -> None:
    def candidates(constraints: Constraints) -> set[str]:
        decision = three.route(QUESTION, 0.01, constraints=constraints)
        assert set(decision.removed) == {SMALL, MEDIUM, LARGE} - {
            c.model for c in decision.candidates
        }
        return {c.model for c in decision.candidates}

    assert candidates(Constraints()) == {SMALL, MEDIUM, LARGE}
    assert candidates(Constraints(model=LARGE)) == {LARGE}
    assert candidates(Constraints(allowed={SMALL, LARGE})) == {SMALL, LARGE}
    assert candidates(Constraints(excluded=[MEDIUM])) == {SMALL, LARGE}
    costs = {c.model: c.cost_usd for c in three.route(QUESTION).candidates}
    middle = sorted(costs.values())[1]
    limit = Constraints(max_cost_usd=middle)
    assert candidates(limit) == {model for model, cost in costs.items() if cost <= middle}
    removed = three.route(QUESTION, constraints=limit).removed
    assert all("the call's limit is" in reason for reason in removed.values())


def test_a_forced_model_must_still_be_able_to_serve(three: CrossRouter) -> None:
    with pytest.raises(NoCandidateError, match="tools is not among the capabilities"):
        three.route(Query.of(QUESTION, needs=["tools"]), constraints=Constraints(model=SMALL))


@pytest.mark.parametrize(
    "constraints",
    [Constraints(model="gpt-5o"), Constraints(allowed=["gpt-5o"]), Constraints(excluded=["x"])],
)
def test_unknown_models_in_constraints_are_named(
    three: CrossRouter, constraints: Constraints
) -> None:
    with pytest.raises(UnknownModelError, match="not in the pool"):
        three.route(QUESTION, constraints=constraints)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"allowed": LARGE}, "give a list of model ids"),
        ({"excluded": 3}, "give a list of model ids"),
        ({"excluded": None}, "give a list of model ids"),
        ({"allowed": [None]}, "give a list of model ids"),
        ({"regions": [None]}, "give a list of"),
        ({"languages": None}, "give a list of"),
        ({"model": [LARGE]}, "give a model id"),
        ({"max_cost_usd": -1}, "from 0 up"),
        ({"max_cost_usd": math.nan}, "from 0 up"),
        ({"max_cost_usd": "1"}, "from 0 up"),
        ({"regions": "eu"}, "regions is 'eu'; give a list of regions"),
        ({"languages": "de"}, "languages is 'de'; give a list of language tags"),
        ({"max_data_retention_days": -1}, "a number of days from 0 up"),
        ({"max_data_retention_days": True}, "a number of days from 0 up"),
        ({"max_latency_seconds": math.nan}, "a number of s"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        Constraints(**bad)  # type: ignore[arg-type]


EUROPEAN: dict[str, Any] = {
    "region": "EU",
    "languages": ("en", "pt", "de-AT"),
    "data_retention_days": 30,
    "expected_latency_seconds": 4.0,
}


@pytest.mark.parametrize(
    ("demand", "met"),
    [
        ({}, True),
        ({"regions": ["us", "eu"]}, True),
        ({"regions": ["us"]}, False),
        ({"regions": ["eu-west-1"]}, False),
        ({"regions": []}, False),
        ({"max_data_retention_days": 30}, True),
        ({"max_data_retention_days": 29}, False),
        ({"max_data_retention_days": 0}, False),
        ({"max_latency_seconds": 4}, True),
        ({"max_latency_seconds": 3.9}, False),
        ({"languages": ["en"]}, True),
        ({"languages": ["en", "pt-BR"]}, True),
        ({"languages": ["EN-gb"]}, True),
        ({"languages": ["de"]}, False),
        ({"languages": ["en", "fr"]}, False),
        ({"languages": ["e"]}, False),
    ],
)
def test_a_demand_is_met_by_what_the_descriptor_says(demand: dict[str, Any], met: bool) -> None:
    said = list(Constraints(**demand).unmet(ModelDescriptor(id="a", **EUROPEAN)))
    assert (not said) is met
    # One that says nothing meets no demand at all.
    assert bool(list(Constraints(**demand).unmet(ModelDescriptor(id="b")))) is bool(demand)


@pytest.mark.parametrize(
    ("demand", "known", "unknown"),
    [
        ({"regions": ["us"]}, "its region is EU, the call allows us", "its region is not known"),
        (
            {"max_data_retention_days": 0},
            "its provider keeps requests for 30 days, the call allows 0 days",
            "its provider keeps requests for an unknown time",
        ),
        (
            {"max_latency_seconds": 2},
            "its expected latency is 4 s, the call's limit is 2 s",
            "its expected latency is not known",
        ),
        ({"languages": ["fr"]}, "fr is not among the languages", "fr is not among the languages"),
    ],
)
def test_an_unmet_demand_is_named_with_both_sides(
    demand: dict[str, Any], known: str, unknown: str
) -> None:
    limits = Constraints(**demand)
    (reason,) = limits.unmet(ModelDescriptor(id="a", **EUROPEAN))
    assert known in reason.text
    (reason,) = limits.unmet(ModelDescriptor(id="b"))
    assert unknown in reason.text


@pytest.mark.parametrize(
    "demand",
    [
        {"regions": ["eu"]},
        {"languages": ["de-AT"]},
        {"max_data_retention_days": 30},
        {"max_latency_seconds": 4},
    ],
)
def test_who_does_not_meet_a_demand_is_removed(router: CrossRouter, demand: dict[str, Any]) -> None:
    limits = Constraints(**demand)
    one = router.over(pool_of(router, large=EUROPEAN))
    decision = one.route("Why?", 0.0, constraints=limits)
    assert decision.model == LARGE
    assert set(decision.removed) == {SMALL, MEDIUM}
    with pytest.raises(NoCandidateError) as caught:
        router.over(pool_of(router)).route("Why?", constraints=limits)
    assert set(caught.value.removed) == {SMALL, MEDIUM, LARGE}


def test_a_disabled_model_is_no_candidate_and_the_decision_says_why(router: CrossRouter) -> None:
    disabled = router.over(pool_of(router, large={"disabled": True}))
    decision = disabled.route(QUESTION, math.inf)
    assert decision.removed == {LARGE: "disabled in its descriptor"}
    assert decision.model != LARGE
    with pytest.raises(NoCandidateError, match=f"{LARGE}: disabled in its descriptor"):
        disabled.route(QUESTION, constraints=Constraints(model=LARGE))


@pytest.mark.parametrize("margin", [-0.1, math.nan, None, "0.1", True])
def test_a_margin_is_a_number_from_0_up(margin: float) -> None:
    with pytest.raises(ConstraintError, match="from 0 up"):
        Stay(LARGE, margin)


def test_who_stays_is_a_model_id() -> None:
    with pytest.raises(ConstraintError, match="give a model id"):
        Stay([LARGE])  # type: ignore[arg-type]


@pytest.mark.parametrize("willingness", [0, 0.01, math.inf])
@pytest.mark.parametrize("margin", [math.inf, 10**400])
def test_an_endless_margin_keeps_the_model_wherever_it_may_serve(
    three: CrossRouter, willingness: float, margin: float
) -> None:
    free = three.route(QUESTION, willingness)
    for other in free.candidates[1:]:
        kept = three.route(QUESTION, willingness, stay=Stay(other.model, margin))
        rest = [candidate for candidate in free.candidates if candidate is not other]
        assert kept.kept
        assert kept.candidates == (other, *rest)
        gone = three.route(
            QUESTION,
            willingness,
            constraints=Constraints(excluded=[other.model]),
            stay=Stay(other.model, margin),
        )
        assert gone.candidates == tuple(rest)


@pytest.mark.parametrize("willingness", [1e-3, 0.01, 1.0, math.inf])
def test_a_conversation_stays_within_the_margin(three: CrossRouter, willingness: float) -> None:
    free = three.route(QUESTION, willingness)
    other = free.candidates[1].model
    assert three.route(QUESTION, willingness, stay=Stay(other, 0)).model == free.model
    kept = three.route(QUESTION, willingness, stay=Stay(other, 100))
    assert (kept.model, kept.kept) == (other, True)
    assert "kept because it answered before" in kept.explain()
    same = three.route(QUESTION, willingness, stay=Stay(free.model, 100))
    assert (same.model, same.kept) == (free.model, False)


def test_the_margin_is_in_units_of_utility(three: CrossRouter) -> None:
    first, second = three.route(QUESTION, math.inf).candidates[:2]
    gain = math.log(first.quality / second.quality)
    assert three.route(QUESTION, math.inf, stay=Stay(second.model, gain * 1.01)).kept
    assert not three.route(QUESTION, math.inf, stay=Stay(second.model, gain * 0.99)).kept


def test_a_lost_prompt_cache_is_part_of_the_price_of_changing(router: CrossRouter) -> None:
    price = Price(
        input_usd_per_1m=2.5,
        output_usd_per_1m=10,
        date=datetime.date(2024, 8, 6),
        source="test",
    )
    cached = price.model_copy(update={"cached_input_usd_per_1m": 0.25})
    talk = [
        user("Read this. " + "All of it matters to what follows. " * 3000),
        {"role": "assistant", "content": "I have read it."},
        user(QUESTION),
    ]
    saving = cached.cache_saving_usd(Query.of(talk).past_tokens)
    assert saving > 0.01
    for table, kept in ((price, False), (cached, True)):
        # As good, and a little dearer than its twin with another price.
        twins = [
            router.pool[LARGE].model_copy(update={"id": "old", "price": table}),
            router.pool[LARGE].model_copy(
                update={"id": "new", "price": price.model_copy(update={"input_usd_per_1m": 2.0})}
            ),
        ]
        twins = [twin.model_copy(update={"context_window_tokens": None}) for twin in twins]
        decision = router.over(ModelPool(twins)).route(talk, 0.01, stay=Stay("old", 0))
        assert decision.kept is kept


def test_a_model_that_left_the_pool_is_not_kept(three: CrossRouter) -> None:
    decision = three.route(QUESTION, stay=Stay("gone", 100))
    assert decision == three.route(QUESTION)


def test_a_model_that_cannot_serve_is_not_kept(three: CrossRouter) -> None:
    decision = three.route(Query.of(QUESTION, needs=["tools"]), stay=Stay(SMALL, 100))
    assert decision.model != SMALL


async def test_async_and_batch_know_the_same_limits(three: CrossRouter) -> None:
    limits = Constraints(excluded=[LARGE])
    expected = three.route(QUESTION, 0.01, constraints=limits)
    assert await three.aroute(QUESTION, 0.01, constraints=limits) == expected
    assert three.route_batch([QUESTION], 0.01, constraints=limits) == [expected]


def test_cached_input_has_its_own_price() -> None:
    price = Price(
        input_usd_per_1m=2.0,
        output_usd_per_1m=8.0,
        cached_input_usd_per_1m=0.5,
        date=datetime.date(2025, 1, 1),
        source="test",
    )
    assert price.cost_usd(1e6, 0.0, 4e5) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5)
    plain = price.model_copy(update={"cached_input_usd_per_1m": None})
    assert plain.cost_usd(1e6, 0.0, 4e5) == pytest.approx(2.0)
