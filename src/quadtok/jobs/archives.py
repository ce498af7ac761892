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
from posixpath import join, normpath

from quadtok.errors import ImageError, InputError, about
from quadtok.files import reading
from quadtok.jobs.walk import Refusal
from quadtok.storage.tar import headers_in

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
    """A file in an archive, and its name there."""

    name: PurePosixPath
    inside: Slice


@dataclass(frozen=True)
class _Link:
    """A symbolic link in an archive, and the name in the archive that it leads to."""

    name: PurePosixPath
    target: str


_Items = dict[str, Member | Refusal | _Link]


def members_of(archive: Path, suffixes: frozenset[str]) -> Iterator[Member | Refusal]:
    """The files with these endings in a tar, in its order; of two of one name the later, as unpacking would leave it.

    A link is the file of the archive that it leads to. Refused is a link that leads elsewhere, a name that would lead
    out of the folder where outputs go, what is sparse, and the rest of an archive that ends too early or goes on behind
    its end.
    """
    found: _Items = {}
    problem: Refusal | None = None
    try:
        with about(archive), reading(archive, InputError) as stream:
            for header in headers_in(stream, InputError):
                if PurePosixPath(header.name).suffix.lower() in suffixes:
                    _take(archive, header, found)
    except InputError as raised:
        problem = Refusal(archive, raised)
    for item in found.values():
        yield _followed(archive, item, found) if isinstance(item, _Link) else item
    if problem is not None:
        yield problem


def _take(archive: Path, header: tarfile.TarInfo, found: _Items) -> None:
    name = PurePosixPath(header.name)
    if not (header.isreg() or header.islnk() or header.issym()):
        return
    if name.is_absolute() or ".." in name.parts:
        item: Member | Refusal | _Link = _refused(
            archive / name.name, archive, name, "leads out of the folder that it is in"
        )
    elif header.issparse():
        item = _refused(archive / name, archive, name, "is sparse, with holes: pack it without them")
    elif header.issym():
        item = _Link(name, normpath(join(name.parent, header.linkname)))
    elif header.islnk():  # to what came before: a later file of that name is another
        item = _linked(archive, name, header.linkname, found.get(normpath(header.linkname)))
    else:
        item = Member(name, Slice(archive, header.offset_data, header.size))
    found[normpath(name)] = item


def _followed(archive: Path, link: _Link, found: _Items) -> Member | Refusal:
    item: Member | Refusal | _Link | None = link
    for _ in range(_MOST_LINKS):
        if not isinstance(item, _Link):
            break
        item = found.get(item.target)
    return _linked(archive, link.name, link.target, item)


def _linked(archive: Path, name: PurePosixPath, target: str, item: Member | Refusal | _Link | None) -> Member | Refusal:
    if isinstance(item, Member):
        return Member(name, item.inside)
    return _refused(archive / name, archive, name, f"is a link to {target}, which is no image in it")


def _refused(path: Path, archive: Path, name: PurePosixPath, why: str) -> Refusal:
    return Refusal(path, InputError(f"{archive}: {name} {why}"))
