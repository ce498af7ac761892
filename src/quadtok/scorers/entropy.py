"""Entropy of the luma: how many bits a pixel of the patch takes, as Adaptive Patch Transformers (APT) measure it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.pixels import as_bytes, check_images
from quadtok.precision import full_precision
from quadtok.scorers.base import Described, score_in_parts
from quadtok.spec import Spec
from quadtok.tracing import without_gradients

BINS = 512  # over 0…255, as APT's
LUMA = (2989, 5870, 1140)  # of red, green and blue, in ten-thousandths: 0.2989, 0.5870, 0.1140
LARGEST = 1e9  # bits, of a threshold: what is beyond, an integer of a thousand digits for one, is a slip
CHUNK_NUMBERS = 1 << 22  # counters and pixels that are worked on at a time


class EntropyScorer(Described):
    """Saliency in bits: the entropy of the histogram of a patch's own luma, less the threshold of its scale.

    As in APT (arXiv 2510.18091) luma is 0.2989 R + 0.5870 G + 0.1140 B on the scale 0…255, and the histogram has 512
    bins over 0…255. APT's code counts in two ways, which differ by 0.8 bit on some patches: by `torch.histc` where
    its data loader scores for training, and by `floor(2 · luma)` where its model scores a batch. This is the former.
    Bins are found in integers: a luma right on an edge lies above it. Channels other than three are averaged.

    Floats are read as the bytes that were normalised with ImageNet's mean and std, to the nearest one; NaN is black.

    Args:
        thresholds: one a splittable scale, the finest first, as APT gives them: (5.75, 4.0) keeps patches of twice
            `min_patch` below 5.75 bits whole, and of four times below 4.0. Give `threshold=0` to the quadtree, and what
            has more bits is split. (Exactly at its threshold a patch stays whole here, and is split by APT.) Of one
            scale a number will do. None: the saliency is the entropy itself.

    Raises:
        InputError: where they are no finite numbers.
    """

    def __init__(self, thresholds: float | Sequence[float] | None = None) -> None:
        self.thresholds = _numbers(thresholds)

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`. Thresholds must be as many as there are splittable scales."""
        check_images(images, spec)
        thresholds = self._one_a_scale(spec.num_scales - 1)
        rows, cols = spec.grid(min(1, spec.num_scales - 1))
        size = CHUNK_NUMBERS // (rows * cols * BINS + spec.height * spec.width)
        with full_precision(images.device):
            return score_in_parts(lambda part: _score(as_bytes(part), thresholds, spec), images, size)

    def describe(self) -> dict[str, Any]:
        """Name and thresholds."""
        return {"name": "entropy", "thresholds": self.thresholds}

    def _one_a_scale(self, num_scales: int) -> list[float]:
        if self.thresholds is None:
            return [0.0] * num_scales
        if len(self.thresholds) != num_scales:
            raise InputError(
                f"the entropy scorer has {len(self.thresholds)} thresholds and the spec has {num_scales} scales that "
                "can be split: give one each, the finest scale first"
            )
        return self.thresholds


def _numbers(thresholds: float | Sequence[float] | None) -> list[float] | None:
    if thresholds is None:
        return None
    numbers = []
    for number in thresholds if isinstance(thresholds, list | tuple) else [thresholds]:
        if not isinstance(number, int | float) or not abs(number) < LARGEST:  # NaN is not
            raise InputError(
                f"thresholds must be finite numbers, one a splittable scale, got {reprlib.repr(thresholds)}"
            )
        numbers.append(float(number))
    return numbers


def _score(pixels: Tensor, thresholds: Sequence[float], spec: Spec) -> list[Tensor]:
    """The saliency of bytes `[B, C, H, W]`."""
    scores, counts = [], None
    for scale, threshold in enumerate(thresholds, start=1):
        counts = _counted(_bins(pixels), spec) if counts is None else _of_four(counts)
        scores.append(_entropy(counts, spec.patch_size(scale)) - threshold)
    return scores


def _bins(pixels: Tensor) -> Tensor:
    """`[B, H, W]`: the bin that the luma of each pixel lies in."""
    channels = pixels.shape[1]
    weights = LUMA if channels == len(LUMA) else (1,) * channels
    whole = 10_000 if channels == len(LUMA) else channels
    # Not by `unbind`: onnxruntime 1.20 takes no bytes apart.
    luma = torch.stack([pixels[:, place].int() * weight for place, weight in enumerate(weights)]).sum(dim=0)
    common = math.gcd(BINS, 255 * whole)  # so that the products stay small
    bins = torch.div(luma * (BINS // common), 255 * whole // common, rounding_mode="floor")
    return bins.clamp(max=BINS - 1)  # white lies in the last bin


def _counted(bins: Tensor, spec: Spec) -> Tensor:
    """`[B, H/P, W/P, BINS]`: how many pixels of each patch of scale 1 lie in each bin."""
    (rows, cols), size = spec.grid(1), spec.patch_size(1)
    row = torch.arange(spec.height, device=bins.device) // size
    col = torch.arange(spec.width, device=bins.device) // size
    counters = ((row[:, None] * cols + col) * BINS + bins).flatten(1)
    counts = torch.zeros(bins.shape[0], rows * cols * BINS, dtype=torch.float32, device=bins.device)
    counts = counts.scatter_add(1, counters, torch.ones_like(counters, dtype=torch.float32))  # exact up to 2^24
    return counts.view(bins.shape[0], rows, cols, BINS)


def _of_four(counts: Tensor) -> Tensor:
    """`[B, h, w, BINS]` → `[B, h/2, w/2, BINS]`: a patch has the pixels of its four children."""
    batch, rows, cols = counts.shape[:3]
    return counts.view(batch, rows // 2, 2, cols // 2, 2, BINS).sum(dim=(2, 4))


def _entropy(counts: Tensor, size: int) -> Tensor:
    """`[B, h, w]` in bits, of the counts `[B, h, w, BINS]` of patches of this side."""
    shares = counts / size**2
    return -(shares * shares.clamp(min=1 / size**2).log2()).sum(dim=-1)
