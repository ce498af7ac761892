"""Pixel blur: how far a patch's pixels move when the image is shrunk to token resolution and enlarged again.

The time goes into passes over the pixels. There are four a scale: one enlarges, one subtracts, one squares, one adds
up; what comes before is done on the shrunk image. They are made over a few images, or over a band of rows of a large
one, so that what lies between stays in the cache. A band is read with some rows above and below it: an enlarged row
needs the shrunk rows next to it, which are made of `2**k` rows each, and no others. So a band's scores are those of the
whole image, to the last bit.

The shrunk image holds sums of four pixels instead of their mean, and so all that comes of it is four times as large. A
power of two changes no digit, and is taken out of the sums in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from quadtok.pixels import as_floats, check_images
from quadtok.precision import full_precision
from quadtok.scorers.base import Described, resize, score_in_parts
from quadtok.spec import Spec
from quadtok.tracing import is_recording, without_gradients

CHUNK_PIXELS = 1 << 17  # of the images that are worked on at a time, for each of torch's threads
SUM = 4  # pixels that a shrunk one is the sum of


class BlurScorer(Described):
    """Saliency `sqrt(mse · P)` of a patch of side P, over its pixels and channels (docs/reference.md section 3).

    Needs no weights and takes any number of channels. `sqrt(· P)` makes the scales comparable: it favours large
    patches, as the reference's baseline does.
    """

    def __init__(self) -> None:
        """There are no options; said here, because `get_scorer` asks, and Python takes long to find it out."""

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        size = _chunk_pixels() // (spec.height * spec.width)
        with full_precision(images.device):
            return score_in_parts(lambda part: _score(part, spec), images, size)

    def describe(self) -> dict[str, Any]:
        """Name and options; there are none."""
        return {"name": "blur"}


def _score(images: Tensor, spec: Spec) -> list[Tensor]:
    bands = [_score_band(images, begin, end, spec) for begin, end in _bands(spec)]
    return bands[0] if len(bands) == 1 else [torch.cat(scores, dim=1) for scores in zip(*bands, strict=True)]


def _chunk_pixels() -> int:
    # Each thread has a cache of its own, and in every operation all of them wait for the last: the fewer, the better.
    return CHUNK_PIXELS if is_recording() else CHUNK_PIXELS * torch.get_num_threads()


def _bands(spec: Spec) -> Iterator[tuple[int, int]]:
    """Where each begins and ends: whole roots, and at least eight times its margin. A recording has all in one."""
    roots = max(_chunk_pixels() // (spec.width * spec.max_patch), -(-8 // spec.min_patch))
    height = spec.height if is_recording() else roots * spec.max_patch
    return ((begin, min(begin + height, spec.height)) for begin in range(0, spec.height, height))


def _score_band(images: Tensor, begin: int, end: int, spec: Spec) -> list[Tensor]:
    """`[B, rows, W/P]` a scale, of the pixel rows from `begin` up to `end`."""
    margin = 1 << (spec.num_scales - 1)
    first = max(0, begin - margin)
    pixels = as_floats(images[:, :, first : end + margin]).contiguous()
    band = slice(begin - first, end - first)
    return [_score_scale(pixels, band, scale, spec) for scale in range(1, spec.num_scales)]


def _score_scale(pixels: Tensor, band: slice, scale: int, spec: Spec) -> Tensor:
    """`[B, rows, W/P]` for float32 pixels `[B, C, h, W]`, of which the band is scored."""
    batch, channels, _, width = pixels.shape
    size = spec.patch_size(scale)
    # `square_` cannot be functionalized.
    error = _blurred(pixels, scale)[:, :, band].sub_(pixels[:, :, band], alpha=SUM).pow_(2)
    rows = error.shape[2] // size
    columns = error.view(batch, channels, rows, size, width).sum(dim=3)  # along rows memory is read in order: first
    error = columns.view(batch, channels, rows, width // size, size).sum(dim=(1, 4))
    return (error / (SUM**2 * channels * size)).sqrt()  # the mean over C·P² pixels, times P


def _blurred(pixels: Tensor, scale: int) -> Tensor:
    """`[B, C, h, W]`, times `SUM`: the pixels as tokens of this scale would show them: down by `2**scale`, and back up.

    Bilinear, half-pixel centres, no antialiasing, as `resize` does it to the last digit but one. First every row is
    widened, while there are few; then rows are added in between. For that step each column is a channel to torch, and
    the channels lie last: so it works on many columns at once, which it does not along a row.
    """
    batch, channels, height, width = pixels.shape
    wide = _widened(_shrunk(pixels, scale), scale)
    columns = wide.view(batch * channels, height >> scale, 1, width).permute(0, 3, 1, 2)  # [B·C, W, h', 1]
    return resize(columns, height, 1).permute(0, 2, 3, 1).reshape_as(pixels)


def _shrunk(pixels: Tensor, scale: int) -> Tensor:
    """`[..., h, W]` → `[..., h', W']`, times `SUM`: a block's centre lies between the four pixels in its middle."""
    step = 1 << scale
    before, behind = slice(step // 2 - 1, None, step), slice(step // 2, None, step)
    rows = pixels[..., before, :] + pixels[..., behind, :]
    return rows[..., before] + rows[..., behind]


def _widened(pixels: Tensor, scale: int) -> Tensor:
    """`[..., h', W']` → `[..., h', W]`: each new pixel lies between an old one and its left or right neighbour."""
    step = 1 << scale
    padded = torch.cat([pixels[..., :1], pixels, pixels[..., -1:]], dim=-1)
    left, right = padded[..., :-2], padded[..., 2:]
    wide = pixels.new_empty(*pixels.shape, step)
    for place in range(step):
        offset = (place + 0.5) / step - 0.5  # from the old pixel's centre, in old pixels
        wide[..., place] = torch.lerp(pixels, left if offset < 0 else right, abs(offset))
    return wide.flatten(-2)
