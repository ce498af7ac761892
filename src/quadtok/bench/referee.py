"""Whether all contenders give the same tokens, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from quadtok.plan import Plan
from quadtok.tokens import Tokens


class Referee:
    """Holds the first result that it is shown; all others must equal it, bit for bit."""

    def __init__(self) -> None:
        self._first: tuple[str, Tokens] | None = None

    def objection(self, label: str, tokens: Tokens) -> str | None:
        """How these tokens differ from the first, in a sentence; None where they do not."""
        if self._first is None:
            self._first = label, tokens
        first_label, first = self._first
        difference = _difference(tokens, first)
        who = f"{label} and {first_label} disagree" if label != first_label else f"{label} disagrees with itself"
        return f"{who}: {difference}" if difference else None


def _difference(ours: Tokens, theirs: Tokens) -> str | None:
    """Where the first of two plans and their pixels differs from the second; None where it does not."""
    boxes, expected = _boxes(ours.plan), _boxes(theirs.plan)
    if boxes.shape != expected.shape:
        return f"plans for {_counts(boxes)} and for {_counts(expected)}"
    if not torch.equal(boxes, expected):
        image, token, _ = (boxes != expected).nonzero()[0].tolist()
        found, wanted = _box(boxes[image, token]), _box(expected[image, token])
        return f"token {token} of image {image} is {found}, not {wanted}"
    assert ours.patches is not None and theirs.patches is not None  # a contender always extracts
    if not torch.equal(ours.patches, theirs.patches):
        image, token = (ours.patches != theirs.patches).nonzero()[0, :2].tolist()
        return f"token {token} of image {image} has other pixels"
    return None


def _boxes(plan: Plan) -> Tensor:
    """`[B, N, 3]`: left, top, size."""
    return torch.stack([plan.left, plan.top, plan.size], dim=-1)


def _box(box: Tensor) -> str:
    left, top, size = box.tolist()
    return f"{size} px at ({left}, {top})"


def _counts(boxes: Tensor) -> str:
    return f"{boxes.shape[0]} images of {boxes.shape[1]} tokens"
