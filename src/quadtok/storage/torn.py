"""Telling a torn end of a file of blocks from a block whose length is wrong."""

from __future__ import annotations

import mmap
import struct
import zlib

_PIECE = 1 << 16  # bytes


def has_whole_block(data: mmap.mmap | bytes, begin: int, kind: bytes, head: struct.Struct) -> bool:
    """Whether a block of this kind with the right checksum begins anywhere from here on: then nothing here was torn.

    Args:
        data: of the file.
        begin: where to look from.
        kind: the letters that it begins with.
        head: of a block: kind, length and crc32 of its body.
    """
    while (begin := data.find(kind, begin)) >= 0 and begin + head.size <= len(data):
        _, length, crc32 = head.unpack_from(data, begin)
        body, begin = begin + head.size, begin + 1
        if body + length <= len(data) and zlib.crc32(data[body : body + length]) == crc32:
            return True
    return False


def is_all_zeros(data: mmap.mmap | bytes, begin: int) -> bool:
    """Whether nothing but zeros follows; looked at in pieces, up to the first that holds something else."""
    return not any(data[at : at + _PIECE].strip(b"\0") for at in range(begin, len(data), _PIECE))
