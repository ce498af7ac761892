"""Foveation: fine patches around given points and boxes, coarser with the distance from them."""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.pixels import check_dense, check_images
from quadtok.precision import full_precision
from quadtok.scorers.base import Described
from quadtok.spec import Spec
from quadtok.tracing import is_recording, without_gradients

OfImages = Tensor | Sequence[Sequence[Sequence[float]]]  # for each image, the numbers of each target
FARTHEST = 1e9  # pixels: what a coordinate is below; NaN and the infinities are not
CHUNK_NUMBERS = 1 << 22  # distances that are worked on at a time: a file may name a million points
NOWHERE = math.inf  # fills up the targets of an image that has fewer than another: infinitely far


class PointScorer(Described):
    """Saliency `P / (d + min_patch)` of a patch of side P that lies d pixels from the nearest point or box.

    d is 0 where they touch. So patches grow in proportion to the distance, as what an eye resolves does: with
    `threshold=t` a patch is split where `P > t · (d + min_patch)`. 1 is a good beginning; larger is coarser, and from 2
    on nothing is split to the last. With a budget, t is what the budget reaches. No patch has more than the one that it
    lies in, and no number depends on the size of the image.

    Args:
        points: for each image the points (x, y) to look at, in pixels of the image: (0, 0) is its upper left corner,
            and its first pixel's centre (0.5, 0.5). Any number an image; or a tensor `[B, K, 2]`.
        boxes: for each image boxes (left, top, right, bottom), likewise; or a tensor `[B, K, 4]`. An image with
            neither is split evenly. Both may lie outside of it. Numbers in tensors are not looked at: that would make
            the device wait.

    Raises:
        InputError: where there are neither points nor boxes, not of as many images, or they are no such numbers.
    """

    def __init__(self, points: OfImages | None = None, boxes: OfImages | None = None) -> None:
        given = [_tensor(points, "points", "(x, y)", 2), _tensor(boxes, "boxes", "(left, top, right, bottom)", 4)]
        self.targets = [entry for entry in given if entry is not None]
        if not self.targets:
            raise InputError("the point scorer needs points or boxes: give them for each image")
        points_of, boxes_of = self.targets[0].shape[0], self.targets[-1].shape[0]
        if points_of != boxes_of:
            raise InputError(f"there are points of {points_of} images and boxes of {boxes_of}: give both for each")

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images, which give only their number and their device; see `Scorer`."""
        check_images(images, spec)
        for entry in self.targets:
            if entry.shape[0] != images.shape[0]:
                raise InputError(f"there are points of {entry.shape[0]} images and {images.shape[0]} images")
            if entry.is_meta and not images.is_meta:
                raise InputError("the points are on the meta device and hold no numbers")
        with full_precision(images.device):
            boxes = torch.cat([_as_boxes(entry.to(images.device, torch.float32)) for entry in self.targets], dim=1)
            return [_score_scale(boxes, scale, spec) for scale in range(1, spec.num_scales)]

    def describe(self) -> dict[str, Any]:
        """The name alone: the points are data."""
        return {"name": "point"}


def _score_scale(boxes: Tensor, scale: int, spec: Spec) -> Tensor:
    """`[B, H/P, W/P]` for boxes `[B, K, 4]`."""
    (rows, cols), size = spec.grid(scale), spec.patch_size(scale)
    # A recording takes all at once: it would fix the number of parts.
    some = boxes.shape[1] if is_recording() else max(1, CHUNK_NUMBERS // max(1, boxes.shape[0] * rows * cols))
    nearest = [_nearest(part, (rows, cols), size) for part in torch.split(boxes, some, dim=1)]
    return size / (functools.reduce(torch.minimum, nearest) + spec.min_patch)


def _nearest(boxes: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """`[B, H/P, W/P]`: how far each patch lies from the nearest of the boxes `[B, K, 4]`."""
    rows, cols = grid
    left, top, right, bottom = boxes[..., None].unbind(dim=2)  # each [B, K, 1]
    across, down = _distance(left, right, cols, size)[:, :, None, :], _distance(top, bottom, rows, size)[..., None]
    return (across.square() + down.square()).sqrt().amin(dim=1)


def _distance(first: Tensor, last: Tensor, count: int, size: int) -> Tensor:
    """`[B, K, count]`: how far each patch of a line lies from what reaches from `first` to `last`, `[B, K, 1]`."""
    start = torch.arange(count, dtype=torch.float32, device=first.device) * size
    return torch.maximum(first - (start + size), start - last).clamp(min=0)


def _as_boxes(targets: Tensor) -> Tensor:
    """`[B, K, 4]`: a point is a box without extent."""
    return torch.cat([targets, targets], dim=-1) if targets.shape[-1] == 2 else targets


def _tensor(given: OfImages | None, name: str, one: str, sides: int) -> Tensor | None:
    """`[B, K, sides]`; lists become one on the CPU, filled up to the longest."""
    if given is None:
        return None
    if isinstance(given, Tensor):
        check_dense(given, name)
        if given.ndim != 3 or given.shape[1] < 1 or given.shape[2] != sides or given.is_complex():
            kind = "complex numbers" if given.is_complex() else list(given.shape)
            raise InputError(f"{name} must be [B, K, {sides}], with {one} of each, got {kind}")
        return given
    if not isinstance(given, list | tuple) or not all(isinstance(targets, list | tuple) for targets in given):
        raise InputError(
            f"{name} must be a list of {one} for each image, or a tensor [B, K, {sides}], got {reprlib.repr(given)}"
        )
    listed = [[_numbers(target, image, name, one, sides) for target in targets] for image, targets in enumerate(given)]
    longest = max([1, *map(len, listed)])
    filled = [[*targets, *[[NOWHERE] * sides] * (longest - len(targets))] for targets in listed]
    return torch.tensor(filled, dtype=torch.float32, device="cpu").view(-1, longest, sides)


def _numbers(target: Sequence[float], image: int, name: str, one: str, sides: int) -> list[float]:
    listed = list(target) if isinstance(target, list | tuple) else []
    if len(listed) != sides or not all(map(_is_coordinate, listed)):
        raise InputError(f"{name} of image {image} must be {one} in finite numbers, got {target!r}")
    if sides == 4 and (listed[0] > listed[2] or listed[1] > listed[3]):
        raise InputError(
            f"{name} of image {image} must be {one}, got {target!r}: right and bottom are the larger numbers"
        )
    return listed


def _is_coordinate(number: object) -> bool:
    """Whether this is a finite number, of numpy too."""
    try:
        return isinstance(number, Real) and abs(float(number)) < FARTHEST
    except OverflowError:  # an integer of a thousand digits
        return False
