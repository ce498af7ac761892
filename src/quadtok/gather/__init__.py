"""Reading the pixels of a plan's tokens: one job, done in the way that suits where the images lie.

| way | where | how |
|---|---|---|
| `indexed` | anywhere | four gathers through index tensors; plain, differentiable, the oracle of the others |
| `rows` | CPU, no gradients | whole rows of pixels are copied, coarse patches apart |
"""

from __future__ import annotations

from torch import Tensor

from quadtok.gather.indexed import gather_indexed
from quadtok.gather.rows import gather_rows, suits_rows
from quadtok.plan import Plan


def gather(images: Tensor, plan: Plan, out: Tensor | None) -> Tensor:
    """`[B, C, H, W]` → `[B, N, C, p, p]`: the fastest way that suits; arguments are checked already."""
    if suits_rows(images):
        return gather_rows(images, plan, out)
    means = gather_indexed(images, plan)
    return means if out is None else out.copy_(means)


__all__ = ["gather", "gather_indexed", "gather_rows", "suits_rows"]
