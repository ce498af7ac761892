"""torchvision's `VisionTransformer`. Variable lengths run padded only: its blocks hide their attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from quadtok.errors import InputError
from quadtok.models.adapted import Adapted
from quadtok.models.attention import Layout
from quadtok.models.positions import at_centers
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.plan import Plan


class AdaptedVisionTransformer(Adapted, VisionTransformer):
    """torchvision's `VisionTransformer` that reads mixed-resolution tokens; see `Adapted`."""

    conv_proj: Any
    class_token: Tensor
    encoder: Any
    heads: Any
    image_size: int
    patch_size: int

    def _patch_conv(self) -> nn.Conv2d:
        return self.conv_proj

    def _num_prefix(self) -> int:
        return 1

    def _place(self, embedded: Tensor, plan: Plan) -> Tensor:
        grid = plan.spec.grid(0)
        table = self.encoder.pos_embedding
        positions = _resized(table[0, 1:], self._table_side(), grid)
        placed = embedded + at_centers(positions, plan)
        first = (self.class_token + table[:, :1]).expand(placed.shape[0], -1, -1)
        return self.encoder.dropout(torch.cat([first, placed], dim=1))

    def _table_side(self) -> int:
        return self.image_size // self.patch_size

    def _blocks(self) -> Sequence[nn.Module]:
        return list(self.encoder.layers)

    def _can_pack(self) -> bool:
        return False

    def _context(self, plan: Plan, layout: Layout, dtype: torch.dtype) -> Tensor | None:
        mask = layout.mask(dtype)
        if mask is None:
            return None
        keys = mask[:, 0, 0]  # [B, L], as nn.MultiheadAttention takes them: True for what is hidden, or to be added
        return ~keys if keys.dtype == torch.bool else keys

    def _step(self, tokens: Tensor, block: Any, number: int, context: Tensor | None) -> Tensor:
        if context is None:
            return block(tokens)
        # The block takes no mask, so its parts run one by one.
        queries = block.ln_1(tokens)
        seen, _ = block.self_attention(queries, queries, queries, key_padding_mask=context, need_weights=False)
        tokens = tokens + block.dropout(seen)
        return tokens + block.mlp(block.ln_2(tokens))

    def _last_norm(self, tokens: Tensor) -> Tensor:
        return self.encoder.ln(tokens)

    def _head(self, features: Tensor, keys: Tensor | None, pre_logits: bool) -> Tensor:
        return features[:, 0] if pre_logits else self.heads(features[:, 0])

    def _run_original(self, model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        features: list[Tensor] = []
        hook = model.encoder.register_forward_hook(lambda encoder, inputs, output: features.append(output))
        try:
            output = model(images)
        finally:
            hook.remove()
        return features[0], output


CLASSES: dict[type[nn.Module], type[Adapted]] = {VisionTransformer: AdaptedVisionTransformer}


def refuse(model: Any) -> None:
    """Refuse a model that has a part which needs the full grid.

    Raises:
        InputError: naming the part, and what to use instead.
    """
    side = model.image_size // model.patch_size
    if model.encoder.pos_embedding.shape[1] != side * side + 1:
        raise InputError(
            f"the model's pos_embedding is {list(model.encoder.pos_embedding.shape)}, its grid of {side}×{side} "
            f"patches asks for [1, {side * side + 1}, D]: load the weights into a model of their own image_size"
        )


def patch_conv(model: Any) -> nn.Module:
    """The module that embeds patches."""
    return model.conv_proj


def normalisation(model: Any) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and std of all of torchvision's weights."""
    return IMAGENET_MEAN, IMAGENET_STD


def original_size(model: Any) -> tuple[int, int]:
    """Height and width of images that the original takes."""
    return model.image_size, model.image_size


def _resized(positions: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """`[side * side, D]` → `[H/p, W/p, D]`, as torchvision's `interpolate_embeddings` does it."""
    table = positions.view(side, side, -1)
    if grid == (side, side):
        return table
    maps = table.permute(2, 0, 1)[None]
    return F.interpolate(maps, size=grid, mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
