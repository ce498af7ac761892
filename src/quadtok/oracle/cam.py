"""Grad-CAM (Selvaraju et al., arXiv 1610.02391) of convnets, of ViTs, and of ViTs that read mixed-resolution tokens.

Each channel of a layer is weighted by how much the class gains from it, on average over its places; what is left of
their sum above 0 says where the class is seen. A token is a place: those of a ViT are a grid behind the class token,
those of an adapted one are laid out over the image by their plan, each counted once however large it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.models.adapted import Adapted
from quadtok.oracle.checks import check_evaluating, check_model
from quadtok.oracle.layers import default_layer, grid_of, is_channels_last, named_layer
from quadtok.pixels import check_images
from quadtok.plan import Plan
from quadtok.reversal import reverse

Target = int | Sequence[int] | Tensor
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: Target | None = None,
    layer: str | nn.Module | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Where a classifier sees a class, for each image by itself.

    Nothing of the model changes, and no gradients are left in it. One call at a time: it listens to a layer meanwhile.

    Args:
        model: `[B, C, H, W]` → logits `[B, classes]`, in eval mode: torchvision's and timm's convnets and ViTs, others
            where the layer is named, and what `quadtok.models.adapt` gives.
        images: `[B, C, H, W]`, floating, normalised as the model wants them, on its device. An adapted ViT takes uint8
            as well.
        target: a class, or one for each image; None: for each the one of the largest logit.
        layer: a module of the model, or its dotted name; None: see `default_layer`. It gives maps `[B, D, h, w]`, or
            tokens `[B, P + N, D]`, of which P stand before those of the patches.
        size: (height, width) that the maps are brought to, bilinearly; None: they have the layer's own.

    Returns:
        float32 `[B, h, w]`, each from 0 to 1. One is 0 everywhere where nothing speaks for its class.

    Raises:
        InputError: for a model in training mode, a layer or target that there is not, and a layer on whose places the
            class does not depend, such as the last norm of a ViT that reads its class token alone.
    """
    _check(model, images, size)
    with torch.inference_mode(False), torch.enable_grad(), _heard(_layer_of(model, layer)) as heard:
        logits, plan = _logits(model, images.clone() if images.is_inference() else images)
        chosen = _chosen(logits, target).sum()
        activations = _one(heard, len(images))
        slopes = torch.autograd.grad(chosen, activations, allow_unused=True)[0] if chosen.requires_grad else None
    if slopes is None:
        raise InputError(
            "the class does not depend on this layer, or the model runs it without gradients (no_grad, a reentrant "
            "checkpoint): name another"
        )
    grid = _grid(model, images, activations, plan)
    weights = grid.places(slopes).mean(dim=2, keepdim=True)
    if bool(slopes.any()) and not bool(grid.places(slopes).any()):  # where all is 0, nothing speaks for the class
        raise InputError(
            "the class depends on no place of this layer, only on tokens that stand before the places: name a layer "
            "before it, such as the first norm of the last block"
        )
    found = (weights * grid.places(activations)).sum(1).relu()
    if not bool(found.isfinite().all()):
        raise InputError(
            "what the layer gives, or its gradients, are not finite: see the images, weights and precision"
        )
    return _shown(grid.laid_out(found, plan), size)


def _check(model: nn.Module, images: Tensor, size: tuple[int, int] | None) -> None:
    check_images(images)
    check_model(model)
    check_evaluating(model)
    if not images.is_floating_point() and not isinstance(model, Adapted):
        raise InputError("images are uint8, and what the model wants is not known: normalise them as it was trained")
    if size is not None and not _is_size(size):
        raise InputError(f"size must be (height, width), integers of at least 1, got {size!r}")


def _is_size(size: object) -> bool:
    is_pair = isinstance(size, tuple | list) and len(size) == 2
    return is_pair and all(isinstance(side, int) and side > 0 for side in size)  # type: ignore[attr-defined]


def _layer_of(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    if layer is None:
        return default_layer(model)
    if isinstance(layer, str):
        return named_layer(model, layer)
    if not any(layer is module for module in model.modules()):
        raise InputError("this layer is no part of the model: give one of its modules, or its name")
    return layer


@dataclass(frozen=True)
class _Grid:
    """How the places of a layer lie.

    Attributes:
        sides: (rows, columns); empty where a plan says where they are.
        prefix: tokens that stand before the places.
        channels_last: whether maps are `[B, h, w, D]`.
    """

    sides: Sequence[int]
    prefix: int = 0
    channels_last: bool = False

    def places(self, part: Tensor) -> Tensor:
        """Of maps or tokens, `[B, D, places]` in float32."""
        part = part.detach().float()
        if part.ndim == 3:
            return part[:, self.prefix :].transpose(1, 2)
        return part.flatten(1, 2).transpose(1, 2) if self.channels_last else part.flatten(2)

    def laid_out(self, found: Tensor, plan: Plan | None) -> Tensor:
        """Places `[B, places]` over the image, `[B, h, w]`."""
        if plan is not None and not self.sides:
            return reverse(found[..., None], plan)[:, 0]
        return found.reshape(-1, *self.sides)


@contextmanager
def _heard(layer: nn.Module) -> Iterator[list[Any]]:
    """What a layer gives while the block runs: each a leaf of its own, so that slopes end there.

    What comes behind goes on with a copy: it may write into it.
    """
    heard: list[Any] = []

    def listen(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            heard.append(output)
            return None
        heard.append(output.detach().requires_grad_())
        return heard[-1].clone()

    handle = layer.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()


def _one(heard: list[Any], count: int) -> Tensor:
    if len(heard) != 1:
        times = (
            f"runs {len(heard)} times in one call of the model" if heard else "is not called by the model as a whole"
        )
        raise InputError(f"this layer {times}: name one that runs once")
    if not isinstance(heard[0], Tensor) or heard[0].ndim not in (3, 4):
        shape = list(heard[0].shape) if isinstance(heard[0], Tensor) else type(heard[0]).__name__
        raise InputError(f"this layer gives {shape}, expected maps [B, D, h, w] or tokens [B, N, D]: name another")
    if len(heard[0]) != count:
        raise InputError(
            f"this layer gives {list(heard[0].shape)} of {count} images, parts of them alone: name another"
        )
    return heard[0]


def _logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Plan | None]:
    """Logits `[B, classes]`, and the plan where the model chose one."""
    output, plan = model(images, return_plan=True) if isinstance(model, Adapted) else (model(images), None)
    logits = getattr(output, "logits", output)  # as Hugging Face wraps them
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or not logits.shape[1]:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model gives {shape}, expected logits [{len(images)}, classes]: give a classifier")
    if plan is not None and plan.lengths is not None:
        raise InputError("the images have several numbers of tokens: give a model with a fixed number")
    return logits, plan


def _chosen(logits: Tensor, target: Target | None) -> Tensor:
    """Each image's logit of its class. One that is NaN would be the largest, and nothing would speak for it."""
    chosen = logits.gather(1, _classes(logits, target)[:, None])
    if not bool(chosen.isfinite().all()):
        raise InputError(
            f"the logits of the class are not finite ({chosen[~chosen.isfinite()][0].item()}): see the images, weights "
            "and precision"
        )
    return chosen


def _classes(logits: Tensor, target: Target | None) -> Tensor:
    if target is None:
        return logits.argmax(1)
    try:
        classes = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        classes = None
    if classes is None or classes.dtype not in _INTEGERS or classes.ndim > 1:
        raise InputError(
            f"target must be a class or one for each image, integers from 0 to {logits.shape[1] - 1}, got {target!r}"
        )
    if classes.ndim and len(classes) != len(logits):
        raise InputError(f"target names {len(classes)} classes and there are {len(logits)} images")
    wrong = classes[(classes < 0) | (classes.long() >= logits.shape[1])]
    if wrong.numel():
        raise InputError(f"target {int(wrong[0])} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
    return classes.long().expand(len(logits))


def _grid(model: nn.Module, images: Tensor, activations: Tensor, plan: Plan | None) -> _Grid:
    if activations.ndim == 4:
        channels_last = is_channels_last(model, images, activations)
        return _Grid(activations.shape[1:3] if channels_last else activations.shape[2:], channels_last=channels_last)
    if plan is not None:
        return _Grid((), activations.shape[1] - plan.spec.num_tokens)
    prefix, rows, columns = grid_of(model, images, activations.shape[1])
    return _Grid((rows, columns), prefix)


def _shown(maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Each from 0 to 1, before it is resized and after."""
    maps = _from_0_to_1(maps)
    if size is None or tuple(maps.shape[1:]) == tuple(size):
        return maps
    return _from_0_to_1(F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0])


def _from_0_to_1(maps: Tensor) -> Tensor:
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = most - least
    return (maps - least) / torch.where(span > 0, span, 1)
