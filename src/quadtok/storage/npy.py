"""Flat arrays as numpy's files: what numpy and every reader of shards opens, and here is read to the letter."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadtok.errors import TokenFileError

# How it begins: 8 bytes, the length of what follows of the header, and a dict as text.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)"
    rb"\{'descr': '([|<][ui][1248]|<f[248])', 'fortran_order': False, 'shape': \((\d{1,15}),\), \} *\n",
    re.DOTALL,
)


def encode_npy(array: NDArray[Any]) -> bytes:
    """An array as numpy writes it, flat."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array.reshape(-1), (1, 0), allow_pickle=False)
    return stream.getvalue()


def decode_npy(data: bytes) -> NDArray[Any]:
    """What `encode_npy` wrote, to the letter: nothing is evaluated, and nothing taken that the bytes do not hold.

    Raises:
        TokenFileError: where it is something else.
    """
    header = _HEADER.match(data)
    if header is not None and header.end() == header.end(1) + int.from_bytes(header[1], "little"):
        dtype, count = np.dtype(header[2].decode()), int(header[3])
        if len(data) - header.end() == count * dtype.itemsize:
            return np.frombuffer(data, dtype, offset=header.end())
    raise TokenFileError("holds an array that cannot be read")
