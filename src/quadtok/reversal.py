"""Back to a dense grid: what each token holds, laid over the area it covers (docs/reference.md section 6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.pixels import check_dense
from quadtok.plan import Plan


def reverse(features: Tensor, plan: Plan) -> Tensor:
    """Spread the features of each token over its cells. One gather: differentiable, any device, any set of scales.

    Args:
        features: `[B, N, D]`, any D and any dtype, in the plan's token order, without the cls token.
        plan: where the tokens lie, for B images, on the features' device.

    Returns:
        `[B, D, H/p, W/p]` with p = min_patch, in the features' dtype.

    Raises:
        InputError: where the features are not those of the plan's tokens.
    """
    check_features(features, plan)
    cell_to_token = plan.cell_to_token  # [B, H/p, W/p]
    index = cell_to_token.flatten(1)[..., None].expand(-1, -1, features.shape[2])
    dense = features.gather(1, index).transpose(1, 2)  # [B, D, H/p * W/p]
    return dense.reshape(*dense.shape[:2], *cell_to_token.shape[1:])


def check_features(features: Tensor, plan: Plan) -> None:
    """Refuse features that are not `[B, N, D]` for the plan's B images of N tokens; see `reverse`."""
    batch, num_tokens = plan.scale.shape
    check_dense(features, "features")
    if features.ndim != 3 or features.shape[:2] != (batch, num_tokens):
        hint = ""
        if features.ndim == 3 and features.shape[1] == num_tokens + 1:
            hint = ": one row too many, they still hold the cls token; pass features[:, 1:]"
        raise InputError(
            f"features have shape {list(features.shape)}, the plan has {batch} images of {num_tokens} tokens: "
            f"expected [{batch}, {num_tokens}, D]{hint}"
        )
    _check_device("features", features, plan)


def _check_device(name: str, values: Tensor, plan: Plan) -> None:
    if values.device != plan.scale.device:
        raise InputError(f"the {name} are on {values.device}, the plan on {plan.scale.device}: move one (plan.to)")


def reverse_patches(patches: Tensor, plan: Plan, smooth: bool = False) -> Tensor:
    """Spread the pixels of each token over its box: what the tokens keep of the image.

    Args:
        patches: `[B, N, C, p, p]`, floating, in the plan's token order and on its device.
        plan: where the tokens lie.
        smooth: interpolate bilinearly inside each box, instead of repeating pixels. Nothing is read across a border.

    Returns:
        `[B, C, H, W]` in the patches' dtype: the very image where all tokens are of the finest scale. Differentiable.

    Raises:
        InputError: where the patches are not those of the plan's tokens.
    """
    batch, num_tokens = plan.scale.shape
    size = plan.spec.min_patch
    check_dense(patches, "patches")
    if patches.ndim != 5 or patches.shape[:2] != (batch, num_tokens) or patches.shape[3:] != (size, size):
        raise InputError(
            f"patches have shape {list(patches.shape)}, expected [{batch}, {num_tokens}, C, {size}, {size}]"
        )
    if smooth and not patches.is_floating_point():
        raise InputError(f"patches are {patches.dtype}: only floating ones can be interpolated; give patches.float()")
    _check_device("patches", patches, plan)
    token = plan.cell_to_token.repeat_interleave(size, dim=1).repeat_interleave(size, dim=2)  # [B, H, W]
    scale = _of_token(plan.scale, token)
    rows = torch.arange(plan.spec.height, device=token.device)[:, None] - _of_token(plan.top, token)
    cols = torch.arange(plan.spec.width, device=token.device) - _of_token(plan.left, token)
    if not smooth:
        return _pixels_at(patches, token, rows >> scale, cols >> scale)
    (up, down, row_weight), (left, right, col_weight) = (_neighbours(offset, scale, size) for offset in (rows, cols))
    row_weight, col_weight = row_weight[:, None].to(patches.dtype), col_weight[:, None].to(patches.dtype)
    above, below = (
        _pixels_at(patches, token, row, left) * (1 - col_weight) + _pixels_at(patches, token, row, right) * col_weight
        for row in (up, down)
    )
    return above * (1 - row_weight) + below * row_weight


def _of_token(field: Tensor, token: Tensor) -> Tensor:
    """`[B, N]` looked up at `[B, H, W]` token numbers."""
    return field.gather(1, token.flatten(1)).view_as(token)


def _pixels_at(patches: Tensor, token: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """`[B, C, H, W]`: for each place, the pixel (row, col) of its token; all three `[B, H, W]`."""
    batch, _, channels, size, _ = patches.shape
    flat = patches.transpose(1, 2).flatten(2)  # [B, C, N*p*p]
    index = ((token * size + row) * size + col).flatten(1)[:, None].expand(-1, channels, -1)
    return flat.gather(2, index).view(batch, channels, *token.shape[1:])


def _neighbours(offset: Tensor, scale: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two token pixels around each place on one axis, and the weight of the second; half-pixel centres."""
    position = ((offset.float() + 0.5) / (1 << scale) - 0.5).clamp(0, size - 1)
    first = position.floor().long()
    return first, (first + 1).clamp(max=size - 1), position - first


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of two images on the scale 0…255; inf where they are equal."""
    mse = (image.double() - reference.double()).square().mean().item()
    return 10 * math.log10(255**2 / mse) if mse else math.inf
