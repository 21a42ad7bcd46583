"""Whom to ask in shadow and to explore: probabilities, and what is left alone."""

from __future__ import annotations

import logging
import math
from collections import Counter
from random import Random
from typing import Any

import pytest

from crossroute import ConstraintError, CrossRouter, Decision, Stay, UnknownModelError
from crossroute import exploration as module
from crossroute.exploration import Exploration
from crossroute.failures import decision_after
from crossroute.strategies import PickOne

QUESTION = "What is 4711 * 12 + 99?"
MESSAGES = [{"role": "user", "content": QUESTION}]
TOOL_LOOP = [*MESSAGES, {"role": "assistant", "content": ""}, {"role": "tool", "content": "56631"}]
MODELS = ["sage", "clerk", "poet"]
DRAWS = 6000


@pytest.fixture
def decision(toy_router: CrossRouter) -> Decision:
    found = toy_router.route(QUESTION, math.inf)
    assert [c.model for c in found.candidates] == MODELS
    return found


def counted(exploration: Exploration, decision: Decision) -> dict[str, tuple[float, float | None]]:
    """How often each model was drawn, and the probability that its decisions say."""
    found = [exploration.chosen(decision, MESSAGES) for _ in range(DRAWS)]
    said = {one.model: one.probability for one in found}
    assert all(one.probability == said[one.model] for one in found)
    shares = Counter(one.model for one in found)
    return {model: (shares[model] / DRAWS, said[model]) for model in shares}


def test_by_itself_the_routers_choice_is_asked(decision: Decision) -> None:
    assert Exploration().chosen(decision, MESSAGES) is decision
    assert not Exploration.of(MODELS).is_on


def test_in_shadow_one_model_answers_and_the_routers_choice_is_told(decision: Decision) -> None:
    found = Exploration.of(MODELS, shadow="poet").chosen(decision, MESSAGES)
    assert found.model == "poet"
    assert [c.model for c in found.candidates] == ["poet", "sage", "clerk"]
    assert (found.quality, found.cost_usd) == found.candidates[0][1:3]
    assert found.shadow == decision.candidates[0]
    assert found.probability is None
    plain = found.to_dict()
    assert plain["shadow"]["model"] == "sage"
    assert "probability" not in plain
    assert "The router's own choice is sage." in found.explain()
    # Also where it is the same.
    same = Exploration.of(MODELS, shadow="sage").chosen(decision, MESSAGES)
    assert same.model == "sage"
    assert same.shadow == decision.candidates[0]


@pytest.mark.parametrize("shadow", [None, "poet"])
def test_draws_come_with_the_probability_that_they_say(
    shadow: str | None, decision: Decision
) -> None:
    exploration = Exploration.of(MODELS, shadow=shadow, explore=0.3, random=Random(1))
    found = counted(exploration, decision)
    usual = shadow or "sage"
    for model, (share, probability) in found.items():
        assert probability == pytest.approx((0.7 if model == usual else 0) + 0.1)
        # Six standard errors.
        assert abs(share - probability) < 6 * math.sqrt(probability / DRAWS)
    assert set(found) == set(MODELS)
    assert sum(probability or 0 for _, probability in found.values()) == pytest.approx(1)


def test_the_routers_choice_is_told_of_a_draw_too(decision: Decision) -> None:
    exploration = Exploration.of(MODELS, explore=1, random=Random(1))
    found = [exploration.chosen(decision, MESSAGES) for _ in range(50)]
    assert {one.model for one in found} == set(MODELS)
    assert {one.shadow for one in found} == {decision.candidates[0]}
    assert "probability of 0.333" in found[0].explain()


def test_the_same_seed_draws_the_same(decision: Decision) -> None:
    def drawn(seed: int) -> list[str]:
        exploration = Exploration.of(MODELS, explore=0.5, random=Random(seed))
        return [exploration.chosen(decision, MESSAGES).model for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


@pytest.mark.parametrize(
    "given",
    [
        {"forced": True},
        {"stay": Stay("sage")},
        {"keep": True, "last": "sage"},
    ],
)
def test_what_is_forced_or_kept_is_not_drawn(given: dict[str, Any], decision: Decision) -> None:
    exploration = Exploration.of(MODELS, explore=1, random=Random(1))
    for _ in range(50):
        assert exploration.chosen(decision, MESSAGES, **given) == decision
    # A conversation that leaves its model anyway is free.
    free = [exploration.chosen(decision, MESSAGES, stay=Stay("clerk")) for _ in range(50)]
    assert len({one.model for one in free}) == 3


@pytest.mark.parametrize("shadow", [None, "poet"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_tool_loop_goes_on_with_the_model_that_began_it(
    shadow: str | None, keep: bool, decision: Decision
) -> None:
    exploration = Exploration.of(MODELS, shadow=shadow, explore=1, random=Random(1))
    messages = MESSAGES if keep else TOOL_LOOP
    for _ in range(20):
        found = exploration.chosen(decision, messages, last="clerk", keep=keep)
        assert (found.model, found.probability) == ("clerk", None)
        assert found.shadow == decision.candidates[0]
    # Where nobody knows which one began it, nothing is drawn either.
    for _ in range(20):
        found = exploration.chosen(decision, TOOL_LOOP)
        assert (found.model, found.probability) == (shadow or "sage", None)


def test_a_forced_model_has_no_shadow(decision: Decision) -> None:
    shadow = Exploration.of(MODELS, shadow="poet")
    assert shadow.chosen(decision, MESSAGES, forced=True) is decision


def test_a_shadow_model_that_may_not_serve_leaves_the_call_to_the_router(
    decision: Decision, caplog: pytest.LogCaptureFixture
) -> None:
    shadow = Exploration.of(MODELS, shadow="poet")
    narrow = decision.without({"poet": "excluded by the call"})
    module._tell.cache_clear()
    with caplog.at_level(logging.WARNING, "crossroute"):
        for _ in range(3):
            assert shadow.chosen(narrow, MESSAGES) == narrow
    (told,) = caplog.messages
    assert "poet" in told
    assert "excluded by the call" in told


def test_a_conversation_in_shadow_stays_with_what_the_router_chose(decision: Decision) -> None:
    shadow = Exploration.of(MODELS, shadow="poet")
    last = shadow.chosen(decision, MESSAGES).to_dict()
    assert shadow.stays_with(last) == "sage"
    explored = Exploration.of(MODELS, explore=0.5)
    assert explored.stays_with(last) == "poet"
    assert explored.stays_with({}) is None


def test_after_a_failure_no_probability_is_known(decision: Decision) -> None:
    drawn = Exploration.of(MODELS, explore=0.5, random=Random(1)).chosen(decision, MESSAGES)
    first, second, _ = (c.model for c in drawn.candidates)
    assert decision_after(drawn, first, [])["probability"] == drawn.probability
    failed = decision_after(drawn, second, [{"model": first, "error": "down"}])
    assert "probability" not in failed
    assert failed["shadow"]["model"] == "sage"


@pytest.mark.parametrize("explore", [-0.1, 1.5, math.nan, math.inf, "0.1", None, True])
def test_what_is_no_probability(explore: float) -> None:
    with pytest.raises(ConstraintError, match=r"explore is .*from 0 to 1"):
        Exploration.of(MODELS, explore=explore)


def test_what_makes_no_sense() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'sage'"):
        Exploration.of(MODELS, shadow="sage-2")
    with pytest.raises(ConstraintError, match=r"random\.Random"):
        Exploration.of(MODELS, explore=0.1, random=4)  # type: ignore[arg-type]
    for given in ({"shadow": "sage"}, {"explore": 0.1}):
        with pytest.raises(ConstraintError, match="strategy"):
            Exploration.of(MODELS, strategy=PickOne(), **given)  # type: ignore[arg-type]
    assert not Exploration.of(MODELS, strategy=PickOne()).is_on
