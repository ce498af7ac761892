"""Classifiers by name: torchvision's, timm's, EfficientNet-Lite0 of two packages, and one's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quadtok.errors import InputError, WeightsError, described
from quadtok.models.adapted import Adapted
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize
from quadtok.scorers.feature.lite0 import lite0_classifier
from quadtok.scorers.nets import read_state, weights_digest

LITE0, IMAGENET = "lite0", "imagenet"
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class Classifier:
    """A model that says what is to be seen, and what it wants to be shown.

    Attributes:
        name: of it, for sentences.
        model: in eval mode.
        mean: what its images are normalised with: one number a channel, on the scale 0…1.
        std: likewise.
        digest: sha256 of its weights.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    def inputs(self, images: Tensor) -> Tensor:
        """uint8 images `[B, 3, H, W]` as the model takes them."""
        return images if isinstance(self.model, Adapted) else normalize(images, self.mean, self.std)

    def describe(self) -> dict[str, Any]:
        """Name, normalisation and digest."""
        return {"model": self.name, "mean": list(self.mean), "std": list(self.std), "weights_sha256": self.digest}


def load_classifier(name: str, weights: str | Path | None = None) -> Classifier:
    """The classifier of this name.

    Args:
        name: `"lite0"` (the extra of that name); a model of timm, where it is installed, or of torchvision; or
            `"module:attribute"`, a `torch.nn.Module` or a function that makes one.
        weights: a file with a state dict, which fits strictly; or `"imagenet"`, what the library has, from its cache or
            downloaded. `lite0` and one's own bring theirs.

    Raises:
        InputError: where there is no such model, or weights are missing or not asked for.
        WeightsError: where they cannot be had, or do not fit.
    """
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    if ":" in name:
        model = _own(name)
    elif name == LITE0:
        model, mean, std = lite0_classifier(), LITE0_MEAN, LITE0_STD
    else:
        if weights is None:
            raise InputError(f"model {name} needs weights: imagenet, or a file with a state dict; else it is random")
        model, mean, std = _by_name(name, pretrained=weights == IMAGENET)
    if weights is not None and weights != IMAGENET:
        _load(model, Path(weights), name)
    elif weights == IMAGENET and (":" in name or name == LITE0):
        raise InputError(f"model {name} brings its weights: leave them out, or give a file")
    model = model.eval().requires_grad_(False)
    return Classifier(name, model, mean, std, weights_digest(model.state_dict()))


def _own(name: str) -> nn.Module:
    """A user's own: somebody else's code, which may raise anything."""
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        model = found if isinstance(found, nn.Module) else found()
    except Exception as problem:
        raise InputError(f"model {name} cannot be loaded: {described(problem)}") from problem
    finally:
        with suppress(ValueError):
            sys.path.remove(here)
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name} is no torch.nn.Module, but a {type(model).__name__}")
    return model


def _by_name(name: str, pretrained: bool) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """timm's where it has it, as it knows more of them, and what they are normalised with."""
    try:
        import timm
    except ImportError:
        timm = None
    models = _torchvision_models()
    if timm is not None and timm.is_model(name) and not (models and name in models.list_models() and pretrained):
        model = _made(name, lambda: timm.create_model(name, pretrained=pretrained))
        config: Mapping[str, Any] = getattr(model, "pretrained_cfg", {})
        return model, tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))
    if models is not None and name in models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT if pretrained else None
        return _made(name, lambda: models.get_model(name, weights=weights)), IMAGENET_MEAN, IMAGENET_STD
    looked = "timm and torchvision" if timm is not None else "torchvision (timm is not installed)"
    raise InputError(f"there is no model {name!r} in {looked}: give another name, lite0, or MODULE:NAME of your own")


def _load(model: nn.Module, path: Path, name: str) -> None:
    try:
        model.load_state_dict(read_state(path, IMAGENET), strict=True)
    except RuntimeError as problem:  # in paragraphs
        first = " ".join(str(problem).split())[:200]
        raise WeightsError(f"weights {path}: not those of {name} ({first}…)") from problem


def _torchvision_models() -> Any:
    try:
        from torchvision import models
    except (ImportError, RuntimeError):  # RuntimeError: built for another torch
        return None
    return models


def _made(name: str, make: Any) -> nn.Module:
    try:
        model: nn.Module = make()
    except Exception as problem:  # of the hub, of the network, of the disk
        raise WeightsError(
            f"model {name} cannot be had ({described(problem)}): download its weights elsewhere and give the file"
        ) from problem
    return model
