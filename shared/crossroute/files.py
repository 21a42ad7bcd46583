"""Reading and writing files that others read and write at the same time."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def read_file(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file of bounded size.

    Raises:
        OSError: If it cannot be read, is no regular file, or is larger.
        ValueError: If no system has such a path.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(f"it is larger than {most_bytes:,} bytes")
    return content


def check_regular(path: Path) -> None:
    """Refuse what is no regular file, before it is opened: opening a pipe waits for its other end.

    Raises:
        OSError: If it is none.
        ValueError: If no system has such a path.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file whole: readers see the old content or the new, whoever else writes it, too.

    Whoever may read or write the old file may read or write the new one.
    """
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`replace_file` for content that is written bit by bit: to the path that it gives.

    If the block raises, the old file stays.
    """
    # Hidden, so that nobody takes it for a descriptor; its name is short, whatever the file's.
    new = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        # Not by tempfile, whose files nobody else may read.
        yield new
        with suppress(FileNotFoundError):
            new.chmod(stat.S_IMODE(path.stat().st_mode))
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
