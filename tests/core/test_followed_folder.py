"""A folder of descriptors that is changed while it is routed over."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes_core import eventually, put, remove, touched, write

from crossroute import (
    CrossRouter,
    Decision,
    DescriptorError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Price,
)
from crossroute.models import followed_folder as live
from crossroute.models.followed_folder import FollowedFolder

PROMPT = "What is 17 * 23 + 4?"


def priced(descriptor: ModelDescriptor, usd: float) -> ModelDescriptor:
    price = Price(
        input_usd_per_1m=usd,
        output_usd_per_1m=usd,
        date=datetime.date(2026, 1, 1),
        source="test",
    )
    assert descriptor.learned is not None
    learned = descriptor.learned.model_copy(update={"cost_target": "output_tokens"})
    return descriptor.model_copy(update={"price": price, "learned": learned})


@pytest.fixture
def models(toy_folder: Path) -> Path:
    """The models' folder of a checkpoint."""
    for path in (toy_folder / "models").iterdir():
        touched(path)
    return toy_folder / "models"


@pytest.fixture
def router(models: Path) -> FollowedFolder[CrossRouter]:
    return CrossRouter.follow(models.parent, check_seconds=0)


def candidates(decision: Decision) -> set[str]:
    return {candidate.model for candidate in decision.candidates}


def test_it_decides_as_a_router_does(
    toy_router: CrossRouter, router: FollowedFolder[CrossRouter]
) -> None:
    expected = toy_router.route(PROMPT, 0.1)
    assert router.current.route(PROMPT, 0.1) == expected
    assert asyncio.run(router.current.aroute(PROMPT, 0.1)) == expected
    assert router.current.route_batch([PROMPT], 0.1) == [expected]
    assert (router.current.predict([PROMPT]).quality == toy_router.predict([PROMPT]).quality).all()


def test_files_added_changed_and_removed_are_seen_at_the_next_request(
    toy_router: CrossRouter,
    router: FollowedFolder[CrossRouter],
    models: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "crossroute")
    poet = toy_router.pool["poet"]
    path = put(models, priced(poet.model_copy(update={"id": "bard"}), 1.0))
    before = router.current.route(PROMPT)
    assert candidates(before) == {"poet", "clerk", "sage", "bard"}
    put(models, priced(poet.model_copy(update={"id": "bard"}), 3.0))
    cost = {c.model: c.cost_usd for c in router.current.route(PROMPT).candidates}
    old = {c.model: c.cost_usd for c in before.candidates}
    assert cost["bard"] == pytest.approx(3 * old["bard"])
    assert cost["sage"] == old["sage"]
    remove(path)
    assert router.current.route(PROMPT) == toy_router.route(PROMPT)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "added bard",
        "changed bard",
        "removed bard",
    ]


def test_a_disabled_model_is_in_the_pool_and_never_chosen(
    toy_router: CrossRouter, router: FollowedFolder[CrossRouter], models: Path
) -> None:
    poet = toy_router.pool["poet"]
    put(models, poet.model_copy(update={"disabled": True}))
    decision = router.current.route(PROMPT)
    assert candidates(decision) == {"clerk", "sage"}
    assert set(decision.removed) == {"poet"}
    assert "disabled" in decision.removed["poet"]
    put(models, poet)
    assert router.current.route(PROMPT) == toy_router.route(PROMPT)


def test_a_request_in_flight_keeps_its_pool(
    toy_router: CrossRouter, router: FollowedFolder[CrossRouter], models: Path
) -> None:
    mine = router.current
    remove(models / "poet.yaml")
    assert candidates(router.current.route(PROMPT)) == {"clerk", "sage"}
    assert mine.route(PROMPT) == toy_router.route(PROMPT)


def test_a_folder_of_descriptors_is_read_by_the_shipped_network(tmp_path: Path) -> None:
    shipped = CrossRouter.default()
    first, second, third = list(shipped.pool)[:3]
    shipped.pool.subset([first, second]).save(tmp_path)
    for path in tmp_path.iterdir():
        touched(path)
    router = CrossRouter.follow(tmp_path, check_seconds=0)
    assert set(router.current.pool) == {first, second}
    put(tmp_path, shipped.pool[third])
    assert set(router.current.pool) == {first, second, third}
    assert router.current.encoder is shipped.encoder
    assert router.current.checkpoint is shipped.checkpoint


def break_yaml(models: Path) -> None:
    write(models / "poet.yaml", "id: [poet")


def break_field(models: Path) -> None:
    write(models / "poet.yaml", "id: poet\nprize: 3\n")


def break_empty(models: Path) -> None:
    write(models / "poet.yaml", "")


def break_id(models: Path) -> None:
    write(models / "poet.yaml", (models / "sage.yaml").read_text("utf-8"))


def break_embedding(models: Path) -> None:
    text = (models / "poet.yaml").read_text("utf-8")
    write(models / "poet.yaml", text.replace("checkpoint: ", "checkpoint: x"))


def break_count(models: Path) -> None:
    for name in ("clerk", "sage"):
        (models / f"{name}.yaml").rename(models / f"{name}.off")
    touched(models / "poet.yaml")


def break_folder(models: Path) -> None:
    models.rename(models.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_yaml, r"poet\.yaml: not valid YAML"),
        (break_field, "prize: unknown field; did you mean 'price'"),
        (break_empty, r"poet\.yaml: a descriptor is a mapping"),
        (break_id, "'sage'"),
        (break_embedding, "crossroute models rebase"),
        (break_count, "at least two models"),
        (break_folder, "models: cannot be read"),
    ],
)
def test_a_broken_folder_is_reported_once_and_the_last_good_pool_stays(
    toy_router: CrossRouter,
    router: FollowedFolder[CrossRouter],
    models: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    shutil.copytree(models, models.parent / "good")
    damage(models)
    # What is good in a broken folder waits, too.
    if models.is_dir():
        put(models, toy_router.pool["clerk"].model_copy(update={"id": "monk"}))
        put(models, toy_router.pool["clerk"].model_copy(update={"id": "nun"}))
        if damage is break_count:
            for name in ("monk", "nun"):
                remove(models / f"{name}.yaml")
    for _ in range(3):
        assert router.current.route(PROMPT) == toy_router.route(PROMPT)
    assert isinstance(router.error, (PoolError, DescriptorError))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    message = caplog.records[0].getMessage()
    assert re.search(said, message)
    assert "the pool stays as it was" in message
    # Mended, it is taken over at once.
    shutil.rmtree(models, ignore_errors=True)
    (models.parent / "good").rename(models)
    put(models, toy_router.pool["clerk"].model_copy(update={"id": "monk"}))
    assert candidates(router.current.route(PROMPT)) == {"poet", "clerk", "sage", "monk"}
    assert router.error is None


def test_the_old_files_put_back_are_no_error(
    toy_router: CrossRouter, router: FollowedFolder[CrossRouter], models: Path
) -> None:
    (models / "poet.yaml").rename(models.parent / "poet.yaml")
    break_yaml(models)
    router.current.route(PROMPT)
    assert router.error is not None
    (models.parent / "poet.yaml").replace(models / "poet.yaml")
    assert router.current.route(PROMPT) == toy_router.route(PROMPT)
    assert router.error is None


def test_a_secret_in_a_broken_file_is_not_logged(
    router: FollowedFolder[CrossRouter], models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        models / "poet.yaml",
        "id: poet\nprovider:\n  chat_model: openai:x\n  arguments: {api_key: sk-very-secret}\n",
    )
    router.current.route(PROMPT)
    assert "looks like a secret" in caplog.text
    assert "sk-very-secret" not in caplog.text + str(router.error)


def test_a_folder_that_is_broken_from_the_start_is_refused(models: Path) -> None:
    break_yaml(models)
    with pytest.raises(DescriptorError, match="not valid YAML"):
        CrossRouter.follow(models.parent)
    with pytest.raises(PoolError, match="no such folder"):
        CrossRouter.follow(models / "nowhere")


def test_the_folder_is_looked_at_once_in_an_interval(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = CrossRouter.follow(models.parent, check_seconds=60)
    remove(models / "poet.yaml")
    assert len(router.current.pool) == 3
    now = time.monotonic()
    monkeypatch.setattr("crossroute.models.followed_folder.time.monotonic", lambda: now + 61)
    assert len(router.current.pool) == 2
    # The next look, which would find too few, is not due yet.
    remove(models / "sage.yaml")
    assert len(router.current.pool) == 2
    assert router.error is None


def test_only_changed_files_are_read_again(
    router: FollowedFolder[CrossRouter], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = ModelDescriptor.load

    def counted(path: str | Path) -> ModelDescriptor:
        read.append(Path(path).name)
        return load(path)

    monkeypatch.setattr(ModelDescriptor, "load", counted)
    before = router.current
    assert router.current is before
    assert read == []
    put(models, before.pool["poet"].model_copy(update={"note": "Dear."}))
    assert router.current.pool["poet"].note == "Dear."
    assert router.current.pool["sage"] is before.pool["sage"]
    assert read == ["poet.yaml"]


def test_what_was_changed_a_moment_ago_may_be_half_done(
    toy_router: CrossRouter,
    router: FollowedFolder[CrossRouter],
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "SETTLE_SECONDS", 600.0)
    # Valid as far as it is written.
    half = models / "poet.yaml"
    text = half.read_text("utf-8")
    half.write_text("id: poet\nbehaves_like: {model: sage}\n", "utf-8")
    assert router.current.route(PROMPT) == toy_router.route(PROMPT)
    write(half, text.replace("id: poet", "id: poet\nnote: Whole."))
    assert router.current.pool["poet"].note == "Whole."
    # An editor may save by removing and writing: the folder's own date says so.
    (models / "sage.yaml").unlink()
    assert "sage" in router.current.pool
    touched(half)
    assert "sage" not in router.current.pool
    assert router.error is None


def test_a_file_server_whose_clock_is_ahead_does_not_stop_it(
    router: FollowedFolder[CrossRouter], models: Path
) -> None:
    path = put(models, router.current.pool["poet"].model_copy(update={"note": "New."}))
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(path, ns=(ahead, ahead))
    eventually(lambda: router.current.pool["poet"].note == "New.")


def test_a_change_under_the_reading_is_not_mixed_in(
    router: FollowedFolder[CrossRouter], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ModelDescriptor.load
    pool = router.current.pool

    def slow(path: str | Path) -> ModelDescriptor:
        found = load(path)
        if Path(path).name == "clerk.yaml" and found.note == "1":
            for model in ("clerk", "poet"):
                put(models, pool[model].model_copy(update={"note": "22"}))
        return found

    monkeypatch.setattr(ModelDescriptor, "load", slow)
    for model in ("clerk", "poet"):
        put(models, pool[model].model_copy(update={"note": "1"}))
    assert router.current.pool == pool
    assert {router.current.pool[model].note for model in ("clerk", "poet")} == {"22"}


def test_others_do_not_wait_for_the_one_that_looks(models: Path, toy_router: CrossRouter) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def make(pool: ModelPool) -> int:
        if len(pool) != 3:
            inside.set()
            assert go_on.wait(30)
        return len(pool)

    followed = FollowedFolder(models, make, check_seconds=0)
    put(models, toy_router.pool["clerk"].model_copy(update={"id": "monk"}))
    with ThreadPoolExecutor(1) as executor:
        looking = executor.submit(lambda: followed.current)
        assert inside.wait(30)
        assert followed.current == 3
        go_on.set()
        assert looking.result(30) == 4
    assert followed.current == 4


async def test_the_event_loop_does_not_look(models: Path, toy_router: CrossRouter) -> None:
    places: list[threading.Thread] = []

    def make(pool: ModelPool) -> int:
        places.append(threading.current_thread())
        return len(pool)

    followed = FollowedFolder(models, make, check_seconds=0)
    put(models, toy_router.pool["clerk"].model_copy(update={"id": "monk"}))
    assert await followed.acurrent() == 4
    assert places[0] is threading.main_thread()
    assert places[1] is not threading.main_thread()


def test_any_error_of_what_is_made_leaves_the_last_one(
    models: Path, toy_router: CrossRouter, caplog: pytest.LogCaptureFixture
) -> None:
    def make(pool: ModelPool) -> int:
        return 12 // (4 - len(pool))

    followed = FollowedFolder(models, make, check_seconds=0)
    put(models, toy_router.pool["clerk"].model_copy(update={"id": "monk"}))
    assert followed.current == 12
    assert isinstance(followed.error, ZeroDivisionError)
    assert "modulo by zero" in caplog.text


class Load:
    """Threads and tasks that route without a break while a folder is changed."""

    def __init__(self, router: FollowedFolder[CrossRouter]) -> None:
        self.router = router
        self.seen: list[Decision] = []
        self._done = threading.Event()

    def run(self, change: Callable[[], None]) -> None:
        with ThreadPoolExecutor(7) as executor:
            jobs = [executor.submit(self._route) for _ in range(6)]
            jobs.append(executor.submit(lambda: asyncio.run(self._tasks())))
            try:
                change()
            finally:
                self._done.set()
            for job in jobs:
                job.result(60)

    def _route(self) -> None:
        while not self._done.is_set():
            self.seen.append(self.router.current.route(PROMPT))
            first, second = self.router.current.route_batch([PROMPT, PROMPT])
            assert first == second

    async def _tasks(self) -> None:
        async def route() -> None:
            while not self._done.is_set():
                self.seen.append(await self.router.current.aroute(PROMPT))

        await asyncio.gather(*(route() for _ in range(6)))


def generation(toy_router: CrossRouter, number: int) -> ModelPool:
    """A pool that differs from any other of its kind in every model."""
    chosen = ("poet", "clerk", "sage", "sage")[: 3 + number % 2]
    return ModelPool(
        priced(toy_router.pool[model].model_copy(update={"id": f"{model}{place}"}), 1.0 + number)
        for place, model in enumerate(chosen)
    )


def test_every_decision_under_load_is_of_one_whole_folder(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SETTLE_SECONDS", 0.0)
    root = models.parent
    models.rename(root / "0")
    models.symlink_to(root / "0")
    router = CrossRouter.follow(root, check_seconds=0)
    whole = [toy_router.route(PROMPT)]

    def swap_folders() -> None:
        for number in range(1, 40):
            pool = generation(toy_router, number)
            pool.save(root / str(number))
            if number % 4 == 0:
                # Broken, in the last file that is read: nothing of it may ever be seen.
                (root / str(number) / "sage2.yaml").write_text("id: [", "utf-8")
            else:
                whole.append(toy_router.over(pool).route(PROMPT))
            (root / "new").symlink_to(root / str(number))
            (root / "new").replace(models)
            time.sleep(0.01)

    load = Load(router)
    load.run(swap_folders)
    assert all(decision in whole for decision in load.seen)
    assert sum(decision in load.seen for decision in whole) > 5
    eventually(lambda: router.current.route(PROMPT) == whole[-1])


def test_every_decision_under_load_is_of_a_state_the_folder_was_in(
    toy_router: CrossRouter, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SETTLE_SECONDS", 0.0)
    router = CrossRouter.follow(models.parent, check_seconds=0)
    pool = toy_router.pool
    whole = [toy_router.route(PROMPT)]

    def edit(model: str, number: int) -> None:
        nonlocal pool
        # Each state is of another size, however coarse the clock of the file system.
        new = priced(pool[model], 1.0 + number).model_copy(update={"note": "." * number})
        pool = ModelPool([new, *(other for other in pool.values() if other.id != model)])
        whole.append(toy_router.over(pool).route(PROMPT))
        new.save(models)

    def change_files() -> None:
        nonlocal pool
        for number in range(1, 40):
            edit(("poet", "clerk", "sage")[number % 3], number)
            time.sleep(0.01)
            if number % 6 == 1:
                # However slow the machine is, some states are seen.
                eventually(lambda: whole[-1] in load.seen)
            if number % 4 == 0:
                text = (models / "poet.yaml").read_text("utf-8")
                for broken in ("id: [", "", "id: poet\nprize: 1\n"):
                    (models / "poet.yaml").write_text(broken, "utf-8")
                    time.sleep(0.005)
                (models / "poet.yaml").write_text(text, "utf-8")
            if number % 5 == 0:
                text = (models / "clerk.yaml").read_text("utf-8")
                whole.append(toy_router.over(pool.subset(["poet", "sage"])).route(PROMPT))
                (models / "clerk.yaml").unlink()
                time.sleep(0.02)
                (models / "clerk.yaml").write_text(text, "utf-8")

    load = Load(router)
    load.run(change_files)
    assert all(decision in whole for decision in load.seen)
    assert sum(decision in load.seen for decision in whole) > 5
    eventually(lambda: router.current.route(PROMPT) == whole[-1 if 39 % 5 else -2])
    assert router.error is None
