"""AVIF: a crop that the file asks for (property clap), which Pillow does not apply."""

from __future__ import annotations

import struct
from functools import partial

from PIL import Image

from quadtok.images.base import Prepared, unsupported

MAGIC = (b"ftypavif", b"ftypavis")  # behind the four bytes of the box's length
_CROP = b"\0\0\0\x28clap"


def prepare(data: bytes) -> Prepared:
    """Look for the property; what is broken is left for Pillow to say."""
    begin, end = data.find(b"meta"), data.find(b"mdat")
    at = data.find(_CROP, max(begin, 0), end if end > begin else len(data))
    if at < 0 or at + 40 > len(data):
        return Prepared(data)
    return Prepared(data, finish=partial(_finish, crop=struct.unpack_from(">8I", data, at + 8)))


def _finish(image: Image.Image, crop: tuple[int, ...]) -> Image.Image:
    (width, per_width), (height, per_height) = crop[:2], crop[2:4]
    if (width, height) != (image.width * per_width, image.height * per_height):
        raise unsupported("AVIF that shows a part of what it stores (property clap)")
    return image
