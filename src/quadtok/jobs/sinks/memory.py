"""Results kept in memory: of jobs whose results are small, and become one answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from quadtok.jobs.sources import Source


class MemorySink:
    """Keeps the bytes of each source; nothing is there before a run.

    Args:
        sources: the inputs.
        suffixes: the endings of what each becomes.

    Attributes:
        results: by source, in the order in which they came.
    """

    def __init__(self, sources: Sequence[Source], suffixes: Sequence[str]) -> None:
        self._sources = list(sources)
        self._suffixes = frozenset(suffixes)
        self.results: dict[Source, Mapping[str, bytes]] = {}

    @property
    def sources(self) -> list[Source]:
        """All inputs, in their order."""
        return self._sources

    @contextmanager
    def open(self) -> Iterator[MemorySink]:
        """There is nothing to open."""
        yield self

    def output(self, source: Source) -> str:
        """See `Sink`; it has no name."""
        return ""

    def is_settled(self, source: Source) -> bool:
        """See `Sink`."""
        return False

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        """See `Sink`: everything."""
        return self._suffixes

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        """See `Sink`."""
        self.results[source] = files
        return True
