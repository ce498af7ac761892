"""No loop over splits: which S nodes best-first splitting would split, read off from one sort.

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

**Cost.** One sort of the n nodes for the ranks, L² / 2 elementwise passes for the numbers, one top-k, one sort of
the chosen tokens. Nothing grows with S but that last one. No value ever travels to the host. Measured in
docs/performance.md.

**On a CPU** numpy does it: there a small operation of torch takes several times as long as one of numpy, and so does
its sort of many short rows, for which numpy uses the processor's vectors. The values may be looked at, so nothing is
computed that does not decide. In place of ranks stand *keys*, integers that order the nodes as ranks do, made from the
bits of the saliency. Take of every node its first record, the maximum of its path, and of these the S-th smallest, t.
A node with a smaller one is split, a node with a larger one is not. Where S nodes have t or less, that is all.
Otherwise too many have t itself: a node u, as above, and some of the subtree below it. u is split; about the others
decides the next record, the maximum of the path behind u, which is below t. So ask again with new numbers: for u and
all that is already split something below every key; for the others below u their next record; for all that is not
split the old number, above t. The nodes in question share one more node of their paths after each round, so L rounds
are enough. What stands below every key is the node's place among the nodes, because numpy's partition is slow where
many numbers are equal.

The tokens are read off without another sort. Mark each root as a token of the coarsest scale. Then, from the coarsest
scale to the finest, give every patch a word of four bytes, one for each quadrant. A patch that is not split hands its
mark, if it has one, to its first quadrant; one that is split marks all four as tokens. In forest z-order the words of
one scale, byte by byte, are the patches of the next. In the end they are the cells, and the marked ones are the first
cells of the tokens, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import check_saliency, node_ranks, plan_from_splits, stable_argsort
from quadtok.recording import may_be_looked_at
from quadtok.spec import Spec

INT64_BITS = 63
HALF = 32  # bits: two numbers share one of 64
LOW_HALF = (1 << HALF) - 1


def parallel(saliency: Sequence[Tensor], spec: Spec) -> Plan:
    """The first `num_splits` nodes in the order of their records, for all images at once."""
    check_saliency(saliency, spec)
    if spec.num_scales == 1:
        return Plan.uniform(spec, scale=0)
    return _by_numpy(saliency, spec) if may_be_looked_at(saliency) else _by_torch(saliency, spec)


def _by_torch(saliency: Sequence[Tensor], spec: Spec) -> Plan:
    """For every device, and for whatever records operations: nothing depends on a value."""
    keys = record_keys(node_ranks(saliency, spec, first=1), spec)
    return plan_from_splits(_smallest(keys, spec.num_splits), spec)


def _by_numpy(saliency: Sequence[Tensor], spec: Spec) -> Plan:
    """For numbers in the CPU's memory."""
    places = _places(spec)
    split = _first_splits(_keys(saliency, places, spec), spec)
    return _plan_of_marks(_token_marks(split, spec), places[0], spec)


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
    return _smallest(record_keys(ranks, spec), ranks.shape[1], in_order=True)


def record_keys(ranks: Tensor, spec: Spec) -> list[Tensor]:
    """The records of every node as numbers that compare as they do.

    Args:
        ranks: `[B, n]` ranks from 1, distinct in each image, nodes in tie order.
        spec: the integers of the run.

    Returns:
        One tensor `[B, n]` int64, or several, most significant first, where one number cannot hold all digits.
    """
    digit_bits = ranks.shape[1].bit_length()
    if digit_bits * (spec.num_scales - 1) <= INT64_BITS:
        return [_numbers(ranks, digit_bits, spec)]
    return _packed(path_records(ranks, spec))


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
        order = order.gather(1, stable_argsort(key.gather(1, order)))
    return order[:, :count]


# From here on numpy alone, for numbers in memory.


def _places(spec: Spec) -> list[NDArray[np.int64]]:
    """For each scale, finest first, where in its grid the patches lie: `row << 32 | column`, in forest z-order."""
    rows, columns = (np.arange(count, dtype=np.int64) for count in spec.grid(spec.num_scales - 1))
    quadrants = np.array([0, 1, 1 << HALF, 1 << HALF | 1], dtype=np.int64)
    places = [np.add.outer(rows << HALF, columns).ravel()]
    for _ in range(1, spec.num_scales):
        places.append(np.add.outer(2 * places[-1], quadrants).ravel())
    return places[::-1]


def _keys(saliency: Sequence[Tensor], places: list[NDArray[np.int64]], spec: Spec) -> NDArray[np.uint64]:
    """`[B, n]`: distinct in each image, all at least n, smaller where the node goes first; nodes in tie order."""
    if any(scores.dtype == torch.float64 for scores in saliency):
        # 64 bits of saliency leave no room for the node's number, which settles ties.
        num_nodes = sum(map(len, places[1:]))
        return node_ranks(saliency, spec, first=num_nodes).numpy().view(np.uint64)
    rasters = [scores.float().flatten(1).numpy(force=True) for scores in saliency]
    values = [rasters[-1]]  # roots are in raster order
    for scale in range(spec.num_scales - 2, 0, -1):
        # row << 32 | column becomes row * columns + column.
        place = places[scale] + (places[scale] >> HALF) * (spec.grid(scale)[1] - (1 << HALF))
        values.append(rasters[scale - 1].take(place, axis=1))
    keys = _descending_bits(np.concatenate(values, axis=1)).astype(np.uint64)
    keys <<= np.uint64(HALF)
    keys |= np.arange(keys.shape[1], dtype=np.uint64)
    return keys


def _descending_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers that rise as the values fall: one for both zeros, the largest for every NaN."""
    negated = -values
    np.copyto(negated, np.nan, where=np.isnan(negated))
    negated += 0.0  # −0 becomes 0
    # Bits rise with a positive number, and fall with a negative one: these are turned round and put below the others.
    bits = negated.view(np.int32)
    return (bits ^ (bits >> 31 | np.int32(-(2**31)))).view(np.uint32)


def _first_splits(keys: NDArray[np.uint64], spec: Spec) -> NDArray[np.bool_]:
    """`[B, n]`: whether a node is one of the `num_splits` first in the order of records."""
    if spec.num_splits == 0:
        return np.zeros(keys.shape, dtype=np.bool_)
    numbers = np.arange(keys.shape[1], dtype=np.uint64)  # below all keys, and rising along every path
    record = _path_maxima(keys, spec)
    for _ in range(spec.num_scales - 1):
        last = np.partition(record, spec.num_splits - 1, axis=1)[:, spec.num_splits - 1, None]
        split = record <= last
        if np.count_nonzero(split) == len(keys) * spec.num_splits:
            break
        # Below the node whose own key is `last`, keys are smaller: the next record is the maximum of those.
        behind = (record == last) & (keys < last)
        following = _path_maxima(np.maximum(keys * behind, numbers), spec)
        record = np.maximum(following, record * (record > last))
    return split


def _path_maxima(keys: NDArray[np.uint64], spec: Spec) -> NDArray[np.uint64]:
    """`[B, n]`: the largest key of each node's path from its root."""
    maxima = keys.copy()
    for above, here in pairwise(_levels(maxima, spec)):
        np.maximum(here, above.repeat(4, axis=1), out=here)
    return maxima


def _levels(nodes: NDArray[Any], spec: Spec) -> Iterator[NDArray[Any]]:
    """Views of the nodes of each depth, roots first."""
    begin, count = 0, spec.num_roots
    while begin < nodes.shape[1]:
        yield nodes[:, begin : begin + count]
        begin, count = begin + count, 4 * count


def _token_marks(split: NDArray[np.bool_], spec: Spec) -> NDArray[np.uint8]:
    """`[B, cells]` in forest z-order: 1 + the scale of the token that begins at a cell, 0 where none does."""
    marks = np.full((len(split), spec.num_roots), spec.num_scales, dtype=np.uint8)
    for scale, is_split in zip(range(spec.num_scales - 1, 0, -1), _levels(split, spec), strict=True):
        # A patch that is split carries the mark 1 + its scale. Its four quadrants get the mark `scale` instead.
        change = np.uint32(scale * 0x01010101 - (1 + scale))
        words = is_split * change + marks
        marks = words.astype("<u4", copy=False).view(np.uint8)
    return marks


def _plan_of_marks(marks: NDArray[np.uint8], cells: NDArray[np.int64], spec: Spec) -> Plan:
    """The tokens that begin at the marked cells; `cells` are the places of all cells of an image."""
    begins = np.flatnonzero(marks != 0)
    image_begins = np.arange(len(marks), dtype=np.int64)[:, None] * spec.num_cells
    place = cells.take(begins.reshape(len(marks), spec.num_tokens) - image_begins)
    scale = np.subtract(marks.take(begins), 1, dtype=np.int64).reshape(place.shape)
    left, top = (place & LOW_HALF) * spec.min_patch, (place >> HALF) * spec.min_patch
    return Plan(torch.from_numpy(left), torch.from_numpy(top), torch.from_numpy(scale), spec)
