"""Four gathers through index tensors: any device, any strides, differentiable, nothing that waits on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.patches.base import result_dtype, sum_dtype
from quadtok.plan import Plan


def gather_indexed(images: Tensor, plan: Plan) -> Tensor:
    """The mean of the central 2 × 2 pixels of each cell of each patch.

    Args:
        images: `[B, C, H, W]`, floating or uint8.
        plan: for B images, on the same device.

    Returns:
        `[B, N, C, p, p]` in the images' dtype; float32 for uint8.
    """
    spec = plan.spec
    batch, channels = images.shape[:2]
    flat = images.flatten(2)  # [B, C, H*W]
    rows, cols = (_central_pair(corner, plan.scale, spec.min_patch) for corner in (plan.top, plan.left))
    dtype = sum_dtype(images.dtype)

    def pixels(row: Tensor, col: Tensor) -> Tensor:
        """`[B, C, N*p*p]` at rows and columns `[B, N, p]` of the tokens."""
        pixel = row[..., :, None] * spec.width + col[..., None, :]  # [B, N, p, p]
        return flat.gather(2, pixel.flatten(1)[:, None].expand(-1, channels, -1)).to(dtype)

    # Upper and lower first: every way of gathering adds in this order, so that they agree to the last bit.
    left, right = (pixels(rows[0], col) + pixels(rows[1], col) for col in cols)
    shape = (batch, channels, spec.num_tokens, spec.min_patch, spec.min_patch)
    return ((left + right) / 4).view(shape).transpose(1, 2).to(result_dtype(images.dtype)).contiguous()


def _central_pair(corner: Tensor, scale: Tensor, min_patch: int) -> tuple[Tensor, Tensor]:
    """`[B, N, p]` each: the two central pixel rows (or columns) of the p cells of each patch.

    At scale 0 a cell is one pixel, and both are that pixel.
    """
    step = 1 << scale
    cells = torch.arange(min_patch, device=corner.device)
    begin = corner[..., None] + step[..., None] * cells
    second = (step >> 1)[..., None]
    return begin + (second - 1).clamp(min=0), begin + second
