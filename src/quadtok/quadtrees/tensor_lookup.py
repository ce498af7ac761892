"""A batched loop that finds children through an index table: works on any numbering, so on any grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold, checked, is_above, node_ranks, plan_from_splits, split_best_first
from quadtok.spec import Spec
from quadtok.zorder import from_z_order, to_z_order


@checked
def tensor_lookup(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """One split of every image a step; the children of a node are a row of a table."""
    ranks = node_ranks(saliency, spec)
    table = children_table(spec, ranks.device)
    splits = split_best_first(ranks, lambda nodes: table[nodes], spec)
    return plan_from_splits(splits, spec, None if threshold is None else is_above(saliency, spec, threshold))


def children_table(spec: Spec, device: torch.device) -> Tensor:
    """`[n, 4]` int64: the four children of each node, in Morton order.

    Read off the grids: where a scale's patches lie, the next finer grid has 2×2 patches. The finest patches are
    numbered on behind the nodes.
    """
    depth = spec.num_scales - 1
    tables, next_number = [], spec.num_roots
    for scale in range(depth, 0, -1):
        rows, cols = spec.grid(scale - 1)
        numbers = torch.arange(next_number, next_number + rows * cols, device=device)
        finer = from_z_order(numbers, rows, cols, depth - scale + 1)
        blocks = finer.view(rows // 2, 2, cols // 2, 2).permute(1, 3, 0, 2).flatten(0, 1)  # [4, rows/2, cols/2]
        tables.append(to_z_order(blocks, depth - scale).T)
        next_number += rows * cols
    return torch.cat(tables)
