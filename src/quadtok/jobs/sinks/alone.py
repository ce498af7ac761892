"""One process at a time writes shards of one name into a folder."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quadtok.errors import OutputError, cannot_write
from quadtok.files import TEMPORARY_PREFIX

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def alone(folder: Path, prefix: str) -> Iterator[None]:
    """While the block runs, no other process writes shards whose names begin so: it would replace those of this one.

    What a killed one leaves is an unlocked file, which the next one takes, or `remove_abandoned` after a day.

    Raises:
        OutputError: where another is at it, or nothing can be written there.
    """
    if fcntl is None:
        yield
        return
    path = folder / f"{TEMPORARY_PREFIX}{zlib.crc32(prefix.encode()):012x}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _OPEN, 0o666)
    except OSError as problem:
        raise cannot_write(folder, problem) from problem
    try:
        if _is_taken(descriptor):
            raise OutputError(f"{folder}: another process writes its {prefix}*.tar; wait for it, or give each a part")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # the lock is still held
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    """Whether another process has the lock of this file, or had it and removed the file just now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    return not os.fstat(descriptor).st_nlink
