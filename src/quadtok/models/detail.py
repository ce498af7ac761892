"""What coarse tokens know besides their shrunken pixels: new parts of an adapted model, which change nothing at first.

A token of scale k shows a patch of `2**k · p` pixels at the resolution of p. APT's tables say that this costs a
fine-tuned model 0.2 to 0.5 of its top-1 accuracy, and that a branch which also reads the patch's own fine pixels wins
it back (docs/models.md). So there are two parts, both 0 until they are trained:

- `ScaleEmbedding`, a vector a scale, added to its tokens;
- `Subpatches`, the patch's fine pixels: cut up and embedded as the model's finest tokens are, merged from 2 × 2 to one
  as often as the token's scale says, by the same layer each time, and added through a layer that begins at 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.plan import Plan


class ScaleEmbedding(nn.Module):
    """A learned vector for each scale, 0 at the start.

    Args:
        num_scales: S.
        like: a weight of the model `[D, …]`, for its width, device and dtype.
    """

    def __init__(self, num_scales: int, like: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_scales, like.shape[0], device=like.device, dtype=like.dtype))

    def forward(self, plan: Plan) -> Tensor:
        """`[B, N, D]`, to be added to embedded patches.

        Raises:
            InputError: for a plan of more scales.
        """
        if plan.spec.num_scales > self.weight.shape[0]:
            raise InputError(
                f"the plan has {plan.spec.num_scales} scales, the model's scale embedding {self.weight.shape[0]}: "
                "adapt it with a spec of as many"
            )
        return F.embedding(plan.scale, self.weight)


class Subpatches(nn.Module):
    """The fine pixels of coarse tokens, merged to a vector each; 0 at the start.

    Args:
        like: a weight of the model `[D, …]`, for its width, device and dtype.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        dim = like.shape[0]
        # Made without numbers: torch's own initialisation draws from the global random state.
        self.merge = nn.Conv2d(dim, dim, 2, stride=2, device="meta", dtype=like.dtype).to_empty(device=like.device)
        self.out = nn.Linear(dim, dim, device="meta", dtype=like.dtype).to_empty(device=like.device)
        with torch.no_grad():
            mean_of_four = torch.eye(dim, device=like.device, dtype=like.dtype)[..., None, None] / 4
            self.merge.weight.copy_(mean_of_four.expand_as(self.merge.weight))
            for zero in (self.merge.bias, self.out.weight, self.out.bias):
                assert zero is not None  # both layers have one
                zero.zero_()

    def forward(self, fine: Tensor, plan: Plan) -> Tensor:
        """`[B, N, D]`, to be added to embedded patches; 0 for tokens of scale 0, which have all their pixels.

        Args:
            fine: `[B, D, H/p, W/p]`, all finest patches as the model embeds them.
            plan: where the tokens lie.
        """
        if plan.spec.num_scales == 1:
            return torch.zeros_like(fine[:, :, 0, :1]).transpose(1, 2).expand(-1, plan.spec.num_tokens, -1)
        merged, levels = fine, []
        for _ in range(1, plan.spec.num_scales):
            merged = self.merge(merged)
            levels.append(merged.flatten(2))
        nodes = torch.cat(levels, dim=2).transpose(1, 2)  # [B, n, D]: scale 1 first, each scale in raster order
        index = _number(plan)[..., None].expand(-1, -1, nodes.shape[2])
        is_coarse = (plan.scale > 0)[..., None]
        return torch.where(is_coarse, self.out(nodes.gather(1, index)), 0)


def _number(plan: Plan) -> Tensor:
    """`[B, N]` int64: the place of each coarse token among all patches of its size and of the smaller ones; else 0."""
    number, before = torch.zeros_like(plan.scale), 0
    for scale in range(1, plan.spec.num_scales):
        size, (rows, cols) = plan.spec.patch_size(scale), plan.spec.grid(scale)
        number = torch.where(plan.scale == scale, before + plan.top // size * cols + plan.left // size, number)
        before += rows * cols
    return number
