"""JPEG 2000: what the boxes and the codestream's header say of the channels.

Pillow scales samples to 8 bits by shifting: below 8 bits white stays gray, and above 8 bits the lightest colours become
black. It takes any second or fourth channel for alpha, and alpha for not multiplied. So the channels are read here
first; colours of more than 8 bits are decoded by imagecodecs (`pip install quadtok[formats]`) or refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quadtok.errors import ImageError
from quadtok.images.base import (
    Layout,
    OwnDecoder,
    Prepared,
    assembled,
    listed,
    to_eight_bits,
    unmultiplied,
    unsupported,
)

READ_BY_PILLOW = frozenset(
    [
        *(Layout("gray", bits) for bits in range(1, 17) if bits != 9),  # Pillow takes 9 bits for 8
        *(Layout("gray", bits, alpha) for bits in range(1, 9) for alpha in ("straight", "premultiplied", "unsaid")),
        *(Layout("rgb", bits) for bits in range(1, 9)),
        *(Layout("rgb", bits, alpha) for bits in range(1, 9) for alpha in ("straight", "premultiplied", "unsaid")),
        *(Layout("ycbcr", 8), Layout("cmyk", 8), Layout("palette", 8)),
    ]
)
READ_BY_IMAGECODECS = frozenset(
    [
        Layout("gray", 9),
        *(Layout("rgb", bits) for bits in range(9, 17)),
        *(
            Layout(color, bits, alpha)
            for color in ("gray", "rgb")
            for bits in range(9, 17)
            for alpha in ("straight", "premultiplied", "unsaid")
        ),
    ]
)
_CODESTREAM = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_ENUMERATED = {12: "cmyk", 16: "rgb", 17: "gray", 18: "ycbcr"}
_PROFILES = {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}
_CHANNELS = {"gray": 1, "rgb": 3, "ycbcr": 3, "cmyk": 4}
_WHOLE_IMAGE = 0  # what an alpha channel belongs to
_OPACITY = {1: "straight", 2: "premultiplied"}


@dataclass(frozen=True)
class _Header:
    """Of the codestream: (width, height), and of each component (bits, signed, step across, step down)."""

    size: tuple[int, int]
    components: list[tuple[int, bool, int, int]]


def prepare(data: bytes) -> Prepared:
    """Read boxes and header; what is broken is left for Pillow to say.

    Raises:
        ImageError: a layout that quadtok does not read, with the reason.
    """
    try:
        boxes = dict(_boxes(data)) if not data.startswith(_CODESTREAM) else {b"jp2c": memoryview(data)}
        codestream = boxes[b"jp2c"]
        header = _header(codestream)
        layout = _layout(boxes, header)
    except (struct.error, KeyError, IndexError):
        return Prepared(data)
    if _END not in bytes(codestream):  # where no tile follows the header, decoders show what lay in memory
        raise ImageError("truncated image")
    if layout in READ_BY_PILLOW:
        return Prepared(data, layout, finish=partial(_finish, layout=layout))
    if layout not in READ_BY_IMAGECODECS:
        raise unsupported(f"JPEG 2000: {layout}")
    return Prepared(
        data, layout, decode=OwnDecoder("JPEG2000", header.size, 1, partial(_own_image, data, layout, header))
    )


def _boxes(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[tuple[bytes, memoryview]]:
    """The boxes, and of the header box those inside; the first of each kind comes last, so that a dict keeps it."""
    view, found = memoryview(data), []
    end, at = len(data) if end is None else end, begin
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        content = at + 8
        if length == 1:
            length, content = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        after = end if length == 0 else at + length
        if after < content or after > end:
            if kind != b"jp2c":
                break
            after = end  # cut short: Pillow says so
        found.append((kind, view[content:after]))
        if kind == b"jp2h":
            found += list(_boxes(data, content, after))
        at = after
    yield from reversed(found)


def _header(codestream: memoryview) -> _Header:
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    (count,) = struct.unpack_from(">H", codestream, 40)
    components = []
    for at in range(42, 42 + 3 * count, 3):
        kind, across, down = struct.unpack_from(">3B", codestream, at)
        components.append(((kind & 0x7F) + 1, bool(kind & 0x80), across, down))
    return _Header((right - left, bottom - top), components)


def _layout(boxes: dict[bytes, memoryview], header: _Header) -> Layout:
    bits = header.components[0][0]
    if b"ihdr" in boxes and struct.unpack_from(">H", boxes[b"ihdr"], 8)[0] != len(header.components):
        raise ImageError("broken image data")
    if any(signed for _, signed, _, _ in header.components):
        raise unsupported("JPEG 2000 with signed samples")
    if len({depth for depth, _, _, _ in header.components}) > 1:
        depths = listed([depth for depth, _, _, _ in header.components])
        raise unsupported(f"JPEG 2000 with channels of {depths} bits")
    if any((across, down) != (1, 1) for _, _, across, down in header.components):
        raise unsupported("JPEG 2000 with subsampled channels")
    count = len(header.components)
    if b"pclr" in boxes:
        return _palette(boxes, bits, count)
    color = _color(boxes.get(b"colr"), count)
    extra = count - _CHANNELS[color]
    if extra not in (0, 1):
        raise unsupported(f"JPEG 2000 with {count} channels as {Layout(color, bits)}")
    return Layout(color, bits, _alpha(boxes.get(b"cdef"), count, extra))


def _color(box: memoryview | None, count: int) -> str:
    """The colour space that the file names; of a bare codestream, the usual one for so many channels."""
    if box is None:
        if count > 4:
            raise unsupported(f"JPEG 2000 with {count} channels")
        return "gray" if count < 3 else "rgb"
    method, number = box[0], 0
    if method == 1:
        (number,) = struct.unpack_from(">I", box, 3)
    name = _ENUMERATED.get(number) if method == 1 else _PROFILES.get(bytes(box[3 + 16 : 3 + 20]))
    if name is None:
        raise unsupported(
            f"JPEG 2000 in {f'colour space {number}' if method == 1 else 'the colour space of its profile'}"
        )
    return name


def _alpha(box: memoryview | None, count: int, extra: int) -> str:
    if box is None:
        return "unsaid" if extra else "none"
    channels = [struct.unpack_from(">3H", box, 2 + 6 * at) for at in range(struct.unpack_from(">H", box)[0])]
    roles = {channel: (kind, belongs) for channel, kind, belongs in channels}
    colors = count - extra
    if any(roles.get(channel, (0, channel + 1)) != (0, channel + 1) for channel in range(colors)):
        raise unsupported("JPEG 2000 with channels in another order")
    if not extra:
        return "none"
    kind, belongs = roles.get(colors, (0xFFFF, 0))
    return _OPACITY.get(kind, "unsaid") if belongs == _WHOLE_IMAGE else "unsaid"


def _palette(boxes: dict[bytes, memoryview], bits: int, count: int) -> Layout:
    entries, columns = struct.unpack_from(">HB", boxes[b"pclr"])
    depths = set(bytes(boxes[b"pclr"][3 : 3 + columns]))
    straight = bytes(boxes[b"cmap"]) == b"".join(struct.pack(">HBB", 0, 1, column) for column in range(3))
    plain = straight and count == 1 and columns == 3 and depths == {7} and bits == 8 and b"cdef" not in boxes
    if not plain or _color(boxes.get(b"colr"), 3) != "rgb" or entries > 256:
        raise unsupported("JPEG 2000 with a palette other than of 8-bit RGB")
    return Layout("palette", 8)


def _finish(image: Image.Image, layout: Layout) -> Image.Image:
    if layout.bits > 8:
        return Image.fromarray(to_eight_bits(np.asarray(image) >> (16 - layout.bits), 2**layout.bits - 1))
    if layout.bits < 8:
        levels = to_eight_bits(np.arange(256) >> (8 - layout.bits), 2**layout.bits - 1)
        image = image.point(levels.tolist() * len(image.getbands()))
    if layout.alpha in ("none", "straight"):
        return image
    color, alpha = np.split(np.asarray(image), [-1], axis=2)
    return _with_alpha(color, alpha[..., 0], layout)


def _with_alpha(color: NDArray[np.uint8], alpha: NDArray[np.uint8], layout: Layout) -> Image.Image:
    if layout.alpha == "unsaid" and alpha.min() < 255:
        raise unsupported("JPEG 2000 that does not say what its last channel is")
    return assembled(unmultiplied(color, alpha) if layout.alpha == "premultiplied" else color, alpha)


def _own_image(data: bytes, layout: Layout, header: _Header) -> Image.Image:
    try:
        import imagecodecs
    except ImportError:
        raise unsupported(
            f"JPEG 2000: {layout}", "convert it to 8 bits, or pip install 'quadtok[formats]', which reads it"
        ) from None
    samples = imagecodecs.jpeg2k_decode(data)
    width, height = header.size
    if samples.shape not in ((height, width), (height, width, len(header.components))) or samples.dtype != np.uint16:
        raise ImageError("broken image data")
    pixels = to_eight_bits(samples.reshape(height, width, -1), 2**layout.bits - 1)
    if layout.alpha == "none":
        return assembled(pixels, None)
    color, alpha = np.split(pixels, [-1], axis=2)
    return _with_alpha(color, alpha[..., 0], layout)
