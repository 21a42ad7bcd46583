"""What `make demo` and `make test` print while they set up."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parent.parent / "Makefile"
WARNING = "WARNING: Location '/nowhere' is ignored."
ERROR = "ERROR: No matching distribution found for torch."


def make(folder: Path, target: str, pip_exits_with: int) -> subprocess.CompletedProcess[str]:
    """`make` with a stand-in for the environment's Python: its pip warns, and may fail."""
    shutil.copy(MAKEFILE, folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    said = ERROR if pip_exits_with else "tests run"
    python.write_text(
        f'#!/bin/sh\n[ "$2" = pip ] || exit 0\necho "{WARNING}" >&2\necho "{said}" >&2\n'
        f"exit {pip_exits_with}\n",
        "utf-8",
    )
    python.chmod(0o755)
    crossroute = python.with_name("crossroute")
    crossroute.write_text("#!/bin/sh\necho the demo ran\n", "utf-8")
    crossroute.chmod(0o755)
    # Under `make test`, what that one was told is not for this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", target], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


READY = {"demo": "demo", "test": "dev", "test-llama": "llama"}
"""What each target sets up."""


@pytest.mark.parametrize("target", READY)
def test_the_set_up_does_not_pass_on_warnings(tmp_path: Path, target: str) -> None:
    done = make(tmp_path, target, 0)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    assert (tmp_path / ".venv" / f"{READY[target]}-ready").exists()


@pytest.mark.parametrize("target", READY)
def test_what_pip_fails_of_is_shown(tmp_path: Path, target: str) -> None:
    done = make(tmp_path, target, 1)
    assert done.returncode != 0
    assert ERROR in done.stderr
    assert WARNING in done.stderr
    assert "the demo ran" not in done.stdout
    assert not list((tmp_path / ".venv").glob("*-ready"))
