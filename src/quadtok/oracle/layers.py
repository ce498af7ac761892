"""Which layer of a classifier is asked, and how its tokens lie over the image.

Nothing is imported for it: a model is known by what its library calls its parts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.models.adapted import Adapted
from quadtok.plan import Plan


def default_layer(model: nn.Module) -> nn.Module:
    """The last layer whose places still say where something is.

    Of a ViT the first norm of its last block: behind that block, one that reads its class token alone does not look at
    the other tokens any more. Of a convnet the end of its features: torchvision's `layer4`, `features` (of Swin what
    permutes them), timm's last of `feature_info`, EfficientNet-Lite0's `_bn1`.

    Raises:
        InputError: where there is none of these.
    """
    parts: Any = model
    for owner, name, norm in ((parts, "blocks", "norm1"), (getattr(parts, "encoder", None), "layers", "ln_1")):
        blocks = getattr(owner, name, None)
        if isinstance(blocks, nn.Sequential | nn.ModuleList) and isinstance(getattr(blocks[-1], norm, None), nn.Module):
            first_norm: nn.Module = getattr(blocks[-1], norm)
            return first_norm
    info = getattr(parts, "feature_info", None)
    if isinstance(info, list) and info and "module" in info[-1]:
        return named_layer(model, str(info[-1]["module"]))
    for name in ("layer4", "permute", "features", "_bn1"):
        if isinstance(layer := getattr(parts, name, None), nn.Module):
            return layer
    raise InputError(f"which layer of a {type(model).__name__} to ask is not known: name one")


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name.

    Raises:
        InputError: where there is none, with the names of the outermost.
    """
    modules = dict(model.named_modules())
    if not name or name not in modules:
        outermost = ", ".join(child for child, _ in model.named_children())
        raise InputError(f"there is no layer {name!r}: the model has {outermost}, and what is in them (a.b.c)")
    return modules[name]


def is_channels_last(model: nn.Module) -> bool:
    """Whether its maps are `[B, h, w, D]`, as those of timm's Swin and of some others."""
    return str(getattr(model, "output_fmt", "")).upper().endswith("NHWC")


def num_prefix(model: nn.Module, tokens: int, plan: Plan | None) -> int:
    """How many tokens stand before those of the patches."""
    if plan is not None:
        return tokens - plan.spec.num_tokens
    known = getattr(model, "num_prefix_tokens", None)  # timm's
    if isinstance(known, int):
        return known
    return int(isinstance(getattr(model, "class_token", None), nn.Parameter))  # torchvision's


def grid_of(model: nn.Module, images: Tensor, places: int) -> tuple[int, int]:
    """(rows, columns) of the patches of a ViT.

    Raises:
        InputError: where there are not as many.
    """
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", getattr(model, "patch_size", None))
    across = patch if isinstance(patch, tuple) else (patch, patch)
    if not isinstance(across[0], int) or isinstance(model, Adapted):
        across = (0, 0)
    rows, columns = (side // max(1, step) for side, step in zip(images.shape[2:], across, strict=True))
    if rows * columns != places:
        raise InputError(f"this layer has {places} places, which are no {rows}×{columns} patches: name another layer")
    return rows, columns
