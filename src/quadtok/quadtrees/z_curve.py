"""A batched loop that finds children by arithmetic on Morton codes, as the paper's fastest implementation does.

A node's number is (how many nodes are coarser) + its z-order number z. One level down there are four times as many
patches, and the children of z are 4z … 4z + 3. With R roots the coarser levels hold c = R + 4R + … nodes, and the next
level begins at R + 4c; so the children of node i = c + z are R + 4c + 4z + j = R + 4i + j. With a single root that
is the textbook's 4i + 1 … 4i + 4. Each root carries its own curve, so the grid of roots may have any shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold, checked, is_above, node_ranks, plan_from_splits, split_best_first
from quadtok.spec import Spec


@checked
def z_curve(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """One split of every image a step; the children of node i are `R + 4i … R + 4i + 3`."""
    ranks = node_ranks(saliency, spec)
    quadrant = torch.arange(4, device=ranks.device)
    splits = split_best_first(ranks, lambda nodes: children(nodes, quadrant, spec), spec)
    return plan_from_splits(splits, spec, None if threshold is None else is_above(saliency, spec, threshold))


def children(nodes: Tensor, quadrant: Tensor, spec: Spec) -> Tensor:
    """`[B, 4]` int64: the children of nodes `[B]`, in Morton order; `quadrant` holds 0, 1, 2, 3."""
    return spec.num_roots + 4 * nodes[:, None] + quadrant
