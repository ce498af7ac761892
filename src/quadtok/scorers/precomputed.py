"""Saliency from maps that the caller already has: Grad-CAM, uncertainty, a detector's heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.pixels import check_images
from quadtok.recording import without_gradients
from quadtok.scorers.base import pool_to_grid
from quadtok.spec import Spec


class PrecomputedScorer:
    """Importance maps, averaged over each patch (docs/reference.md section 3).

    Args:
        maps: `[B, h, w]` for all scales alike, `[B, K, h, w]` with one map for each of the K splittable scales, or a
            list of K tensors `[B, h, w]`, entry k-1 for patches of scale k. Any resolution, any real numbers. Values
            are not checked: that would make the device wait. NaN makes its patch rank below everything.
    """

    def __init__(self, maps: Tensor | Sequence[Tensor]) -> None:
        self.maps = maps
        for entry in [maps] if isinstance(maps, Tensor) else maps:
            expected = (3, 4) if isinstance(maps, Tensor) else (3,)
            if not isinstance(entry, Tensor) or entry.ndim not in expected or 0 in entry.shape[1:]:
                found = list(entry.shape) if isinstance(entry, Tensor) else type(entry).__name__
                raise InputError(f"maps must be [B, h, w], [B, K, h, w] or a list of [B, h, w], got {found}")

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Pool the maps; the images give only their number and their device."""
        check_images(images, spec)
        maps = self._one_a_scale(spec.num_scales - 1)
        for entry in maps:
            if entry.shape[0] != images.shape[0]:
                raise InputError(f"there are maps for {entry.shape[0]} images and {images.shape[0]} images")
        return [
            pool_to_grid(entry.to(images.device, torch.float32), *spec.grid(scale))
            for scale, entry in enumerate(maps, start=1)
        ]

    def describe(self) -> dict[str, Any]:
        """The name alone: the maps are data."""
        return {"name": "precomputed"}

    def _one_a_scale(self, num_scales: int) -> list[Tensor]:
        if isinstance(self.maps, Tensor) and self.maps.ndim == 3:
            return [self.maps] * num_scales
        maps = list(self.maps.unbind(dim=1)) if isinstance(self.maps, Tensor) else list(self.maps)
        if len(maps) != num_scales:
            raise InputError(f"there are maps for {len(maps)} scales, the spec has {num_scales} that can be split")
        return maps
