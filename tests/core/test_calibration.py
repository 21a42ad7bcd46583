"""What the value of a signal says of how likely a draft is right."""

# ruff: noqa: ANN401  # What is refused may be anything.

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroute import ConstraintError, DataError, MissingExtraError
from crossroute.evaluation.metrics import auroc
from crossroute.network.predictor import logistic
from crossroute.strategies.calibration import (
    Calibration,
    CalibrationRow,
    Calibrations,
    check_calibrations,
)
from crossroute.strategies.isotonic import MOST_POINTS, cross_check, log_odds


def drafts(n: int = 2_000, query: float = 0.0) -> tuple[Any, Any, Any]:
    """Values, rightness and predicted qualities; a part of what makes right is in the latter."""
    chance = np.random.default_rng(7)
    signal, ease = chance.normal(size=n), chance.normal(size=n)
    right = chance.random(n) < logistic(2 * signal + query * ease + 0.5)
    return signal, right.astype(float), logistic(query * ease)


def fit(*columns: Any) -> Calibration:
    return Calibration.fit(*columns, model="poet", signal="mean_logprob")


def test_a_probability_is_how_often_such_drafts_are_right() -> None:
    value, right, _ = drafts()
    found = fit(value, right)
    assert found.examples == 2_000
    assert found.base == pytest.approx(right.mean())
    assert found.prior == 0
    for at in (-1.0, 0.0, 1.0):
        truth = float(logistic(np.array(2 * at + 0.5)))
        assert found.probability(at) == pytest.approx(truth, abs=0.1)
    assert found.probability(-1e9) == found.p[0]
    assert found.probability(1e9) == found.p[-1]
    # The mean is kept.
    assert np.mean([found.probability(one) for one in value]) == pytest.approx(
        right.mean(), abs=0.01
    )


def test_nothing_is_ever_sure() -> None:
    value = np.arange(60.0)
    for right in (np.zeros(60), np.ones(60), (value > 30).astype(float)):
        found = fit(value, right)
        assert min(found.p) >= 1 / 62 - 1e-12
        assert max(found.p) <= 61 / 62 + 1e-12
    # The less so, the fewer rows say it: 4 right ones at the top say less than 29.
    few = fit(value, (value > 55).astype(float)).p[-1]
    many = fit(value, (value > 30).astype(float)).p[-1]
    assert few == pytest.approx(4 / 5)
    assert many == pytest.approx(29 / 30)


def test_a_signal_that_is_wrong_way_round_says_nothing() -> None:
    value, right, _ = drafts()
    found = fit(-value, right)
    assert max(found.p) - min(found.p) < 0.1


def test_ties_are_one_point() -> None:
    value = np.repeat([0.2, 0.8], 50)
    right = np.concatenate([np.tile([0.0, 1.0], 25), np.ones(50)])
    found = fit(value, right)
    assert found.x == pytest.approx((0.2, 0.8))
    assert found.p == pytest.approx((26 / 51, 50 / 51))


def test_a_prediction_counts_as_far_as_it_helps() -> None:
    value, right, predicted = drafts(query=1.5)
    found = fit(value, right, predicted)
    assert found.prior >= 0.5
    easy, hard = found.probability(0.0, 0.9), found.probability(0.0, 0.1)
    assert hard < found.probability(0.0) < easy
    assert easy == pytest.approx(
        float(
            logistic(
                log_odds(found.probability(0.0)) + found.prior * (log_odds(0.9) - found.mean_logit)
            )
        )
    )
    noise = np.random.default_rng(8).random(len(right))
    assert fit(value, right, noise).prior == 0
    assert np.all(np.diff(found.spread(0.9)) >= 0)
    assert found.spread(0.9)[50] > found.spread()[50] > found.spread(0.1)[50]
    # Nor is it sure of both together.
    assert found.probability(9.0, 1.0) <= 1 - 1 / 2_002


def test_a_threshold_escalates_at_most_a_share() -> None:
    value, right, _ = drafts()
    found = fit(value, right)
    p = np.array([found.probability(one) for one in value])
    for share in (0.0, 0.005, 0.2, 0.29, 0.5, 1.0):
        threshold = found.threshold_at_most(share)
        assert threshold.holds
        assert (p < threshold.p).mean() <= share + 1e-9
        assert threshold.reached <= share + 1e-9
    assert (p < found.threshold_at_most(0.5).p).mean() > 0.35


def test_ties_do_not_break_a_share() -> None:
    value = np.repeat([0.2, 0.8], [90, 10])
    right = np.concatenate([np.zeros(90), np.ones(10)])
    found = fit(value, right)
    # A tenth of those at .2 cannot be escalated without all of them.
    assert found.threshold_at_most(0.5).reached == 0


def test_a_threshold_keeps_an_accuracy() -> None:
    value, right, _ = drafts()
    found = fit(value, right)
    low, high = found.threshold_of(0.7), found.threshold_of(0.9)
    assert low.holds
    assert high.holds
    assert low.p < high.p
    p = np.array([found.probability(one) for one in value])
    assert right[p >= high.p].mean() == pytest.approx(0.9, abs=0.03)
    assert found.threshold_of(0.1).p == min(found.percentiles)
    never = found.threshold_of(1.0)
    assert not never.holds
    assert math.isinf(never.p)
    assert 0.9 < never.reached < 1


@pytest.mark.parametrize(
    ("values", "right", "predicted", "said"),
    [
        ([0.5] * 49, [1] * 49, None, "49 scored drafts are too few to calibrate on; give 50"),
        ([0.5] * 50, [1] * 50, None, r"every value is 0\.5, .*use another signal"),
        ([0.5] * 60, [1] * 59, None, "60 values and 59 of right"),
        ([0.1, 0.2] * 30, [1] * 60, [0.5], "60 values and 1 of predicted"),
        ([math.nan, 0.2] * 30, [1] * 60, None, r"values\[0\] is nan; give a number from -1e\+12"),
        ([0.1, math.inf] * 30, [1] * 60, None, r"values\[1\] is inf"),
        ([0.1, 1e300] * 30, [1] * 60, None, r"values\[1\] is 1e\+300"),
        ([0.1, 0.2] * 30, [2] * 60, None, r"right\[0\] is 2\.0; give a number from 0 to 1"),
        ([0.1, 0.2] * 30, [math.nan] * 60, None, r"right\[0\] is nan"),
        ([0.1, 0.2] * 30, [1] * 60, [-1] * 60, r"predicted\[0\] is -1"),
        (["x"] * 60, [1] * 60, None, "values holds what is no number"),
        ([[0.1]] * 60, [1] * 60, None, "values has 2 dimensions"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    values: Any, right: Any, predicted: Any, said: str
) -> None:
    with pytest.raises(DataError, match=rf"mean_logprob of poet: .*{said}"):
        fit(values, right, predicted)
    with pytest.raises(DataError, match=said):
        cross_check(values, right, predicted)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(MissingExtraError, match=r"crossroute\[train\]"):
        fit(*drafts(100)[:2])


def test_a_calibration_is_used_without_scikit_learn(tmp_path: Path) -> None:
    Calibrations(calibrations=(fit(*drafts(100)[:2]),)).save(tmp_path / "c.json")
    code = (
        "import sys; from crossroute.strategies.calibration import Calibrations;"
        "one = Calibrations.load(sys.argv[1]).calibrations[0];"
        "assert 0 < one.probability(0.3, 0.5) < 1; assert not {'sklearn', 'scipy', 'torch'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.json")], check=True)


def test_a_long_curve_is_thinned() -> None:
    value = np.arange(20_000.0)
    found = fit(value, value / 20_000)
    assert len(found.x) <= MOST_POINTS
    assert found.x[0] == 0
    assert found.x[-1] == 19_999
    assert found.probability(10_000.0) == pytest.approx(0.5, abs=0.01)


def test_figures_say_how_well_a_signal_tells() -> None:
    value, right, predicted = drafts(query=1.5)
    alone, both = cross_check(value, right), cross_check(value, right, predicted)
    assert alone.auroc == both.auroc == pytest.approx(auroc(value, right))
    assert alone.auroc > 0.75
    assert alone.ece_before is None
    assert alone.ece_after < 0.05
    assert both.prior > 0
    assert both.log_loss < alone.log_loss
    # Overconfident log-probabilities, as models give them.
    proud = np.log(logistic(3 + value))
    found = cross_check(proud, right)
    assert found.ece_before is not None
    assert found.ece_after < found.ece_before / 2


def test_auroc_counts_pairs() -> None:
    assert auroc(np.array([1.0, 2, 3]), np.array([0.0, 1, 1])) == 1
    assert auroc(np.array([3.0, 2, 1]), np.array([0.0, 1, 1])) == 0
    assert auroc(np.array([1.0, 1, 1]), np.array([0.0, 1, 1])) == 0.5
    assert auroc(np.array([1.0, 2, 2]), np.array([0.0, 0, 1])) == 0.75
    assert auroc(np.array([1.0, 2]), np.array([0.5, 0.5])) == 0.5
    assert math.isnan(auroc(np.array([1.0, 2]), np.array([1.0, 1])))


def rows(model: str = "poet", signal: str = "mean_logprob", **more: Any) -> list[dict[str, Any]]:
    value, right, _ = drafts(80)
    return [
        {"model": model, "signal": signal, "value": float(v), "right": bool(r), **more}
        for v, r in zip(value, right, strict=True)
    ]


def test_rows_become_one_calibration_a_model_and_signal(tmp_path: Path) -> None:
    content = [*rows(), *rows("clerk", predicted=0.5), *rows(signal="own")]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, content)), "utf-8")
    found = Calibrations.fit_file(path)
    assert [(one.model, one.signal) for one in found.calibrations] == [
        ("poet", "mean_logprob"),
        ("clerk", "mean_logprob"),
        ("poet", "own"),
    ]
    assert found == Calibrations.fit(content)
    assert found == Calibrations.fit(map(CalibrationRow.model_validate, content))
    assert found.get("clerk", "mean_logprob") is found.calibrations[1]
    assert found.get("clerk", "own") is None
    found.save(tmp_path / "calibrations.json")
    assert Calibrations.load(tmp_path / "calibrations.json") == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "There are no rows"),
        ([*rows()[:49]], "mean_logprob of poet: 49 scored drafts"),
        ([{"model": "poet"}], "row 1: not a row: signal: missing; add it"),
        (rows(value="x"), "row 1: not a row: value"),
        (rows(right=2), "row 1: not a row: right"),
        (rows(extra=2), "row 1: not a row: extra: unknown field"),
        ([*rows(), *rows(predicted=0.5)], "predicted stands in 80 of 160 rows"),
    ],
)
def test_what_is_no_rows_is_refused(content: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Calibrations.fit(content)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows()[0]) + "\n{", "utf-8")
    with pytest.raises(DataError, match=r"rows.jsonl:2: not a row"):
        Calibrations.fit_file(path)
    with pytest.raises(DataError, match="cannot be read"):
        Calibrations.fit_file(tmp_path / "none.jsonl")


def change(path: tuple[str | int, ...], value: Any) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return apply


ONE = ("calibrations", 0)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 2, "version"),
        (("other",), 1, "other: unknown field"),
        ((*ONE, "x"), [1.0], "x has 1 numbers and p has"),
        ((*ONE, "p", 0), 2.0, "calibrations.0.p.0"),
        ((*ONE, "p", 0), 1.0, "p must not decrease"),
        ((*ONE, "x", 0), 1e9, "x must increase"),
        ((*ONE, "x", 0), "NaN", "calibrations.0.x.0"),
        ((*ONE, "percentiles"), [0.5], "calibrations.0.percentiles"),
        ((*ONE, "prior"), 2, "calibrations.0.prior"),
        ((*ONE, "signal"), "", "calibrations.0.signal"),
        ((*ONE, "api_key"), "x", "looks like a secret|unknown field"),
    ],
)
def test_a_damaged_file_is_refused(
    path: tuple[str | int, ...], value: Any, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "calibrations.json"
    Calibrations.fit(rows()).save(file)
    content = json.loads(file.read_text("utf-8"))
    change(path, value)(content)
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(
        DataError, match=rf"calibrations.json: no calibrations can be read: .*{said}"
    ):
        Calibrations.load(file)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in ("", "[]", "{", "nul"):
        (tmp_path / "c.json").write_text(content, "utf-8")
        with pytest.raises(DataError, match=r"c\.json: no calibrations can be read"):
            Calibrations.load(tmp_path / "c.json")
    with pytest.raises(DataError, match=r"none\.json"):
        Calibrations.load(tmp_path / "none.json")


def test_the_same_signal_of_a_model_stands_there_once() -> None:
    one = fit(*drafts(100)[:2])
    with pytest.raises(ValueError, match="mean_logprob of poet stands there twice"):
        Calibrations(calibrations=(one, one))
    assert check_calibrations(None) == Calibrations()
    with pytest.raises(ConstraintError, match="calibrations is dict; give what Calibrations"):
        check_calibrations({})


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1), st.floats(0, 1)),
        min_size=50,
        max_size=80,
    )
)
def test_whatever_is_learned_from_gives_a_probability(numbers: list[tuple[float, ...]]) -> None:
    value, right, predicted = np.array(numbers).T
    if value.min() == value.max():
        return
    found = fit(value, right, predicted)
    least = 1 / (len(value) + 2) - 1e-9
    for at, quality in ((value.min(), 0.0), (value.max(), 1.0), (0.0, None)):
        assert least <= found.probability(at, quality) <= 1 - least
    assert Calibration.model_validate_json(found.model_dump_json()) == found
