from __future__ import annotations

import math

import numpy as np
import pytest

from crossroute import ConstraintError, CrossRouter, UnknownModelError

STORY = "Write a short story about a lynx who lives by the marsh and meets a wren."


def test_a_surcharge_counts_as_cost_and_is_none(toy_router: CrossRouter) -> None:
    plain = toy_router.route(STORY, 0.01)
    dearer = toy_router.with_surcharges({plain.model: 1.0}).route(STORY, 0.01)
    assert dearer.model != plain.model
    of_first = next(one for one in dearer.candidates if one.model == plain.model)
    assert (of_first.quality, of_first.cost_usd) == (plain.quality, plain.cost_usd)
    assert of_first.reward < plain.candidates[0].reward
    assert dearer.to_dict()["surcharge_usd"] == {plain.model: 1.0}
    assert f"{plain.model} counts as $1.00 dearer than it is." in dearer.explain()


def test_a_discount_lets_another_model_win(toy_router: CrossRouter) -> None:
    plain = toy_router.route(STORY, 0.01)
    other = plain.candidates[-1].model
    cheaper = toy_router.with_surcharges({other: -1.0}).route(STORY, 0.01)
    assert cheaper.model == other
    assert f"{other} counts as $1.00 cheaper than it is." in cheaper.explain()


def test_a_surcharge_does_not_count_where_no_cost_does(toy_router: CrossRouter) -> None:
    plain = toy_router.route(STORY, math.inf)
    assert toy_router.with_surcharges({plain.model: 9.0}).route(STORY, math.inf) == plain.__class__(
        **{**_fields(plain), "surcharge_usd": {plain.model: 9.0}}
    )


def _fields(decision: object) -> dict[str, object]:
    return {name: getattr(decision, name) for name in decision.__slots__}  # type: ignore[attr-defined]


def test_what_explain_promises_holds_with_surcharges(toy_router: CrossRouter) -> None:
    charged = toy_router.with_surcharges({toy_router.route(STORY, 0.01).model: 0.002})
    text = charged.route(STORY, 0.01).explain()
    for line in text.splitlines():
        if line.startswith("Above a willingness to pay of $"):
            words = line.split()
            point = float(words[6].lstrip("$"))
            assert charged.route(STORY, point * 1.05).model == words[words.index("be") + 1]
            break
    else:
        pytest.fail(text)


def test_surcharges_stay_with_a_router_that_is_made_of_it(toy_router: CrossRouter) -> None:
    model, other, *_ = toy_router.pool
    charged = toy_router.with_surcharges({model: 0.5, other: 0.0})
    assert charged.surcharge_usd == {model: 0.5}
    assert charged.with_reward("linear").surcharge_usd == {model: 0.5}
    assert charged.subset([model, other]).surcharge_usd == {model: 0.5}
    assert charged.subset(list(toy_router.pool)[1:]).surcharge_usd == {}
    assert charged.with_surcharges({}).surcharge_usd == {}
    assert toy_router.surcharge_usd == {}


def test_what_is_no_surcharge_is_refused(toy_router: CrossRouter) -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'poet'"):
        toy_router.with_surcharges({"poett": 0.5})
    for wrong in (math.nan, math.inf, -math.inf, 1e308, 10**400, "1", None, True):
        with pytest.raises(ConstraintError, match="surcharge of poet is"):
            toy_router.with_surcharges({"poet": wrong})  # type: ignore[dict-item]
    with pytest.raises(ConstraintError, match="surcharges are None; give a mapping"):
        toy_router.with_surcharges(None)  # type: ignore[arg-type]


def test_any_number_is_a_surcharge(toy_router: CrossRouter) -> None:
    for value in (np.float32(0.5), np.int64(1), 1e100, -1e100):
        charged = toy_router.with_surcharges({"poet": value})  # type: ignore[dict-item]
        assert charged.surcharge_usd == {"poet": float(value)}
        for willingness in (0.0, 1e-200, 0.01, math.inf):
            assert "poet counts as $" in charged.route(STORY, willingness).explain()
