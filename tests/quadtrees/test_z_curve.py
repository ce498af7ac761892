"""Children by arithmetic, against where the patches lie."""

import pytest
import torch

from helpers import SPECS, children_by_geometry
from quadtok.quadtrees.z_curve import children


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.num_scales > 1], ids=str)
def test_the_arithmetic_is_where_the_patches_lie(spec, device):
    expected = children_by_geometry(spec)
    nodes = torch.arange(len(expected), device=device)
    assert children(nodes, torch.arange(4, device=device), spec).tolist() == expected
