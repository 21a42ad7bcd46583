"""The package: its names, what it imports, its docstrings, pages and examples."""

# LlamaIndex's own signatures say Any.

import doctest
import re
import runpy
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MAKES_AN_AGENT,
    MINI,
    ROOT,
    SMALL,
    Recorder,
    Retriever,
    multiply,
    scripted,
)
from llama_index.core.base.base_selector import BaseSelector, SelectorResult

import llamaindex_crossroute.agents
import llamaindex_crossroute.llm
import llamaindex_crossroute.selector
from llamaindex_crossroute import CrossRouteSelector, CrossRouteSelectorResult

PAGE = ROOT / "docs" / "llamaindex" / "llm.md"
EXAMPLE = ROOT / "examples" / "llamaindex_query_engine.py"


def test_exports() -> None:
    assert llamaindex_crossroute.__all__ == [
        "CostLedger",
        "CrossRouteAgents",
        "CrossRouteAnswerEvent",
        "CrossRouteDecisionEvent",
        "CrossRouteLLM",
        "CrossRouteRecorder",
        "CrossRouteSelector",
        "CrossRouteSelectorResult",
        "CrossRouteTextSelector",
        "CrossRouteTextSelectorResult",
        "FitContextMemoryBlock",
        "call_settings",
        "fit_messages",
    ]
    assert issubclass(CrossRouteSelector, BaseSelector)
    assert issubclass(CrossRouteSelectorResult, SelectorResult)


@pytest.mark.parametrize(
    "module",
    [llamaindex_crossroute.agents, llamaindex_crossroute.llm, llamaindex_crossroute.selector],
)
def test_docstring_examples_run(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_example_runs_without_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "simulated" in printed
    assert len({line for line in printed.splitlines() if line.startswith("  engine:")}) > 1


def test_selecting_imports_neither_torch_nor_the_other_integration() -> None:
    code = f"""
import sys
from llamaindex_crossroute import CrossRouteSelector
CrossRouteSelector(models=[{SMALL!r}, {LARGE!r}]).select(["a", "b"], "What is 1 + 1?")
unwanted = "torch sentence_transformers transformers langchain_core langchain_crossroute".split()
print([name for name in unwanted if name in sys.modules])
"""
    assert _python(code) == "[]"


def test_without_llama_index_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["llama_index"] = None
try:
    import llamaindex_crossroute
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert _python(code) == (
        "MissingExtraError This needs the package 'llama-index-core', which is not installed: "
        "pip install 'crossroute[llamaindex]'."
    )


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@MAKES_AN_AGENT
def test_examples_of_the_page_run(
    settings: None, events: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    models = scripted()
    namespace: dict[str, Any] = {"large": models[LARGE], "small": models[MINI]}
    namespace |= {"retriever": Retriever(), "tools": [multiply]}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    assert capsys.readouterr().out.splitlines()[-1] == f"${namespace['bill'].realised_usd:.6f}"
    assert models[LARGE]._asked
    assert namespace["bill"].realised_usd > 0
