"""Four gathers through index tensors: any device, any strides, differentiable, nothing that waits on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.gather.base import result_dtype, sum_dtype
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
    corners = [(row, col) for row in rows for col in cols]
    pixels = [row[..., :, None] * spec.width + col[..., None, :] for row, col in corners]  # 4 × [B, N, p, p]
    indices = [pixel.flatten(1)[:, None].expand(-1, channels, -1) for pixel in pixels]
    total = torch.stack([flat.gather(2, index).to(sum_dtype(images.dtype)) for index in indices]).sum(dim=0)
    shape = (batch, channels, spec.num_tokens, spec.min_patch, spec.min_patch)
    return (total / 4).view(shape).transpose(1, 2).to(result_dtype(images.dtype)).contiguous()


def _central_pair(corner: Tensor, scale: Tensor, min_patch: int) -> tuple[Tensor, Tensor]:
    """`[B, N, p]` each: the two central pixel rows (or columns) of the p cells of each patch.

    At scale 0 a cell is one pixel, and both are that pixel.
    """
    step = 1 << scale
    cells = torch.arange(min_patch, device=corner.device)
    begin = corner[..., None] + step[..., None] * cells
    second = (step >> 1)[..., None]
    return begin + (second - 1).clamp(min=0), begin + second
