"""Rotary positions at the centres of a plan's patches, for the five kinds that timm's models hold as `model.rope`.

Rotary positions are a function of coordinates, so they are exact at any centre, in whatever order tokens come. What
differs between kinds is where zero is, what one step is, and how angles are laid out; all of it is read off the
module. Angles are computed in float32 at least, whatever the precision of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quadtok.plan import Plan

Grid = tuple[int, int]  # (rows, columns) of finest cells

AT_BLOCK = "RotaryEmbeddingMixed"  # the kind whose angles differ between blocks
HALVES = "RotaryEmbeddingMRope"  # the kind that knows no other layout


def knows_rope(rope: Any) -> bool:
    """Whether positions of this kind can be had at any centre."""
    return type(rope).__module__.partition(".")[0] == "timm" and type(rope).__name__ in _ANGLES


def rope_at_centers(rope: Any, plan: Plan) -> Callable[[int], Tensor]:
    """Sines and cosines for the tokens of a plan, as timm's attention takes them.

    Args:
        rope: `model.rope`, of a kind that `knows_rope` knows.
        plan: where the tokens lie, for B images of N tokens.

    Returns:
        The number of a block → `[B, 1 or heads, N, 2d]`. While the module trains with its augmentation of coordinates
        switched on, one transform is drawn a call, for all images and blocks alike, as timm does.
    """
    coordinates = _augmented(_COORDINATES[type(rope).__name__](rope, plan), rope)
    angles = _ANGLES[type(rope).__name__]
    if type(rope).__name__ == AT_BLOCK:
        return lambda block: _laid_out(angles(rope, coordinates, block), half=False)
    half = type(rope).__name__ == HALVES or getattr(rope, "rotate_half", False)
    shared = _laid_out(angles(rope, coordinates, 0), half)
    return lambda block: shared


def _axes(plan: Plan) -> tuple[Tensor, Tensor, Grid]:
    """(y, x) `[B, N]` of the centres in cells, the first cell's at 0.5, and how many cells there are."""
    x, y = plan.centers.unbind(dim=-1)
    return y, x, plan.spec.grid(0)


def _in_order(y: Tensor, x: Tensor, rope: Any) -> Tensor:
    """`[B, N, 2]`: the coordinates as the kind orders them."""
    return torch.stack([x, y] if rope.grid_indexing == "xy" else [y, x], dim=-1)


def _steps(rope: Any, plan: Plan) -> Tensor:
    """Whole steps: the first cell is at 0."""
    y, x, _ = _axes(plan)
    return _in_order(y - 0.5, x - 0.5, rope)


def _cat_coordinates(rope: Any, plan: Plan) -> Tensor:
    """Steps, a range from −1 to 1 over the first and the last centre, or one over the edges of the image."""
    y, x, grid = _axes(plan)
    kind = getattr(rope, "grid_type", "pixel" if rope.in_pixels else "index")
    reference = rope.ref_feat_shape or grid
    shared = _shared_extent(getattr(rope, "normalize_coords", "separate"), grid)

    def along(center: Tensor, cells: int, reference: int, extent: int) -> Tensor:
        if kind == "index":
            place = center - 0.5 + rope.grid_offset
        elif kind == "pixel":
            place = 2 * (center - 0.5) / max(cells - 1, 1) - 1
        else:
            place = (center + rope.grid_offset) / extent
        if reference != cells:
            place = place / cells * reference
        return 2 * place - 1 if kind == "centered" else place

    (rows, cols), (height, width), (vertical, horizontal) = grid, reference, shared
    return _in_order(along(y, rows, height, vertical), along(x, cols, width, horizontal), rope)


def _dinov3_coordinates(rope: Any, plan: Plan) -> Tensor:
    """From −1 to 1 over the edges of the image."""
    y, x, grid = _axes(plan)
    rows, cols = _shared_extent(rope.normalize_coords, grid)
    return _in_order(2 * (y + rope.grid_offset) / rows - 1, 2 * (x + rope.grid_offset) / cols - 1, rope)


def _shared_extent(rule: str, grid: Grid) -> Grid:
    """How many cells each axis is measured by."""
    if rule == "separate":
        return grid
    cells = max(grid) if rule == "max" else min(grid)
    return cells, cells


def _augmented(coordinates: Tensor, rope: Any) -> Tensor:
    """While training, and where the module says so: shifted and scaled at random, all tokens alike."""
    if not rope.training:
        return coordinates
    shift, jitter, rescale = (getattr(rope, f"{name}_coords", None) for name in ("shift", "jitter", "rescale"))
    if shift is not None:
        coordinates = coordinates + coordinates.new_empty(2).uniform_(-shift, shift)
    for factor, size in ((jitter, 2), (rescale, 1)):
        if factor is not None:
            limit = math.log(factor)
            coordinates = coordinates * coordinates.new_empty(size).uniform_(-limit, limit).exp()
    return coordinates


def _cat_angles(rope: Any, coordinates: Tensor, block: int) -> Tensor:
    bands = _precise(_bands(rope) if rope.bands is None else rope.bands)
    return (coordinates.to(bands.dtype)[..., None] * bands).flatten(-2)[:, None]


def _bands(rope: Any) -> Tensor:
    """`[d/4]`, as timm makes them. Before 1.0.31 a module with a table for one size does not keep them."""
    device = rope.pos_embed.device
    steps = torch.arange(rope.dim // 4, dtype=torch.float32, device=device)
    if not rope.in_pixels:
        return 1 / rope.temperature ** (steps / (rope.dim // 4))
    last = rope.max_res / 2 if rope.linear_bands else math.log2(rope.max_res) - 1
    first = 1.0 if rope.linear_bands else 0.0
    spread = first + steps * (last - first) / max(rope.dim // 4 - 1, 1)
    return math.pi * (spread if rope.linear_bands else 2**spread)


def _dinov3_angles(rope: Any, coordinates: Tensor, block: int) -> Tensor:
    periods = _precise(rope.periods)
    return (2 * math.pi * coordinates.to(periods.dtype)[..., None] / periods).flatten(-2)[:, None]


def _mixed_angles(rope: Any, coordinates: Tensor, block: int) -> Tensor:
    """Learned frequencies `[2, depth, heads, d/2]`: each head of each block turns along a direction of its own."""
    first, second = _precise(rope.freqs)[:, block, :, None, :]  # [heads, 1, d/2] each
    place = coordinates.to(first.dtype)[:, None, :, :, None]  # [B, 1, N, 2, 1]
    return place[..., 0, :] * first + place[..., 1, :] * second


def _mrope_angles(rope: Any, coordinates: Tensor, block: int) -> Tensor:
    """Of time, height and width; an image is one moment."""
    place = torch.cat([torch.zeros_like(coordinates[..., :1]), coordinates], dim=-1)
    frequencies = _precise(rope.inv_freq)
    return (place.index_select(-1, rope.axis).to(frequencies.dtype) * frequencies)[:, None]


def _precise(frequencies: Tensor) -> Tensor:
    return frequencies if frequencies.dtype == torch.float64 else frequencies.float()


def _laid_out(angles: Tensor, half: bool) -> Tensor:
    """`[B, h, N, d/2]` → sines and cosines `[B, h, N, 2d]`: each number twice, side by side or a half apart."""

    def twice(values: Tensor) -> Tensor:
        return torch.cat([values, values], dim=-1) if half else values.repeat_interleave(2, dim=-1)

    return torch.cat([twice(angles.sin()), twice(angles.cos())], dim=-1)


_COORDINATES: dict[str, Callable[[Any, Plan], Tensor]] = {
    "RotaryEmbeddingCat": _cat_coordinates,
    "RotaryEmbeddingDinoV3": _dinov3_coordinates,
    AT_BLOCK: _steps,
    HALVES: _steps,
}
_ANGLES: dict[str, Callable[[Any, Tensor, int], Tensor]] = {
    "RotaryEmbeddingCat": _cat_angles,
    "RotaryEmbeddingDinoV3": _dinov3_angles,
    AT_BLOCK: _mixed_angles,
    HALVES: _mrope_angles,
}
