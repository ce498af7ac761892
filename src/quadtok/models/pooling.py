"""Pools over the tokens that are there: an unmasked pool over padding is wrong without a word."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.errors import InputError


def masked_pool(tokens: Tensor, keys: Tensor, kind: str) -> Tensor:
    """The mean, the maximum, or half of each, over the tokens that are there.

    Args:
        tokens: `[B, L, D]`.
        keys: `[B, L]` bool: which of them count; at least one an image.
        kind: `"avg"`, `"max"` or `"avgmax"`, timm's names.

    Returns:
        `[B, D]` in the tokens' dtype.

    Raises:
        InputError: for another kind.
    """
    there = keys[..., None]
    if kind == "avg":
        return tokens.masked_fill(~there, 0).sum(dim=1) / there.sum(dim=1)
    if kind == "max":
        return tokens.masked_fill(~there, -torch.inf).amax(dim=1)
    if kind == "avgmax":
        return 0.5 * (masked_pool(tokens, keys, "max") + masked_pool(tokens, keys, "avg"))
    raise no_mask_for(kind)


def no_mask_for(kind: str) -> InputError:
    """What is said of a pool that reads padding, too."""
    return InputError(f"pooling {kind!r} takes no mask, and these images have several lengths: leave out threshold")
