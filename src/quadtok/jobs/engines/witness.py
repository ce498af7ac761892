"""Whether another machine sees a folder of this one: a file lies in it that only this folder holds."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quadtok.files import TEMPORARY_PREFIX, this_machine
from quadtok.places import Url

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def witness(folder: Path | None) -> Iterator[Path | None]:
    """A file in this folder while the block runs; None where there is no folder, or nothing can be written.

    What is in a store all machines see, or say of each input that they do not: the folder itself.

    A folder that is made for it goes with it, if nothing else came. It is locked: so what a killed process leaves is
    removed by `remove_abandoned`.
    """
    if folder is None or isinstance(folder, Url):
        yield folder
        return
    is_new = not folder.exists()
    path = folder / f"{TEMPORARY_PREFIX}{this_machine()}-{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("xb")
    except OSError:  # each input will say it
        yield None
        return
    try:
        with stream:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a disk without locks
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            if is_new:
                folder.rmdir()  # refused, if something is there


def is_seen(path: Path) -> bool:
    """Whether this machine sees a witness."""
    return isinstance(path, Url) or path.exists()
