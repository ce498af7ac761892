"""Classifiers by name: torchvision's, timm's, EfficientNet-Lite0 of two packages, and one's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError, WeightsError, about, described
from quadtok.models.adapted import Adapted
from quadtok.oracle.checks import check_evaluating, check_model
from quadtok.own_code import found_by_name, printing_to_stderr
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize
from quadtok.scorers.feature.lite0 import lite0_classifier
from quadtok.scorers.nets import read_state, weights_digest
from quadtok.storage.safetensors_file import check_safetensors

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
        size: (height, width), where it takes no other, as most ViTs do.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    size: tuple[int, int] | None = None

    def inputs(self, images: Tensor) -> Tensor:
        """uint8 images `[B, 3, H, W]` as the model takes them: in its precision, and its size if it takes no other."""
        if isinstance(self.model, Adapted):
            return images
        normalized = normalize(images, self.mean, self.std)
        if self.size is not None and self.size != tuple(images.shape[2:]):
            normalized = F.interpolate(normalized, self.size, mode="bilinear", antialias=True)
        return normalized.to(self._precision)

    @property
    def _precision(self) -> torch.dtype:
        """That of its weights: some are in half precision."""
        return next((weight.dtype for weight in self.model.parameters() if weight.is_floating_point()), torch.float32)

    def describe(self) -> dict[str, Any]:
        """Name, normalisation, size and digest."""
        steps = {"mean": list(self.mean), "std": list(self.std), "size": self.size}
        return {"model": self.name, **steps, "weights_sha256": self.digest}


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
    if ":" in name or name == LITE0:
        model = lite0_classifier() if name == LITE0 else _own(name)
        if weights == IMAGENET:
            raise InputError(f"model {name} brings its weights: leave them out, or give a file")
        if weights is not None:
            _load(model, Path(weights), name)
    elif weights is None:
        raise InputError(f"model {name} needs weights: imagenet, or a file with a state dict; else it is random")
    else:
        model = _by_name(name, weights)
    with about(f"model {name}"):
        check_model(model)
        check_evaluating(model.eval())
    mean, std = (LITE0_MEAN, LITE0_STD) if name == LITE0 else _statistics(model)
    model = model.requires_grad_(False)
    return Classifier(name, model, mean, std, weights_digest(model.state_dict()), _only_size(model))


def _own(name: str) -> nn.Module:
    """A user's own; of one that stands in their module, a copy: that one stays as it is."""

    def make(found: Any) -> Any:
        return copy.deepcopy(found) if isinstance(found, nn.Module) else found()

    model = found_by_name(name, "model", make)
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name} is no torch.nn.Module, but a {type(model).__name__}")
    return model


def _by_name(name: str, weights: str | Path) -> nn.Module:
    """With weights of its library, torchvision's where both have it; or from a file, which may be of either."""
    makers = _makers(name)
    if weights == IMAGENET:
        return _made(name, partial(makers[-1], True))
    problems = []
    for make in makers:
        model = _made(name, partial(make, False))
        try:
            _load(model, Path(weights), name)
        except WeightsError as problem:
            problems.append(problem)
        else:
            return model
    raise problems[0]


def _makers(name: str) -> list[Callable[[bool], nn.Module]]:
    """What makes it, pretrained or not: timm, and then torchvision."""
    found: list[Callable[[bool], nn.Module]] = []
    try:
        import timm
    except ImportError:
        timm = None
    if timm is not None and timm.is_model(name):
        found.append(lambda pretrained: timm.create_model(name, pretrained=pretrained))
    models = _torchvision_models()
    if models is not None and name in models.list_models(module=models):
        found.append(lambda pretrained: models.get_model(name, weights="DEFAULT" if pretrained else None))
    if not found:
        looked = "timm and torchvision" if timm is not None else "torchvision (timm is not installed)"
        raise InputError(
            f"there is no model {name!r} in {looked}: give another name, lite0, or MODULE:NAME of your own"
        )
    return found


def _statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that its images are normalised with."""
    config: Any = getattr(model, "pretrained_cfg", None)  # timm's
    config = config if isinstance(config, Mapping) else {}
    return tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))


def _only_size(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) of the images that a model of a library takes, where it refuses all others."""
    config: Any = getattr(model, "pretrained_cfg", None)  # timm's
    if isinstance(config, Mapping) and config.get("fixed_input_size"):
        _, height, width = config["input_size"]
        return int(height), int(width)
    side = getattr(model, "image_size", None)  # of torchvision's ViTs
    return (side, side) if isinstance(side, int) else None


def _load(model: nn.Module, path: Path, name: str) -> None:
    try:
        model.load_state_dict(_state(path), strict=True)
    except RuntimeError as problem:  # in paragraphs
        first = " ".join(str(problem).split())[:200]
        way_out = "" if ":" in name else "; of a model that was changed, give what makes it, as MODULE:NAME"
        raise WeightsError(f"weights {path}: not those of {name} ({first}…){way_out}") from problem


def _state(path: Path) -> Mapping[str, Tensor]:
    """A state dict in a torch file, or as safetensors, which is what timm's hub has."""
    with about(f"weights {path}"):
        if path.suffix == ".safetensors" and path.is_file():
            check_safetensors()
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                found: dict[str, Tensor] = load_file(path)
            except (SafetensorError, OSError) as problem:
                raise WeightsError(f"no safetensors that can be read ({described(problem)})") from problem
            return found
    try:
        return read_state(path, IMAGENET)
    except WeightsError as problem:
        if "not a state dict" not in str(problem):
            raise
        raise WeightsError(f"{problem}; write one by torch.save(model.state_dict(), path)") from problem


def _torchvision_models() -> Any:
    try:
        from torchvision import models
    except (ImportError, RuntimeError):  # RuntimeError: built for another torch
        return None
    return models


def _made(name: str, make: Any) -> nn.Module:
    try:
        with printing_to_stderr():  # a hub says what it downloads
            model: nn.Module = make()
    except Exception as problem:  # of the hub, of the network, of the disk
        raise WeightsError(
            f"model {name} cannot be had ({described(problem)}): download its weights elsewhere and give the file"
        ) from problem
    return model
