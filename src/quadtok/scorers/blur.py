"""Pixel blur: how far a patch's pixels move when the image is shrunk to token resolution and enlarged again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadtok.pixels import as_floats, check_images
from quadtok.scorers.base import blurred, full_precision
from quadtok.spec import Spec

CHUNK_PIXELS = 1 << 19  # of the images that are worked on at a time


class BlurScorer:
    """Saliency `sqrt(mse · P)` of a patch of side P, over its pixels and channels (docs/reference.md section 3).

    Needs no weights and takes any number of channels. `sqrt(· P)` makes the scales comparable: it favours large
    patches, as the reference's baseline does.
    """

    @torch.no_grad()
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        # A few images at a time: what lies between stays in the cache, and bytes never become floats all at once.
        chunk = max(1, CHUNK_PIXELS // (spec.height * spec.width))
        with full_precision(images.device):
            parts = [_score(as_floats(part).contiguous(), spec) for part in torch.split(images, chunk)]
        return [torch.cat(scores) for scores in zip(*parts, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Name and options; there are none."""
        return {"name": "blur"}


def _score(pixels: Tensor, spec: Spec) -> list[Tensor]:
    return [_score_scale(pixels, scale, spec) for scale in range(1, spec.num_scales)]


def _score_scale(pixels: Tensor, scale: int, spec: Spec) -> Tensor:
    """`[B, H/P, W/P]` for float32 pixels `[B, C, H, W]`."""
    batch, channels = pixels.shape[:2]
    (rows, cols), size = spec.grid(scale), spec.patch_size(scale)
    error = blurred(pixels, scale).sub_(pixels).square_()
    error = error.view(batch, channels, rows, size, cols, size).sum(dim=5).sum(dim=(1, 3))
    return (error / (channels * size)).sqrt()  # the mean over C·P² pixels, times P
