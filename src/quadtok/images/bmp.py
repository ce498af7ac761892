"""BMP: palettes of grays, which Pillow takes for gray samples of another depth than the file's."""

from __future__ import annotations

import struct
from functools import partial

from PIL import Image

from quadtok.images.base import Layout, Prepared

LAYOUTS = frozenset(
    [
        *(Layout("palette", bits) for bits in (1, 4, 8)),
        *(Layout("rgb", 5), Layout("rgb", 6), Layout("rgb", 8), Layout("rgb", 8, "straight")),
    ]
)
_HEADERS = (40, 52, 56, 64, 108, 124)


def prepare(data: bytes) -> Prepared:
    """Read the header; what is broken is left for Pillow to say."""
    try:
        (header,) = struct.unpack_from("<I", data, 14)
        small = header == 12
        (bits,) = struct.unpack_from("<H", data, 24 if small else 28)
        colors = 0 if small else struct.unpack_from("<I", data, 46)[0]
    except struct.error:
        return Prepared(data)
    colors = colors or 1 << bits
    # Pillow takes a palette of two grays for samples of one bit, and another one for samples of eight.
    right = (bits, colors) == (1, 2) or (bits == 8 and colors > 2)
    if not (small or header in _HEADERS) or bits not in (1, 4, 8) or right:
        return Prepared(data)
    size = 3 if small else 4
    begin = 14 + header
    palette = data[begin : begin + size * min(colors, 1 << bits)]
    entries = [palette[at : at + 3] for at in range(0, len(palette) - 2, size)]
    if len(entries) < 1 or any(len(set(entry)) > 1 for entry in entries):
        return Prepared(data)  # Pillow takes a palette with a colour as it is
    colorful = b"\x01\x02\x03" + data[begin + 3 :]
    true = b"".join(entry[::-1] for entry in entries)
    return Prepared(data[:begin] + colorful, Layout("palette", bits), finish=partial(_with_palette, palette=true))


def _with_palette(image: Image.Image, palette: bytes) -> Image.Image:
    image.putpalette(palette)
    return image
