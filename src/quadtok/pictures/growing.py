"""The tree as it grows: a picture for each split, from the roots on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from quadtok.names import DEFAULT_LINE_COLOR, DEFAULT_LINE_WIDTH, DEFAULT_STYLE, StyleName
from quadtok.pictures.render import render
from quadtok.plan import Plan
from quadtok.quadtrees.base import plan_from_splits
from quadtok.quadtrees.order import split_order
from quadtok.spec import Spec

MAX_FRAMES = 120


def growing_tree(
    image: Image.Image,
    saliency: Sequence[Tensor],
    spec: Spec,
    style: StyleName = DEFAULT_STYLE,
    *,
    line_color: str = DEFAULT_LINE_COLOR,
    line_width: int = DEFAULT_LINE_WIDTH,
    enlarge: int = 1,
) -> Iterator[Image.Image]:
    """The pictures of the tree as it is split, from the roots to `spec.num_tokens`.

    Args:
        image: RGB, of the spec's size.
        saliency: of this one image, `[1, H/P, W/P]` a splittable scale.
        spec: the last picture's.
        style: as in `render`.
        line_color: as in `render`.
        line_width: as in `render`.
        enlarge: as in `render`.

    Yields:
        One picture a split; where that is more than 120, as many splits a picture as it takes.
    """
    if spec.num_scales == 1:
        yield render(image, Plan.uniform(spec, 0), style, line_color=line_color, line_width=line_width, enlarge=enlarge)
        return
    order = split_order(saliency, spec)
    for splits in _steps(spec.num_splits):
        grown = replace(spec, num_tokens=spec.num_roots + 3 * splits)
        plan = plan_from_splits(order[:, :splits], grown)
        yield render(image, plan, style, line_color=line_color, line_width=line_width, enlarge=enlarge)


def _steps(num_splits: int) -> list[int]:
    """From 0 to `num_splits`, evenly, at most `MAX_FRAMES + 1` numbers."""
    stride = max(1, -(-num_splits // MAX_FRAMES))
    return [*range(0, num_splits, stride), num_splits]
