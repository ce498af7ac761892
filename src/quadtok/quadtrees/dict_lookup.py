"""The plain telling: a heap and a dictionary for each image. Slow, short, and the oracle of the others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold, checked
from quadtok.spec import Spec


class Patch(NamedTuple):
    """A patch by its scale and its place in the grid of that scale; `z` is its number in forest z-order there."""

    scale: int
    row: int
    col: int
    z: int


@checked
def dict_lookup(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """Pop the patch of highest priority from a heap and push its four children, `num_splits` times an image.

    With a threshold, until nothing that waits is above it.
    """
    _check_numbers(saliency, threshold)
    batch, device = saliency[0].shape[0], saliency[0].device
    maps = [scores.double().tolist() for scores in saliency]
    thresholds = _one_an_image(threshold, batch)
    leaves = [_leaves([scores[image] for scores in maps], spec, thresholds[image]) for image in range(batch)]
    boxes = [_boxes(patches, spec) + [(0, 0, 0)] * (spec.num_tokens - len(patches)) for patches in leaves]
    fields = torch.tensor(boxes, dtype=torch.long, device=device).view(batch, spec.num_tokens, 3)
    left, top, scale = fields.unbind(dim=2)
    lengths = None if threshold is None else torch.tensor(list(map(len, leaves)), dtype=torch.long, device=device)
    return Plan(left, top, scale, spec, lengths)


def _check_numbers(saliency: Sequence[Tensor], threshold: Threshold | None) -> None:
    if saliency[0].is_meta or (isinstance(threshold, Tensor) and threshold.is_meta):
        raise InputError("saliency on the meta device holds no numbers for the quadtree dict to read: use parallel")
    if torch.compiler.is_exporting():
        raise InputError("the dict quadtree looks at the saliency's values and cannot be exported: use parallel")


def _one_an_image(threshold: Threshold | None, batch: int) -> Sequence[float | None]:
    if isinstance(threshold, Tensor):
        values: list[float] = threshold.double().expand(batch).tolist()
        return values
    return [None if threshold is None else float(threshold)] * batch


def _leaves(maps: list[list[list[float]]], spec: Spec, threshold: float | None) -> list[Patch]:
    """Best-first splitting of one image; `maps[k - 1][row][col]` is the saliency of a patch of scale k."""
    saliency = {
        (scale, row, col): value
        for scale, rows in enumerate(maps, start=1)
        for row, values in enumerate(rows)
        for col, value in enumerate(values)
    }
    heap: list[tuple[tuple[bool, float, int, int], Patch]] = []
    leaves = []

    def add(patch: Patch) -> None:
        if patch.scale == 0:
            leaves.append(patch)
        else:
            value = saliency[patch.scale, patch.row, patch.col]
            heapq.heappush(heap, (_priority(value, patch), patch))

    for root in _roots(spec):
        add(root)
    for _ in range(spec.num_splits):
        _, patch = heap[0]
        if threshold is not None and not saliency[patch.scale, patch.row, patch.col] > threshold:  # so that NaN ends it
            break
        heapq.heappop(heap)
        for child in _children(patch):
            add(child)
    leaves += [patch for _, patch in heap]
    return sorted(leaves, key=lambda patch: patch.z << (2 * patch.scale))


def _priority(value: float, patch: Patch) -> tuple[bool, float, int, int]:
    """Smallest first: NaN after all numbers, larger saliency, coarser scale, earlier in z-order."""
    if math.isnan(value):
        return (True, 0.0, -patch.scale, patch.z)
    return (False, -value, -patch.scale, patch.z)


def _roots(spec: Spec) -> list[Patch]:
    scale = spec.num_scales - 1
    rows, cols = spec.grid(scale)
    return [Patch(scale, row, col, row * cols + col) for row in range(rows) for col in range(cols)]


def _children(patch: Patch) -> list[Patch]:
    return [
        Patch(patch.scale - 1, 2 * patch.row + down, 2 * patch.col + right, 4 * patch.z + 2 * down + right)
        for down in (0, 1)
        for right in (0, 1)
    ]


def _boxes(patches: list[Patch], spec: Spec) -> list[tuple[int, int, int]]:
    """(left, top, scale) of each patch, left and top in pixels."""
    return [
        (patch.col * spec.patch_size(patch.scale), patch.row * spec.patch_size(patch.scale), patch.scale)
        for patch in patches
    ]
