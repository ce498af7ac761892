"""Raster order to forest z-order and back, against the definition."""

import math

import pytest
import torch

from helpers import z_order_key
from quadtok import Spec
from quadtok.zorder import from_z_order, to_z_order


@pytest.mark.parametrize(
    ("rows", "cols", "depth"), [(4, 4, 2), (4, 8, 2), (6, 2, 1), (3, 5, 0), (8, 24, 3), (32, 32, 5)]
)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_z_order_and_back_is_the_identity_and_follows_the_definition(rows, cols, depth, batch):
    grid = torch.arange(math.prod(batch) * rows * cols).view(*batch, rows, cols)
    line = to_z_order(grid, depth)
    assert line.shape == (*batch, rows * cols)
    assert torch.equal(from_z_order(line, rows, cols, depth), grid)
    spec = Spec.full(rows, cols, 1, 2**depth)
    cells = sorted(range(rows * cols), key=lambda cell: z_order_key(cell % cols, cell // cols, spec))
    assert line.view(-1, rows * cols)[0].tolist() == cells
