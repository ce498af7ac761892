"""Qt's resource archives (`.rcc`): the names and the bytes of the files inside.

An archive is a header, a tree of nodes, a pool of names and a pool of data; every number is big-endian. The facts are
those of Qt's documentation of `rcc` and of its format versions 1 to 3.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC, VERSIONS = b"qres", (1, 2, 3)
ZLIB, FOLDER, ZSTD = 1, 2, 4  # flags of a node
NODE_BYTES = {1: 14, 2: 22, 3: 22}  # later ones end with the time of the last change


class RccError(ValueError):
    """An archive that cannot be read; the sentence says where it stops."""


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    Attributes:
        path: its folders and its name, joined by `/`.
        flags: of its node; says how the data are packed.
        data: as they lie in the archive.
    """

    path: str
    flags: int
    data: bytes

    def read(self) -> bytes:
        """The file's bytes, unpacked."""
        try:
            if self.flags & ZSTD:
                return subprocess.run(["zstd", "-dcq"], input=self.data, capture_output=True, check=True).stdout
            return zlib.decompress(self.data[4:]) if self.flags & ZLIB else self.data
        except (zlib.error, subprocess.CalledProcessError) as fault:
            raise RccError(
                f"{self.path}: its {len(self.data)} packed bytes are damaged; fetch the archive again"
            ) from fault


def entries(archive: bytes) -> list[Entry]:
    """All files of an archive, by path.

    Raises:
        RccError: it is no archive, is of an unknown version, or one of its offsets points outside.
    """
    if not archive.startswith(MAGIC):
        start = archive[: len(MAGIC)]
        raise RccError(f"not an .rcc archive: it begins with {start!r}, not {MAGIC!r}; give a file that Qt's rcc wrote")
    version, tree, data, names = _unpacked(">IIII", archive, len(MAGIC), "header")
    if version not in VERSIONS:
        raise RccError(f"an .rcc archive of version {version}, but only {VERSIONS} are known; fetch the listed package")
    return sorted(_Reader(archive, version, tree, data, names).files(0, "", set()), key=lambda entry: entry.path)


@dataclass(frozen=True)
class _Reader:
    archive: bytes
    version: int
    tree: int
    data: int
    names: int

    def files(self, number: int, folder: str, seen: set[int]) -> Iterator[Entry]:
        """What the node, or the nodes below it, hold. `seen` keeps a damaged tree from going in circles."""
        if number in seen:
            raise RccError(f"node {number} of the .rcc archive is its own ancestor or comes twice; fetch it again")
        seen.add(number)
        place = self.tree + number * NODE_BYTES[self.version]
        name, flags, first, second = _unpacked(">IHII", self.archive, place, f"node {number}")
        path = f"{folder}/{self._name(name)}".lstrip("/") if number else ""
        if flags & FOLDER:
            for child in range(second, second + first):
                yield from self.files(child, path, seen)
        else:  # `first` holds country and language
            yield Entry(path, flags, self._data(second, path))

    def _name(self, offset: int) -> str:
        length, _ = _unpacked(">HI", self.archive, self.names + offset, "name")
        return _part(self.archive, self.names + offset + 6, 2 * length, "name").decode("utf-16-be", "replace")

    def _data(self, offset: int, path: str) -> bytes:
        (size,) = _unpacked(">I", self.archive, self.data + offset, path)
        return _part(self.archive, self.data + offset + 4, size, path)


def _unpacked(form: str, archive: bytes, offset: int, what: str) -> tuple[int, ...]:
    return struct.unpack(form, _part(archive, offset, struct.calcsize(form), what))


def _part(archive: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(archive):
        raise RccError(
            f"{what}: bytes {offset} to {offset + size} of an .rcc archive of {len(archive)}; fetch it again"
        )
    return archive[offset : offset + size]
