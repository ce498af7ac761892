"""What the readers of the formats share: the words for a layout of samples, and what each hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quadtok.errors import ImageError

DRAFT_DIVISORS = (8, 4, 2)  # libjpeg's scaled decoding, as Pillow offers it


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


class Layout(NamedTuple):
    """How the samples of an image are stored.

    Attributes:
        color: `"gray"`, `"white"` (gray whose 0 is white), `"rgb"`, `"palette"`, `"cmyk"`, `"ycbcr"` or `"lab"`.
        bits: of each sample.
        alpha: `"none"`, `"straight"`, `"premultiplied"`, `"key"` (one value is transparent), `"ignored"` (samples
            that the file itself calls unspecified) or `"unsaid"` (nothing says what the last sample is).
    """

    color: str
    bits: int
    alpha: str = "none"

    def __str__(self) -> str:
        return f"{self.bits}-bit {_NAMES[self.color]}{_ALPHA[self.alpha]}"


_NAMES = {
    "gray": "gray",
    "white": "gray (0 is white)",
    "rgb": "RGB",
    "palette": "palette",
    "cmyk": "CMYK",
    "ycbcr": "YCbCr",
    "lab": "CIELab",
}
_ALPHA = {
    "none": "",
    "straight": " with alpha",
    "premultiplied": " with premultiplied alpha",
    "key": " with a transparent colour",
    "ignored": " with extra samples",
    "unsaid": " with an extra sample of no said meaning",
}


@dataclass(frozen=True)
class Prepared:
    """A file after its own tags and headers were read, before any pixel is decoded.

    Attributes:
        data: what Pillow is to open; the file's bytes but for what would lead Pillow astray.
        layout: of the samples; None where the format leaves Pillow no choice.
        orientation: the EXIF orientation, 1…8, where the reader of the format knows it; None: ask Pillow.
        turned: the orientation where Pillow finds none.
        left_out: further pages and previews that Pillow does not count as frames.
        finish: Pillow's loaded image → mode L, LA, RGB, RGBA, or any that Pillow converts rightly.
        decode: the pixels without Pillow: (width, height), and a function that makes an image of mode L, LA, RGB or
            RGBA; None where Pillow decodes.
    """

    data: bytes
    layout: Layout | None = None
    orientation: int | None = None
    turned: int = 1
    left_out: int = 0
    finish: Callable[[Image.Image], Image.Image] = lambda image: image
    decode: OwnDecoder | None = None


@dataclass(frozen=True)
class OwnDecoder:
    """Pixels that Pillow would not hand over, or not rightly.

    Attributes:
        format: as Pillow names it.
        size: (width, height).
        frames: how many pages the file holds.
        image: decodes the first, to mode L, LA, RGB, RGBA or CMYK.
    """

    format: str
    size: tuple[int, int]
    frames: int
    image: Callable[[], Image.Image] = field(repr=False)


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


def listed(numbers: Sequence[int], most: int = 8) -> str:
    """As words of a sentence, which stays short: a file may hold thousands."""
    return ", ".join([*map(str, numbers[:most]), *(["…"] if len(numbers) > most else [])])


def unsupported(what: str, hint: str = "convert it to 8-bit RGB") -> ImageError:
    """The refusal of a sound file that quadtok does not read."""
    return ImageError(f"{what} is not supported: {hint}")


def to_eight_bits(values: NDArray[np.integer], largest: int) -> NDArray[np.uint8]:
    """Samples from 0 to `largest` as bytes, rounded to the nearest."""
    if largest == 255:
        return values.astype(np.uint8, copy=False)
    wide = values.astype(np.uint32)
    return ((wide * 255 + largest // 2) // largest).astype(np.uint8)


def unmultiplied(color: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours `[H, W, C]` that were multiplied by their alpha `[H, W]`, divided by it again."""
    opaque = np.maximum(alpha, 1).astype(np.uint32)[..., None]
    return np.minimum((color.astype(np.uint32) * 255 + opaque // 2) // opaque, 255).astype(np.uint8)


def assembled(color: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> Image.Image:
    """Bytes `[H, W, 1 or 3 or 4]` and an alpha `[H, W]` as an image of mode L, RGB or CMYK; LA or RGBA with alpha."""
    image = Image.fromarray(np.ascontiguousarray(color[..., 0] if color.shape[2] == 1 else color))
    if color.shape[2] == 4:
        image = Image.frombytes("CMYK", image.size, color.tobytes())
    if alpha is None:
        return image
    image = image.convert("RGB") if image.mode == "CMYK" else image
    image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image
