"""Results as samples of shards (see storage/sample.py): a folder of them, each whole or not at all.

    DIR/shard-000000.tar    up to `size` samples, or .parquet: a container says how they are written
    DIR/…                   what shard_index.py tells

A shard is written under a temporary name and renamed when it is full; then its own indexes are written. So a run that
is killed leaves whole shards, and perhaps one without an index, which the next run reads and gives it. What a killed
run had in its unfinished shard is done again. Jobs of an array write to one folder, each under names of its own.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from quadtok.errors import DiskFull, InputError, NoOutput, OutputError, Unwritable
from quadtok.files import written_whole
from quadtok.jobs.parts import Part
from quadtok.jobs.sinks.shard_index import Shard
from quadtok.jobs.sinks.shelves import shelf_of
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import IfExistsName
from quadtok.storage.container import Container, Members
from quadtok.storage.sample import SAMPLE, facts_of, key_of
from quadtok.storage.shards import TAR

WHOLE = frozenset([SAMPLE])


class ShardSink:
    """Puts each source's sample into the shard that is being written.

    Args:
        folder: of the shards; created.
        size: samples of a shard, at most.
        sources: the inputs. Their relative names are those of the samples, and make their keys.
        part: of a job array, which goes into the names of shards; None: there is one run at a time.
        if_exists: what happens to samples that are there.
        words: what sentences call this.
        container: which kind of file a shard is.

    Raises:
        InputError: for a size below 1.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        sources: Sequence[Source],
        part: Part | None = None,
        if_exists: IfExistsName = "resume",
        words: Words = ARGUMENTS,
        container: Container = TAR,
    ) -> None:
        if size < 1:
            raise InputError(f"a shard has at least one sample, got {size}")
        self._folder, self._size, self._sources = folder, size, list(sources)
        self._container, self._shelf = container, shelf_of(folder, container)
        self._prefix, self._parts = ("shard-", 0) if part is None else (f"shard-{part.number:05d}-", part.count)
        self._if_exists, self._words = if_exists, words
        names = Counter(source.relative.as_posix() for source in sources)
        self._clashing = {name for name, count in names.items() if count > 1}
        self._known: dict[str, str] = {}
        self._shards: list[Shard] = []
        self._blank: list[str] = []
        self._open: _OpenShard | None = None

    @property
    def sources(self) -> list[Source]:
        """All inputs, in their order."""
        return self._sources

    @contextmanager
    def open(self) -> Iterator[ShardSink]:
        """While the block runs samples are written; after it the last shard is in place, and an index of all."""
        with self._shelf.held(self._prefix, self._parts):
            self._shards = self._shelf.shards()
            self._blank = self._shelf.blank()
            for shard in self._shards:
                self._known |= shard.fingerprints
            self._refuse_changes()
            try:
                yield self
            finally:
                self._finish()
        self._shelf.end()

    @property
    def shared(self) -> None:
        """See `ShareableSink`: a shard is written by one process."""

    def part(self, sources: Sequence[Source]) -> ShardSink:
        """See `ShareableSink`."""
        names = {source.relative.as_posix() for source in sources}
        part = copy.copy(self)
        part._sources, part._shards, part._open = list(sources), [], None
        part._shelf = shelf_of(self._folder, self._container)
        part._clashing = self._clashing & names
        part._known = {key: self._known[key] for key in map(key_of, names) if key in self._known}
        return part

    def output(self, source: Source) -> str:
        """The folder and the key."""
        return f"{self._folder}:{key_of(source.relative.as_posix())}"

    def is_settled(self, source: Source) -> bool:
        """See `Sink`."""
        name = source.relative.as_posix()
        if name in self._clashing:
            raise InputError(
                f"{source.path}: several inputs would be called {name} in {self._folder}; give the folder that holds "
                f"them all, or {self._words.relative_to}"
            )
        return self._if_exists == "skip" and key_of(name) in self._known

    def _refuse_changes(self) -> None:
        """Whatever asks for samples anew that are there would fail for each of them, after all that comes before."""
        if self._if_exists not in ("error", "overwrite"):
            return
        for source in self._sources:
            if key_of(source.relative.as_posix()) in self._known:
                raise OutputError(
                    f"{source.path}: {self.output(source)} exists, and shards are never changed: name a new folder"
                )

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        """See `Sink`: everything of a sample, or nothing."""
        known = self._known.get(key_of(source.relative.as_posix()))
        if known is None:
            return WHOLE
        if known != fingerprint:
            raise OutputError(
                f"{source.path}: {self._folder} holds a sample of another image of this name, or of other settings: "
                "name a new folder"
            )
        return frozenset()

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        """See `Sink`. Where it fails, all of the unfinished shard is to be made again by the next run."""
        if self._open is None:
            name = f"{self._prefix}{self._next():06d}{self._container.suffix}"
            self._open = _OpenShard(self._shelf.path(name), self._container)
        try:
            self._open.add(source.relative.as_posix(), files)
        except BaseException as problem:
            torn, self._open = self._open, None
            torn.abandon(problem)
            raise
        if len(self._open.fingerprints) == self._size:
            self._finish()
        return True

    def _finish(self) -> None:
        full, self._open = self._open, None  # first of all: one that cannot be closed is gone
        if full is not None:
            shard = full.close()
            self._shards.append(shard)
            try:
                self._shelf.put(shard, full.indexes())
            except DiskFull:
                raise
            except Unwritable as problem:  # its samples were told of as written: no further shard may be lost
                raise NoOutput(f"{problem}: its {len(shard.fingerprints)} images are to be made again") from problem

    def _next(self) -> int:
        """The number of the next shard: of one that holds nothing, or a new one."""
        if blank := self._own(self._blank):
            self._blank.remove(blank[0])
            return _number(blank[0])
        return max((_number(file) + 1 for file in self._own(shard.file for shard in self._shards)), default=0)

    def _own(self, files: Iterable[str]) -> list[str]:
        name = rf"{self._prefix}\d{{6}}{re.escape(self._container.suffix)}"
        return [file for file in files if re.fullmatch(name, file)]


def _number(file: str) -> int:
    return int(Path(file).stem[-6:])


class _OpenShard:
    """The shard that is being written."""

    def __init__(self, path: Path, container: Container) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()
        stream = self._stack.enter_context(written_whole(path))
        self._stream = _Counted(stream)
        self._writer = container.writer(self._stream)
        self.fingerprints: dict[str, str] = {}

    def add(self, name: str, members: Members) -> None:
        key = key_of(name)
        self._writer.add(key, members)
        self.fingerprints[key] = facts_of(members)["fingerprint"]

    def abandon(self, problem: BaseException) -> None:
        """Nothing of it stays. A problem of the disk is raised as a sentence."""
        self._writer.abandon()
        self._stack.__exit__(type(problem), problem, problem.__traceback__)

    def indexes(self) -> Mapping[str, bytes]:
        return self._writer.indexes()

    def close(self) -> Shard:
        with self._stack:
            try:
                self._writer.close()
            except BaseException:
                self._writer.abandon()
                raise
        return Shard(self._path.name, self.fingerprints, self._stream.bytes, self._stream.sha256.hexdigest())


class _Counted:
    """A stream that knows how much was written to it, and its sha256."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.sha256, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes, /) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self.bytes
