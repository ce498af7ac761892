"""Which layer of a classifier is asked, and how its tokens lie over the image.

Nothing is imported for it: a model is known by what its library calls its parts.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from quadtok.errors import InputError

# What the ends of features are called: in torchvision, the last one in EfficientNet-Lite0.
_FEATURES = (
    *("layer4", "permute", "features", "trunk_output", "inception5b", "Mixed_7c", "conv5", "layers", "blocks"),
    "_bn1",
)


def default_layer(model: nn.Module) -> nn.Module:
    """The last layer whose places still say where something is.

    Of a ViT the first norm of its last block: behind that block, one that reads its class token alone does not look at
    the other tokens any more. Of a convnet the end of its features: timm's last of `feature_info`, and what torchvision
    and EfficientNet-Lite0 call it (`layer4`, `features`, …).

    Raises:
        InputError: where there is none of these.
    """
    layer = _first_norm(model) or _last_of_feature_info(model) or _end_of_features(model)
    if layer is None:
        raise InputError(
            f"which layer of a {type(model).__name__} to ask is not known: name one, of {_outermost(model)}"
        )
    return layer


def _first_norm(model: Any) -> nn.Module | None:
    """Of the last block of a ViT, timm's or torchvision's."""
    for owner, name, norm in ((model, "blocks", "norm1"), (getattr(model, "encoder", None), "layers", "ln_1")):
        blocks = getattr(owner, name, None)
        if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks):
            found = getattr(blocks[-1], norm, None)
            if isinstance(found, nn.Module):
                return found
    return None


def _last_of_feature_info(model: Any) -> nn.Module | None:
    """Of timm's convnets. Some name what they do not have."""
    info = getattr(model, "feature_info", None)
    if not isinstance(info, list) or not info:
        return None
    return dict(model.named_modules()).get(str(info[-1].get("module")))


def _end_of_features(model: Any) -> nn.Module | None:
    """By its name; of Swin behind what brings its channels to the front."""
    for name in _FEATURES:
        layer = getattr(model, name, None)
        while isinstance(layer, nn.ModuleList) and len(layer):
            layer = layer[-1]
        if isinstance(layer, nn.Module):
            return layer
    return None


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name.

    Raises:
        InputError: where there is none, with the names of the outermost.
    """
    modules = dict(model.named_modules())
    if not name or name not in modules:
        raise InputError(f"there is no layer {name!r}: the model has {_outermost(model)}")
    return modules[name]


def _outermost(model: nn.Module) -> str:
    return ", ".join(child for child, _ in model.named_children()) + ", and what is in them (a.b.c)"


def is_channels_last(model: nn.Module, images: Tensor, maps: Tensor) -> bool:
    """Whether maps are `[B, h, w, D]`: where those alone have the image's shape; where both may, the model says so."""
    height, width = images.shape[2:]
    sides = (maps.shape[2:], maps.shape[1:3])
    first, last = (abs(h * width - w * height) <= 2 * max(height, width) for h, w in sides)
    return last if first != last else str(getattr(model, "output_fmt", "")).upper().endswith("NHWC")


def grid_of(model: nn.Module, images: Tensor, tokens: int) -> tuple[int, int, int]:
    """Of the tokens of a ViT: how many stand before those of the patches, which are (rows, columns) of these.

    Raises:
        InputError: where they are no grid of the image's shape.
    """
    before = _num_prefix(model)
    for prefix in (before, 0, 1):  # some come late, and of other libraries it is not known
        rows, columns = _rows_and_columns(model, images, tokens - prefix)
        if rows * columns == tokens - prefix:
            return prefix, rows, columns
    height, width = images.shape[2:]
    raise InputError(
        f"this layer has {tokens} tokens, which are no grid over {height}×{width} pixels: name another layer"
    )


def _num_prefix(model: nn.Module) -> int:
    """How many tokens stand before those of the patches."""
    known = getattr(model, "num_prefix_tokens", None)  # timm's
    if isinstance(known, int):
        return known
    return int(isinstance(getattr(model, "class_token", None), nn.Parameter))  # torchvision's


def _rows_and_columns(model: nn.Module, images: Tensor, places: int) -> tuple[int, int]:
    """By the size of a patch, or the shape of the image."""
    height, width = images.shape[2:]
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", getattr(model, "patch_size", None))
    down, across = patch if isinstance(patch, tuple) else (patch, patch)
    if isinstance(down, int) and (height // down) * (width // across) == places:
        return height // down, width // across
    rows = math.isqrt(max(0, places * height // width))
    return rows, rows * width // height
