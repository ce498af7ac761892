"""Files inside a tar that is not compressed, read where they lie; nothing is unpacked.

A tar holds its files as they are, one after another. So its headers are read once, and then a file is what stands
between two places: any thread may read any of them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import join, normpath
from typing import BinaryIO

from quadtok.errors import ImageError, InputError, QuadtokError, about
from quadtok.files import reading

_CHUNK = 1 << 20  # bytes
_MOST_LINKS = 40  # as many as Linux follows


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
    """What has a name in an archive.

    Attributes:
        name: there.
        inside: where it lies; None: it is no file that can be read.
        problem: why.
    """

    name: PurePosixPath
    inside: Slice | None
    problem: str = ""


@dataclass(frozen=True)
class _Link:
    """A symbolic link in an archive, and the name in the archive that it leads to."""

    name: PurePosixPath
    target: str


def members_of(archive: Path, suffixes: frozenset[str]) -> tuple[list[Member], InputError | None]:
    """The files with these endings in a tar, in its order; of two of one name the later, as unpacking would leave it.

    A link is the file of the archive that it leads to. No file to read is a link that leads elsewhere, what has a name
    that would lead out of a folder, and what is sparse.

    Returns:
        The files, and what is wrong with the archive: it is none, ends too early, or goes on behind its end.
    """
    found: dict[str, Member | _Link] = {}
    problem: InputError | None = None
    try:
        with about(archive), reading(archive, InputError) as stream:
            for header in headers_in(stream, InputError):
                if PurePosixPath(header.name).suffix.lower() in suffixes:
                    _take(archive, header, found)
    except InputError as raised:
        problem = raised
    return [_followed(item, found) if isinstance(item, _Link) else item for item in found.values()], problem


def _take(archive: Path, header: tarfile.TarInfo, found: dict[str, Member | _Link]) -> None:
    name = PurePosixPath(header.name)
    if not (header.isreg() or header.islnk() or header.issym()):
        return
    item: Member | _Link
    if name.is_absolute() or ".." in name.parts:
        item = Member(name, None, "leads out of the folder that it is in")
    elif header.issparse():
        item = Member(name, None, "is sparse, with holes: pack it without them")
    elif header.issym():
        item = _Link(name, normpath(join(name.parent, header.linkname)))
    elif header.islnk():  # to what came before: a later file of that name is another
        item = _linked(name, header.linkname, found.get(normpath(header.linkname)))
    else:
        item = Member(name, Slice(archive, header.offset_data, header.size))
    found[normpath(name)] = item


def _followed(link: _Link, found: dict[str, Member | _Link]) -> Member:
    item: Member | _Link | None = link
    for _ in range(_MOST_LINKS):
        if not isinstance(item, _Link):
            break
        item = found.get(item.target)
    return _linked(link.name, link.target, item)


def _linked(name: PurePosixPath, target: str, item: Member | _Link | None) -> Member:
    if isinstance(item, Member) and item.inside is not None:
        return Member(name, item.inside)
    return Member(name, None, f"is a link to {target}, which is no image in it")


def headers_in(stream: BinaryIO, error: type[QuadtokError]) -> Iterator[tarfile.TarInfo]:
    """The headers, in their order; behind the last one the end of the archive is looked at.

    Raises:
        error: of this type, where it is no tar, or a compressed one; where it ends too early, also between two files;
            and where it goes on behind its end.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for header in archive:
                archive.members = []  # type: ignore[attr-defined]  # else all that were read are kept
                yield header
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
        raise error("is no tar file as it is, or is cut short (a compressed one must be unpacked)") from problem
    _check_end(stream, end, error)


def _check_end(stream: BinaryIO, end: int, error: type[QuadtokError]) -> None:
    """Behind the last file there are zeros and nothing else: what is cut between two files, or goes on, has others."""
    stream.seek(end)
    rest = stream.read(tarfile.BLOCKSIZE)
    if len(rest) < tarfile.BLOCKSIZE:
        raise error("is cut short: what was behind its last file is not there")
    while rest:
        if any(rest):
            raise error("goes on behind its end, as archives that were joined do: give each by itself")
        rest = stream.read(_CHUNK)
