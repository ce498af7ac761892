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

from quadtok.errors import ImageError, InputError, about
from quadtok.files import reading
from quadtok.jobs.walk import Refusal


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

    A name that would lead out of the folder where outputs go is refused, and so is the rest of an archive that ends
    too early.
    """
    found: dict[str, Member | Refusal] = {}
    problem: Refusal | None = None
    try:
        with about(archive), reading(archive, InputError) as stream:
            for header in _headers(stream):
                name = PurePosixPath(header.name)
                if name.suffix.lower() in suffixes:
                    found[header.name] = _member(archive, name, header)
    except InputError as raised:
        problem = Refusal(archive, raised)
    yield from found.values()
    if problem is not None:
        yield problem


def _headers(stream: object) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]  # asks for less than it says
            for header in tar:
                tar.members = []  # else all that were read are kept
                if header.isreg() and not header.issparse():
                    yield header
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
        raise InputError("is no tar file as it is, or is cut short (a compressed one must be unpacked)") from problem


def _member(archive: Path, name: PurePosixPath, header: tarfile.TarInfo) -> Member | Refusal:
    if name.is_absolute() or ".." in name.parts:
        return Refusal(archive / name.name, InputError(f"{archive}: {name} leads out of the folder that it is in"))
    return Member(name, Slice(archive, header.offset_data, header.size))
