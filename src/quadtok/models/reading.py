"""What a model reads: images, or what was made of them before, become patches as the model wants them, and a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.names import QuadtreeName
from quadtok.patches import extract_patches
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, check_images, normalize, per_channel, refuse_normalized
from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold
from quadtok.scorers import ScorerFunction, on_device
from quadtok.spec import Spec
from quadtok.tokens import Tokens, choose


@dataclass(frozen=True)
class Reader:
    """How a model reads.

    Attributes:
        spec: the integers of a run, where a call does not say otherwise.
        scorer: images and spec → saliency. It sees bytes as they are, and floats normalised with ImageNet's numbers.
        quadtree: a name for `get_quadtree`.
        channels: C, of the model's images.
        mean: what the model's images are normalised with: a number a channel, on the scale 0…1.
        std: likewise.
    """

    spec: Spec
    scorer: ScorerFunction
    quadtree: QuadtreeName
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def on(self, device: torch.device) -> Reader:
        """The same for images on this device. But not for "meta": a scorer's weights would be lost there."""
        return self if device.type == "meta" else replace(self, scorer=on_device(self.scorer, device))

    def read(
        self, images: Tensor | Tokens, plan: Plan | None, num_tokens: int | None, threshold: Threshold | None
    ) -> tuple[Tensor, Plan]:
        """Patches `[B, N, C, p, p]`, floating and normalised for the model, and where they lie.

        Args:
            images: `[B, C, H, W]`, uint8, or floating and normalised for the model; or tokens whose patches are on
                the scale 0…255.
            plan: for images that were planned before.
            num_tokens: another budget than the spec's.
            threshold: split only what is above it.

        Raises:
            InputError: where these do not fit together.
            SpecError: for a budget that the spec cannot have.
        """
        _refuse_several(images)
        if isinstance(images, Tokens):
            _refuse_given("tokens are chosen already", plan=plan, num_tokens=num_tokens, threshold=threshold)
            return self._normalized(_pixels(images), images.plan), images.plan
        check_images(images)
        self._check_channels(images.shape[1])
        if plan is None:
            plan = self._choose(images, num_tokens, threshold)
        else:
            _refuse_given("a plan is chosen already", num_tokens=num_tokens, threshold=threshold)
            _check_plan(plan)
        if images.is_floating_point():
            return extract_patches(images, plan), plan
        self._check_normalisation()
        return extract_patches(images, plan, mean=self.mean, std=self.std), plan

    def whole(self, images: Tensor | Tokens) -> Tensor:
        """`[B, C, H, W]`: all pixels, floating and normalised for the model.

        Raises:
            InputError: for tokens, which have not kept them.
        """
        if isinstance(images, Tokens):
            raise InputError(
                "the model's detail branch reads fine pixels, which tokens have not kept: "
                "give the images, and plan=tokens.plan"
            )
        return images if images.is_floating_point() else normalize(images.float(), self.mean, self.std)

    def _choose(self, images: Tensor, num_tokens: int | None, threshold: Threshold | None) -> Plan:
        spec = self.spec if num_tokens is None else replace(self.spec, num_tokens=num_tokens)
        check_images(images, spec)
        if spec.num_tokens == spec.num_cells and threshold is None:  # nothing is left to choose
            return Plan.uniform(spec, scale=0, batch=images.shape[0], device=images.device)
        return choose(self._for_scorer(images), spec, self.scorer, self.quadtree, threshold)[0]

    def _for_scorer(self, images: Tensor) -> Tensor:
        """Floats that were normalised for the model, normalised with ImageNet's numbers instead."""
        rgb = len(IMAGENET_MEAN)
        if not images.is_floating_point() or self.channels != rgb or len(self.mean) != rgb:
            return images
        if (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD):
            return images
        values = images.detach().float()  # a plan's integers depend on no precision
        pixels = values * per_channel(self.std, values) + per_channel(self.mean, values)
        return (pixels - per_channel(IMAGENET_MEAN, values)) / per_channel(IMAGENET_STD, values)

    def _normalized(self, pixels: Tensor, plan: Plan) -> Tensor:
        """Patches on the scale 0…255, in float32 at least: files hold half precision. Padding stays 0."""
        self._check_channels(pixels.shape[2])
        self._check_normalisation()
        refuse_normalized(pixels, "give tokens of uint8 images, or the images and plan=tokens.plan")
        values = normalize(pixels if pixels.dtype == torch.float64 else pixels.float(), self.mean, self.std)
        return values if plan.lengths is None else values.masked_fill(~plan.valid[..., None, None, None], 0)

    def _check_channels(self, found: int) -> None:
        if found != self.channels:
            raise InputError(f"images have {found} channels, the model takes {self.channels}")

    def _check_normalisation(self) -> None:
        if len(self.mean) != self.channels:
            raise InputError(
                f"the model takes {self.channels} channels and is said to normalise {len(self.mean)}: "
                f"give adapt mean= and std= of {self.channels} numbers, or images that are floating and normalised"
            )


def _refuse_several(images: object) -> None:
    if isinstance(images, list | tuple) and images and all(isinstance(part, Tokens) for part in images):
        kind = type(images).__name__
        raise InputError(f"got a {kind} of {len(images)} tokens: quadtok.collate makes one batch of them")


def _pixels(tokens: Tokens) -> Tensor:
    if tokens.patches is None:
        raise InputError("these tokens hold no pixels, only their layout: give the images, and plan=tokens.plan")
    check_patches(tokens.patches, tokens.plan)
    return tokens.patches


def check_patches(patches: Tensor, plan: Plan) -> None:
    """Refuse patches that are not those of the plan's tokens: one image's would be taken for every image's.

    Raises:
        InputError: with both shapes.
    """
    batch, num_tokens = plan.scale.shape
    if patches.ndim != 5 or patches.shape[:2] != plan.scale.shape:
        raise InputError(
            f"the tokens' patches have shape {list(patches.shape)} and their plan has {batch} images of {num_tokens} "
            f"tokens: expected [{batch}, {num_tokens}, C, p, p]"
        )


def _check_plan(plan: object) -> None:
    if not isinstance(plan, Plan):
        raise InputError(f"plan must be a Plan, got {type(plan).__name__}: tokens go in the images' place")


def _refuse_given(reason: str, **arguments: object) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise InputError(f"{reason}: leave out {' and '.join(given)}")


def numbers(values: Sequence[float], name: str) -> tuple[float, ...]:
    """Mean or std as a tuple of plain numbers.

    Raises:
        InputError: where they are none, or pixels divided by them would be none.
    """
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        found = (math.nan,)
    if not all(map(math.isfinite, found)) or (name == "std" and not all(value > 0 for value in found)):
        wanted = "positive numbers" if name == "std" else "finite numbers"
        raise InputError(f"{name} must be {wanted}, one a channel, got {values!r}: give adapt mean= and std=")
    return found
