"""What a quadtree is and must promise, and what the tensor ones share.

Nodes are the splittable patches (scale ≥ 1) of an image. All tensor quadtrees number them the same way: coarser
scales first, forest z-order inside a scale. That number is the tie order, so a stable sort by saliency
alone settles every tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok.errors import InputError
from quadtok.plan import Plan
from quadtok.spec import Spec
from quadtok.zorder import cut_points, to_z_order

Threshold = float | Tensor  # a number, or one for each image: `[B]`
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what can be compared without loss


class Quadtree(Protocol):
    """Saliency to plan: `spec.num_splits` times, split the patch of highest priority (docs/reference.md section 2).

    A node's priority is (saliency, larger first; coarser scale first; forest z-order first): a strict total order,
    so there is one right answer, and every implementation gives it bit for bit. ±inf are saliencies like others.
    NaN ranks below everything; NaNs tie with each other. Nothing is remembered between calls; the images of a batch
    do not see each other.

    With a threshold, only what is above it is split, in the same order, and `spec.num_tokens` is the most: the plan of
    image b has `lengths[b]` tokens, and is the plan without a threshold of as many.
    """

    def __call__(self, saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
        """Choose the patches of each image.

        Args:
            saliency: one floating tensor a splittable scale, the finest first: entry k-1 is `[B, H/P, W/P]` for
                P = min_patch * 2**k; the patch with the largest number is split first. Where the spec has one scale
                the list is empty, there is nothing to choose, and the plan is that of one image, on the CPU.
            spec: the integers of the run.
            threshold: split only patches whose saliency is larger, a number or a tensor of one for each image, `[B]`.
                It is compared as float64, exactly. NaN is above nothing. None: split until there are `num_tokens`.

        Returns:
            The plan of B images, on the saliency's device; with `lengths` where a threshold was given.

        Raises:
            InputError: where the saliency does not have the spec's shapes, or the threshold is no number.
        """


def checked(choose: Quadtree) -> Quadtree:
    """The quadtree behind its border: saliency is checked, and where there is one scale nothing is left to choose."""

    @wraps(choose)
    def quadtree(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
        check_saliency(saliency, spec)
        batch = saliency[0].shape[0] if saliency else 1
        check_threshold(threshold, batch)
        if isinstance(threshold, Tensor) and threshold.is_meta and not all(scores.is_meta for scores in saliency):
            raise InputError("the threshold is on the meta device and holds no numbers")
        if spec.num_scales > 1:
            return choose(saliency, spec, threshold)
        plan = Plan.uniform(spec, scale=0)
        return plan if threshold is None else all_full(plan)

    return quadtree


def all_full(plan: Plan) -> Plan:
    """The same plan, with `lengths` that say that no slot is padding."""
    return replace(plan, lengths=torch.full_like(plan.left[:, 0], plan.spec.num_tokens))


def check_threshold(threshold: object, batch: int | None = None) -> None:
    """Refuse what is neither a number nor one for each image; never looks at a tensor's values.

    Raises:
        InputError: with what was given.
    """
    if threshold is None:
        return
    if isinstance(threshold, Tensor):
        dense = threshold.layout is torch.strided and not threshold.is_nested
        if not dense or threshold.dtype is torch.bool or threshold.is_complex() or threshold.is_quantized:
            raise InputError(f"threshold is {threshold.dtype}, {threshold.layout}: it must be dense real numbers")
        if threshold.ndim > 1 or (batch is not None and threshold.shape not in ((), (batch,))):
            images = "image" if batch is None else f"of {batch} images"
            raise InputError(f"threshold has shape {list(threshold.shape)}: give one number, or one for each {images}")
    elif isinstance(threshold, bool) or not _as_float(threshold) <= math.inf:  # NaN, as torch's compiler knows it
        raise InputError(f"threshold {threshold!r} is no number that saliency could be above")


def _as_float(value: object) -> float:
    """NaN where it is no number; text is none."""
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]  # it may fail
    except (TypeError, ValueError, OverflowError):
        return math.nan


def check_saliency(saliency: Sequence[Tensor], spec: Spec) -> None:
    """Refuse what is no saliency of the spec's shapes, whatever a scorer may have returned; never looks at a value.

    Raises:
        InputError: naming the type, the shape or the device that was found.
    """
    if not isinstance(saliency, list | tuple):
        raise InputError(
            f"saliency is {_called(saliency)}: it must be a list with one tensor [B, H/P, W/P] for each patch size P "
            "that can be split, finest first"
        )
    expected = [spec.grid(scale) for scale in range(1, spec.num_scales)]
    if len(saliency) != len(expected):
        raise InputError(
            f"saliency has {len(saliency)} scales, the spec has {len(expected)} that can be split "
            f"(patch sizes {[spec.patch_size(scale) for scale in range(1, spec.num_scales)]})"
        )
    for scale, scores in enumerate(saliency, start=1):
        _check_scores(scores, f"saliency of scale {scale}")
        if scores.device != saliency[0].device:
            raise InputError(
                f"saliency of scale {scale} is on {scores.device}, that of scale 1 on {saliency[0].device}: "
                "all scales must be on one device"
            )
    batch = saliency[0].shape[0] if saliency and saliency[0].ndim else 1
    for scale, (scores, grid) in enumerate(zip(saliency, expected, strict=True), start=1):
        if tuple(scores.shape) != (batch, *grid):
            raise InputError(
                f"saliency of scale {scale} (patches of {spec.patch_size(scale)} pixels) has shape "
                f"{list(scores.shape)}, expected {[batch, *grid]}"
            )


def _check_scores(scores: object, name: str) -> None:
    """Refuse what is no dense tensor of floats."""
    if not isinstance(scores, Tensor):
        raise InputError(f"{name} is {_called(scores)}: it must be a torch tensor")
    if scores.layout is not torch.strided or scores.is_nested:
        kind = "a nested tensor" if scores.is_nested else str(scores.layout)
        raise InputError(f"{name} is {kind}: it must be a dense tensor (.to_dense())")
    if scores.dtype not in FLOATS:
        kind = "one of float16, bfloat16, float32 and float64" if scores.is_floating_point() else "floating"
        raise InputError(f"{name} is {scores.dtype}: it must be {kind}")


def _called(thing: object) -> str:
    """`None`, or the kind of a thing: `a generator`, `a numpy.ndarray`."""
    kind = type(thing)
    module = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    return "None" if thing is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def node_saliency(saliency: Sequence[Tensor], spec: Spec) -> Tensor:
    """`[B, n]`: the saliency of all n nodes in tie order. Mixed float types meet in the widest, without loss."""
    coarsest_first = [
        to_z_order(saliency[scale - 1], spec.num_scales - 1 - scale) for scale in range(spec.num_scales - 1, 0, -1)
    ]
    return torch.cat(coarsest_first, dim=1)


def is_above(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold) -> Tensor:
    """`[B, n]` bool: whether a node's saliency is above the threshold, and that of every patch around it too.

    These nodes are the first in best-first order, as many as there are: what is popped before one of them has a
    smaller largest rank on its path (see order.py), so all of that path is above the threshold too.
    """
    values = path_minimum(saliency, spec)
    if isinstance(threshold, Tensor):
        return values > threshold.to(values.device, torch.float64).reshape(-1, 1)
    return values > float(threshold)


def path_minimum(saliency: Sequence[Tensor], spec: Spec) -> Tensor:
    """`[B, n]` float64: the smallest saliency on the path from a root to each node, in tie order; NaN as −inf.

    A node is split at any threshold below it.
    """
    values = node_saliency(saliency, spec).double()
    values = torch.where(values.isnan(), -math.inf, values)
    levels: list[Tensor] = []
    for own in torch.split(values, [spec.num_roots * 4**depth for depth in range(spec.num_scales - 1)], dim=1):
        levels.append(torch.minimum(own, levels[-1].repeat_interleave(4, dim=1)) if levels else own)
    return torch.cat(levels, dim=1)


def node_ranks(saliency: Sequence[Tensor], spec: Spec, first: int = 0) -> Tensor:
    """`[B, n]` int64: the place of each node in the total order of priorities; `first` would be split first."""
    values = node_saliency(saliency, spec)
    # Ascending order of the negated values, because torch sorts NaN as the largest: here that is last. One zero and one
    # NaN, because a sort that goes by bits would tell −0 from 0, and a NaN with a sign from one without.
    descending = torch.where(values.isnan(), math.nan, 0.0 - values)
    order = stable_argsort(descending)
    places = torch.arange(first, first + order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def stable_argsort(values: Tensor) -> Tensor:
    """`[B, n]` int64: each row's places in rising order of its values, NaN last, equal ones in the order they come."""
    if not torch.compiler.is_exporting():
        return values.argsort(dim=1, stable=True)
    # An exported program may go on to ONNX, which has no stable sort. So equal values get one number, and it and the
    # place, as digits, are a number that differs from all others.
    is_nan = values != values  # `isnan` of integers is no operator of ONNX either
    ascending, order = values.masked_fill(is_nan, 0).sort(dim=1)
    rises = ascending[:, 1:] != ascending[:, :-1]
    numbers = torch.empty_like(order).scatter_(1, order, F.pad(rises.long().cumsum(dim=1), (1, 0)))
    count = values.shape[1]
    return ((numbers + count * is_nan) * count + torch.arange(count, device=values.device)).argsort(dim=1)


def split_best_first(ranks: Tensor, children: Callable[[Tensor], Tensor], spec: Spec) -> Tensor:
    """The loop that the batched quadtrees share: one split of every image a step.

    Args:
        ranks: `[B, n]` from `node_ranks`.
        children: nodes `[B]` → their children's numbers `[B, 4]`; numbers from n on are patches that never split.
        spec: the integers of the run.

    Returns:
        `[B, S]` int64: the nodes that were split, first to last.
    """
    batch, num_nodes = ranks.shape
    never = num_nodes
    # One column more than nodes: whatever is written for a finest patch lands there and stays `never`.
    all_ranks = F.pad(ranks, (0, 1), value=never)
    # Padded, not written into: an exporter to ONNX took the written part for the whole (onnxscript 0.5).
    waiting = F.pad(ranks[:, : spec.num_roots], (0, num_nodes + 1 - spec.num_roots), value=never)
    splits = ranks.new_empty(batch, spec.num_splits)
    for step in range(spec.num_splits):
        node = waiting.argmin(dim=1)
        splits[:, step] = node
        waiting.scatter_(1, node[:, None], never)
        born = children(node).clamp(max=num_nodes)
        waiting.scatter_(1, born, all_ranks.gather(1, born))
    return splits


def plan_from_splits(splits: Tensor, spec: Spec, above: Tensor | None = None) -> Plan:
    """The plan that is left when these nodes, `[B, S]` in any order, have been split.

    Of them only those that are `above` `[B, n]`, where it is given; the plan then has `lengths`.

    A split puts three new cut points into the line of cells (see zorder.py): the first cells of the patch's second,
    third and fourth quadrant. So the roots' first cells and three a split are the tokens' first cells, each once.
    """
    cuts = cut_points(spec, splits.device).index_select(0, splits.flatten())  # [B * S, 3]
    lengths = None
    if above is not None:
        is_split = above.gather(1, splits)
        # What is not split cuts behind the last cell, where padding begins.
        cuts = torch.where(is_split.flatten()[:, None], cuts, spec.num_cells)
        lengths = spec.num_roots + 3 * is_split.sum(dim=1)
    roots = torch.arange(0, spec.num_cells, 4 ** (spec.num_scales - 1), device=splits.device)
    first = torch.cat([roots.expand(splits.shape[0], -1), cuts.view(splits.shape[0], 3 * spec.num_splits)], dim=1)
    return Plan.from_first_cells(first.sort(dim=1).values, spec, lengths)
