"""Measuring a model at several numbers of tokens in one pass over the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from data import Batch
from quadtok.models import Adapted
from ranks import Ranks


class Measure(Protocol):
    """What is measured; see goals.py and self_teacher.py."""

    names: Sequence[str]

    def measured(self, model: Adapted, batch: Batch, num_tokens: int) -> tuple[Tensor, Tensor]:
        """`[B, names]`, and the numbers of tokens `[B]`."""


@dataclass(frozen=True)
class Score:
    """How good a model is at a number of tokens.

    Attributes:
        asked: for so many tokens.
        tokens: that images had, on average.
        images: that were looked at.
        values: on average over them, by name.
    """

    asked: int
    tokens: float
    images: int
    values: dict[str, float]

    def row(self) -> dict[str, Any]:
        """For a table."""
        values = {name: f"{value:.4f}" for name, value in self.values.items()}
        return {"asked": self.asked, "tokens": f"{self.tokens:.1f}", "images": self.images, **values}


def half(amp: str, device: torch.device) -> Any:
    """The context of a step in half precision, or none."""
    return nullcontext() if amp == "none" else torch.autocast(device.type, getattr(torch, amp))


@torch.no_grad()
def evaluate(
    model: Adapted, goal: Measure, batches: Iterable[Batch], budgets: Sequence[int], ranks: Ranks, amp: str = "none"
) -> list[Score]:
    """The scores at each number of tokens. Each image is loaded once; all processes get the same."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(len(budgets), len(goal.names) + 2, dtype=torch.float64, device=ranks.device)
    for batch in batches:
        here = batch.to(ranks.device)
        for row, budget in zip(sums, budgets, strict=True):
            with half(amp, ranks.device):
                values, counts = goal.measured(model, here, budget)
            row += torch.cat([values.sum(0).double(), counts.sum()[None].double(), counts.new_tensor([len(counts)])])
    model.train(was_training)
    totals = ranks.summed(sums).tolist()
    return [_score(budget, goal.names, total) for budget, total in zip(budgets, totals, strict=True)]


def _score(budget: int, names: Sequence[str], total: Sequence[float]) -> Score:
    *values, tokens, images = total
    shares = {name: value / images for name, value in zip(names, values, strict=True)}
    return Score(budget, tokens / images, int(images), shares)
