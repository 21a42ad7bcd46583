"""The tutorial is run, command by command, and prints what it says."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from crossroute.policy import read_policy
from crossroute.traffic.cases import load_cases

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "traffic"
PAGE = (DOCS / "tutorial.md").read_text("utf-8")
EXAMPLE = ROOT / "examples" / "traffic"
PORT = "8765"
MAY_VARY = r"[-+]?\d[\d,]*\.\d+|\d+(?=\s?%)"
"""Measures and shares: another CPU may train, and so choose, a little otherwise. Counts may not."""
ELSEWHERE = ("pip ", "cd ")
"""Commands that the test stands in for."""


class Step(NamedTuple):
    """A command or a piece of Python, and what the page says that it prints."""

    run: str
    is_python: bool
    shown: str


def steps() -> Iterator[Step]:
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    for at, (language, text) in enumerate(blocks):
        if language == "python":
            follows, shown = blocks[at + 1]
            assert follows == "text"
            yield Step(text, True, shown)
        elif language == "console":
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                if not command.startswith(ELSEWHERE):
                    yield Step(command, False, shown)


def check_printed(step: Step, printed: str) -> None:
    """The parts of what is shown were printed in this order, with about these numbers."""
    at, printed = 0, re.sub("[─━]+", "─", printed)
    for part in re.split(r"\.\.\.", step.shown):
        # Where a table's column is as wide as its longest number, its spaces and lines may differ.
        words = re.split(f"({MAY_VARY})", " ".join(re.sub("[─━]+", "─", part).split()))
        pattern = "".join(
            f"({MAY_VARY})" if odd % 2 else re.escape(text).replace(r"\ ", r"\s+")
            for odd, text in enumerate(words)
        )
        found = re.compile(pattern).search(printed, at)
        assert found, f"{step.run}\nshows {part!r}\nbut printed\n{printed}"
        at = found.end()
        for place, (said, is_now) in enumerate(zip(words[1::2], found.groups(), strict=True)):
            check_number(said, is_now, words[2 * place + 2])


def check_number(said: str, is_now: str, follows: str) -> None:
    shown, now = (float(text.replace(",", "")) for text in (said, is_now))
    if follows.lstrip().startswith("%"):
        assert now == pytest.approx(shown, abs=15)
    else:
        assert now == pytest.approx(shown, rel=0.5, abs=0.02)


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "examples",
        tmp_path / "examples",
        # What a reader of the tutorial has left there.
        ignore=lambda _, names: [
            name
            for name in names
            if name.startswith(("prompts.", "scored.", "records.", "report.", "policy."))
        ],
    )
    return tmp_path / "examples" / "traffic"


def test_the_tutorial_does_what_it_says(folder: Path) -> None:
    port = free_port()
    for file in (*folder.glob("models/*.yaml"), folder / "judge.yaml"):
        text = file.read_text("utf-8")
        assert PORT in text
        file.write_text(text.replace(PORT, port), "utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "shared"), str(ROOT))),
        "PYTHONIOENCODING": "utf-8",
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
        # As wide as the page.
        "COLUMNS": "100",
        # Several threads for small matrices take ten times as long where other tests are running.
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    with ExitStack() as running:
        for step in steps():
            words = shlex.split(step.run.replace(PORT, port), comments=False)
            if step.is_python:
                words = [sys.executable, "-c", step.run]
            elif words[0] == "export":
                name, _, value = words[1].partition("=")
                environment[name] = value
                continue
            elif words[0] == "python":
                words[0] = sys.executable
            else:
                assert words[0] == "crossroute"
                words[:1] = [sys.executable, "-c", "from crossroute.cli.app import main; main()"]
            process = running.enter_context(
                subprocess.Popen(
                    [word for word in words if word != "&"],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                )
            )
            running.callback(process.kill)
            assert process.stdout is not None
            if words[-1] == "&":
                printed = process.stdout.readline().replace(port, PORT)
            else:
                printed, _ = process.communicate(timeout=300)
                assert process.returncode == 0, printed
            check_printed(step, printed)
    policy = read_policy(folder / "policy.yaml")
    assert policy.willingness_to_pay is not None
    assert policy.promised.loss_high <= policy.promised.max_loss
    assert "<html" in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, _, part in re.findall(r"\]\(([^)#:]+)(#([^)]+))?\)", page.read_text("utf-8")):
        file = DOCS / link
        assert file.exists(), link
        if part:
            titles = re.findall(r"^#+ (.*)", file.read_text("utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles]
            assert part in anchors, link


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"\]\((\w+\.md)\)", (DOCS / "index.md").read_text("utf-8"))
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.stem != "index")


def test_what_is_to_be_installed_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r"pip install '\.\[(.*)\]'", PAGE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_log_is_what_its_script_writes(folder: Path) -> None:
    log = folder / "requests.jsonl"
    log.unlink()
    subprocess.run([sys.executable, folder / "make_log.py"], check=True)
    assert log.read_bytes() == (EXAMPLE / "requests.jsonl").read_bytes()
    assert log.stat().st_size < 250_000


def test_a_right_answer_is_told_from_a_wrong_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checks that the tutorial adds, and by what the simulated judge goes by."""
    from crossroute.traffic.imports import import_traffic

    monkeypatch.syspath_prepend(str(EXAMPLE))
    shop, add_checks = (importlib.import_module(name) for name in ("shop", "add_checks"))
    prompts = folder / "prompts.jsonl"
    import_traffic([folder / "requests.jsonl"], prompts)
    add_checks.main(prompts)
    seen = set()
    for case in load_cases(prompts):
        assert not isinstance(case.prompt, str)
        system, user = (message["content"] for message in case.prompt)
        kind = shop.KINDS[shop.kind_of(system)]
        right, wrong = kind.answer(user), kind.wrong(user)
        assert all(fact in right for fact in kind.facts(user)), user
        assert not all(fact in wrong for fact in kind.facts(user)), user
        if case.check is not None:
            seen.add(case.topic)
            assert case.check.accepts(right), user
            assert not case.check.accepts(wrong), user
    assert seen == {"extract", "invoice"}
    assert json.loads(prompts.read_text("utf-8").splitlines()[0])["model"] == "large"
