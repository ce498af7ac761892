"""Files appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from quadtok.errors import OutputError

TEMPORARY_PREFIX = ".quadtok-"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Creates missing folders.

    The temporary name is short and does not hold the file's own, which may be as long as a name can be.

    Raises:
        OutputError: with the path and the reason; nothing is left behind.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as problem:
        raise OutputError(f"{path}: {_reason(problem)}") from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _reason(problem: OSError) -> str:
    if problem.errno == errno.ENOSPC:
        return "no space left on device; what is written so far is complete, run the same command to go on"
    if problem.errno == errno.ENAMETOOLONG:
        return "the name is too long for this disk"
    if problem.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where one of its folders should be"
    return f"cannot be written ({problem.strerror or problem})"
