"""The net that is trained: its first weights, from EfficientNet-Lite0 or fresh, and what of it ships.

What is taken from EfficientNet-Lite0 (Apache-2.0; NOTICE) is changed in two ways: kernels of convolutions with a stride
get an even side, each the mean of the old one at the four places around its middle; and what follows is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from quadtok.scorers.feature.lite0 import lite0_state
from quadtok.scorers.object.net import ImportanceNet

# Ours, and theirs, of the layers of a block.
LAYERS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
STATISTICS = ("weight", "bias", "running_mean", "running_var")  # of a norm


def fresh(seed: int) -> ImportanceNet:
    """A net with norms, that knows nothing."""
    torch.manual_seed(seed)
    net = ImportanceNet(norms=True)
    with torch.no_grad():
        net.head.out.weight.mul_(0.3)
        nn.init.zeros_(net.head.out.bias)
    return net


def pretrained(seed: int) -> ImportanceNet:
    """The same with EfficientNet-Lite0's first blocks; the head is fresh."""
    net, theirs = fresh(seed), lite0_state()
    _take(net.stem, theirs, "_conv_stem", "_bn0")
    for number, block in enumerate(_blocks(net)):
        for ours, (conv, norm) in LAYERS.items():
            layer = getattr(block, ours)
            if not isinstance(layer, nn.Identity):
                _take(layer, theirs, f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}")
    return net


def _blocks(net: ImportanceNet) -> Iterator[nn.Module]:
    for stage in net.stages:
        yield from stage.children()


@torch.no_grad()
def _take(layer: nn.Module, theirs: dict[str, Tensor], conv: str, norm: str) -> None:
    weight = theirs[f"{conv}.weight"]
    if weight.shape[-1] != layer.conv.weight.shape[-1]:
        weight = widened(weight)
    layer.conv.weight.copy_(weight)
    for name in STATISTICS:
        getattr(layer.norm, name).copy_(theirs[f"{norm}.{name}"])


def widened(kernel: Tensor) -> Tensor:
    """`[..., k, k]` → `[..., k + 1, k + 1]`: what the old one gives, in the middle between four of its places."""
    places = [F.pad(kernel, (left, 1 - left, top, 1 - top)) for top in (0, 1) for left in (0, 1)]
    return torch.stack(places).mean(0)


@torch.no_grad()
def without_norms(net: ImportanceNet) -> ImportanceNet:
    """The same function in eval mode, every norm folded into the convolution before it."""
    state, folded = dict(net.state_dict()), ImportanceNet()
    for name, norm in net.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            conv = f"{name.rpartition('.')[0]}.conv"
            state[f"{conv}.weight"], state[f"{conv}.bias"] = fuse_conv_bn_weights(
                state[f"{conv}.weight"], None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
    folded.load_state_dict({name: state[name] for name in folded.state_dict()})
    return folded.eval()


def save(net: ImportanceNet, path: Path) -> None:
    """What ships: half precision, without norms."""
    torch.save({name: value.half() for name, value in without_norms(net).state_dict().items()}, path)
