"""Random saliency as a function: the hash of (seed, scale, node). No generator, no state."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.names import DEFAULT_SEED
from quadtok.pixels import check_images
from quadtok.scorers.base import Described
from quadtok.spec import Spec
from quadtok.tracing import without_gradients

_LOW_32 = 0xFFFFFFFF
_UNIFORM_BITS = 24  # what a float32 holds exactly


class RandomScorer(Described):
    """Uniform numbers in [0, 1), the same on every device, for any batch size and in any order.

    Args:
        seed: one integer, or one for each image of the batches to come. An image's layout depends on its seed alone:
            with a single integer all images of a batch get the same layout.
    """

    def __init__(self, seed: int | Sequence[int] | Tensor = DEFAULT_SEED) -> None:
        values = seed.tolist() if isinstance(seed, Tensor) else seed
        try:
            self.seeds = list(map(operator.index, values)) if isinstance(values, Sequence) else operator.index(values)
        except TypeError:
            raise InputError(f"seed must be an integer or one for each image, got {seed!r}") from None

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Draw the saliency; the images give only their number and their device."""
        check_images(images, spec)
        batch = images.shape[0]
        if isinstance(self.seeds, int):
            # Drawn once. A list of seeds as long as the batch would fix the batch in torch.export.
            return [scores.repeat(batch, 1, 1) for scores in _draw_all([self.seeds], images.device, spec)]
        if len(self.seeds) != batch:
            raise InputError(f"the random scorer has {len(self.seeds)} seeds and was given {batch} images")
        return _draw_all(self.seeds, images.device, spec)

    def describe(self) -> dict[str, Any]:
        """Name and seeds."""
        return {"name": "random", "seed": self.seeds}


def _draw_all(seeds: list[int], device: torch.device, spec: Spec) -> list[Tensor]:
    """The saliency of an image a seed."""
    low, high = (
        torch.tensor([seed >> shift & _LOW_32 for seed in seeds], dtype=torch.long, device=device) for shift in (0, 32)
    )
    return [_draw(low, high, scale, *spec.grid(scale)) for scale in range(1, spec.num_scales)]


def _draw(low: Tensor, high: Tensor, scale: int, rows: int, cols: int) -> Tensor:
    """`[B, rows, cols]` float32 in [0, 1) from the halves `[B]` of 64-bit seeds."""
    node = torch.arange(rows * cols, device=low.device)
    keyed = _mixed(_mixed(_mixed(low) ^ high) ^ scale)
    bits = _mixed(_mixed(keyed[:, None] ^ node) + node & _LOW_32)
    return ((bits >> (32 - _UNIFORM_BITS)).float() / 2**_UNIFORM_BITS).view(-1, rows, cols)


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which every input bit moves every output bit.

    The shifts and multipliers are Chris Wellons' "lowbias32" (public domain), found by exhaustive search. Products
    overflow 64 bits; only their low 32 are used, which overflow leaves alone.
    """
    x = (x ^ (x >> 16)) * 0x7FEB352D & _LOW_32
    x = (x ^ (x >> 15)) * 0x846CA68B & _LOW_32
    return x ^ (x >> 16)
