"""Saves at the same time, into one folder."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from crossroute import CheckpointError, CrossRouter, ModelDescriptor, ModelPool
from crossroute.files import replace_file
from crossroute.network.checkpoint import Checkpoint
from crossroute.network.predictor import Network


def at_once(*calls: Callable[[], object]) -> None:
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        together.wait(30)
        call()

    with ThreadPoolExecutor(len(calls)) as threads:
        list(threads.map(run, calls))


def others(router: CrossRouter, count: int) -> list[CrossRouter]:
    """Routers whose network is another one each, and their models, too."""
    made = []
    for number in range(count):
        arrays = router.checkpoint.network.arrays()
        network = Network.from_arrays(arrays | {"ease": arrays["ease"] + np.float32(number)})
        checkpoint = Checkpoint(network, router.checkpoint.encoder, {"number": number})
        models = []
        for model in router.pool.values():
            assert model.learned is not None
            learned = model.learned.model_copy(update={"checkpoint": checkpoint.id})
            changes = {"id": f"{model.id}-{number}", "learned": learned}
            models.append(model.model_copy(update=changes))
        made.append(CrossRouter(checkpoint, ModelPool(models), encoder=router.encoder))
    return made


def test_no_file_is_lost(tmp_path: Path) -> None:
    """One name for the new file of every thread lost 112 of 200 saves."""
    descriptors = [ModelDescriptor(id="same", note="x" * number) for number in range(1, 33)]
    at_once(*(partial(model.save, tmp_path) for model in descriptors))
    assert [path.name for path in tmp_path.iterdir()] == ["same.yaml"]
    assert ModelDescriptor.load(tmp_path / "same.yaml") in descriptors

    pools = [ModelPool(ModelDescriptor(id=f"{x}", note=f"of {n}") for x in "ab") for n in range(16)]
    at_once(*(partial(pool.save, tmp_path / "pool") for pool in pools))
    assert list(ModelPool.load(tmp_path / "pool")) == ["a", "b"]
    assert len(list((tmp_path / "pool").iterdir())) == 2


def test_checkpoints_saved_at_once_leave_one_that_loads(
    toy_router: CrossRouter, tmp_path: Path
) -> None:
    routers = others(toy_router, 8)
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        at_once(*(partial(router.save, folder) for router in routers))
        loaded = CrossRouter.load(folder)
        number = loaded.checkpoint.training["number"]
        assert list(loaded.pool) == list(routers[number].pool)
        assert sorted(path.name for path in folder.iterdir()) == [
            "checkpoint.json",
            "models",
            "network.safetensors",
        ]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_a_save_waits_for_that_of_another_process(toy_router: CrossRouter, tmp_path: Path) -> None:
    import fcntl

    # As another process would: a lock belongs to what was opened, not to the process.
    opened = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as thread:
        saving = thread.submit(toy_router.save, tmp_path)
        with pytest.raises(TimeoutError):
            saving.result(0.3)
        assert not list(tmp_path.iterdir())
        os.close(opened)
        saving.result(30)
    CrossRouter.load(tmp_path)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_file(path, "old")

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, "new")
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_new_file_may_be_read_by_whom_the_mask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_long_name_is_no_longer_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".yaml")
    replace_file(path, "text")
    assert path.read_text() == "text"


def test_a_folder_that_cannot_be_written_is_one_error(
    toy_router: CrossRouter, tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("")
    (tmp_path / "checkpoint.json").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        toy_router.save(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_is_written_anew_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("old", "utf-8")
    path.chmod(0o640)
    replace_file(path, "new")
    assert path.read_text("utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
