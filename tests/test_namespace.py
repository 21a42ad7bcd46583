"""`llama_index.*.crossroute`: an alias in the namespace of LlamaIndex, which belongs to many."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import llamaindex_crossroute

ROOT = Path(__file__).resolve().parent.parent
IMPORT_ALL = """
import llama_index.core
import llama_index.llms.openai_like
import llama_index.llms.crossroute as llms
import llama_index.selectors.crossroute as selectors
import llama_index, llamaindex_crossroute
assert llama_index.__file__ is None and llama_index.llms.__file__ is None
for alias in (llms, selectors):
    assert alias.__all__
    for name in alias.__all__:
        assert getattr(alias, name) is getattr(llamaindex_crossroute, name), name
print(llms.__file__, selectors.__file__, llama_index.core.__file__, sep="\\n")
"""


def run(folder: Path, **environment: str) -> list[Path]:
    """Where the modules come from, as a fresh process in that folder finds them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.split()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="builds a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_editable_install_shares_the_namespace(tmp_path: Path) -> None:
    *alias, core = run(tmp_path)
    assert all(path.is_relative_to(ROOT / "llama_index") for path in alias)
    assert not core.is_relative_to(ROOT / "llama_index")


def test_the_wheel_shares_the_namespace(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    *alias, core = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert all(path.is_relative_to(tmp_path) for path in alias)
    assert not core.is_relative_to(tmp_path)


def test_the_wheel_owns_nothing_of_the_namespace_but_the_alias(wheel: zipfile.ZipFile) -> None:
    files = {name for name in wheel.namelist() if name.startswith("llama_index/")}
    assert files == {
        "llama_index/llms/crossroute/__init__.py",
        "llama_index/selectors/crossroute/__init__.py",
    }


def test_the_wheel_has_what_the_selector_reads(wheel: zipfile.ZipFile) -> None:
    assert "llamaindex_crossroute/assets/text_attention.safetensors" in wheel.namelist()


def test_the_alias_has_every_selector_and_llm() -> None:
    from llama_index.llms import crossroute as llms
    from llama_index.selectors import crossroute as selectors

    public = set(llamaindex_crossroute.__all__)
    assert set(selectors.__all__) == {name for name in public if "Selector" in name}
    assert set(llms.__all__) == {"CrossRouteLLM", "call_settings"}
