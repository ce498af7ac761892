"""Whether folders on disks can be written to: told before anything is worked out that would go there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from quadtok.errors import Unwritable, is_no_space
from quadtok.files import TEMPORARY_PREFIX


class Writable:
    """Asks each folder once. What only writing itself would tell is not found out."""

    def __init__(self) -> None:
        self._known: dict[Path, Unwritable | None] = {}

    def refusal(self, folder: Path) -> Unwritable | None:
        """Why nothing can be written to a folder, which need not be there; None where something can."""
        if folder not in self._known:
            existing = nearest_existing(folder)
            self._known[folder] = _refusal(existing) if existing == folder else self._of_new(existing)
        return self._known[folder]

    def _of_new(self, above: Path) -> Unwritable | None:
        """Why no folder can be made there: that is tried, under a name that nobody else takes."""
        key = above / TEMPORARY_PREFIX  # whether one can be made is not whether something can be written
        if key not in self._known:
            self._known[key] = _refusal(above) or _made_in_vain(above)
        return self._known[key]


def nearest_existing(folder: Path) -> Path:
    """The folder, or the innermost above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _refusal(existing: Path) -> Unwritable | None:
    if not existing.is_dir():
        return Unwritable(f"{existing}: a file stands where a folder of outputs should be: name another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Unwritable(f"{existing}: no permission to write")
    return None


def _made_in_vain(above: Path) -> Unwritable | None:
    try:
        made = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=above)
    except OSError as problem:
        if is_no_space(problem):  # which is said of what is written
            return None
        return Unwritable(f"{above}: no folder can be made there ({problem.strerror or problem})")
    with contextlib.suppress(OSError):
        os.rmdir(made)
    return None
