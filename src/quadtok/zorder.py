"""Forest z-order, told once: raster to the curve and back, where its cells lie, and where a split cuts it.

Roots stand in raster order, and inside a root its quadrants in Morton order (top-left, top-right, bottom-left,
bottom-right, recursively). So every subtree is one contiguous run, and if the finest cells are numbered along the
curve, a patch of scale k is the run of `4**k` cells that begins at its own first cell.

A number on the curve, in bits: the root, then y and x in turn, the coarsest first. That is all there is to it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadtok.spec import Spec

HALF = 32  # bits: two numbers share one of 64
LOW_HALF = (1 << HALF) - 1


def to_z_order(grid: Tensor, depth: int) -> Tensor:
    """Raster to forest z-order: `[..., rows, cols]` → `[..., rows * cols]`, where a root is `2**depth` wide."""
    *batch, rows, cols = grid.shape
    bits = grid.reshape(*batch, rows >> depth, *[2] * depth, cols >> depth, *[2] * depth)
    return bits.permute(*range(len(batch)), *_interleaved(len(batch), depth)).reshape(*batch, rows * cols)


def from_z_order(values: Tensor, rows: int, cols: int, depth: int) -> Tensor:
    """The inverse of `to_z_order`: `[..., rows * cols]` → `[..., rows, cols]`."""
    batch = values.shape[:-1]
    bits = values.reshape(*batch, rows >> depth, cols >> depth, *[2] * (2 * depth))
    axes = _interleaved(len(batch), depth)
    inverse = sorted(range(len(axes)), key=axes.__getitem__)
    return bits.permute(*range(len(batch)), *(len(batch) + axis for axis in inverse)).reshape(*batch, rows, cols)


def corners(spec: Spec, device: torch.device) -> tuple[Tensor, Tensor]:
    """(left, top) in pixels of the finest cells, `[num_cells]` int64 each, in forest z-order."""
    side = torch.arange(0, spec.max_patch, spec.min_patch, device=device)
    square = (len(side), len(side))
    depth, (root_rows, root_cols) = spec.num_scales - 1, spec.grid(spec.num_scales - 1)
    left_in_root, top_in_root = (
        to_z_order(grid, depth) for grid in (side.expand(square), side[:, None].expand(square))
    )
    root_left = torch.arange(0, spec.width, spec.max_patch, device=device).expand(root_rows, root_cols)
    root_top = torch.arange(0, spec.height, spec.max_patch, device=device)[:, None].expand(root_rows, root_cols)
    left, top = root_left[..., None] + left_in_root, root_top[..., None] + top_in_root
    return left.flatten(), top.flatten()


def number_of_cells(row: Tensor, col: Tensor, spec: Spec) -> Tensor:
    """The place on the curve of the finest cells at these rows and columns, all three of one shape, int64."""
    # By arithmetic: a table of all cells would be large for a small file that declares a large image.
    depth, root_cols = spec.num_scales - 1, spec.grid(spec.num_scales - 1)[1]
    root = (row >> depth) * root_cols + (col >> depth)
    inside = (1 << depth) - 1
    place = 2 * _spread_bits(row & inside, depth) + _spread_bits(col & inside, depth)
    return (root << (2 * depth)) + place


def cut_points(spec: Spec, device: torch.device) -> Tensor:
    """`[n, 3]` int64: for every node, the first cells of its second, third and fourth quadrant."""
    quadrant = torch.arange(1, 4, device=device)
    return torch.cat(
        [
            torch.arange(0, spec.num_cells, 4**scale, device=device)[:, None] + quadrant * 4 ** (scale - 1)
            for scale in range(spec.num_scales - 1, 0, -1)
        ]
    )


def places(spec: Spec) -> list[NDArray[np.int64]]:
    """For each scale, finest first, where in its grid the patches lie: `row << 32 | column`, in forest z-order."""
    rows, columns = (np.arange(count, dtype=np.int64) for count in spec.grid(spec.num_scales - 1))
    quadrants = np.array([0, 1, 1 << HALF, 1 << HALF | 1], dtype=np.int64)
    by_scale = [np.add.outer(rows << HALF, columns).ravel()]
    for _ in range(1, spec.num_scales):
        by_scale.append(np.add.outer(2 * by_scale[-1], quadrants).ravel())
    return by_scale[::-1]


def _spread_bits(numbers: Tensor, depth: int) -> Tensor:
    """Each number, of `depth` bits, with a zero bit put in front of each of its bits."""
    spread = torch.zeros_like(numbers)
    for bit in range(depth):
        spread += (numbers >> bit & 1) << (2 * bit)
    return spread


def _interleaved(before: int, depth: int) -> list[int]:
    """The axes (root row, root column, y bit, x bit, y bit, x bit, …) of a grid whose sides were cut into bits."""
    root_row, root_col = before, before + depth + 1
    bits = [axis + offset for offset in range(1, depth + 1) for axis in (root_row, root_col)]
    return [root_row, root_col, *bits]
