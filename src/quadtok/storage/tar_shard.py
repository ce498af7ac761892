"""Samples in tar files, in the layout of webdataset: members `KEY.ENDING`, one sample after another.

Nothing in a tar depends on the clock. One that is not compressed can be read from anywhere.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from quadtok.errors import TokenFileError
from quadtok.files import reading
from quadtok.names import TAR_SUFFIX
from quadtok.storage.container import Held, Members, Place, Writable
from quadtok.storage.dali import DALI_SUFFIX, dali_index
from quadtok.storage.tar import headers_in

MAX_MEMBER = 4 << 30  # bytes
_CUT = "is cut short, or no shard"


class TarPlace(NamedTuple):
    """Where a sample lies in a tar: of each ending, from where and how many bytes."""

    shard: Path
    key: str
    members: dict[str, tuple[int, int]]

    @property
    def endings(self) -> Collection[str]:
        """See `Place`."""
        return self.members

    @property
    def group(self) -> int:
        """See `Place`."""
        return 0

    def read(self, endings: Collection[str] | None, held: Held) -> dict[str, bytes]:
        """See `Place`."""
        with reading(self.shard, TokenFileError) as stream:
            wanted = self.members if endings is None else [ending for ending in self.members if ending in endings]
            return {ending: _read(stream, *self.members[ending]) for ending in wanted}


class TarWriter:
    """See `Writer`."""

    def __init__(self, stream: Writable) -> None:
        self._archive = tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]  # asks no more
        self._places: dict[str, dict[str, tuple[int, int]]] = {}

    def add(self, key: str, members: Members) -> None:
        """See `Writer`."""
        places = {}
        for ending, data in members.items():
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(data)
            self._archive.addfile(member, io.BytesIO(data))
            padded = -len(data) // tarfile.BLOCKSIZE * -tarfile.BLOCKSIZE
            places[ending] = self._archive.offset - padded, len(data)
        self._places[key] = places

    def close(self) -> None:
        """See `Writer`."""
        self._archive.close()

    def abandon(self) -> None:
        """See `Writer`: tars write when they are asked to."""

    def indexes(self) -> Mapping[str, bytes]:
        """See `Writer`."""
        return {DALI_SUFFIX: dali_index(self._places)}


class TarContainer:
    """See `Container`."""

    suffix = TAR_SUFFIX
    beside = (DALI_SUFFIX,)

    def writer(self, stream: Writable) -> TarWriter:
        """See `Container`."""
        return TarWriter(stream)

    def places(self, path: Path) -> list[Place]:
        """See `Container`; headers are read and nothing else."""
        return list[Place](_places(path))

    def indexes(self, path: Path) -> Mapping[str, bytes]:
        """See `Container`."""
        return {DALI_SUFFIX: dali_index({place.key: place.members for place in _places(path)})}


def _places(path: Path) -> Sequence[TarPlace]:
    places: list[TarPlace] = []
    with reading(path, TokenFileError) as stream:
        size = os.fstat(stream.fileno()).st_size
        for header in headers_in(stream, TokenFileError):
            if not header.isreg() or header.issparse():
                continue
            folder, slash, base = header.name.rpartition("/")
            own, _, ending = base.partition(".")
            key = folder + slash + own
            if header.size > MAX_MEMBER or header.offset_data + header.size > size:
                raise TokenFileError(_CUT)
            if not places or places[-1].key != key or ending in places[-1].members:
                places.append(TarPlace(path, key, {}))
            places[-1].members[ending] = header.offset_data, header.size
    return places


def _read(stream: BinaryIO, begin: int, size: int) -> bytes:
    stream.seek(begin)
    data = stream.read(size)
    if len(data) != size:
        raise TokenFileError(_CUT)
    return data
