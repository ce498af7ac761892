"""Tiny ViTs whose every part matters, and what their own library makes of images. Needs timm."""

from __future__ import annotations

import copy
import inspect
from functools import partial

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import Tensor, nn

from quadtok import Plan, Spec, reverse

SPEC = Spec(32, 48, 8, 16, 15)  # a rectangle of 4 × 6 cells, in two scales
THRESHOLD = 4.68  # of the blur scorer, for `make_bytes`: its images get 6 to 15 tokens
TINY = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
plain = partial(VisionTransformer, **TINY)
eva = partial(Eva, **TINY)
rope = partial(eva, use_rot_pos_emb=True, use_abs_pos_emb=False)

KINDS = {
    "cls": plain,
    "average": partial(plain, global_pool="avg", class_token=False),
    "average with prefix": partial(plain, global_pool="avg", pool_include_prefix=True),
    "maximum": partial(plain, global_pool="max", fc_norm=False),
    "half of each": partial(plain, global_pool="avgmax", reg_tokens=1),
    "attention pool": partial(plain, global_pool="map", class_token=False),
    "attention pool past registers": partial(plain, global_pool="map", reg_tokens=2),
    "no pool": partial(plain, global_pool="", num_classes=0),
    "registers without rows": partial(plain, reg_tokens=4, no_embed_class=True),
    "registers with rows": partial(plain, reg_tokens=2),
    "norms before and inside": partial(plain, pre_norm=True, embed_norm_layer=nn.LayerNorm, init_values=0.1),
    "norms behind": partial(plain, block_fn=ResPostBlock, init_values=0.1),
    "parallel attention and MLP": partial(plain, block_fn=ParallelScalingBlock, qk_norm=True),
    "parallel blocks": partial(plain, block_fn=ParallelThingsBlock),
    "distilled": partial(VisionTransformerDistilled, **TINY),
    "Eva": eva,
    "Eva, cls": partial(eva, global_pool="token", num_reg_tokens=2, use_pre_transformer_norm=True),
    "Eva, attention pool": partial(eva, global_pool="map"),
    "Eva, post norm, gated": partial(eva, use_post_norm=True, swiglu_mlp=True, scale_mlp=True),
    "rope and table": partial(rope, use_abs_pos_emb=True, ref_feat_shape=(3, 5)),
    "rope": rope,
    "rope, offset, xy": partial(rope, rope_grid_offset=0.25, rope_grid_indexing="xy", ref_feat_shape=(5, 2)),
    "rope in halves": partial(rope, rope_rotate_half=True, attn_type="rope"),
    "DINOv3": partial(rope, rope_type="dinov3", num_reg_tokens=4, rope_rotate_half=True, init_values=0.1),
    "DINOv3, offset": partial(rope, rope_type="dinov3", rope_grid_offset=0.125),
    "mixed rope": partial(rope, rope_type="mixed", global_pool="token"),
    "mixed rope, xy, table": partial(rope, rope_type="mixed", rope_grid_indexing="xy", use_abs_pos_emb=True),
}
if "rope_mrope_section" in inspect.signature(Eva).parameters:  # since timm 1.0.31
    KINDS["MRope"] = partial(rope, rope_type="mrope", rope_mrope_section=(2, 3, 3))
# From each kind of positions and prefix one: where a test is slow.
FEW = ["cls", "distilled", "attention pool past registers", "rope and table", "DINOv3", "mixed rope"]


def make(kind: str, **options: object) -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shaken(KINDS[kind](**options))


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, with numbers everywhere: no zero that hides a part, no one that hides a scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "pos_embed" in name or "token" in name or "latent" in name or "pos_embedding" in name:
                value.copy_(0.5 * torch.randn(value.shape, generator=generator))
            elif value.ndim < 2:
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
            elif "freqs" not in name:  # so large that attention looks at some tokens more than at others
                value.copy_(1.5 * value[0].numel() ** -0.5 * torch.randn(value.shape, generator=generator))
    return model.eval()


def make_images(batch: int = 2, spec: Spec = SPEC, channels: int = 3) -> Tensor:
    """`[B, C, H, W]` floats as if normalised."""
    return torch.randn(batch, channels, spec.height, spec.width, generator=torch.Generator().manual_seed(batch))


def make_bytes(batch: int = 2, spec: Spec = SPEC) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(256, (batch, 3, spec.height, spec.width), generator=generator, dtype=torch.uint8)


def in_raster_order(features: Tensor, plan: Plan, prefix: int) -> Tensor:
    """`[B, P + N, D]` of a plan of the finest cells, in whatever order, as the model itself gives them."""
    return torch.cat([features[:, :prefix], reverse(features[:, prefix:], plan).flatten(2).transpose(1, 2)], dim=1)


def shuffled(plan: Plan, seed: int = 0) -> Plan:
    order = torch.randperm(plan.left.shape[1], generator=torch.Generator().manual_seed(seed))
    return Plan(plan.left[:, order], plan.top[:, order], plan.scale[:, order], plan.spec)


def assert_close(ours: Tensor, theirs: Tensor, relative: float = 1e-5) -> None:
    """To so much of the largest number: sums are added in another order."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    largest = theirs.abs().max().item()
    difference = (ours - theirs).abs().max().item()
    assert difference <= relative * largest, f"differ by {difference:.2e} of {largest:.2e}"


def resized(model: nn.Module, height: int, width: int) -> nn.Module:
    """A copy that takes images of another size, by timm's own hand."""
    other = copy.deepcopy(model)
    other.set_input_size((height, width))
    return other


__all__ = ["FEW", "KINDS", "SPEC", "TINY", "timm"]
