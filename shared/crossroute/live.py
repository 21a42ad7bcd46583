"""A pool that changes while it is routed over: a folder of descriptors is followed.

The folder is looked at when a request comes, at most once in an interval: no thread is left behind,
and forks, containers and network file systems make no difference.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from crossroute.checkpoint import MANIFEST, models_folder
from crossroute.decision import Decision
from crossroute.descriptor import ModelDescriptor
from crossroute.errors import PoolError
from crossroute.policy import Constraints, Stay
from crossroute.pool import ModelPool, descriptor_files
from crossroute.query import QueryLike
from crossroute.router import (
    DEFAULT_WILLINGNESS_TO_PAY,
    NO_CONSTRAINTS,
    CrossRouter,
    Predictions,
)

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

CHECK_SECONDS = 1.0
"""How often a folder is looked at, at most."""

SETTLE_SECONDS = 0.1
"""A change younger than this may be half done: it is left for the next look."""

# Size, time of the last change, and inode, which differs after a rename.
_Stamp = tuple[int, int, int]


class _Read(NamedTuple):
    stamp: _Stamp
    descriptor: ModelDescriptor


class FollowedPool(Generic[Made]):
    """What is made of a folder of descriptors, made again when the folder changes.

    The whole folder counts or nothing: where a file is broken, or nothing can be made of the pool,
    the last good one stays, the error is logged and kept in `error`, and the folder is tried again.
    Safe to share between threads and tasks.

    Args:
        folder: The descriptors.
        make: Makes the thing of a pool; an error in it means that the pool is not accepted.
        check_seconds: The folder is looked at no more often than this.

    Raises:
        PoolError: If there is no such folder, or two descriptors share an id.
        DescriptorError: If a descriptor is not valid.
    """

    def __init__(
        self,
        folder: str | Path,
        make: Callable[[ModelPool], Made],
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._folder = Path(folder)
        self._make = make
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._files: dict[Path, _Read] = {}
        self._stamps = self._look()
        while (pool := self._read(self._stamps)) is None:
            self._stamps = self._look()
        self._pool, self._current = pool, make(pool)
        self._error: Exception | None = None
        self._due = time.monotonic() + check_seconds

    @property
    def current(self) -> Made:
        """What the folder says now, or said when it was last good; hold it for a whole request."""
        # Whoever finds another thread looking goes on with what there is.
        if self._is_due and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._due = time.monotonic() + self._check_seconds
                self._lock.release()
        return self._current

    async def acurrent(self) -> Made:
        """`current` beside the event loop: a file system can be slow."""
        return await asyncio.to_thread(lambda: self.current) if self._is_due else self._current

    @property
    def error(self) -> Exception | None:
        """Why the folder as it was last seen is not the current pool; None if it is."""
        return self._error

    @property
    def _is_due(self) -> bool:
        return time.monotonic() >= self._due

    def _refresh(self) -> None:
        try:
            stamps = self._look()
            if stamps == self._stamps:
                self._error = None
                return
            if self._is_unsettled(stamps) or (pool := self._read(stamps)) is None:
                return
            made = self._make(pool)
        except Exception as error:
            # Of any kind: a file must not be able to fail the requests of a running application.
            if str(error) != str(self._error):
                logger.error(  # noqa: TRY400  # The traceback of a broken file says nothing.
                    "%s: not taken over, the pool stays as it was: %s", self._folder, error
                )
            self._error = error
            return
        before, self._pool = self._pool, pool
        self._current, self._stamps, self._error = made, stamps, None
        if changes := _changes(before, pool):
            logger.info("%s: %s", self._folder, changes)

    def _look(self) -> dict[Path, _Stamp]:
        try:
            return {path: _stamp(path) for path in descriptor_files(self._folder)}
        except OSError as error:
            raise PoolError(f"{self._folder}: cannot be read: {error}") from error

    def _is_unsettled(self, stamps: dict[Path, _Stamp]) -> bool:
        """Whether something was changed a moment ago; a removal shows in the folder itself."""
        newest = max([_stamp(self._folder)[1], *(changed for _, changed, _ in stamps.values())])
        # A file server's clock may be ahead of ours; that must not stop the following.
        return 0 <= time.time() - newest / 1e9 < SETTLE_SECONDS

    def _read(self, stamps: dict[Path, _Stamp]) -> ModelPool | None:
        """The pool of these files; None if the folder changed under the reading."""
        for path, stamp in stamps.items():
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                self._files[path] = _Read(stamp, ModelDescriptor.load(path))
        if self._look() != stamps:
            return None
        self._files = {path: self._files[path] for path in stamps}
        return ModelPool(read.descriptor for read in self._files.values())


class LiveRouter:
    """A router whose pool is a folder that may change while it runs.

    Adding, changing or removing a descriptor file changes the candidates of later requests; those
    in flight keep the pool that they began with. A folder with a broken file changes nothing: the
    error is logged and kept in `error`.

        router = LiveRouter("my_models")
        router.route("Why is the sky blue?", willingness_to_pay=0.05)

    Args:
        folder: A checkpoint, whose network is loaded once and whose models are followed; or a
            folder of descriptors (`*.yaml`) made for the shipped checkpoint.
        check_seconds: The folder is looked at no more often than this.

    Raises:
        PoolError: If the pool cannot be routed over.
        DescriptorError: If a descriptor is not valid.
        CheckpointError: If the checkpoint is damaged or of another version.
    """

    def __init__(self, folder: str | Path, *, check_seconds: float = CHECK_SECONDS) -> None:
        base, models = followed(folder)
        self._followed = FollowedPool(models, base.over, check_seconds=check_seconds)

    @property
    def current(self) -> CrossRouter:
        """The router of the present pool, which does not change any more."""
        return self._followed.current

    @property
    def error(self) -> Exception | None:
        """Why the folder as it was last seen is not the current pool; None if it is."""
        return self._followed.error

    def route(
        self,
        query: QueryLike,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: Constraints = NO_CONSTRAINTS,
        stay: Stay | None = None,
    ) -> Decision:
        """Choose the model for one query; see `CrossRouter.route`."""
        return self.current.route(query, willingness_to_pay, constraints=constraints, stay=stay)

    async def aroute(
        self,
        query: QueryLike,
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: Constraints = NO_CONSTRAINTS,
        stay: Stay | None = None,
    ) -> Decision:
        """`route` in a worker thread."""
        return await asyncio.to_thread(
            self.route, query, willingness_to_pay, constraints=constraints, stay=stay
        )

    def route_batch(
        self,
        queries: Sequence[QueryLike],
        willingness_to_pay: float = DEFAULT_WILLINGNESS_TO_PAY,
        *,
        constraints: Constraints = NO_CONSTRAINTS,
    ) -> list[Decision]:
        """Choose a model for each of several queries, all from one pool."""
        return self.current.route_batch(queries, willingness_to_pay, constraints=constraints)

    def predict(self, queries: Sequence[QueryLike]) -> Predictions:
        """Predict quality and cost of every model for every query, all from one pool."""
        return self.current.predict(queries)


def followed(folder: str | Path) -> tuple[CrossRouter, Path]:
    """The router whose network reads a folder's descriptors, and where those are.

    Args:
        folder: A checkpoint, or a folder of descriptors made for the shipped one.
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return CrossRouter.load(folder), models_folder(folder)
    return CrossRouter.default(), folder


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _changes(before: ModelPool, after: ModelPool) -> str:
    """What is different, by the ids."""
    found = {
        "added": [model for model in after if model not in before],
        "changed": [model for model in after if model in before and after[model] != before[model]],
        "removed": [model for model in before if model not in after],
    }
    return "; ".join(f"{what} {', '.join(models)}" for what, models in found.items() if models)
