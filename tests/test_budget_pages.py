"""The code of the pages on budgets runs, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = DOCS / "budget"
NAMES = sorted(path.name for path in PAGES.glob("*.md"))
SAID = {
    "allocate.md": ("3 queries: at most $0.010 in all", "realised: not checked"),
    "batch.md": ("crossroute_model",),
    "pacing.md": ("asked:    $20.00 for 10000 requests", "realised: $0.00040 for 1 requests"),
    "tune.md": ("'gpt-5.5': 0.333", "1 {"),
}
"""What the code of a page prints, part of which the page shows."""
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / name).read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index.md"])
def test_the_code_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(name)
    assert found
    # Later blocks go on from earlier ones, as a reader does.
    made = {"__name__": __name__}
    for code in found:
        exec(code, made)
    said = capsys.readouterr().out
    assert all(part in said for part in SAID[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    for to in LINK.findall((PAGES / name).read_text("utf-8")):
        assert (PAGES / to).exists(), to


@pytest.mark.parametrize(
    "page",
    ["langchain/chat_model", "langchain/middleware", "langchain/runnable", "llamaindex/llm"],
)
def test_the_page_of_a_class_names_its_budgets(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    for argument in ("pacer", "daily_spend", "cooldown"):
        assert f"\n| `{argument}` |" in text
