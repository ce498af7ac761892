"""Images brought to the size that a spec asks for: cropped, padded or squashed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quadtok.images.base import DRAFT_DIVISORS, Box, Draft, DraftRule
from quadtok.names import MAX_PIXELS, FitName

if TYPE_CHECKING:
    from torch import Tensor

CROP_FRACTION = 0.875  # the share of the short side that the centre crop keeps: the field's evaluation standard


@dataclass(frozen=True)
class Fitted:
    """An image brought to a size.

    Attributes:
        array: uint8 `[3, H, W]`.
        crop_box: (left, top, right, bottom) of the pixels' frame in the upright source image, in source pixels;
            reaches beyond it where the image was padded.
    """

    array: NDArray[np.uint8]
    crop_box: Box

    @property
    def pixels(self) -> Tensor:
        """The same memory as a tensor."""
        import torch  # a process that decodes does without

        return torch.from_numpy(self.array)


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
    return Fitted(_array(image), (0, 0, *image.size)).pixels


def _array(image: Image.Image) -> NDArray[np.uint8]:
    # In numpy, so that threads that read images start no threads of torch's.
    return np.array(np.asarray(image).transpose(2, 0, 1), order="C")


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
    return Fitted(_array(whole.crop((left, top, left + width, top + height))), box)


def _resized(source: _Source, height: int, width: int, box: Box) -> Fitted:
    return Fitted(_array(source.resize(height, width, box)), box)


def _padded(source: _Source, height: int, width: int, shown: tuple[int, int]) -> Fitted:
    """Resize to `shown` (height, width), centre it, and repeat the edge pixels outwards."""
    pixels = _array(source.resize(*shown))
    top, left = (height - shown[0]) // 2, (width - shown[1]) // 2
    below, right = height - shown[0] - top, width - shown[1] - left
    padded = np.pad(pixels, ((0, 0), (top, below), (left, right)), mode="edge")
    down, across = source.height / shown[0], source.width / shown[1]
    box = (-left * across, -top * down, (width - left) * across, (height - top) * down)
    return Fitted(padded, box)


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))
