"""Results as entries of one file of plans (see storage/plan_format.py)."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from quadtok.errors import InputError, OutputError
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import IfExistsName
from quadtok.storage.plan_format import FINGERPRINT, Header, decode_entry
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.plan_writer import PlanWriter


class PlanFileSink:
    """Appends an entry for each source; what is there already is kept or replaced as `if_exists` says.

    Args:
        path: of the file.
        header: of the run.
        sources: the inputs. Their relative names are those of the entries.
        suffix: of what the job makes.
        if_exists: what happens to entries that are there.
        words: what sentences call this.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        sources: Sequence[Source],
        suffix: str,
        if_exists: IfExistsName = "resume",
        words: Words = ARGUMENTS,
    ) -> None:
        self._path = path
        self._header = header
        self._sources = list(sources)
        self._suffix = suffix
        self._if_exists = if_exists
        self._words = words
        names = Counter(source.relative.as_posix() for source in sources)
        self._clashing = {name for name, count in names.items() if count > 1}
        self._writer: PlanWriter | None = None
        self._known: Callable[[str], str | None] = dict[str, str]().get  # the fingerprint that is there, by the name

    @property
    def sources(self) -> list[Source]:
        """All inputs, in their order."""
        return self._sources

    @contextmanager
    def open(self) -> Iterator[PlanFileSink]:
        """While the block runs entries are appended; after it the file has an index."""
        with PlanWriter(self._path, self._header) as writer:
            store = PlanStore(self._path)
            self._writer, self._known = writer, lambda name: _fingerprint(store, name)
            yield self

    @property
    def shared(self) -> None:
        """See `ShareableSink`: one process writes a file of plans."""

    def part(self, sources: Sequence[Source]) -> PlanFileSink:
        """See `ShareableSink`."""
        names = [source.relative.as_posix() for source in sources]
        part = copy.copy(self)
        part._sources, part._writer = list(sources), None
        part._clashing = self._clashing & set(names)
        part._known = {name: self._known(name) for name in names}.get
        return part

    def output(self, source: Source) -> str:
        """The file and the entry."""
        return f"{self._path}:{source.relative.as_posix()}"

    def is_settled(self, source: Source) -> bool:
        """See `Sink`."""
        name = source.relative.as_posix()
        if name in self._clashing:
            raise InputError(
                f"{source.path}: several inputs would be called {name} in {self._path}; give the folder that holds "
                f"them all, or {self._words.relative_to}"
            )
        if self._if_exists not in ("skip", "error") or self._known(name) is None:
            return False
        if self._if_exists == "error":
            raise OutputError(f"{source.path}: {self.output(source)} exists; use {self._words.overwrite}")
        return True

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        """See `Sink`."""
        found = self._known(source.relative.as_posix())
        if found is None or self._if_exists == "overwrite":
            return frozenset([self._suffix])
        if found != fingerprint[:FINGERPRINT]:
            raise OutputError(
                f"{source.path}: {self._path} holds plans of another image of this name, or of other settings; "
                f"use {self._words.overwrite}"
            )
        return frozenset()

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        """See `Sink`."""
        assert self._writer is not None  # whoever writes has opened it
        for body in files.values():
            self._writer.add(decode_entry(body, self._header))
        return bool(files)


def _fingerprint(store: PlanStore, name: str) -> str | None:
    found = store.find(name)
    return None if found is None else found.fingerprint
