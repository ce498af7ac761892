"""Images of several lengths as one row of tokens: linear layers see no padding, and attention stays inside an image.

A packed batch is `[1, T, D]`, the tokens of one image behind those of another. All of a block but its attention works
on each token by itself, so only attention has to know where images end. Blocks of timm hand their `attn_mask` on to
`F.scaled_dot_product_attention`, which asks a mask that is a subclass of `Tensor` what to do (torch's own causal
biases work so). `PackedMask` answers: cut queries, keys and values where images end, and let each image attend to
itself. On a GPU in half precision, where torch has a kernel for it, all images at once.

**Cost.** That of the tokens there are, where padding costs what the longest image does (docs/models.md). But it looks
at the lengths: it cannot be compiled or exported, which a mask over padding can, and a GPU is waited for once a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL_DTYPES = (torch.float16, torch.bfloat16)
_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class PackedMask(Tensor):
    """Stands for the mask `[T, T]` under which each image attends to itself; only attention may be asked of it.

    Attributes:
        lengths: tokens of each image, which add up to T.
        ends: `[B + 1]` int32 on the tokens' device: where each image begins, and where the last one ends.
        key_bias: `[T]`, added to the score of each key; None for nothing.
    """

    lengths: list[int]
    ends: Tensor
    key_bias: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], ends: Tensor, key_bias: Tensor | None = None) -> PackedMask:
        """The mask of these."""
        mask = torch.empty(0, dtype=torch.bool, device="cpu").as_subclass(cls)
        mask.lengths, mask.ends, mask.key_bias = list(lengths), ends, key_bias
        return mask

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Attention by images; everything else as for any tensor."""
        if func is F.scaled_dot_product_attention:
            given = {**dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {})}
            return attend_by_images(given.pop("attn_mask"), **given)
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def attend_by_images(mask: PackedMask, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """`F.scaled_dot_product_attention` of `[1, heads, T, d]`, in which each image sees itself alone."""
    if _suits_kernel(mask, query, options):
        return _attend_at_once(mask, query, key, value)
    parts = [torch.split(part, mask.lengths, dim=2) for part in (query, key, value)]
    rows = zip(*parts, _biases(mask, query), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(q, k, v, attn_mask=bias, **options) for q, k, v, bias in rows], dim=2
    )


class DropImages(nn.Module):
    """Stochastic depth of a packed row: drops a residual image by image, where the library's own drops row by row.

    Args:
        drop: the library's own module, which drops rows of `[B, …]`.
        lengths: tokens of each image.
    """

    def __init__(self, drop: nn.Module, lengths: Sequence[int]) -> None:
        super().__init__()
        self.drop, self.lengths = drop, lengths

    def forward(self, tokens: Tensor) -> Tensor:
        """`[1, T, D]` → `[1, T, D]`."""
        kept = self.drop(tokens.new_ones(len(self.lengths), 1))
        lengths = torch.tensor(self.lengths, device=tokens.device)
        return tokens * kept.repeat_interleave(lengths, dim=0, output_size=tokens.shape[1])


def drop_images(module: nn.Module, kind: type[nn.Module], lengths: Sequence[int]) -> nn.Module:
    """A view of a module, same weights, in which every part of this kind, if it is training, drops images."""
    if isinstance(module, kind):
        return DropImages(module, lengths) if module.training else module
    parts = {name: part if part is None else drop_images(part, kind, lengths) for name, part in module._modules.items()}
    if all(parts[name] is part for name, part in module._modules.items()):
        return module
    view = copy.copy(module)
    view._modules = parts
    return view


def _biases(mask: PackedMask, query: Tensor) -> Sequence[Tensor | None]:
    """What is added to the keys of each image."""
    if mask.key_bias is None:
        return [None] * len(mask.lengths)
    return torch.split(mask.key_bias.to(query.dtype)[None], mask.lengths, dim=1)  # [1, L] each: for every query alike


def _suits_kernel(mask: PackedMask, query: Tensor, options: Mapping[str, Any]) -> bool:
    plain = mask.key_bias is None and not any(options.values())  # no dropout, no scale of its own
    return plain and query.is_cuda and query.dtype in KERNEL_DTYPES


def _attend_at_once(mask: PackedMask, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # only here: it loads what a CPU has no use for

    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))  # [T, heads, d]
    longest = max(mask.lengths)
    seen = varlen_attn(q, k, v, mask.ends, mask.ends, longest, longest)
    assert isinstance(seen, Tensor)  # nothing else was asked for
    return seen.transpose(0, 1)[None]


def pack(values: Tensor, keys: Tensor) -> Tensor:
    """`[B, L, …]` → `[1, T, …]`: the rows that `keys` `[B, L]` marks, image by image."""
    return values[keys][None]


def unpack(values: Tensor, keys: Tensor) -> Tensor:
    """The inverse of `pack`; 0 where `keys` marks nothing."""
    padded = values.new_zeros(*keys.shape, *values.shape[2:])
    return padded.index_put((keys,), values[0])
