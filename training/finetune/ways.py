"""How a model is shown an image in N tokens: by a quadtree, or all of it shrunk, to compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data import Batch
from quadtok import Plan, Spec
from settings import Settings


@dataclass(frozen=True)
class View:
    """What a model is called with.

    Attributes:
        images: uint8, or normalised for it.
        arguments: of its call, beside the images.
    """

    images: Tensor
    arguments: dict[str, Any]


def view(batch: Batch, num_tokens: int, settings: Settings, images: Tensor | None = None) -> View:
    """A batch in so many tokens.

    Args:
        batch: of images on the model's device.
        num_tokens: of each image; with a threshold at most so many.
        settings: of the run.
        images: in place of the batch's, where they were mixed and normalised.
    """
    images = batch.images if images is None else images
    if settings.uniform:
        return _shrunk(images, num_tokens, settings.min_patch)
    if (plan := batch.plan(num_tokens, settings.threshold)) is not None:
        return View(images, {"plan": plan})
    return View(images, {"num_tokens": num_tokens, "threshold": settings.threshold})


def uniform_side(num_tokens: int) -> int:
    """Patches along a side of the square grid whose number of patches is nearest."""
    side = math.isqrt(num_tokens)
    return side + (abs((side + 1) ** 2 - num_tokens) < abs(side**2 - num_tokens))


def _shrunk(images: Tensor, num_tokens: int, patch: int) -> View:
    """With an antialiased bilinear filter, as image libraries shrink; bytes stay bytes."""
    side = min(uniform_side(num_tokens) * patch, images.shape[-1])
    small = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    if images.dtype == torch.uint8:
        small = small.round().clamp(0, 255).to(torch.uint8)
    spec = Spec.full(side, side, patch, patch)
    return View(small, {"plan": Plan.uniform(spec, scale=0, batch=len(images), device=images.device)})
