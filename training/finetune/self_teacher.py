"""Without labels: a model at N tokens learns to see what it saw itself on its full grid, before the run."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch
from quadtok import Plan
from quadtok.models import Adapted
from quadtok.reversal import reverse
from settings import Settings
from ways import view


class SelfTeacher(nn.Module):
    """One minus the cosine between features of N tokens and of all cells: of the image as a whole, and of each cell.

    The features of the image are what a classifier would read; those of a cell its token's, or with `--uniform` what
    lies between the shrunk image's tokens there.

    Args:
        model: that learns.
        settings: of the run.
    """

    names: Sequence[str] = ("image", "cells")

    def __init__(self, model: Adapted, settings: Settings) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        # In a list: it does not learn, is no part of the state, and stays in eval mode.
        self._teacher = [copy.deepcopy(model).eval().requires_grad_(False)]

    def _apply(self, fn: object, recurse: bool = True) -> SelfTeacher:
        """Where the model goes its teacher goes, too."""
        super()._apply(fn, recurse)  # type: ignore[arg-type,no-untyped-call]
        self._teacher[0]._apply(fn, recurse)  # type: ignore[arg-type]
        return self

    def forward(self, batch: Batch, num_tokens: int) -> Tensor:
        """The loss of a batch, on average over its images."""
        return (1 - self._cosines(self.model, batch, num_tokens)[0]).mean(0).sum()

    @torch.no_grad()
    def measured(self, model: Adapted, batch: Batch, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Of each image what `names` says `[B, 2]`, and how many tokens it had `[B]`."""
        return self._cosines(model, batch, num_tokens)

    def _cosines(self, model: Adapted, batch: Batch, num_tokens: int) -> tuple[Tensor, Tensor]:
        shown = view(batch, num_tokens, self.settings)
        with torch.no_grad():
            wanted, wanted_map, _ = features(self._teacher[0], batch.images, num_tokens=self.settings.spec.num_cells)
        found, found_map, plan = features(model, shown.images, **shown.arguments)
        found_map = at_size(found_map, wanted_map.shape[-2:])
        image = F.cosine_similarity(found, wanted, dim=1)
        cells = F.cosine_similarity(found_map, wanted_map, dim=1).mean((1, 2))
        return torch.stack([image, cells], dim=1), plan.valid.sum(1)


def features(model: Adapted, images: Tensor, **arguments: object) -> tuple[Tensor, Tensor, Plan]:
    """What a classifier would read `[B, D]`, a map of all cells `[B, D, rows, cols]`, and whose tokens it is of."""
    tokens, plan = model.forward_features(images, return_plan=True, **arguments)  # type: ignore[arg-type]
    whole = model.forward_head(tokens, pre_logits=True, plan=plan).float()
    return whole, reverse(tokens[:, model._num_prefix() :].float(), plan), plan


def at_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Brought to another number of cells, bilinearly."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
