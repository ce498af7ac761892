"""The pixels of a plan's tokens: choose first, then read only what was chosen.

A token of scale k is its patch shrunk to `p × p` by a bilinear resize of the image by `2**k`. That factor is a power of
two, so each output pixel is the mean of the central 2 × 2 pixels of its `2**k × 2**k` cell, and no pixel outside the
patch is read (docs/reference.md section 4).

Reading is one job, done in the way that suits where the images lie:

| way | where | how |
|---|---|---|
| `indexed` | anywhere | four gathers through index tensors; plain, differentiable, the oracle of the others |
| `rows` | CPU, no derivatives | numpy copies whole rows of pixels, coarse patches apart |
| `fused` | CUDA, no derivatives, Triton | one kernel averages, normalises and writes each token once |

Whoever follows the operations sees `indexed`, on every device: compilers, exporters, `torch.func`, fake tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadtok.errors import InputError
from quadtok.patches.base import result_dtype
from quadtok.patches.indexed import gather_indexed
from quadtok.patches.rows import gather_rows, suits_rows
from quadtok.pixels import check_images, mean_and_std, per_channel
from quadtok.plan import Plan
from quadtok.tracing import is_followed, wants_derivatives


def extract_patches(
    images: Tensor,
    plan: Plan,
    *,
    out: Tensor | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """Read the pixels of the plan's tokens; differentiable in the images.

    Args:
        images: `[B, C, H, W]`, floating or uint8, of the plan's size and on its device. Any C.
        plan: which patches, for B images.
        out: where to write, of the result's shape, dtype and device. In a loop, a kept buffer saves the page faults of
            a fresh one, which cost more than the copy. Carries no gradients.
        mean: for pixels on the scale 0…255: one number a channel, on the scale 0…1. Together with `std` it gives
            `normalize(patches, mean, std)`, without a pass over the whole images. By default pixels stay as they are.
        std: one number a channel, on the scale 0…1.

    Returns:
        `[B, N, C, p, p]` with p = min_patch: in the images' dtype; float32 for uint8, means on the scale 0…255 where
        no `mean` and `std` are given. Slots that hold no token (see `Plan.lengths`) are 0, and give no gradient.

    Raises:
        InputError: where the images or `out` are not what the plan asks for, or `mean` and `std` not what the
            images ask for.
    """
    spec = plan.spec
    check_images(images, spec)
    batch, channels = images.shape[:2]
    # Not `len(plan)`: it is a number of Python's, and torch.export would take the batch for fixed.
    if batch != plan.left.shape[0]:
        raise InputError(f"the plan is for {len(plan)} images and was given {batch}")
    if images.device != plan.left.device:
        raise InputError(f"the images are on {images.device}, the plan on {plan.left.device}: move one (plan.to)")
    shape = (batch, spec.num_tokens, channels, spec.min_patch, spec.min_patch)
    dtype = result_dtype(images.dtype)
    if out is not None and (tuple(out.shape) != shape or out.dtype != dtype or out.device != images.device):
        raise InputError(
            f"out is {out.dtype} {list(out.shape)} on {out.device}, expected {dtype} {list(shape)} on {images.device}"
        )
    mean_and_std(mean, std, channels)
    if 0 in shape:
        return images.new_empty(shape, dtype=dtype)
    patches = _gather(images, plan, out, mean, std)
    return patches if plan.lengths is None else _without_padding(patches, plan)


def _without_padding(patches: Tensor, plan: Plan) -> Tensor:
    """The patches `[B, N, C, p, p]`, 0 where no token is: what was read there may be NaN."""
    padding = ~plan.valid[..., None, None, None]
    is_ours = not (wants_derivatives(patches) or is_followed([patches]))
    return patches.masked_fill_(padding, 0) if is_ours else patches.masked_fill(padding, 0)


def _gather(
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
        from quadtok.patches.fused import gather_fused, suits_fused

        if suits_fused(images, plan):
            return gather_fused(images, plan, out, mean, std)
    patches = _gather_pixels(images, plan, out)
    return patches if mean is None or std is None else _normalize_in_place(patches, mean, std)


def _gather_pixels(images: Tensor, plan: Plan, out: Tensor | None) -> Tensor:
    if suits_rows(images, plan, out):
        return gather_rows(images, plan, out)
    means = gather_indexed(images, plan)
    return means if out is None else out.copy_(means)


def _normalize_in_place(patches: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`normalize`, operation by operation, without a fresh buffer: the patches are ours or the caller's `out`."""
    return patches.div_(255).sub_(per_channel(mean, patches)).div_(per_channel(std, patches))


__all__ = ["extract_patches", "gather_indexed", "gather_rows", "suits_rows"]
