"""timm's plain ViTs: `VisionTransformer`, `VisionTransformerDistilled`, and `Eva` with its rotary positions.

Facts that are not seen from outside: in which order prefix tokens come, and whether they have rows in the table of
positions; that a patch embedding may have a norm; which tokens a pool reads. tests/models/test_timm.py holds them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers import DropPath, PatchEmbed, resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quadtok.errors import InputError
from quadtok.models.adapted import Adapted
from quadtok.models.attention import Layout, Packed, as_bias, as_mask
from quadtok.models.packing import PackedMask, drop_images
from quadtok.models.pooling import masked_pool, no_mask_for
from quadtok.models.positions import at_centers
from quadtok.models.rope import knows_rope, rope_at_centers
from quadtok.plan import Plan
from quadtok.tokens import Tokens

QUICK = 256  # patches: larger images than so many take seconds to try
OfBlock = Callable[[int], dict[str, Tensor]]  # the number of a block → what it is given beside the tokens


class _Timm(Adapted):
    """What timm's three classes share; the attributes are theirs."""

    num_prefix_tokens: int
    patch_embed: Any
    cls_token: Tensor | None
    reg_token: Tensor | None
    pos_embed: Tensor | None
    pos_drop: Any
    norm_pre: Any
    blocks: Any
    grad_checkpointing: bool
    norm: Any
    global_pool: str
    pool_include_prefix: bool = False  # an `Eva` has it not
    attn_pool: Any
    fc_norm: Any
    head_drop: Any
    head: Any

    def _patch_conv(self) -> nn.Conv2d:
        return self.patch_embed.proj

    def _num_prefix(self) -> int:
        return self.num_prefix_tokens

    def _prefix(self) -> list[Tensor | None]:
        """The prefix tokens `[1, n, D]`, in their order."""
        return [self.cls_token, self.reg_token]

    def _place(self, embedded: Tensor, plan: Plan) -> Tensor:
        tokens = self.patch_embed.norm(embedded)
        prefix = [token for token in self._prefix() if token is not None]
        if self.pos_embed is not None:
            own = _own_rows(self)
            grid = plan.spec.grid(0)
            table = _resized(self, self.pos_embed, grid)
            tokens = tokens + at_centers(table[0, own:].view(*grid, -1), plan)
            prefix = [torch.cat(prefix, dim=1) + table[:, :own]] if own else prefix
        batch = tokens.shape[0]
        tokens = torch.cat([*(token.expand(batch, -1, -1) for token in prefix), tokens], dim=1)
        return self.norm_pre(self.pos_drop(tokens))

    def _blocks(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def _can_pack(self) -> bool:
        fused = [part.fused_attn for part in self.blocks.modules() if hasattr(part, "fused_attn")]
        return bool(fused) and all(fused)

    def _context(self, plan: Plan, layout: Layout, dtype: torch.dtype) -> OfBlock:
        mask = layout.mask(dtype)
        shared: dict[str, Tensor] = {} if mask is None else {"attn_mask": mask}
        rope = _rope(self)
        if rope is None:
            return lambda number: shared
        turned = rope_at_centers(rope, plan)
        if isinstance(layout, Packed):
            prefix = self._num_prefix()
            return lambda number: {"rope": _packed_rope(turned(number), prefix, layout), **shared}
        return lambda number: {"rope": turned(number), **shared}

    def _step(self, tokens: Tensor, block: nn.Module, number: int, context: OfBlock) -> Tensor:
        told = context(number)
        mask = told.get("attn_mask")
        if isinstance(mask, PackedMask):
            block = drop_images(block, DropPath, mask.lengths)
            block = _that_turns_all(block) if "rope" in told else block
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(lambda tokens: block(tokens, **told), tokens, use_reentrant=False)
        return block(tokens, **told)

    def _last_norm(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens)

    def _head(self, features: Tensor, keys: Tensor | None, pre_logits: bool) -> Any:
        if keys is None or not self._pools():
            library: Any = super(Adapted, self)
            return library.forward_head(features, pre_logits)
        pooled = self.head_drop(self.fc_norm(self._pool_visible(features, keys)))
        return pooled if pre_logits else self.head(pooled)

    def _pools(self) -> bool:
        """Whether the head reads more than prefix tokens, or than each token by itself."""
        return self.attn_pool is not None or self.global_pool not in ("", "token")

    def _pool_visible(self, features: Tensor, keys: Tensor) -> Tensor:
        if not self.pool_include_prefix and not (self.attn_pool is not None and isinstance(self, Eva)):
            features, keys = features[:, self._num_prefix() :], keys[:, self._num_prefix() :]
        if self.attn_pool is None:
            return masked_pool(features, keys, self.global_pool)
        if self.global_pool != "map":
            raise no_mask_for(self.global_pool)
        # Where attention is not fused, timm adds the mask to the scores, whatever its type.
        mask = as_mask(keys) if self.attn_pool.fused_attn else as_bias(keys, features.dtype)
        return self.attn_pool(features, attn_mask=mask)

    def get_intermediate_layers(
        self,
        x: Tensor | Tokens,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
    ) -> list[Any]:
        """timm's, as in DINO: `forward_intermediates` of the last n blocks, or of these, as maps on request."""
        return self.forward_intermediates(
            x, n, dense=reshape, norm=norm, return_prefix_tokens=return_prefix_tokens, intermediates_only=True
        )

    def _run_original(self, model: Any, images: Tensor) -> tuple[Tensor, Any]:
        size = (images.shape[2], images.shape[3])
        if not model.dynamic_img_size and size != tuple(model.patch_embed.img_size):
            model = _of_size(model, *size)
        features = model.forward_features(images)
        return features, model.forward_head(features)


class AdaptedVisionTransformer(_Timm, VisionTransformer):
    """timm's `VisionTransformer` that reads mixed-resolution tokens; see `Adapted`."""


class AdaptedVisionTransformerDistilled(_Timm, VisionTransformerDistilled):
    """timm's `VisionTransformerDistilled` that reads mixed-resolution tokens; see `Adapted`."""

    dist_token: Tensor

    def _prefix(self) -> list[Tensor | None]:
        return [self.cls_token, self.dist_token]

    def _pools(self) -> bool:
        return False  # two heads read two prefix tokens


class AdaptedEva(_Timm, Eva):
    """timm's `Eva` (EVA, EVA-02, DINOv3, PE, ViTs with rotary positions) that reads mixed-resolution tokens."""


CLASSES: dict[type[nn.Module], type[Adapted]] = {
    VisionTransformer: AdaptedVisionTransformer,
    VisionTransformerDistilled: AdaptedVisionTransformerDistilled,
    Eva: AdaptedEva,
}


def refuse(model: Any) -> None:
    """Refuse a model of one of the classes that has a part which needs the full grid.

    Raises:
        InputError: naming the part, and what to use instead.
    """
    embed = model.patch_embed
    if type(embed) is not PatchEmbed:
        raise InputError(
            f"the model's patch embedding is {type(embed).__name__}, which may read beyond the patch: "
            "take a model whose patch_embed is timm's plain PatchEmbed"
        )
    rope = _rope(model)
    if model.pos_embed is None and rope is None:
        raise InputError("the model has no positions (pos_embed and rope are None): take one that has")
    if model.pos_embed is not None:
        rows, cols = embed.grid_size or (0, 0)
        expected = rows * cols + _own_rows(model)
        if model.pos_embed.ndim != 3 or model.pos_embed.shape[1] != expected:
            raise InputError(
                f"the model's pos_embed is {list(model.pos_embed.shape)}, its grid of {rows}×{cols} patches asks for "
                f"[1, {expected}, D]: load the weights into a model of their own size"
            )
    if rope is not None and not knows_rope(rope):
        raise InputError(
            f"the model's rotary positions are {type(rope).__name__}, whose coordinates quadtok does not know: "
            "take a model with one of timm's own"
        )
    if not isinstance(model.patch_drop, nn.Identity | None):
        raise InputError(
            "the model drops patches at random (patch_drop_rate), behind the plan's back: "
            "create it with patch_drop_rate=0 and draw num_tokens instead"
        )


def patch_conv(model: Any) -> nn.Module:
    """The module that embeds patches."""
    return model.patch_embed.proj


def normalisation(model: Any) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and std as `pretrained_cfg` says; None where a model was made without one."""
    config = getattr(model, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    return None if mean is None or std is None else (mean, std)


def original_size(model: Any) -> tuple[int, int]:
    """Height and width of images to try: its own where that is quick, or else no square."""
    side = model.patch_embed.patch_size[0]
    if model.dynamic_img_size:
        return 3 * side, 5 * side
    is_quick = model.patch_embed.num_patches <= QUICK or not hasattr(model, "set_input_size")
    return tuple(model.patch_embed.img_size) if is_quick else (9 * side, 13 * side)


def _of_size(model: Any, height: int, width: int) -> Any:
    """A view of a model, same weights, that takes images of another size, by timm's own hand."""
    other = copy.copy(model)
    other._parameters, other._modules = dict(model._parameters), dict(model._modules)
    for name in ("patch_embed", "rope"):  # what it changes besides the table, which it replaces
        if other._modules.get(name) is not None:
            other._modules[name] = copy.deepcopy(other._modules[name])
    other.set_input_size((height, width))
    return other


def _rope(model: Any) -> nn.Module | None:
    """The rotary positions; only an `Eva` has an attribute for them."""
    return getattr(model, "rope", None)


def _packed_rope(rope: Tensor, num_prefix: int, layout: Packed) -> Tensor:
    """`[B, heads, N, 2d]` sines and cosines → `[1, heads, T, 2d]`, with the identity for prefix tokens."""
    sines, cosines = rope.chunk(2, dim=-1)
    still = torch.cat([torch.zeros_like(sines[:, :, :1]), torch.ones_like(cosines[:, :, :1])], dim=-1)
    rows = torch.cat([still.expand(-1, -1, num_prefix, -1), rope], dim=2).transpose(1, 2)
    return layout.arrange(rows).transpose(1, 2)


def _that_turns_all(block: Any) -> nn.Module:
    """A view of a block, same weights, whose attention gives every token its rotation: prefix tokens stand anywhere."""
    turning, attn = copy.copy(block), copy.copy(block.attn)
    attn.num_prefix_tokens = 0
    turning._modules = {**block._modules, "attn": attn}
    return turning


def _own_rows(model: Any) -> int:
    """How many rows of the table of positions, the first ones, are the prefix tokens'."""
    return 0 if model.no_embed_class else model.num_prefix_tokens


def _resized(model: Any, table: Tensor, grid: tuple[int, int]) -> Tensor:
    """`[1, own + H/p * W/p, D]`, by timm's own rule: else it would be another model's at this size."""
    if tuple(model.patch_embed.grid_size) == grid:
        return table
    return resample_abs_pos_embed(
        table, new_size=list(grid), old_size=list(model.patch_embed.grid_size), num_prefix_tokens=_own_rows(model)
    )
