"""Who may write shards into a folder at once: processes with names of their own that share the inputs out alike."""

from __future__ import annotations

import contextlib
import os
import time
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
_TRIES, _PAUSE = 40, 0.05  # seconds, while others come and go


@contextmanager
def alone(folder: Path, prefix: str, parts: int) -> Iterator[None]:
    """While the block runs, no other process writes what this one may write into the folder.

    That is: no other one writes shards whose names begin so, it would replace those of this one; and none is there
    that shares the inputs out among another number of parts, since an image could then be in a part of both.

    What a killed one leaves is an unlocked file, which the next one takes, or `remove_abandoned` after a day.

    Args:
        folder: of the shards; created.
        prefix: of the names of this one's.
        parts: among how many the inputs are shared out; 0: not at all.

    Raises:
        OutputError: where another is at it, or nothing can be written there.
    """
    if fcntl is None:
        yield
        return
    with _named(folder, prefix), _joined(folder, parts):
        yield


@contextmanager
def _named(folder: Path, prefix: str) -> Iterator[None]:
    path = _lock_of(folder, prefix)
    descriptor = _opened(folder, path)
    try:
        if not _takes(descriptor, fcntl.LOCK_EX):
            raise OutputError(f"{folder}: another process writes its {prefix}*; wait for it, or give each a part")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # the lock is still held
    finally:
        os.close(descriptor)


@contextmanager
def _joined(folder: Path, parts: int) -> Iterator[None]:
    """All who are there hold one lock together; the first wrote into its file how the inputs are shared out."""
    path = _lock_of(folder, "parts")
    descriptor = _join(folder, path, parts)
    try:
        yield
    finally:
        if _takes(descriptor, fcntl.LOCK_EX):  # the last to leave
            with contextlib.suppress(OSError):
                os.unlink(path)
        os.close(descriptor)


def _join(folder: Path, path: Path, parts: int) -> int:
    """A descriptor of the lock that is held together."""
    for _ in range(_TRIES):
        descriptor = _opened(folder, path)
        if _takes(descriptor, fcntl.LOCK_EX):  # the first
            os.write(descriptor, f"{parts:9}".encode())
            os.lseek(descriptor, 0, os.SEEK_SET)
        if _takes(descriptor, fcntl.LOCK_SH):
            others = int(os.read(descriptor, 9))
            if others == parts:
                return descriptor
            os.close(descriptor)
            raise OutputError(
                f"{folder}: another process writes shards of {_told(others)} there, this one would of {_told(parts)}: "
                "an image could be in both; wait for it, or give all the same number of parts"
            )
        os.close(descriptor)
        time.sleep(_PAUSE)
    raise OutputError(f"{folder}: other processes come and go there all the time: try again")


def _told(parts: int) -> str:
    return f"a part of {parts}" if parts else "all inputs"


def _opened(folder: Path, path: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(path, _OPEN, 0o666)
    except OSError as problem:
        raise cannot_write(folder, problem) from problem


def _lock_of(folder: Path, name: str) -> Path:
    return folder / f"{TEMPORARY_PREFIX}{zlib.crc32(name.encode()):012x}.tmp"


def _takes(descriptor: int, kind: int) -> bool:
    """Whether this lock is had: not another process has it, nor has one removed the file just now."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return bool(os.fstat(descriptor).st_nlink)
