"""Models whose providers stop serving them: from that day on they are no candidates."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any

import pytest

from crossroute import CrossRouter, ModelPool, NoCandidateError
from crossroute.models import pool as pool_module

SMALL, MINI, LARGE = "Meta-Llama-3.1-8B-Instruct", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
TODAY = datetime.date.today()
TOMORROW = TODAY + datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def nobody_was_told() -> None:
    pool_module._tell_retired.cache_clear()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def with_retired(router: CrossRouter, **dates: datetime.date) -> CrossRouter:
    """The router over three models, of which some retire."""
    models = {"small": SMALL, "mini": MINI, "large": LARGE}
    return router.over(
        ModelPool(
            router.pool[model].model_copy(update={"retired": dates.get(name)})
            for name, model in models.items()
        )
    )


def on(day: datetime.date, monkeypatch: pytest.MonkeyPatch) -> None:
    class Date(datetime.date):
        @classmethod
        def today(cls) -> Any:  # noqa: ANN401
            return day

    class Module:
        date = Date

    monkeypatch.setattr("crossroute.serving.datetime", Module)


def test_a_retired_model_is_no_candidate(
    router: CrossRouter, caplog: pytest.LogCaptureFixture
) -> None:
    retired = with_retired(router, small=TODAY, large=TOMORROW)
    for _ in range(3):
        decision = retired.route("Why?", 0)
        assert {one.model for one in decision.candidates} == {MINI, LARGE}
        assert decision.removed == {SMALL: f"retired {TODAY}"}
    assert SMALL in retired.predict(["Why?"]).models
    (said,) = told(caplog)
    assert SMALL in said
    assert str(TODAY) in said


def test_it_leaves_a_process_that_runs_on(
    router: CrossRouter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = with_retired(router, mini=TOMORROW)
    assert running.route("Why?").removed == {}
    assert told(caplog) == []
    on(TOMORROW, monkeypatch)
    for _ in range(2):
        decision = running.route("Why?")
        assert MINI not in {one.model for one in decision.candidates}
        assert [*decision.removed] == [MINI]
    # Another router over the same models tells nobody again.
    with_retired(router, mini=TOMORROW).route("Why?")
    assert len(told(caplog)) == 1


def test_beside_other_reasons_it_is_said_too(router: CrossRouter) -> None:
    retired = with_retired(router, mini=TODAY)
    decision = retired.route("Why?", constraints={"max_cost_usd": 1.0, "excluded": [LARGE]})
    assert decision.model == SMALL
    assert decision.removed[MINI] == f"retired {TODAY}"
    assert "excluded" in decision.removed[LARGE] or decision.removed[LARGE]
    with pytest.raises(NoCandidateError, match=f"retired {TODAY}") as caught:
        retired.route("Why?", constraints={"excluded": [LARGE, SMALL]})
    assert "still served" in str(caught.value)


def test_a_folder_of_ones_own_loses_it_too(
    router: CrossRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_retired(router, large=TODAY).pool.save(tmp_path)
    found = CrossRouter.load(tmp_path)
    assert LARGE in found.pool
    assert found.route("Why?", 1e9).model != LARGE
    assert len(told(caplog)) == 1


def test_the_default_router_has_those_that_can_be_called() -> None:
    pool, every = CrossRouter.default().pool, CrossRouter.shipped().pool
    assert set(every) == set(ModelPool.shipped())
    assert set(pool) < set(every)
    for model in pool.values():
        assert model.unreachable(TODAY) is None
    assert set(CrossRouter.load(reward="linear").pool) == set(pool)
    assert "claude-v1" in every
