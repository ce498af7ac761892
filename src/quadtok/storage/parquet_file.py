"""Parquet files, opened carefully. It is the extra `parquet`; loads nothing before it is asked."""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quadtok.errors import InputError, QuadtokError
from quadtok.files import reading

KEY, FACTS = "key", "facts"  # columns of each table of samples, beside one of the others
LAYOUT, PLAN = "layout", "plan"
_BUFFER = 1 << 20  # bytes of a file that are read at once
_MISSING = "Parquet files are an extra: pip install 'quadtok[parquet]'"


def check_parquet() -> None:
    """Refuse where the extra is missing, by an `InputError`. Nothing is loaded for it."""
    if find_spec("pyarrow") is None:
        raise InputError(_MISSING)


def open_parquet(path: Path, error: type[QuadtokError]) -> Any:
    """The file, closed when nobody has it any more.

    Raises:
        error: of this type, where it cannot be opened, is no Parquet file, or the extra is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as problem:
        raise error(_MISSING) from problem
    with reading(path, error):
        pass  # says why it cannot be, in our words
    try:
        stream = pa.OSFile(os.fsencode(path))
        return pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)
    except Exception as problem:  # pyarrow has a type of its own for each fault, and shares others with Python
        raise error("is no Parquet file, or is damaged or cut short") from problem


def has_samples(columns: Collection[str]) -> bool:
    """Whether a table of these columns holds samples of quadtok."""
    return KEY in columns and FACTS in columns and (LAYOUT in columns or PLAN in columns)


def holds_samples(path: Path) -> bool:
    """Likewise, of a file; of one that cannot be opened it is not known."""
    try:
        return has_samples(open_parquet(path, InputError).schema_arrow.names)
    except QuadtokError:
        return False
