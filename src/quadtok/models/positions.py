"""A model's table of positions, read at the centres of a plan's patches.

An entry of the table is the centre of its cell, so the table is read bilinearly, half-pixel. The centre of a patch of
scale 0 is the centre of a cell, and the centre of a coarser one is a corner where four cells meet: there "bilinear"
is the mean of the four. So there are only so many places, and reading is one gather of them: exactly the table's
entries on the full grid, without float coordinates, the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.plan import Plan


def at_centers(table: Tensor, plan: Plan) -> Tensor:
    """The table's values at the centres of the plan's patches.

    Args:
        table: `[H/p, W/p, D]`, an entry for each finest cell of the plan's images.
        plan: where the tokens lie, for B images, on the table's device.

    Returns:
        `[B, N, D]` in the table's dtype. Differentiable in the table.
    """
    rows, cols, dim = table.shape
    above = table[:-1, :-1] + table[:-1, 1:]
    below = table[1:, :-1] + table[1:, 1:]
    corners = (above + below) * 0.25  # [H/p - 1, W/p - 1, D]
    places = torch.cat([table.reshape(rows * cols, dim), corners.reshape((rows - 1) * (cols - 1), dim)])
    index = _place(plan, rows, cols)
    return places.index_select(0, index.flatten()).view(*index.shape, dim)


def _place(plan: Plan, rows: int, cols: int) -> Tensor:
    """`[B, N]` int64: the number of each centre, the cells first and then the corners, both in raster order."""
    half = (1 << plan.scale) >> 1  # in cells; 0 at scale 0
    x = plan.left // plan.spec.min_patch + half
    y = plan.top // plan.spec.min_patch + half
    corner = rows * cols + (y - 1) * (cols - 1) + (x - 1)
    return torch.where(half == 0, y * cols + x, corner)
