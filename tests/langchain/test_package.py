"""The package: its names, what it imports, its docstrings, pages and examples."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

import doctest
import re
import runpy
import subprocess
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from fakes_langchain import LARGE, MINI, MODELS, ROOT, SMALL, Make, ToolCaller
from fakes_langchain_providers import ScriptedProvider

import langchain_crossroute
import langchain_crossroute.chat_model
import langchain_crossroute.runnable

AGENT = ROOT / "examples" / "langchain_agent.py"
PAGE = ROOT / "docs" / "langchain" / "middleware.md"
CHAIN = ROOT / "examples" / "langchain_chain.py"


def test_exported_names() -> None:
    assert langchain_crossroute.__all__ == [
        "ChatCrossRoute",
        "CostLedger",
        "CrossRouteMiddleware",
        "CrossRouteRecorder",
        "CrossRouteRunnable",
        "FitContextMiddleware",
        "StoreMemory",
        "fit_messages",
    ]
    for name in langchain_crossroute.__all__:
        assert getattr(langchain_crossroute, name).__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        langchain_crossroute.Nonsense  # noqa: B018


def test_imports_are_light() -> None:
    code = """
import sys
heavy = {"torch", "sentence_transformers", "transformers", "langchain", "langchain_openai",
         "langchain_core.language_models.chat_models"}
from langchain_crossroute import CrossRouteRunnable
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from langchain_core.runnables import RunnableLambda
models = {"gpt-4o-2024-08-06": RunnableLambda(str), "gpt-4o-mini-2024-07-18": RunnableLambda(str)}
assert CrossRouteRunnable(models=models).invoke("What is 2 + 2?") == "What is 2 + 2?"
CrossRouteRunnable.from_yaml()
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "more_than"),
    [(langchain_crossroute.runnable, 5), (langchain_crossroute.chat_model, 3)],
)
def test_docstring_examples(module: ModuleType, more_than: int) -> None:
    result = doctest.testmod(module)
    assert result.attempted > more_than
    assert result.failed == 0


def test_the_example_of_a_chain_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(CHAIN), run_name="__main__")
    assert "simulated" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["chat_model", "runnable"])
def test_the_page_of_the_class_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stand(ScriptedProvider):
        def __init__(self, *, model: str, **_: Any) -> None:
            super().__init__(model_name=model)  # type: ignore[call-arg]

    monkeypatch.setattr("langchain_openai.ChatOpenAI", Stand)
    page = (ROOT / "docs" / "langchain" / f"{name}.md").read_text("utf-8")
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, found)
    assert "gpt-4o" in capsys.readouterr().out
    assert "crossroute" in found["answer"].response_metadata


def test_the_page_of_the_middleware_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def simulated(name: str) -> ToolCaller:
        return ToolCaller(model_name=name.removeprefix("openai:"))

    monkeypatch.setattr("langchain.chat_models.init_chat_model", simulated)
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(block, found)
    assert f"I am {MINI}." in capsys.readouterr().out
    assert found["state"]["crossroute"]["model"] == LARGE


def test_the_example_of_an_agent_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(AGENT), run_name="__main__")
    shown = capsys.readouterr().out
    assert "simulated" in shown
    # An example in which one model gets everything shows nothing.
    assert Counter(word for word in shown.split() if word in MODELS).keys() >= {SMALL, LARGE}


def test_the_code_of_the_page_runs(make: Make) -> None:
    page = (ROOT / "docs" / "langchain" / "index.md").read_text("utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        found: dict[str, Any] = {}
        exec(code, found)
        assert set(found["chat"].models) == {MINI, LARGE}
    for name in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page):
        assert (ROOT / "docs" / "langchain" / name).exists(), name
    assert all(f"| `{setting.id}` |" in page for setting in make().config_specs)
