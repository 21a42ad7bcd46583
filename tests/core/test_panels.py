"""Which panels are worth having, and what they are expected to bring."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_panels import MODELS, simulated

from crossroute.errors import DataError
from crossroute.evaluation.metrics import Hull, realised, sweep
from crossroute.strategies.panel import Panel, Panels
from crossroute.training.answers import NO_ANSWER, UNKNOWN
from crossroute.training.panels import (
    FEWEST_ROWS,
    AnsweredRows,
    Chosen,
    choose_panels,
    outcome,
    with_arms,
)


@pytest.fixture(scope="module")
def chosen() -> Chosen:
    return choose_panels(simulated(1_500))


def curve(rows: AnsweredRows, panels: Panels) -> Hull:
    quality, cost, score, paid = with_arms(rows, [outcome(rows, one) for one in panels.panels])
    taken = sweep(quality, cost, available=~np.isnan(score + paid))
    return Hull.of(*realised(taken, score, paid))


def test_panels_of_models_that_err_apart_pay_on_fresh_rows(chosen: Chosen) -> None:
    assert chosen.panels.panels
    assert chosen.gain is not None
    assert chosen.gain.low > 0
    fresh = simulated(4_000, seed=1)
    alone, beside = curve(fresh, Panels()), curve(fresh, chosen.panels)
    costs = np.geomspace(0.002, 0.03, 20)
    assert (beside.at(costs) - alone.at(costs)).mean() > 0.02


def test_what_they_are_expected_to_bring_comes_about(chosen: Chosen) -> None:
    fresh = simulated(6_000, seed=2)
    for panel in chosen.panels.panels:
        found = outcome(fresh, panel)
        expected, real = found.cost_usd.mean(axis=0), found.paid_usd.mean(axis=0)
        assert expected == pytest.approx(real, rel=0.1)
        # Held back by what a choice among many flatters, and not by much.
        off = found.score.mean(axis=0) - found.quality.mean(axis=0)
        assert (off > -0.03).all()
        assert (off < 0.1).all()
        # Where more is expected, there is more.
        for stop in range(len(panel.stops)):
            order = np.argsort(found.quality[:, stop])
            low, high = (found.score[part, stop].mean() for part in np.array_split(order, 2))
            assert high > low


def test_the_surer_it_is_to_be_the_more_is_asked(chosen: Chosen) -> None:
    fresh = simulated(2_000, seed=3)
    for panel in chosen.panels.panels:
        paid = outcome(fresh, panel).paid_usd.mean(axis=0)
        assert (np.diff(paid) >= 0).all()


def test_none_is_chosen_where_models_err_alike() -> None:
    chosen = choose_panels(simulated(1_500, alike=True))
    assert chosen.panels == Panels()
    assert "No panel pays" in chosen.why


def test_none_is_chosen_from_too_few_rows() -> None:
    chosen = choose_panels(simulated(FEWEST_ROWS - 1))
    assert chosen.panels == Panels()
    assert chosen.gain is None
    assert "too few" in chosen.why


def test_none_is_chosen_from_one_question_that_is_asked_again_and_again() -> None:
    rows = simulated(2 * FEWEST_ROWS)
    found = choose_panels(replace(rows, question=np.zeros_like(rows.question)))
    assert not found.panels.panels
    assert "1 prompts with answers are too few" in found.why


def test_none_is_chosen_where_nobody_answered() -> None:
    rows = simulated(2 * FEWEST_ROWS)
    empty = replace(rows, codes=np.full_like(rows.codes, NO_ANSWER))
    assert not choose_panels(empty).panels.panels


def test_rows_whose_answers_are_not_known_are_left_out() -> None:
    rows = simulated(1_500)
    codes = rows.codes.copy()
    codes[:700] = UNKNOWN
    codes[700:, 3] = UNKNOWN
    rows = replace(rows, codes=codes)
    chosen = choose_panels(rows)
    assert "800 rows" in chosen.why
    assert all("strong" not in panel.models for panel in chosen.panels.panels)
    assert np.isnan(outcome(rows, _panel()).score[:700]).all()


def test_an_answer_without_a_score_is_not_known() -> None:
    rows = simulated(200)
    score = rows.score.copy()
    score[3, 0] = np.nan
    assert rows.known((0, 1)).all()
    assert not replace(rows, score=score).known((0, 1))[3]


def test_rows_may_lack_scores_and_models() -> None:
    rows = simulated(900)
    score, paid = rows.score.copy(), rows.paid_usd.copy()
    score[::3, 2] = np.nan
    paid[1::3, 0] = np.nan
    score[:, 3] = paid[:, 3] = np.nan
    chosen = choose_panels(replace(rows, score=score, paid_usd=paid))
    assert chosen.gain is not None
    assert all("strong" not in panel.models for panel in chosen.panels.panels)


def test_the_choice_is_the_same_twice() -> None:
    rows = simulated(400)
    assert choose_panels(rows).panels == choose_panels(rows).panels


def _panel() -> Panel:
    curve = {"intercept": 0.3, "slopes": [0.5, 0.5]}
    return Panel.model_validate(
        {
            "models": MODELS[:2],
            "jury": {
                "jurors": {name: {"weight": 1, "slope": 0.5} for name in MODELS[:2]},
                "doubt": 0.5,
                "doubt_by_number": 0,
                "doubt_by_quality": 0,
            },
            "stops": [{"at": 0.9, "quality": curve, "asked": [curve]}],
        }
    )


def test_panels_are_saved_and_loaded(tmp_path: Path, chosen: Chosen) -> None:
    chosen.panels.save(tmp_path / "strategies.json")
    assert Panels.load(tmp_path / "strategies.json") == chosen.panels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ["cheap-a", "cheap-a"]}, "twice"),
        ({"models": ["cheap-a", "other"]}, "jury lacks 'other'"),
        ({"models": ["cheap-a"]}, "models"),
        ({"stops": []}, "stops"),
        ({"jury": {}}, "jurors"),
    ],
)
def test_a_panel_that_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "strategies.json"
    text = Panels(panels=(_panel(),)).model_dump(mode="json")
    text["panels"][0] |= change

    path.write_text(json.dumps(text))
    with pytest.raises(DataError, match=said) as raised:
        Panels.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": 2}', '{"panels": [{}]}'])
def test_a_file_that_holds_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "strategies.json"
    path.write_text(content)
    with pytest.raises(DataError, match="no strategies can be read"):
        Panels.load(path)


def test_a_stop_needs_a_curve_for_each_model() -> None:
    content = _panel().model_dump(mode="json")
    content["stops"][0]["asked"] = []
    with pytest.raises(ValueError, match="curves"):
        Panel.model_validate(content)
