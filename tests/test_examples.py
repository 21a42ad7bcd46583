"""What the README and the examples show is run, so that it stays true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from crossroute import CrossRouter, ModelDescriptor, PoolError
from langchain_crossroute import demo

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.py"))
    # Run where Ray's other tests are.
    if path.name != "ray_batch.py"
]
RUN_ALL = """
import contextlib, io, json, runpy, sys, traceback
sys.path[0], *paths = sys.argv[1:]
for path in paths:
    sys.argv, said, error = [path], io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(path, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([path, error, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def shown() -> dict[str, tuple[str | None, str]]:
    """Of each example its error, and what it prints: one process, which imports everything once."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_ALL, EXAMPLES[0].parent, *EXAMPLES],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = map(json.loads, done.stdout.splitlines())
    return {Path(path).name: (error, said) for path, error, said in found}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_without_a_key(
    path: Path, shown: dict[str, tuple[str | None, str]]
) -> None:
    error, said = shown[path.name]
    assert error is None, error
    assert "simulated" in said


def test_the_readme_without_a_framework_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [block for block in blocks("python") if "decision.explain()" in block]
    exec(code, {})
    assert "predicted quality" in capsys.readouterr().out


def test_the_readme_is_python() -> None:
    found = blocks("python")
    assert found
    for block in found:
        compile(block, "README.md", "exec")


def test_the_descriptor_in_the_readme_is_the_shipped_one(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    path = tmp_path / "model.yaml"
    path.write_text(re.sub(r"^learned:.*", "", text, flags=re.MULTILINE | re.DOTALL), "utf-8")
    shown = ModelDescriptor.load(path)
    shipped = CrossRouter.default().pool[shown.id]
    for field in (
        "provider",
        "price",
        "context_window_tokens",
        "max_output_tokens",
        "capabilities",
    ):
        assert getattr(shown, field) == getattr(shipped, field)


def test_the_files_that_the_readme_names_exist() -> None:
    names = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert len(names) > 3
    for name in names:
        assert (ROOT / name).exists(), name


def test_the_demo_routes_for_real_and_says_what_is_simulated() -> None:
    text = StringIO()
    demo.run(Console(file=text, width=160))
    printed = text.getvalue()
    assert "the answers are simulated" in printed
    assert "best single" in printed
    router = CrossRouter.default().subset(demo.POOL)
    for value in demo.WILLINGNESS_TO_PAY:
        chosen = {decision.model for decision in router.route_batch(demo.PROMPTS, value)}
        # A demo in which one model gets everything shows nothing.
        assert len(chosen) > 1
        assert all(demo._short(model) in printed for model in chosen)
    assert "are guesses" not in printed


def test_the_live_demo_asks_the_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda

    from langchain_crossroute import lazy

    usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    answer = RunnableLambda(lambda _: AIMessage("real", usage_metadata=usage))  # type: ignore[arg-type]
    monkeypatch.setattr(lazy.LazyChatModel, "_build", lambda _: answer)
    text = StringIO()
    demo.run(Console(file=text, width=200), live=True)
    assert "the answers come from the providers" in text.getvalue()
    assert "paid" in text.getvalue()
    assert "are guesses" in text.getvalue()


def test_the_live_demo_needs_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    none = CrossRouter.shipped().subset(["claude-v1", "claude-v2"])
    monkeypatch.setattr(CrossRouter, "default", classmethod(lambda _: none))
    with pytest.raises(PoolError, match="no provider"):
        demo.run(Console(file=StringIO()), live=True)
