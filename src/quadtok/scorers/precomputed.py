"""Saliency from maps that the caller already has: Grad-CAM, uncertainty, a detector's heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.pixels import check_images
from quadtok.scorers.base import Described, pool_to_grid
from quadtok.spec import Spec
from quadtok.tracing import without_gradients


class PrecomputedScorer(Described):
    """Importance maps, averaged over each patch (docs/reference.md section 3).

    Args:
        maps: `[B, h, w]` for all scales alike, `[B, K, h, w]` with one map for each of the K splittable scales, or a
            list of K tensors `[B, h, w]`, entry k-1 for patches of scale k. Any resolution, any real numbers. Values
            are not checked: that would make the device wait. NaN makes its patch rank below everything.

    Raises:
        InputError: where the maps have another shape or type, or are no dense tensors of real numbers.
    """

    def __init__(self, maps: Tensor | Sequence[Tensor]) -> None:
        self.maps = maps
        listed = isinstance(maps, list | tuple)
        for entry in maps if listed else [maps]:
            if not isinstance(entry, Tensor):
                raise _refused(type(entry).__name__)
            _check_kind(entry)
            if entry.ndim not in ((3,) if listed else (3, 4)) or 0 in entry.shape[1:]:
                raise _refused(list(entry.shape))

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Pool the maps; the images give only their number and their device."""
        check_images(images, spec)
        maps = self._one_a_scale(spec.num_scales - 1)
        for entry in maps:
            if entry.shape[0] != images.shape[0]:
                raise InputError(f"there are maps for {entry.shape[0]} images and {images.shape[0]} images")
            if entry.is_meta and not images.is_meta:
                raise InputError("the maps are on the meta device and hold no numbers")
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


def _refused(found: object) -> InputError:
    return InputError(f"maps must be [B, h, w], [B, K, h, w] or a list of [B, h, w], got {found}")


def _check_kind(entry: Tensor) -> None:
    """Refuse what is no dense tensor of real numbers; never looks at a value."""
    if entry.is_nested or entry.layout is not torch.strided:
        kind = "a nested tensor" if entry.is_nested else f"{entry.layout}"
        raise InputError(f"maps must be dense tensors, got {kind}: give .to_dense() of it")
    if entry.is_quantized:
        raise InputError(f"maps must hold plain numbers, got {entry.dtype}: give .dequantize() of them")
    if entry.is_complex():
        raise InputError(f"maps must be real numbers, got {entry.dtype}: give .abs() or .real of them")
