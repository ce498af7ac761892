"""Who may look at whom: in a batch of images of several lengths, nobody looks at padding."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.plan import Plan


def visible_keys(plan: Plan, num_prefix: int) -> Tensor | None:
    """`[B, P + N]` bool: which of the P prefix tokens and N patch tokens are there; None where no image is padded."""
    if plan.lengths is None:
        return None
    valid = plan.valid
    return torch.cat([valid.new_ones(valid.shape[0], num_prefix), valid], dim=1)


def as_mask(keys: Tensor) -> Tensor:
    """`[B, 1, 1, L]`, for every head and every query alike, as `scaled_dot_product_attention` takes it."""
    return keys[:, None, None, :]


def as_bias(keys: Tensor, dtype: torch.dtype) -> Tensor:
    """`[B, 1, 1, L]` to be added to scores of this type: 0, and −inf where nothing is to be seen."""
    return as_mask(torch.zeros_like(keys, dtype=dtype).masked_fill(~keys, -torch.inf))
