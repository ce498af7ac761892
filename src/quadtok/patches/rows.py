"""Whole rows of pixels, on a CPU: memory moves in runs of p pixels instead of pixel by pixel.

A patch of scale 0 is p rows of p neighbouring pixels. Cut every image row into runs of p pixels, and the images are a
table with rows of p; a token is p of them per channel, and `take` copies them straight to where they belong. All tokens
are read so, as if they were of scale 0; the coarse ones all read the first row of the table, which is at hand. Then the
tokens of each coarser scale k are overwritten: with runs of `p · 2**k` pixels, the two central pixel rows of each cell
are two rows of the table. They are added, and of the sum the two central columns of each cell.

Where a patch begins, counted in pixels from the first of all, divided by the length of a run is the row of its first
run in the table; its other rows are as far from that as in every patch of its scale. So all rows' numbers are one sum.

It is numpy that does all this, because an operation of torch on the few tokens of an image takes longer than the copy
that it makes. A few tokens at a time, so that what lies between stays in the cache, and in as many threads as torch has
for an operation; they write to different places. numpy has no bfloat16: pixels of half precision are moved as the
integers of their bits, and torch makes numbers of what is to be added.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadtok.patches.base import result_dtype
from quadtok.plan import Plan
from quadtok.tracing import may_be_looked_at, wants_derivatives

CHUNK_NUMBERS = 1 << 17  # of the tokens that are worked on at a time
CHUNKS_PER_THREAD = 4  # at least: to start a thread takes longer than to read some tokens
HALVES = (torch.float16, torch.bfloat16)

Integers = NDArray[np.int64]


def suits_rows(images: Tensor, plan: Plan, out: Tensor | None = None) -> bool:
    """Whether these images can be read row by row: contiguous on a CPU, and nobody follows or differentiates it."""
    tensors = [images, plan.left, plan.top, plan.scale, *([] if out is None else [out])]
    is_plain = may_be_looked_at(tensors, watched=True) and not any(tensor.is_neg() for tensor in tensors)
    return is_plain and images.is_contiguous() and not wants_derivatives(images)


def gather_rows(images: Tensor, plan: Plan, out: Tensor | None = None) -> Tensor:
    """As `gather_indexed`, into `out` `[B, N, C, p, p]` where it is given."""
    spec = plan.spec
    batch, channels = images.shape[:2]
    if out is None:
        shape = (batch, spec.num_tokens, channels, spec.min_patch, spec.min_patch)
        out = images.new_empty(shape, dtype=result_dtype(images.dtype))
    tokens = batch * spec.num_tokens
    chunk = max(1, CHUNK_NUMBERS // (channels * spec.min_patch**2))
    gather = _Gather(images, plan, out)
    parts = [slice(begin, min(begin + chunk, tokens)) for begin in range(0, tokens, chunk)]
    threads = min(torch.get_num_threads(), len(parts) // CHUNKS_PER_THREAD)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(gather, parts))
    else:
        list(map(gather, parts))
    return out


class _Gather:
    """Reads some of the tokens `[B * N]`, and writes them where they belong."""

    def __init__(self, images: Tensor, plan: Plan, out: Tensor) -> None:
        height, width = plan.spec.height, plan.spec.width
        self.dtype, self.channels, self.size = images.dtype, images.shape[1], plan.spec.min_patch
        self.pixels, self.shape = _raw(images).ravel(), (height, width)
        image = np.arange(len(plan))[:, None] * (self.channels * height)
        self.begins: Integers = ((image + plan.top.numpy()) * width + plan.left.numpy()).ravel()
        self.scales = plan.scale.numpy().ravel()
        self.num_scales, self.out = plan.spec.num_scales, _raw(out)
        self.mean_dtype = np.float64 if images.dtype == torch.float64 else np.float32

    def __call__(self, part: slice) -> None:
        """Read these tokens."""
        begins, scales = self.begins[part], self.scales[part]
        is_fine = scales == 0
        if is_fine.any():
            self._copy_as_finest(begins * is_fine, part)
        for scale in range(1, self.num_scales):
            tokens = np.flatnonzero(scales == scale)
            if len(tokens):
                self._write(self._means(begins[tokens], scale), tokens + part.start)

    def _copy_as_finest(self, begins: Integers, part: slice) -> None:
        """Every token's p rows of p pixels; wrong for coarse tokens, which come next."""
        rows = self._table_rows(begins, self.size, 1, 0)
        table = self.pixels.reshape(-1, self.size)
        if self.out.dtype == self.pixels.dtype and self.out.flags.c_contiguous:
            out = self.out.reshape(-1, self.channels * self.size, self.size)[part].reshape(-1, self.size)
            table.take(rows, axis=0, out=out, mode="clip")
        else:
            self._write(table.take(rows, axis=0, mode="clip"), np.arange(part.start, part.stop))

    def _means(self, begins: Integers, scale: int) -> NDArray[Any]:
        """The pixels of tokens of a coarser scale, as they are written."""
        step, half, run = 1 << scale, 1 << (scale - 1), self.size << scale
        table = self.pixels.reshape(-1, run)
        upper = self._table_rows(begins, run, step, half - 1)
        sums = self._summands(table.take(upper, axis=0, mode="clip"))
        sums += self._summands(table.take(upper + self.shape[1] // run, axis=0, mode="clip"))
        cells = sums.reshape(-1, step)
        means = (cells[:, half - 1] + cells[:, half]).astype(self.mean_dtype, copy=False)
        means /= 4
        # The memory of `out` is written as that of the images is read.
        return _raw(torch.from_numpy(means).to(self.dtype)) if self.dtype in HALVES else means

    def _table_rows(self, begins: Integers, run: int, step: int, offset: int) -> Integers:
        """`[n * C * p]`: the rows, in the table of runs of `run` pixels, that patches read.

        Args:
            begins: `[n]`, where each patch begins, in pixels; a multiple of `run`.
            run: pixels a row of the table.
            step: pixel rows between the p that are read.
            offset: of the first.
        """
        height, width = self.shape
        within = np.add.outer(np.arange(self.channels) * height, np.arange(offset, offset + self.size * step, step))
        rows: Integers = np.add.outer(begins // run, within.ravel() * (width // run)).ravel()
        return rows

    def _summands(self, raw: NDArray[Any]) -> NDArray[Any]:
        """What four can be added of. Bytes as int16, in half the memory of floats."""
        if self.dtype in HALVES:
            return torch.from_numpy(raw).view(self.dtype).float().numpy()
        return raw.astype(np.int16) if self.dtype == torch.uint8 else raw

    def _write(self, raw: NDArray[Any], tokens: Integers) -> None:
        image, slot = np.divmod(tokens, self.out.shape[1])
        self.out[image, slot] = raw.reshape(len(tokens), *self.out.shape[2:])


def _raw(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory, pixels of half precision as the integers of their bits."""
    plain = tensor.detach()
    raw: NDArray[Any] = (plain.view(torch.int16) if plain.dtype in HALVES else plain).numpy()
    return raw
