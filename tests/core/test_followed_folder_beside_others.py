"""A folder that is followed while something else goes on in it."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes_core import eventually, put, remove, touched

from crossroute import CrossRouter, FollowedFolder, ModelDescriptor, ModelPool, PoolError
from crossroute.models import followed_folder as live

PROMPT = "What is 17 * 23 + 4?"


@pytest.fixture
def models(toy_folder: Path) -> Path:
    """The models' folder of a checkpoint."""
    for path in (toy_folder / "models").iterdir():
        touched(path)
    return toy_folder / "models"


@pytest.fixture
def router(models: Path) -> FollowedFolder[CrossRouter]:
    return CrossRouter.follow(models.parent, check_seconds=0)


@pytest.fixture
def beside(models: Path) -> Iterator[Callable[[str, str], None]]:
    """Let a file come and go for the rest of the test."""
    done = threading.Event()
    threads = []

    def come_and_go(name: str, text: str) -> None:
        def run() -> None:
            while not done.wait(0.02):
                (models / name).write_text(text)
                if done.wait(0.02):
                    break
                (models / name).unlink()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        eventually(lambda: (models / name).exists())

    yield come_and_go
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tmp", "anything"),
        (".poet.yaml.swp", "anything"),
        ("half.yaml", "id: [half"),
        ("whole.yaml", "id: whole\nbehaves_like: {model: sage}\n"),
    ],
)
def test_what_comes_and_goes_keeps_no_change_out(
    toy_router: CrossRouter,
    router: FollowedFolder[CrossRouter],
    models: Path,
    beside: Callable[[str, str], None],
    name: str,
    text: str,
) -> None:
    beside(name, text)
    toy_router.pool["poet"].model_copy(update={"disabled": True}).save(models)
    eventually(lambda: "poet" in router.current.route(PROMPT).removed)
    (models / "poet.yaml").unlink()
    eventually(lambda: "poet" not in router.current.pool)
    toy_router.pool["poet"].save(models)
    eventually(lambda: "poet" in router.current.pool)


def test_the_date_of_a_file_is_its_own(
    toy_router: CrossRouter, router: FollowedFolder[CrossRouter], models: Path
) -> None:
    put(models, toy_router.pool["poet"].model_copy(update={"disabled": True}))
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(models, ns=(ahead, ahead))
    assert "poet" in router.current.route(PROMPT).removed


def test_a_removal_beside_other_changes_is_seen_at_the_second_look(
    router: FollowedFolder[CrossRouter], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "poet.yaml").unlink()
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(models, ns=(ahead, ahead))
    now = time.monotonic()
    monkeypatch.setattr("crossroute.models.followed_folder.time.monotonic", lambda: now)
    assert "poet" in router.current.pool
    now += live.SETTLE_SECONDS / 2
    assert "poet" in router.current.pool
    now += live.SETTLE_SECONDS
    assert "poet" not in router.current.pool


def test_a_file_that_does_not_stop_changing_is_left_as_it_was(
    toy_router: CrossRouter,
    router: FollowedFolder[CrossRouter],
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "SETTLE_SECONDS", 600.0)
    now = time.monotonic()
    monkeypatch.setattr("crossroute.models.followed_folder.time.monotonic", lambda: now)
    put(models, toy_router.pool["sage"].model_copy(update={"note": "Whole."}))
    # Valid as far as it is written.
    (models / "poet.yaml").write_text("id: poet\nbehaves_like: {model: sage}\n")
    # Both may belong together.
    assert router.current.pool == toy_router.pool
    now += live.PATIENCE_SECONDS + 1
    assert router.current.pool["sage"].note == "Whole."
    assert router.current.pool["poet"] == toy_router.pool["poet"]
    assert "poet.yaml: still changing" in str(router.error)
    put(models, toy_router.pool["poet"].model_copy(update={"note": "Whole, too."}))
    assert router.current.pool["poet"].note == "Whole, too."
    assert router.error is None


def test_the_next_look_at_what_has_not_settled_comes_soon(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = CrossRouter.follow(models.parent, check_seconds=60)
    (models / "poet.yaml").unlink()
    now = time.monotonic() + 61
    monkeypatch.setattr("crossroute.models.followed_folder.time.monotonic", lambda: now)
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(models, ns=(ahead, ahead))
    assert "poet" in router.current.pool
    now += 2 * live.SETTLE_SECONDS
    assert "poet" not in router.current.pool


def within_a_minute(call: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it hangs, or has failed"
    return found[0]


def test_a_pipe_is_no_descriptor(router: FollowedFolder[CrossRouter], models: Path) -> None:
    for name in ("pipe.yaml", "a.yml"):
        os.mkfifo(models / name)
    (models / "folder.yaml").mkdir()
    (models / "gone.yaml").symlink_to(models / "nowhere")
    (models / "pipe2.yaml").symlink_to(models / "pipe.yaml")
    put(models, router.current.pool["poet"].model_copy(update={"note": "New."}))
    pool = within_a_minute(lambda: router.current.pool)
    assert isinstance(pool, ModelPool)
    assert pool["poet"].note == "New."
    assert router.error is None
    assert within_a_minute(lambda: ModelPool.load(models)) == pool
    started = within_a_minute(lambda: CrossRouter.follow(models.parent).current.pool)
    assert started == pool


def test_a_link_to_a_file_is_a_file(router: FollowedFolder[CrossRouter], models: Path) -> None:
    note = router.current.pool["poet"].model_copy(update={"note": "Linked."})
    path = put(models.parent, note)
    (models / "poet.yaml").unlink()
    (models / "poet.yaml").symlink_to(path)
    touched(path)
    os.utime(models, (1, 1))
    assert router.current.pool["poet"].note == "Linked."


def test_a_file_that_vanishes_is_not_there(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ModelDescriptor.load
    gone = models / "zero.yaml"

    def slow(path: str | Path) -> ModelDescriptor:
        gone.unlink(missing_ok=True)
        return load(path)

    monkeypatch.setattr(ModelDescriptor, "load", slow)
    for start in (
        lambda: ModelPool.load(models),
        lambda: CrossRouter.follow(models.parent).current.pool,
    ):
        gone.write_text("id: zero\n")
        assert start() == toy_router.pool


@pytest.mark.parametrize("looks", ["first", "later"])
def test_two_folders_seen_in_parts_are_no_pool(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch, looks: str
) -> None:
    """A link is put to another folder after the names were listed, and again in the next look."""
    root = models.parent
    poet, sage, clerk = (toy_router.pool[model] for model in ("poet", "sage", "clerk"))
    scribe = clerk.model_copy(update={"id": "scribe"})
    ModelPool([poet, sage, clerk]).save(root / "one")
    # The files that both have in common are the same ones.
    for model in ("poet", "sage"):
        (root / "two").mkdir(exist_ok=True)
        os.link(root / "one" / f"{model}.yaml", root / "two" / f"{model}.yaml")
    put(root / "two", scribe)
    for path in root.glob("*/*.yaml"):
        touched(path)
    shutil.rmtree(models)
    models.symlink_to(root / "one")
    swaps = itertools.cycle(["two", "one"])
    is_torn = looks == "first"
    listed = live.listed_descriptors

    def torn(folder: Path) -> list[Path]:
        found = listed(folder)
        if is_torn:
            (root / "new").symlink_to(root / next(swaps))
            (root / "new").replace(models)
        return found

    monkeypatch.setattr(live, "listed_descriptors", torn)
    monkeypatch.setattr(live, "START_SECONDS", 0.2)
    base = CrossRouter.load(models.parent) if looks == "later" else toy_router
    whole = [{"poet", "sage", "clerk"}, {"poet", "sage", "scribe"}]
    if looks == "first":
        with pytest.raises(PoolError, match="changed whenever it was read"):
            live.FollowedFolder(models, base.over)
        return
    followed = live.FollowedFolder(models, base.over, check_seconds=0)
    is_torn = True
    for _ in range(4):
        assert set(followed.current.pool) in whole
    is_torn = False
    (root / "new").symlink_to(root / "two")
    (root / "new").replace(models)
    eventually(lambda: set(followed.current.pool) == whole[1])


def test_a_change_under_the_first_reading_is_read_again(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ModelDescriptor.load
    changes = [{"note": "first"}, {"note": "second"}]

    def slow(path: str | Path) -> ModelDescriptor:
        found = load(path)
        if Path(path).name == "sage.yaml" and changes:
            change = changes.pop(0)
            for model in ("clerk", "sage"):
                put(models, toy_router.pool[model].model_copy(update=change))
        return found

    base = CrossRouter.load(models.parent)
    monkeypatch.setattr(ModelDescriptor, "load", slow)
    pool = live.FollowedFolder(models, base.over).current.pool
    assert [pool[model].note for model in ("clerk", "sage")] == ["second", "second"]


def test_a_folder_that_changes_without_a_pause_is_no_folder_to_start_with(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "START_SECONDS", 0.0)
    load = ModelDescriptor.load

    def slow(path: str | Path) -> ModelDescriptor:
        found = load(path)
        put(models, found)
        return found

    base = CrossRouter.load(models.parent)
    monkeypatch.setattr(ModelDescriptor, "load", slow)
    with pytest.raises(PoolError, match="changed whenever it was read"):
        live.FollowedFolder(models, base.over)


def test_two_broken_files_are_told_of_once(
    router: FollowedFolder[CrossRouter], models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b", "c", "a", "d"):
        (models / f"{name}.yaml").write_text("id: [")
        touched(models / f"{name}.yaml")
    for _ in range(5):
        router.current.route(PROMPT)
    [record] = caplog.records
    assert "a.yaml" in record.getMessage()
    remove(models / "a.yaml")
    router.current.route(PROMPT)
    assert "b.yaml" in str(router.error)
