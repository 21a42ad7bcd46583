"""The code of the page on pacing runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "budget" / "pacing.md"


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    made: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, made)
    said = capsys.readouterr().out
    assert "linear reward" in said
    shown = re.findall(r"^    ((?:asked|realised): .*)$", text, re.MULTILINE)
    assert len(shown) == 2
    assert all(line in said for line in shown)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", PAGE.read_text("utf-8"))
    assert links
    for to in links:
        assert (PAGE.parent / to).exists(), to
