"""How the tokens of a batch lie for the blocks, and who may look at whom: nobody looks at padding.

Where all images have as many tokens, there is nothing to hide and nothing to do. Where they differ, a batch is
**padded**, and a mask hides what is no token; or it is **packed** into one row (see packing.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.models.packing import PackedMask, pack, unpack
from quadtok.plan import Plan
from quadtok.tracing import is_followed, may_be_looked_at

AttentionName = Literal["auto", "padded", "packed"]
FULL_ENOUGH = 0.9  # the share of slots that hold tokens, above which packing gains nothing worth having


class Layout(Protocol):
    """How tokens lie."""

    def arrange(self, tokens: Tensor) -> Tensor:
        """`[B, L, …]` as the blocks take them."""

    def restore(self, tokens: Tensor) -> Tensor:
        """The inverse of `arrange`."""

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What attention is told: a mask to add to scores of this type, or a bool one; None for nothing."""


@dataclass(frozen=True)
class Padded:
    """One row an image.

    Attributes:
        keys: `[B, L]` bool, what is there; None for everything.
        key_bias: `[B, L]` float32, added to the score of each key; None for nothing.
    """

    keys: Tensor | None
    key_bias: Tensor | None

    def arrange(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        return tokens

    def restore(self, tokens: Tensor) -> Tensor:
        """See `Layout`."""
        return tokens

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """`[B, 1, 1, L]`, for every head and every query alike."""
        if self.key_bias is None:
            return None if self.keys is None else as_mask(self.keys)
        bias = self.key_bias.to(dtype)
        return as_mask(bias if self.keys is None else bias.masked_fill(~self.keys, -torch.inf))


@dataclass(frozen=True)
class Packed:
    """One row for all images; attributes as of `Padded`, and how many keys each image has.

    Attributes:
        ends: the same on the keys' device, as `Plan.cu_seqlens` gives it.
    """

    keys: Tensor
    key_bias: Tensor | None
    lengths: list[int]
    ends: Tensor

    def arrange(self, tokens: Tensor) -> Tensor:
        """See `Layout`: `[B, L, …]` → `[1, T, …]`."""
        return pack(tokens, self.keys)

    def restore(self, tokens: Tensor) -> Tensor:
        """See `Layout`; padding is 0."""
        return unpack(tokens, self.keys)

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """See `PackedMask`."""
        bias = None if self.key_bias is None else pack(self.key_bias, self.keys)[0]
        return PackedMask.of(self.lengths, self.ends, bias)


@dataclass(frozen=True)
class Attention:
    """How an adapted model attends.

    Attributes:
        way: `"padded"`, `"packed"`, or `"auto"`: packed where that is quicker, on a CPU, and nothing is compiled or
            exported.
        size_bias: b adds b · log(cells) to the score of a key that covers so many finest cells: at 1 a token of 16
            cells counts as 16 tokens.
    """

    way: AttentionName = "auto"
    size_bias: float = 0.0

    def layout(self, plan: Plan, num_prefix: int, can_pack: bool) -> Layout:
        """The layout for tokens of this plan.

        Args:
            plan: of B images.
            num_prefix: P, tokens in front of each image's own.
            can_pack: whether the model's blocks take a packed row.

        Raises:
            InputError: where packing is asked for and something records what is done.
        """
        keys = visible_keys(plan, num_prefix)
        key_bias = self._key_bias(plan, num_prefix) if self.size_bias else None
        if keys is None or plan.lengths is None or not self._packs(plan, can_pack):
            return Padded(keys, key_bias)
        return Packed(keys, key_bias, (plan.lengths + num_prefix).tolist(), plan.cu_seqlens(num_prefix))

    def _packs(self, plan: Plan, can_pack: bool) -> bool:
        assert plan.lengths is not None  # else nothing differs
        if 0 in plan.lengths.shape:  # a batch of no image has nothing to pack
            return False
        if self.way == "packed":
            if is_followed([plan.lengths]) or plan.lengths.is_meta:
                raise InputError(
                    'packed attention looks at the lengths: compile, export and run on "meta" with attention="padded"'
                )
            return True
        if self.way == "padded" or not can_pack or not may_be_looked_at([plan.lengths]):
            return False  # a GPU would be waited for, and what packing saves there is less than its launches
        return bool(plan.lengths.sum() < FULL_ENOUGH * plan.scale.numel())

    def _key_bias(self, plan: Plan, num_prefix: int) -> Tensor:
        """`[B, P + N]`; 0 for prefix tokens, which cover nothing."""
        bias = plan.scale.float() * (self.size_bias * math.log(4))
        return torch.cat([bias.new_zeros(bias.shape[0], num_prefix), bias], dim=1)


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


def check_attention(way: Any, size_bias: Any) -> Attention:
    """The attention of these.

    Raises:
        InputError: where there is no such way, or the bias is no finite number.
    """
    known = ("auto", "padded", "packed")
    if way not in known:
        raise InputError(f"there is no attention {way!r}: choose one of {', '.join(known)}")
    is_number = isinstance(size_bias, int | float) and not isinstance(size_bias, bool)
    if not is_number or not math.isfinite(size_bias):
        raise InputError(f"size_bias must be a finite number (0 for none, 1 to count cells), got {size_bias!r}")
    return Attention(way, float(size_bias))
