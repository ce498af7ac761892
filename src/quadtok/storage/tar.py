"""The headers of a tar file that is not compressed, and whether it is whole; nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from quadtok.errors import QuadtokError

_CHUNK = 1 << 20  # bytes


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
