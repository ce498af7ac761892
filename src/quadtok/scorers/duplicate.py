"""Duplicates: how many neighbouring pixels differ. A patch of one colour has none, and loses nothing by being large."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from quadtok.pixels import check_images
from quadtok.scorers.base import Described, score_in_parts
from quadtok.spec import Spec
from quadtok.tracing import without_gradients

CHUNK_PIXELS = 1 << 18  # of the images that are worked on at a time


class DuplicateScorer(Described):
    """Saliency: how many pairs of pixels inside the patch, side by side or one above the other, are not the same.

    It is 0 exactly where all pixels of the patch are equal in each channel, to the bit. With `threshold=0` such patches
    stay whole, and nothing is lost: a patch of one colour is its token enlarged. Screenshots, documents and drawings
    consist of them in large part. Elsewhere it is the length of all edges, in pixels: with a budget, what has most
    strokes is split first, and a patch never has less than its four children together. How *much* two pixels differ
    plays no part, so no normalisation, dtype or rounding makes a patch flat, or a flat one uneven.

    Photographs have noise: there hardly a patch is flat, and another scorer tells more.
    """

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`. NaN is no duplicate, not of itself either."""
        check_images(images, spec)
        size = CHUNK_PIXELS // (spec.height * spec.width)
        return score_in_parts(lambda part: _score(part, spec), images, size)

    def describe(self) -> dict[str, Any]:
        """Name and options; there are none."""
        return {"name": "duplicate"}


def _score(pixels: Tensor, spec: Spec) -> list[Tensor]:
    numbers = pixels if pixels.is_floating_point() else pixels.int()  # onnxruntime 1.20 compares no bytes
    beside, above = _unlike_neighbour(numbers, dim=-1), _unlike_neighbour(numbers, dim=-2)
    return [_score_scale(beside, above, scale, spec) for scale in range(1, spec.num_scales)]


def _unlike_neighbour(pixels: Tensor, dim: int) -> Tensor:
    """`[B, H, W]`: whether a pixel differs from the one before it; of the first of a line from the last."""
    return (pixels != pixels.roll(1, dims=dim)).any(dim=1)


def _score_scale(beside: Tensor, above: Tensor, scale: int, spec: Spec) -> Tensor:
    """`[B, H/P, W/P]`: the pairs inside each patch. The first pixel of its lines has a neighbour in another patch."""
    (rows, cols), size = spec.grid(scale), spec.patch_size(scale)
    in_patches = (beside.shape[0], rows, size, cols, size)
    across = beside.view(in_patches)[..., 1:].sum(dim=(2, 4))
    down = above.view(in_patches)[:, :, 1:].sum(dim=(2, 4))
    return (across + down).float()
