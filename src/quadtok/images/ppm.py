"""PBM, PGM and PPM, plain and binary. What else begins with a P and is opened by Pillow is refused by name."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from quadtok.images.base import Prepared, to_eight_bits, unsupported

MAGIC = tuple(b"P" + kind for kind in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"F", b"f", b"y"))
_UNREAD = re.compile(rb"(P7|PF|Pf|P0CMYK|PyP|PyRGBA|PyCMYK)\s")


def prepare(data: bytes) -> Prepared:
    """Look at the magic number alone.

    Raises:
        ImageError: a relative of the PPM that is not read.
    """
    if found := _UNREAD.match(data):
        float_map = found[1] in (b"PF", b"Pf")
        raise unsupported("a PFM image (32-bit floating-point numbers)" if float_map else f"{found[1].decode()} images")
    return Prepared(data, finish=_finish)


def _finish(image: Image.Image) -> Image.Image:
    """Pillow scales every maximum to 255 or, of gray, to 65535."""
    return Image.fromarray(to_eight_bits(np.asarray(image), 65535)) if image.mode.startswith("I") else image
