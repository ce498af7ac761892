"""Grad-CAM (Selvaraju et al., arXiv 1610.02391) of convnets, of ViTs, and of ViTs that read mixed-resolution tokens.

Each channel of a layer is weighted by how much the class gains from it, on average over its places; what is left of
their sum above 0 says where the class is seen. A token is a place: those of a ViT are a grid behind the class token,
those of an adapted one are laid out over the image by their plan, each counted once however large it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.models.adapted import Adapted
from quadtok.oracle.layers import default_layer, grid_of, is_channels_last, named_layer, num_prefix
from quadtok.pixels import check_images
from quadtok.plan import Plan
from quadtok.reversal import reverse

Target = int | Sequence[int] | Tensor


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
    with torch.enable_grad(), _heard(_layer_of(model, layer)) as heard:
        logits, plan = _logits(model, images)
        chosen = logits.gather(1, _classes(logits, target)[:, None]).sum()
        activations = _one(heard)
        (slopes,) = torch.autograd.grad(chosen, activations, allow_unused=True)
    if slopes is None:
        raise InputError("the class does not depend on this layer: name another")
    whole = slopes
    places, slopes = (_as_places(model, part.detach().float(), plan) for part in (activations, slopes))
    if bool(whole.any()) and not bool(slopes.any()):  # where all is 0, nothing speaks for the class
        raise InputError(
            "the class depends on no place of this layer, only on tokens that stand before the places: name a layer "
            "before it, such as the first norm of the last block"
        )
    found = (slopes.mean(dim=2, keepdim=True) * places).sum(1).relu()
    return _shown(_laid_out(model, found, activations, images, plan), size)


def _check(model: nn.Module, images: Tensor, size: tuple[int, int] | None) -> None:
    check_images(images)
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, got a {type(model).__name__}")
    if model.training:
        raise InputError("the model is in training mode, in which its answer depends on chance: call model.eval()")
    if not images.is_floating_point() and not isinstance(model, Adapted):
        raise InputError("images are uint8, and what the model wants is not known: normalise them as it was trained")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"size must be (height, width), both at least 1, got {size}")


def _layer_of(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    if layer is None:
        return default_layer(model)
    if isinstance(layer, str):
        return named_layer(model, layer)
    if not any(layer is module for module in model.modules()):
        raise InputError("this layer is no part of the model: give one of its modules, or its name")
    return layer


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


def _one(heard: list[Any]) -> Tensor:
    if len(heard) != 1:
        raise InputError(f"this layer runs {len(heard)} times in one call of the model: name one that runs once")
    if not isinstance(heard[0], Tensor) or heard[0].ndim not in (3, 4):
        shape = list(heard[0].shape) if isinstance(heard[0], Tensor) else type(heard[0]).__name__
        raise InputError(f"this layer gives {shape}, expected maps [B, D, h, w] or tokens [B, N, D]: name another")
    return heard[0]


def _logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Plan | None]:
    """Logits `[B, classes]`, and the plan where the model chose one."""
    output, plan = model(images, return_plan=True) if isinstance(model, Adapted) else (model(images), None)
    logits = getattr(output, "logits", output)  # as Hugging Face wraps them
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model gives {shape}, expected logits [{len(images)}, classes]: give a classifier")
    if plan is not None and plan.lengths is not None:
        raise InputError("the images have several numbers of tokens: give a model with a fixed number")
    return logits, plan


def _classes(logits: Tensor, target: Target | None) -> Tensor:
    if target is None:
        return logits.argmax(1)
    classes = torch.as_tensor(target, device=logits.device)
    if classes.is_floating_point() or classes.dtype == torch.bool or classes.ndim > 1:
        raise InputError(f"target must be a class or one for each image, got {target!r}")
    if classes.ndim and len(classes) != len(logits):
        raise InputError(f"target names {len(classes)} classes and there are {len(logits)} images")
    if bool(((classes < 0) | (classes >= logits.shape[1])).any()):
        raise InputError(f"target {classes.tolist()} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
    return classes.long().expand(len(logits))


def _as_places(model: nn.Module, part: Tensor, plan: Plan | None) -> Tensor:
    """`[B, D, places]`."""
    if part.ndim == 4:
        return part.flatten(1, 2).transpose(1, 2) if is_channels_last(model) else part.flatten(2)
    return part[:, num_prefix(model, part.shape[1], plan) :].transpose(1, 2)


def _laid_out(model: nn.Module, found: Tensor, activations: Tensor, images: Tensor, plan: Plan | None) -> Tensor:
    """Places `[B, places]` over the image, `[B, h, w]`."""
    if activations.ndim == 4:
        sides = activations.shape[1:3] if is_channels_last(model) else activations.shape[2:]
        return found.reshape(-1, *sides)
    if plan is not None:
        return reverse(found[..., None], plan)[:, 0]
    return found.reshape(-1, *grid_of(model, images, found.shape[1]))


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
