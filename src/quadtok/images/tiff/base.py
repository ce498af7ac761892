"""The integer tags of a TIFF's pages, and where in the file they stand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from quadtok.errors import ImageError

_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}  # of integers
_MOST_PAGES = 100_000


class Tag(IntEnum):
    """The tags that matter here, by their numbers."""

    SUB_FILE = 254
    SUB_FILE_OLD = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    COUNTS = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_IFDS = 330
    INK_SET = 332
    EXTRA = 338
    FORMAT = 339
    DNG = 50706


_MEANT = frozenset(Tag)


@dataclass(frozen=True)
class Tags:
    """The integer tags of a page that matter here: their values, and where in the file the entry of each begins."""

    values: dict[int, tuple[int, ...]]
    entries: dict[int, int]

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag, or what the standard says where it is absent."""
        return self.values.get(tag, (default,))[0]


class File:
    """Where the pages stand. Classic TIFF and BigTIFF differ in the widths of their numbers alone."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = b"\x2b" in data[2:4]
        self.word, self.count, self.room, self.entry = ("Q", "Q", 8, 20) if self.big else ("I", "H", 4, 12)
        self.first = self._number(self.word, self.room)

    @property
    def big_endian_bigtiff(self) -> bool:
        """Whether it is the kind of file that Pillow does not recognise."""
        return self.big and self.order == ">"

    def _number(self, kind: str, at: int) -> int:
        number: int = struct.unpack_from(self.order + kind, self.data, at)[0]
        return number

    def _entries(self, at: int) -> range:
        begin = at + struct.calcsize(self.count)
        return range(begin, begin + self.entry * self._number(self.count, at), self.entry)

    def tags(self, at: int) -> Tags:
        """The tags of the page whose directory stands there.

        Raises:
            struct.error: the directory reaches beyond the end of the file.
            ImageError: a value does.
        """
        values: dict[int, tuple[int, ...]] = {}
        entries: dict[int, int] = {}
        for entry in self._entries(at):
            tag, kind = struct.unpack_from(self.order + "HH", self.data, entry)
            if tag not in _MEANT or tag in entries:
                continue
            entries[tag] = entry
            if kind in _TYPES:
                values[tag] = self._values(entry, _TYPES[kind])
        return Tags({tag: found for tag, found in values.items() if found}, entries)

    def _values(self, entry: int, layout: str) -> tuple[int, ...]:
        number, place = self._number(self.word, entry + 4), entry + 4 + self.room
        size = number * struct.calcsize(layout)
        start = place if size <= self.room else self._number(self.word, place)
        if start + size > len(self.data):
            raise ImageError("broken image data")
        return struct.unpack_from(f"{self.order}{number}{layout}", self.data, start)

    def pages(self) -> int:
        """How many pages follow each other."""
        seen: set[int] = set()
        at = self.first
        while at and at not in seen and len(seen) < _MOST_PAGES:
            try:
                after = self._number(self.word, self._entries(at).stop)
            except struct.error:
                break
            seen.add(at)
            at = after
        return max(1, len(seen))

    def changed(self, tags: Tags, changes: dict[Tag, int]) -> bytes:
        """The file with other values of tags that stand in it, each one 16-bit number."""
        if not changes:
            return self.data
        patched = bytearray(self.data)
        for tag, value in changes.items():
            entry = tags.entries[tag]
            struct.pack_into(f"{self.order}HH{self.word}H", patched, entry, tag, 3, 1, value)
        return bytes(patched)


def in_planes(tags: Tags) -> bool:
    """Whether the samples of each kind stand together, and not those of each pixel."""
    return tags.one(Tag.PLANAR, 1) == 2 and tags.one(Tag.SAMPLES, 1) > 1
