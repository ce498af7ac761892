"""Image files to pixels: read upright, in RGB, and fitted to the size that a spec asks for.

Pillow decodes. How the samples are to be read is taken from the file's own tags and headers first, by one reader a
format: `LAYOUTS` is what is read, and the rest is refused with the reason. torchvision's decoder is faster on some
formats, but one flipped byte of a PNG ends the whole process there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageColor

from quadtok.colors import check_color
from quadtok.errors import ImageError, QuadtokError, about
from quadtok.files import read_regular
from quadtok.images import avif, bmp, gif, jpeg, jpeg2000, png, ppm, tiff
from quadtok.images.base import (
    DRAFT_DIVISORS,
    Box,
    Draft,
    DraftRule,
    ImageFile,
    Layout,
    OwnDecoder,
    Prepared,
    unsupported,
)
from quadtok.images.fit import CROP_FRACTION, Fitted, draft_for, fit_image, fit_native, native_size, to_pixels
from quadtok.images.quiet import no_stderr, own_stderr, pixel_limit, tiff_manners
from quadtok.images.reasons import FORMATS, reason
from quadtok.names import DEFAULT_BACKGROUND, MAX_PIXELS
from quadtok.quiet import without_warnings

__all__ = [
    "CROP_FRACTION",
    "DRAFT_DIVISORS",
    "FORMATS",
    "LAYOUTS",
    "MAX_PIXELS",
    "Box",
    "Draft",
    "DraftRule",
    "Fitted",
    "ImageFile",
    "Layout",
    "check_color",
    "decode_image",
    "draft_for",
    "fit_image",
    "fit_native",
    "native_size",
    "no_stderr",
    "own_stderr",
    "read_bytes",
    "pixels_of",
    "read_image",
    "to_pixels",
]

# What is read of each format that stores samples in more than one way; of the others, everything that Pillow opens.
LAYOUTS: dict[str, frozenset[Layout]] = {
    "PNG": png.LAYOUTS,
    "TIFF": tiff.READ_BY_PILLOW | tiff.READ_HERE,
    "JPEG2000": jpeg2000.READ_BY_PILLOW | jpeg2000.READ_BY_IMAGECODECS,
    "BMP": bmp.LAYOUTS,
}
_READERS: dict[tuple[bytes, ...], Callable[[bytes], Prepared]] = {
    (b"\x89PNG\r\n\x1a\n",): png.prepare,
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0"): tiff.prepare,
    (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "): jpeg2000.prepare,
    (b"\xff\xd8\xff",): jpeg.prepare,
    (b"BM",): bmp.prepare,
    ppm.MAGIC: ppm.prepare,
}
_JPEG = ("JPEG", "MPO")  # Pillow's names for JPEGs with one frame and with several


def read_image(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    background: str = DEFAULT_BACKGROUND,
    exif: bool = True,
    draft: DraftRule | None = None,
) -> ImageFile:
    """Decode an image file to upright RGB.

    Alpha is composited over `background`; 16-bit gray is scaled to 8 bits; CMYK, palettes and the like are
    converted; of an animation the first frame is taken.

    Args:
        path: the file; its format is told by content.
        max_pixels: refuse larger images before decoding them.
        background: a colour as Pillow reads it.
        exif: apply the EXIF orientation.
        draft: at what fraction of its size to decode a JPEG, such as `draft_for(256, 256, "crop")`, to save time where
            the image is made much smaller anyway; then give `fit_image` the file's `draft` too. None decodes in full.

    Raises:
        ImageError: one sentence that begins with the path.
    """
    return decode_image(read_bytes(path), path, max_pixels=max_pixels, background=background, exif=exif, draft=draft)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a regular file that is not empty; pipes, sockets and devices are never opened.

    Raises:
        ImageError: one sentence that begins with the path.
    """
    with about(path):
        data = read_regular(Path(path), ImageError)
        if not data:
            raise ImageError("empty file")
        return data


def pixels_of(data: bytes, draft: DraftRule | None = None) -> int:
    """How many pixels of an image file would be decoded, by its header; 0 where that cannot be read.

    Args:
        data: of the file.
        draft: as of `decode_image`.
    """
    try:
        prepared = _prepared(data)
        if prepared.decode:
            height, width = prepared.decode.size
        else:
            with without_warnings(), Image.open(BytesIO(prepared.data), formats=FORMATS) as opened:
                width, height = opened.size
                if draft and opened.format in _JPEG:
                    divisor = draft(height, width)
                    width, height = -(-width // divisor), -(-height // divisor)
    except Exception:
        return 0
    return height * width


def decode_image(
    data: bytes,
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    background: str = DEFAULT_BACKGROUND,
    exif: bool = True,
    draft: DraftRule | None = None,
) -> ImageFile:
    """Decode the bytes of an image file; `path` is what errors call it. Otherwise as `read_image`."""
    check_color(background)
    with about(path):
        try:
            found = _decoded(data, max_pixels, background, exif, draft)
        except QuadtokError:
            raise
        except Exception as problem:
            raise ImageError(reason(problem, data)) from problem
    return replace(found, sha256=hashlib.sha256(data).hexdigest())


def _decoded(data: bytes, max_pixels: int, background: str, exif: bool, draft: DraftRule | None) -> ImageFile:
    """The image upright and in RGB; its digest is not known yet."""
    prepared = _prepared(data)
    if prepared.decode:
        found = _read_here(prepared, prepared.decode, max_pixels, exif)
    else:
        found = _read_by_pillow(prepared, max_pixels, exif, draft)
    return replace(found, image=_rgb(_rotated(found.image, found.orientation), background))


def _prepared(data: bytes) -> Prepared:
    """The reader that knows the format looks at the file before Pillow does."""
    if data[4:12] in avif.MAGIC:
        return avif.prepare(data)
    prepare = next((reader for magic, reader in _READERS.items() if data.startswith(magic)), Prepared)
    return prepare(data)


def _read_here(prepared: Prepared, decoder: OwnDecoder, max_pixels: int, exif: bool) -> ImageFile:
    """As the file stores it: pixels that one of our readers decodes."""
    _check_size(*decoder.size, max_pixels)
    image = decoder.image()
    orientation = (prepared.orientation or 1) if exif else 1
    notes = _notes(decoder.frames, prepared.left_out)
    left_out = decoder.frames - 1 + prepared.left_out
    return ImageFile(image, decoder.format, image.mode, decoder.frames, orientation, "", notes, left_out)


def _read_by_pillow(prepared: Prepared, max_pixels: int, exif: bool, draft: DraftRule | None) -> ImageFile:
    """As the file stores it: pixels that Pillow decodes."""
    with _open(prepared.data, max_pixels) as opened, without_warnings(), tiff_manners(opened.format, max_pixels):
        mode, frames = opened.mode, getattr(opened, "n_frames", 1)
        notes = _notes(frames, prepared.left_out)
        covered = gif.covered(opened) if opened.format == "GIF" else None
        # A TIFF is loaded when its tag is taken out: Pillow would turn it by itself. A JPEG's draft comes before it
        # is loaded, and must know where up is.
        if opened.format not in ("TIFF", *_JPEG):
            opened.load()
        told = _take_orientation(opened, prepared.turned, notes)
        orientation = (prepared.orientation or told) if exif else 1
        drafted = jpeg.take_draft(opened, orientation, draft) if draft and opened.format in _JPEG else None
        opened.load()
        image = prepared.finish(opened)
        if covered:
            image = gif.uncovered_is_clear(image, covered)
        # A TIFF must be copied: Pillow's object would turn it again. The conversion to RGB does it for the others.
        image = image.copy() if image is opened and opened.format == "TIFF" and image.mode == "RGB" else image
        left_out = frames - 1 + prepared.left_out
        return ImageFile(image, opened.format or "?", mode, frames, orientation, "", notes, left_out, drafted)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header only."""
    with pixel_limit(max_pixels), without_warnings():
        try:
            opened = Image.open(BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as problem:
            found = re.search(r"\d+", str(problem))
            raise ImageError(_too_large(int(found[0]) if found else 2 * max_pixels, max_pixels)) from None
    _check_size(*opened.size, max_pixels)
    return opened


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < 1:
        raise ImageError(f"broken image data: {width} × {height} pixels")
    if width * height > max_pixels:
        raise ImageError(_too_large(width * height, max_pixels))


def _too_large(pixels: int, limit: int) -> str:
    return f"{_grouped(pixels)} pixels exceed max_pixels {_grouped(limit)}"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _notes(frames: int, below: int) -> list[str]:
    notes = [f"first of {frames} frames"] if frames > 1 else []
    return [*notes, f"previews or pages below the first left out: {below}"] if below else notes


def _take_orientation(opened: Image.Image, otherwise: int, notes: list[str]) -> int:
    """The EXIF orientation, 1…8, removed from what Pillow knows of the image."""
    try:
        exif = opened.getexif()
        readable = len(exif) > 0 or not opened.info.get("exif")
        orientation = exif.pop(0x0112, otherwise)
    except Exception:
        readable, orientation = False, otherwise
    if not readable:
        notes.append("unreadable EXIF block, taken as upright")
    return int(orientation) if orientation in range(1, 9) else 1


def _rotated(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned upright. Goes by the number, so that a damaged EXIF block is not parsed twice."""
    transpose = Image.Transpose
    turns = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _rgb(image: Image.Image, background: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise unsupported(f"{image.format} with pixels of mode {image.mode}")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    color = ImageColor.getrgb(background)[:3]
    backdrop = Image.new("RGBA", image.size, (*color, 255))
    return Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
