"""Image files to pixels: read with Pillow alone, upright, in RGB, and fitted to the size that a spec asks for.

torchvision's decoder is faster on some formats, but one flipped byte of a PNG ends the whole process there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor

from quadtok.errors import ImageError, InputError
from quadtok.names import FitName

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF", "JPEG2000")
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB
CROP_FRACTION = 0.875  # the share of the short side that the centre crop keeps: the field's evaluation standard

DRAFT_DIVISORS = (8, 4, 2)  # libjpeg's scaled decoding, as Pillow offers it

# What decoders raise on bad data (the list of Pillow's own fuzzers). Anything else is foreign, and named by its type.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, MemoryError, ValueError, OverflowError, EOFError),
    *(struct.error, zlib.error, TypeError, IndexError, KeyError, AttributeError, RuntimeError),
    Image.DecompressionBombError,
)
_FOREIGN_MAGIC = (b"%!PS", b"%PDF", b"8BPS", b"SIMPLE  =", b"<svg", b"<?xml", b"\xc5\xd0\xd3\xc6")
_JPEG = ("JPEG", "MPO")  # Pillow's names for JPEGs with one frame and with several
_OUR_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\x00", b"MM\x00*")
_limit = threading.Lock()  # held while Pillow's pixel limit (and for a TIFF, file descriptor 2) is ours
logging.getLogger("PIL").addHandler(logging.NullHandler())  # logged errors are raised too; unhandled, they are printed
_quiet = threading.Lock()
_quiet_readers = 0
_filters = contextlib.ExitStack()


# (height, width) of an upright image → 1, 2, 4 or 8: the part of its size to decode a JPEG at.
DraftRule = Callable[[int, int], int]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Draft:
    """A JPEG decoded at a fraction of its size.

    Attributes:
        divisor: 2, 4 or 8.
        size: (width, height) of the image in full, upright.
        box: the image in full, in pixels of the draft, upright. The draft's pixels at the right and at the bottom (of
            the image as it is stored) may stand for less than `divisor` pixels: so it ends inside of them.
    """

    divisor: int
    size: tuple[int, int]
    box: Box


@dataclass(frozen=True)
class ImageFile:
    """A decoded image file.

    Attributes:
        image: RGB, upright; smaller than the file says where `draft` is.
        format: as Pillow names it, by content.
        mode: of the stored pixels, as Pillow names it.
        frames: how many the file holds; the first was taken.
        orientation: the EXIF orientation that was applied; 1 is upright.
        sha256: of the bytes that were read.
        notes: what a careful user may want to know.
        left_out: how many further frames, pages and previews of the file were skipped.
        draft: how the image was decoded at a fraction of its size; None where it was not.
    """

    image: Image.Image
    format: str
    mode: str
    frames: int
    orientation: int
    sha256: str
    notes: list[str] = field(default_factory=list)
    left_out: int = 0
    draft: Draft | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the file's image, upright and in full."""
        return self.draft.size if self.draft else self.image.size

    def describe(self) -> dict[str, Any]:
        """The file as JSON values: what a token file records of its source. `size` is upright [width, height]."""
        return {
            "size": list(self.size),
            "format": self.format,
            "mode": self.mode,
            "frames": self.frames,
            "exif_orientation": self.orientation,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Fitted:
    """An image brought to a size.

    Attributes:
        pixels: uint8 `[3, H, W]`.
        crop_box: (left, top, right, bottom) of the pixels' frame in the upright source image, in source pixels;
            reaches beyond it where the image was padded.
    """

    pixels: Tensor
    crop_box: Box


def read_image(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    background: str = "white",
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
    try:
        return _regular_bytes(Path(path))
    except ImageError as problem:
        raise ImageError(f"{path}: {problem}") from problem.__cause__


def decode_image(
    data: bytes,
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    background: str = "white",
    exif: bool = True,
    draft: DraftRule | None = None,
) -> ImageFile:
    """Decode the bytes of an image file; `path` is what errors call it. Otherwise as `read_image`."""
    check_color(background)
    try:
        with _open(data, max_pixels) as opened:
            return _decode(opened, hashlib.sha256(data).hexdigest(), max_pixels, background, exif, draft)
    except ImageError as problem:
        raise ImageError(f"{path}: {problem}") from problem.__cause__
    except Exception as problem:
        raise ImageError(f"{path}: {_reason(problem, data)}") from problem


def draft_for(height: int, width: int, fit: FitName) -> DraftRule:
    """The rule that leaves an image at least twice the resolution that `fit_image` with these arguments needs.

    The bilinear filter then still averages several pixels of the draft: it hardly shows who did the first averaging.
    """

    def divisor(full_height: int, full_width: int) -> int:
        shown = _shown(full_height, full_width, height, width, fit)
        spare = min(full_height / shown[0], full_width / shown[1]) / 2
        return next((divisor for divisor in DRAFT_DIVISORS if divisor <= spare), 1)

    return divisor


def fit_image(image: Image.Image, height: int, width: int, fit: FitName, draft: Draft | None = None) -> Fitted:
    """Bring an RGB image to `height × width` pixels.

    Args:
        image: any size, mode RGB.
        height: in pixels.
        width: in pixels.
        fit: `"crop"`, as the paper evaluates: scale until the image covers the frame divided by 0.875, then cut out the
            centre; `"pad"`: scale until it fits inside, and repeat its edge pixels outwards (a solid colour would make
            an edge that draws tokens); `"squash"`: ignore the aspect ratio.
        draft: how the image was decoded, if not in full. Frame and `crop_box` are those of the image in full.
    """
    source = _Source.of(image, draft)
    if fit == "squash":
        return _resized(source, height, width, (0.0, 0.0, float(source.width), float(source.height)))
    shown = _shown(source.height, source.width, height, width, fit)
    return (_padded if fit == "pad" else _center_cropped)(source, height, width, shown)


def native_size(image: Image.Image, multiple: int, fit: FitName) -> tuple[int, int]:
    """(height, width): the size nearest to the image's own whose sides are multiples of `multiple`.

    Rounded up for `"pad"`, down for `"crop"`, to the nearest for `"squash"`; at least one multiple.
    """
    roundings: dict[FitName, Callable[[float], int]] = {"pad": math.ceil, "crop": math.floor, "squash": round}
    rounding = roundings[fit]
    height, width = (max(1, rounding(side / multiple)) * multiple for side in (image.height, image.width))
    return height, width


def fit_native(image: Image.Image, multiple: int, fit: FitName) -> Fitted:
    """Bring an RGB image to its `native_size`: cropped or padded, and resampled only where that cannot do."""
    height, width = native_size(image, multiple, fit)
    if fit == "squash":
        return fit_image(image, height, width, fit)
    source = _Source.of(image)
    if fit == "pad":
        return _padded(source, height, width, (image.height, image.width))
    large_enough = image.height >= height and image.width >= width
    shown = (image.height, image.width) if large_enough else _covering(image.height, image.width, height, width)
    return _center_cropped(source, height, width, shown)


def to_pixels(image: Image.Image) -> Tensor:
    """An RGB image as uint8 `[3, H, W]`."""
    # In numpy, so that threads that read images start no threads of torch's.
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


@dataclass(frozen=True)
class _Source:
    """An image to be resampled: what is measured in its pixels holds for it in full, whatever was decoded of it."""

    image: Image.Image
    width: int
    height: int
    box: Box  # all of it, in pixels of `image`

    @classmethod
    def of(cls, image: Image.Image, draft: Draft | None = None) -> _Source:
        if draft is None:
            return cls(image, *image.size, box=(0, 0, *image.size))
        return cls(image, *draft.size, box=draft.box)

    def resize(self, height: int, width: int, box: Box | None = None) -> Image.Image:
        """Resample what is in `box`, or all of it."""
        return self.image.resize((width, height), Image.Resampling.BILINEAR, box=self._in_pixels(box))

    def _in_pixels(self, box: Box | None) -> Box:
        if box is None or self.image.size == (self.width, self.height):
            return box or self.box
        left, top, right, bottom = self.box
        across, down = (right - left) / self.width, (bottom - top) / self.height
        # Rounding must not lead outside.
        return (
            max(left, left + box[0] * across),
            max(top, top + box[1] * down),
            min(right, left + box[2] * across),
            min(bottom, top + box[3] * down),
        )


def _shown(full_height: int, full_width: int, height: int, width: int, fit: FitName) -> tuple[int, int]:
    """(height, width) that an image is scaled to before it is cropped or padded."""
    if fit == "squash":
        return height, width
    if fit == "pad":
        scale = min(height / full_height, width / full_width)
        return _scaled(full_height, scale), _scaled(full_width, scale)
    return _covering(full_height, full_width, int(height / CROP_FRACTION), int(width / CROP_FRACTION))


def _covering(full_height: int, full_width: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of an image scaled until it covers a frame; torchvision's rounding."""
    if width * full_height >= height * full_width:
        return max(height, int(width * full_height / full_width)), width
    return height, max(width, int(height * full_width / full_height))


def _center_cropped(source: _Source, height: int, width: int, shown: tuple[int, int]) -> Fitted:
    """Resize to `shown` (height, width) and cut out the centre."""
    down, across = source.height / shown[0], source.width / shown[1]
    top, left = round((shown[0] - height) / 2), round((shown[1] - width) / 2)
    right, bottom = min((left + width) * across, source.width), min((top + height) * down, source.height)
    box = (left * across, top * down, right, bottom)
    if shown[0] * shown[1] > MAX_PIXELS:
        # A 20000 × 1 strip would become 5.8 million pixels wide. Resampling the box alone differs from the other
        # way only where a pixel's value lies on the border of two bytes.
        return _resized(source, height, width, box)
    whole = source.resize(*shown)
    return Fitted(to_pixels(whole.crop((left, top, left + width, top + height))), box)


def _resized(source: _Source, height: int, width: int, box: Box) -> Fitted:
    return Fitted(to_pixels(source.resize(height, width, box)), box)


def _padded(source: _Source, height: int, width: int, shown: tuple[int, int]) -> Fitted:
    """Resize to `shown` (height, width), centre it, and repeat the edge pixels outwards."""
    pixels = to_pixels(source.resize(*shown)).numpy()
    top, left = (height - shown[0]) // 2, (width - shown[1]) // 2
    below, right = height - shown[0] - top, width - shown[1] - left
    padded = np.pad(pixels, ((0, 0), (top, below), (left, right)), mode="edge")
    down, across = source.height / shown[0], source.width / shown[1]
    box = (-left * across, -top * down, (width - left) * across, (height - top) * down)
    return Fitted(torch.from_numpy(padded), box)


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def _regular_bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError("is a folder" if path.is_dir() else "not a regular file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except PermissionError:
        raise ImageError("permission denied") from None
    except OSError as problem:
        raise ImageError(problem.strerror or "cannot be read") from problem
    if not data:
        raise ImageError("empty file")
    return data


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header only."""
    with _pixel_limit(max_pixels), _without_warnings():
        try:
            opened = Image.open(BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as problem:
            found = re.search(r"\d+", str(problem))
            raise ImageError(_too_large(int(found[0]) if found else 2 * max_pixels, max_pixels)) from None
    if opened.width * opened.height > max_pixels:
        raise ImageError(_too_large(opened.width * opened.height, max_pixels))
    return opened


def _decode(
    opened: Image.Image, digest: str, max_pixels: int, background: str, exif: bool, draft: DraftRule | None
) -> ImageFile:
    notes: list[str] = []
    mode = opened.mode
    with _without_warnings(), _tiff_manners(opened.format, max_pixels):
        frames = getattr(opened, "n_frames", 1)
        if frames > 1:
            notes.append(f"first of {frames} frames")
        # A TIFF is loaded when its tag is taken out: Pillow would turn it by itself. A JPEG's draft comes before it
        # is loaded, and must know where up is.
        if opened.format not in ("TIFF", *_JPEG):
            opened.load()
        found = _take_orientation(opened, notes)
        orientation = found if exif else 1
        drafted = _take_draft(opened, orientation, draft) if draft and opened.format in _JPEG else None
        opened.load()
        upright = _rgb(_rotated(_eight_bit(opened), orientation), background)
        return ImageFile(upright, opened.format or "?", mode, frames, orientation, digest, notes, frames - 1, drafted)


def _take_draft(opened: Image.Image, orientation: int, rule: DraftRule) -> Draft | None:
    """Ask libjpeg for the fraction that the rule names, before the image is loaded."""
    turned = orientation >= 5  # the stored width is the upright height
    stored = opened.size
    size = (stored[1], stored[0]) if turned else stored
    wanted = rule(size[1], size[0])
    if wanted not in DRAFT_DIVISORS:
        return None
    granted = opened.draft(None, (max(1, stored[0] // wanted), max(1, stored[1] // wanted)))
    if granted is None or opened.size == stored:
        return None
    divisor = round(stored[0] / granted[1][2])
    width, height = (opened.size[1], opened.size[0]) if turned else opened.size
    full_width, full_height = size[0] / divisor, size[1] / divisor
    left = width - full_width if orientation in (2, 3, 6, 7) else 0.0  # what is cut ends up on the left
    top = height - full_height if orientation in (3, 4, 7, 8) else 0.0
    return Draft(divisor, size, (left, top, left + full_width, top + full_height))


def _take_orientation(opened: Image.Image, notes: list[str]) -> int:
    """The EXIF orientation, 1…8, removed from what Pillow knows of the image."""
    try:
        exif = opened.getexif()
        readable = len(exif) > 0 or not opened.info.get("exif")
        orientation = exif.pop(0x0112, 1)
    except Exception:
        readable, orientation = False, 1
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


def _eight_bit(opened: Image.Image) -> Image.Image:
    """16-bit gray scaled by 1/257 (Pillow's own conversion clips at 255); wider pixels are refused."""
    sixteen = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PPM", "PNG"))
    if sixteen:
        values = np.asarray(opened).astype(np.uint32)
        gray = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        if (clear := opened.info.get("transparency")) is not None:
            gray.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return gray
    if opened.mode.startswith(("I", "F")):
        raise ImageError("32-bit images are not supported: convert it to 8 or 16 bits")
    return opened


def _rgb(image: Image.Image, background: str) -> Image.Image:
    if not image.has_transparency_data:
        # A conversion to the same would copy all of it. A TIFF must be copied: Pillow's object would turn it again.
        return image if image.mode == "RGB" and image.format != "TIFF" else image.convert("RGB")
    color = ImageColor.getrgb(background)[:3]
    backdrop = Image.new("RGBA", image.size, (*color, 255))
    return Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")


def check_color(color: str) -> str:
    """The colour itself, if Pillow can read it.

    Raises:
        InputError: otherwise.
    """
    try:
        ImageColor.getrgb(color)
    except ValueError:
        raise InputError(f"{color!r} is no colour: use a name such as white, or #RRGGBB") from None
    return color


@contextlib.contextmanager
def _pixel_limit(max_pixels: int) -> Iterator[None]:
    """Pillow's pixel limit is a global: it is ours for a moment, under a lock."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def own_stderr() -> Iterator[None]:
    """While the block runs, what is written to file descriptor 2 arrives, whatever other threads read.

    Reading a TIFF turns the descriptor away for a moment (see `_tiff_manners`), for the whole process.
    """
    with _limit:
        yield


@contextlib.contextmanager
def _tiff_manners(image_format: str | None, max_pixels: int) -> Iterator[None]:
    """Pillow checks the size of a TIFF again while loading it, and libtiff complains straight to file descriptor 2.

    What matters of the complaints is in the exception.
    """
    if image_format != "TIFF":
        yield
        return
    with _pixel_limit(max_pixels), contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # a process without a stderr has none to keep clean
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            for descriptor in (kept, nowhere):
                undo.callback(os.close, descriptor)
            undo.callback(os.dup2, kept, 2)
            os.dup2(nowhere, 2)
        yield


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns about what we refuse ourselves, and about metadata that it then skips.

    `warnings.catch_warnings` alone would leave its filters behind when two threads leave it in another order than
    they came: the first to come changes them, and the last to go changes them back.
    """
    global _quiet_readers
    with _quiet:
        if not _quiet_readers:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _quiet_readers += 1
    try:
        yield
    finally:
        with _quiet:
            _quiet_readers -= 1
            if not _quiet_readers:
                _filters.close()


def _too_large(pixels: int, limit: int) -> str:
    return f"{_grouped(pixels)} pixels exceed --max-pixels {_grouped(limit)}"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _reason(problem: Exception, data: bytes) -> str:
    """A decoder's complaint in the words of E.3 of the conventions: truncated, broken, unsupported."""
    text = str(problem).lower()
    if isinstance(problem, UnidentifiedImageError):
        if data.startswith(_OUR_MAGIC) or data[4:12] == b"ftypavif":
            return "broken image data"
        foreign = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_FOREIGN_MAGIC) or data[4:8] == b"ftyp"
        return f"unsupported format (allowed: {', '.join(FORMATS)})" if foreign else "not a supported image"
    if isinstance(problem, MemoryError):
        return "not enough memory to decode it"
    if not isinstance(problem, _DECODER_ERRORS):
        return f"cannot be decoded ({type(problem).__name__}: {' '.join(str(problem).split()) or 'no reason given'})"
    if "truncated" in text or isinstance(problem, EOFError):
        return "truncated image"
    if "too large" in text or "max_text" in text:
        return "broken image data (metadata too large)"
    return "broken image data"
