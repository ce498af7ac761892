"""No loop over splits: which S nodes best-first splitting would split, read off from one sort.

**The claim.** Give every node its rank r in the total order of priorities (0 is split first; all ranks differ). Let
u₀, …, u_d = v be the path from a root to the node v. Its *records* are the suffix maxima of r along that path: the
largest rank of the path, then the largest rank behind that one, and so on; the last is r(v). Compare two nodes by their
records, most significant first, a sequence that ends counting as smaller. In this order best-first splitting pops the
nodes. So the nodes it splits are the S smallest.

**Why it is right.** Best-first splitting pops v once all its ancestors are popped and v is the smallest waiting node.
While u_i, with the largest rank m of the path, waits, the loop pops everything that can be reached without passing a
node of rank ≥ m; only then u_i itself. So of two nodes the one with the smaller path maximum comes first, *wherever*
it lies. If both have the same maximum, then (ranks differ) both paths pass the very same node u_i; v is either that
node, popped first and a sequence that ends here, or lies in the subtree below it. From the moment u_i is popped, all
that waits elsewhere has rank > m and does not interfere before the subtree's part of rank < m is done, so the same
argument decides between two nodes inside that subtree: by the largest rank *behind* u_i. That is the next record. By
induction on the depth the orders agree. A parent's records are a prefix-dominated version of its child's, so a child
never comes before its parent, and any S smallest nodes are closed under taking parents: a tree.

**How.** A child's records are the parent's entries that exceed r(v), which are a prefix because records fall, and then
r(v). All nodes of a level are done at once: a level is one `where`. A sequence becomes one integer: ranks + 1 as
digits in base n + 1, most significant first, absent digits 0. `topk` then takes the S smallest. Where L levels of
digits do not fit in 63 bits they are spread over several integers, and stable sorts from the least significant to
the most do the same.

**Cost.** One sort of the n nodes for the ranks, L² elementwise passes over them for the records, one top-k; nothing
grows with S except the sort of the chosen tokens. No value ever travels to the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import check_saliency, node_ranks, plan_from_splits
from quadtok.spec import Spec

INT64_BITS = 63


def parallel(saliency: Sequence[Tensor], spec: Spec) -> Plan:
    """The first `num_splits` nodes in the order of their records, for all images at once."""
    check_saliency(saliency, spec)
    if spec.num_scales == 1:
        return Plan.uniform(spec, scale=0)
    digits = path_records(node_ranks(saliency, spec) + 1, spec)
    return plan_from_splits(_smallest(_packed(digits), spec.num_splits), spec)


def split_order(saliency: Sequence[Tensor], spec: Spec) -> Tensor:
    """In which order best-first splitting would go on until every patch is the finest.

    The first `(N − roots) / 3` entries, given to `plan_from_splits`, are the plan of N tokens: one run holds the
    plans of every budget. `spec.num_tokens` plays no part.

    Returns:
        `[B, n]` int64: the numbers of all splittable patches (see base.py), first to last.
    """
    check_saliency(saliency, spec)
    if spec.num_scales == 1:
        return torch.zeros(1, 0, dtype=torch.long)
    digits = path_records(node_ranks(saliency, spec) + 1, spec)
    return _smallest(_packed(digits), digits[0].shape[1], in_order=True)


def path_records(ranks: Tensor, spec: Spec) -> list[Tensor]:
    """The suffix-maximum records of every node's path.

    Args:
        ranks: `[B, n]` ranks from 1, distinct in each image, nodes in tie order.
        spec: the integers of the run.

    Returns:
        One tensor `[B, n]` a level, the most significant record first; 0 where a node has fewer records.
    """
    levels = spec.num_scales - 1
    sizes = [spec.num_roots * 4**depth for depth in range(levels)]
    absent = torch.zeros_like(ranks)
    by_level = []
    inherited = [absent[:, : sizes[0]]] * levels
    for own in torch.split(ranks, sizes, dim=1):
        records = _append(inherited, own)
        by_level.append(records)
        inherited = [record.repeat_interleave(4, dim=1) for record in records]
    return [torch.cat(parts, dim=1) for parts in zip(*by_level, strict=True)]


def _append(inherited: list[Tensor], own: Tensor) -> list[Tensor]:
    """Keep the inherited records above `own`, put `own` behind them, and end there."""
    records = [torch.maximum(inherited[0], own)]
    for before, here in zip(inherited, inherited[1:], strict=False):
        own_or_end = torch.where(before > own, own, 0)
        records.append(torch.where(here > own, here, own_or_end))
    return records


def _packed(digits: list[Tensor]) -> list[Tensor]:
    """As few integers `[B, n]` as hold all the digits, most significant first."""
    base = digits[0].shape[1] + 1
    per_integer = max(1, INT64_BITS // base.bit_length())
    keys = []
    for start in range(0, len(digits), per_integer):
        key = digits[start]
        for digit in digits[start + 1 : start + per_integer]:
            key = key * base + digit
        keys.append(key)
    return keys


def _smallest(keys: list[Tensor], count: int, in_order: bool = False) -> Tensor:
    """`[B, count]` int64: which nodes have the smallest keys, compared from the first key on."""
    if len(keys) == 1:
        return keys[0].topk(count, dim=1, largest=False, sorted=in_order).indices
    order = keys[-1].argsort(dim=1)
    for key in reversed(keys[:-1]):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order[:, :count]
