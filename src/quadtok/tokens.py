"""Images to tokens: what was chosen and what it shows, and the whole way as a function."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.names import DEFAULT_QUADTREE, DEFAULT_SCORER, QuadtreeName
from quadtok.patches import extract_patches
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, check_images, normalize, refuse_normalized
from quadtok.plan import Plan, as_slice
from quadtok.quadtrees import get_quadtree
from quadtok.quadtrees.base import Threshold, all_full, check_saliency, check_threshold
from quadtok.scorers import ScorerFunction, get_scorer, on_device
from quadtok.shown import SHOWN_IMAGES, as_png
from quadtok.spec import Spec
from quadtok.tracing import without_gradients


@dataclass(frozen=True, eq=False)
class Tokens:
    """What was chosen and what it shows, for a batch of images.

    Tokens are equal where their plans are, and their patches and saliency to the last bit, on whatever devices they
    lie; the metadata does not count. A comparison waits for the devices, and so tokens have no hash.

    Attributes:
        plan: B images, N tokens each, or fewer where it has `lengths`.
        patches: `[B, N, C, p, p]`, 0 in slots that hold no token; None where only the layout was kept.
        saliency: what the plan was chosen by: one float32 tensor `[B, H/P, W/P]` a splittable scale, or None.
        metadata: what a token file says about its making; empty for tokens made in memory.
    """

    plan: Plan
    patches: Tensor | None
    saliency: list[Tensor] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def normalized(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
        """Patches on the scale 0…255 (of uint8 images, or of a file) as a model wants them: `[B, N, C, p, p]`.

        0 in slots that hold no token.

        Raises:
            InputError: on a CPU, for pixels below 0: tokens of normalised images have patches as a model wants them.
        """
        refuse_normalized(self._pixels(), "take tokens.patches")
        return self._without_padding(normalize(self._pixels(), mean, std))

    def to_reference_layout(self) -> Tensor:
        """One row a token, as models trained with the paper's code expect (docs/reference.md section 4).

        Returns:
            `[B, N, C*p*p + 3]` in the patches' dtype: the pixels, channel first, then row, then column; the
            centre (x, y) in units of `min_patch`; the scale. Half precision cannot hold the centres of large grids
            (bfloat16 from 256 cells a side on): convert the patches to float32 first. Rows of slots that hold no token
            are 0.
        """
        pixels = self._pixels().flatten(2)
        geometry = torch.cat([self.plan.centers, self.plan.scale[..., None].float()], dim=-1)
        return self._without_padding(torch.cat([pixels, geometry.to(pixels.dtype)], dim=-1))

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return replace(
            self,
            plan=self.plan.to(device),
            patches=None if self.patches is None else self.patches.to(device),
            saliency=None if self.saliency is None else [scores.to(device) for scores in self.saliency],
        )

    def cpu(self) -> Tokens:
        """The same tokens on the CPU."""
        return self.to("cpu")

    def __getitem__(self, image: int | slice) -> Tokens:
        """The tokens of one image (still a batch, of 1) or of a slice of the batch."""
        part = as_slice(image, len(self))
        return replace(
            self,
            plan=self.plan[part],
            patches=None if self.patches is None else self.patches[part],
            saliency=None if self.saliency is None else [scores[part] for scores in self.saliency],
        )

    def unpadded(self, image: int) -> Tokens:
        """The tokens of one image (still a batch, of 1) without padding; see `Plan.unpadded`."""
        alone = self[image]
        plan = alone.plan.unpadded(0)
        patches = None if alone.patches is None else alone.patches[:, : plan.spec.num_tokens]
        return replace(alone, plan=plan, patches=patches)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.plan)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        # A spec of one scale has no maps: None and an empty list say the same.
        ours, theirs = self.saliency or [], other.saliency or []
        return (
            self.plan == other.plan
            and _same_bits(self.patches, other.patches)
            and len(ours) == len(theirs)
            and all(map(_same_bits, ours, theirs))
        )

    def __repr__(self) -> str:
        held = "no patches" if self.patches is None else f"patches {self.patches.dtype} {list(self.patches.shape)}"
        maps = f"saliency of {len(self.saliency)} scales" if self.saliency else "no saliency"
        metadata = f", metadata {', '.join(map(str, self.metadata))}" if self.metadata else ""
        return f"Tokens({self.plan!r},\n       {held}, {maps}{metadata})"

    def _repr_png_(self) -> bytes | None:
        # A notebook asks for it unasked: where there is nothing to draw, the words have to do.
        with contextlib.suppress(Exception):
            tiles = None if self.patches is None else _tiles(self.patches[:SHOWN_IMAGES])
            return as_png(self.plan[:SHOWN_IMAGES], tiles)
        return None

    def _without_padding(self, values: Tensor) -> Tensor:
        """`[B, N, …]`, 0 in slots that hold no token."""
        if self.plan.lengths is None:
            return values
        padding = ~self.plan.valid
        return values.masked_fill(padding.view(*padding.shape, *[1] * (values.ndim - 2)), 0)

    def _pixels(self) -> Tensor:
        if self.patches is None:
            raise InputError("these tokens hold no pixels, only their layout (dtype 'none')")
        return self.patches


def tokenize(
    images: Tensor,
    spec: Spec,
    scorer: str | ScorerFunction = DEFAULT_SCORER,
    quadtree: QuadtreeName = DEFAULT_QUADTREE,
    *,
    threshold: Threshold | None = None,
) -> Tokens:
    """Choose the patches of each image and read their pixels.

    Args:
        images: `[B, C, H, W]`, floating and normalised, or uint8.
        spec: the integers of the run.
        scorer: a name for `get_scorer`, or any function (images, spec) → saliency. One with a net that is on another
            device than the images is copied to theirs for this call; `scorer.to(device)` does it once.
        quadtree: a name for `get_quadtree`.
        threshold: split only what has a larger saliency, a number or one for each image, `[B]`; `spec.num_tokens` is
            then the most, and `.plan.lengths` says how many tokens each image has (see `Quadtree`).

    Returns:
        `.plan`, `.patches` `[B, N, C, p, p]` (see `extract_patches` for their dtype), `.saliency`. The patches carry
        gradients to the images; the choice does not.

    Raises:
        InputError: where the images, the saliency and the spec do not fit together.
        WeightsError: for the name of a scorer whose weights cannot be had.
    """
    check_images(images, spec)
    plan, saliency = choose(images, spec, scorer, quadtree, threshold)
    return Tokens(plan, extract_patches(images, plan), saliency)


@without_gradients
def choose(
    images: Tensor,
    spec: Spec,
    scorer: str | ScorerFunction,
    quadtree: QuadtreeName = DEFAULT_QUADTREE,
    threshold: Threshold | None = None,
) -> tuple[Plan, list[Tensor]]:
    """Score the images `[B, C, H, W]` and choose their patches: the plan, and the saliency it was chosen by."""
    select = get_quadtree(quadtree)
    score = on_device(get_scorer(scorer) if isinstance(scorer, str) else scorer, images.device)
    if not callable(score):
        raise InputError(f"a scorer is a name or is called with (images, spec), got {type(score).__name__}")
    check_threshold(threshold, images.shape[0])
    saliency: Sequence[Tensor] = score(images, spec)
    if spec.num_scales == 1:
        plan = Plan.uniform(spec, scale=0, batch=images.shape[0], device=images.device)
        return plan if threshold is None else all_full(plan), []
    check_saliency(saliency, spec)
    if saliency[0].device != images.device:
        raise InputError(
            f"the scorer gave saliency on {saliency[0].device}, the images are on {images.device}: "
            "it must return it on the device of the images"
        )
    plan = select(saliency, spec, threshold)
    if plan.left.shape[0] != images.shape[0]:  # len(plan) would fix the batch in torch.export
        raise InputError(f"the scorer gave saliency for {len(plan)} images, there are {images.shape[0]}")
    return plan, list(saliency)


def _same_bits(ours: Tensor | None, theirs: Tensor | None) -> bool:
    """Whether two tensors hold the same bits: a NaN is itself, and −0 is not 0."""
    if ours is None or theirs is None or ours is theirs:
        return ours is theirs
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    first, second = (
        tensor.detach().to(ours.device).contiguous().view(-1).view(torch.uint8) for tensor in (ours, theirs)
    )
    return torch.equal(first, second)


def _tiles(patches: Tensor) -> Tensor:
    """`[B, N, C, p, p]` → `[B, N, p, p, 3]` uint8. Pixels on the scale 0…255 stay; others are stretched to it."""
    values = patches.detach().cpu().float().nan_to_num(0, 0, 0)
    least, largest = values.aminmax()
    if least < 0 or largest > 255 or largest <= 1:
        values = (values - least) * (255 / (largest - least).clamp(min=1e-6))
    colors = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, :1].expand(-1, -1, 3, -1, -1)
    return colors.permute(0, 1, 3, 4, 2).round().to(torch.uint8)
