"""Run the peers' own unit tests bare and with our classes in between; write what differs.

`make peers` sets up what it needs and runs it. Exit code 1: a test fails only with our classes in
between, and `exclusions.toml` has no reason why it cannot hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from comparison import Comparison, Exclusion, Outcomes, compare, only_wrapped

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
WRAPPED_IN = {
    "langchain": {"model": "ChatCrossRoute", "middleware": "CrossRouteMiddleware"},
    "llamaindex": {"model": "CrossRouteLLM"},
}
NO_SOCKETS = ("--disable-socket", "--allow-unix-socket")


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests of one package.

    Attributes:
        name: As the package index has it, and `exclusions.toml`.
        plugin: The framework whose fakes are wrapped.
        modes: What they are wrapped in, as `PEERS_MODE` has it.
        tests: The folders of tests that use models, under `tests`.
        options: Further ones of pytest, those of the package's own Makefile.
    """

    name: str
    plugin: str
    modes: tuple[str, ...]
    tests: tuple[str, ...] = (".",)
    options: tuple[str, ...] = ()


Row = tuple[Suite, str, Comparison | None]
"""A suite, what it was wrapped in, and what came of it; None if it has no tests."""

SUITES = (
    Suite(
        "langchain",
        "langchain",
        ("model", "middleware"),
        ("unit_tests/agents", "unit_tests/chat_models"),
        NO_SOCKETS,
    ),
    Suite(
        "langchain-core",
        "langchain",
        ("model",),
        tuple(
            f"unit_tests/{folder}"
            for folder in ("language_models", "runnables", "callbacks", "caches", "fake")
        ),
        NO_SOCKETS,
    ),
    Suite("langgraph-prebuilt", "langchain", ("model",)),
    Suite("llama-index-core", "llamaindex", ("model",)),
)


def main() -> int:
    """Run all suites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where downloads, logs and outcomes go")
    parser.add_argument(
        "--llama-index",
        type=Path,
        help="a checkout of the LlamaIndex repository, whose source distributions hold no tests",
    )
    parser.add_argument("--only", action="append", choices=[suite.name for suite in SUITES])
    asked = parser.parse_args()

    out = asked.folder.resolve()
    rows: list[Row] = []
    for suite in SUITES:
        if asked.only and suite.name not in asked.only:
            continue
        folder = source(suite.name, out)
        if suite.name == "llama-index-core" and asked.llama_index:
            folder = asked.llama_index.resolve() / suite.name
        rows += rows_of(suite, folder, out)
    if not asked.only:
        PAGE.write_text(page(rows), "utf-8")
        print(f"Wrote {PAGE.relative_to(ROOT)}.")
    return int(any(found is not None and found.ours for _, _, found in rows))


def rows_of(suite: Suite, folder: Path, out: Path) -> list[Row]:
    """Run a suite bare, then wrapped in each way."""
    if not (folder / "tests").is_dir():
        print(f"{suite.name}: its source distribution holds no tests; they need a checkout.")
        return [(suite, "", None)]
    rows: list[Row] = []
    bare = outcomes(suite, "bare", folder, out)
    for mode in suite.modes:
        failing = only_wrapped(bare, outcomes(suite, mode, folder, out))
        if failing:
            # Some hang on the clock or on the order of threads: what fails twice counts.
            again = outcomes(suite, mode, folder, out, tests=list(failing))
            failing = only_wrapped(dict.fromkeys(failing, ("passed", "")), again)
        found = compare(bare, failing, exclusions()[suite.name][mode])
        tell(suite, mode, found)
        rows.append((suite, mode, found))
    return rows


def version(package: str) -> str:
    """The one that `constraints.txt` pins."""
    pinned = re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    if pinned is None:
        raise SystemExit(f"constraints.txt pins no version of {package}.")
    return pinned[1]


def source(package: str, folder: Path) -> Path:
    """The tests of a package's source distribution, downloaded if need be."""
    name = f"{package.replace('-', '_')}-{version(package)}"
    archive, unpacked = folder / f"{name}.tar.gz", folder / name
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps"]
        wanted = f"{package}=={version(package)}"
        subprocess.run([*pip, "--no-binary", ":all:", "--dest", folder, wanted], check=True)
    if not unpacked.exists():
        with tarfile.open(archive) as packed:
            # Not the package itself: what is tested is what is installed.
            parts = [
                member
                for member in packed.getmembers()
                if member.name.split("/")[1:2] in (["tests"], ["pyproject.toml"])
            ]
            packed.extractall(folder, parts, filter="data")
    return unpacked


def outcomes(
    suite: Suite, mode: str, folder: Path, out: Path, tests: list[str] | None = None
) -> Outcomes:
    """What comes of the tests of a suite, all of them or those named."""
    name = f"{suite.name}-{mode}{'-again' if tests else ''}"
    file = out / f"{name}.json"
    file.unlink(missing_ok=True)
    print(f"{name} ...", flush=True)
    plugins = [f"{suite.plugin}_plugin", "outcomes_plugin", "no:cacheprovider"]
    with file.with_suffix(".log").open("w", encoding="utf-8") as log:
        # A failing test is no failure of this command.
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--color=no"),
                *(word for plugin in plugins for word in ("-p", plugin)),
                *suite.options,
                *(tests or [f"tests/{part}" for part in suite.tests]),
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "shared", ROOT, HERE))),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PEERS_MODE": mode,
                "PEERS_OUTCOMES": str(file),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not file.exists():
        raise SystemExit(f"pytest did not get to its end; see {file.with_suffix('.log')}.")
    found: Outcomes = json.loads(file.read_text("utf-8"))
    return found


def exclusions() -> dict[str, dict[str, list[Exclusion]]]:
    """What `exclusions.toml` says, by suite and mode."""
    found: dict[str, dict[str, list[Exclusion]]] = defaultdict(lambda: defaultdict(list))
    for suite, modes in tomllib.loads((HERE / "exclusions.toml").read_text("utf-8")).items():
        for mode, entries in modes.items():
            found[suite][mode] = [Exclusion(e["reason"], tuple(e["tests"])) for e in entries]
    return found


def tell(suite: Suite, mode: str, found: Comparison) -> None:
    """Print what came of a suite."""
    print(
        f"{suite.name} in {WRAPPED_IN[suite.plugin][mode]}: {found.tests} tests, "
        f"{len(found.bare)} fail bare, {found.only_wrapped} only wrapped, {len(found.ours)} ours"
    )
    for test, error in found.ours.items():
        print(f"  {test}\n    {error}")
    for pattern in found.stale:
        print(f"  exclusions.toml names {pattern}, and no such test failed this time.")


def page(rows: list[Row]) -> str:
    """`docs/compatibility.md`."""
    table, reasons = [], []
    for suite, mode, found in rows:
        name = f"{suite.name} {version(suite.name)}"
        if found is None:
            table.append(f"| {name} | | not run | | | | |")
            continue
        face = WRAPPED_IN[suite.plugin][mode]
        excluded = found.only_wrapped - len(found.ours)
        numbers = (found.tests, len(found.bare), found.only_wrapped, excluded, len(found.ours))
        table.append(f"| {name} | `{face}` | " + " | ".join(f"{n:,}" for n in numbers) + " |")
        if found.excluded:
            reasons += [f"\n{suite.name} in `{face}`:\n"]
            reasons += [f"- {why} ({len(tests)})" for why, tests in found.excluded.items()]
    template = (HERE / "compatibility.md").read_text("utf-8")
    return template.format(table="\n".join(table), reasons="\n".join(reasons).strip())


if __name__ == "__main__":
    sys.exit(main())
