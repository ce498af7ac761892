"""The paper's net: torchvision's ShuffleNetV2 x0.5, cut where its features are read, and a quicker form of it.

Nothing here imports torchvision before a net is asked for.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from quadtok.download import fetch
from quadtok.errors import OutputError, WeightsError
from quadtok.scorers.nets import build_net, put_weights, read_state

# The stages of ShuffleNetV2 up to each stride (docs/reference.md section 3); the classifier head is never used.
STAGES = {
    8: ("conv1", "maxpool", "stage2"),
    16: ("conv1", "maxpool", "stage2", "stage3"),
    32: ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
}
_HEAD = "fc."


def shufflenet_trunk(stride: int, state: Mapping[str, Tensor], name: str) -> nn.Sequential:
    """torchvision's ShuffleNetV2 x0.5 up to this stride.

    Args:
        stride: one of `STAGES`.
        state: its weights, with or without those of the classifier.
        name: where they are from, for the error.

    Raises:
        WeightsError: where torchvision does not import, or the weights do not fit.
    """
    make = functools.partial(_torchvision_models().shufflenet_v2_x0_5, weights=None)
    net = build_net(make, state, name, "a ShuffleNetV2 x0.5", optional=_HEAD)
    return nn.Sequential(*(getattr(net, stage) for stage in STAGES[stride]))


def fold_trunk(trunk: nn.Module) -> nn.Sequential:
    """The same function as a `shufflenet_trunk` in eval mode, with fewer passes over the memory.

    Args:
        trunk: left as it is.

    Returns:
        A frozen net of its own, whose weights lie channels last.
    """
    from torchvision.models.shufflenetv2 import InvertedResidual

    parts: list[Any] = list(trunk.children())
    conv1, maxpool, *stages = parts
    conv, relu = _fold_norms(conv1)
    layers = [conv, maxpool, relu]  # rectify after the pooling: the same numbers, a quarter of the work
    for stage in stages:
        if isinstance(stage[0], InvertedResidual):
            layers += [_ShuffleUnit(block) for block in stage]
        else:
            layers += _fold_norms(stage)
    return nn.Sequential(*copy.deepcopy(layers)).to(memory_format=torch.channels_last).eval().requires_grad_(False)


class _ShuffleUnit(nn.Module):
    """One of torchvision's `InvertedResidual`, folded."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        # A block of stride 1 lets half of the channels pass; the others have two branches over all of them.
        self.kept = nn.Sequential(*_fold_norms(block.branch1)) if block.stride > 1 else None
        self.moved = nn.Sequential(*_fold_norms(block.branch2))

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            kept, moved = x.chunk(2, dim=1)
            return interleave(kept, self.moved(moved))
        return interleave(self.kept(x), self.moved(x))


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """The channels of the two in turn, `[B, D, h, w]` twice → `[B, 2 · D, h, w]`; they stay last in memory."""
    if first.device.type == "cpu":
        return F.channel_shuffle(torch.cat((first, second), dim=1), 2)
    return interleave_last(first, second)


def interleave_last(first: Tensor, second: Tensor) -> Tensor:
    """`interleave` where torch's own shuffle would bring the channels to the front: on any device but the CPU."""
    pairs = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=-1)  # [B, h, w, D, 2]
    return pairs.flatten(3).permute(0, 3, 1, 2)


def _fold_norms(layers: Iterable[Any]) -> list[Any]:
    """The layers, each batch norm folded into the convolution before it."""
    folded: list[Any] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = _fold_norm(folded[-1], layer)
        else:
            folded.append(layer)
    return folded


def _fold_norm(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    folded = copy.deepcopy(conv)
    put_weights(folded, {"weight": weight, "bias": bias})
    return folded


def imagenet_state() -> Mapping[str, Tensor]:
    """torchvision's ImageNet weights: from torch's cache (`TORCH_HOME`), or downloaded into it, digest checked.

    Raises:
        WeightsError: where torchvision does not import, or the download fails.
    """
    url = _torchvision_models().ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url
    try:
        path = fetch(url, Path(torch.hub.get_dir()) / "checkpoints")
    except (OSError, OutputError) as problem:
        raise WeightsError(
            f"the ImageNet weights could not be fetched from {url} ({_first_line(problem)}): "
            "download that file elsewhere and give its path as weights, or use those that come with quadtok, "
            "weights='bundled'"
        ) from problem
    return read_state(path)


def _torchvision_models() -> Any:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as problem:  # RuntimeError: built for another torch
        raise WeightsError(_torchvision_sentence(problem)) from problem
    return models


def _torchvision_sentence(problem: Exception) -> str:
    if isinstance(problem, ModuleNotFoundError) and problem.name == "torchvision":
        return "these weights need torchvision: pip install torch torchvision from one index, or use weights='bundled'"
    return (
        f"torchvision does not fit torch {torch.__version__} ({_first_line(problem)}): "
        "reinstall both from one index; the bundled weights and the other scorers work without it"
    )


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
