"""What data sets of tokens give: the tokens of one image, with its label if it has one; and several as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import default_collate

from quadtok.batches import collate
from quadtok.tokens import Tokens

Item = Tokens | tuple[Tokens, Any]


def collate_items(items: Sequence[Item]) -> Item:
    """Tokens of one batch, padded where they differ in number; labels as a `DataLoader` collates them."""
    if not isinstance(items[0], tuple):
        return collate([item for item in items if isinstance(item, Tokens)])
    tokens, labels = zip(*items, strict=True)
    return collate(tokens), default_collate(list(labels))
