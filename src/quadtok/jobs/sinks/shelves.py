"""Where a folder of shards lies: on a disk, or in a store, where shards are put once they are whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from quadtok.errors import OutputError, about
from quadtok.files import TEMPORARY_PREFIX, remove_abandoned, sync_folders
from quadtok.jobs.sinks.alone import alone
from quadtok.jobs.sinks.shard_index import (
    INDEX,
    Shard,
    check_kind,
    is_blank,
    is_shard,
    names_in,
    shard_of,
    shards_in,
    write_index,
    write_indexes,
)
from quadtok.places import Url
from quadtok.storage.container import Container


class Shelf(Protocol):
    """A folder of shards, while it is written to."""

    def held(self, prefix: str, parts: int) -> AbstractContextManager[None]:
        """While the block runs, shards whose names begin so may be put; see `alone`."""

    def shards(self) -> list[Shard]:
        """Those that are there, by their names.

        Raises:
            OutputError: where one is of another kind.
        """

    def blank(self) -> list[str]:
        """Names of shards that hold nothing, and may be taken."""

    def path(self, name: str) -> Path:
        """Where a shard of this name is written, on a disk."""

    def put(self, shard: Shard, indexes: Mapping[str, bytes]) -> None:
        """A shard that was written gets its place, and its indexes."""

    def end(self) -> None:
        """All shards get an index together; others may have put some meanwhile."""


def shelf_of(folder: Path, container: Container) -> Shelf:
    """The one of this folder."""
    return StoreShelf(folder, container) if isinstance(folder, Url) else DiskShelf(folder, container)


class DiskShelf:
    """A folder on a disk.

    Args:
        folder: created.
        container: of its shards.
    """

    def __init__(self, folder: Path, container: Container) -> None:
        self._folder, self._container = folder, container

    @contextmanager
    def held(self, prefix: str, parts: int) -> Iterator[None]:
        """See `Shelf`."""
        with alone(self._folder, prefix, parts):
            remove_abandoned([self._folder])
            yield

    def shards(self) -> list[Shard]:
        """See `Shelf`."""
        check_kind(self._folder, names_in(self._folder), self._container)
        return shards_in(self._folder)

    def blank(self) -> list[str]:
        """See `Shelf`."""
        return [name for name in names_in(self._folder) if is_blank(self._folder / name)]

    def path(self, name: str) -> Path:
        """See `Shelf`."""
        return self._folder / name

    def put(self, shard: Shard, indexes: Mapping[str, bytes]) -> None:
        """See `Shelf`."""
        write_indexes(self._folder, shard, indexes)

    def end(self) -> None:
        """See `Shelf`."""
        write_index(self._folder, self.shards())
        sync_folders([self._folder])


class StoreShelf:
    """A folder in a store. One shard at a time is written to a temporary folder here, and then put.

    There are no locks in a store: each of several processes must have a part of its own.

    Args:
        folder: its URL.
        container: of its shards.
    """

    def __init__(self, folder: Path, container: Container) -> None:
        self._folder, self._container = folder, container
        self._endings = (*container.beside, ".json")  # beside a shard, in the order in which they are put
        self._here = Path()
        self._known: dict[str, Shard] = {}

    @contextmanager
    def held(self, prefix: str, parts: int) -> Iterator[None]:
        """See `Shelf`."""
        from quadtok.stores import check_place

        with about(self._folder):
            check_place(str(self._folder))
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as here:
            self._here = Path(here)
            yield

    def shards(self) -> list[Shard]:
        """See `Shelf`. A shard that lacks an index is fetched, and given it."""
        for name in self._without_index():
            self._known[name] = self._indexed(name)
        return [self._known[name] for name in sorted(self._known)]

    def blank(self) -> list[str]:
        """See `Shelf`. What is put is whole."""
        return []

    def path(self, name: str) -> Path:
        """See `Shelf`."""
        return self._here / name

    def put(self, shard: Shard, indexes: Mapping[str, bytes]) -> None:
        """See `Shelf`. The shard is there before its indexes are.

        Raises:
            OutputError: where it cannot be put, or another process put one of its name meanwhile.
        """
        from quadtok.stores import is_file

        url = str(self._folder / shard.file)
        if is_file(url):
            self._here.joinpath(shard.file).unlink()
            raise OutputError(f"{url}: another process put it meanwhile: give each a part of its own")
        write_indexes(self._here, shard, indexes)
        self._move(shard.file)
        self._known[shard.file] = shard

    def end(self) -> None:
        """See `Shelf`."""
        self._without_index()  # one of another process that goes on: that makes this again, too
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as here:
            write_index(Path(here), [self._known[name] for name in sorted(self._known)])
            self._put(Path(here, INDEX))

    def _without_index(self) -> list[str]:
        """Shards that lack one; those of the others are read, all at once, and each but once."""
        from quadtok.stores import files_in, read_all

        with about(self._folder):
            files = files_in(str(self._folder))
        check_kind(self._folder, files, self._container)
        with about(self._folder):
            paths = [self._folder / name for name in files if is_shard(name) and name not in self._known]
            whole = [path for path in paths if {path.with_suffix(end).name for end in self._endings} <= files.keys()]
            indexes = read_all([str(path.with_suffix(".json")) for path in whole])
        for path, data in zip(whole, indexes, strict=True):
            self._known[path.name] = shard_of(data, path, files[path.name].bytes)
        return [path.name for path in paths if path not in whole]

    def _indexed(self, name: str) -> Shard:
        from quadtok.stores import fetch

        with about(self._folder / name):
            fetch(str(self._folder / name), self._here / name)
        (shard,) = shards_in(self._here)
        self._move(name, is_there=True)
        return shard

    def _move(self, name: str, is_there: bool = False) -> None:
        path = self._here / name
        files = [path, *(path.with_suffix(ending) for ending in self._endings)]
        try:
            for file in files[is_there:]:
                self._put(file)
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _put(self, file: Path) -> None:
        from quadtok.stores import put

        put(file, str(self._folder / file.name))
