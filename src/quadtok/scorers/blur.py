"""Pixel blur: how far a patch's pixels move when the image is shrunk to token resolution and enlarged again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadtok.pixels import as_floats, check_images
from quadtok.scorers.base import blurred, full_precision, pool_to_grid
from quadtok.spec import Spec


class BlurScorer:
    """Saliency `sqrt(mse · P)` of a patch of side P, over its pixels and channels (docs/reference.md section 3).

    Needs no weights and takes any number of channels. `sqrt(· P)` makes the scales comparable: it favours large
    patches, as the reference's baseline does.
    """

    @torch.no_grad()
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        with full_precision(images.device):
            pixels = as_floats(images)
            return [self._score(pixels, scale, spec) for scale in range(1, spec.num_scales)]

    def describe(self) -> dict[str, Any]:
        """Name and options; there are none."""
        return {"name": "blur"}

    def _score(self, pixels: Tensor, scale: int, spec: Spec) -> Tensor:
        error = (blurred(pixels, scale) - pixels).square().mean(dim=1)  # [B, H, W]
        return (pool_to_grid(error, *spec.grid(scale)) * spec.patch_size(scale)).sqrt()
