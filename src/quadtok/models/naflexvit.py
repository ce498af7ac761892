"""Tokens for timm's NaFlexVit, which takes patches with a coordinate each.

As timm builds it, it does not read those coordinates: it takes the patches for the raster of a full grid. The full grid
in raster order is then right, and everything else is wrong without a word. Three things make it exact:

- two switches of its position table (`grid_sample`, bilinear), so that a patch's position is read at its centre;
- a table of the very size of the grid, because `grid_sample` does not resize as timm does;
- one more patch, which counts for nothing, in the last corner: NaFlexVit takes the largest coordinate for the grid's
  size, and the centre of a coarse patch in the corner would make the grid too small.

`naflex` makes a copy with the first two, `to_naflex` adds the third, and `check_naflex` refuses a model without them.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.models.reading import check_patches
from quadtok.pixels import normalize, refuse_normalized
from quadtok.plan import Plan
from quadtok.spec import Spec
from quadtok.tokens import Tokens

Model = TypeVar("Model", bound=nn.Module)


def to_naflex(tokens: Tokens, model: nn.Module, *, normalized: bool = False) -> dict[str, Tensor]:
    """What timm's NaFlexVit takes: `model(to_naflex(tokens, model))`.

    Args:
        tokens: with pixels on the scale 0…255, as they come of uint8 images or of a file; on the device of the model.
        model: what `naflex` gave for the spec of the tokens.
        normalized: the pixels are as the model wants them already, as in tokens of float images that were normalised
            with its own mean and std. By default they are normalised here, as the model's `pretrained_cfg` says.

    Returns:
        `patches` `[B, N + 1, p * p * C]` in the dtype of the model's weights, `patch_coord` `[B, N + 1, 2]` float32,
        (y, x) in units of `min_patch`, 0 for the centre of the first cell, and `patch_valid` `[B, N + 1]` bool. The
        last one only holds the grid's corner; it is not valid, and neither is padding, whose pixels are 0.

    Raises:
        InputError: where `check_naflex` refuses, for tokens without pixels or with another number of channels, and
            where the model does not say how it wants its pixels, or (on a CPU) they look normalised.
    """
    spec = tokens.plan.spec
    check_naflex(model, spec)
    embeds: Any = model.embeds
    patches = _pixels(tokens, model, normalized).to(embeds.proj.weight.dtype)
    valid = tokens.plan.valid
    if tokens.plan.lengths is not None:  # padding is 0 again, which normalised pixels are not
        patches = patches * valid[..., None, None, None]
    if embeds.channels_last:
        patches = patches.movedim(2, -1)
    return {
        "patches": F.pad(patches.flatten(2), (0, 0, 0, 1)),
        "patch_coord": _coordinates(tokens.plan),
        "patch_valid": F.pad(valid, (0, 1)),
    }


def naflex(model: Model, spec: Spec) -> Model:
    """A copy of a NaFlexVit that reads mixed-resolution tokens of this spec exactly.

    Args:
        model: as timm makes it: `timm.create_model(name, pretrained=True, use_naflex=True)`. Not a copy made here for
            another size: its table would be resized twice.
        spec: the size of the images; its `min_patch` is the model's patch size. Any number of tokens.

    Returns:
        The copy, with the same weights. Where the spec's grid is another than that of the model's position table, the
        table is resized as the model itself does for images of that size, and so its entry of the state dict has
        another shape.

    Raises:
        InputError: for a model that nothing can make exact: with rope, with factorized positions, or no NaFlexVit.
    """
    _check_kind(model)
    _check_patch_size(model, spec)
    ours = copy.deepcopy(model)
    embeds: Any = ours.embeds
    trained = embeds.pos_embed.requires_grad
    embeds.pos_embed = nn.Parameter(_table(embeds, *spec.grid(0)), requires_grad=trained)
    embeds.pos_embed_grid_size = spec.grid(0)
    embeds.pos_embed_use_grid_sample = True
    embeds.pos_embed_interp_mode = "bilinear"
    embeds.pos_embed_ar_preserving = False
    return ours


def check_naflex(model: nn.Module, spec: Spec | None = None) -> None:
    """Refuse a NaFlexVit that would misplace mixed-resolution tokens; nothing is changed.

    Args:
        model: any module.
        spec: of the tokens. Without it, only what is wrong for every spec is seen.

    Raises:
        InputError: naming the setting, and what to do instead.
    """
    _check_kind(model)
    embeds: Any = model.embeds
    mended = "quadtok.models.naflex(model, spec) gives a copy that does"
    if not embeds.pos_embed_use_grid_sample:
        raise InputError(
            "NaFlexVit does not read the tokens' coordinates, it takes them for a raster "
            f"(pos_embed_use_grid_sample is False): {mended}"
        )
    if embeds.pos_embed_interp_mode != "bilinear":
        raise InputError(
            "NaFlexVit does not read positions as the mean of the entries around a patch's centre "
            f"(pos_embed_interp_mode is {embeds.pos_embed_interp_mode!r}, not 'bilinear'): {mended}"
        )
    if spec is not None:
        _check_patch_size(model, spec)
        _check_table(embeds, spec)


def _check_kind(model: nn.Module) -> None:
    """Refuse what no switch can mend."""
    if not _is_naflexvit(model):
        raise InputError(
            f"model must be timm's NaFlexVit itself, got {type(model).__name__}: create it with "
            "timm.create_model(name, use_naflex=True), or give a plain ViT to quadtok.models.adapt"
        )
    embeds: Any = model.embeds
    if model.rope is not None:
        raise InputError(
            f"NaFlexVit takes its rope ({type(model.rope).__name__}) from the grid's size and never from the tokens' "
            "coordinates: give the plain model, created without use_naflex, to quadtok.models.adapt"
        )
    if embeds.pos_embed_type != "learned":
        raise InputError(
            f"the model's positions are {embeds.pos_embed_type!r} and NaFlexVit reads learned ones alone at the centre "
            "of a coarse patch: use a model with pos_embed='learned'"
        )
    if not embeds.is_linear:
        raise InputError(
            "this NaFlexVit embeds whole images by a convolution and takes no patches: create it with "
            "embed_proj_type='linear'"
        )


def _is_naflexvit(model: object) -> bool:
    """A library that is not loaded has no model here."""
    library = sys.modules.get("timm.models.naflexvit")
    return library is not None and isinstance(model, library.NaFlexVit)


def _check_patch_size(model: nn.Module, spec: Spec) -> None:
    embeds: Any = model.embeds
    height, width = embeds.patch_size
    if (height, width) != (spec.min_patch, spec.min_patch):
        raise InputError(
            f"the model's patches are {height}×{width} pixels and the spec's min_patch is {spec.min_patch}: "
            "they must be the same"
        )


def _check_table(embeds: Any, spec: Spec) -> None:
    """Refuse a table that `grid_sample` would stretch, and a square one for an oblong grid."""
    (rows, cols), grid = embeds.pos_embed.shape[1:3], spec.grid(0)
    mended = "quadtok.models.naflex(model, spec) gives a copy with the right one"
    if (rows, cols) != grid:
        raise InputError(
            f"the model's position table is for {rows}×{cols} patches and the spec's grid is {grid[0]}×{grid[1]}: "
            f"{mended}"
        )
    if embeds.pos_embed_ar_preserving and rows != cols:
        raise InputError(
            f"NaFlexVit would stretch its position table to a square for the spec's grid of {rows}×{cols} patches "
            f"(pos_embed_ar_preserving is True): {mended}"
        )


def _table(embeds: Any, rows: int, cols: int) -> Tensor:
    """`[1, rows, cols, D]`: the position table as the model resizes it for images of that size."""
    table: Tensor = embeds.pos_embed.detach()
    if table.shape[1:3] == (rows, cols):
        return table
    longest = max(rows, cols)
    resized = F.interpolate(
        table.movedim(-1, 1).float(),
        size=(longest, longest) if embeds.pos_embed_ar_preserving else (rows, cols),
        mode=embeds.pos_embed_interp_mode,
        align_corners=getattr(embeds, "pos_embed_align_corners", False),  # settings since timm 1.0.31
        antialias=getattr(embeds, "pos_embed_antialias", True),
    )
    return resized[:, :, :rows, :cols].movedim(1, -1).to(table.dtype).contiguous()


def _coordinates(plan: Plan) -> Tensor:
    """`[B, N + 1, 2]` float32: (y, x) of the patches' centres in cells, 0 at the first cell's; then the last corner."""
    centers = plan.centers.flip(-1) - 0.5
    rows, cols = plan.spec.grid(0)
    corner = torch.stack([centers.new_full((), rows - 1), centers.new_full((), cols - 1)])
    return torch.cat([centers, corner.expand(centers.shape[0], 1, 2)], dim=1)


def _pixels(tokens: Tokens, model: nn.Module, normalized: bool) -> Tensor:
    """`[B, N, C, p, p]` as the model wants them, in float32 at least."""
    patches = tokens.patches
    embeds: Any = model.embeds
    if patches is None:
        raise InputError("these tokens hold no pixels, only their layout (dtype 'none')")
    check_patches(patches, tokens.plan)
    if patches.shape[2] != embeds.in_chans:
        raise InputError(f"the tokens have {patches.shape[2]} channels and the model takes {embeds.in_chans}")
    if normalized:
        if not patches.is_floating_point():
            raise InputError(f"normalized pixels are floating, these are {patches.dtype}: leave normalized=False")
        return patches
    refuse_normalized(patches, "say normalized=True, if they are as this model wants them")
    mean, std = _mean_and_std(model)
    return normalize(patches.to(torch.promote_types(torch.float32, embeds.proj.weight.dtype)), mean, std)


def _mean_and_std(model: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    mean, std = config.get("mean"), config.get("std")
    if mean is None or std is None:
        raise InputError(
            "the model has no pretrained_cfg that says with which mean and std it wants its pixels: normalise them "
            "(tokens.normalized gives the patches) and say normalized=True"
        )
    return mean, std
