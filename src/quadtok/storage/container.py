"""What a kind of file must be for samples to lie in it: shards are written and read by this, and by nothing else.

Tar files are one kind (tar_shard.py), Parquet files another (parquet_shard.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

Members = Mapping[str, bytes]  # of a sample, by their endings
_MOST_HELD = 2  # where threads ask, the first of one may be asked for before the last of the one before it


class Writable(Protocol):
    """All that a container asks of a stream that it is written to."""

    def write(self, data: bytes, /) -> int:
        """As a file's."""

    def tell(self) -> int:
        """Likewise."""


class Writer(Protocol):
    """A file that is being written."""

    def add(self, key: str, members: Members) -> None:
        """One sample behind the others."""

    def close(self) -> None:
        """What stands behind the last one; the stream stays open."""

    def abandon(self) -> None:
        """Instead of `close`, or where that fails: nothing more is written, also when it is forgotten."""

    def indexes(self) -> Mapping[str, bytes]:
        """Of a closed one: what stands beside it, by the endings."""


class Held:
    """What was read last where several samples are read at once, for any thread. A pickle of it is empty."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[type[Held], tuple[()]]:
        return Held, ()

    def of(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """What has this key, read where it is not held."""
        with self._lock:
            if key not in self._held:
                while len(self._held) >= _MOST_HELD:
                    del self._held[next(iter(self._held))]
                self._held[key] = read()
            return self._held[key]


class Place(Protocol):
    """Where a sample lies."""

    @property
    def shard(self) -> Path:
        """The file."""

    @property
    def key(self) -> str:
        """Of the sample."""

    @property
    def endings(self) -> Collection[str]:
        """Of its members."""

    @property
    def group(self) -> int:
        """The number of those that are read at once with it; 0 where each is read alone."""

    def read(self, endings: Collection[str] | None, held: Held) -> dict[str, bytes]:
        """The members by their endings, or of these endings.

        Raises:
            TokenFileError: where they cannot be read.
        """


class Container(Protocol):
    """A kind of file."""

    @property
    def suffix(self) -> str:
        """How its names end."""

    @property
    def beside(self) -> Collection[str]:
        """The endings of the indexes that stand beside a file."""

    def writer(self, stream: Writable) -> Writer:
        """A new file."""

    def places(self, path: Path) -> list[Place]:
        """Where the samples of a file lie, in its order; no sample is read for it.

        Raises:
            TokenFileError: where it is none, or cut short.
        """

    def indexes(self, path: Path) -> Mapping[str, bytes]:
        """What stands beside a file that is there, by the endings."""
