"""Files of samples, of whatever kind: the ending of a shard's name says which."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from quadtok.errors import about
from quadtok.storage.container import Container, Held, Place
from quadtok.storage.parquet_shard import ParquetContainer
from quadtok.storage.tar_shard import TarContainer

TAR, PARQUET = TarContainer(), ParquetContainer()
CONTAINERS: dict[str, Container] = {container.suffix: container for container in (TAR, PARQUET)}


def container_of(path: Path) -> Container:
    """What kind of file a shard is; a tar, where its name does not say."""
    return CONTAINERS.get(path.suffix.lower(), TAR)


def places_in(path: Path) -> list[Place]:
    """Where the samples of a shard lie, in its order.

    Raises:
        TokenFileError: one sentence that begins with the path, where it is no shard, or cut short.
    """
    with about(path):
        return container_of(path).places(path)


def read_sample(place: Place, endings: Collection[str] | None = None, held: Held | None = None) -> dict[str, bytes]:
    """The members of a sample by their endings, or of these endings.

    Args:
        place: of the sample.
        endings: None: all.
        held: what was read before, of whoever reads several samples.

    Raises:
        TokenFileError: one sentence that begins with the path, where it cannot be read.
    """
    with about(place.shard):
        return place.read(endings, Held() if held is None else held)


def read_shard(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a shard, in its order: key, and members by their endings.

    Raises:
        TokenFileError: one sentence that begins with the path, where it is no shard, or cut short.
    """
    held = Held()
    for place in places_in(path):
        yield place.key, read_sample(place, held=held)
