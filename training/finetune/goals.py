"""What a step makes small, and what is measured: how well the labels are told."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn

from data import Batch
from quadtok import normalize
from quadtok.errors import InputError
from quadtok.models import Adapted
from settings import Settings
from ways import view


class Labels(nn.Module):
    """Cross-entropy of an adapted classifier, with timm's mixing of images.

    Args:
        model: with a head.
        settings: of the run.
        num_classes: of the head.
    """

    names: Sequence[str] = ("top1", "top5", "loss")

    def __init__(self, model: Adapted, settings: Settings, num_classes: int) -> None:
        super().__init__()
        self.model, self.settings, self.num_classes = model, settings, num_classes
        self.mix = None
        if settings.mixup > 0 or settings.cutmix > 0:
            self.mix = Mixup(
                settings.mixup, settings.cutmix, label_smoothing=settings.smoothing, num_classes=num_classes
            )

    def forward(self, batch: Batch, num_tokens: int) -> Tensor:
        """The loss of a batch, on average over its images."""
        images, wanted = None, batch.labels
        if self.mix is not None:
            reader = self.model._reader
            images, wanted = self.mix(normalize(batch.images, reader.mean, reader.std), batch.labels)
        shown = view(batch, num_tokens, self.settings, images)
        logits = self.model(shown.images, **shown.arguments).float()
        if logits.shape[1:] != (self.num_classes,):  # a maker of one's own may pass over what it is called with
            raise InputError(
                f"--model {self.settings.model} gives {list(logits.shape[1:])} numbers for an image of "
                f"{self.num_classes} classes: its maker must heed num_classes="
            )
        smoothing = self.settings.smoothing if self.mix is None else 0.0
        return F.cross_entropy(logits, wanted, label_smoothing=smoothing)

    @torch.no_grad()
    def measured(self, model: Adapted, batch: Batch, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Of each image what `names` says `[B, 3]`, and how many tokens it had `[B]`."""
        shown = view(batch, num_tokens, self.settings)
        logits, plan = model(shown.images, **shown.arguments, return_plan=True)
        logits = logits.float()
        best = logits.topk(min(5, logits.shape[1])).indices == batch.labels[:, None]
        loss = F.cross_entropy(logits, batch.labels, reduction="none")
        return torch.stack([best[:, 0].float(), best.any(1).float(), loss], dim=1), plan.valid.sum(1)
