"""Back to a dense grid: what each token holds, laid over the cells it covers (docs/reference.md section 6)."""

from __future__ import annotations

from torch import Tensor

from quadtok.errors import InputError
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
    batch, num_tokens = plan.scale.shape
    if features.ndim != 3 or features.shape[:2] != (batch, num_tokens):
        hint = ""
        if features.ndim == 3 and features.shape[1] == num_tokens + 1:
            hint = ": one row too many, they still hold the cls token; pass features[:, 1:]"
        raise InputError(
            f"features have shape {list(features.shape)}, the plan has {batch} images of {num_tokens} tokens: "
            f"expected [{batch}, {num_tokens}, D]{hint}"
        )
    cell_to_token = plan.cell_to_token  # [B, H/p, W/p]
    index = cell_to_token.flatten(1)[..., None].expand(-1, -1, features.shape[2])
    dense = features.gather(1, index).transpose(1, 2)  # [B, D, H/p * W/p]
    return dense.reshape(*dense.shape[:2], *cell_to_token.shape[1:])
