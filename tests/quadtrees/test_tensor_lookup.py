"""Children by table, against where the patches lie."""

import pytest
import torch

from helpers import SPECS, children_by_geometry
from quadtok.quadtrees.tensor_lookup import children_table


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.num_scales > 1], ids=str)
def test_the_children_table_is_where_the_patches_lie(spec, device):
    table = children_table(spec, torch.device(device))
    assert table.dtype == torch.int64 and table.device.type == device
    assert table.tolist() == children_by_geometry(spec)
