"""The code of the pages on budgets runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "budget" / "tune.md"


def test_the_page_on_tuning_runs(capsys: pytest.CaptureFixture[str]) -> None:
    codes = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert "'gpt-5.5': 0.333" in first
    assert second.startswith("1 {")
    assert second.endswith(" None")
