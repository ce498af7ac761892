"""Whole rows of pixels, on a CPU: memory moves in runs of p pixels instead of pixel by pixel.

A patch of scale 0 is p rows of p neighbouring pixels. Cut every image row into runs of p pixels, and the image is a
table with rows of p; a token is p of them per channel, and `index_select` copies them straight to where they belong.
All tokens are read so, as if they were of scale 0; the coarse ones all read the first run of the first image, which is
at hand. Then the tokens of each coarser scale k are overwritten: with runs of `p · 2**k` pixels, the two central pixel
rows of each cell are two rows of the table. Their sum is one `embedding_bag`, and of the sum the two central columns of
each cell are added.

Which rows of a table those are is computed in numpy, because on a small plan an operation of torch takes longer than
its numbers do. Where a patch begins, counted in pixels, divided by the length of a run, is the row of its first run in
the table; all its other rows are as far from that as in every patch of its scale. It works through a few images at a
time, so that what lies between is small and stays in the cache.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quadtok.patches.base import result_dtype, sum_dtype
from quadtok.plan import Plan
from quadtok.tracing import may_be_looked_at, wants_derivatives

CHUNK_PIXELS = 1 << 21  # of the images that are worked on at a time; a third for bytes, which are small

Integers = NDArray[np.int64]


def suits_rows(images: Tensor, plan: Plan) -> bool:
    """Whether these images can be read row by row: contiguous on a CPU, and nobody follows or differentiates it."""
    is_plain = may_be_looked_at([images, plan.left, plan.top, plan.scale], watched=True)
    return is_plain and images.is_contiguous() and not wants_derivatives(images)


def gather_rows(images: Tensor, plan: Plan, out: Tensor | None = None) -> Tensor:
    """As `gather_indexed`, into `out` `[B, N, C, p, p]` where it is given."""
    spec = plan.spec
    batch, channels = images.shape[:2]
    if out is None:
        shape = (batch, spec.num_tokens, channels, spec.min_patch, spec.min_patch)
        out = images.new_empty(shape, dtype=result_dtype(images.dtype))
    chunk_pixels = CHUNK_PIXELS // 3 if images.dtype == torch.uint8 else CHUNK_PIXELS
    chunk = max(1, chunk_pixels // (spec.height * spec.width))
    begins, scales = _first_pixels(plan, channels, chunk), plan.scale.numpy()
    for first in range(0, batch, chunk):
        part = slice(first, first + chunk)
        _gather_chunk(images[part], begins[part], scales[part], spec.num_scales, out[part])
    return out


def _first_pixels(plan: Plan, channels: int, chunk: int) -> Integers:
    """`[B, N]`: where each patch begins in its chunk, in pixels from the first one of the first channel."""
    height, width = plan.spec.height, plan.spec.width
    image = np.arange(len(plan))[:, None] % chunk
    begins: Integers = (image * (channels * height) + plan.top.numpy()) * width + plan.left.numpy()
    return begins


def _gather_chunk(images: Tensor, begins: Integers, scales: Integers, num_scales: int, out: Tensor) -> None:
    is_fine = scales == 0
    if is_fine.any():
        _copy_as_finest(images, begins * is_fine, out)
    for scale in range(1, num_scales):
        tokens = np.nonzero(scales == scale)
        if len(tokens[0]):
            _overwrite(images, begins[tokens], scale, out, tokens)


def _copy_as_finest(images: Tensor, begins: Integers, out: Tensor) -> None:
    """Every token's p rows of p pixels; wrong for coarse tokens, which come next."""
    size = out.shape[-1]
    rows = _table_rows(begins.ravel(), images.shape, size, np.arange(size)).flatten()
    table = images.view(-1, size)
    if out.dtype == images.dtype and out.is_contiguous():
        torch.index_select(table, 0, rows, out=out.view(-1, size))
    else:
        out.copy_(table.index_select(0, rows).view(out.shape))


def _overwrite(images: Tensor, begins: Integers, scale: int, out: Tensor, tokens: tuple[Integers, ...]) -> None:
    """The tokens of a coarser scale, which stand in `out` at these images and slots."""
    channels, size = out.shape[2:4]
    step, half = 1 << scale, 1 << (scale - 1)
    central = np.add.outer(np.arange(half - 1, size * step, step), [0, 1])  # [p, 2] pixel rows
    pairs = _table_rows(begins, images.shape, size * step, central.ravel()).view(-1, 2)
    sums = _sums_of_pairs(images.view(-1, size * step), pairs)
    cells = sums.view(len(begins), channels, size, size, step)
    # Floats before the division: integers that are divided become torch's default dtype.
    means = (cells[..., half - 1] + cells[..., half]).to(sum_dtype(images.dtype)).div_(4)  # [n, C, p, p]
    out.index_put_(tuple(map(torch.from_numpy, tokens)), means.to(out.dtype))


def _table_rows(begins: Integers, shape: torch.Size, run: int, pixel_rows: Integers) -> Tensor:
    """`[n, C * m]`: where, in the table of runs of `run` pixels, the m pixel rows of patches stand.

    Args:
        begins: `[n]`, where each patch begins, in pixels; a multiple of `run`.
        shape: of the images, `[B, C, H, W]`.
        run: pixels a row of the table.
        pixel_rows: `[m]`, counted from the patch's first one.
    """
    _, channels, height, width = shape
    within = np.add.outer(np.arange(channels) * height, pixel_rows).ravel() * (width // run)
    return torch.from_numpy(np.add.outer(begins // run, within))


def _sums_of_pairs(table: Tensor, pairs: Tensor) -> Tensor:
    """`[m, run]`: the sum of two rows of the table, for every two numbers of `pairs` `[m, 2]`."""
    if table.dtype in (torch.float32, torch.float64):
        return F.embedding_bag(pairs, table, mode="sum")
    # Bytes are added as int16: four of them fit, in half the memory of floats.
    dtype = torch.int16 if table.dtype == torch.uint8 else sum_dtype(table.dtype)
    return table.index_select(0, pairs[:, 0]).to(dtype).add_(table.index_select(0, pairs[:, 1]))
