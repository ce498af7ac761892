"""Whole rows of pixels, on a CPU: memory moves in runs of p pixels instead of pixel by pixel.

A patch of scale 0 is p rows of p neighbouring pixels. Cut every image row into runs of p pixels, and the image is a
table with rows of p; a token is p of them per channel, and `index_select` copies them straight to where they belong.
All tokens are read so, as if they were of scale 0. Then the tokens of each coarser scale k are overwritten: with
runs of `p · 2**k` pixels, the two central pixel rows of each cell are two rows of the table. Their sum is one
`embedding_bag`, and of the sum the two central columns of each cell are added. Most tokens are fine ones, so little
is read twice.

It finds the tokens of a scale with `nonzero`, which on a CPU costs nothing; a device would have to wait for it. It
works through a few images at a time, so that what lies between is small and stays in the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok.patches.base import result_dtype, sum_dtype
from quadtok.plan import Plan
from quadtok.tracing import may_be_looked_at, wants_derivatives

CHUNK_PIXELS = 1 << 21  # of the images that are worked on at a time; a third for bytes, which are small


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
    for begin in range(0, batch, chunk):
        part = slice(begin, begin + chunk)
        _gather_chunk(images[part], plan[part], out[part])
    return out


def _gather_chunk(images: Tensor, plan: Plan, out: Tensor) -> None:
    _copy_as_finest(images, plan, out)
    for scale in range(1, plan.spec.num_scales):
        _overwrite_scale(images, plan, out, scale)


def _copy_as_finest(images: Tensor, plan: Plan, out: Tensor) -> None:
    """Every token's p rows of p pixels; wrong for coarse tokens, which come next."""
    size = plan.spec.min_patch
    image = torch.arange(len(plan), device=images.device)[:, None].expand_as(plan.top)
    rows = _table_rows(images, image.flatten(), plan.top.flatten(), plan.left.flatten(), size, 1, 0)
    table = images.view(-1, size)
    if out.dtype == images.dtype and out.is_contiguous():
        torch.index_select(table, 0, rows, out=out.view(-1, size))
    else:
        out.copy_(table.index_select(0, rows).view(out.shape))


def _overwrite_scale(images: Tensor, plan: Plan, out: Tensor, scale: int) -> None:
    chosen = (plan.scale.flatten() == scale).nonzero().squeeze(1)  # [n]
    if not len(chosen):
        return
    size, channels = plan.spec.min_patch, images.shape[1]
    step, half = 1 << scale, 1 << (scale - 1)
    top, left = plan.top.flatten()[chosen], plan.left.flatten()[chosen]
    upper = _table_rows(images, chosen // plan.scale.shape[1], top, left, size * step, step, half - 1)
    sums = _sums_of_row_pairs(images.view(-1, size * step), upper, images.shape[3] // (size * step))
    cells = sums.view(len(chosen), channels, size, size, step)
    # Floats before the division: integers that are divided become torch's default dtype.
    means = (cells[..., half - 1] + cells[..., half]).to(sum_dtype(images.dtype)) / 4  # [n, C, p, p]
    image, token = chosen // plan.scale.shape[1], chosen % plan.scale.shape[1]
    out.index_put_((image, token), means.to(out.dtype))


def _table_rows(images: Tensor, image: Tensor, top: Tensor, left: Tensor, run: int, step: int, offset: int) -> Tensor:
    """`[n * C * p]`: where, in the table of runs of `run` pixels, the pixel rows `top + offset + i * step` of
    patches begin.

    Args:
        images: `[B, C, H, W]`.
        image: `[n]`, which image each patch is of.
        top: `[n]`, in pixels.
        left: `[n]`, in pixels, a multiple of `run`.
        run: pixels a row of the table.
        step: pixel rows between the p that are taken.
        offset: of the first.
    """
    _, channels, height, width = images.shape
    plane = image[:, None] * channels + torch.arange(channels, device=image.device)  # [n, C]
    row = top[:, None] + torch.arange(offset, offset + run, step, device=top.device)  # [n, p]
    pixel_row = plane[..., None] * height + row[:, None]  # [n, C, p]
    return (pixel_row * (width // run) + (left // run)[:, None, None]).flatten()


def _sums_of_row_pairs(table: Tensor, upper: Tensor, per_pixel_row: int) -> Tensor:
    """`[m, run]`: the sum of each of these rows of the table and the one a pixel row below it."""
    lower = upper + per_pixel_row
    if table.dtype in (torch.float32, torch.float64):
        return F.embedding_bag(torch.stack([upper, lower], dim=1), table, mode="sum")
    # Bytes are added as int16: four of them fit, in half the memory of floats.
    dtype = torch.int16 if table.dtype == torch.uint8 else sum_dtype(table.dtype)
    return table.index_select(0, upper).to(dtype).add_(table.index_select(0, lower))
