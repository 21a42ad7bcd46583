"""The code of the pages on traffic runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fakes_core import with_providers
from llama_index.core.instrumentation import get_dispatcher
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from crossroute.models.descriptor import Provider
from crossroute.models.pool import ModelPool
from crossroute.policy import Policy, Promised
from crossroute.traffic.records import read_records

PAGES = Path(__file__).parents[1] / "docs" / "traffic"
PAGE = PAGES / "recorder.md"
MODELS = ("gpt-5.5", "gpt-4o-mini-2024-07-18")


def test_the_page_of_the_recorder_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a server on this machine in place of the providers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", "any")
    root = get_dispatcher()
    before = list(root.event_handlers)
    with OpenAIServer() as server:
        server.answers = dict.fromkeys(MODELS, Reply("Paris."))
        shipped = CrossRouter.default()
        pool = ModelPool(
            shipped.pool[model].model_copy(
                update={
                    "provider": Provider(
                        chat_model=f"openai:{model}",
                        base_url=server.url,
                        api_key_env="SOME_KEY",
                    )
                }
            )
            for model in MODELS
        )
        monkeypatch.setattr("crossroute.router._default", lambda: shipped.over(pool))
        try:
            for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
                found: dict[str, Any] = {}
                exec(code, found)
        finally:
            root.event_handlers[:] = before
    assert "gpt-5.5 answered; the router would have asked" in capsys.readouterr().out
    for name in ("records.jsonl", "records.db"):
        (call,) = read_records(name)
        assert call.score() == 1.0
    (call,) = read_records("shadow.jsonl")
    assert call.decision.shadow is not None
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / link).exists(), link


def test_the_page_of_the_policy_runs(
    toy_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (PAGES / "policy.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", "any")
    names = ("clerk", "poet", "sage")
    with OpenAIServer() as server:
        server.answers = dict.fromkeys(names, Reply("Once upon a time."))
        common = {"base_url": server.url, "api_key_env": "SOME_KEY"}
        with_providers(
            toy_policy,
            tmp_path,
            **{name: {"chat_model": f"openai:{name}"} | common for name in names},
        )
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            found: dict[str, Any] = {}
            exec(code, found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["poet", "poet"]
    for name in Policy.model_fields:
        assert f"| `{name}" in page, name
    for name in Promised.model_fields:
        assert f"`{name}`" in page or f"`promised.{name}`" in page, name
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (PAGES / link).exists(), link
