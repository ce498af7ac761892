"""PNG: metadata that is not needed is dropped unseen, and transparent colours are found in the samples as stored.

Pillow inflates text and profiles while it looks for the pixels, and refuses the file where they are large; and it
compares a transparent level of 1-, 2-, 4- and 16-bit samples with pixels that it has scaled to 8 bits.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from quadtok.images.base import Layout, Prepared, to_eight_bits

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {
    0: ("gray", "none"),
    2: ("rgb", "none"),
    3: ("palette", "none"),
    4: ("gray", "straight"),
    6: ("rgb", "straight"),
}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
LAYOUTS = frozenset(
    [
        *(Layout(_COLORS[kind][0], bits, _COLORS[kind][1]) for kind, depths in _DEPTHS.items() for bits in depths),
        *(Layout(_COLORS[kind][0], bits, "key") for kind in (0, 2, 3) for bits in _DEPTHS[kind]),
    ]
)
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")  # inflated by Pillow, whatever they become
_LARGE = 65_536  # bytes of any other chunk that holds no pixels
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TURNED = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")
_XMP = b"XML:com.adobe.xmp\0"
_OLD_EXIF = b"Raw profile type exif\0"  # as ImageMagick wrote it before PNG had a chunk for it
_MOST_EXIF = 1 << 18
_MOST_XMP = 1 << 26
_PIECE = 1 << 16


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int  # of the chunk, its length included
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def content(self, data: bytes) -> memoryview:
        return memoryview(data)[self.start + 8 : self.end - 4]


def prepare(data: bytes) -> Prepared:
    """Read the chunks' headers; what is broken is left for Pillow to say."""
    chunks = list(_chunks(data))
    header = next((chunk.content(data) for chunk in chunks if chunk.kind == b"IHDR"), None)
    if header is None or len(header) < 13:
        return Prepared(data)
    bits, kind = header[8], header[9]
    if bits not in _DEPTHS.get(kind, ()):
        return Prepared(data)
    key = next((bytes(chunk.content(data)) for chunk in chunks if chunk.kind == b"tRNS"), b"")
    color, alpha = _COLORS[kind]
    layout = Layout(color, bits, "key" if key and alpha == "none" else alpha)
    dropped = [chunk for chunk in chunks if _can_go(chunk, data)]
    kept = _without(data, dropped)
    return Prepared(
        data=kept,
        layout=layout,
        turned=next(filter(None, (_orientation(chunk.content(data)) for chunk in dropped if chunk.kind == b"iTXt")), 1),
        finish=partial(_finish, layout=layout, key=key, data=kept),
    )


def _chunks(data: bytes) -> Iterator[_Chunk]:
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield _Chunk(kind, at, end)
        at = end


def _can_go(chunk: _Chunk, data: bytes) -> bool:
    """Whether the chunk holds nothing that is needed, and might cost something."""
    if chunk.kind == b"zTXt" and chunk.content(data)[: len(_OLD_EXIF)] == _OLD_EXIF and len(chunk) < _LARGE:
        return len(_inflated(chunk.content(data)[len(_OLD_EXIF) + 1 :], _MOST_EXIF)) == _MOST_EXIF
    return chunk.kind in _COMPRESSED or (chunk.kind not in _NEEDED and len(chunk) > _LARGE)


def _without(data: bytes, dropped: list[_Chunk]) -> bytes:
    if not dropped:
        return data
    view = memoryview(data)
    starts = [0, *(chunk.end for chunk in dropped)]
    ends = [*(chunk.start for chunk in dropped), len(data)]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))


def _orientation(content: memoryview) -> int | None:
    """The orientation that an XMP text (the content of an iTXt chunk) names, looked for piece by piece."""
    if content[: len(_XMP)] != _XMP or len(content) < len(_XMP) + 2:
        return None
    compressed = content[len(_XMP)]
    text = bytes(content[len(_XMP) + 2 :]).split(b"\0", 2)[-1]  # behind the language and the translated keyword
    before = b""
    for piece in _pieces(text) if compressed else [text]:
        if found := _TURNED.search(before + piece):
            return int(found[1])
        before = piece[-64:]
    return None


def _pieces(compressed: bytes) -> Iterator[bytes]:
    """The text inflated, up to `_MOST_XMP`, and never much of it at a time."""
    inflater, rest = zlib.decompressobj(), compressed
    for _ in range(_MOST_XMP // _PIECE):
        try:
            piece = inflater.decompress(rest, _PIECE)
        except zlib.error:
            return
        if not piece:
            return
        yield piece
        rest = inflater.unconsumed_tail


def _inflated(compressed: memoryview, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, most)
    except zlib.error:
        return b""


def _finish(image: Image.Image, layout: Layout, key: bytes, data: bytes) -> Image.Image:
    """Gray of 16 bits as 8 bits, and the transparent colour found among the samples as they are stored."""
    sixteen_gray = (layout.color, layout.bits, layout.alpha) in (("gray", 16, "none"), ("gray", 16, "key"))
    if layout.color == "palette" or not (sixteen_gray or layout.alpha == "key"):
        return image
    image.info.pop("transparency", None)
    if sixteen_gray:
        shown = Image.fromarray(to_eight_bits(np.asarray(image), 65535))
    else:
        shown = image.convert("L" if layout.color == "gray" else "RGB")
    channels = 1 if layout.color == "gray" else 3
    if layout.alpha != "key" or len(key) != 2 * channels:
        return shown
    largest = 2**layout.bits - 1
    transparent = np.frombuffer(key, ">u2") & largest  # the bits above the depth do not count
    if layout.bits == 16:
        samples = np.asarray(image) if channels == 1 else _sixteen_bits(image, data)
    else:
        samples = np.asarray(shown) // (255 // largest)  # Pillow scales by a whole number
    clear = (samples.reshape(*samples.shape[:2], channels) == transparent).all(axis=2)
    shown.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    return shown


def _sixteen_bits(high: Image.Image, data: bytes) -> NDArray[np.uint16]:
    """The RGB samples in full: Pillow keeps the first byte of each, and the second when told that it comes first."""
    with PngImageFile(BytesIO(data)) as again:
        again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
        low = np.asarray(again)
    return np.asarray(high).astype(np.uint16) * 256 + low
