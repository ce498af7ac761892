"""Plan streams of many images, read from one file (see plan_format.py) by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quadtok.errors import TokenFileError, about
from quadtok.files import reading
from quadtok.storage.plan_format import (
    PLAN,
    Entry,
    block_at,
    body_of,
    decode_entry,
    map_file,
    name_in,
    read_header,
    scanned_index,
    stored_index,
)
from quadtok.storage.plan_stream import PlanStream


class PlanStore:
    """The plan streams in a file, by the names of their images: `PlanStore("plans.qts")["cat/1.jpg"].plan(100)`.

    The file is mapped into memory and nothing of it is kept elsewhere, so that processes share it; a pickle holds the
    path alone. What is appended afterwards is seen when the file is opened again.

    Args:
        path: of a file that `quadtok tokenize --store plans` or `PlanWriter` wrote, which may still be at it.

    Raises:
        TokenFileError: one sentence that begins with the path; also later, for an image whose plans are damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with about(path), reading(self.path, TokenFileError) as stream:
            self._data = map_file(stream.fileno())
            self.header, begin = read_header(self._data)
            self._index = stored_index(self._data) or scanned_index(self._data, begin)[0]

    def __getitem__(self, name: str) -> PlanStream:
        """The stream of an image.

        Raises:
            KeyError: where there is none of this name.
        """
        return self.entry(name).stream

    def entry(self, name: str) -> Entry:
        """The image of this name, with the sha256 of its file.

        Raises:
            KeyError: where there is none of this name.
        """
        if (found := self.find(name)) is None:
            raise KeyError(name)
        return found

    def find(self, name: str) -> Entry | None:
        """The image of this name; None where there is none."""
        with about(self.path):
            entries = map(self._entry_at, self._index.candidates(name))
            return next((entry for entry in entries if entry.name == name), None)

    def entries(self) -> Iterator[Entry]:
        """All images, in the order of the file."""
        for begin in np.sort(self._index.begins):
            with about(self.path):
                entry = self._entry_at(int(begin))
            yield entry

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        with about(self.path):
            return any(self.name_at(begin) == name for begin in self._index.candidates(name))

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the file."""
        for begin in np.sort(self._index.begins):
            with about(self.path):
                name = self.name_at(int(begin))
            yield name

    def __len__(self) -> int:
        return len(self._index.begins)

    def __reduce__(self) -> tuple[type[PlanStore], tuple[Path]]:
        return PlanStore, (self.path,)

    def __repr__(self) -> str:
        return f"PlanStore({str(self.path)!r}: {len(self)} images)"

    def name_at(self, begin: int) -> str:
        """The name of the image whose block begins there."""
        return name_in(self._body_at(begin))

    def _entry_at(self, begin: int) -> Entry:
        return decode_entry(self._body_at(begin), self.header)

    def _body_at(self, begin: int) -> bytes:
        block = block_at(self._data, begin)
        if block is None or block.kind != PLAN:
            raise TokenFileError(f"damaged: there are no plans at byte {begin}")
        return body_of(self._data, block)
