"""What a session shows of a plan: one line of words, and in a notebook a small picture."""

from __future__ import annotations

import contextlib
from typing import Protocol

from torch import Tensor

from quadtok.spec import Spec
from quadtok.thumbnail import mosaic_png, scale_tiles

SHOWN_IMAGES = 4  # in a picture


class _Plan(Protocol):
    """What is needed of `quadtok.plan.Plan`, which stands on a higher floor."""

    @property
    def left(self) -> Tensor: ...
    @property
    def top(self) -> Tensor: ...
    @property
    def scale(self) -> Tensor: ...
    @property
    def spec(self) -> Spec: ...
    @property
    def lengths(self) -> Tensor | None: ...
    @property
    def counts(self) -> Tensor: ...
    @property
    def cell_to_token(self) -> Tensor: ...


def in_words(plan: _Plan) -> str:
    """How many images of which size, and how many tokens of which patch size. Waits for no device."""
    spec, batch = plan.spec, plan.scale.shape[0]
    images, each = (f"{batch} images", " each") if batch != 1 else ("1 image", "")
    place = "" if plan.scale.device.type == "cpu" else f", on {plan.scale.device}"
    return f"{images} of {spec.height}×{spec.width}, {_count(plan)} tokens{each}{_sizes(plan)}{place}"


def _count(plan: _Plan) -> str:
    """`100`, `52 to 139`, or `at most 160` where a look at the numbers would wait, or fail."""
    most = plan.spec.num_tokens
    if plan.lengths is None:
        return str(most)
    if plan.scale.device.type == "cpu":
        with contextlib.suppress(Exception):  # as below; also where there is no image
            least, largest = int(plan.lengths.min()), int(plan.lengths.max())
            return str(largest) if least == largest else f"{least} to {largest}"
    return f"at most {most}"


def _sizes(plan: _Plan) -> str:
    """How many tokens of each patch size; the sizes alone where a look at the numbers would wait, or fail."""
    sizes = [plan.spec.patch_size(scale) for scale in range(plan.spec.num_scales)]
    if plan.scale.device.type == "cpu":
        with contextlib.suppress(Exception):  # a tensor of a compiler, a tracer or a transform has no numbers
            counts = plan.counts.sum(dim=0).tolist()
            in_all = "" if plan.scale.shape[0] == 1 else " in all"
            return f": {', '.join(map('{} of {} px'.format, counts, sizes))}{in_all}"
    return f" of {', '.join(map(str, sizes))} px"


def as_png(plan: _Plan, tiles: Tensor | None = None) -> bytes:
    """A PNG of the boxes of the first four images, side by side. Waits for the device.

    Args:
        plan: B images, N tokens each.
        tiles: `[B, N, t, t, 3]` uint8, what to show of each token; by default one colour a patch size.
    """
    row, col, scale, token = (
        field[:SHOWN_IMAGES].cpu().numpy()
        for field in (
            plan.top // plan.spec.min_patch,
            plan.left // plan.spec.min_patch,
            plan.scale,
            plan.cell_to_token,
        )
    )
    shown = scale_tiles(scale) if tiles is None else tiles[:SHOWN_IMAGES].cpu().numpy()
    return mosaic_png(token, row, col, scale, shown)
