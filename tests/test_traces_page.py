"""The code and the commands of the page on traces run, with a server in place of the providers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import datasets
import pytest
from fakes_core import Run
from openai_server import OpenAIServer, Reply

from crossroute import CrossRouter
from crossroute.models.descriptor import Provider
from crossroute.models.pool import ModelPool
from crossroute.traces.export import Selection

PAGE = Path(__file__).parents[1] / "docs" / "traces.md"
TEXT = PAGE.read_text("utf-8")
GOOD, CHEAP = "gpt-5.5", "gpt-4o-mini-2024-07-18"
RIGHT = {"What is 17 * 23?": "391", "What is 12 * 12?": "144"}


def test_the_page_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", "any")
    with OpenAIServer() as server:
        server.answers = {
            GOOD: lambda body: Reply(f"It is {RIGHT[body['messages'][-1]['content']]}."),
            CHEAP: Reply("I cannot say; ask bob@example.com."),
        }
        shipped = CrossRouter.default()
        common: dict[str, Any] = {"base_url": server.url, "api_key_env": "SOME_KEY"}
        pool = ModelPool(
            shipped.pool[model].model_copy(
                update={"provider": Provider(chat_model=f"openai:{model}", **common)}
            )
            for model in (GOOD, CHEAP)
        )
        monkeypatch.setattr("crossroute.router._default", lambda: shipped.over(pool))
        (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        exec(code, {})
    for command in re.findall(r"^    \$ crossroute (.*)$", TEXT, re.MULTILINE):
        code, out, err = run(*shlex.split(command))
        assert code == 0, err
        assert "4 traces" in out.replace("\n", " ")
    for name, columns in (
        ("sft.jsonl", ["prompt", "completion"]),
        ("dpo.jsonl", ["prompt", "chosen", "rejected"]),
    ):
        rows = datasets.load_dataset(
            "json", data_files=name, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert rows.column_names == columns
        assert len(rows) == 2
    assert rows[0]["rejected"][0]["content"] == "I cannot say; ask <EMAIL_1>."
    assert (tmp_path / "ranked.jsonl").read_text("utf-8").count("\n") == 4


def test_the_page_names_each_option_and_its_value() -> None:
    found = Selection("sft")
    for name in ("least_reward", "margin", "right_at", "most_a_prompt", "near_duplicates"):
        option, value = f"`--{name.replace('_', '-')}`", f"({getattr(found, name):g}"
        assert any(option in line and value in line for line in TEXT.splitlines()), name
    for link in re.findall(r"\]\(([^)#\s:]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
