"""`parallel` for numbers in the CPU's memory, in numpy: it may look at the values, and computes what decides.

On a CPU a small operation of torch takes several times as long as one of numpy, and so does its sort of many short
rows, for which numpy uses the processor's vectors. In place of ranks stand *keys*, integers that order the nodes as
ranks do, made from the bits of the saliency. Take of every node its first record, the maximum of its path, and of
these the S-th smallest, t. A node with a smaller one is split, a node with a larger one is not. Where S nodes have t
or less, that is all. Otherwise too many have t itself: a node u, as above, and some of the subtree below it. u is
split; about the others decides the next record, the maximum of the path behind u, which is below t. So ask again with
new numbers: for u and all that is already split something below every key; for the others below u their next record;
for all that is not split the old number, above t. The nodes in question share one more node of their paths after each
round, so L rounds are enough. What stands below every key is the node's place among the nodes, because numpy's
partition is slow where many numbers are equal.

The tokens are read off without another sort. Mark each root as a token of the coarsest scale. Then, from the coarsest
scale to the finest, give every patch a word of four bytes, one for each quadrant. A patch that is not split hands its
mark, if it has one, to its first quadrant; one that is split marks all four as tokens. In forest z-order the words of
one scale, byte by byte, are the patches of the next. In the end they are the cells, and the marked ones are the first
cells of the tokens, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold, is_above, node_ranks
from quadtok.spec import Spec
from quadtok.zorder import HALF, LOW_HALF, places


def parallel_numpy(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """The plan of `parallel`; arguments are checked already."""
    by_scale = places(spec)
    split = first_splits(node_keys(saliency, by_scale, spec), spec)
    if threshold is None:
        return plan_of_split(split, by_scale[0], spec)
    split &= is_above(saliency, spec, threshold).numpy()
    return _padded_plan_of_marks(_token_marks(split, spec), by_scale[0], spec)


def node_keys(saliency: Sequence[Tensor], by_scale: list[NDArray[np.int64]], spec: Spec) -> NDArray[np.uint64]:
    """`[B, n]`: distinct in each image, all at least n, smaller where the node goes first; nodes in tie order."""
    if any(scores.dtype == torch.float64 for scores in saliency):
        # 64 bits of saliency leave no room for the node's number, which settles ties.
        num_nodes = sum(map(len, by_scale[1:]))
        return node_ranks(saliency, spec, first=num_nodes).numpy().view(np.uint64)
    rasters = [scores.float().flatten(1).numpy(force=True) for scores in saliency]
    values = [rasters[-1]]  # roots are in raster order
    for scale in range(spec.num_scales - 2, 0, -1):
        # row << 32 | column becomes row * columns + column.
        place = by_scale[scale] + (by_scale[scale] >> HALF) * (spec.grid(scale)[1] - (1 << HALF))
        values.append(rasters[scale - 1].take(place, axis=1))
    keys = descending_bits(np.concatenate(values, axis=1)).astype(np.uint64)
    keys <<= np.uint64(HALF)
    keys |= np.arange(keys.shape[1], dtype=np.uint64)
    return keys


def descending_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers that rise as the values fall: one for both zeros, the largest for every NaN."""
    negated = -values
    np.copyto(negated, np.nan, where=np.isnan(negated))
    negated += 0.0  # −0 becomes 0
    # Bits rise with a positive number, and fall with a negative one: these are turned round and put below the others.
    bits = negated.view(np.int32)
    return (bits ^ (bits >> 31 | np.int32(-(2**31)))).view(np.uint32)


def first_splits(keys: NDArray[np.uint64], spec: Spec) -> NDArray[np.bool_]:
    """`[B, n]`: whether a node is one of the `num_splits` first in the order of records."""
    if spec.num_splits == 0:
        return np.zeros(keys.shape, dtype=np.bool_)
    numbers = np.arange(keys.shape[1], dtype=np.uint64)  # below all keys, and rising along every path
    record = path_maxima(keys, spec)
    for _ in range(spec.num_scales - 1):
        last = np.partition(record, spec.num_splits - 1, axis=1)[:, spec.num_splits - 1, None]
        split = record <= last
        if np.count_nonzero(split) == len(keys) * spec.num_splits:
            break
        # Below the node whose own key is `last`, keys are smaller: the next record is the maximum of those.
        behind = (record == last) & (keys < last)
        following = path_maxima(np.maximum(keys * behind, numbers), spec)
        record = np.maximum(following, record * (record > last))
    return split


def path_maxima(keys: NDArray[np.uint64], spec: Spec) -> NDArray[np.uint64]:
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


def plan_of_split(split: NDArray[np.bool_], cells: NDArray[np.int64], spec: Spec) -> Plan:
    """The plan that is left when these nodes have been split, in every image as many as `spec.num_splits`.

    Args:
        split: `[B, n]`, in tie order: with a node, all that it lies in.
        cells: `places(spec)[0]`.
        spec: the integers of the run.
    """
    return _plan_of_marks(_token_marks(split, spec), cells, spec)


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
    begins = np.flatnonzero(marks != 0).reshape(len(marks), spec.num_tokens)
    image_begins = np.arange(len(marks), dtype=np.int64)[:, None] * spec.num_cells
    return _plan(cells.take(begins - image_begins), np.subtract(marks.take(begins), 1, dtype=np.int64), spec)


def _padded_plan_of_marks(marks: NDArray[np.uint8], cells: NDArray[np.int64], spec: Spec) -> Plan:
    """As above, where an image may have fewer tokens than slots: those behind its last stay 0."""
    image, cell = np.nonzero(marks)
    lengths = np.bincount(image, minlength=len(marks))
    slot = np.arange(len(image)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place, scale = np.zeros((2, len(marks), spec.num_tokens), dtype=np.int64)
    place[image, slot] = cells[cell]
    scale[image, slot] = np.subtract(marks[image, cell], 1, dtype=np.int64)
    return replace(_plan(place, scale, spec), lengths=torch.from_numpy(lengths.astype(np.int64)))


def _plan(place: NDArray[np.int64], scale: NDArray[np.int64], spec: Spec) -> Plan:
    left, top = (place & LOW_HALF) * spec.min_patch, (place >> HALF) * spec.min_patch
    return Plan(torch.from_numpy(left), torch.from_numpy(top), torch.from_numpy(scale), spec)
