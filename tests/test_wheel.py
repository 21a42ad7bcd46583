"""What is in the wheel that is built of this tree."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_has_all_that_is_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"crossroute", "langchain_crossroute", "llamaindex_crossroute"}
    assert {f"{package}/py.typed" for package in packages} <= names
    assets = [
        *ROOT.glob("shared/crossroute/assets/**/*.*"),
    ]
    assert len(assets) > 40
    for asset in assets:
        assert str(asset.relative_to(ROOT)).removeprefix("shared/") in names
