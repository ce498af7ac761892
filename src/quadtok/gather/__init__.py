"""Reading the pixels of a plan's tokens: one job, done in the way that suits where the images lie.

| way | where | how |
|---|---|---|
| `indexed` | anywhere | four gathers through index tensors; plain, differentiable, the oracle of the others |
| `rows` | CPU, no gradients | whole rows of pixels are copied, coarse patches apart |
| `fused` | CUDA, no gradients, Triton | one kernel averages, normalises and writes each token once |

`torch.compile` and `torch.export` see `indexed`, on every device.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadtok.gather.indexed import gather_indexed
from quadtok.gather.rows import gather_rows, suits_rows
from quadtok.pixels import per_channel
from quadtok.plan import Plan


def gather(
    images: Tensor,
    plan: Plan,
    out: Tensor | None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """`[B, C, H, W]` → `[B, N, C, p, p]`: the fastest way that suits; arguments are checked already.

    With `mean` and `std`, one number a channel, what `quadtok.pixels.normalize` makes of the patches.
    """
    if images.is_cuda:
        # Only here, because loading Triton takes time: whoever works on a CPU should not wait for it.
        from quadtok.gather.fused import gather_fused, suits_fused

        if suits_fused(images):
            return gather_fused(images, plan, out, mean, std)
    patches = _gather_pixels(images, plan, out)
    return patches if mean is None or std is None else _normalize_in_place(patches, mean, std)


def _gather_pixels(images: Tensor, plan: Plan, out: Tensor | None) -> Tensor:
    if suits_rows(images):
        return gather_rows(images, plan, out)
    means = gather_indexed(images, plan)
    return means if out is None else out.copy_(means)


def _normalize_in_place(patches: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`normalize`, operation by operation, without a fresh buffer: the patches are ours or the caller's `out`."""
    return patches.div_(255).sub_(per_channel(mean, patches)).div_(per_channel(std, patches))


__all__ = ["gather", "gather_indexed", "gather_rows", "suits_rows"]
