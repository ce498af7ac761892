"""The paper's scorer: how far a small network's features move when a patch is kept at token resolution."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError, WeightsError
from quadtok.names import ErrorName
from quadtok.pixels import as_floats, check_images
from quadtok.scorers.base import full_precision, pool_to_grid, resize
from quadtok.spec import Spec

# The stages of ShuffleNetV2 up to each stride (docs/reference.md section 3); the classifier head is never used.
STAGES = {
    8: ("conv1", "maxpool", "stage2"),
    16: ("conv1", "maxpool", "stage2", "stage3"),
    32: ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
}
_HEAD = "fc."


class FeatureScorer:
    """Features of the image against features of its blurred copies (docs/reference.md section 3).

    Args:
        weights: `"imagenet"`, downloaded by torchvision at first use, or the path of a state dict of torchvision's
            ShuffleNetV2 x0.5, with or without its classifier. Ignored where `net` is given.
        net: any module that maps `[B, C, H, W]` to features `[B, D, h, w]`. It is copied: the scorer's copy stays
            frozen and in eval mode, and the caller's module is left as it is.
        stride: 32, 16 or 8: where the trunk is cut, and the map's resolution where `high_res_fraction` < 1.
        error: `"mse"`, the mean squared difference over the features, or `"cosine_distance"`, the negated cosine.
        high_res_fraction: the features are computed on images resized to this share of their size.

    Raises:
        InputError: for an option out of range.
        WeightsError: where the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        weights: str | Path = "imagenet",
        *,
        net: nn.Module | None = None,
        stride: int = 32,
        error: ErrorName = "mse",
        high_res_fraction: float = 1.0,
    ) -> None:
        if stride not in STAGES:
            raise InputError(f"stride {stride} is none of {', '.join(map(str, STAGES))}")
        if error not in get_args(ErrorName):
            raise InputError(f"error {error!r} is none of {', '.join(get_args(ErrorName))}")
        if not 0 < high_res_fraction <= 1:
            raise InputError(f"high_res_fraction {high_res_fraction} is outside 0 < f ≤ 1")
        self.weights = str(weights) if net is None else "net"
        self.stride = stride
        self.error = error
        self.high_res_fraction = high_res_fraction
        trunk = copy.deepcopy(net) if net is not None else shufflenet_trunk(stride, weights)
        self._net = trunk.float().eval().requires_grad_(False)
        self._channels = None if net is not None else 3
        self.weights_sha256 = weights_digest(self._net.state_dict())

    @torch.no_grad()
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        if self._channels not in (None, images.shape[1]):
            raise InputError(
                f"the feature scorer's net takes {self._channels} channels, the images have {images.shape[1]}"
            )
        self._net.to(images.device)
        with full_precision(images.device):
            pixels = as_floats(images)
            sharp = self._features(self._net_size(pixels))
            return [self._score(pixels, sharp, scale, spec) for scale in range(1, spec.num_scales)]

    def describe(self) -> dict[str, Any]:
        """Name, options, and the digest of the weights."""
        return {
            "name": "feature",
            "weights": Path(self.weights).name,
            "weights_sha256": self.weights_sha256,
            "stride": self.stride,
            "error": self.error,
            "high_res_fraction": self.high_res_fraction,
        }

    def _score(self, pixels: Tensor, sharp: Tensor, scale: int, spec: Spec) -> Tensor:
        small = resize(pixels, spec.height >> scale, spec.width >> scale)
        lost = ERRORS[self.error](self._features(self._net_size(small, of=pixels)), sharp)  # [B, h, w]
        if self.high_res_fraction < 1:
            rows, cols = (math.ceil(side / self.stride) for side in pixels.shape[2:])
            lost = resize(lost[:, None], rows, cols)[:, 0]
        return pool_to_grid(lost, *spec.grid(scale))

    def _net_size(self, pixels: Tensor, of: Tensor | None = None) -> Tensor:
        """The pixels at the size the net sees: `high_res_fraction` of the size of `of`, by default of their own."""
        height, width = (
            max(1, int(side * self.high_res_fraction)) for side in (pixels if of is None else of).shape[2:]
        )
        return pixels if pixels.shape[2:] == (height, width) else resize(pixels, height, width)

    def _features(self, pixels: Tensor) -> Tensor:
        features = self._net(pixels)
        if features.ndim != 4:
            raise InputError(f"the net must give features [B, D, h, w], it gave {list(features.shape)}")
        return features


def _mse(blurry: Tensor, sharp: Tensor) -> Tensor:
    return (blurry - sharp).square().mean(dim=1)


def _cosine_distance(blurry: Tensor, sharp: Tensor) -> Tensor:
    return -F.cosine_similarity(blurry, sharp, dim=1)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": _mse, "cosine_distance": _cosine_distance}


def shufflenet_trunk(stride: int, weights: str | Path) -> nn.Sequential:
    """torchvision's ShuffleNetV2 x0.5 up to this stride, with these weights.

    Raises:
        WeightsError: where torchvision does not import, or the weights cannot be had or do not fit.
    """
    try:
        from torchvision.models import shufflenet_v2_x0_5
    except (ImportError, RuntimeError) as problem:  # RuntimeError: built for another torch
        raise WeightsError(_torchvision_sentence(problem)) from problem
    net = shufflenet_v2_x0_5(weights=None)
    state = imagenet_state() if str(weights) == "imagenet" else read_state(Path(weights))
    _load_strictly(net, state, str(weights))
    return nn.Sequential(*(getattr(net, stage) for stage in STAGES[stride]))


def imagenet_state() -> Mapping[str, Tensor]:
    """torchvision's ImageNet weights: from its cache, or downloaded with a progress bar on stderr, digest checked."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    weights = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub announces the download on stdout, which is for data
            return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as problem:  # URLError is an OSError; a wrong digest is a RuntimeError
        raise WeightsError(
            f"the ImageNet weights could not be fetched from {weights.url} ({_first_line(problem)}): "
            "download that file elsewhere and give its path as weights (--weights FILE), or use a scorer "
            "that needs none (--scorer blur)"
        ) from problem


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, loaded without running anything in it.

    Raises:
        WeightsError: where there is no such file or it is no state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file; give imagenet or the path of a state dict") from None
    except Exception as problem:  # torch.load raises half a dozen types, in paragraphs
        raise WeightsError(f"weights {path}: not a state dict that can be loaded safely") from problem
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"weights {path}: not a state dict (a mapping of names to tensors)")
    return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, the same however the file around them was written."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_strictly(net: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Every trunk weight must be there and fit; a classifier may be there or not."""
    wanted = {key: value for key, value in net.state_dict().items() if not key.startswith(_HEAD)}
    given = {key: value for key, value in state.items() if not key.startswith(_HEAD)}
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    misshapen = sorted(key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape)
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)):
        if keys:
            raise WeightsError(
                f"weights {name}: not a ShuffleNetV2 x0.5: "
                f"{len(keys)} of {len(wanted)} tensors {label}, first {keys[0]}"
            )
    net.load_state_dict(given, strict=False)


def _torchvision_sentence(problem: Exception) -> str:
    if isinstance(problem, ModuleNotFoundError) and problem.name == "torchvision":
        return "the feature scorer needs torchvision: pip install torch torchvision from one index"
    return (
        f"torchvision does not fit torch {torch.__version__} ({_first_line(problem)}): "
        "reinstall both from one index; the other scorers work without it"
    )


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
