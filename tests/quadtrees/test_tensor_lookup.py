"""Children by table and children by arithmetic, against where the patches lie."""

from importlib import import_module

import pytest
import torch

from helpers import SPECS, patches_in_tie_order, random_saliency
from quadtok.quadtrees.base import split_best_first
from quadtok.quadtrees.tensor_lookup import children_table

SPLITTABLE = [spec for spec in SPECS if spec.num_scales > 1]


def children_by_geometry(spec):
    """For each node the numbers of its four quadrants, in Morton order; the finest are numbered behind the nodes."""
    patches = patches_in_tie_order(spec, finest=0)
    number = {patch: place for place, patch in enumerate(patches)}
    for scale, left, top in patches:
        if scale:
            half = spec.patch_size(scale - 1)
            yield [number[scale - 1, x, y] for y in (top, top + half) for x in (left, left + half)]


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
def test_the_children_table_is_where_the_patches_lie(spec, device):
    table = children_table(spec, torch.device(device))
    assert table.dtype == torch.int64 and table.device.type == device
    assert table.tolist() == list(children_by_geometry(spec))


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
def test_the_arithmetic_of_the_z_curve_is_where_the_patches_lie(spec, monkeypatch):
    module = import_module("quadtok.quadtrees.z_curve")
    seen = []

    def spy(ranks, children, spec):
        seen.extend(children(torch.arange(ranks.shape[1])).tolist())
        return split_best_first(ranks, children, spec)

    monkeypatch.setattr(module, "split_best_first", spy)
    module.z_curve(random_saliency(spec, batch=1), spec)
    assert seen == list(children_by_geometry(spec))
