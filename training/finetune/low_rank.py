"""Low-rank adaptation (LoRA, arXiv 2106.09685): a linear layer's weight stays, a product of two thin ones learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quadtok.errors import InputError

DOWN, UP = "down", "up"  # the new weights, behind the layer's name


class LowRank(nn.Linear):
    """A linear layer whose weight is W + U·D, whoever reads it. U begins at 0, and so does the difference.

    Some blocks hand the weight to a function of their own, and never call the layer.
    """

    down: nn.Parameter
    up: nn.Parameter

    @classmethod
    def of(cls, layer: nn.Linear, rank: int) -> LowRank:
        """The same layer, its own weights no longer trained."""
        made = cls.__new__(cls)
        made.__dict__ = layer.__dict__
        weight = layer.weight.requires_grad_(False)
        if layer.bias is not None:
            layer.bias.requires_grad_(False)
        made.register_parameter(DOWN, nn.Parameter(torch.empty(rank, layer.in_features).to(weight)))
        made.register_parameter(UP, nn.Parameter(torch.zeros(layer.out_features, rank).to(weight)))
        nn.init.normal_(made.down, std=rank**-0.5)
        return made

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """W + U·D `[out, in]`; the parameter of this name is W."""
        own = self._parameters["weight"]
        assert own is not None
        return own + self.up @ self.down


def make_low_rank(blocks: nn.Module, rank: int) -> None:
    """Every plain linear layer of the blocks; those whose weights others read, as torch's attention does, stay.

    Raises:
        InputError: where there is none.
    """
    found = [
        (parent, name, child)
        for parent in blocks.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    if not found:
        raise InputError("the model has no linear layers that --train low-rank could add to: take --train all")
    for parent, name, child in found:
        setattr(parent, name, LowRank.of(child, rank))


def merged(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict with the products added to the weights, under the keys that the model had before."""
    result = {key: value for key, value in state.items() if key.rpartition(".")[2] not in (DOWN, UP)}
    for key, up in state.items():
        name, _, last = key.rpartition(".")
        if last == UP and f"{name}.weight" in state:
            result[f"{name}.weight"] = state[f"{name}.weight"] + up @ state[f"{name}.{DOWN}"]
    return result
