"""What a scorer is and must promise, and how maps are brought to the grids of patches."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok.spec import Spec
from quadtok.tracing import in_parts

# What the quadtree asks of a scorer. Any callable of this shape will do, a function too.
ScorerFunction = Callable[[Tensor, Spec], Sequence[Tensor]]


@runtime_checkable
class Scorer(Protocol):
    """Images to saliency: what is lost when a patch is kept at token resolution (docs/reference.md section 3).

    A scorer is a plain object, no `nn.Module`: a model that holds one neither trains it nor saves it, and `train()`
    does not reach it. A function of this shape will do; docs/library.md has one to begin with. Scores depend on the
    arguments alone. They are computed in float32 without gradients, under autocast too, so that a plan's integers do
    not depend on the precision the model around it runs in.
    """

    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score every splittable patch.

        Args:
            images: `[B, C, H, W]`, floating and normalised, or uint8 (then normalised with ImageNet's mean and std).
            spec: the integers of the run.

        Returns:
            One float32 tensor a splittable scale, the finest scale first: entry k-1 is `[B, H/P, W/P]` for
            P = min_patch * 2**k, and says of each patch of side P how much it deserves to be split. The patch with the
            largest number is split first.

        Raises:
            InputError: where the images are no batch of the spec's size.
        """

    def describe(self) -> dict[str, Any]:
        """The scorer's name and options, as JSON values: what a token file records."""


class Described:
    """A scorer whose words in a session are what it says of itself; docs/library.md shows how to write one."""

    def describe(self) -> dict[str, Any]:
        """See `Scorer`."""
        raise NotImplementedError  # abstract: only a scorer knows its own name and options

    def __repr__(self) -> str:
        options = {name: value for name, value in self.describe().items() if name not in ("name", "weights_sha256")}
        return f"{type(self).__name__}({', '.join(f'{name}={reprlib.repr(value)}' for name, value in options.items())})"


def score_in_parts(score: Callable[[Tensor], list[Tensor]], images: Tensor, size: int) -> list[Tensor]:
    """Score the images `[B, …]`, `size` of them at a time or one: what lies between never is there for all at once."""
    parts = [score(part) for part in in_parts(images, max(1, size))]
    return parts[0] if len(parts) == 1 else [torch.cat(scores) for scores in zip(*parts, strict=True)]


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, half-pixel centres, no antialiasing: `[B, C, h, w]` → `[B, C, height, width]`.

    Bit for bit what `torchvision.transforms.functional.resize(..., antialias=False)` gives.
    """
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


def pool_to_grid(maps: Tensor, rows: int, cols: int) -> Tensor:
    """`[B, h, w]` → `[B, rows, cols]`: the mean of the map over each patch.

    Where the map is finer by a whole factor on both sides this is average pooling. Everything else is a bilinear
    resize: finer but not by a whole factor as the reference does, and coarser, where the reference fails.
    """
    height, width = maps.shape[1:]
    if height % rows == 0 and width % cols == 0:
        return F.avg_pool2d(maps[:, None], (height // rows, width // cols))[:, 0]
    return resize(maps[:, None], rows, cols)[:, 0]
