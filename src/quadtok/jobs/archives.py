"""Images inside tar files: each is an input of its own, and is read where it lies.

A tar holds its files as they are, one after another. So its headers are read once, and then a file is what stands
between two places: any thread may read any of them, and nothing is unpacked. What is compressed as a whole has no such
places, and is refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from quadtok.errors import ImageError, InputError, about
from quadtok.files import reading
from quadtok.jobs.walk import Refusal

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Slice:
    """Where a file lies in an archive: `size` bytes from `offset`."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            ImageError: where the archive cannot be read, or ends before.
        """
        with reading(self.archive, ImageError) as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
            if len(data) != self.size:
                raise ImageError("the archive is cut short")
        return data


@dataclass(frozen=True)
class Member:
    """A file in an archive, and its name there."""

    name: PurePosixPath
    inside: Slice


def members_of(archive: Path, suffixes: frozenset[str]) -> Iterator[Member | Refusal]:
    """The files with these endings in a tar, in its order; of two of one name the later, as unpacking would leave it.

    A name that would lead out of the folder where outputs go is refused, and so is what is sparse, and the rest of an
    archive that ends too early or goes on behind its end. A hard link is the file that it leads to; other links are
    passed over.
    """
    found: dict[str, Member | Refusal] = {}
    problem: Refusal | None = None
    try:
        with about(archive), reading(archive, InputError) as stream:
            for header in _headers(stream):
                name = PurePosixPath(header.name)
                if name.suffix.lower() not in suffixes:
                    continue
                if header.isreg():
                    found[header.name] = _member(archive, name, header)
                elif header.islnk() and isinstance(first := found.get(header.linkname), Member):
                    found[header.name] = _member(archive, name, header, first.inside)
    except InputError as raised:
        problem = Refusal(archive, raised)
    yield from found.values()
    if problem is not None:
        yield problem


def _headers(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for header in tar:
                tar.members = []  # type: ignore[attr-defined]  # else all that were read are kept
                yield header
            end = tar.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
        raise InputError("is no tar file as it is, or is cut short (a compressed one must be unpacked)") from problem
    _check_end(stream, end)


def _check_end(stream: BinaryIO, end: int) -> None:
    """Behind the last file there are zeros and nothing else: what is cut between two files, or goes on, has others."""
    stream.seek(end)
    rest = stream.read(tarfile.BLOCKSIZE)
    if len(rest) < tarfile.BLOCKSIZE:
        raise InputError("is cut short: what was behind its last file is not there")
    while rest:
        if any(rest):
            raise InputError("goes on behind its end, as archives that were joined do: give each by itself")
        rest = stream.read(_CHUNK)


def _member(
    archive: Path, name: PurePosixPath, header: tarfile.TarInfo, linked: Slice | None = None
) -> Member | Refusal:
    if name.is_absolute() or ".." in name.parts:
        return Refusal(archive / name.name, InputError(f"{archive}: {name} leads out of the folder that it is in"))
    if header.issparse():
        return Refusal(archive / name, InputError(f"{archive}: {name} is sparse, with holes: pack it without them"))
    return Member(name, linked or Slice(archive, header.offset_data, header.size))
