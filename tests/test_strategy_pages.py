"""The code of the pages on strategies runs, and their links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fakes_answers import calibrated, calibrations
from fakes_forms import LARGE, MINI, QUESTION, SURE, says, told_of
from fakes_langchain import client
from openai_server import OpenAIServer

from crossroute import CrossRouter
from crossroute.strategies import Panels, Strategy, WindowLogprob
from crossroute.strategies.panel import FILE
from langchain_crossroute import ChatCrossRoute

PAGES = Path(__file__).parents[1] / "docs" / "strategies"
NAMES = [
    *("index.md", "cascade.md", "vote.md", "mixture.md", "probe.md"),
    *("controller.md", "handoff.md"),
    *("signals.md", "chosen-by-data.md"),
]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / name).read_text("utf-8"), re.DOTALL)


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    bare = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in bare}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that the pages read."""
    signals = ("mean_logprob", "stated_confidence", WindowLogprob().name)
    calibrations(*(calibrated(MINI, signal) for signal in signals)).save(
        tmp_path / "calibrations.json"
    )
    random = Random(0)
    rows = []
    for _ in range(60):
        value = random.random() - 1
        right = random.random() < 1 + value
        rows.append({"model": MINI, "signal": "mean_logprob", "value": value, "right": right})
    (tmp_path / "drafts.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    CrossRouter.shipped().save(tmp_path / "my_checkpoint")
    Panels().save(tmp_path / "my_checkpoint" / FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_page_runs(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (folder / "drafts.jsonl").read_text("utf-8").splitlines()]
    measured: dict[str, Any] = {
        "values": [row["value"] for row in rows],
        "right": [row["right"] for row in rows],
        "predicted": [0.5 + 0.001 * place for place in range(len(rows))],
    }
    found = blocks(name)
    assert found
    for code in found:
        exec(code, {"__name__": __name__, **measured})
    said = {"index.md": "then", "signals.md": "auroc"}.get(name, "")
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", [*NAMES, "measured.md", "measured-signals.md"])
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    links = LINK.findall((PAGES / name).read_text("utf-8"))
    assert links
    for to, anchor in links:
        path = PAGES / (to or name)
        assert path.exists(), to
        assert not anchor or anchor in anchors(path), (to, anchor)


def test_the_strategies_of_the_pages_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made: dict[str, Any] = {}
    for name, part in (("index.md", "class CheapFirst"), ("signals.md", "class Measure")):
        (code,) = [block for block in blocks(name) if part in block]
        exec(code, made)
    measure = made["Measure"](MINI)
    strategies: list[Strategy] = [made["CheapFirst"](), measure]
    with OpenAIServer() as server:
        chats = {model: client(server, model) for model in (MINI, LARGE)}
        for strategy in strategies:
            # The draft, and how sure the model is of it.
            with told_of(server, {MINI: says(MINI, "0.25"), LARGE: says(LARGE, "0.5")}):
                answer = ChatCrossRoute(models=chats, strategy=strategy).invoke(QUESTION)
            assert answer.text == "0.25"
    mean, stated = measure.rows
    assert (mean["signal"], mean["value"]) == ("mean_logprob", pytest.approx(SURE))
    assert (stated["signal"], stated["value"]) == ("stated_confidence", pytest.approx(0.25))
