"""Images inside Parquet files: each row is an input of its own.

A row cannot be read alone: a group of rows can, from its beginning on. So rows are read some at a time, while those
that were read last are held: inputs that are asked for in their order cost each group one reading. It is the extra
`parquet`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from quadtok.errors import ImageError, InputError, QuadtokError, about
from quadtok.jobs.walk import Refusal
from quadtok.names import IMAGE_SUFFIXES
from quadtok.storage.parquet_file import has_samples, open_parquet

IMAGE_COLUMNS = ("image", "img", "bytes")  # where the images are; else a column that is called like an ending
NAME_COLUMNS = ("path", "file_name", "name", "id", "__key__")  # what they are called
BYTES, PATH = "bytes", "path"  # the fields of an image of Hugging Face's
PIECE, MOST_HELD = 16, 160  # rows that are read at once, and that are held: more than inputs are on their way at a time

Item = tuple[PurePosixPath, "Row"] | Refusal
Piece = Sequence[bytes | None]


@dataclass(frozen=True)
class Row:
    """Where an image lies in a Parquet file.

    Attributes:
        archive: the file.
        column: of the images, with a dot before a field of it.
        group: of rows.
        number: in the group.
        pieces: what was read last, for all rows of a run.
    """

    archive: Path
    column: str
    group: int
    number: int
    pieces: Pieces = field(compare=False, repr=False)

    def read(self) -> bytes:
        """The bytes.

        Raises:
            ImageError: where the file cannot be read up to there, or the row has none.
        """
        data = self.pieces.holding(self)[self.number % PIECE]
        if data is None:
            raise ImageError(f"there is nothing in the column {self.column}: the image itself must be in the file")
        return data


class Pieces:
    """The rows that were read last, for any thread. A pickle of it is empty."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[tuple[Path, int, int], Piece] = {}
        self._groups: list[_Group] = []

    def __reduce__(self) -> tuple[type[Pieces], tuple[()]]:
        return Pieces, ()

    def holding(self, row: Row) -> Piece:
        """The piece that this row is in.

        Raises:
            ImageError: where the file cannot be read up to there.
        """
        number = row.number // PIECE
        key = (row.archive, row.group, number)
        with self._lock:
            while key not in self._held:
                self._hold(self._coming_to(row, number))
            return self._held[key]

    def _coming_to(self, row: Row, number: int) -> _Group:
        """The group where it is read to no further than this piece.

        Two are open: where threads ask, the first row of one may be asked for before the last of the one before it.
        """
        for group in self._groups:
            if group.comes_to(row, number):
                return group
        self._groups = [*self._groups[-1:], _Group(row)]
        return self._groups[-1]

    def _hold(self, group: _Group) -> None:
        at = (group.archive, group.group, group.next)
        self._held[at] = group.read()
        while sum(map(len, self._held.values())) > MOST_HELD:
            del self._held[next(iter(self._held))]


class _Group:
    """A group of rows, read from its beginning on."""

    def __init__(self, row: Row) -> None:
        self.archive, self.group, self.next = row.archive, row.group, 0
        self._pieces = _pieces(row)
        self._problem = ""

    def comes_to(self, row: Row, number: int) -> bool:
        """Whether this piece of the row's group is still to come."""
        return (self.archive, self.group) == (row.archive, row.group) and self.next <= number

    def read(self) -> Piece:
        """The next piece. Behind a place that cannot be read nothing can."""
        if self._problem:
            raise ImageError(self._problem)
        try:
            piece = next(self._pieces)
        except QuadtokError as problem:
            self._problem = str(problem)
            raise
        except StopIteration:
            self._problem = "the file has fewer rows than before"
            raise ImageError(self._problem) from None
        self.next += 1
        return piece


def _pieces(row: Row) -> Iterator[Piece]:
    """The values of a group's images, `PIECE` rows at a time."""
    file, held = open_parquet(row.archive, ImageError), list[bytes | None]()
    try:
        for batch in file.iter_batches(PIECE, row_groups=[row.group], columns=[row.column], use_threads=False):
            (values,) = batch.columns
            held += (values.flatten()[0] if "." in row.column else values).to_pylist()
            while len(held) >= PIECE:  # a batch may be shorter
                yield held[:PIECE]
                held = held[PIECE:]
        if held:
            yield held
    except Exception as problem:  # pyarrow has a type of its own for each fault, and shares others with Python
        raise ImageError("the file is damaged, or cut short") from problem


def rows_of(archive: Path, pieces: Pieces) -> Iterator[Item]:
    """The rows of a Parquet file with their names, in its order, and why others are not read.

    Refused are names that would lead out of a folder, and a file that is none, or has no images.
    """
    try:
        with about(archive):
            file = open_parquet(archive, InputError)
            column = _column_of_images({column.name: column.type for column in file.schema_arrow})
            names = _distinct(_names(file, column))
    except InputError as problem:
        yield Refusal(archive, problem)
        return
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    places = ((group, number) for group, size in enumerate(sizes) for number in range(size))
    for row, (name, (group, number)) in enumerate(zip(names, places, strict=True)):
        if problem_of_name := _problem(name):
            yield Refusal(archive / f"row {row}", InputError(f"{archive}: row {row}: {problem_of_name}"))
        else:
            yield name, Row(archive, column, group, number, pieces)


def _problem(name: PurePosixPath) -> str:
    if name.is_absolute() or ".." in name.parts:
        return f"{name} leads out of the folder that it is in"
    return "its name has a NUL in it" if "\0" in str(name) else ""


def _distinct(names: Sequence[PurePosixPath]) -> Sequence[PurePosixPath]:
    """The names, below the number of each row where they are not all different."""
    if len(set(names)) == len(names):
        return names
    return [PurePosixPath(f"{row:06d}") / name for row, name in enumerate(names)]


def _names(file: Any, images: str) -> list[PurePosixPath]:
    """What each row is called; one that has no name by its number."""
    kinds = {column.name: column.type for column in file.schema_arrow}
    own, _, is_struct = images.partition(".")
    columns = [f"{own}.{PATH}"] if is_struct and PATH in {part.name for part in kinds[own]} else []
    columns += [name for name in NAME_COLUMNS if name in kinds and kinds[name].num_fields == 0][:1]
    given = [_texts(file, column) for column in columns]
    return [_path(texts, row) for row, texts in enumerate(zip(*given, strict=True))] or [
        PurePosixPath(f"{row:06d}") for row in range(file.metadata.num_rows)
    ]


def _path(texts: Sequence[str], row: int) -> PurePosixPath:
    named = (PurePosixPath(text) for text in texts if text)
    return next((path for path in named if path.parts), PurePosixPath(f"{row:06d}"))


def _texts(file: Any, column: str) -> list[str]:
    """A column as text, empty where a row has none; numbers are written out."""
    import pyarrow as pa

    try:
        (values,) = file.read([column], use_threads=False).columns
        values = pa.chunked_array([chunk.flatten()[0] for chunk in values.chunks]) if "." in column else values
        data = values.cast(pa.large_string(), safe=False).cast(pa.large_binary()).to_pylist()
    except Exception as problem:
        raise InputError("the file is damaged, or cut short") from problem
    return [os.fsdecode(text or b"") for text in data]


def _column_of_images(kinds: Mapping[str, Any]) -> str:
    """The column of images: by its name, or the only one that is as Hugging Face's are."""
    endings = [name for name in kinds if f".{name.lower()}" in IMAGE_SUFFIXES]
    for name in (*IMAGE_COLUMNS, *endings):
        if name in kinds and (found := _bytes_in(name, kinds[name])):
            return found
    structs = [found for name, kind in kinds.items() if "." in (found := _bytes_in(name, kind))]
    if len(structs) == 1:
        return structs[0]
    if has_samples(kinds):
        raise InputError("holds tokens or plans that quadtok made, and no images: give the images themselves")
    expected = f"bytes, or Hugging Face's struct of them, called {', '.join(IMAGE_COLUMNS)}, jpg, png or another ending"
    raise InputError(f"has no column of images: expected {expected}; it has {', '.join(kinds) or 'no columns'}")


def _bytes_in(name: str, kind: Any) -> str:
    """How pyarrow calls what has the bytes in a column, empty if nothing has."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = {part.name: part.type for part in kind}
        return f"{name}.{BYTES}" if "." not in name and BYTES in fields and _bytes_in(name, fields[BYTES]) else ""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return name if any(test(kind) for test in tests) else ""
