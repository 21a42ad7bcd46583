"""A pool that changes while it is routed over: a folder of descriptors is followed.

The folder is looked at when a request comes, at most once in an interval: no thread is left behind,
and forks, containers and network file systems make no difference.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from crossroute.errors import DescriptorError, PoolError
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool, descriptor_folder, listed_descriptors

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

CHECK_SECONDS = 1.0
"""How often a folder is looked at, at most."""

SETTLE_SECONDS = 0.1
"""A file that changed since may be half written: it is left for another look."""

PATIENCE_SECONDS = 1.0
"""For so long, what has changed waits for what is still changing: both may belong together."""

START_SECONDS = 5.0
"""For so long, a folder that changes under the first reading is read again."""


class _Stamp(NamedTuple):
    size: int
    changed_ns: int
    inode: int
    """Another one after a rename."""


class _Read(NamedTuple):
    stamp: _Stamp
    descriptor: ModelDescriptor


class _Seen(NamedTuple):
    """How a file that is not taken over was at the last look, and since when."""

    stamp: _Stamp | None
    since: float


class FollowedFolder(Generic[Made]):
    """What is made of a folder of descriptors, made again when the folder changes.

    The whole folder counts or nothing: where a file is broken, or nothing can be made of the pool,
    the last good one stays, the error is logged and kept in `error`, and the folder is tried again.
    Only a file that does not stop changing is left as it was. Safe to share between threads and
    tasks.

    Args:
        folder: Holds the descriptors, or is a checkpoint, which has them in `models/`.
        make: Makes the thing of a pool; an error in it means that the pool is not accepted.
        check_seconds: The folder is looked at no more often than this.

    Raises:
        PoolError: If there is no such folder, two descriptors share an id, or the folder changes
            without a pause.
        DescriptorError: If a descriptor is not valid.
    """

    def __init__(
        self,
        folder: str | Path,
        make: Callable[[ModelPool], Made],
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._folder = descriptor_folder(folder)
        self._make = make
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        # The files of the pool, those that were read since, and those that are not taken over.
        self._taken: dict[Path, _Read] = {}
        self._known: dict[Path, _Read] = {}
        self._seen: dict[Path, _Seen] = {}
        self._moving_since: float | None = None
        self._error: Exception | None = None
        end = time.monotonic() + START_SECONDS
        while (found := self._look()) is None or (files := self._read(found, set())) is None:
            if time.monotonic() > end:
                raise PoolError(
                    f"{self._folder}: changed whenever it was read, for {START_SECONDS:g} s; see "
                    "what writes there."
                )
        self._taken = files
        self._pool = ModelPool(read.descriptor for read in files.values())
        self._current = make(self._pool)
        self._due = time.monotonic() + check_seconds

    @property
    def current(self) -> Made:
        """What the folder says now, or said when it was last good; hold it for a whole request."""
        # Whoever finds another thread looking goes on with what there is.
        if self._is_due and self._lock.acquire(blocking=False):
            wait = self._check_seconds
            try:
                wait = self._refresh()
            finally:
                self._due = time.monotonic() + wait
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

    def _refresh(self) -> float:
        """Take over what the folder says, as far as it has settled; when to look again."""
        soon = min(self._check_seconds, SETTLE_SECONDS)
        try:
            if (found := self._look()) is None:
                return soon
            moving = self._moving(found)
            if moving and not self._is_patience_over:
                return soon
            if self._seen.keys() <= moving:
                self._error = self._restless(moving)
                return soon if moving else self._check_seconds
            if (files := self._read(found, moving)) is None:
                return soon
            pool = ModelPool(read.descriptor for read in files.values())
            made = self._make(pool)
        except Exception as error:
            # Of any kind: a file must not be able to fail the requests of a running application.
            if str(error) != str(self._error):
                logger.error(  # noqa: TRY400  # The traceback of a broken file says nothing.
                    "%s: not taken over, the pool stays as it was: %s", self._folder, error
                )
            self._error = error
            return self._check_seconds
        before, self._pool = self._pool, pool
        self._current, self._taken, self._error = made, files, self._restless(moving)
        self._known = {}
        if changes := _changes(before, pool):
            logger.info("%s: %s", self._folder, changes)
        return soon if moving else self._check_seconds

    def _restless(self, moving: set[Path]) -> PoolError | None:
        if not moving:
            return None
        names = ", ".join(sorted(path.name for path in moving))
        return PoolError(f"{self._folder}: {names}: still changing, and left as it was.")

    def _look(self) -> dict[Path, _Stamp] | None:
        """The files of the folder; None if one was removed between the listing and its turn.

        Where none went, two looks that agree are of a state that the folder was in: each file was
        the same from the one look to the other, and all names stood there as the second began.
        """
        stamps: dict[Path, _Stamp] = {}
        try:
            for path in listed_descriptors(self._folder):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    # A link to nowhere is passed over.
                    if path.is_symlink():
                        continue
                    return None
                # A pipe, say, is no file: reading it would wait for whoever writes to it.
                if stat.S_ISREG(found.st_mode):
                    stamps[path] = _Stamp(found.st_size, found.st_mtime_ns, found.st_ino)
        except OSError as error:
            raise PoolError(f"{self._folder}: cannot be read: {error}") from error
        return stamps

    def _moving(self, found: dict[Path, _Stamp]) -> set[Path]:
        """The files that may be half written.

        A change has settled if the file's date says so, or if it was there at an earlier look: a
        file server's clock may be ahead of ours. Of a file that was removed, to be written anew
        perhaps, the folder's date says so; but anything that goes on in the folder changes that.
        """
        now, today = time.monotonic(), time.time()
        before, self._seen = self._seen, {}
        moving = set()
        for path in found.keys() | self._taken.keys():
            stamp, taken = found.get(path), self._taken.get(path)
            if taken is not None and stamp == taken.stamp:
                continue
            last = before.get(path)
            since = last.since if last is not None and last.stamp == stamp else now
            self._seen[path] = _Seen(stamp, since)
            changed_ns = stamp.changed_ns if stamp else self._folder.stat().st_mtime_ns
            is_old = today - changed_ns / 1e9 >= SETTLE_SECONDS
            if not is_old and now - since < SETTLE_SECONDS:
                moving.add(path)
        if not moving:
            self._moving_since = None
        elif self._moving_since is None:
            self._moving_since = now
        return moving

    @property
    def _is_patience_over(self) -> bool:
        since = self._moving_since
        return since is not None and time.monotonic() - since >= PATIENCE_SECONDS

    def _read(self, found: dict[Path, _Stamp], moving: set[Path]) -> dict[Path, _Read] | None:
        """The files of a look, those that are moving as they were; None if it does not hold."""
        files = {path: self._taken[path] for path in moving & self._taken.keys()}
        try:
            for path, stamp in found.items():
                if path not in moving:
                    files[path] = self._load(path, stamp)
        except DescriptorError:
            if self._holds(found, moving):
                raise
            return None
        return files if self._holds(found, moving) else None

    def _load(self, path: Path, stamp: _Stamp) -> _Read:
        for read in (self._taken.get(path), self._known.get(path)):
            if read is not None and read.stamp == stamp:
                return read
        self._known[path] = _Read(stamp, ModelDescriptor.load(path))
        return self._known[path]

    def _holds(self, found: dict[Path, _Stamp], moving: set[Path]) -> bool:
        """Whether the folder, without what is moving, is still as it was found."""
        again = self._look()
        if again is not None and all(
            found.get(path) == again.get(path) for path in (found | again).keys() - moving
        ):
            return True
        # What was read may be of neither.
        self._known = {}
        return False


def _changes(before: ModelPool, after: ModelPool) -> str:
    """What is different, by the ids."""
    found = {
        "added": [model for model in after if model not in before],
        "changed": [model for model in after if model in before and after[model] != before[model]],
        "removed": [model for model in before if model not in after],
    }
    return "; ".join(f"{what} {', '.join(models)}" for what, models in found.items() if models)
