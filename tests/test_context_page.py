"""The code of the page on contexts runs, and what it claims holds on a part of the benchmark."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "context.md"
BENCHMARK: Any = runpy.run_path(str(ROOT / "benchmarks" / "context.py"))


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    found: dict[str, Any] = {}
    for code in blocks:
        exec(code, found)
    fitted = found["fitted"]
    assert 1 in fitted.kept
    assert fitted.tokens <= 45 < fitted.tokens_before
    assert found["decision"].shortened == {"gpt-4o-mini-2024-07-18": 75}
    assert found["decision"].model == "gpt-4o-mini-2024-07-18"
    assert len(found["found"]) == 2
    assert "accountant (check): " in capsys.readouterr().out


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", PAGE.read_text("utf-8"))
    assert links
    for to in links:
        assert (PAGE.parent / to).exists(), to


@pytest.mark.parametrize("named", ["invented", "usual"])
def test_it_keeps_more_of_what_is_needed(named: str) -> None:
    questions = BENCHMARK["cases"](60, 7, named)
    ways = BENCHMARK["ways"](400, questions)
    found = {name: BENCHMARK["measure"](way, questions) for name, way in ways.items()}
    ours = found.pop("fit_context")
    assert ours.tokens.max() <= 400
    for name in ("trim_messages", *(name for name in found if name.startswith("the last"))):
        assert ours.recall.mean() > found[name].recall.mean() + 0.3
    assert ours.whole.mean() > found["meaning and recency only"].whole.mean()


def test_what_is_needed_is_in_the_corpus() -> None:
    cases = BENCHMARK["cases"](50, 3, "invented")
    again = BENCHMARK["cases"](50, 3, "invented")
    assert cases == again
    for case in cases:
        assert len(case.needed) in (2, 3)
        assert case.messages[-1]["role"] == "user"
        # A chain: each needed fact has a name in common with another, or with the question.
        texts = [case.messages[place]["content"] for place in case.needed]
        for text in texts:
            others = [case.messages[-1]["content"], *(one for one in texts if one is not text)]
            names = set(re.findall(r"\b[A-Z]\w+", text)) - {"The", "It", "At", "Since", "As", "By"}
            assert any(name in other for name in names for other in others)


def test_the_team_loses_no_answer_under_its_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    """What the page says of the example is what the example shows."""
    runpy.run_path(str(ROOT / "examples" / "langgraph_team.py"), run_name="__main__")
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if " of 5" in line]
    assert [re.findall(r"\d of 5", line)[0] for line in lines] == ["5 of 5"] * 4 + ["3 of 5"]
    tokens = [
        int(re.findall(r"([\d,]+) [│|] +\d+ [│|] +0\.", line)[0].replace(",", "")) for line in lines
    ]
    assert tokens[0] == tokens[2] > 7 * tokens[1]
    assert tokens[1] == tokens[3] > tokens[4]
