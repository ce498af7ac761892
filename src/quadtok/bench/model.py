"""Times a ViT on a quadtree's tokens against the same ViT on grids: where the tokenizer pays for itself.

Three ways from the same bytes on the device to the model's output, each in two stages, *prepare* and *forward*:

- *full grid*: the image is normalised; the model reads all its cells.
- *uniform grid*: it is shrunk to about as many cells as the quadtree has tokens, and normalised.
- *quadtree*: it is scored, split and its patches are extracted; the adapted model reads those.

They run in turns, as the quadtrees do (see timing.py). Weights are random, which neither time nor FLOPs depend on, and
nothing is downloaded. FLOPs are torch's count of matrix products and convolutions (a multiplication and an addition are
two); of the attention they are counted in its plain form, whatever kernel runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from quadtok.bench.clocks import clock_of
from quadtok.bench.rows import ModelRow
from quadtok.bench.timing import MIN_REPETITIONS, ROUNDS, Workload
from quadtok.errors import InputError, described
from quadtok.models.families import adapt
from quadtok.names import QuadtreeName
from quadtok.pixels import normalize
from quadtok.quiet import without_warnings
from quadtok.spec import Spec
from quadtok.tokens import tokenize


def time_model(
    workload: Workload, name: str, quadtree: QuadtreeName, *, dtype: torch.dtype, warmup: int = 3, min_time: float = 1.0
) -> list[ModelRow]:
    """Time a ViT on one workload in three ways; see the top of this file.

    Args:
        workload: bytes `[B, 3, H, W]` on the device to be timed, the spec, and what scores.
        name: of a model of timm's, whose patches have the spec's `min_patch`.
        quadtree: which one.
        dtype: of the model's weights.
        warmup: untimed runs of each, besides the one that counts FLOPs.
        min_time: seconds that each is timed for, at least; never fewer than 3 repetitions.

    Returns:
        A row for the full grid, the uniform grid and the quadtree, which knows its `break_even`.

    Raises:
        InputError: where timm has no such model, or it cannot be made for such images or be adapted.
    """
    images, spec = workload.images, workload.spec
    ways = _ways(workload, name, quadtree, dtype)
    flops = [way.count() for way in ways]
    for way in ways:
        for _ in range(warmup):
            way.run(images.device)
    times = _times_in_turns(ways, images.device, min_time)
    common = (name, workload.scorer, quadtree, str(images.device), str(dtype).removeprefix("torch."))
    full, uniform, tree = (
        ModelRow(way.name, *common, images.shape[0], spec, way.grid, tuple(timed), counted)
        for way, timed, counted in zip(ways, times, flops, strict=True)
    )
    return [full, uniform, replace(tree, break_even=break_even(full, tree))]


def uniform_grid(spec: Spec) -> tuple[int, int]:
    """(rows, columns) of a grid with about as many cells as the spec has tokens, of about the image's proportions."""
    rows = max(1, round(math.sqrt(spec.num_tokens * spec.height / spec.width)))
    return rows, max(1, round(spec.num_tokens / rows))


def break_even(full: ModelRow, tree: ModelRow) -> int | None:
    """The most tokens at which the quadtree is no slower than the full grid; None where it is slower at any number.

    Preparing is taken to cost the same whatever the budget is, and the forward to grow by a straight line between the
    two numbers of tokens that were measured.
    """
    spare, saved = full.tokens - tree.tokens, full.seconds[1] - tree.seconds[1]
    if spare <= 0 or saved <= 0:
        return None
    tokens = tree.tokens + (sum(full.seconds) - sum(tree.seconds)) / saved * spare
    return min(int(tokens), full.tokens) if tokens >= tree.spec.num_roots else None


@dataclass(frozen=True)
class _Way:
    """One way from the bytes to the model's output.

    Attributes:
        name: what a row is called.
        grid: (rows, columns) that the model reads; None where it reads a plan's tokens.
        prepare: gives what the model reads.
        forward: the model.
    """

    name: str
    grid: tuple[int, int] | None
    prepare: Callable[[], Any]
    forward: Callable[[Any], Any]

    @torch.no_grad()
    def run(self, device: torch.device) -> tuple[float, ...]:
        """Seconds of the stages."""
        clock = clock_of(device)
        prepared = self.prepare()
        clock.mark()
        self.forward(prepared)
        clock.mark()
        return clock.intervals()

    @torch.no_grad()
    def count(self) -> tuple[int, int]:
        """FLOPs of the stages."""
        with _counting() as in_prepare:
            prepared = self.prepare()
        # In the plain form of the attention there are only matrix products: not of every kernel there is a count.
        with _counting() as in_forward, sdpa_kernel(SDPBackend.MATH):
            self.forward(prepared)
        return in_prepare.get_total_flops(), in_forward.get_total_flops()


def _counting() -> FlopCounterMode:
    return FlopCounterMode(display=False)


def _times_in_turns(ways: list[_Way], device: torch.device, min_time: float) -> list[list[tuple[float, ...]]]:
    times: list[list[tuple[float, ...]]] = [[] for _ in ways]
    for share in range(1, ROUNDS + 1):
        for way, timed in zip(ways, times, strict=True):
            while len(timed) < min(share, MIN_REPETITIONS) or sum(map(sum, timed)) < min_time * share / ROUNDS:
                timed.append(way.run(device))
    return times


def _ways(workload: Workload, name: str, quadtree: QuadtreeName, dtype: torch.dtype) -> list[_Way]:
    images, spec = workload.images, workload.spec
    grid, small_grid = spec.grid(0), uniform_grid(spec)
    small_size = small_grid[0] * spec.min_patch, small_grid[1] * spec.min_patch
    full = _vit(name, (spec.height, spec.width)).to(images.device, dtype)
    adapted = adapt(full, spec, workload.score, quadtree=quadtree, check=False)
    uniform = _vit(name, small_size).to(images.device, dtype)

    def shrunk() -> Tensor:
        small = F.interpolate(images.float(), size=small_size, mode="bilinear", antialias=True)
        return normalize(small).to(dtype)

    return [
        _Way("full grid", grid, lambda: normalize(images).to(dtype), full),
        _Way("uniform grid", small_grid, shrunk, uniform),
        _Way("quadtree", None, lambda: tokenize(images, spec, workload.score, quadtree=quadtree), adapted),
    ]


def _vit(name: str, size: tuple[int, int]) -> nn.Module:
    """A model of timm's for images of this size, with random weights."""
    import timm

    try:
        with without_warnings():
            model: nn.Module = timm.create_model(name, pretrained=False, img_size=size)
    except Exception as problem:  # no such name, no such option, no such size: many types
        height, width = size
        raise InputError(
            f"timm cannot make a {name!r} for images of {height}×{width}: {described(problem)}"
        ) from problem
    return model.eval()
