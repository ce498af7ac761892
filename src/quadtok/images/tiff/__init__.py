"""TIFF: what the tags say, which of it Pillow reads rightly, and our own reader for some of the rest.

Pillow chooses by a table of its own that knows nothing of planes, turns the image by itself (and fails for some), and
hands over 12-bit, signed and 0-is-white samples without saying so. So the tags are read here first: a layout is in
`READ_BY_PILLOW`, or simple enough for `blocks`, or refused with the reason.
"""

from __future__ import annotations

import struct
from functools import partial

import numpy as np
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
from quadtok.images.tiff.base import File, Tag, Tags, in_planes
from quadtok.images.tiff.blocks import read_samples

READ_BY_PILLOW = frozenset(
    [
        *(Layout(color, bits) for color in ("gray", "white", "palette") for bits in (1, 2, 4, 8)),
        *(Layout("gray", bits) for bits in (12, 16)),
        *(Layout("rgb", bits, alpha) for bits in (8, 16) for alpha in ("none", "ignored", "straight", "premultiplied")),
        *(Layout("rgb", bits, "unsaid") for bits in (8, 16)),
        *(Layout("cmyk", bits) for bits in (8, 16)),
        *(
            Layout("white", 16),
            Layout("gray", 8, "straight"),
            Layout("cmyk", 8, "ignored"),
            Layout("palette", 8, "ignored"),
        ),
        *(Layout("ycbcr", 8), Layout("lab", 8)),
    ]
)
READ_HERE = frozenset(  # uncompressed or deflated
    [
        *(
            Layout(color, bits, alpha)
            for color in ("gray", "white", "rgb", "cmyk")
            for bits in (8, 16)
            for alpha in ("none", "ignored", "straight")
        ),
        *(Layout(color, bits, "premultiplied") for color in ("gray", "rgb") for bits in (8, 16)),
    ]
)
COMPRESSIONS = {
    **{1: "none", 2: "CCITT RLE", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG", 8: "deflate"},
    **{32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "zstd"},
}
_OTHER_COMPRESSIONS = {
    **{6: "old-style JPEG", 32809: "ThunderScan", 34661: "JBIG", 34676: "SGI LogLuv", 34677: "SGI LogLuv"},
    **{34712: "JPEG 2000", 34887: "LERC", 34892: "lossy raw JPEG", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"},
}
_COLORS = {0: "white", 1: "gray", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr", 8: "lab"}
_OTHER_COLORS = {4: "a transparency mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "a camera's raw mosaic"}
_CHANNELS = {"white": 1, "gray": 1, "rgb": 3, "palette": 1, "cmyk": 4, "ycbcr": 3, "lab": 3}
_FORMATS = {
    **{2: "signed integers", 3: "floating-point numbers", 4: "samples of no said kind"},
    **{5: "complex integers", 6: "complex numbers"},
}
_MOST_EXTRAS = 4
_EXTRAS = {0: "ignored", 1: "premultiplied", 2: "straight"}


def prepare(data: bytes) -> Prepared:
    """Read the tags of the first page.

    Raises:
        ImageError: tags that cannot be read, or a layout that quadtok does not read, with the reason.
    """
    try:
        file = File(data)
        tags = file.tags(file.first)
        size = (tags.values[Tag.WIDTH][0], tags.values[Tag.HEIGHT][0])
    except (struct.error, KeyError):
        raise ImageError("broken image data") from None
    _refuse_previews(file, tags)
    layout = _layout(tags)
    orientation = tags.one(Tag.ORIENTATION, 0)
    below = len(tags.values.get(Tag.SUB_IFDS, ()))
    ours = (
        OwnDecoder("TIFF", size, file.pages(), partial(_own_image, file, tags, layout))
        if _is_ours(file, tags, layout)
        else None
    )
    if not ours:
        _refuse_what_pillow_gets_wrong(file, tags, layout)
    return Prepared(
        data=data if ours else file.changed(tags, _changes_for_pillow(tags, layout)),
        layout=layout,
        orientation=orientation if orientation in range(1, 9) else None,
        left_out=below,
        finish=partial(_finish, layout=layout, tags=tags),
        decode=ours,
    )


def _refuse_previews(file: File, tags: Tags) -> None:
    raw = Tag.DNG in tags.values or file.data[8:12] == b"CR\x02\x00"
    if raw or tags.one(Tag.SUB_FILE, 0) & 1 or tags.one(Tag.SUB_FILE_OLD, 1) == 2:
        raise unsupported(
            "a camera's raw file" if raw else "a TIFF whose first page is a reduced preview",
            "develop or export it first",
        )
    area = tags.values[Tag.WIDTH][0] * tags.values[Tag.HEIGHT][0]
    for at in tags.values.get(Tag.SUB_IFDS, ())[:64]:
        try:
            sub = file.tags(at)
        except (struct.error, ImageError):
            continue
        if sub.one(Tag.WIDTH, 0) * sub.one(Tag.HEIGHT, 0) > area:
            raise unsupported("a TIFF whose first page is smaller than the image below it", "export the image")


def _layout(tags: Tags) -> Layout:
    """What the samples are.

    Raises:
        ImageError: what no reader here could take.
    """
    compression = tags.one(Tag.COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        raise unsupported(f"TIFF compression {_OTHER_COMPRESSIONS.get(compression, compression)}")
    predictor = tags.one(Tag.PREDICTOR, 1)
    if predictor != 1 and compression in (1, 32773):
        # libtiff takes the samples as they are, tifffile adds them up: nothing says who is right.
        raise unsupported(f"a TIFF with predictor {predictor} ({COMPRESSIONS[compression]} compression)")
    photometric = tags.one(Tag.PHOTOMETRIC, -1)
    if photometric == -1:
        raise unsupported("a TIFF that does not say whether 0 is black (tag PhotometricInterpretation)")
    if photometric not in _COLORS:
        raise unsupported(f"a TIFF of {_OTHER_COLORS.get(photometric, f'photometric interpretation {photometric}')}")
    color = _COLORS[photometric]
    samples = tags.one(Tag.SAMPLES, 1)
    depths = tags.values.get(Tag.BITS, (1,))
    if len(set(depths[:samples])) > 1:
        raise unsupported(f"a TIFF with samples of {listed(depths[:samples])} bits")
    kinds = set(tags.values.get(Tag.FORMAT, (1,))[:samples]) - {1}
    if kinds:
        kind = _FORMATS.get(max(kinds), f"sample format {max(kinds)}")
        raise unsupported(f"a TIFF of {depths[0]}-bit {kind}", "convert it to 8 or 16 bits, unsigned")
    if not _CHANNELS[color] <= samples <= _CHANNELS[color] + _MOST_EXTRAS:
        raise unsupported(f"a TIFF of {samples} samples a pixel as {Layout(color, depths[0])}")
    if color == "cmyk" and tags.one(Tag.INK_SET, 1) != 1:
        raise unsupported("a TIFF of inks other than CMYK")
    return Layout(color, depths[0], _alpha(tags, samples - _CHANNELS[color]))


def _alpha(tags: Tags, extra: int) -> str:
    said = tags.values.get(Tag.EXTRA, ())
    if len(said) > extra:
        raise unsupported(f"a TIFF of {extra} extra samples that describes {len(said)} (tag ExtraSamples)")
    if not extra:
        return "none"
    if len(said) < extra or not set(said) <= set(_EXTRAS):
        return "unsaid"
    return next((_EXTRAS[kind] for kind in said if kind), "ignored")


def _is_ours(file: File, tags: Tags, layout: Layout) -> bool:
    """Whether the layout is one that Pillow gets wrong or does not know, and simple enough to be read here."""
    if layout not in READ_HERE or tags.one(Tag.COMPRESSION, 1) not in (1, 8, 32946) or tags.one(Tag.FILL_ORDER, 1) != 1:
        return False
    by_pillow = layout in READ_BY_PILLOW and _pillow_knows_extras(tags) and not file.big_endian_bigtiff
    return not by_pillow or (in_planes(tags) and not _pillow_takes_planes(tags))


def _pillow_takes_planes(tags: Tags) -> bool:
    gray_alpha = tags.one(Tag.PHOTOMETRIC, 0) == 1 and any(tags.values.get(Tag.EXTRA, ()))
    return not gray_alpha and tags.one(Tag.COMPRESSION, 1) != 1


def _pillow_knows_extras(tags: Tags) -> bool:
    """Pillow wants the alpha first, and few samples behind it."""
    extra = tags.values.get(Tag.EXTRA, ())
    most = {1: 1, 2: 3 if tags.one(Tag.BITS, 1) == 8 else 1, 3: 1, 5: 2}
    return not any(extra[1:]) and len(extra) <= most.get(tags.one(Tag.PHOTOMETRIC, 0), 0)


def _refuse_what_pillow_gets_wrong(file: File, tags: Tags, layout: Layout) -> None:
    compression = COMPRESSIONS[tags.one(Tag.COMPRESSION, 1)]
    planar = in_planes(tags)
    what = f"TIFF: {layout}{' in planes' if planar else ''} ({compression} compression)"
    if layout not in READ_BY_PILLOW or not _pillow_knows_extras(tags) or (planar and not _pillow_takes_planes(tags)):
        raise unsupported(what)
    if layout.bits != {"JPEG": 8, "CCITT": 1}.get(compression.split()[0], layout.bits):
        raise unsupported(what)
    if tags.one(Tag.PREDICTOR, 1) not in (1, 2):
        raise unsupported(f"{what} with predictor {tags.one(Tag.PREDICTOR, 1)}")
    if tags.one(Tag.FILL_ORDER, 1) != 1 and layout.bits > 1:
        raise unsupported(f"{what} with the bits of each byte reversed (FillOrder 2)")
    if layout.color == "ycbcr" and (compression != "JPEG" or planar):
        raise unsupported(what)
    if file.big_endian_bigtiff:
        raise unsupported(f"{what}, big-endian BigTIFF,")
    if layout.bits == 12 and file.order == ">":
        raise unsupported(f"{what}, big-endian,")


def _changes_for_pillow(tags: Tags, layout: Layout) -> dict[Tag, int]:
    """Upright (we turn it ourselves), of 16-bit gray with 0 as black (we invert it ourselves), and of one plane."""
    changes = {}
    if Tag.ORIENTATION in tags.entries:
        changes[Tag.ORIENTATION] = 1
    if layout == Layout("white", 16):
        changes[Tag.PHOTOMETRIC] = 1
    if Tag.PLANAR in tags.entries and not in_planes(tags):
        changes[Tag.PLANAR] = 1  # one sample is one plane; Pillow would look for more
    return changes


def _finish(image: Image.Image, layout: Layout, tags: Tags) -> Image.Image:
    if layout.bits in (12, 16) and layout.color in ("gray", "white"):
        gray = to_eight_bits(np.asarray(image), 2**layout.bits - 1)
        return Image.fromarray(255 - gray if layout.color == "white" else gray)
    if layout.alpha == "unsaid" and image.getchannel("A").getextrema() != (255, 255):
        raise unsupported("a TIFF that does not say what its fourth sample is (tag ExtraSamples)")
    if layout.color == "palette":
        return _with_palette(image, tags)
    return image


def _with_palette(image: Image.Image, tags: Tags) -> Image.Image:
    """Of some old writers the colours are bytes, where the standard has 16 bits (Pillow makes them all black)."""
    colors = tags.values.get(Tag.COLOR_MAP, ())
    if colors and max(colors) < 256 and image.mode == "P":
        image.putpalette(bytes(np.array(colors, np.uint8).reshape(3, -1).T.tobytes()))
    return image


def _own_image(file: File, tags: Tags, layout: Layout) -> Image.Image:
    pixels = read_samples(file, tags, layout.bits)
    color, rest = np.split(pixels, [_CHANNELS[layout.color]], axis=2)
    if layout.color == "white":
        color = 255 - color
    if layout.alpha in ("none", "ignored"):
        return assembled(color, None)
    alpha = rest[..., next(place for place, kind in enumerate(tags.values[Tag.EXTRA]) if kind)]
    return assembled(unmultiplied(color, alpha) if layout.alpha == "premultiplied" else color, alpha)
