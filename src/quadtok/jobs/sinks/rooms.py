"""Where files of results lie: on disks, or in stores, by the same questions.

Loads no torch before a file is looked into.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from quadtok.errors import ImageError, OutputError, Unwritable, about
from quadtok.files import TEMPORARY_PREFIX, write_atomically
from quadtok.jobs.sinks.naming import written_in
from quadtok.jobs.sinks.writable import Writable
from quadtok.jobs.words import Words
from quadtok.marks import HEAD_BYTES, image_format
from quadtok.names import IfExistsName
from quadtok.places import Url

if TYPE_CHECKING:
    from quadtok.stores import Facts

_SECOND = 1_000_000_000  # nanoseconds


class Room(Protocol):
    """Where files lie."""

    def has(self, path: Path) -> bool:
        """Whether there is a file."""

    def check(self, path: Path, policy: IfExistsName, words: Words) -> None:
        """See `check_place`."""

    def refusal(self, path: Path) -> Unwritable | None:
        """Why nothing can be written there, as far as that can be told without trying."""

    def opened(self, path: Path) -> AbstractContextManager[Path]:
        """The file, or a copy of it, on a disk."""

    def write(self, path: Path, data: bytes) -> None:
        """Put a file whole. Raises what `write_atomically` does."""

    def facts(self, path: Path) -> tuple[int, int]:
        """Its size, and its time in nanoseconds. Raises an OSError or a QuadtokError where there is none."""


class Disk:
    """Files by paths."""

    def __init__(self) -> None:
        self._writable = Writable()

    def has(self, path: Path) -> bool:
        """See `Room`."""
        return os.path.exists(path)

    def check(self, path: Path, policy: IfExistsName, words: Words) -> None:
        """See `Room`."""
        from quadtok.jobs.sinks.existing import check_place

        check_place(path, policy, words)

    def refusal(self, path: Path) -> Unwritable | None:
        """See `Room`."""
        return self._writable.refusal(Path(written_in(path)))

    def opened(self, path: Path) -> AbstractContextManager[Path]:
        """See `Room`."""
        return nullcontext(path)

    def write(self, path: Path, data: bytes) -> None:
        """See `Room`."""
        write_atomically(path, data)

    def facts(self, path: Path) -> tuple[int, int]:
        """See `Room`."""
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns


class Store:
    """Files by URLs. What is in a folder is listed once, when it is first asked for; nobody can hold a lock on it.

    Args:
        folders: the files of folders that were listed before; of those that this wrote nothing more is known.
    """

    def __init__(self, folders: dict[Path, dict[str, Facts | None]] | None = None) -> None:
        self._folders = folders or {}
        self._lock = Lock()
        self._replaceable: set[Path] = set()

    def has(self, path: Path) -> bool:
        """See `Room`."""
        return path.name in self._listed(path.parent)

    def check(self, path: Path, policy: IfExistsName, words: Words) -> None:
        """See `Room`. Little more than the head of a file is read."""
        from quadtok.jobs.sinks.existing import check_replaced

        if policy not in ("error", "overwrite") or not self.has(path) or path in self._replaceable:
            return
        if policy == "error":
            check_replaced(path, path, policy, words)
        with about(path):
            is_image = image_format(_read(path, HEAD_BYTES))
        if is_image:
            with self.opened(path) as copy:
                check_replaced(copy, path, policy, words)
        self._replaceable.add(path)

    def refusal(self, path: Path) -> Unwritable | None:
        """See `Room`. A store tells nothing: that there is its bucket was seen to before."""
        return None

    @contextmanager
    def opened(self, path: Path) -> Iterator[Path]:
        """See `Room`."""
        data = _read(path)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
            copy = Path(folder, "copy")
            copy.write_bytes(data)
            yield copy

    def write(self, path: Path, data: bytes) -> None:
        """See `Room`."""
        from quadtok.stores import write

        write(str(path), data)
        self._listed(path.parent)[path.name] = None

    def facts(self, path: Path) -> tuple[int, int]:
        """See `Room`."""
        from quadtok.stores import facts_of

        facts = self._listed(path.parent).get(path.name) or facts_of(str(path))
        return facts.bytes, facts.time * _SECOND

    def part(self, paths: Sequence[Path]) -> Store:
        """What is known of these files."""
        folders: dict[Path, dict[str, Facts | None]] = {}
        for path in paths:
            known, here = folders.setdefault(path.parent, {}), self._listed(path.parent)
            if path.name in here:
                known[path.name] = here[path.name]
        return Store(folders)

    def __reduce__(self) -> tuple[type[Store], tuple[dict[Path, dict[str, Facts | None]]]]:
        return Store, (self._folders,)

    def _listed(self, folder: Path) -> dict[str, Facts | None]:
        from quadtok.stores import files_in

        with self._lock:  # others that ask meanwhile want the same one, as a rule
            if folder not in self._folders:
                with about(folder):
                    self._folders[folder] = dict(files_in(str(folder)))
            return self._folders[folder]


def _read(path: Path, most: int | None = None) -> bytes:
    from quadtok.stores import read

    try:
        return read(str(path), most)
    except ImageError as problem:
        raise OutputError(f"cannot be read ({problem})") from problem


class Rooms:
    """Where each file lies, by its path.

    Args:
        store: of all files by URLs.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._disk, self._store = Disk(), store or Store()

    def of(self, path: Path) -> Room:
        """Where this one lies."""
        return self._store if isinstance(path, Url) else self._disk

    def part(self, paths: Sequence[Path]) -> Rooms:
        """What is known of these files, to be sent to another process."""
        return Rooms(self._store.part([path for path in paths if isinstance(path, Url)]))
