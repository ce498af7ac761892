"""Pixel blur: how far a patch's pixels move when the image is shrunk to token resolution and enlarged again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadtok.pixels import as_floats, check_images
from quadtok.scorers.base import Described, full_precision, resize, score_in_parts
from quadtok.spec import Spec
from quadtok.tracing import without_gradients

CHUNK_PIXELS = 1 << 18  # of the images that are worked on at a time


class BlurScorer(Described):
    """Saliency `sqrt(mse · P)` of a patch of side P, over its pixels and channels (docs/reference.md section 3).

    Needs no weights and takes any number of channels. `sqrt(· P)` makes the scales comparable: it favours large
    patches, as the reference's baseline does.
    """

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        # A few images at a time: what lies between stays in the cache, and bytes never become floats all at once.
        size = CHUNK_PIXELS // (spec.height * spec.width)
        with full_precision(images.device):
            return score_in_parts(lambda part: _score(as_floats(part).contiguous(), spec), images, size)

    def describe(self) -> dict[str, Any]:
        """Name and options; there are none."""
        return {"name": "blur"}


def _score(pixels: Tensor, spec: Spec) -> list[Tensor]:
    return [_score_scale(pixels, scale, spec) for scale in range(1, spec.num_scales)]


def _score_scale(pixels: Tensor, scale: int, spec: Spec) -> Tensor:
    """`[B, H/P, W/P]` for float32 pixels `[B, C, H, W]`."""
    batch, channels = pixels.shape[:2]
    (rows, cols), size = spec.grid(scale), spec.patch_size(scale)
    error = _blurred(pixels, scale).sub_(pixels).pow_(2)  # `square_` cannot be functionalized
    error = error.view(batch, channels, rows, size, cols, size).sum(dim=5).sum(dim=(1, 3))
    return (error / (channels * size)).sqrt()  # the mean over C·P² pixels, times P


def _blurred(pixels: Tensor, scale: int) -> Tensor:
    """`[B, C, H, W]`: the pixels as tokens of this scale would show them: down by `2**scale`, and back up.

    Bilinear, half-pixel centres, no antialiasing, as `resize` does it to the last digit but one. First every row is
    widened, while there are few; then rows are added in between. For that step each column is a channel to torch, and
    the channels lie last: so it works on many columns at once, which it does not along a row.
    """
    batch, channels, height, width = pixels.shape
    wide = _widened(_shrunk(pixels, scale), scale)
    columns = wide.view(batch * channels, height >> scale, 1, width).permute(0, 3, 1, 2)  # [B·C, W, H', 1]
    return resize(columns, height, 1).permute(0, 2, 3, 1).reshape_as(pixels)


def _shrunk(pixels: Tensor, scale: int) -> Tensor:
    """`[..., H, W]` → `[..., H', W']`: the centre of a block of pixels lies between the four in its middle."""
    step = 1 << scale
    before, behind = slice(step // 2 - 1, None, step), slice(step // 2, None, step)
    rows = pixels[..., before, :] + pixels[..., behind, :]
    return (rows[..., before] + rows[..., behind]) / 4


def _widened(pixels: Tensor, scale: int) -> Tensor:
    """`[..., H', W']` → `[..., H', W]`: each new pixel lies between an old one and its left or right neighbour."""
    step = 1 << scale
    left = torch.cat([pixels[..., :1], pixels[..., :-1]], dim=-1)
    right = torch.cat([pixels[..., 1:], pixels[..., -1:]], dim=-1)
    wide = pixels.new_empty(*pixels.shape, step)
    for place in range(step):
        offset = (place + 0.5) / step - 0.5  # from the old pixel's centre, in old pixels
        wide[..., place] = torch.lerp(pixels, left if offset < 0 else right, abs(offset))
    return wide.flatten(-2)
