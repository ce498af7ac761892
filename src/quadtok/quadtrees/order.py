"""In which order best-first splitting goes on, read off from one sort: the order of *records*.

**The claim.** Give every node its rank r in the total order of priorities (1 is split first; all ranks differ). Let
u₀, …, u_d = v be the path from a root to the node v. Its *records* are the suffix maxima of r along that path: the
largest rank of the path, then the largest rank behind that one, and so on; the last is r(v). Compare two nodes by their
records, most significant first, a sequence that ends counting as smaller. In this order best-first splitting pops the
nodes. So the nodes it splits are the S smallest.

**Why it is right.** Best-first splitting pops v once all its ancestors are popped and v is the smallest waiting node.
While u_i, with the largest rank m of the path, waits, the loop pops everything that can be reached without passing a
node of rank ≥ m; only then u_i itself. So of two nodes the one with the smaller path maximum comes first, *wherever* it
lies. If both have the same maximum, then (ranks differ) both paths pass the very same node u_i; each of the two is
either that node, which is popped first and whose sequence ends here, or lies in the subtree below it. From the
moment u_i is popped, all that waits elsewhere has a rank above m and does not interfere before the subtree's part
below m is done, so the same argument decides inside that subtree: by the largest rank *behind* u_i. That is the next
record. By induction on the depth the orders agree. A parent comes before its children, so the S smallest nodes are
closed under taking parents: a tree.

**How.** Write the records as the digits of one integer, each digit wide enough for n, absent ones 0 at the end.
Records fall, so a child keeps those of its parent's that exceed its own rank r, a prefix, and puts r behind them.
Cut its parent's number behind any number of digits and put r there: of all these candidates the right one is the
largest. (Cut earlier, and r replaces a larger digit. Cut later, and r stands behind a smaller digit where it could
have replaced it.) So a level of the tree is a few `maximum`s over all its nodes at once, and `topk` takes the S
smallest numbers. Where L levels of digits do not fit in 63 bits the digits are kept apart, and stable sorts from the
least significant to the most do the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.quadtrees.base import check_saliency, node_ranks, stable_argsort
from quadtok.spec import Spec

INT64_BITS = 63


def first_splits(saliency: Sequence[Tensor], spec: Spec) -> Tensor:
    """`[B, S]` int64: the nodes that best-first splitting splits first, in any order; nothing depends on a value."""
    keys = record_keys(node_ranks(saliency, spec, first=1), spec)
    return smallest(keys, spec.num_splits)


def split_order(saliency: Sequence[Tensor], spec: Spec) -> Tensor:
    """In which order best-first splitting would go on until every patch is the finest.

    The first `(N − roots) / 3` entries, given to `plan_from_splits`, are the plan of N tokens: one run holds the plans
    of every budget. `spec.num_tokens` plays no part.

    Returns:
        `[B, n]` int64: the numbers of all splittable patches (see base.py), first to last.
    """
    check_saliency(saliency, spec)
    if spec.num_scales == 1:
        return torch.zeros(1, 0, dtype=torch.long, device="cpu")
    ranks = node_ranks(saliency, spec, first=1)
    return smallest(record_keys(ranks, spec), ranks.shape[1], in_order=True)


def record_keys(ranks: Tensor, spec: Spec, bits: int = INT64_BITS) -> list[Tensor]:
    """The records of every node as numbers that compare as they do.

    Args:
        ranks: `[B, n]` ranks from 1, distinct in each image, nodes in tie order.
        spec: the integers of the run.
        bits: that one number may have.

    Returns:
        One tensor `[B, n]` int64, or several, most significant first, where one number cannot hold all digits.
    """
    num_nodes = (spec.num_cells - spec.num_roots) // 3  # the shape would say so, but torch.jit has no integers there
    digit_bits = num_nodes.bit_length()
    if digit_bits * (spec.num_scales - 1) <= bits:
        return [_numbers(ranks, digit_bits, spec)]
    return packed(path_records(ranks, spec), num_nodes + 1, bits)


def _numbers(ranks: Tensor, digit_bits: int, spec: Spec) -> Tensor:
    """`[B, n]`: all records of a node as the digits of one number."""
    levels = spec.num_scales - 1
    numbers, parents = [], None
    for depth, own in enumerate(_by_level(ranks, spec)):
        largest = own << (digit_bits * (levels - 1))
        if parents is not None:
            siblings = (ranks.shape[0], own.shape[1] // 4, 4)
            own, largest = own.reshape(siblings), largest.reshape(siblings)
            for kept in range(1, depth + 1):
                shift = digit_bits * (levels - 1 - kept)
                # A parent at this depth has `depth` digits: there is nothing behind them to cut off.
                prefix = parents if kept == depth else parents & -(1 << (shift + digit_bits))
                largest = torch.maximum(largest, prefix[..., None] | (own << shift))
            largest = largest.flatten(1)
        numbers.append(largest)
        parents = largest
    return torch.cat(numbers, dim=1)


def path_records(ranks: Tensor, spec: Spec) -> list[Tensor]:
    """The records themselves: one tensor `[B, n]` a level, the most significant first; 0 where a node has fewer."""
    levels = spec.num_scales - 1
    by_level: list[list[Tensor]] = []
    inherited = [torch.zeros_like(ranks[:, : spec.num_roots])] * levels
    for own in _by_level(ranks, spec):
        records = _append(inherited, own)
        by_level.append(records)
        inherited = [record.repeat_interleave(4, dim=1) for record in records]
    return [torch.cat(parts, dim=1) for parts in zip(*by_level, strict=True)]


def _by_level(ranks: Tensor, spec: Spec) -> tuple[Tensor, ...]:
    """The nodes of each depth, roots first: `[B, R]`, `[B, 4 R]`, …"""
    return torch.split(ranks, [spec.num_roots * 4**depth for depth in range(spec.num_scales - 1)], dim=1)


def _append(inherited: list[Tensor], own: Tensor) -> list[Tensor]:
    """Keep the inherited records above `own`, put `own` behind them, and end there."""
    records = [torch.maximum(inherited[0], own)]
    for before, here in zip(inherited, inherited[1:], strict=False):
        own_or_end = torch.where(before > own, own, 0)
        records.append(torch.where(here > own, here, own_or_end))
    return records


def packed(digits: list[Tensor], base: int, bits: int = INT64_BITS) -> list[Tensor]:
    """As few integers `[B, n]` of so many bits as hold all the digits below `base`, most significant first."""
    per_integer = max(1, bits // base.bit_length())
    keys = []
    for start in range(0, len(digits), per_integer):
        key = digits[start]
        for digit in digits[start + 1 : start + per_integer]:
            key = key * base + digit
        keys.append(key)
    return keys


def smallest(keys: list[Tensor], count: int, in_order: bool = False) -> Tensor:
    """`[B, count]` int64: which nodes have the smallest keys, compared from the first key on."""
    if len(keys) == 1:
        return keys[0].topk(count, dim=1, largest=False, sorted=in_order).indices
    order = keys[-1].argsort(dim=1)
    for key in reversed(keys[:-1]):
        order = order.gather(1, stable_argsort(key.gather(1, order)))
    return order[:, :count]
