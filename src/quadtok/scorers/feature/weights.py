"""Networks that the feature scorer looks through, and where their weights come from.

A new net is a file here and an entry in `load_trunk`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from quadtok.errors import InputError, WeightsError
from quadtok.scorers.feature.lite0 import MARK, PIXELS_A_PASS, STRIDE, fold_lite0, lite0_state, lite0_trunk
from quadtok.scorers.feature.object_net import ObjectNet
from quadtok.scorers.feature.shufflenet import STAGES, fold_trunk, imagenet_state, shufflenet_trunk
from quadtok.scorers.nets import build_net, read_state, weights_digest

BUNDLED, IMAGENET, LITE0 = "bundled", "imagenet", "lite0"
NAMES = f"{BUNDLED}, {IMAGENET}, {LITE0}"
OF_IMPORTANCE = "power"  # in the state dict of the object scorer's net
BUNDLED_FILE = resources.files("quadtok.scorers.feature") / "object_net.pt"


@dataclass(frozen=True)
class Trunk:
    """A net with its weights.

    Attributes:
        net: images `[B, 3, H, W]` to features `[B, D, h, w]`.
        stride: how many pixels of the image a place of the features stands for.
        quick: makes an equal net that lies better in memory and rounds in another order; None where there is none.
        pixels_a_pass: that it should see at once on a CPU; None for as many as usual.
    """

    net: nn.Module
    stride: int
    quick: Callable[[nn.Module], nn.Module] | None
    pixels_a_pass: int | None = None


def load_trunk(weights: str, stride: int | None) -> Trunk:
    """The net that these weights belong to.

    Args:
        weights: `"bundled"`, `"imagenet"`, `"lite0"` or the path of a state dict of one of these nets.
        stride: where to cut the net, one of those it has; None is its own.

    Raises:
        InputError: where the net does not have that stride.
        WeightsError: where the weights cannot be had or do not fit.
    """
    if weights == IMAGENET:
        state = imagenet_state()
    elif weights == LITE0:
        state = lite0_state()
    elif weights == BUNDLED:
        with resources.as_file(BUNDLED_FILE) as path:
            state = read_state(path, NAMES)
    else:
        state = read_state(Path(weights), NAMES)
    if "gate.weight" in state:
        _check_stride(stride, [ObjectNet.STRIDE], weights)
        net = build_net(ObjectNet, state, weights, "an ObjectNet")
        return Trunk(net, ObjectNet.STRIDE, _channels_last)
    if OF_IMPORTANCE in state:
        raise WeightsError(f"weights {weights}: of an ImportanceNet: they are for the object scorer, not for feature")
    if MARK in state:
        _check_stride(stride, [STRIDE], weights)
        return Trunk(lite0_trunk(state, weights), STRIDE, fold_lite0, PIXELS_A_PASS)
    _check_stride(stride, list(STAGES), weights)
    stride = stride or max(STAGES)
    return Trunk(shufflenet_trunk(stride, state, weights), stride, fold_trunk)


def _check_stride(stride: int | None, possible: list[int], name: str) -> None:
    if stride is not None and stride not in possible:
        raise InputError(f"stride {stride} is none of {', '.join(map(str, possible))}, which weights {name} have")


def _channels_last(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).to(memory_format=torch.channels_last)


__all__ = ["BUNDLED", "IMAGENET", "LITE0", "Trunk", "load_trunk", "weights_digest"]
