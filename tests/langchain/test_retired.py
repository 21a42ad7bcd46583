"""Retired models beside chat models of one's own, and in a folder of descriptors."""

from __future__ import annotations

import datetime
import logging
import math
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from crossroute import CrossRouter, ModelPool
from crossroute.models import pool as pool_module
from langchain_crossroute import ChatCrossRoute

OLD, NEW = "gpt-4-1106-preview", "gpt-4o-2024-08-06"
TODAY = datetime.date.today()


@pytest.fixture(autouse=True)
def nobody_was_told() -> None:
    pool_module._tell_retired.cache_clear()


def test_who_brings_a_client_may_name_any_known_model(caplog: pytest.LogCaptureFixture) -> None:
    assert ModelPool.shipped()[OLD].is_retired(TODAY)
    models = {model: FakeListChatModel(responses=[model]) for model in (OLD, NEW)}
    chat = ChatCrossRoute(models=models, willingness_to_pay=math.inf)
    answer = chat.invoke("Why?", config={"configurable": {"crossroute_model": OLD}})
    assert answer.text == OLD
    decision = chat.invoke("Why?").response_metadata["crossroute"]
    assert {one["model"] for one in decision["candidates"]} == {OLD, NEW}
    assert decision["removed"] == {}
    assert caplog.messages == []


def test_a_folder_loses_it_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    pool = CrossRouter.default().pool
    dates = {"gpt-4o-2024-08-06": None, "gpt-4o-mini-2024-07-18": None, "gpt-5.5": TODAY}
    for model, date in dates.items():
        pool[model].model_copy(update={"retired": date}).save(tmp_path)
    for _ in range(2):
        assert "gpt-5.5" not in ChatCrossRoute.from_yaml(tmp_path).models
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "'gpt-5.5' is no candidate any more" in told[0]
