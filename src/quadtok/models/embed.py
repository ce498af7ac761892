"""Patch embedding and sinusoidal positions (docs/reference.md section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError


class PatchEmbedding(nn.Module):
    """A convolution with kernel = stride = p, applied to each token's own p × p pixels.

    Args:
        in_channels: C.
        patch_size: p, in pixels.
        embed_dim: D.

    The weights are those of a `Conv2d` named `proj`, as in timm's and the reference's ViTs, so theirs load unchanged.
    """

    def __init__(self, in_channels: int, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: Tensor) -> Tensor:
        """`[B, N, C, p, p]` → `[B, N, D]`."""
        return embed_patches(patches, self.proj.weight, self.proj.bias)


def embed_patches(patches: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a convolution with kernel = stride = p makes of each patch, whatever the order of the patches.

    Args:
        patches: `[B, N, C, p, p]`.
        weight: `[D, C, p, p]`, of a `Conv2d`.
        bias: `[D]`, or None.

    Returns:
        `[B, N, D]`.

    Raises:
        InputError: for patches of another shape than the weight's.
    """
    if patches.shape[2:] != weight.shape[1:]:
        raise InputError(
            f"patches are {list(patches.shape[2:])} (C, p, p), the embedding takes {list(weight.shape[1:])}"
        )
    return F.linear(patches.flatten(2), weight.flatten(1), bias)


def sinusoidal_embedding(positions: Tensor, embed_dim: int) -> Tensor:
    """The sinusoidal embedding of (x, y): the first half of the numbers is for x, the second for y.

    Args:
        positions: `[..., 2]`, in units of `min_patch`.
        embed_dim: D, even.

    Returns:
        `[..., D]` float32 (float64 for float64 positions).

    Raises:
        InputError: for an odd D.
    """
    check_embed_dim(embed_dim)
    return torch.cat([_embed_coordinate(positions[..., axis], embed_dim // 2) for axis in (0, 1)], dim=-1)


def check_embed_dim(embed_dim: int) -> None:
    """Refuse a width that x and y cannot share."""
    if embed_dim < 2 or embed_dim % 2:
        raise InputError(f"embed_dim {embed_dim} cannot be shared between x and y: it must be even")


def _embed_coordinate(position: Tensor, dim: int) -> Tensor:
    """`[...]` → `[..., dim]`: sines, then cosines, then one zero where `dim` is odd."""
    position = position if position.dtype == torch.float64 else position.float()
    half = dim // 2
    steps = torch.arange(half, device=position.device, dtype=position.dtype)
    frequency = 10000 ** (-steps / max(half - 1, 1))
    angle = position[..., None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, dim % 2))
