"""Samples in Parquet files: a row each, in columns that need no quadtok to be understood.

    key, name                text: the sample's, and its image's
    num_tokens               int32
    patches, dtype, shape    the pixels as bytes, their dtype as numpy calls it, and [N, C, p, p]; absent: layout only
    layout                   list of int32, flat: (y, x, scale) of each token
    plan, minima             or these: lists of uint32, and of float32 or float16
    facts                    text: the JSON of sample.py

Pixels are bytes, since Parquet knows no numbers of one byte: 200 samples as a list of them took four times as long to
write, four times as long to read (eight times by Hugging Face's datasets), and 18 % more room than compressed bytes.

Samples gather in groups of rows, of which one is in memory while it is written, and at most two while they are read.
Nothing depends on the clock. All of a file is compressed (zstd), and each page has a checksum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quadtok.errors import QuadtokError, TokenFileError
from quadtok.names import PARQUET_SUFFIX
from quadtok.storage.container import Held, Members, Place, Writable
from quadtok.storage.npy import decode_npy, encode_npy
from quadtok.storage.parquet_file import FACTS, KEY, has_samples, open_parquet
from quadtok.storage.sample import JSON, LAYOUT, MINIMA, PATCHES, PLAN, facts_of

GROUP_BYTES = 8 << 20  # of samples: a group is written when it has as many; Arrow has a copy of it meanwhile
MOST_BYTES = 2 << 30  # of a group that is read: as many as one value can have
_PIECE = 16  # rows
_ENDINGS = {"patches": PATCHES, "layout": LAYOUT, "plan": PLAN, "minima": MINIMA, FACTS: JSON}  # by their columns
_COLUMNS = (KEY, "name", "num_tokens", "dtype", "shape", *_ENDINGS)
_DAMAGED = "is damaged, or cut short"


@dataclass(frozen=True)
class RowPlace:
    """Where a sample lies in a Parquet file.

    Attributes:
        shard: the file.
        key: of the sample.
        endings: of its members.
        group: of rows.
        row: its number in the group.
    """

    shard: Path
    key: str
    endings: tuple[str, ...]
    group: int
    row: int

    def read(self, endings: Collection[str] | None, held: Held) -> dict[str, bytes]:
        """See `Place`. All columns are held to what the facts say where all are read."""
        columns = None if endings is None else tuple(name for name, ending in _ENDINGS.items() if ending in endings)
        group = held.of((self.shard, self.group, columns), lambda: _group(self.shard, self.group, columns))
        try:
            members = _members({name: values[self.row] for name, values in group.items()})
        except QuadtokError:
            raise
        except Exception as problem:  # a column of another type, or text that is none
            raise TokenFileError(f"the row of {self.key} is damaged, or no sample of quadtok") from problem
        return members


class ParquetWriter:
    """See `Writer`."""

    def __init__(self, stream: Writable) -> None:
        self._stream = _Lent(stream)
        self._file: Any = None
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, key: str, members: Members) -> None:
        """See `Writer`."""
        self._rows.append(_row(key, members))
        self._bytes += sum(map(len, members.values()))
        if self._bytes >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """See `Writer`."""
        if self._rows:
            self._write_group()
        if self._file is not None:
            self._file.close()

    def abandon(self) -> None:
        """See `Writer`. Arrow's would write its end once it is forgotten, to a stream that is closed by then."""
        self._stream.take_back()
        if self._file is not None:
            with contextlib.suppress(Exception):  # it may be what failed
                self._file.close()

    def indexes(self) -> Mapping[str, bytes]:
        """See `Writer`."""
        return {}

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(
                self._stream, _schema(self._rows[0]), compression="zstd", compression_level=1,
                use_dictionary=False, write_statistics=[KEY, "name"], write_page_checksum=True,
            )  # fmt: skip
        self._file.write_table(pa.Table.from_pylist(self._rows, self._file.schema), len(self._rows))
        self._rows, self._bytes = [], 0


class _Lent:
    """A stream as Arrow wants one, which does not close it, and can be told to leave it alone."""

    closed = False

    def __init__(self, stream: Writable) -> None:
        self.write, self.tell = stream.write, stream.tell

    def take_back(self) -> None:
        """What is written from now on goes nowhere."""
        self.write = len

    def flush(self) -> None:
        """Whoever has the stream does."""

    def close(self) -> None:
        """Likewise."""


class ParquetContainer:
    """See `Container`."""

    suffix = PARQUET_SUFFIX
    beside = ()

    def writer(self, stream: Writable) -> ParquetWriter:
        """See `Container`."""
        return ParquetWriter(stream)

    def places(self, path: Path) -> list[Place]:
        """See `Container`; of all columns the keys are read."""
        file = open_parquet(path, TokenFileError)
        columns = file.schema_arrow.names
        if not has_samples(columns):
            raise TokenFileError(
                f"is no shard: samples of quadtok have the columns {KEY} and {FACTS}, and tokens or plans"
            )
        endings = tuple(_ENDINGS[name] for name in columns if name in _ENDINGS)
        try:
            groups = (file.read_row_group(group, [KEY], use_threads=False) for group in range(file.num_row_groups))
            keys = [group[KEY].to_pylist() for group in groups]
        except Exception as problem:  # pyarrow has a type of its own for each fault, and shares others with Python
            raise TokenFileError(_DAMAGED) from problem
        return [
            RowPlace(path, str(key), endings, group, row) for group, of_group in enumerate(keys)
            for row, key in enumerate(of_group)
        ]  # fmt: skip

    def indexes(self, path: Path) -> Mapping[str, bytes]:
        """See `Container`."""
        return {}


def _group(path: Path, group: int, columns: Collection[str] | None) -> dict[str, Any]:
    """Columns of a group, or all of a sample's; a few rows at a time, as a small file may hold more than there is room.

    Raises:
        TokenFileError: where it does, or cannot be read.
    """
    import pyarrow as pa

    file, batches, size = open_parquet(path, TokenFileError), [], 0
    names = [name for name in file.schema_arrow.names if name in (_COLUMNS if columns is None else columns)]
    try:
        for batch in file.iter_batches(_PIECE, row_groups=[group], columns=names, use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > MOST_BYTES:
                raise TokenFileError(
                    f"a group of its rows has more than {MOST_BYTES >> 20} MiB, and would be in memory at once: write "
                    "the file anew in smaller groups (row_group_size)"
                )
        return {name: pa.chunked_array([batch[name] for batch in batches]) for name in names}
    except QuadtokError:
        raise
    except Exception as problem:
        raise TokenFileError(_DAMAGED) from problem


def _row(key: str, members: Members) -> dict[str, Any]:
    """A sample as the values of its columns, in their order."""
    row: dict[str, Any] = {KEY: key, **_told(facts_of(members))}
    shape = row.pop("shape", None)
    for column, ending in _ENDINGS.items():
        if ending in members and ending != JSON:
            row[column] = decode_npy(members[ending])
        if column == "patches" and column in row:
            row |= {column: row[column].tobytes(), "dtype": row[column].dtype.name, "shape": shape}
    return {**row, FACTS: members[JSON].decode()}


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What columns say once more that the facts say already."""
    shapes = facts.get("shapes", {})
    told = {"name": facts["name"]}
    if "layout" in shapes:
        told["num_tokens"] = shapes["layout"][0]
    if "patches" in shapes:
        told["shape"] = shapes["patches"]
    return told


def _members(row: Mapping[str, Any]) -> dict[str, bytes]:
    """The other way round, of Arrow's values."""
    members = {}
    for column, ending in _ENDINGS.items():
        if column not in row or not row[column].is_valid:
            continue
        if column == FACTS:
            members[ending] = row[column].as_py().encode()
        elif column == "patches":
            members[ending] = encode_npy(np.frombuffer(row[column].as_buffer(), row["dtype"].as_py()))
        else:
            members[ending] = encode_npy(_numbers(row[column]))
    told = {} if KEY not in row else _told(facts_of(members))
    if any(row[column].as_py() != value for column, value in told.items()):
        raise TokenFileError(f"the columns of {row[KEY].as_py()} say something else than its facts")
    return members


def _numbers(values: Any) -> Any:
    """A list as numpy has it; numbers without sign in as few bytes as they take, which is how plans have them."""
    numbers = values.values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "u":
        numbers = numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))
    return numbers.astype(numbers.dtype.newbyteorder("<"))


def _schema(row: Mapping[str, Any]) -> Any:
    """The types of the columns of a row."""
    import pyarrow as pa

    of_lists = {"shape": pa.int32(), "layout": pa.int32(), "plan": pa.uint32()}
    if "minima" in row:
        of_lists["minima"] = pa.from_numpy_dtype(row["minima"].dtype)
    types = {KEY: pa.string(), "name": pa.string(), "num_tokens": pa.int32(), "patches": pa.binary()}
    types |= {"dtype": pa.string(), FACTS: pa.string(), **{name: pa.list_(kind) for name, kind in of_lists.items()}}
    return pa.schema([pa.field(name, types[name]) for name in row])
